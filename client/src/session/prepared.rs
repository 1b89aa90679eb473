//! Owns the prepared transaction: the first of two phases is done, the second cannot be refused any more.
//!
//! For transaction managers that commit in several systems at once. From [`Tx::prepare`] on the server holds the cells of the
//! draft until [`Prepared::finish`], [`Prepared::abort`] or the time limit; whoever wants to write them gets a conflict or
//! waits. So it is the one thing in the client that holds anything for itself: keep the time short.

use super::Tx;
use crate::connect::{Db, What};
use crate::errors::Result;
use std::time::Duration;
use zeolite_proto::{CommitKey, Merged, Receipt};

/// A prepared transaction. Dropping it aborts it.
#[derive(Debug)]
pub struct Prepared {
    db: Db,
    number: u64,
    key: CommitKey,
    merged: Vec<Merged>,
    open: bool,
}

impl Tx {
    /// Does everything of a commit that can fail. After `limit` the server gives it up, and `finish` then fails with
    /// the fault `PrepareLost`. Never sent twice: when the connection is lost, it is to be begun anew.
    pub async fn prepare(self, limit: Duration) -> Result<Prepared> {
        let key = self.db().core().keys.next();
        let own = self.own.lock().close();
        let draft = &self.draft(own, key).await?;
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let core = self.db().core();
        let (number, merged) = core.call(What::Once, |link| async move { link.prepare(draft, limit_ms).await }).await?;
        Ok(Prepared { db: self.db().clone(), number, key, merged, open: true })
    }
}

impl Prepared {
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
        let (number, key) = (self.number, self.key);
        let core = self.db.core();
        core.call(What::Commit(key), |link| async move { link.finish(number, key).await }).await
    }

    /// Gives it up.
    pub async fn abort(mut self) -> Result<()> {
        self.open = false;
        let number = self.number;
        self.db.core().call(What::Read, |link| async move { link.abort(number).await }).await
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
                let given_up = db.core().call(What::Read, |link| async move { link.abort(number).await }).await;
                tracing::trace!(number, ok = given_up.is_ok(), "aborted");
            });
        }
    }
}
