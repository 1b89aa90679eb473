//! Owns the dependents: which steps rest on which cells, so that a change of one cell among a hundred thousand steps leads to the
//! few that must be made again. Pure.

use super::stepping::{StepResult, SteppedCell};
use crate::tx::{Staged, Work};
use std::collections::BTreeSet;
use zeolite_proto::{Cell, ReadRange, hash};

/// Steps by what they have read and written; by their places in the plan.
#[derive(Debug, Default)]
pub(crate) struct Dependents {
    cells: hash::Map<Cell, Vec<usize>>,
    ranges: Vec<(ReadRange, usize)>,
}

impl Dependents {
    /// Adds what a step rests on. What it rested on before it was made again stays: at worst it is made again in vain.
    pub(crate) fn add(&mut self, at: usize, made: &SteppedCell) {
        let StepResult::Work { work, .. } = &made.made else {
            return self.rest(made.item.cell.clone(), at);
        };
        for (cell, staged) in &work.cells {
            if !matches!(staged, Staged::Apply { .. }) {
                self.rest(cell.clone(), at);
            }
        }
        self.add_reads(at, work);
    }

    fn add_reads(&mut self, at: usize, work: &Work) {
        for check in &work.read_cells {
            self.rest(check.cell.clone(), at);
        }
        self.ranges.extend(work.read_ranges.iter().map(|range| (range.clone(), at)));
    }

    fn rest(&mut self, cell: Cell, at: usize) {
        let steps = self.cells.entry(cell).or_default();
        // A cell that is read and then written comes twice in a row.
        if steps.last() != Some(&at) {
            steps.push(at);
        }
    }

    /// The steps that a change of these cells makes wrong, in order.
    pub(crate) fn on<'c>(&self, cells: impl IntoIterator<Item = &'c Cell>) -> Vec<usize> {
        let mut steps = BTreeSet::new();
        for cell in cells {
            steps.extend(self.cells.get(cell).into_iter().flatten().copied());
            steps.extend(self.ranges.iter().filter(|(range, _)| range.covers(cell)).map(|(_, at)| *at));
        }
        steps.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::source::Item;
    use zeolite_proto::{Oid, ReadCell, Tid};

    fn made(oid: u64, work: Option<Work>) -> SteppedCell {
        let item = Item { cell: Cell::object(Oid(oid)), after: None, hot: false, former: None };
        let made = work.map_or(StepResult::FoundDone, |work| StepResult::Work {
            work,
            stepped: true,
            changed: true,
            repaid: None,
        });
        SteppedCell { item, made, base: Tid(5), again: 0, was_bad: false }
    }

    #[test]
    fn a_changed_cell_leads_to_its_readers_and_writers_but_not_to_those_that_only_add_to_it() {
        let cell = |oid| Cell::object(Oid(oid));
        let mut work = Work::default();
        work.cells.insert(cell(1), Staged::Delete);
        work.cells.insert(cell(9), Staged::Apply { class: "Counter".into(), operations: Vec::new() });
        work.read_cells = vec![ReadCell { cell: cell(1), base: Tid(5) }, ReadCell { cell: cell(8), base: Tid(5) }];
        work.read_ranges = vec![ReadRange { oid: Oid(7), from: "a".into(), to: "c".into(), base: Tid(5) }];
        let mut dependents = Dependents::default();
        dependents.add(0, &made(3, None));
        dependents.add(1, &made(1, Some(work)));
        assert_eq!(dependents.on([&cell(1)]), [1]);
        assert_eq!(dependents.on([&cell(8), &cell(3)]), [0, 1]);
        assert_eq!(dependents.on([&Cell::entry(Oid(7), "b")]), [1]);
        assert_eq!(dependents.on([&Cell::entry(Oid(7), "c"), &cell(9)]), [0usize; 0]);
    }
}
