//! Owns what prepared drafts hold, looked up by cell and by range.
//!
//! | a draft that | is in the way of one that holds | looked up in |
//! |---|---|---|
//! | writes a cell | this cell, or a range over it | `cells`, `ranges` |
//! | is stamped in a collection | any range of it: the key is not known yet | `ranges` |
//! | is to be prepared, and has read a cell | a write of it | `written` |
//! | the same, a range | a write in it, or a stamped one in its collection | `written`, `stamped` |
//!
//! Everybody's commits pass here, so each question costs about the depth of a tree, whatever all others hold together, and an end costs
//! what that one draft held. For this one draft's ranges are joined where they meet: they cover the same keys.

use super::spans::{End, Spans};
use crate::engine::pipeline::ready::FEW_PART;
use crate::engine::pipeline::wide::WideReads;
use crate::storage::Writes;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use zeolite_proto::{Cell, Oid, ReadRange, hash};

/// Everything that is held.
#[derive(Default)]
pub(super) struct Held {
    /// Cells that may not be written.
    pub(super) cells: hash::Map<Cell, Holders>,
    /// Those of them that will be written, and by whom.
    pub(super) written: BTreeMap<Cell, u64>,
    pub(super) ranges: hash::Map<Oid, Spans>,
    /// Collections in which somebody will write under a stamped key.
    pub(super) stamped: hash::Map<Oid, BTreeSet<u64>>,
    pub(super) drafts: BTreeMap<u64, OfDraft>,
    /// The reads of drafts that have very many of them, which are not among the others.
    pub(super) wide: Vec<(u64, Arc<WideReads>)>,
}

/// Who holds a cell: what is only read may be held by others too.
pub(super) struct Holders {
    by: u64,
    others: BTreeSet<u64>,
}

/// What one draft holds.
#[derive(Default)]
pub(super) struct OfDraft {
    cells: Vec<Cell>,
    ranges: Disjoint,
    stamped: BTreeSet<Oid>,
}

#[cfg(test)]
impl OfDraft {
    pub(super) fn len(&self) -> usize {
        self.cells.len() + self.ranges.0.len() + self.stamped.len()
    }
}

impl Held {
    /// A draft will write this.
    pub(super) fn write(&mut self, id: u64, cell: &Cell, stamped: bool) {
        if stamped {
            // Its key does not exist before its stamp.
            self.stamped.entry(cell.oid).or_default().insert(id);
            self.drafts.entry(id).or_default().stamped.insert(cell.oid);
            return;
        }
        self.read(id, cell);
        self.written.insert(cell.clone(), id);
    }

    /// A draft has read this.
    pub(super) fn read(&mut self, id: u64, cell: &Cell) {
        let is_new = match self.cells.get_mut(cell) {
            Some(holders) => holders.by != id && holders.others.insert(id),
            None => {
                self.cells.insert(cell.clone(), Holders { by: id, others: BTreeSet::new() });
                true
            }
        };
        if is_new {
            self.drafts.entry(id).or_default().cells.push(cell.clone());
        }
    }

    /// A draft has read this range.
    pub(super) fn range(&mut self, id: u64, range: &ReadRange) {
        let of_draft = self.drafts.entry(id).or_default();
        let Some(joined) = of_draft.ranges.add(range) else { return };
        let spans = self.ranges.entry(range.oid).or_default();
        joined.instead_of.iter().for_each(|from| spans.remove(from, id));
        spans.insert(joined.from, joined.to, id);
    }

    /// A draft is over.
    pub(super) fn end(&mut self, id: u64) {
        self.wide.retain(|(of, _)| *of != id);
        let Some(OfDraft { cells, ranges, stamped }) = self.drafts.remove(&id) else { return };
        for cell in cells {
            if self.written.get(&cell) == Some(&id) {
                self.written.remove(&cell);
            }
            let Some(holders) = self.cells.get_mut(&cell) else { continue };
            if holders.by != id {
                holders.others.remove(&id);
            } else if let Some(other) = holders.others.pop_first() {
                holders.by = other;
            } else {
                self.cells.remove(&cell);
            }
        }
        for (oid, from) in ranges.0.into_keys() {
            let Some(spans) = self.ranges.get_mut(&oid) else { continue };
            spans.remove(&from, id);
            if spans.is_empty() {
                self.ranges.remove(&oid);
            }
        }
        for oid in stamped {
            let Some(ids) = self.stamped.get_mut(&oid) else { continue };
            ids.remove(&id);
            if ids.is_empty() {
                self.stamped.remove(&oid);
            }
        }
    }

    /// A draft other than `own` that is in the way of a write.
    pub(super) fn against_write(&self, cell: &Cell, stamped: bool, own: Option<u64>) -> Option<u64> {
        let covers = |wide: &WideReads| match stamped {
            true => wide.is_ranged(cell.oid),
            false => wide.cell(cell).or_else(|| wide.range(cell)).is_some(),
        };
        if let Some((id, _)) = self.wide.iter().find(|(id, wide)| Some(*id) != own && covers(wide)) {
            return Some(*id);
        }
        let spans = || self.ranges.get(&cell.oid);
        if stamped {
            return spans()?.any(own);
        }
        let holders = self.cells.get(cell).into_iter().flat_map(|it| std::iter::once(&it.by).chain(&it.others));
        let by_cell = holders.copied().find(|id| Some(*id) != own);
        // A collection's own record is in no range.
        by_cell.or_else(|| if cell.is_object() { None } else { spans()?.holder(&cell.key, own) })
    }

    /// A draft that is in the way of any of very many sorted writes. What is held is mostly much less: then it is gone over, and looked for in them.
    pub(super) fn against_large(&self, writes: &Writes) -> Option<u64> {
        let each = |cell| self.against_write(cell, false, None);
        if !self.wide.is_empty() || self.cells.len() > writes.len() / FEW_PART {
            return writes.iter().find_map(|write| each(&write.cell));
        }
        let by_cell = self.cells.iter().find(|(cell, _)| writes.place(cell).is_some()).map(|(_, holders)| holders.by);
        by_cell.or_else(|| {
            self.ranges.keys().find_map(|oid| {
                let first = writes.count_until(|cell| cell.oid < *oid);
                writes.sorted(first..writes.len()).take_while(|cell| cell.oid == *oid).find_map(each)
            })
        })
    }

    /// A draft other than `own` that will write what was read.
    pub(super) fn against_read(&self, cell: &Cell, own: Option<u64>) -> Option<u64> {
        self.written.get(cell).copied().filter(|id| Some(*id) != own)
    }

    /// How much others will write.
    pub(super) fn writes(&self) -> usize {
        self.written.len() + self.stamped.len()
    }

    /// A draft that will write anything of very many reads.
    pub(super) fn against_wide(&self, wide: &WideReads) -> Option<u64> {
        let written = self.written.iter().find(|(cell, _)| wide.cell(cell).or_else(|| wide.range(cell)).is_some());
        let stamped = || self.stamped.iter().find(|(oid, _)| wide.is_ranged(**oid));
        written.map(|(_, id)| *id).or_else(|| stamped().and_then(|(_, ids)| ids.first().copied()))
    }

    /// The same of ranges that were read.
    pub(super) fn against_ranges(&self, ranges: &[ReadRange], own: Option<u64>) -> Option<u64> {
        // Joined, so that what `own` writes in them is passed over once.
        let mut disjoint = Disjoint::default();
        ranges.iter().for_each(|range| drop(disjoint.add(range)));
        disjoint.0.iter().find_map(|((oid, from), to)| {
            let mut stamped = self.stamped.get(oid).into_iter().flatten();
            if let Some(other) = stamped.find(|id| Some(**id) != own) {
                return Some(*other);
            }
            let first = Bound::Included(Cell { oid: *oid, key: from.clone() });
            let within = |cell: &Cell| cell.oid == *oid && to.is_behind(&cell.key);
            let written = self.written.range((first, Bound::Unbounded)).take_while(|(cell, _)| within(cell));
            let mut by = written.filter(|(cell, _)| !cell.is_object()).map(|(_, id)| *id);
            by.find(|id| Some(*id) != own)
        })
    }
}

/// Ranges that do not meet: where each begins, and its end.
#[derive(Default)]
struct Disjoint(BTreeMap<(Oid, Bytes), End>);

/// A range that was added, with those that it meets.
struct Joined {
    from: Bytes,
    to: End,
    /// The beginnings of what is part of it now.
    instead_of: Vec<Bytes>,
}

impl Disjoint {
    /// `None`: all of it was there already.
    fn add(&mut self, range: &ReadRange) -> Option<Joined> {
        let oid = range.oid;
        let end = if range.to.is_empty() { End::Never } else { End::Before(range.to.clone()) };
        let mut joined = Joined { from: range.from.clone(), to: end, instead_of: Vec::new() };
        if !joined.to.is_behind(&joined.from) {
            return None;
        }
        if let Some(((_, from), to)) = self.0.range((oid, Bytes::new())..=(oid, joined.from.clone())).next_back()
            && *to >= End::Before(joined.from.clone())
        {
            if *to >= joined.to {
                return None;
            }
            joined.from = from.clone();
        }
        let first = (oid, joined.from.clone());
        while let Some(((at, from), to)) = self.0.range(first.clone()..).next()
            && *at == oid
            && joined.to >= End::Before(from.clone())
        {
            joined.to = joined.to.max(to.clone());
            joined.instead_of.push(from.clone());
            let met = (oid, from.clone());
            self.0.remove(&met);
        }
        self.0.insert(first, joined.to.clone());
        Some(joined)
    }
}
