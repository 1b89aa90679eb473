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
use crate::engine::pipeline::yields::{IN_RANGE_MAX, Pass};
use crate::storage::{Read, Revision};
use bytes::Bytes;
use zeolite_proto::{Cell, Change, Draft, Fault, Limits, Priority, ReadRange, Tid, Write, hash};

/// So many parts are looked up together.
const LIST_PARTS: usize = 4096;

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
    /// What a live draft may pass over.
    pub(crate) passes: hash::Map<Cell, Pass>,
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
    /// Nothing up to here is newer than what any write was made on: of a draft that was made ready.
    clear_to: Option<Tid>,
}

impl LookedAhead {
    /// What is known of a part.
    pub(crate) fn of(&self, part: Part) -> Option<&Seen> {
        self.seen.get(&part)
    }

    /// Nothing up to a tid is newer than what any write was made on.
    pub(crate) fn set_clear_to(&mut self, tid: Tid) {
        self.clear_to = Some(tid);
    }

    /// Whether that is known of the writes up to a tid.
    pub(crate) fn is_clear_to(&self, tid: Tid) -> bool {
        self.clear_to.is_some_and(|clear_to| clear_to >= tid)
    }

    /// What checks pass over.
    pub(crate) fn passed_checks(&self) -> impl Iterator<Item = &Pass> {
        let checks = self.seen.iter().filter(|(part, _)| !matches!(part, Part::Write(_)));
        checks.flat_map(|(_, seen)| seen.passes.values())
    }

    /// Records are brought as long as they are no more than a draft may be.
    fn add(&mut self, part: Part, seen: Seen, limits: &Limits) -> Result<(), Fault> {
        let head = seen.head.as_ref().and_then(|head| head.1.as_ref());
        let base = seen.base.as_ref().and_then(|base| base.0.as_ref().ok()?.as_ref());
        self.bytes += head.map_or(0, Bytes::len) + base.map_or(0, Bytes::len);
        self.seen.insert(part, seen);
        if self.bytes > bytes_max(limits) { Err(too_large(limits)) } else { Ok(()) }
    }

    /// How many more bytes may be brought.
    fn room(&self, limits: &Limits) -> usize {
        bytes_max(limits).saturating_sub(self.bytes) + 1
    }
}

impl Engine {
    /// What a draft needs of the store, as far as that can be told before its turn: older bases than the sequencer remembers,
    /// and operations.
    pub(super) fn look_ahead(&self, draft: &Draft) -> Result<LookedAhead, Fault> {
        let floor = self.pipeline.recent_floor();
        let old = |write: &Write| matches!(write.change, Change::Apply { .. }) || write.base < floor;
        let writes = draft.writes.iter().enumerate().filter(|(_, write)| !write.stamped && old(write));
        let reads = draft.read_cells.iter().enumerate().filter(|(_, read)| read.base < floor);
        let ranges = draft.read_ranges.iter().enumerate().filter(|(_, range)| range.base < floor);
        let parts = writes.map(|(position, _)| Part::Write(position));
        let parts = parts.chain(reads.map(|(position, _)| Part::Read(position)));
        let parts: Vec<Part> = parts.chain(ranges.map(|(position, _)| Part::Range(position))).collect();
        let mut ahead = LookedAhead::default();
        self.look(draft, &parts, Depth::Store, &mut ahead)?;
        Ok(ahead)
    }

    /// Looks up some parts, in lists: the store reads each in its own order.
    pub(super) fn look(
        &self,
        draft: &Draft,
        parts: &[Part],
        depth: Depth,
        ahead: &mut LookedAhead,
    ) -> Result<(), Fault> {
        for parts in parts.chunks(LIST_PARTS) {
            // Asked before the reads: what becomes visible meanwhile may be seen or not.
            let at = self.visible();
            let live = draft.priority == Priority::Live;
            let mut list = List { engine: self, reader: self.reader(), limits: self.limits(), live, parts: Vec::new() };
            for part in parts {
                list.ask(draft, *part)?;
            }
            list.compare(depth)?;
            list.bring(at, ahead)?;
        }
        Ok(())
    }
}

/// Parts that are looked up together.
struct List<'a> {
    engine: &'a Engine,
    reader: &'a dyn Read,
    limits: &'a Limits,
    /// A live draft passes over what yields.
    live: bool,
    parts: Vec<Asked>,
}

/// One of them.
struct Asked {
    part: Part,
    cell: Cell,
    /// What it is compared with; an operation is made on whatever there is.
    base: Option<Tid>,
    /// Whether the head is wanted, and whether the record that the base saw is.
    wants: (bool, bool),
    hit: Option<(Cell, Tid)>,
    passes: hash::Map<Cell, Pass>,
}

impl List<'_> {
    fn ask(&mut self, draft: &Draft, part: Part) -> Result<(), Fault> {
        let of = |cell: &Cell, base, head| {
            let (wants, hit, passes) = ((head, false), None, hash::Map::default());
            Asked { part, cell: cell.clone(), base, wants, hit, passes }
        };
        self.parts.extend(match part {
            Part::Write(position) => draft.writes.get(position).map(|write| {
                let blind = matches!(write.change, Change::Apply { .. });
                of(&write.cell, (!blind).then_some(write.base), blind)
            }),
            Part::Read(position) => draft.read_cells.get(position).map(|read| of(&read.cell, Some(read.base), false)),
            Part::Range(position) => match draft.read_ranges.get(position) {
                Some(range) => Some(self.ask_range(part, range)?),
                None => None,
            },
        });
        Ok(())
    }

    fn ask_range(&self, part: Part, range: &ReadRange) -> Result<Asked, Fault> {
        let (mut from, mut passes) = (range.from.clone(), hash::Map::default());
        let hit = loop {
            let hit = self.reader.newest_in_range(range.oid, &from, &range.to, range.base).map_err(fault_of)?;
            let Some((cell, tid)) = hit else { break None };
            let may = self.live && passes.len() < IN_RANGE_MAX;
            match if may { self.engine.pass(&cell, range.base, tid)? } else { None } {
                None => break Some((cell, tid)),
                Some(pass) => {
                    from = key_after(&cell.key);
                    passes.insert(cell, pass);
                }
            }
        };
        let cell = hit.as_ref().map_or(Cell::object(range.oid), |(cell, _)| cell.clone());
        Ok(Asked { part, cell, base: None, wants: (hit.is_some(), false), hit, passes })
    }

    /// What is newer than its base is wanted; of a write, the base as well.
    fn compare(&mut self, depth: Depth) -> Result<(), Fault> {
        let compared = self.parts.iter().filter_map(|asked| Some((asked.cell.clone(), asked.base?)));
        let newer = self.reader.newer_many(&compared.collect::<Vec<_>>()).map_err(fault_of)?;
        let compared = self.parts.iter_mut().filter_map(|asked| Some((asked.base?, asked)));
        for ((base, asked), newer) in compared.zip(newer) {
            let has_base = matches!(asked.part, Part::Write(_)) && base != Tid::NONE;
            asked.wants = (newer.is_some(), has_base && (newer.is_some() || depth == Depth::All));
            if let Some(newest) = newer.filter(|_| self.live) {
                let pass = self.engine.pass(&asked.cell, base, newest)?;
                asked.passes.extend(pass.map(|pass| (asked.cell.clone(), pass)));
            }
        }
        Ok(())
    }

    fn bring(self, at: Tid, ahead: &mut LookedAhead) -> Result<(), Fault> {
        let heads: Vec<Cell> = self.parts.iter().filter(|one| one.wants.0).map(|one| one.cell.clone()).collect();
        let bases = self.parts.iter().filter(|one| one.wants.1);
        let bases: Vec<_> = bases.filter_map(|one| Some((one.cell.clone(), one.base?))).collect();
        let mut heads = self.reader.heads(&heads, ahead.room(self.limits)).map_err(fault_of)?.into_iter();
        let mut bases = self.reader.as_of_many(&bases, ahead.room(self.limits)).map_err(fault_of)?.into_iter();
        for Asked { part, wants, hit, passes, .. } in self.parts {
            // An answer that is shorter than the question was too large.
            let head = if wants.0 { Some(heads.next().ok_or_else(|| too_large(self.limits))?) } else { None };
            let head = head.map(|head| head.map_or((Tid::NONE, None), |head| (head.tid, head.record)));
            let base = if wants.1 { Some(bases.next().ok_or_else(|| too_large(self.limits))?) } else { None };
            let record = |base: Option<Revision>| base.and_then(|base| base.record);
            let base = base.map(|base| BaseRecord(base.map(record).map_err(fault_of)));
            ahead.add(part, Seen { at, head, hit, base, passes }, self.limits)?;
        }
        Ok(())
    }
}

/// The least key behind another one.
fn key_after(key: &Bytes) -> Bytes {
    [key, &b"\0"[..]].concat().into()
}

/// Twice a draft: what is there and what a draft was made on.
fn bytes_max(limits: &Limits) -> usize {
    2 * limits.draft_bytes_max
}

fn too_large(limits: &Limits) -> Fault {
    let max = bytes_max(limits);
    Fault::too_large("size of the records that the draft is to be merged with", max + 1, max)
}
