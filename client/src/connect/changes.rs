//! Owns what the feed has told lately: which objects each commit wrote, for whoever keeps copies of objects of his own and moves
//! from one snapshot to a later one.
//!
//! ```text
//!   floor        a (he reads here)            b (he will read here)     position
//!     |-- told ----|--------- between ----------|--------------------------|
//! ```
//!
//! Of cells that nobody here has ever asked for the feed need not tell anything, and nobody has copies of them. Whoever loads one at an older
//! snapshot learns from the answer when it was written next ([`Changes::ended`]); what came after that he is told by the feed, or by
//! the answer to his next load.
//!
//! It is asked without a round trip. What is older than the floor has been forgotten, to stay within a number of oids; who asks
//! for that, or for a snapshot of another life of the store, is told so and drops what he keeps.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use zeolite_proto::{Cell, Oid, Tid, hash};

#[derive(Debug)]
pub(crate) struct Changes {
    oids_max: usize,
    told: Mutex<Told>,
}

/// The objects that a commit wrote: those that were told together, and those that answers have told one by one.
#[derive(Debug)]
struct Written {
    sorted: Box<[Oid]>,
    late: hash::Set<Oid>,
}

impl Written {
    fn all(&self) -> Box<[Oid]> {
        self.sorted.iter().chain(&self.late).copied().collect()
    }
}

#[derive(Debug)]
struct Told {
    generation: u64,
    /// Commits up to here are forgotten.
    floor: Tid,
    /// The newest commit that the feed has told.
    newest: Tid,
    oids: usize,
    commits: BTreeMap<Tid, Written>,
}

impl Changes {
    /// Remembers so many oids at most; 0: nothing.
    pub(crate) fn new(oids_max: usize) -> Changes {
        Changes { oids_max, told: Mutex::new(Told::new(0, Tid::MAX)) }
    }

    /// A commit wrote these cells. Called by the session's reader alone, in order.
    pub(crate) fn changed(&self, tid: Tid, cells: &[Cell]) {
        if self.oids_max == 0 {
            return;
        }
        let mut oids: Vec<Oid> = cells.iter().map(|cell| cell.oid).collect();
        oids.sort_unstable();
        oids.dedup();
        let mut told = self.told.lock();
        if tid > told.newest {
            told.newest = tid;
            told.add(tid, oids, self.oids_max);
        }
    }

    /// A load told that this commit wrote an object of that generation of the store. Called before anybody sees what was loaded.
    pub(crate) fn ended(&self, generation: u64, tid: Tid, oid: Oid) {
        if self.oids_max == 0 {
            return;
        }
        let mut told = self.told.lock();
        if told.generation == generation {
            told.add(tid, vec![oid], self.oids_max);
        }
    }

    /// What follows begins behind this tid, of this generation of the store.
    pub(crate) fn restart(&self, generation: u64, floor: Tid) {
        // Who remembers nothing knows nothing.
        let floor = if self.oids_max == 0 { Tid::MAX } else { floor };
        *self.told.lock() = Told::new(generation, floor);
    }

    /// The commits above `after`, up to `to`, with the objects that they wrote; none: too long ago, or another store.
    pub(crate) fn between(&self, generation: u64, after: Tid, to: Tid) -> Option<Vec<(Tid, Box<[Oid]>)>> {
        let told = self.told.lock();
        if told.generation != generation || after < told.floor {
            return None;
        }
        if after >= to {
            return Some(Vec::new());
        }
        let commits = told.commits.range((Bound::Excluded(after), Bound::Included(to)));
        Some(commits.map(|(tid, written)| (*tid, written.all())).collect())
    }
}

impl Told {
    fn new(generation: u64, floor: Tid) -> Told {
        Told { generation, floor, newest: floor, oids: 0, commits: BTreeMap::new() }
    }

    /// Notes what a commit wrote, in its place.
    fn add(&mut self, tid: Tid, oids: Vec<Oid>, oids_max: usize) {
        if tid <= self.floor {
            return;
        }
        match self.commits.entry(tid) {
            Entry::Occupied(mut there) => {
                let Written { sorted, late } = there.get_mut();
                let new = oids.into_iter().filter(|oid| sorted.binary_search(oid).is_err() && late.insert(*oid));
                self.oids += new.count();
            }
            Entry::Vacant(free) => {
                // An empty commit takes room as well.
                self.oids += oids.len() + 1;
                free.insert(Written { sorted: oids.into(), late: hash::Set::default() });
            }
        }
        while self.oids > oids_max
            && let Some((tid, written)) = self.commits.pop_first()
        {
            self.oids -= written.sorted.len() + written.late.len() + 1;
            self.floor = tid;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(oids: &[u64]) -> Vec<Cell> {
        oids.iter().map(|oid| Cell::object(Oid(*oid))).collect()
    }

    fn between(changes: &Changes, after: u64, to: u64) -> Option<Vec<u64>> {
        let commits = changes.between(1, Tid(after), Tid(to))?;
        Some(commits.iter().flat_map(|(_, oids)| oids.iter().map(|oid| oid.0)).collect())
    }

    #[test]
    fn it_tells_what_lies_between_and_forgets_the_oldest() {
        let changes = Changes::new(6);
        changes.restart(1, Tid(10));
        changes.changed(Tid(9), &cells(&[99]));
        changes.changed(Tid(11), &cells(&[1, 2, 1]));
        changes.changed(Tid(12), &cells(&[3]));
        changes.changed(Tid(12), &cells(&[98]));
        assert_eq!(between(&changes, 10, 12), Some(vec![1, 2, 3]));
        assert_eq!(between(&changes, 11, 12), Some(vec![3]));
        assert_eq!(between(&changes, 10, 11), Some(vec![1, 2]));
        assert_eq!(between(&changes, 12, 12), Some(vec![]));
        assert_eq!(between(&changes, 9, 12), None, "before it began");
        assert_eq!(changes.between(2, Tid(11), Tid(12)), None, "another store");
        changes.changed(Tid(13), &cells(&[4]));
        assert_eq!(between(&changes, 10, 13), None, "there is no room for what 11 wrote");
        assert_eq!(between(&changes, 11, 13), Some(vec![3, 4]));
    }

    #[test]
    fn what_a_load_tells_late_is_put_where_it_was() {
        let changes = Changes::new(100);
        changes.restart(1, Tid(10));
        changes.changed(Tid(20), &cells(&[1]));
        changes.changed(Tid(30), &cells(&[2]));
        changes.ended(1, Tid(25), Oid(7));
        changes.ended(1, Tid(30), Oid(8));
        changes.ended(1, Tid(30), Oid(2));
        changes.ended(1, Tid(9), Oid(9));
        changes.ended(2, Tid(25), Oid(9));
        assert_eq!(between(&changes, 10, 30), Some(vec![1, 7, 2, 8]));
        assert_eq!(between(&changes, 25, 30), Some(vec![2, 8]));
        // Ahead of the feed: what that tells is added.
        changes.ended(1, Tid(40), Oid(7));
        changes.changed(Tid(40), &cells(&[3, 7]));
        changes.changed(Tid(40), &cells(&[98]));
        assert_eq!(between(&changes, 30, 40), Some(vec![7, 3]));
    }

    #[test]
    fn who_asks_for_nothing_keeps_nothing() {
        let changes = Changes::new(0);
        changes.restart(1, Tid(10));
        changes.changed(Tid(11), &cells(&[1]));
        assert_eq!(between(&changes, 11, 11), None);
    }
}
