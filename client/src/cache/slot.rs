//! Owns one cell's revisions in the cache: which of them is right for which snapshots. Pure: no lock, no clock.
//!
//! A revision is kept with the interval of snapshots for which it is known to be right:
//!
//! ```text
//!   snapshots   ...----10----------20------------30-----> feed position
//!   revision @10        [10 ........ 19]                    closed: the feed (or the server) told that 20 wrote the cell
//!   revision @20                     [20 ................   open: nothing newer up to the feed position, whatever it is
//! ```
//!
//! *Open* is a promise about the future: whoever sees an invalidation of the cell must close it. So only a revision that
//! provably missed no invalidation may be open; [`super::shard`] decides that.

use bytes::Bytes;
use zeolite_proto::Tid;

/// Revisions of one cell that are kept; the one whose interval ends first goes.
const REVISIONS_MAX: usize = 3;

/// A revision and the snapshots for which it is right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// The commit that wrote it; [`Tid::NONE`]: the cell did not exist.
    pub(crate) tid: Tid,
    /// The first snapshot of the interval.
    pub(crate) from: Tid,
    /// The last one; [`Tid::MAX`]: open.
    pub(crate) to: Tid,
    /// The encoded record; none: deleted, or never written.
    pub(crate) record: Option<Bytes>,
}

impl Known {
    fn is_open(&self) -> bool {
        self.to == Tid::MAX
    }
}

/// What is known of one cell. Most have one revision, which needs no allocation of its own.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    newest: Known,
    older: Vec<Known>,
}

impl Slot {
    pub(crate) fn new(known: Known) -> Slot {
        Slot { newest: known, older: Vec::new() }
    }

    /// The revision that is right at the snapshot.
    pub(crate) fn find(&self, at: Tid) -> Option<&Known> {
        let right = |known: &&Known| known.from <= at && at <= known.to;
        Some(&self.newest).filter(right).or_else(|| self.older.iter().find(right))
    }

    /// A commit wrote the cell: what was open until now ends before it.
    pub(crate) fn close(&mut self, tid: Tid) {
        if self.newest.is_open() && self.newest.tid < tid {
            self.newest.to = tid.prev();
        }
    }

    /// Takes in what a reply told.
    pub(crate) fn learn(&mut self, known: Known) {
        if known.tid == self.newest.tid && known.tid != Tid::NONE {
            // The same revision again: both intervals hold, and they share its tid, so their union holds.
            self.newest.from = self.newest.from.min(known.from);
            self.newest.to = self.newest.to.max(known.to);
        } else if known.tid > self.newest.tid || (known.tid == self.newest.tid && known.to >= self.newest.to) {
            self.close(known.tid);
            let before = std::mem::replace(&mut self.newest, known);
            self.keep(before);
        } else {
            self.keep(known);
        }
    }

    fn keep(&mut self, known: Known) {
        // An open interval of an older revision would claim what the newer one contradicts.
        let to = known.to.min(self.newest.from.prev());
        if known.from > to {
            return;
        }
        self.older.retain(|other| other.tid != known.tid);
        self.older.push(Known { to, ..known });
        if self.older.len() >= REVISIONS_MAX {
            let first = (0..self.older.len()).min_by_key(|at| self.older[*at].to);
            first.map(|at| self.older.swap_remove(at));
        }
    }

    /// The bytes of its records.
    pub(crate) fn bytes(&self) -> usize {
        let record = |known: &Known| known.record.as_ref().map_or(0, Bytes::len);
        record(&self.newest)
            + self.older.iter().map(record).sum::<usize>()
            + self.older.capacity() * std::mem::size_of::<Known>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(tid: u64, to: Tid) -> Known {
        Known { tid: Tid(tid), from: Tid(tid), to, record: Some(Bytes::copy_from_slice(&tid.to_le_bytes())) }
    }

    #[test]
    fn an_invalidation_closes_what_was_open() {
        let mut slot = Slot::new(known(10, Tid::MAX));
        assert_eq!(slot.find(Tid(50)).map(|known| known.tid), Some(Tid(10)));
        slot.close(Tid(20));
        assert_eq!(slot.find(Tid(19)).map(|known| known.tid), Some(Tid(10)));
        assert_eq!(slot.find(Tid(20)), None);
        slot.close(Tid(15));
        assert_eq!(slot.find(Tid(19)).map(|known| known.tid), Some(Tid(10)), "only what is open is closed");
    }

    #[test]
    fn an_older_revision_that_comes_late_is_never_right_for_newer_snapshots() {
        let mut slot = Slot::new(known(20, Tid::MAX));
        slot.learn(known(10, Tid::MAX));
        assert_eq!(slot.find(Tid(19)).map(|known| known.tid), Some(Tid(10)));
        assert_eq!(slot.find(Tid(25)).map(|known| known.tid), Some(Tid(20)));
    }

    #[test]
    fn a_slot_keeps_few_revisions() {
        let mut slot = Slot::new(known(1, Tid::MAX));
        (2..100).for_each(|tid| slot.learn(known(tid, Tid::MAX)));
        assert!(slot.older.len() < REVISIONS_MAX);
        assert_eq!(slot.find(Tid(98)).map(|known| known.tid), Some(Tid(98)));
    }
}
