//! Owns the commit: from a transaction's own writes to a draft, to a receipt, and back into the cache.
//!
//! ```text
//!   own writes ─> Draft ─> server ─┬─ receipt              => own and merged records into the cache
//!                                  └─ conflict in a cell whose class has a resolver here
//!                                        => merge(base, theirs, ours), the same draft again with the merged record
//! ```
//!
//! Every write and read check has the transaction's snapshot as its base; a cell that was merged here has the tid of the
//! record that it was merged with.

use super::Tx;
use super::own::{Own, Staged, fold};
use crate::connect::{Attached, Db, Resend, jittered};
use crate::errors::{Error, Result};
use crate::revision::Revision;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::{
    Cell, Change, CommitKey, ConflictDetail, Draft, Fault, FaultKind, Priority, ReadCell, Receipt, Record, Tid, Write,
    hash,
};

/// Conflicts that are resolved here for one commit, before it is given back to the caller.
const RESOLUTIONS_MAX: u32 = 100;
/// How long to wait for a commit that was in the way to become visible.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);

impl Tx {
    /// Commits. Nothing is sent for a transaction that has written nothing: it has read one snapshot, which is all that a
    /// check could find out.
    pub async fn commit(self) -> Result<Receipt> {
        let (key, since) = (crate::commit_keys::new(), self.snapshot());
        self.commit_as(key, since).await
    }

    /// Commits under a key of the caller's ([`Db::new_commit_key`]), who has written it down with the tid since when it exists
    /// ([`Db::position`] of that moment): so that after a crash of the client [`Db::outcome`] tells whether it happened. The
    /// same key with other writes is refused, and one that the server may have forgotten is `OutcomeUnknown`.
    pub async fn commit_as(self, key: CommitKey, since: Tid) -> Result<Receipt> {
        self.settle().await?;
        let own = self.close()?;
        let unmerged = own.kept.cells();
        if own.is_empty() {
            return Ok(Receipt::new(self.snapshot()));
        }
        let mut draft = self.draft(own, key, since).await?;
        let mut resolved = 0;
        loop {
            match self.send(&draft).await {
                Ok((receipt, generation)) => {
                    if draft.priority == Priority::Live {
                        remember(self.db(), &draft.writes, &receipt, generation);
                    }
                    return Ok(receipt);
                }
                Err(Error::Fault(fault)) if resolved < RESOLUTIONS_MAX && !is_of(&fault, &unmerged) => {
                    self.resolve(&mut draft, fault).await?;
                    resolved += 1;
                    if resolved > 8 {
                        tokio::time::sleep(jittered(u64::from(resolved))).await;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn send(&self, draft: &Draft) -> Result<(Receipt, u64)> {
        let commit = |attached: Arc<Attached>| async move {
            self.same_store(&attached)?;
            attached.link.commit(draft, self.terms()).await.map(|receipt| (receipt, attached.generation))
        };
        self.db().core().call_at(Resend::UnderKey(draft.key), self.snapshot(), commit).await
    }

    pub(super) async fn draft(&self, mut own: Own, key: CommitKey, key_since: Tid) -> Result<Draft> {
        let checks = std::mem::take(&mut own.kept.checks);
        let base = self.snapshot();
        // A key that was made with an older store in mind is as new to this one as this one is to the client.
        let key_since = key_since.min(self.db().position());
        let mut writes = Vec::with_capacity(own.len());
        let (cells, stamped, note) = own.into_parts();
        for (cell, staged) in cells {
            let change = match staged {
                Staged::Put(record) => Change::Put(record),
                Staged::Delete => Change::Delete,
                Staged::Apply { class, mut operations } if operations.len() == 1 => {
                    Change::Apply { class, operation: operations.remove(0) }
                }
                Staged::Apply { class, operations } => {
                    let stored = self.revision(&cell).await?.record;
                    let record = fold(&cell, &class, stored, &operations, self.resolvers())?;
                    record.map_or(Change::Delete, Change::Put)
                }
            };
            writes.push(Write { cell, base, change, stamped: false });
        }
        let stamped = stamped.into_iter();
        writes.extend(stamped.map(|(cell, record)| Write { cell, base, change: Change::Put(record), stamped: true }));
        let (read_cells, read_ranges) = match self.reads() {
            Some(reads) => reads.checks(base),
            None => (checks.into_iter().map(|cell| ReadCell { cell, base }).collect(), Vec::new()),
        };
        Ok(Draft { key, key_since, priority: self.priority, read_cells, read_ranges, writes, note })
    }

    /// Merges the write that was refused, if a resolver of its class is here; gives the refusal back if not.
    async fn resolve(&self, draft: &mut Draft, fault: Fault) -> Result<()> {
        let Some(detail) = fault.conflict.as_deref().filter(|_| fault.kind == FaultKind::Conflict) else {
            return Err(fault.into());
        };
        let Some(resolver) = self.resolvers().get(&detail.class).cloned() else { return Err(fault.into()) };
        let Some(write) = draft.writes.iter_mut().find(|write| write.cell == detail.cell && !write.stamped) else {
            return Err(fault.into());
        };
        let ours = match &write.change {
            Change::Put(record) => Some(record.clone()),
            Change::Delete => None,
            Change::Apply { .. } => return Err(fault.into()),
        };
        let (Ok(base), Ok(theirs)) = (
            self.side(detail, detail.base_record.as_ref(), write.base).await,
            self.side(detail, detail.newest_record.as_ref(), detail.newest).await,
        ) else {
            return Err(fault.into());
        };
        let decode = |side: Option<Bytes>| side.as_ref().map(Record::decode).transpose();
        let (Ok(base), Ok(theirs), Ok(ours)) = (decode(base), decode(theirs), decode(ours)) else {
            return Err(fault.into());
        };
        let Ok(merged) = resolver.merge(base.as_ref(), theirs.as_ref(), ours.as_ref()) else {
            return Err(fault.into());
        };
        write.change = match merged.map(|record| record.encode()).transpose() {
            Ok(merged) => merged.map_or(Change::Delete, Change::Put),
            Err(bad) => return Err(Error::invalid(format!("the resolver of class {:?}: {bad}", detail.class))),
        };
        write.base = detail.newest;
        Ok(())
    }

    /// One side of a conflict: as the fault carries it, or read at its tid. An absent record is not taken for a cell
    /// that does not exist: it may have been too large to carry.
    async fn side(&self, detail: &ConflictDetail, carried: Option<&Bytes>, at: Tid) -> Result<Option<Bytes>> {
        if let Some(record) = carried {
            return Ok(Some(record.clone()));
        }
        self.db().core().position.wait_for(at, Instant::now() + VISIBLE_WITHIN).await;
        self.db().at(at).get_encoded(&detail.cell).await
    }
}

/// Whether the conflict is one of these cells': what is made of two records there would not be what its indexes were told.
fn is_of(fault: &Fault, cells: &[Cell]) -> bool {
    fault.conflict.as_ref().is_some_and(|detail| cells.contains(&detail.cell))
}

/// Puts what the commit has written into the cache: the next transaction finds it there. What a resolver has written beside that is left
/// out: of a cell that was never asked for nobody tells what becomes of it.
pub(super) fn remember<'w>(db: &Db, writes: impl IntoIterator<Item = &'w Write>, receipt: &Receipt, generation: u64) {
    let cache = &db.core().cache;
    let tid = receipt.tid;
    let merged: hash::Map<&Cell, &Option<Bytes>> =
        receipt.merged.iter().map(|merged| (&merged.cell, &merged.record)).collect();
    // What a stamped write became has a cell that nobody could note before the commit: the feed may not tell of it.
    for write in writes.into_iter().filter(|write| !write.stamped) {
        let record = match (merged.get(&write.cell), &write.change) {
            (Some(merged), _) => (*merged).clone(),
            (None, Change::Put(record)) => Some(record.clone()),
            (None, Change::Delete) => None,
            (None, Change::Apply { .. }) => continue,
        };
        cache.insert(&write.cell, &Revision { tid, end: None, record }, tid, generation);
    }
}
