//! Owns what a large transaction has published: its sorted writes, with what only its place in the order could tell.

use super::{RevisionKey, Slot, Slots};
use crate::store::kinds::KindId;
use crate::store::log::{Place, Position};
use crate::store::{TxnWrite, Writes};
use bytes::Bytes;
use std::cmp::Ordering;
use std::ops::Bound;
use zeolite_proto::{Cell, Tid};

/// The revisions of one large transaction.
pub(crate) struct Run {
    pub(super) tid: Tid,
    writes: Writes,
    position: Position,
    /// What its records lie behind of other transactions in their batch.
    shift: u32,
    /// The numbers of the kinds of its records.
    kinds: Vec<KindId>,
    kept_bytes_max: usize,
}

impl Run {
    /// Of a transaction whose writes have a run, in a batch at a position.
    pub(super) fn new((tid, writes): (Tid, &Writes), (position, shift): (Position, u32), slots: &Slots<'_>) -> Run {
        let kinds = writes.run().map_or(&[][..], |run| run.kinds());
        let kinds = kinds.iter().map(|kind| slots.kinds.id(&kind.class, kind.version)).collect();
        Run { tid, writes: writes.clone(), position, shift, kinds, kept_bytes_max: slots.kept_bytes_max() }
    }

    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    /// Its cells and what the index is to know of each, as they were written.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Cell, Slot)> {
        self.writes.iter().enumerate().map(|(place, write)| (&write.cell, self.slot(place, write)))
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.writes.iter().map(|write| &write.cell)
    }

    pub(super) fn has(&self, cell: &Cell) -> bool {
        self.writes.place(cell).is_some()
    }

    pub(super) fn find(&self, cell: &Cell) -> Option<Slot> {
        let place = self.writes.place(cell)?;
        Some(self.slot(place, &self.writes[place]))
    }

    /// The revision at a place in their order.
    pub(super) fn at(&self, at: usize) -> Option<(RevisionKey, Slot)> {
        let (place, write) = self.writes.nth(at)?;
        Some((RevisionKey::new(write.cell.clone(), self.tid), self.slot(place, write)))
    }

    /// The first and the end of the places between two keys.
    pub(super) fn between(&self, from: &Bound<RevisionKey>, to: &Bound<RevisionKey>) -> (usize, usize) {
        let compare = |cell: &Cell, key: &RevisionKey| cell.cmp(&key.cell).then((!self.tid.0).cmp(&key.newest_first));
        let before = |key: &RevisionKey| self.writes.count_until(|cell| compare(cell, key) == Ordering::Less);
        let up_to = |key: &RevisionKey| self.writes.count_until(|cell| compare(cell, key) != Ordering::Greater);
        let first = match from {
            Bound::Included(key) => before(key),
            Bound::Excluded(key) => up_to(key),
            Bound::Unbounded => 0,
        };
        let end = match to {
            Bound::Included(key) => up_to(key),
            Bound::Excluded(key) => before(key),
            Bound::Unbounded => self.len(),
        };
        (first, end.max(first))
    }

    fn slot(&self, place: usize, write: &TxnWrite) -> Slot {
        let about = self.writes.run().map(|run| *run.about(place));
        let kind = about.and_then(|about| self.kinds.get(about.kind? as usize).copied());
        let record = about.and_then(|about| about.record);
        let place = record.map(|at| Place::of(self.position, at.behind(self.shift)));
        let kept = |record: &&Bytes| record.len() <= self.kept_bytes_max;
        Slot {
            kind: kind.unwrap_or(KindId::NONE),
            has_refs: about.is_some_and(|about| about.has_refs),
            has_blobs: about.is_some_and(|about| about.has_blobs),
            place,
            record: write.record.as_ref().filter(kept).cloned(),
        }
    }
}

/// Revisions of runs and of the rest, in one order.
pub(super) struct Merged<'r> {
    runs: Vec<Cursor<'r>>,
    reverse: bool,
}

struct Cursor<'r> {
    run: &'r Run,
    /// What is left of it.
    left: (usize, usize),
    head: Option<(RevisionKey, Slot)>,
}

impl<'r> Merged<'r> {
    pub(super) fn new(
        runs: impl Iterator<Item = &'r Run>,
        (from, to): (&Bound<RevisionKey>, &Bound<RevisionKey>),
        reverse: bool,
    ) -> Merged<'r> {
        let cursor = |run: &'r Run| {
            let mut cursor = Cursor { run, left: run.between(from, to), head: None };
            cursor.step(reverse);
            cursor
        };
        Merged { runs: runs.map(cursor).collect(), reverse }
    }

    /// The next of theirs that comes before this one of the rest (`None`: the rest is over).
    pub(super) fn next_before(&mut self, other: Option<&RevisionKey>) -> Option<(RevisionKey, Slot)> {
        let reverse = self.reverse;
        let in_order = |a: &RevisionKey, b: &RevisionKey| if reverse { b.cmp(a) } else { a.cmp(b) };
        let heads = self.runs.iter().enumerate().filter_map(|(at, cursor)| Some((at, &cursor.head.as_ref()?.0)));
        let (at, first) = heads.min_by(|(_, a), (_, b)| in_order(a, b))?;
        if other.is_some_and(|other| in_order(other, first) == Ordering::Less) {
            return None;
        }
        let cursor = &mut self.runs[at];
        let next = cursor.head.take();
        cursor.step(reverse);
        next
    }
}

impl Cursor<'_> {
    fn step(&mut self, reverse: bool) {
        let (first, end) = &mut self.left;
        let at = match (*first < *end, reverse) {
            (false, _) => return,
            (true, false) => {
                *first += 1;
                *first - 1
            }
            (true, true) => {
                *end -= 1;
                *end
            }
        };
        self.head = self.run.at(at);
    }
}
