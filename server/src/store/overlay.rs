//! Owns the overlay: the revisions that are published but not yet in the index.
//!
//! ```text
//!   append, fdatasync ──> publish ──> overlay ──(settle: index commit, then removal)──> index
//!                                        ^                                                ^
//!                                 readers look here first,                           and here second
//! ```
//! The rule that makes this safe: an entry leaves the overlay only after the index transaction that holds it is
//! committed, and a reader looks into the overlay before it begins its index read. So every published revision is found
//! in at least one of the two. What is found *here* alone may still be incomplete: while the settler removes entries, an
//! older revision of a cell may be seen after a newer one is gone. `settled` tells: it is raised after the index commit
//! and before the first removal, so an answer newer than it, read *after* the look into the overlay, is complete.
//!
//! The map is lock-free; the queue of batches is under a mutex that is held for a few instructions only.

use super::frame::RecordAt;
use super::kinds::KindId;
use super::log::{Place, Position};
use super::steps::{Step, Steps};
use super::{KnownKey, Txn, TxnWrite};
use bytes::Bytes;
use crossbeam_skiplist::SkipMap;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_proto::{Cell, CommitKey, Tid};

// What an entry costs beside its key and record: node, slot, the queue's part.
const ENTRY_BYTES: u64 = 320;
// One batch counts for at most this part of what may wait: others still find room beside it.
const LARGEST_PART: u64 = 4;

/// What the index will say about a revision, before it says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    /// `KindId::NONE` when deleted.
    pub(crate) kind: KindId,
    /// Whether the record refers to other objects.
    pub(crate) has_refs: bool,
    /// Whether it names blobs.
    pub(crate) has_blobs: bool,
    /// Where the record lies; `None`: deleted.
    pub(crate) place: Option<Place>,
    /// The record, when it is small enough to be kept.
    pub(crate) record: Option<Bytes>,
}

/// A revision's key: the newest revision of a cell comes first, as in the index.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct RevisionKey {
    pub(crate) cell: Cell,
    pub(crate) newest_first: u64,
}

impl RevisionKey {
    /// The key of a cell's revision at a tid.
    pub(crate) fn new(cell: Cell, tid: Tid) -> RevisionKey {
        RevisionKey { cell, newest_first: !tid.0 }
    }

    /// The tid in it.
    pub(crate) fn tid(&self) -> Tid {
        Tid(!self.newest_first)
    }
}

/// A batch that waits for the index.
pub(crate) struct Unsettled {
    pub(crate) position: Position,
    pub(crate) len: u64,
    pub(crate) first: Tid,
    pub(crate) last: Tid,
    pub(crate) txns: Vec<UnsettledTxn>,
    bytes: u64,
}

impl Unsettled {
    fn cells(&self) -> usize {
        self.txns.iter().map(|txn| txn.writes.len()).sum()
    }
}

/// A transaction of it: what the map holds too, in the order in which it is settled.
pub(crate) struct UnsettledTxn {
    pub(crate) tid: Tid,
    pub(crate) key: CommitKey,
    pub(crate) digest: u64,
    pub(crate) writes: Vec<(Cell, Slot)>,
}

/// A batch made ready to be published: everything is computed, what is left is insertion.
pub(crate) struct Prepared {
    entries: Vec<(RevisionKey, Slot)>,
    batch: Unsettled,
}

impl Prepared {
    /// Takes a batch as it lies in the log; `slot` makes the slot of a write from its place.
    pub(crate) fn new(
        position: Position,
        len: u64,
        txns: &[Txn],
        records: &[Option<RecordAt>],
        mut slot: impl FnMut(&TxnWrite, Option<Place>) -> Slot,
    ) -> Prepared {
        let mut entries = Vec::with_capacity(records.len());
        let mut records = records.iter();
        let mut bytes = 0;
        let mut unsettled = Vec::with_capacity(txns.len());
        for txn in txns {
            let mut writes = Vec::with_capacity(txn.writes.len());
            for write in &txn.writes {
                let place = records.next().copied().flatten().map(|record| Place::of(position, record));
                let slot = slot(write, place);
                let kept = slot.record.as_ref().map_or(0, Bytes::len) + write.cell.key.len();
                bytes += ENTRY_BYTES + kept as u64;
                entries.push((RevisionKey::new(write.cell.clone(), txn.tid), slot.clone()));
                writes.push((write.cell.clone(), slot));
            }
            unsettled.push(UnsettledTxn { tid: txn.tid, key: txn.key, digest: txn.digest, writes });
        }
        bytes += txns.len() as u64 * ENTRY_BYTES;
        let ends = (txns.first().map_or(Tid::NONE, |txn| txn.tid), txns.last().map_or(Tid::NONE, |txn| txn.tid));
        Prepared { entries, batch: Unsettled { position, len, first: ends.0, last: ends.1, txns: unsettled, bytes } }
    }

    /// The memory it will hold.
    pub(crate) fn bytes(&self) -> u64 {
        self.batch.bytes
    }

    /// Its commit keys, as if they were entered at an age of the store.
    pub(crate) fn keys(&self, lived_ms: u64) -> impl Iterator<Item = KnownKey> {
        self.batch.txns.iter().map(move |txn| KnownKey { key: txn.key, digest: txn.digest, tid: txn.tid, lived_ms })
    }

    /// What the index is to take of it.
    pub(crate) fn unsettled(&self) -> &Unsettled {
        &self.batch
    }

    /// The greatest oid in it.
    pub(crate) fn oid_max(&self) -> u64 {
        self.entries.iter().map(|(key, _)| key.cell.oid.0).max().unwrap_or(0)
    }

    /// The newest tid in it.
    pub(crate) fn last(&self) -> Tid {
        self.batch.last
    }
}

/// What the overlay knows of a cell at a tid.
pub(crate) struct Hit {
    /// The newest revision here not newer than the tid.
    pub(crate) revision: Option<(Tid, Slot)>,
    /// The oldest revision here that is newer than the tid, up to what was published.
    pub(crate) next: Option<Tid>,
}

/// The published revisions that are not yet in the index. The appender adds, the settler removes, readers look.
#[derive(Default)]
pub(crate) struct Overlay {
    map: SkipMap<RevisionKey, Slot>,
    queue: Mutex<VecDeque<Arc<Unsettled>>>,
    bytes: AtomicU64,
    // The same with no batch counted for more than `weight_max`: what others have to wait for.
    weight: AtomicU64,
    weight_max: u64,
    settled: AtomicU64,
    // Held for reading by those who need the whole of overlay and index at one moment; the settler takes it for removal.
    removal: RwLock<()>,
    pub(crate) steps: Steps,
}

impl Overlay {
    /// An empty overlay over an index that holds everything up to a tid; it may hold so many bytes and a largest batch.
    pub(crate) fn new(settled: Tid, bytes_max: u64) -> Overlay {
        let weight_max = bytes_max / LARGEST_PART;
        Overlay { settled: AtomicU64::new(settled.0), weight_max, ..Overlay::default() }
    }

    /// Adds a batch: its revisions, then `show` lets readers see them, then it may be settled. Readers that look for more
    /// than is published may see part of it at once.
    pub(crate) fn publish(&self, prepared: Prepared, show: impl FnOnce()) {
        self.bytes.fetch_add(prepared.batch.bytes, Ordering::Relaxed);
        self.weight.fetch_add(prepared.batch.bytes.min(self.weight_max), Ordering::Relaxed);
        for (key, slot) in prepared.entries {
            self.map.insert(key, slot);
        }
        show();
        self.queue.lock().push_back(Arc::new(prepared.batch));
    }

    /// Everything up to this tid is in the index.
    pub(crate) fn settled(&self) -> Tid {
        Tid(self.settled.load(Ordering::SeqCst))
    }

    /// Memory held by what waits for the index.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What of it counts against the limit: a batch that is larger than all the others may be is none of theirs.
    pub(crate) fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed)
    }

    /// How many transactions wait for the index.
    pub(crate) fn txns(&self) -> usize {
        self.queue.lock().iter().map(|batch| batch.txns.len()).sum()
    }

    /// The oldest batches, up to a number of transactions and of cells, at least one batch.
    pub(crate) fn oldest(&self, txns_max: usize, cells_max: usize) -> Vec<Arc<Unsettled>> {
        let (mut txns, mut cells) = (0, 0);
        let queue = self.queue.lock();
        let wanted = queue.iter().take_while(|batch| {
            let first = txns == 0;
            txns += batch.txns.len();
            cells += batch.cells();
            first || (txns <= txns_max && cells <= cells_max)
        });
        wanted.cloned().collect()
    }

    /// The first tid of the last waiting batch with a first tid not after this one.
    pub(crate) fn first_of(&self, tid: Tid) -> Option<Tid> {
        let queue = self.queue.lock();
        let after = queue.partition_point(|batch| batch.first <= tid);
        after.checked_sub(1).and_then(|at| queue.get(at)).map(|batch| batch.first)
    }

    /// Where the last waiting batch with a first tid not after this one begins.
    pub(crate) fn position_of(&self, tid: Tid) -> Option<Position> {
        let queue = self.queue.lock();
        let after = queue.partition_point(|batch| batch.first <= tid);
        after.checked_sub(1).and_then(|at| queue.get(at)).map(|batch| batch.position)
    }

    /// Removes the oldest batches, which the index holds now. Only the settler calls it, after its commit and after it
    /// took the cells out of the cache.
    pub(crate) fn remove(&self, batches: &[Arc<Unsettled>]) {
        let Some(newest) = batches.last() else { return };
        self.settled.store(newest.last.0, Ordering::SeqCst);
        let _gate = self.removal.write();
        for batch in batches {
            for txn in &batch.txns {
                for (cell, _) in &txn.writes {
                    self.map.remove(&RevisionKey::new(cell.clone(), txn.tid));
                }
                self.steps.at(Step::Removing);
            }
            self.bytes.fetch_sub(batch.bytes, Ordering::Relaxed);
            self.weight.fetch_sub(batch.bytes.min(self.weight_max), Ordering::Relaxed);
        }
        let mut queue = self.queue.lock();
        let count = batches.len().min(queue.len());
        queue.drain(..count);
    }

    /// Keeps everything that is here from being removed while the guard lives. Not held across reads of the log.
    pub(crate) fn hold(&self) -> parking_lot::RwLockReadGuard<'_, ()> {
        self.removal.read()
    }

    /// Whether removal is held up now, or under way.
    #[cfg(test)]
    pub(crate) fn is_held(&self) -> bool {
        self.removal.try_write().is_none()
    }

    /// The newest revision of a cell that waits.
    pub(crate) fn newest(&self, cell: &Cell) -> Option<Tid> {
        self.steps.at(Step::BeforeOverlay);
        let from = RevisionKey::new(cell.clone(), Tid::MAX);
        let entry = self.map.lower_bound(Bound::Included(&from)).filter(|entry| entry.key().cell == *cell);
        self.steps.at(Step::AfterOverlay);
        entry.map(|entry| entry.key().tid())
    }

    /// What is known of a cell at a tid, when everything up to `published` counts (`at` is not newer than that).
    pub(crate) fn find(&self, cell: &Cell, at: Tid, published: Tid) -> Hit {
        self.steps.at(Step::BeforeOverlay);
        let key = RevisionKey::new(cell.clone(), at);
        let entry = self.map.lower_bound(Bound::Included(&key)).filter(|entry| entry.key().cell == *cell);
        let revision = entry.map(|entry| (entry.key().tid(), entry.value().clone()));
        if at >= published {
            self.steps.at(Step::AfterOverlay);
            return Hit { revision, next: None };
        }
        let newer = self.map.upper_bound(Bound::Excluded(&key)).filter(|entry| entry.key().cell == *cell);
        let next = newer.map(|entry| entry.key().tid()).filter(|tid| *tid <= published);
        self.steps.at(Step::AfterOverlay);
        Hit { revision, next }
    }

    /// Goes over the waiting revisions between two keys, forward: in a cell the newest first. The visitor says whether
    /// to go on.
    pub(crate) fn visit(
        &self,
        from: Bound<RevisionKey>,
        to: Bound<RevisionKey>,
        reverse: bool,
        mut visitor: impl FnMut(&RevisionKey, &Slot) -> bool,
    ) {
        self.steps.at(Step::BeforeOverlay);
        let mut range = self.map.range((from, to));
        let mut next = || if reverse { range.next_back() } else { range.next() };
        while let Some(entry) = next() {
            if !visitor(entry.key(), entry.value()) {
                break;
            }
        }
        self.steps.at(Step::AfterOverlay);
    }
}
