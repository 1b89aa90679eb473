//! Owns the prepared transaction: the first of two phases is done, the second cannot be refused any more.
//!
//! For transaction managers that commit in several systems at once. From [`Tx::prepare`] on the server holds the cells of the
//! draft until [`Prepared::finish`], [`Prepared::abort`] or the time limit; whoever wants to write them gets a conflict or
//! waits. So it is the one thing in the client that holds anything for itself: keep the time short.
//!
//! [`Prepared::hold`] is for an evolve that commits a whole plan at once: of so many cells some have always moved on, so the
//! server holds them all, tells which are stale, and takes amendments.

use super::{Place, Tx};
use crate::answer::FirstPhase;
use crate::connect::{Attached, Db, Resend};
use crate::errors::Result;
use crate::wire::Link;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Cell, CommitKey, Draft, Merged, Receipt, StaleCell, Tid};

/// A prepared transaction. Dropping it aborts it.
#[derive(Debug)]
pub struct Prepared {
    db: Db,
    number: u64,
    key: CommitKey,
    key_since: Tid,
    merged: Vec<Merged>,
    stale: Vec<StaleCell>,
    open: bool,
}

impl Tx {
    /// Does everything of a commit that can fail. After `limit` the server gives it up, and `finish` then fails with
    /// the fault `PrepareLost`. Never sent twice: when the connection is lost, it is to be begun anew.
    pub async fn prepare(self, limit: Duration) -> Result<Prepared> {
        let key = crate::commit_keys::new();
        let own = self.close()?;
        let draft = &self.draft(own, key, self.snapshot()).await?;
        let core = self.db().core();
        let prepare = |link: Arc<Link>| async move { link.prepare(draft, millis(limit), false).await };
        let first = core.call(Resend::Never, prepare).await?;
        Ok(Prepared::new(self.db(), draft, first))
    }
}

fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

impl Prepared {
    fn new(db: &Db, draft: &Draft, first: FirstPhase) -> Prepared {
        let FirstPhase { prepared: number, merged, stale } = first;
        Prepared { db: db.clone(), number, key: draft.key, key_since: draft.key_since, merged, stale, open: true }
    }

    /// Lets the server hold a draft whose bases are of this place or older ones, however many of its cells have moved on.
    pub(crate) async fn hold(db: &Db, at: Place, draft: &Draft, limit: Duration) -> Result<Prepared> {
        let view = &at.view(db);
        let hold = |attached: Arc<Attached>| async move {
            view.same_store(&attached)?;
            attached.link.prepare(draft, millis(limit), true).await
        };
        let first = db.core().call_at(Resend::Never, at.snapshot, hold).await?;
        Ok(Prepared::new(db, draft, first))
    }

    /// The cells that must be amended before it can be finished, in order.
    pub(crate) fn stale(&self) -> &[StaleCell] {
        &self.stale
    }

    /// Makes parts of it anew; the draft goes under the same key.
    pub(crate) async fn amend(&mut self, at: Place, draft: &Draft, withdrawn: &[Cell]) -> Result<()> {
        let number = self.number;
        let amend = |attached: Arc<Attached>| async move { attached.link.amend(number, draft, withdrawn).await };
        self.stale = self.db.core().call_at(Resend::Never, at.snapshot, amend).await?.stale;
        Ok(())
    }

    /// The key under which [`Db::outcome`] knows it.
    pub fn commit_key(&self) -> CommitKey {
        self.key
    }

    /// The cells that resolvers decided.
    pub fn merged(&self) -> &[Merged] {
        &self.merged
    }

    /// Commits.
    pub async fn finish(mut self) -> Result<Receipt> {
        self.open = false;
        let (number, key, since) = (self.number, self.key, self.key_since);
        let core = self.db.core();
        core.call(Resend::UnderKey(key), |link| async move { link.finish(number, key, since).await }).await
    }

    /// Gives it up.
    pub async fn abort(mut self) -> Result<()> {
        self.open = false;
        let number = self.number;
        self.db.core().call(Resend::Always, |link| async move { link.abort(number).await }).await
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Without a runtime the server's time limit does it.
        if self.open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (db, number) = (self.db.clone(), self.number);
            runtime.spawn(async move {
                let given_up = db.core().call(Resend::Always, |link| async move { link.abort(number).await }).await;
                tracing::trace!(number, ok = given_up.is_ok(), "aborted");
            });
        }
    }
}
