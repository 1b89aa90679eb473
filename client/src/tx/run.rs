//! Owns `run`: the loop that repeats a transaction when another commit was in the way, until its time is over.
//!
//! ```text
//!   span transaction{user, description, attempts, tid}
//!     span attempt{attempt, snapshot}     begin ─ the work ─ commit ─┬─ receipt
//!                                                                    ├─ another commit was in the way   again, on a newer snapshot
//!                                                                    └─ anything else                   the caller's
//! ```
//! *Who drops the future* gives up what has not been sent, and does not learn what becomes of a commit that has: it happens, or it does
//! not, as a whole. The key tells it afterwards. The time limit is such a drop, made here, where it is known how far it had come.
//!
//! The spans are of `tracing`, at the level `debug`, below whatever span the caller is in.

use super::Tx;
use super::transaction::Transaction;
use crate::connect::jittered;
use crate::errors::{Error, Result};
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{Instrument, Span, field};
use zeolite_proto::{CommitKey, Receipt, Remedy, Tid};

/// The longest pause between two attempts.
const PAUSE_MS_MAX: u64 = 200;
/// How long to wait for the invalidation of a commit that was in the way, before the server is asked instead.
const CATCH_UP: Duration = Duration::from_secs(1);

impl Transaction {
    /// Begins, works, commits; again on a new snapshot when another commit was in the way. See [`crate::Db::run`].
    pub async fn run<T, F>(self, work: impl FnMut(Tx) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.run_for_receipt(work).await.map(|(value, _)| value)
    }

    /// Like `run`, and gives the receipt as well.
    pub async fn run_for_receipt<T, F>(self, work: impl FnMut(Tx) -> F) -> Result<(T, Receipt)>
    where
        F: Future<Output = Result<T>>,
    {
        let span = tracing::debug_span!(
            "transaction",
            user = %self.note.user.escape_ascii(),
            description = %self.note.description.escape_ascii(),
            attempts = field::Empty,
            tid = field::Empty,
        );
        let committing = Mutex::new(None);
        let attempts = self.attempts_of(work, &committing, &span).instrument(span.clone());
        let Some(within) = self.within else { return attempts.await };
        match tokio::time::timeout(within, attempts).await {
            Ok(ended) => ended,
            Err(_) => Err(match *committing.lock() {
                None => Error::TimeLimit { within },
                Some(key) => {
                    Error::OutcomeUnknown { key, reason: format!("the time limit of {within:?} ran out meanwhile") }
                }
            }),
        }
    }

    /// `committing`: the key of the commit that is on its way.
    async fn attempts_of<T, F>(
        &self,
        mut work: impl FnMut(Tx) -> F,
        committing: &Mutex<Option<CommitKey>>,
        span: &Span,
    ) -> Result<(T, Receipt)>
    where
        F: Future<Output = Result<T>>,
    {
        let mut fresh = self.fresh;
        let mut attempt = 1;
        loop {
            let error = match self.attempt(&mut work, fresh, attempt, committing).await {
                Ok((value, receipt)) => {
                    span.record("attempts", attempt).record("tid", field::display(receipt.tid));
                    return Ok((value, receipt));
                }
                Err(error) => error,
            };
            let again = matches!(error.remedy(), Remedy::Retry | Remedy::ReopenSnapshot);
            if !again || attempt >= self.attempts || self.pinned.is_some() {
                span.record("attempts", attempt);
                return Err(error);
            }
            tracing::debug!(attempt, %error, "the transaction is run again");
            fresh = self.fresh || !self.caught_up(&error).await;
            // The first repetition comes at once: most conflicts are with one other commit, which is over.
            if attempt > 1 {
                tokio::time::sleep(jittered((1u64 << attempt.min(16)).min(PAUSE_MS_MAX))).await;
            }
            attempt += 1;
        }
    }

    async fn attempt<T, F>(
        &self,
        work: &mut impl FnMut(Tx) -> F,
        fresh: bool,
        attempt: u32,
        committing: &Mutex<Option<CommitKey>>,
    ) -> Result<(T, Receipt)>
    where
        F: Future<Output = Result<T>>,
    {
        let span = tracing::debug_span!("attempt", attempt, snapshot = field::Empty);
        let run = async {
            let tx = self.begin_from(fresh).await?;
            Span::current().record("snapshot", field::display(tx.snapshot()));
            let value = work(tx.lend()).await?;
            tx.settle().await?;
            let (key, since) = self.key.unwrap_or_else(|| (crate::commit_keys::new(), tx.snapshot()));
            *committing.lock() = Some(key);
            let receipt = tx.commit_as(key, since).await;
            *committing.lock() = None;
            Ok((value, receipt?))
        };
        run.instrument(span).await
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
