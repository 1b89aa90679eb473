//! Owns the view of the newest state, sealed drafts included: recent writes, what was looked up for the draft, the store's memory.
//!
//! The check of a draft is a question to this view: is there a revision of this cell (of any cell in this range) newer
//! than the base? What none of the three has is [`Unknown`]: it is looked up elsewhere, and the draft comes back.

use crate::engine::pipeline::ahead::{HeadRecord, LookedAhead, Part, Seen};
use crate::engine::pipeline::recent::{Kept, Recent};
use crate::engine::pipeline::wide::WideReads;
use crate::storage::Read;
use bytes::Bytes;
use zeolite_proto::{Cell, Draft, Fault, ReadRange, Tid};

/// What is remembered, for the check of one draft.
pub(crate) struct HeadView<'a> {
    pub(crate) recent: &'a Recent,
    pub(crate) reader: &'a dyn Read,
    pub(crate) ahead: &'a LookedAhead,
}

/// Only the disk knows.
#[derive(Debug)]
pub(crate) struct Unknown;

/// Why a base is not told.
#[derive(Debug)]
pub(crate) enum NoBase {
    Unknown,
    Fault(Fault),
}

impl From<Unknown> for NoBase {
    fn from(_: Unknown) -> NoBase {
        NoBase::Unknown
    }
}

impl HeadView<'_> {
    /// The newest revision of the cell if it is newer than `base`.
    pub(crate) fn newer(&self, part: Part, cell: &Cell, base: Tid) -> Result<Option<Tid>, Unknown> {
        if let Some(newest) = self.recent.newest(cell) {
            return Ok(Some(newest).filter(|newest| *newest > base));
        }
        if base >= self.recent.floor() {
            return Ok(None);
        }
        if matches!(part, Part::Write(_)) && self.ahead.is_clear_to(self.recent.floor()) {
            return Ok(None);
        }
        if let Some(seen) = self.seen(part) {
            return Ok(seen.head.as_ref().map(|head| head.0).filter(|tid| *tid > base));
        }
        match self.reader.peek(cell, Tid::MAX).ok_or(Unknown)? {
            Some(newest) => Ok(Some(newest.tid).filter(|tid| *tid > base)),
            // Nothing at all may mean that it was packed.
            None if base == Tid::NONE || base >= self.reader.packed_to() => Ok(None),
            None => Err(Unknown),
        }
    }

    /// The first cell of the range with a revision newer than the range's base, but for those that are passed over.
    pub(crate) fn newer_in_range(
        &self,
        part: Part,
        range: &ReadRange,
        passed: &dyn Fn(&Cell, Tid) -> bool,
    ) -> Result<Option<(Cell, Tid)>, Unknown> {
        if let Some((cell, tid)) = self.recent.first_in_range(range, passed) {
            return Ok(Some((cell.clone(), tid)));
        }
        if range.base >= self.recent.floor() {
            return Ok(None);
        }
        self.seen(part).map(|seen| seen.hit.clone()).ok_or(Unknown)
    }

    /// Whether all that is newer than any of very many reads is remembered, and less than these.
    pub(crate) fn knows_few_behind(&self, wide: &WideReads) -> bool {
        wide.oldest() >= self.recent.floor() && self.recent.count_behind(wide.oldest()) < wide.len()
    }

    /// What is newer than each of very many reads, in the order of the reads, then of the ranges; of a range the first that is not
    /// passed over.
    pub(crate) fn newer_of_many(
        &self,
        wide: &WideReads,
        draft: &Draft,
        passed: &dyn Fn(Part, &Cell, Tid) -> bool,
    ) -> impl Iterator<Item = (Part, &Cell, Tid)> {
        let passed = |at: usize, cell: &Cell, tid| passed(Part::Range(at), cell, tid);
        let (cells, ranges) = self.recent.newer_of_many(wide, &draft.read_cells, &draft.read_ranges, &passed);
        let cells = cells.into_iter().map(|(at, (cell, tid))| (Part::Read(at), cell, tid));
        cells.chain(ranges.into_iter().map(|(at, (cell, tid))| (Part::Range(at), cell, tid)))
    }

    /// The newest revision of the cell, whatever it is.
    pub(crate) fn newest(&self, part: Part, cell: &Cell) -> Result<HeadRecord, Unknown> {
        let seen = self.ahead.of(part).and_then(|seen| seen.head.as_ref().map(|head| (seen.at, head)));
        if let Some(head) = self.recent.head(cell) {
            return match (head.record, seen) {
                (Kept::Here(record), _) => Ok((head.tid, record)),
                (Kept::Stored, Some((_, seen))) if seen.0 == head.tid => Ok(seen.clone()),
                (Kept::Stored, _) => {
                    let stored = self.reader.peek(cell, head.tid).flatten().filter(|stored| stored.tid == head.tid);
                    stored.map(|stored| (stored.tid, stored.record)).ok_or(Unknown)
                }
            };
        }
        match seen {
            Some((at, head)) if at >= self.recent.floor() => Ok(head.clone()),
            _ => {
                let newest = self.reader.peek(cell, Tid::MAX).ok_or(Unknown)?;
                Ok(newest.map_or((Tid::NONE, None), |newest| (newest.tid, newest.record)))
            }
        }
    }

    /// The record of the cell as of a base.
    pub(crate) fn as_of(&self, part: Part, cell: &Cell, base: Tid) -> Result<Option<Bytes>, NoBase> {
        if let Some(known) = self.ahead.of(part).and_then(|seen| seen.base.as_ref()) {
            return known.0.clone().map_err(NoBase::Fault);
        }
        match self.reader.peek(cell, base).ok_or(Unknown)? {
            Some(revision) => Ok(revision.record),
            None if base >= self.reader.packed_to() => Ok(None),
            None => Err(NoBase::Unknown),
        }
    }

    // Everything sealed after what was seen is remembered.
    fn seen(&self, part: Part) -> Option<&Seen> {
        self.ahead.of(part).filter(|seen| seen.at >= self.recent.floor())
    }
}
