//! Owns putting the works of many steps together into one draft, so that it means the same as the steps one after the
//! other. Pure.
//!
//! ```text
//!   two operations on one cell            folded into one record, which the resolver merges with later live writes
//!   two puts of the same bytes            one
//!   anything else written twice           the chunk ends before the second step
//!   read what an earlier step has written the chunk ends before the reader: it must see it
//! ```
//!
//! Steps that share a cell form one group: an undo takes back a group as a whole or not at all.

use crate::tx::{Staged, Work};
use bytes::Bytes;
use std::collections::BTreeMap;
use zeolite_proto::{Cell, Oid, ReadCell, ReadRange, Tid, hash};

/// One cell of the draft.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(crate) cell: Cell,
    pub(crate) base: Tid,
    pub(crate) staged: Staged,
    /// The server completes its key.
    pub(crate) stamped: bool,
    /// The first step that wrote it.
    pub(crate) step: usize,
}

/// The works of a chunk, as one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assembly {
    /// Group by group.
    pub(crate) slots: Vec<Slot>,
    /// How many slots each group has; in order.
    pub(crate) groups: Vec<u32>,
    pub(crate) read_cells: Vec<ReadCell>,
    pub(crate) read_ranges: Vec<ReadRange>,
    /// Works that went in; the rest has to wait for the next draft.
    pub(crate) taken: usize,
}

#[derive(Default)]
struct Building {
    cells: BTreeMap<Cell, (Tid, Staged, usize)>,
    stamped: Vec<(usize, Tid, Cell, Bytes)>,
    /// The group of each step: the first step that it shares a cell with, followed to its end.
    leader: Vec<usize>,
    reads: hash::Map<Cell, Tid>,
    ranges: hash::Map<(Oid, Bytes, Bytes), Tid>,
}

/// Puts works together, as many of the first ones as can be.
pub(crate) fn assemble<'w>(works: impl IntoIterator<Item = Option<&'w Work>>) -> Assembly {
    let mut building = Building::default();
    let mut taken = 0;
    for work in works {
        if let Some(work) = work {
            if taken > 0 && building.clashes(work) {
                break;
            }
            building.add(taken, work);
        }
        taken += 1;
        building.leader.resize_with(taken, || usize::MAX);
    }
    building.finish(taken)
}

impl Building {
    fn clashes(&self, work: &Work) -> bool {
        let written = |(cell, staged): (&Cell, &Staged)| match (self.cells.get(cell), staged) {
            (None, _) => false,
            (Some((_, Staged::Apply { class, .. }, _)), Staged::Apply { class: ours, .. }) => class != ours,
            (Some((_, Staged::Put(theirs), _)), Staged::Put(ours)) => work.sums || theirs != ours,
            (Some((_, Staged::Delete, _)), Staged::Delete) => false,
            _ => true,
        };
        // Reading a cell and putting the same as an earlier step did is the same as coming second and finding it there
        // only if the step would do the same again: nobody knows, so it counts as a clash.
        let read = |cell: &Cell| self.cells.contains_key(cell);
        let covered = |range: &ReadRange| {
            let first = Cell { oid: range.oid, key: range.from.clone() };
            self.cells.range(first..).take_while(|(cell, _)| cell.oid == range.oid).any(|(cell, _)| range.covers(cell))
        };
        work.cells.iter().any(written)
            || work.read_cells.iter().any(|check| read(&check.cell))
            || work.read_ranges.iter().any(covered)
    }

    fn add(&mut self, step: usize, work: &Work) {
        self.leader.resize_with(step, || usize::MAX);
        self.leader.push(step);
        for (cell, staged) in &work.cells {
            match self.cells.get_mut(cell) {
                None => {
                    self.cells.insert(cell.clone(), (work.base, staged.clone(), step));
                }
                Some((base, there, first)) => {
                    *base = (*base).min(work.base);
                    if let (Staged::Apply { operations, .. }, Staged::Apply { operations: more, .. }) = (there, staged)
                    {
                        operations.extend(more.iter().cloned());
                    }
                    let first = *first;
                    self.join(first, step);
                }
            }
        }
        let stamped = work.stamped.iter().map(|(cell, record)| (step, work.base, cell.clone(), record.clone()));
        self.stamped.extend(stamped);
        for check in &work.read_cells {
            let base = self.reads.entry(check.cell.clone()).or_insert(check.base);
            *base = (*base).min(check.base);
        }
        for check in &work.read_ranges {
            let base = self.ranges.entry((check.oid, check.from.clone(), check.to.clone())).or_insert(check.base);
            *base = (*base).min(check.base);
        }
    }

    fn lead(&self, mut step: usize) -> usize {
        while self.leader[step] != step {
            step = self.leader[step];
        }
        step
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.lead(a), self.lead(b));
        self.leader[a.max(b)] = a.min(b);
    }

    fn finish(self, taken: usize) -> Assembly {
        let mut groups: BTreeMap<usize, Vec<Slot>> = BTreeMap::new();
        let leads: hash::Map<usize, usize> = (0..self.leader.len())
            .filter(|step| self.leader[*step] != usize::MAX)
            .map(|step| (step, self.lead(step)))
            .collect();
        let group = |step: usize| leads.get(&step).copied().unwrap_or(step);
        for (cell, (base, staged, step)) in self.cells {
            groups.entry(group(step)).or_default().push(Slot { cell, base, staged, stamped: false, step });
        }
        for (step, base, cell, record) in self.stamped {
            let slot = Slot { cell, base, staged: Staged::Put(record), stamped: true, step };
            groups.entry(group(step)).or_default().push(slot);
        }
        let range = |((oid, from, to), base)| ReadRange { oid, from, to, base };
        Assembly {
            groups: groups.values().map(|slots| slots.len() as u32).collect(),
            slots: groups.into_values().flatten().collect(),
            read_cells: self.reads.into_iter().map(|(cell, base)| ReadCell { cell, base }).collect(),
            read_ranges: self.ranges.into_iter().map(range).collect(),
            taken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::staged_samples::{add, cell, put};

    fn work(base: u64, writes: &[(u64, Staged)], reads: &[u64]) -> Work {
        let base = Tid(base);
        Work {
            base,
            cells: writes.iter().map(|(oid, staged)| (cell(*oid), staged.clone())).collect(),
            read_cells: reads.iter().map(|oid| ReadCell { cell: cell(*oid), base }).collect(),
            ..Work::default()
        }
    }

    fn all(works: &[Work]) -> Assembly {
        assemble(works.iter().map(Some))
    }

    #[test]
    fn operations_of_many_steps_are_folded_and_make_one_group() {
        let works = [
            work(5, &[(1, put("a")), (9, add("+1"))], &[1]),
            work(7, &[(2, put("b"))], &[2]),
            work(6, &[(3, put("c")), (9, add("+2"))], &[3]),
        ];
        let made = all(&works);
        assert_eq!((made.taken, &made.groups[..]), (3, &[3, 1][..]));
        assert_eq!(made.slots[3].cell, cell(2));
        let counter = made.slots.iter().find(|slot| slot.cell == cell(9)).expect("there");
        let both = Staged::Apply { class: "Counter".into(), operations: vec!["+1".into(), "+2".into()] };
        assert_eq!((counter.base, &counter.staged), (Tid(5), &both));
        assert_eq!(made.read_cells.len(), 3);
    }

    #[test]
    fn a_chunk_ends_before_what_must_come_second() {
        let first = || work(5, &[(1, put("a")), (8, put("x"))], &[1]);
        for (second, taken) in [
            (work(5, &[(2, put("b")), (8, put("x"))], &[2]), 2),
            (work(5, &[(2, put("b")), (8, put("y"))], &[2]), 1),
            (work(5, &[(2, put("b")), (8, add("+1"))], &[2]), 1),
            (work(5, &[(2, put("b")), (8, Staged::Delete)], &[2]), 1),
            (work(5, &[(2, put("b"))], &[2, 8]), 1),
            (work(5, &[(2, put("b"))], &[2, 7]), 2),
        ] {
            assert_eq!(all(&[first(), second.clone()]).taken, taken, "{second:?}");
        }
        let mut scanned = work(5, &[(2, put("b"))], &[2]);
        scanned.read_ranges.push(ReadRange { oid: Oid(4), from: "a".into(), to: "c".into(), base: Tid(5) });
        let entry = |key: &'static str| {
            let mut work = work(5, &[], &[]);
            work.cells.insert(Cell::entry(Oid(4), key), put("x"));
            work
        };
        assert_eq!(all(&[entry("b"), scanned.clone()]).taken, 1);
        assert_eq!(all(&[entry("c"), scanned.clone()]).taken, 2);
        assert_eq!(all(&[scanned, entry("b")]).taken, 2, "the reader came first");
    }

    #[test]
    fn what_two_steps_have_read_is_checked_as_of_the_older() {
        let made = all(&[work(5, &[(1, put("a"))], &[1, 7]), work(9, &[(2, put("b"))], &[2, 7])]);
        let check = made.read_cells.iter().find(|check| check.cell == cell(7)).expect("checked");
        assert_eq!(check.base, Tid(5));
        let nothing = assemble([None, None]);
        assert_eq!((nothing.taken, nothing.slots.len(), nothing.groups.len()), (2, 0, 0));
    }

    #[test]
    fn stamped_writes_stay_with_their_step() {
        let mut first = work(5, &[(1, put("a"))], &[1]);
        first.stamped.push((cell(50), Bytes::from_static(b"item")));
        let mut second = work(5, &[(2, put("b"))], &[2]);
        second.stamped.push((cell(50), Bytes::from_static(b"item")));
        let made = all(&[first, second]);
        assert_eq!((made.taken, &made.groups[..]), (2, &[2, 2][..]));
        assert!(made.slots[1].stamped && made.slots[3].stamped);
    }
}
