//! Owns the entries settled lately: so that the question "was anything in this key range written since?" need not walk
//! the range in the index.
//!
//! A serializable commit asks that for each range it has scanned, and the sequencer answers it for one commit at a time,
//! while everybody waits. The index can only answer by going over every cell of the range. But the commit's snapshot is
//! almost always younger than the last some ten thousand entry writes, and those are few enough to be kept:
//!
//! ```text
//!   ... settled and forgotten | floor | settled, kept here | settled tid | overlay | visible
//!                                  ^ a snapshot from here on needs no index
//! ```

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use zeolite_proto::{Cell, Tid};

/// The newest tid of each entry that was settled since a floor.
pub(crate) struct Recent {
    kept: Mutex<Kept>,
    entries_max: usize,
}

struct Kept {
    newest: BTreeMap<Cell, Tid>,
    // In the order of settling; an entry written again stands here twice.
    order: VecDeque<(Tid, Cell)>,
    floor: Tid,
}

impl Recent {
    /// Nothing kept of what the index holds at open.
    pub(crate) fn new(settled: Tid, entries_max: usize) -> Recent {
        let kept = Kept { newest: BTreeMap::new(), order: VecDeque::new(), floor: settled };
        Recent { kept: Mutex::new(kept), entries_max }
    }

    /// Takes entries that were settled, in the order of their tids; before they leave the overlay.
    pub(crate) fn settled<'a>(&self, entries: impl Iterator<Item = (&'a Cell, Tid)>) {
        let mut kept = self.kept.lock();
        for (cell, tid) in entries {
            // The key may be a part of a large message, which must not live as long as this.
            let cell = Cell { oid: cell.oid, key: bytes::Bytes::copy_from_slice(&cell.key) };
            kept.newest.insert(cell.clone(), tid);
            kept.order.push_back((tid, cell));
            while kept.order.len() > self.entries_max {
                let Some((tid, cell)) = kept.order.pop_front() else { break };
                if kept.newest.get(&cell) == Some(&tid) {
                    kept.newest.remove(&cell);
                }
                kept.floor = tid;
            }
        }
    }

    /// The first entry between two cells with a settled revision newer than a tid, and its newest; `None`: that is not
    /// known here, ask the index.
    #[expect(clippy::option_option, reason = "not known and none are different answers")]
    pub(crate) fn first_newer(
        &self,
        from: Bound<&Cell>,
        to: Bound<&Cell>,
        newer_than: Tid,
    ) -> Option<Option<(Cell, Tid)>> {
        let kept = self.kept.lock();
        if newer_than < kept.floor {
            return None;
        }
        let mut within = kept.newest.range::<Cell, _>((from, to));
        Some(within.find(|(_, tid)| **tid > newer_than).map(|(cell, tid)| (cell.clone(), *tid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::Oid;

    #[test]
    fn it_answers_down_to_its_floor_and_not_below() {
        let recent = Recent::new(Tid(10), 3);
        let cells: Vec<_> = (0..4u8).map(|key| Cell::entry(Oid(1), vec![key])).collect();
        let ask = |newer_than| recent.first_newer(Bound::Included(&cells[1]), Bound::Unbounded, Tid(newer_than));
        assert_eq!((ask(9), ask(10)), (None, Some(None)));
        recent.settled([(&cells[0], Tid(11)), (&cells[1], Tid(12)), (&cells[1], Tid(13))].into_iter());
        assert_eq!(ask(10), Some(Some((cells[1].clone(), Tid(13)))));
        assert_eq!(ask(13), Some(None));
        recent.settled([(&cells[2], Tid(14)), (&cells[3], Tid(15))].into_iter());
        assert_eq!((ask(11), ask(12)), (None, Some(Some((cells[1].clone(), Tid(13))))));
        assert_eq!(ask(13), Some(Some((cells[2].clone(), Tid(14)))));
        recent.settled([(&cells[0], Tid(16))].into_iter());
        assert_eq!((ask(12), ask(13)), (None, Some(Some((cells[2].clone(), Tid(14))))));
    }
}
