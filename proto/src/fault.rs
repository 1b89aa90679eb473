//! Owns the fault: the closed list of refusals, each with the remedy it calls for.
//!
//! | remedy | kinds |
//! |---|---|
//! | retry on a new snapshot | conflict, read conflict, prepare lost |
//! | reopen the snapshot | snapshot packed, snapshot ahead, pin lost |
//! | fix the request | invalid, too large, not found, unsupported, gated, refused, undo blocked |
//! | wait | busy, read only, disk full, shutting down, not primary |
//! | give up, tell the operator | poisoned, damaged, internal, denied, unauthenticated |
//! | ask for the outcome | outcome unknown (made by the client alone) |

use crate::ids::{Cell, Tid};
use bytes::Bytes;
use std::fmt;

/// What the receiver of a fault can do about it. A closed list: who handles faults is to be told by the compiler of a new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Run the transaction again on a new snapshot.
    Retry,
    /// Take a new snapshot.
    ReopenSnapshot,
    /// The request itself is wrong.
    FixRequest,
    /// The same request may succeed later.
    Wait,
    /// An operator has to act.
    GiveUp,
    /// The commit may or may not have happened.
    AskOutcome,
}

macro_rules! fault_kinds {
    ($($(#[doc = $doc:literal])* $name:ident => $remedy:ident, $text:literal;)*) => {
        /// The closed list of faults.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[non_exhaustive]
        pub enum FaultKind { $($(#[doc = $doc])* $name,)* }

        impl FaultKind {
            /// Every kind, in the order of the list.
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$name,)*];

            /// What to do about it.
            pub fn remedy(self) -> Remedy {
                match self { $(FaultKind::$name => Remedy::$remedy,)* }
            }

            /// The kind in words.
            pub fn text(self) -> &'static str {
                match self { $(FaultKind::$name => $text,)* }
            }
        }
    };
}

fault_kinds! {
    /// Another commit wrote the same cell and no resolver merges the two.
    Conflict => Retry, "conflict";
    /// Something that the draft read has changed.
    ReadConflict => Retry, "read conflict";
    /// Later writes stand in the way of an undo: those are undone first, or what is wanted is written.
    UndoBlocked => FixRequest, "undo blocked";
    /// The prepared draft was aborted by its time limit or a restart; nothing of it was committed.
    PrepareLost => Retry, "prepare lost";
    /// The snapshot is older than what pack has kept.
    SnapshotPacked => ReopenSnapshot, "snapshot packed";
    /// The snapshot is newer than anything committed here.
    SnapshotAhead => ReopenSnapshot, "snapshot ahead";
    /// The pin's lease has run out.
    PinLost => ReopenSnapshot, "pin lost";
    /// The request does not make sense.
    Invalid => FixRequest, "invalid";
    /// The request is beyond a limit.
    TooLarge => FixRequest, "too large";
    /// What was named does not exist.
    NotFound => FixRequest, "not found";
    /// This server cannot do that.
    Unsupported => FixRequest, "unsupported";
    /// What is there refuses the operation (a bound, an overflow, a key that is taken): again, it would do so again.
    Refused => FixRequest, "refused";
    /// An object in a shape that an evolve has left behind: its writer is old code.
    Gated => FixRequest, "gated";
    /// A queue is full.
    Busy => Wait, "busy";
    /// The server does not take writes now.
    ReadOnly => Wait, "read only";
    /// No room on the disk; nothing was lost.
    DiskFull => Wait, "disk full";
    /// The server is going down; another will be there.
    ShuttingDown => Wait, "shutting down";
    /// A copy that takes no writes: another server does.
    NotPrimary => Wait, "not primary";
    /// A write or sync has failed: nothing more is acknowledged until a restart.
    Poisoned => GiveUp, "poisoned";
    /// Stored bytes are not what was written.
    Damaged => GiveUp, "damaged";
    /// A bug in the server.
    Internal => GiveUp, "internal";
    /// The caller may not do that.
    Denied => GiveUp, "denied";
    /// Nobody knows who the caller is: no token or certificate, or a wrong one.
    Unauthenticated => GiveUp, "unauthenticated";
    /// The connection was lost and the outcome could not be learnt.
    OutcomeUnknown => AskOutcome, "outcome unknown";
}

/// A refusal: kind, what to do in words, and for conflicts the place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Fault {
    /// Which one.
    pub kind: FaultKind,
    /// Lowercase, with the values, and what to do.
    pub message: String,
    /// For the kinds to wait on: when to come back. 0: no advice.
    pub retry_after_ms: u64,
    /// For conflicts: the first cell in the way.
    pub conflict: Option<Box<ConflictDetail>>,
    /// More cells in the way; bounded, so perhaps not all.
    pub others: Vec<ConflictDetail>,
    /// What the refused request is called in the server's log; empty: not told.
    pub request: String,
}

/// Where a draft was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct ConflictDetail {
    /// The cell.
    pub cell: Cell,
    /// Its class; empty where no record tells it.
    pub class: String,
    /// The tid as of which the draft knew it.
    pub base: Tid,
    /// Its newest revision.
    pub newest: Tid,
    /// The resolver's reason; empty: the class has no resolver.
    pub reason: String,
    /// The record at `base`, for resolution on the client.
    pub base_record: Option<Bytes>,
    /// The record at `newest`, for resolution on the client.
    pub newest_record: Option<Bytes>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.text(), self.message)
    }
}

impl Fault {
    /// A fault without further detail.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault {
            kind,
            message: message.into(),
            retry_after_ms: 0,
            conflict: None,
            others: Vec::new(),
            request: String::new(),
        }
    }

    /// The request does not make sense.
    pub fn invalid(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::Invalid, message)
    }

    /// A number is beyond a limit: names both.
    pub fn too_large(what: &str, value: usize, limit: usize) -> Fault {
        Fault::new(FaultKind::TooLarge, format!("{what} {value} is over the limit {limit}; send less at once"))
    }

    /// The same fault with advice when to come back.
    #[must_use]
    pub fn after_ms(mut self, retry_after_ms: u64) -> Fault {
        self.retry_after_ms = retry_after_ms;
        self
    }

    /// All cells that are known to be in the way.
    pub fn in_the_way(&self) -> impl Iterator<Item = &ConflictDetail> {
        self.conflict.as_deref().into_iter().chain(&self.others)
    }

    /// A conflict at a cell.
    pub fn conflict(kind: FaultKind, detail: ConflictDetail) -> Fault {
        let reason = if detail.reason.is_empty() { "no resolver for its class" } else { detail.reason.as_str() };
        let message = match kind {
            FaultKind::Refused | FaultKind::Unsupported => format!(
                "cell {} of class {:?} does not take the operation on its newest revision {}: {reason}",
                detail.cell, detail.class, detail.newest
            ),
            FaultKind::UndoBlocked => format!(
                "a later write stands in the way of the undo: cell {} of class {:?} has a newer revision {} ({reason}); \
                 undo that first, or write what is wanted",
                detail.cell, detail.class, detail.newest
            ),
            _ => format!(
                "cell {} of class {:?} was read as of {} and has a newer revision {} ({reason}); run the transaction again",
                detail.cell, detail.class, detail.base, detail.newest
            ),
        };
        Fault {
            kind,
            message,
            retry_after_ms: 0,
            conflict: Some(Box::new(detail)),
            others: Vec::new(),
            request: String::new(),
        }
    }
}
