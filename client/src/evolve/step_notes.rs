//! Owns what the note of a chunk says of its steps: which writes of the commit each has made. Pure.

use super::assembly::Slot;
use super::stepping::{StepResult, SteppedCell};
use crate::tx::{Share, Staged, Work};
use bytes::Bytes;
use zeolite_proto::evolve::{OperationNote, StepNote, SteppedNote};
use zeolite_proto::{Cell, hash};

/// The steps of a chunk that wrote something; none, if it cannot be told.
pub(crate) fn step_notes(slots: &[Slot], taken: &[SteppedCell]) -> (Vec<StepNote>, Vec<OperationNote>) {
    let mut told = StepNotes::new(slots);
    let steps = taken.iter().enumerate().filter_map(|(step, made)| told.of(step, made)).collect();
    (steps, told.operations)
}

/// Whether a step has read more than its cell and what it writes: what a live draft writes there may make another step of it.
fn reads_elsewhere(work: &Work, own: &Cell) -> bool {
    let is_own =
        |cell: &Cell| cell == own || work.cells.get(cell).is_some_and(|staged| !matches!(staged, Staged::Apply { .. }));
    !work.read_ranges.is_empty() || work.read_cells.iter().any(|read| !is_own(&read.cell))
}

struct StepNotes<'s> {
    places: hash::Map<&'s Cell, u32>,
    /// Of writes whose keys the server completes: by their step.
    stamped: hash::Map<usize, Vec<u32>>,
    operations: Vec<OperationNote>,
    numbers: hash::Map<OperationNote, u32>,
}

impl<'s> StepNotes<'s> {
    fn new(slots: &'s [Slot]) -> StepNotes<'s> {
        let (mut places, mut stamped): (hash::Map<&Cell, u32>, hash::Map<usize, Vec<u32>>) = Default::default();
        for (place, slot) in slots.iter().enumerate() {
            match slot.stamped {
                true => stamped.entry(slot.step).or_default().push(place as u32),
                false => drop(places.insert(&slot.cell, place as u32)),
            }
        }
        StepNotes { places, stamped, operations: Vec::new(), numbers: hash::Map::default() }
    }

    fn of(&mut self, step: usize, made: &SteppedCell) -> Option<StepNote> {
        let StepResult::Work { work, repaid, .. } = &made.made else { return None };
        if let Some(share) = &work.share {
            return self.of_share(&made.item.cell, share);
        }
        let mut note = StepNote {
            of: SteppedNote::Cell(made.item.cell.oid.0, made.item.cell.key.to_vec()),
            writes: self.stamped.remove(&step).unwrap_or_default(),
            applied: Vec::new(),
            reads: reads_elsewhere(work, &made.item.cell),
            after: repaid.iter().filter_map(|repaid| repaid.chunk).map(|chunk| chunk.0).collect(),
        };
        // What was only taken back is no step's.
        let taken_back = |cell: &Cell, staged: &Staged| {
            repaid.as_ref().is_some_and(|repaid| repaid.staged.get(cell) == Some(staged))
        };
        for (cell, staged) in work.cells.iter().filter(|(cell, staged)| !taken_back(cell, staged)) {
            let Some(place) = self.places.get(cell).copied() else { continue };
            match staged {
                Staged::Put(_) | Staged::Delete => note.writes.push(place),
                Staged::Apply { class, operations } => {
                    let taken_back = repaid.as_ref().and_then(|repaid| repaid.staged.get(cell));
                    let taken_back =
                        if let Some(Staged::Apply { operations, .. }) = taken_back { operations.len() } else { 0 };
                    let numbers = operations.iter().skip(taken_back).map(|operation| self.number(class, operation));
                    note.applied.extend(numbers.map(|number| (place, number)));
                }
            }
            if *cell == made.item.cell {
                note.of = SteppedNote::Written(place);
            }
        }
        // One that was only taken back is told as well: then what is written for it yields, and no undo brings it back.
        (!note.writes.is_empty() || !note.applied.is_empty() || !note.after.is_empty()).then_some(note)
    }

    /// Of one that was made together with others.
    fn of_share(&self, own: &Cell, share: &Share) -> Option<StepNote> {
        let writes: Vec<u32> = share.wrote.iter().filter_map(|cell| self.places.get(cell).copied()).collect();
        let of = match self.places.get(own).filter(|_| share.wrote.contains(own)) {
            Some(place) => SteppedNote::Written(*place),
            None => SteppedNote::Cell(own.oid.0, own.key.to_vec()),
        };
        let (applied, after) = Default::default();
        (!writes.is_empty()).then_some(StepNote { of, writes, applied, reads: share.reads, after })
    }

    fn number(&mut self, class: &str, operation: &Bytes) -> u32 {
        let operation = OperationNote { class: class.to_owned(), operation: operation.to_vec() };
        *self.numbers.entry(operation).or_insert_with_key(|operation| {
            self.operations.push(operation.clone());
            self.operations.len() as u32 - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::assembly::assemble;
    use crate::evolve::earlier::Repaid;
    use crate::evolve::source::Item;
    use crate::evolve::staged_samples::{add, cell, put};
    use zeolite_proto::Tid;

    fn made(oid: u64, writes: &[(u64, Staged)], repaid: Option<Repaid>) -> SteppedCell {
        let item = Item { cell: cell(oid), after: None, hot: false, former: None };
        let cells = writes.iter().map(|(oid, staged)| (cell(*oid), staged.clone())).collect();
        let work = Work { base: Tid(5), cells, ..Work::default() };
        let made = StepResult::Work { work, stepped: true, changed: true, repaid };
        SteppedCell { item, made, base: Tid(5), again: 0, was_bad: false }
    }

    fn told(tries: &[SteppedCell]) -> (Vec<StepNote>, Vec<OperationNote>, Vec<Cell>) {
        let works = tries.iter().map(|made| match &made.made {
            StepResult::Work { work, .. } => Some(work),
            _ => None,
        });
        let assembly = assemble(works);
        let (steps, operations) = step_notes(&assembly.slots, tries);
        (steps, operations, assembly.slots.into_iter().map(|slot| slot.cell).collect())
    }

    #[test]
    fn each_step_knows_its_writes_and_equal_operations_are_told_once() {
        let tries = [
            made(1, &[(1, put("a")), (9, add("+1"))], None),
            made(2, &[(7, put("entry")), (9, add("+1"))], None),
            made(3, &[], None),
        ];
        let (steps, operations, cells) = told(&tries);
        assert_eq!(cells, [1, 7, 9].map(cell));
        let note = |of, writes| StepNote { of, writes, applied: vec![(2, 0)], reads: false, after: Vec::new() };
        assert_eq!(steps, [note(SteppedNote::Written(0), vec![0]), note(SteppedNote::Cell(2, Vec::new()), vec![1])]);
        assert_eq!(operations.len(), 1);
    }

    #[test]
    fn what_was_only_taken_back_is_not_the_steps() {
        let staged = [(cell(7), Staged::Delete), (cell(8), put("before"))].into_iter().collect();
        let repaid = Repaid { chunk: Some(Tid(4)), changed: true, owed: Vec::new(), staged };
        let tries = [made(1, &[(1, put("a")), (7, Staged::Delete), (8, put("after"))], Some(repaid))];
        let (steps, _, cells) = told(&tries);
        assert_eq!(cells, [1, 7, 8].map(cell));
        assert_eq!((&steps[0].writes[..], &steps[0].after[..]), (&[0, 2][..], &[4][..]));
        let staged = [(cell(9), add("-1"))].into_iter().collect();
        let repaid = Repaid { chunk: Some(Tid(4)), changed: true, owed: Vec::new(), staged };
        let (steps, _, cells) = told(&[made(1, &[(9, add("-1"))], Some(repaid))]);
        assert_eq!((cells.len(), steps.len(), steps[0].places().count(), steps[0].after.len()), (1, 1, 0, 1));
    }
}
