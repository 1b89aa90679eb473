//! Owns which steps of a whole plan have to be made again where steps are made together (`joint`), and what all of them make of one
//! draft. Pure.
//!
//! ```text
//!   a step's object has changed            that step, those that have written what it wrote, and so on
//!   one has read what another has written,
//!   or what has to be current has changed  all of them
//! ```
//! So an attribute for each object costs a few steps while the site waits, and a new index, whose buckets all steps share, all of them.

use crate::evolve::assembly::{Assembly, Slot};
use crate::evolve::stepping::{StepResult, SteppedCell};
use crate::tx::Work;
use zeolite_proto::{Cell, ReadCell, Tid, hash};

fn work(made: &SteppedCell) -> Option<&Work> {
    match &made.made {
        StepResult::Work { work, .. } => Some(work),
        _ => None,
    }
}

fn wrote(made: &SteppedCell) -> impl Iterator<Item = &Cell> {
    work(made).and_then(|work| work.share.as_ref()).into_iter().flat_map(|share| &share.wrote)
}

/// How the steps of a plan hang together.
pub(super) struct Joined<'s> {
    tries: &'s [SteppedCell],
    objects: hash::Map<&'s Cell, usize>,
    writers: hash::Map<&'s Cell, Vec<usize>>,
    checked: hash::Set<&'s Cell>,
    /// One has read what another one has written.
    is_one: bool,
}

impl<'s> Joined<'s> {
    /// `read`: what steps have read beside their own objects.
    pub(super) fn new(tries: &'s [SteppedCell], read: &hash::Set<Cell>) -> Joined<'s> {
        let objects: hash::Map<&Cell, usize> =
            tries.iter().enumerate().map(|(at, made)| (&made.item.cell, at)).collect();
        let mut writers: hash::Map<&Cell, Vec<usize>> = hash::Map::default();
        for (at, made) in tries.iter().enumerate() {
            wrote(made).for_each(|cell| writers.entry(cell).or_default().push(at));
        }
        let checks = tries.iter().filter_map(work).flat_map(|work| &work.read_cells).map(|check| &check.cell);
        let checked = checks.filter(|cell| !objects.contains_key(*cell)).collect();
        let is_one = read.iter().any(|cell| writers.contains_key(cell));
        Joined { tries, objects, writers, checked, is_one }
    }

    /// Those whose own objects are among these cells, and what hangs on them. What they share with live writers the server merges, or says.
    pub(super) fn on_objects(&self, changed: &hash::Set<Cell>) -> Vec<usize> {
        self.with_what_hangs_on(changed.iter().filter_map(|cell| self.objects.get(cell)).copied().collect())
    }

    /// All that a change of these cells makes wrong.
    pub(super) fn on(&self, changed: &hash::Set<Cell>) -> Vec<usize> {
        if changed.iter().any(|cell| self.checked.contains(cell)) {
            return (0..self.tries.len()).collect();
        }
        let writers = changed.iter().filter_map(|cell| self.writers.get(cell)).flatten();
        let objects = changed.iter().filter_map(|cell| self.objects.get(cell));
        self.with_what_hangs_on(writers.chain(objects).copied().collect())
    }

    /// Whether some of the steps share with others what they have written, or have read it.
    pub(super) fn is_apart(&self, some: &[usize]) -> bool {
        self.with_what_hangs_on(some.to_vec()).len() == some.len()
    }

    fn with_what_hangs_on(&self, mut left: Vec<usize>) -> Vec<usize> {
        if self.is_one && !left.is_empty() {
            return (0..self.tries.len()).collect();
        }
        let (mut found, mut seen) = (std::collections::BTreeSet::new(), hash::Set::default());
        while let Some(at) = left.pop() {
            if !found.insert(at) {
                continue;
            }
            let shared = wrote(&self.tries[at]).filter(|cell| seen.insert(*cell));
            left.extend(shared.filter_map(|cell| self.writers.get(cell)).flatten());
        }
        found.into_iter().collect()
    }
}

/// Gives each step its own part of what was made together, with the check of its own object; the other checks stay with the first.
pub(super) fn parted(made: Vec<SteppedCell>) -> Vec<SteppedCell> {
    let mut made = crate::evolve::joint::parted(made);
    let base = |made: &SteppedCell| ReadCell { cell: made.item.cell.clone(), base: made.base };
    let own: hash::Set<Cell> = made.iter().map(|made| made.item.cell.clone()).collect();
    for made in &mut made {
        let check = base(made);
        if let StepResult::Work { work, .. } = &mut made.made {
            work.read_cells.retain(|check| !own.contains(&check.cell));
            work.read_cells.push(check);
        }
    }
    made
}

/// One draft of all: no two have a cell.
pub(super) fn assemble(tries: &[SteppedCell]) -> Assembly {
    let (mut assembly, mut reads) = (Assembly { taken: tries.len(), ..Assembly::default() }, hash::Map::default());
    for (step, work) in tries.iter().enumerate().filter_map(|(step, made)| Some((step, work(made)?))) {
        let slot = |(cell, staged): (&Cell, &crate::tx::Staged)| {
            let (cell, staged) = (cell.clone(), staged.clone());
            Slot { cell, base: work.base, staged, stamped: false, step }
        };
        assembly.slots.extend(work.cells.iter().map(slot));
        for check in &work.read_cells {
            let base: &mut Tid = reads.entry(&check.cell).or_insert(check.base);
            *base = (*base).min(check.base);
        }
    }
    assembly.read_cells = reads.into_iter().map(|(cell, base)| ReadCell { cell: cell.clone(), base }).collect();
    assembly
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::source::Item;
    use crate::evolve::staged_samples::{cell, put};
    use crate::tx::Share;

    /// A step of an object, with what it wrote beside it.
    fn made(oid: u64, others: &[u64], checks: &[u64]) -> SteppedCell {
        let item = Item { cell: cell(oid), after: None, hot: false, former: None };
        let wrote: Vec<Cell> = [oid].iter().chain(others).map(|oid| cell(*oid)).collect();
        let cells = wrote.iter().map(|cell| (cell.clone(), put("x"))).collect();
        let read_cells = checks.iter().map(|oid| ReadCell { cell: cell(*oid), base: Tid(5) }).collect();
        let share = Some(Share { wrote, reads: false });
        let work = Work { base: Tid(5), cells, read_cells, share, ..Work::default() };
        let made = StepResult::Work { work, stepped: true, changed: true, repaid: None };
        SteppedCell { item, made, base: Tid(5), again: 0, was_bad: false }
    }

    fn cells(oids: &[u64]) -> hash::Set<Cell> {
        oids.iter().map(|oid| cell(*oid)).collect()
    }

    #[test]
    fn what_hangs_together_is_made_again_together() {
        let tries = [made(1, &[20], &[30]), made(2, &[20, 21], &[]), made(3, &[21], &[]), made(4, &[], &[])];
        let joined = Joined::new(&tries, &cells(&[40]));
        for (changed, again) in
            [(&[1][..], &[0, 1, 2][..]), (&[21], &[0, 1, 2]), (&[4], &[3]), (&[30], &[0, 1, 2, 3]), (&[40, 99], &[])]
        {
            assert_eq!(joined.on(&cells(changed)), again, "{changed:?}");
        }
        assert_eq!(
            joined.on_objects(&cells(&[20, 30])),
            [0usize; 0],
            "the server merges these, or says that it cannot"
        );
        assert_eq!(joined.on_objects(&cells(&[3])), [0, 1, 2]);
        assert!(joined.is_apart(&[3]) && joined.is_apart(&[0, 1, 2]) && !joined.is_apart(&[0]));
        let joined = Joined::new(&tries, &cells(&[4]));
        assert_eq!(joined.on(&cells(&[4])), [0, 1, 2, 3], "one has read what the fourth has written");
    }

    #[test]
    fn the_draft_has_each_cell_once_and_checks_each_object_as_of_its_own_step() {
        let mut first = made(1, &[20], &[1, 2, 30]);
        if let StepResult::Work { work, .. } = &mut first.made {
            work.cells.extend([(cell(2), put("x"))]);
        }
        let mut second = made(2, &[20], &[]);
        if let StepResult::Work { work, .. } = &mut second.made {
            work.cells.clear();
        }
        let mut tries = parted(vec![first, second]);
        let again = parted(vec![SteppedCell { base: Tid(9), ..made(3, &[], &[3]) }]);
        tries.extend(again);
        let assembly = assemble(&tries);
        let mut slots: Vec<_> = assembly.slots.iter().map(|slot| slot.cell.clone()).collect();
        slots.sort_unstable();
        assert_eq!(slots, [1, 2, 3, 20].map(cell));
        let base = |oid| assembly.read_cells.iter().find(|check| check.cell == cell(oid)).map(|check| check.base.0);
        assert_eq!([1, 2, 3, 20, 30].map(base), [Some(5), Some(5), Some(9), None, Some(5)]);
    }
}
