//! Owns the difference between what the server holds of a draft and what it should hold: the amendment. Pure.

use super::assembly::{Assembly, Slot};
use crate::tx::Staged;
use std::collections::BTreeMap;
use zeolite_proto::{Cell, ReadCell, ReadRange, Tid, hash};

/// What the server holds.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// With what they were made on: bytes that are the same mean something else on another base, where they are merged.
    cells: hash::Map<Cell, (Tid, Staged)>,
    /// Of stamped writes of one collection, all that there are.
    stamped: BTreeMap<Cell, Vec<Staged>>,
    reads: hash::Set<Cell>,
    ranges: hash::Set<ReadRange>,
}

/// What it is to be sent.
#[derive(PartialEq, Debug, Default)]
pub(crate) struct Amendment {
    pub(crate) slots: Vec<Slot>,
    pub(crate) read_cells: Vec<ReadCell>,
    pub(crate) read_ranges: Vec<ReadRange>,
    pub(crate) withdrawn: Vec<Cell>,
}

impl Sent {
    /// The whole assembly was sent.
    pub(crate) fn all(assembly: &Assembly) -> Sent {
        let mut sent = Sent::default();
        sent.amend(assembly, &hash::Set::default());
        sent
    }

    /// Tells what of the assembly is not held as it is, or rests on a stale cell, and counts it as sent. Every stale cell is
    /// in the answer: written, checked or withdrawn.
    pub(crate) fn amend(&mut self, assembly: &Assembly, stale: &hash::Set<Cell>) -> Amendment {
        let mut now = Sent::default();
        for slot in &assembly.slots {
            match slot.stamped {
                true => now.stamped.entry(slot.cell.clone()).or_default().push(slot.staged.clone()),
                false => drop(now.cells.insert(slot.cell.clone(), (slot.base, slot.staged.clone()))),
            }
        }
        now.reads.extend(assembly.read_cells.iter().map(|read| read.cell.clone()));
        now.ranges.extend(assembly.read_ranges.iter().cloned());

        let gone = self.cells.keys().filter(|cell| !now.cells.contains_key(*cell)).cloned();
        let other = self.stamped.iter().filter(|(cell, staged)| now.stamped.get(*cell) != Some(staged));
        let mut withdrawn: hash::Set<Cell> = gone.chain(other.map(|(cell, _)| cell.clone())).collect();
        let unread = |cell: &&Cell| !now.cells.contains_key(*cell) && !now.reads.contains(*cell);
        withdrawn.extend(stale.iter().filter(unread).cloned());

        let anew = |slot: &&Slot| {
            let changed = match slot.stamped {
                true => !self.stamped.contains_key(&slot.cell),
                false => {
                    let held = self.cells.get(&slot.cell);
                    stale.contains(&slot.cell) || held != Some(&(slot.base, slot.staged.clone()))
                }
            };
            changed || withdrawn.contains(&slot.cell)
        };
        let slots = assembly.slots.iter().filter(anew).cloned().collect();
        let unchecked = |read: &&ReadCell| {
            stale.contains(&read.cell) || withdrawn.contains(&read.cell) || !self.reads.contains(&read.cell)
        };
        let read_cells = assembly.read_cells.iter().filter(unchecked).cloned().collect();
        let read_ranges = assembly.read_ranges.iter().filter(|range| !self.ranges.contains(*range)).cloned().collect();
        *self = now;
        let mut withdrawn: Vec<Cell> = withdrawn.into_iter().collect();
        withdrawn.sort_unstable();
        Amendment { slots, read_cells, read_ranges, withdrawn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use zeolite_proto::{Oid, Tid};

    fn cell(oid: u64) -> Cell {
        Cell::object(Oid(oid))
    }

    fn slot(oid: u64, value: &'static str, stamped: bool) -> Slot {
        Slot {
            cell: cell(oid),
            base: Tid(5),
            staged: Staged::Put(Bytes::from_static(value.as_bytes())),
            stamped,
            step: 0,
        }
    }

    fn assembly(slots: &[Slot], reads: &[u64]) -> Assembly {
        let read_cells = reads.iter().map(|oid| ReadCell { cell: cell(*oid), base: Tid(5) }).collect();
        Assembly { slots: slots.to_vec(), read_cells, ..Assembly::default() }
    }

    fn stale(oids: &[u64]) -> hash::Set<Cell> {
        oids.iter().map(|oid| cell(*oid)).collect()
    }

    #[test]
    fn only_what_changed_or_is_stale_goes() {
        let mut sent = Sent::all(&assembly(&[slot(1, "a", false), slot(2, "b", false), slot(3, "c", false)], &[1, 2]));
        let now = assembly(&[slot(1, "a", false), slot(2, "B", false), slot(4, "d", false)], &[1, 2, 8]);
        let amendment = sent.amend(&now, &stale(&[1, 9]));
        assert_eq!(amendment.slots, [slot(1, "a", false), slot(2, "B", false), slot(4, "d", false)]);
        assert_eq!(amendment.read_cells.iter().map(|read| read.cell.oid.0).collect::<Vec<_>>(), [1, 8]);
        assert_eq!(amendment.withdrawn, [cell(3), cell(9)]);
        assert_eq!(sent.amend(&now, &stale(&[])), Amendment::default(), "it is held as it is now");
        let mut newer = now.clone();
        newer.slots[0].base = Tid(6);
        assert_eq!(sent.amend(&newer, &stale(&[])).slots, newer.slots[..1], "another base is another merge");
    }

    #[test]
    fn stamped_writes_of_a_collection_go_together() {
        let mut sent = Sent::all(&assembly(&[slot(1, "a", true), slot(1, "b", true), slot(2, "x", true)], &[]));
        let now = assembly(&[slot(1, "a", true), slot(1, "B", true), slot(1, "own", false), slot(2, "x", true)], &[]);
        let amendment = sent.amend(&now, &stale(&[]));
        assert_eq!(amendment.slots, [slot(1, "a", true), slot(1, "B", true), slot(1, "own", false)]);
        assert_eq!(amendment.withdrawn, [cell(1)]);
    }
}
