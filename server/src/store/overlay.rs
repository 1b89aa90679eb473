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
//! What a large transaction wrote is no entry of the map but a *run* of its own (`run`), which was sorted before: one step for whoever publishes
//! it, and a binary search more for readers as long as it is here.
//!
//! The map is lock-free; the queue of batches is under a mutex that is held for a few instructions only.

mod batch;
mod run;

pub(crate) use batch::{Prepared, Slot, Slots, Unsettled};

use super::log::Position;
use super::steps::{Step, Steps};
use batch::Written;
use crossbeam_skiplist::SkipMap;
use parking_lot::{Mutex, RwLock};
use run::{Merged, Run};
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zeolite_proto::{Cell, Tid};

// One batch counts for at most this part of what may wait: others still find room beside it.
const LARGEST_PART: u64 = 4;

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
    runs: RwLock<Arc<Vec<Arc<Run>>>>,
    // Whether there are any: mostly not, and readers look here first.
    has_runs: AtomicBool,
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
        if !prepared.runs.is_empty() {
            Arc::make_mut(&mut *self.runs.write()).extend(prepared.runs);
            self.has_runs.store(true, Ordering::Release);
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
                match &txn.writes {
                    Written::List(writes) => writes.iter().for_each(|(cell, _)| {
                        self.map.remove(&RevisionKey::new(cell.clone(), txn.tid));
                    }),
                    Written::Run(run) => self.remove_run(run),
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

    fn remove_run(&self, run: &Arc<Run>) {
        let mut runs = self.runs.write();
        Arc::make_mut(&mut *runs).retain(|kept| !Arc::ptr_eq(kept, run));
        self.has_runs.store(!runs.is_empty(), Ordering::Release);
    }

    // A reader goes over all of them: most have other objects.
    fn runs(&self) -> Option<Arc<Vec<Arc<Run>>>> {
        self.has_runs.load(Ordering::Acquire).then(|| self.runs.read().clone())
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
        let runs = self.runs();
        let runs = runs.as_deref().map_or(&[][..], Vec::as_slice);
        let in_runs = runs.iter().filter(|run| run.has(cell)).map(|run| run.tid).max();
        self.steps.at(Step::AfterOverlay);
        entry.map(|entry| entry.key().tid()).max(in_runs)
    }

    /// What is known of a cell at a tid, when everything up to `published` counts (`at` is not newer than that).
    pub(crate) fn find(&self, cell: &Cell, at: Tid, published: Tid) -> Hit {
        self.steps.at(Step::BeforeOverlay);
        let key = RevisionKey::new(cell.clone(), at);
        let entry = self.map.lower_bound(Bound::Included(&key)).filter(|entry| entry.key().cell == *cell);
        let mut revision = entry.map(|entry| (entry.key().tid(), entry.value().clone()));
        let runs = self.runs();
        let runs = runs.as_deref().map_or(&[][..], Vec::as_slice);
        let older = runs.iter().filter(|run| run.tid <= at && revision.as_ref().is_none_or(|(tid, _)| *tid < run.tid));
        if let Some(newest) = older.filter(|run| run.has(cell)).max_by_key(|run| run.tid) {
            revision = newest.find(cell).map(|slot| (newest.tid, slot));
        }
        if at >= published {
            self.steps.at(Step::AfterOverlay);
            return Hit { revision, next: None };
        }
        let newer = self.map.upper_bound(Bound::Excluded(&key)).filter(|entry| entry.key().cell == *cell);
        let newer = newer.map(|entry| entry.key().tid());
        let in_runs = runs.iter().filter(|run| run.tid > at && run.has(cell)).map(|run| run.tid);
        let next = newer.into_iter().chain(in_runs).min().filter(|tid| *tid <= published);
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
        let runs = self.runs();
        let runs = runs.as_deref().map_or(&[][..], Vec::as_slice);
        let mut merged = Merged::new(runs.iter().map(Arc::as_ref), (&from, &to), reverse);
        let mut range = self.map.range((from, to));
        let mut next = || if reverse { range.next_back() } else { range.next() };
        let mut goes_on = true;
        while goes_on && let Some(entry) = next() {
            while goes_on && let Some((key, slot)) = merged.next_before(Some(entry.key())) {
                goes_on = visitor(&key, &slot);
            }
            goes_on = goes_on && visitor(entry.key(), entry.value());
        }
        while goes_on && let Some((key, slot)) = merged.next_before(None) {
            goes_on = visitor(&key, &slot);
        }
        self.steps.at(Step::AfterOverlay);
    }
}
