//! Owns the settings of a transaction. How `run` follows them is told by `run`.

use super::Tx;
use super::pin::Pin;
use super::view::View;
use crate::connect::Db;
use crate::errors::Result;
use std::time::Duration;
use zeolite_proto::{CommitKey, Note, Priority, Tid};

/// Attempts of `run` unless told otherwise. With jittered pauses between them, 64 writers of one cell all come through.
const ATTEMPTS: u32 = 100;

/// What is checked at the commit.
///
/// ```
/// use zeolite_client::Isolation;
///
/// # zeolite_testing::with_db(async |db| {
/// let transaction = db.transaction().isolation(Isolation::Serializable);
/// transaction.run(async |tx| Ok(tx.snapshot())).await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Isolation {
    /// What was written: two transactions that write the same cell from different bases conflict.
    #[default]
    Snapshot,
    /// What was read as well, cells and scanned ranges: the history is as if the transactions had run one by one.
    Serializable,
}

/// The settings of a transaction; ends in [`Transaction::begin`] or [`Transaction::run`].
///
/// ```no_run
/// # use zeolite_client::{Db, Error};
/// # async fn example(db: Db) -> Result<(), Error> {
/// let total = db.transaction().serializable().note("amy", "close the books").run(async |tx| {
///     Ok(tx.snapshot())
/// }).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until begin or run"]
pub struct Transaction {
    pub(super) db: Db,
    isolation: Isolation,
    pub(super) fresh: bool,
    pub(super) pinned: Option<Pin>,
    priority: Priority,
    pub(super) note: Note,
    pub(super) attempts: u32,
    pub(super) within: Option<Duration>,
    pub(super) key: Option<(CommitKey, Tid)>,
}

impl Transaction {
    pub(crate) fn new(db: Db) -> Transaction {
        let (isolation, priority, note) = Default::default();
        Transaction {
            db,
            isolation,
            fresh: false,
            pinned: None,
            priority,
            note,
            attempts: ATTEMPTS,
            within: None,
            key: None,
        }
    }

    /// Checks what was read as well.
    pub fn serializable(mut self) -> Transaction {
        self.isolation = Isolation::Serializable;
        self
    }

    /// With this isolation.
    pub fn isolation(mut self, isolation: Isolation) -> Transaction {
        self.isolation = isolation;
        self
    }

    /// Asks the server for its newest tid first: sees whatever anybody's receipt has been sent for.
    pub fn fresh(mut self) -> Transaction {
        self.fresh = true;
        self
    }

    /// Reads at a pinned snapshot, however old. `run` then makes one attempt: a conflict would only come again.
    pub fn at(mut self, pin: &Pin) -> Transaction {
        self.pinned = Some(pin.clone());
        self
    }

    /// Commits behind the site's own traffic: for batch workers and imports.
    pub fn batch(mut self) -> Transaction {
        self.priority = Priority::Batch;
        self
    }

    /// What the log says about it: who, and why; text or bytes.
    pub fn note(mut self, user: impl AsRef<[u8]>, description: impl AsRef<[u8]>) -> Transaction {
        self.note = Note { extension: self.note.extension, ..Note::new(user, description) };
        self
    }

    /// How often `run` tries at most.
    pub fn attempts(mut self, attempts: u32) -> Transaction {
        self.attempts = attempts.max(1);
        self
    }

    /// How long `run` may take with all its attempts. Then it ends with [`crate::Error::TimeLimit`], and nothing was committed; or, in the middle of
    /// a commit, with [`crate::Error::OutcomeUnknown`], whose key tells what became of it.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use zeolite_client::{Db, Error, Outcome, collections::Counter};
    /// # async fn example(db: Db, orders: Counter) -> Result<(), Error> {
    /// let (key, since) = (db.new_commit_key(), db.position()); // known before anything happens
    /// let order = db.transaction().timeout(Duration::from_secs(2)).key(key, since);
    /// match order.run(async |tx| orders.add(&tx, 1)).await {
    ///     Err(Error::OutcomeUnknown { key, .. }) => {
    ///         let ordered = matches!(db.outcome(key, since).await?, Outcome::Committed(_));
    /// #       let _ = ordered;
    ///     }
    ///     done => done?,
    /// }
    /// # Ok(()) }
    /// ```
    pub fn timeout(mut self, within: Duration) -> Transaction {
        self.within = Some(within);
        self
    }

    /// The key that `run` commits under ([`Db::new_commit_key`], with [`Db::position`] of that moment), so that whoever loses the future of
    /// `run` in the middle of a commit can ask [`Db::outcome`] what became of it. Of one key only one commit ever happens: `run` with the key
    /// of another commit is refused.
    pub fn key(mut self, key: CommitKey, since: Tid) -> Transaction {
        self.key = Some((key, since));
        self
    }

    /// Begins.
    pub async fn begin(&self) -> Result<Tx> {
        self.begin_from(self.fresh).await
    }

    pub(super) async fn begin_from(&self, fresh: bool) -> Result<Tx> {
        let core = self.db.core();
        let view = match &self.pinned {
            Some(pin) => View::new(self.db.clone(), pin.snapshot(), pin.life()).pinned(Some(pin.clone())),
            None => {
                if fresh || !core.options.feed {
                    self.db.newest().await?;
                }
                let (snapshot, life) = core.position.snapshot();
                View::new(self.db.clone(), snapshot, life)
            }
        };
        let view = if self.isolation == Isolation::Serializable { view.serializable() } else { view };
        Ok(Tx::new(view, self.priority, self.note.clone()))
    }
}
