//! Owns the look ahead: what is read of the store for a draft, so that the sequencer, for which everybody waits, never reads it.
//!
//! ```text
//!   caller's task    base older than what the sequencer remembers, or an operation: the heads are looked up, in parallel with all
//!   sequencer        what it remembers, then what was looked up, then the store's memory; what none of them has is asked for
//!   mergers          look that up, and send the draft back
//! ```
//! What was looked up holds as of a tid; it decides only while the sequencer remembers everything that was sealed after that tid.

use crate::engine::Engine;
use crate::engine::faults::fault_of;
use bytes::Bytes;
use zeolite_proto::{Cell, Change, Draft, Fault, Limits, ReadRange, Tid, Write, hash};

/// One part of a draft, by its position.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Part {
    Write(usize),
    Read(usize),
    Range(usize),
}

/// The newest revision of a cell: its tid ([`Tid::NONE`]: never written) and record.
pub(crate) type HeadRecord = (Tid, Option<Bytes>);

/// What was looked up for one part.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// It was so as of this tid.
    pub(crate) at: Tid,
    /// What is newer than the part's base, or of an operation whatever there is.
    pub(crate) head: Option<HeadRecord>,
    /// Of a range: the first cell with something newer than its base.
    pub(crate) hit: Option<(Cell, Tid)>,
    /// The record that the base saw, or why it cannot be told, if a merge may want it.
    pub(crate) base: Option<BaseRecord>,
}

/// The record as of a base (`None` within: it did not exist), or the fault of a base that was packed.
#[derive(Clone, Debug)]
pub(crate) struct BaseRecord(pub(crate) Result<Option<Bytes>, Fault>);

/// How much is looked up of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// What the store has newer; if there is something, the base as well.
    Store,
    /// The base in any case: what is newer may be sealed only.
    All,
}

/// All that was looked up for a draft; most drafts need nothing.
#[derive(Default)]
pub(crate) struct LookedAhead {
    seen: hash::Map<Part, Seen>,
    bytes: usize,
}

impl LookedAhead {
    /// What is known of a part.
    pub(crate) fn of(&self, part: Part) -> Option<&Seen> {
        self.seen.get(&part)
    }

    /// Records are brought as long as they are no more than a draft may be.
    fn add(&mut self, part: Part, seen: Seen, limits: &Limits) -> Result<(), Fault> {
        let head = seen.head.as_ref().and_then(|head| head.1.as_ref());
        let base = seen.base.as_ref().and_then(|base| base.0.as_ref().ok()?.as_ref());
        self.bytes += head.map_or(0, Bytes::len) + base.map_or(0, Bytes::len);
        self.seen.insert(part, seen);
        // Twice: what is there and what a draft was made on.
        let max = 2 * limits.draft_bytes_max;
        if self.bytes > max {
            return Err(Fault::too_large("size of the records that the draft is to be merged with", self.bytes, max));
        }
        Ok(())
    }
}

impl Engine {
    /// What a draft needs of the store, as far as that can be told before its turn: older bases than the sequencer remembers,
    /// and operations.
    pub(super) fn look_ahead(&self, draft: &Draft) -> Result<LookedAhead, Fault> {
        let floor = self.pipeline.recent_floor();
        let mut ahead = LookedAhead::default();
        for (position, write) in draft.writes.iter().enumerate().filter(|(_, write)| !write.stamped) {
            if matches!(write.change, Change::Apply { .. }) || write.base < floor {
                self.look(draft, Part::Write(position), Depth::Store, &mut ahead)?;
            }
        }
        for (position, _) in draft.read_cells.iter().enumerate().filter(|(_, read)| read.base < floor) {
            self.look(draft, Part::Read(position), Depth::Store, &mut ahead)?;
        }
        for (position, _) in draft.read_ranges.iter().enumerate().filter(|(_, range)| range.base < floor) {
            self.look(draft, Part::Range(position), Depth::Store, &mut ahead)?;
        }
        Ok(ahead)
    }

    /// Looks up one part.
    pub(super) fn look(&self, draft: &Draft, part: Part, depth: Depth, ahead: &mut LookedAhead) -> Result<(), Fault> {
        // Asked before the reads: what becomes visible meanwhile may be seen or not.
        let at = self.visible();
        let seen = match part {
            Part::Write(position) => draft.writes.get(position).map(|write| self.look_at_write(write, at, depth)),
            Part::Read(position) => {
                draft.read_cells.get(position).map(|read| self.look_at_read(&read.cell, read.base, at))
            }
            Part::Range(position) => draft.read_ranges.get(position).map(|range| self.look_at_range(range, at)),
        };
        match seen.transpose()? {
            Some(seen) => ahead.add(part, seen, self.limits()),
            None => Ok(()),
        }
    }

    fn look_at_write(&self, write: &Write, at: Tid, depth: Depth) -> Result<Seen, Fault> {
        if matches!(write.change, Change::Apply { .. }) {
            return Ok(Seen { at, head: Some(self.head(&write.cell)?), hit: None, base: None });
        }
        let newer = self.reader().newer(&write.cell, write.base).map_err(fault_of)?;
        let wants_base = write.base != Tid::NONE && (newer.is_some() || depth == Depth::All);
        let base = wants_base.then(|| {
            let base = self.reader().as_of(&write.cell, write.base).map_err(fault_of);
            BaseRecord(base.map(|base| base.and_then(|base| base.record)))
        });
        let head = newer.map(|_| self.head(&write.cell)).transpose()?;
        Ok(Seen { at, head, hit: None, base })
    }

    fn look_at_read(&self, cell: &Cell, base: Tid, at: Tid) -> Result<Seen, Fault> {
        let newer = self.reader().newer(cell, base).map_err(fault_of)?;
        let head = newer.map(|_| self.head(cell)).transpose()?;
        Ok(Seen { at, head, hit: None, base: None })
    }

    fn look_at_range(&self, range: &ReadRange, at: Tid) -> Result<Seen, Fault> {
        let hit = self.reader().newest_in_range(range.oid, &range.from, &range.to, range.base).map_err(fault_of)?;
        let head = hit.as_ref().map(|(cell, _)| self.head(cell)).transpose()?;
        Ok(Seen { at, head, hit, base: None })
    }

    fn head(&self, cell: &Cell) -> Result<HeadRecord, Fault> {
        let newest = self.reader().get(cell, Tid::MAX).map_err(fault_of)?;
        Ok(newest.map_or((Tid::NONE, None), |revision| (revision.tid, revision.record)))
    }
}
