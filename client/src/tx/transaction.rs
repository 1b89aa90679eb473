//! Owns the settings of a transaction, and `run`: the loop that repeats a transaction when another commit was in the way.

use super::Tx;
use super::pin::Pin;
use super::view::View;
use crate::connect::{Db, jittered};
use crate::errors::{Error, Result};
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::{Note, Priority, Receipt, Remedy, Tid};

/// Attempts of `run` unless told otherwise. With jittered pauses between them, 64 writers of one cell all come through.
const ATTEMPTS: u32 = 100;
/// The longest pause between two attempts.
const PAUSE_MS_MAX: u64 = 200;
/// How long to wait for the invalidation of a commit that was in the way, before the server is asked instead.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What is checked at the commit.
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
    db: Db,
    isolation: Isolation,
    fresh: bool,
    pinned: Option<Pin>,
    priority: Priority,
    note: Note,
    attempts: u32,
}

impl Transaction {
    pub(crate) fn new(db: Db) -> Transaction {
        let (isolation, priority, note) = Default::default();
        Transaction { db, isolation, fresh: false, pinned: None, priority, note, attempts: ATTEMPTS }
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

    /// Begins.
    pub async fn begin(&self) -> Result<Tx> {
        self.begin_from(self.fresh).await
    }

    async fn begin_from(&self, fresh: bool) -> Result<Tx> {
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

    /// Begins, works, commits; again on a new snapshot when another commit was in the way. See [`Db::run`].
    pub async fn run<T, F>(self, work: impl FnMut(Tx) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.run_for_receipt(work).await.map(|(value, _)| value)
    }

    /// Like `run`, and gives the receipt as well.
    pub async fn run_for_receipt<T, F>(self, mut work: impl FnMut(Tx) -> F) -> Result<(T, Receipt)>
    where
        F: Future<Output = Result<T>>,
    {
        let mut fresh = self.fresh;
        let mut attempt = 1;
        loop {
            let tx = self.begin_from(fresh).await?;
            let error = match work(tx.lend()).await {
                Ok(value) => match tx.commit().await {
                    Ok(receipt) => return Ok((value, receipt)),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let again = matches!(error.remedy(), Remedy::Retry | Remedy::ReopenSnapshot);
            if !again || attempt >= self.attempts || self.pinned.is_some() {
                return Err(error);
            }
            fresh = self.fresh || !self.caught_up(&error).await;
            // The first repetition comes at once: most conflicts are with one other commit, which is over.
            if attempt > 1 {
                tokio::time::sleep(jittered((1u64 << attempt.min(16)).min(PAUSE_MS_MAX))).await;
            }
            attempt += 1;
        }
    }

    /// Waits until this client has seen the commit that was in the way.
    async fn caught_up(&self, error: &Error) -> bool {
        let newest = match error {
            Error::Fault(fault) => fault.conflict.as_ref().map_or(Tid::NONE, |detail| detail.newest),
            _ => Tid::NONE,
        };
        self.db.core().position.wait_for(newest, Instant::now() + CATCH_UP).await
    }
}
