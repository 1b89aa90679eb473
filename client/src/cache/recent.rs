//! Owns the memory of recent invalidations: which cell was last written by which commit, for a bounded time back.
//!
//! A load's reply may reach the cache after an invalidation that it does not know of: the server read the cell, then a
//! commit wrote it, and the feed overtook the reply. So at insertion the cache must be able to answer: *was this cell
//! invalidated by a commit newer than the reply's snapshot?* Cells are remembered by a 64-bit hash; two that share one
//! only make an answer more careful than needed. Two generations bound the size: when the young one is full, the old
//! one is forgotten, and `floor` says up to which commit nothing is known any more.

use zeolite_proto::{Tid, hash};

/// Cells in one generation; few in tests, so that they forget as well.
const GENERATION_CELLS: usize = if cfg!(test) { 8 } else { 2048 };

/// What was told lately is put into a generation together: a process that mostly listens hears of far more cells than it asks for,
/// and to look for the place of each at once would cost it a miss of the processor's cache a cell.
const UNSORTED_CELLS: usize = if cfg!(test) { 3 } else { 256 };

#[derive(Debug, Default)]
pub(crate) struct Recent {
    unsorted: Vec<(u64, Tid)>,
    young: hash::Map<u64, Tid>,
    old: hash::Map<u64, Tid>,
    /// The newest commit of each generation.
    young_newest: Tid,
    old_newest: Tid,
    /// Invalidations of commits up to this one may be forgotten or were never seen.
    floor: Tid,
}

impl Recent {
    /// A commit wrote the cell.
    pub(crate) fn note(&mut self, hash: u64, tid: Tid) {
        self.unsorted.push((hash, tid));
        if self.unsorted.len() >= UNSORTED_CELLS {
            self.sort_in();
        }
    }

    /// Whether it is certain that no commit newer than `at`, as far as the feed has come, wrote the cell.
    pub(crate) fn unchanged_since(&mut self, hash: u64, at: Tid) -> bool {
        self.sort_in();
        let newest = |generation: &hash::Map<u64, Tid>| generation.get(&hash).copied().unwrap_or_default();
        at >= self.floor && newest(&self.young) <= at && newest(&self.old) <= at
    }

    fn sort_in(&mut self) {
        let mut unsorted = std::mem::take(&mut self.unsorted);
        for (hash, tid) in unsorted.drain(..) {
            if self.young.len() >= GENERATION_CELLS {
                self.floor = self.floor.max(self.old_newest);
                self.old = std::mem::take(&mut self.young);
                self.old_newest = self.young_newest;
            }
            let newest = self.young.entry(hash).or_default();
            *newest = tid.max(*newest);
            self.young_newest = tid.max(self.young_newest);
        }
        // Its room is used again.
        self.unsorted = unsorted;
    }

    /// Nothing is known about commits up to this one.
    pub(crate) fn forget(&mut self, floor: Tid) {
        *self = Recent { floor, ..Recent::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_not_claimed() {
        let mut recent = Recent::default();
        recent.note(7, Tid(1));
        assert!(recent.unchanged_since(7, Tid(1)) && !recent.unchanged_since(7, Tid(0)));
        assert!(recent.unchanged_since(8, Tid(0)));
        // Fill it until cell 7 is forgotten: then nothing may be claimed for snapshots that old.
        (0..3 * GENERATION_CELLS as u64).for_each(|n| recent.note(1000 + n, Tid(2 + n)));
        assert!(!recent.unchanged_since(7, Tid(0)));
        assert!(!recent.unchanged_since(9_999_999, Tid(1)));
        assert!(recent.unchanged_since(7, Tid(3 * GENERATION_CELLS as u64 + 2)));
    }
}
