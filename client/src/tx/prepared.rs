//! Owns the prepared transaction: the first of two phases is done, the second cannot be refused any more.
//!
//! For transaction managers that commit in several systems at once. From [`Tx::prepare`] on the server holds the cells of the
//! draft until [`Prepared::finish`], [`Prepared::abort`] or the time limit; whoever wants to write them gets a conflict or
//! waits. So it is the one thing in the client that holds anything for itself: keep the time short.
//!
//! [`Prepared::hold`] is for an evolve that commits a whole plan at once, and for raw drafts: the server holds all cells, tells
//! which have moved on, and takes amendments.

use super::commit::remember;
use super::{Place, Tx};
use crate::answer::{FirstPhase, How, Terms};
use crate::connect::{Attached, Db, Resend};
use crate::errors::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Cell, CommitKey, Draft, Merged, Priority, Receipt, StaleCell, Tid, Write, hash};

/// A prepared transaction. Dropping it aborts it, unless it is durable: that one stays until somebody ends it.
///
/// ```
/// use std::time::Duration;
/// use zeolite_client::collections::Counter;
///
/// # zeolite_testing::with_db(async |db| {
/// let hits: Counter = db.run(async |tx| tx.root_or_create("hits").await).await?;
/// let tx = db.begin().await?;
/// hits.add(&tx, 1)?;
/// let prepared = tx.prepare(Duration::from_secs(5)).await?; // it cannot be refused any more
/// prepared.finish().await?;
/// assert_eq!(hits.get(&db.now()).await?, 1);
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct Prepared {
    db: Db,
    number: u64,
    key: CommitKey,
    key_since: Tid,
    merged: Vec<Merged>,
    pub(super) stale: Vec<StaleCell>,
    /// What the cache takes in when it is committed: whoever reads on finds it there. Nothing of bulk work.
    written: Vec<Write>,
    open: bool,
    durable: bool,
}

impl Tx {
    /// Does everything of a commit that can fail. After `limit` the server gives it up, and `finish` then fails with
    /// the fault `PrepareLost`. Never sent twice: when the connection is lost, it is to be begun anew.
    pub async fn prepare(self, limit: Duration) -> Result<Prepared> {
        let key = crate::commit_keys::new();
        self.settle().await?;
        let own = self.close()?;
        let draft = self.draft(own, key, self.snapshot()).await?;
        let (view, sent) = (&self, &draft);
        let prepare = |attached: Arc<Attached>| async move {
            view.same_store(&attached)?;
            attached.link.prepare(sent, view.terms(), millis(limit), How::Usual).await
        };
        let asked = self.db().core().call_at(Resend::Never, self.snapshot(), prepare);
        let mut prepared = Prepared::asked(self.db(), &draft, asked).await?;
        prepared.keep(draft);
        Ok(prepared)
    }

    /// The same for a coordinator over several systems, which writes the key down first ([`Db::new_commit_key`], with
    /// `since`, the [`Db::position`] of that moment): answered when it is on the server's disk. It outlives this client and the server, and without `limit`
    /// it stays until it is finished or aborted; whoever comes back does that by the key ([`Db::finish_prepared`],
    /// [`Db::abort_prepared`]).
    pub async fn prepare_durable(self, key: CommitKey, since: Tid, limit: Option<Duration>) -> Result<Prepared> {
        self.settle().await?;
        let own = self.close()?;
        let draft = &self.draft(own, key, since).await?;
        let limit_ms = limit.map_or(0, |limit| millis(limit).max(1));
        let view = &self;
        let prepare = |attached: Arc<Attached>| async move {
            view.same_store(&attached)?;
            attached.link.prepare(draft, view.terms(), limit_ms, How::Durable).await
        };
        // The same draft under the same key is prepared once.
        let first = self.db().core().call_at(Resend::UnderKey(key), self.snapshot(), prepare).await?;
        let mut prepared = Prepared::new(self.db(), draft, first);
        prepared.durable = true;
        Ok(prepared)
    }
}

impl Db {
    /// Commits what was prepared under a key, by this client or another one of the same principal, before or after a restart of
    /// the server. `since`: a tid that was committed before the key was made.
    pub async fn finish_prepared(&self, key: CommitKey, since: Tid) -> Result<Receipt> {
        self.core().call(Resend::UnderKey(key), |link| async move { link.finish(0, key, since).await }).await
    }

    /// Gives up what was prepared under a key, or was never prepared. Refused if it is committed already, or may be because
    /// the server has forgotten keys of that age. `since`: as in [`Db::finish_prepared`].
    pub async fn abort_prepared(&self, key: CommitKey, since: Tid) -> Result<()> {
        self.core().call(Resend::Always, |link| async move { link.abort(0, key, since).await }).await
    }
}

fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

impl Prepared {
    fn new(db: &Db, draft: &Draft, first: FirstPhase) -> Prepared {
        let FirstPhase { prepared: number, merged, stale } = first;
        Prepared {
            db: db.clone(),
            number,
            key: draft.key,
            key_since: draft.key_since,
            merged,
            stale,
            written: Vec::new(),
            open: true,
            durable: false,
        }
    }

    /// Lets the server hold a draft whose bases are of this place or older ones, however many of its cells have moved on.
    pub(crate) async fn hold(db: &Db, at: Place, draft: Draft, limit: Duration, take_oids: bool) -> Result<Prepared> {
        let (view, sent) = (&at.view(db), &draft);
        let terms = Terms { take_oids, ..view.terms() };
        let hold = |attached: Arc<Attached>| async move {
            view.same_store(&attached)?;
            attached.link.prepare(sent, terms, millis(limit), How::Hold).await
        };
        let mut prepared = Prepared::asked(db, &draft, db.core().call_at(Resend::Never, at.snapshot(), hold)).await?;
        prepared.keep(draft);
        Ok(prepared)
    }

    fn keep(&mut self, draft: Draft) {
        if draft.priority == Priority::Live {
            self.written = draft.writes;
        }
    }

    /// Waits for the answer of the first phase. Whoever does not wait for it, or does not hear it, gives the draft up: it may be held, or
    /// be held later, when its turn comes. What the server has refused it does not hold.
    async fn asked(db: &Db, draft: &Draft, answer: impl Future<Output = Result<FirstPhase>>) -> Result<Prepared> {
        let mut prepared = Prepared::new(db, draft, FirstPhase { prepared: 0, merged: Vec::new(), stale: Vec::new() });
        match answer.await {
            Ok(FirstPhase { prepared: number, merged, stale }) => {
                (prepared.number, prepared.merged, prepared.stale) = (number, merged, stale);
                Ok(prepared)
            }
            Err(error) => {
                prepared.open = !matches!(error, Error::Fault(_));
                Err(error)
            }
        }
    }

    /// Makes parts of it anew; the draft goes under the same key.
    pub(crate) async fn amend(&mut self, at: Place, draft: &Draft, withdrawn: &[Cell]) -> Result<()> {
        let number = self.number;
        let terms = at.view(&self.db).terms();
        let amend = |attached: Arc<Attached>| async move { attached.link.amend(number, draft, terms, withdrawn).await };
        // Whoever does not hear the answer does not know which of the two is there.
        let anew: hash::Set<&Cell> = draft.writes.iter().map(|write| &write.cell).chain(withdrawn).collect();
        self.written.retain(|write| !anew.contains(&write.cell));
        self.stale = self.db.core().call_at(Resend::Never, at.snapshot(), amend).await?.stale;
        if draft.priority == Priority::Live {
            self.written.extend(draft.writes.iter().cloned());
        }
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

    /// Commits. If the server refuses, it is given up, unless it is durable.
    pub async fn finish(mut self) -> Result<Receipt> {
        let (number, key, since) = (self.number, self.key, self.key_since);
        // Whoever drops the future has sent it: it may be committed.
        self.open = false;
        let core = self.db.core();
        let finish = |attached: Arc<Attached>| async move {
            attached.link.finish(number, key, since).await.map(|receipt| (receipt, attached.generation))
        };
        let finished = core.call_attached(Resend::UnderKey(key), finish).await;
        // What is refused stays prepared on the server.
        self.open = matches!(finished, Err(Error::Fault(_)));
        let (receipt, generation) = finished?;
        // What was decided on the server is as the receipt has it, or was not written at all.
        let mut left_out: hash::Set<&Cell> = self.merged.iter().map(|merged| &merged.cell).collect();
        receipt.merged.iter().for_each(|merged| _ = left_out.remove(&merged.cell));
        let written = self.written.iter().filter(|write| !left_out.contains(&write.cell));
        remember(&self.db, written, &receipt, generation);
        Ok(receipt)
    }

    /// Gives it up.
    pub async fn abort(mut self) -> Result<()> {
        self.open = false;
        let (number, key, since) = (self.number, self.key, self.key_since);
        self.db.core().call(Resend::Always, |link| async move { link.abort(number, key, since).await }).await
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Without a runtime the server's time limit does it.
        if self.open
            && !self.durable
            && self.db.core().here().is_ok()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (db, number, key, since) = (self.db.clone(), self.number, self.key, self.key_since);
            runtime.spawn(async move {
                let given_up =
                    db.core().call(Resend::Always, |link| async move { link.abort(number, key, since).await }).await;
                tracing::trace!(number, ok = given_up.is_ok(), "aborted");
            });
        }
    }
}
