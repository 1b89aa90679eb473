//! Owns the client's one error type; every variant says what its receiver can do.
//!
//! Most refusals come from the server as a [`Fault`] of a closed list, sorted by remedy. The others are the client's own:
//! no connection, an outcome that could not be learnt, a record that is not of the class that was asked for.
//! [`Error::remedy`] sorts both kinds by the same six remedies; [`crate::Db::run`] follows it.

use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Cell, CommitKey, Fault, FaultKind, Oid, Remedy};

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Cheap to clone.
///
/// ```
/// use zeolite_client::{Error, Remedy};
///
/// let error = Error::app("the cart is empty"); // from the work of a transaction: nothing is committed
/// assert_eq!(error.remedy(), Remedy::GiveUp);
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused, or a fault of the same list was found before asking it.
    #[error("{0}")]
    Fault(Fault),
    /// No connection within the time limit. Nothing was committed by this call.
    #[error("no connection to {url}: {reason}; check that the server runs there, then try again")]
    Disconnected {
        /// Where the client tried to connect.
        url: String,
        /// The last failure.
        reason: String,
    },
    /// There is a connection, and the server did not answer within the time limit. What was asked for may have been done if it can be done
    /// twice without harm; a first phase was given up.
    #[error(
        "{url} did not answer within {within:?}: what is asked for waits for what another transaction holds, or the server is slow; try \
         again, or wait longer (request_timeout; in Python wait_timeout)"
    )]
    NoAnswer {
        /// The server.
        url: String,
        /// The time limit.
        within: Duration,
    },
    /// A transaction did not come to its end within the time that it was given; see [`crate::Transaction::timeout`]. Nothing was committed.
    #[error(
        "the transaction did not come to its end within {within:?}; nothing was committed: try again, or give it more time"
    )]
    TimeLimit {
        /// The time limit.
        within: Duration,
    },
    /// A call of [`crate::blocking`] inside of an asynchronous runtime, whose other tasks it would hold up.
    #[error(
        "a call that waits cannot be made inside of an asynchronous runtime; use `zeolite_client::Db` there, or a thread of its own"
    )]
    InsideRuntime,
    /// The process has forked since this `Db` connected: its tasks and its connection stayed with the parent.
    #[error("this connection was made by process {made_by}, before a fork; connect anew in this process")]
    Forked {
        /// The process that it works in.
        made_by: u32,
    },
    /// Whether a commit happened could not be learnt: the connection was lost after it was sent and did not come back within the
    /// time limit, or the server does not know either (a write or sync failed under it; its key may have been forgotten).
    #[error("the outcome of commit {key:?} is unknown: {reason}; ask for it with `Db::outcome` before doing it again")]
    OutcomeUnknown {
        /// Ask with this.
        key: CommitKey,
        /// Why it could not be learnt.
        reason: String,
    },
    /// Nothing is stored in the cell at the snapshot.
    #[error("nothing is stored in cell {cell} at this snapshot; use `find` where that is expected")]
    NotFound {
        /// The cell.
        cell: Cell,
    },
    /// The record is of another class than the type that it was to become.
    #[error("cell {cell} holds class {found:?}, not {expected:?}; load it as the type of that class")]
    WrongClass {
        /// The cell.
        cell: Cell,
        /// The class of the type that was asked for.
        expected: String,
        /// The class in the record.
        found: String,
    },
    /// A unique index of a class has the key for another object; see [`crate::objects`].
    #[error(
        "object {object} cannot have the key of cell {cell} in the unique index {index:?}: it is object {owner}'s; {}",
        choose(doubt.as_deref())
    )]
    UniqueTaken {
        /// The index, by its name in the root.
        index: String,
        /// The entry.
        cell: Cell,
        /// Who has the key.
        owner: Oid,
        /// Who was to get it.
        object: Oid,
        /// Why nobody here can tell whether the owner still has it, if that is so: its entry says so.
        doubt: Option<String>,
    },
    /// A newer version of a class is in indexes that the type which was to overwrite or remove the object does not know; see
    /// [`crate::Persistent::INDEXED_TO`].
    #[error(
        "cell {cell} holds version {version} of class {class:?}, whose objects are in indexes that this type does not know ({}): its \
         entries there would stay. Name the newer type in the derive (`newer`), or the indexes in `Persistent::LATER_INDEXED` and their \
         keys in `index_former` (evolve.md, \"Two releases side by side\"), or take the name out of the root, if no release has it",
        indexes.join(", ")
    )]
    KeptElsewhere {
        /// The object.
        cell: Cell,
        /// Its class.
        class: String,
        /// The version of its record.
        version: u32,
        /// The indexes, by their names in the root without the class.
        indexes: Vec<String>,
    },
    /// The record's bytes are not a value of the type.
    #[error(
        "version {version} of class {class:?} cannot be decoded: {reason}; was VERSION raised when the type changed?"
    )]
    Decode {
        /// The class in the record.
        class: String,
        /// The schema version in the record.
        version: u32,
        /// The decoder's reason.
        reason: String,
    },
    /// A value cannot be stored.
    #[error("a value of class {class:?} cannot be encoded: {reason}; change the value or its type")]
    Encode {
        /// The class of the type.
        class: String,
        /// The encoder's reason.
        reason: String,
    },
    /// The record has another schema version, and the type cannot upgrade it.
    #[error("{}", no_upgrade(class, *found, *wanted))]
    NoUpgrade {
        /// The class.
        class: String,
        /// The version in the record.
        found: u32,
        /// The version of the type.
        wanted: u32,
    },
    /// A step of an evolve cannot work where this worker runs, whatever object it is given; see [`Error::worker`].
    #[error("the step does not work here: {reason}; mend that, and start a worker again")]
    Worker {
        /// Why.
        reason: String,
    },
    /// The operation's own error, from the closure of [`crate::Db::run`]; see [`Error::app`].
    #[error("{0}")]
    Application(Arc<dyn std::error::Error + Send + Sync>),
}

fn choose(doubt: Option<&str>) -> String {
    let doubt = doubt.map(|why| {
        format!("whether it still has the key cannot be told here ({why}): deploy the release that wrote it, or ")
    });
    format!("{}choose another key", doubt.unwrap_or_default())
}

fn no_upgrade(class: &str, found: u32, wanted: u32) -> String {
    if found > wanted {
        return format!(
            "class {class:?}: a newer program wrote version {found}, and this one reads up to {wanted}; deploy the newer release, or a \
             bridge that reads both (`newer` in the derive; evolve.md, \"Two releases side by side\")"
        );
    }
    format!("class {class:?} has no upgrade from version {found} to {wanted}; implement `Persistent::upgrade` for it")
}

impl Error {
    /// Carries an application's own error out of a transaction.
    pub fn app(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Application(Arc::from(error.into()))
    }

    /// From a step of an evolve that cannot work where its worker runs (a program or a file that it needs is not there): no object
    /// is to blame. The worker ends with this reason, which the job then tells; the objects are left for the next one.
    pub fn worker(reason: impl Into<String>) -> Error {
        Error::Worker { reason: reason.into() }
    }

    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Error::Fault(fault) => fault.kind.remedy(),
            Error::Disconnected { .. } | Error::NoAnswer { .. } | Error::TimeLimit { .. } => Remedy::Wait,
            Error::OutcomeUnknown { .. } => Remedy::AskOutcome,
            Error::NotFound { .. }
            | Error::WrongClass { .. }
            | Error::UniqueTaken { .. }
            | Error::KeptElsewhere { .. }
            | Error::Encode { .. }
            | Error::InsideRuntime
            | Error::Forked { .. } => Remedy::FixRequest,
            Error::Decode { .. } | Error::NoUpgrade { .. } | Error::Worker { .. } | Error::Application(_) => {
                Remedy::GiveUp
            }
        }
    }

    /// The fault's kind, if it is a fault.
    pub fn kind(&self) -> Option<FaultKind> {
        match self {
            Error::Fault(fault) => Some(fault.kind),
            Error::OutcomeUnknown { .. } => Some(FaultKind::OutcomeUnknown),
            _ => None,
        }
    }

    /// Whether another commit was in the way.
    pub fn is_conflict(&self) -> bool {
        matches!(self.kind(), Some(FaultKind::Conflict | FaultKind::ReadConflict))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::Fault(Fault::invalid(message))
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::Fault(fault)
    }
}
