//! Owns yielding: a chunk of an evolve never makes a live writer lose, with or without a resolver.
//!
//! ```text
//!   x:  b ───────────── c (chunk, yields) ───────────── t (live, made on b)
//!                                                        commits x as if c had not written it,
//!                                                        and in the same transaction: the job owes (c, x)
//! ```
//! Rules:
//! - what a chunk writes *yields*, if its note tells its steps (`zeolite_proto::evolve::ChunkNote`): whoever knows the revision
//!   just before it may act as though he knew this one. A read check passes over it, a range check too, and a write goes over it;
//! - a serializable draft that passes a check over what a step wrote comes before that step: the job owes the step if the draft
//!   writes the object that was stepped, or anything at all where the step has read more than that;
//! - only a *live* draft does: another chunk, the undo of an evolve, an import are of batch priority, and conflict as ever;
//! - a write that goes over says so in the ledger of the chunk's job, in its own transaction: a worker takes back what the step
//!   had written elsewhere (index entries, counters), and steps the object anew. So whatever is killed when, nothing is forgotten;
//! - a resolver that can merge goes first; except where old code brings an object back to its older shape, and the step has written
//!   elsewhere too: old code knows nothing of that;
//! - nothing is owed where a resolver has merged what a step wrote beside its object, or a live draft itself brings an object to the
//!   newer shape of which nothing else follows. Whoever wrote an object has seen it before its step, and has done elsewhere what
//!   belongs to that: what the step did there goes;
//! - a chunk whose job is no more does not yield: there is nobody to owe.
//!
//! Which commits yield is known of those since the start; of older ones the log is read, by a merger. Not here: paying (the
//! client's `evolve`).

use crate::engine::keep::system::SYSTEM_OID;
use crate::engine::sealed_write::SealedWrite;
use crate::engine::{Engine, faults::fault_of, note};
use crate::storage::{Read, StoreError, Txn};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zeolite_proto::evolve::{ChunkNote, JobRecord, Owed, StepNote, Stored, is_owed, owed_cell};
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Fault, Oid, Tid, hash};

/// Commits that are known to yield; older ones are looked up in the log.
const TIDS_MAX: usize = 1 << 20;
/// Chunks whose notes are kept.
const CHUNKS_MAX: usize = 64;
/// Chunks one over the other that a draft may pass: a step that was made anew is one more.
const OVER_MAX: usize = 64;
/// Cells of one checked range that a draft may pass.
pub(crate) const IN_RANGE_MAX: usize = 10_000;

/// What a live draft may pass over: revisions that yield, the newest of a cell and others under it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pass {
    pub(crate) cell: Cell,
    /// Good only while this is the cell's newest revision.
    pub(crate) newest: Tid,
    /// The chunks, and their jobs.
    over: Vec<(Tid, Oid)>,
    /// The steps that wrote the cell.
    steps: Vec<Stepped>,
    /// The cell itself was stepped, and its step has written elsewhere too.
    pub(crate) has_more: bool,
    /// It was stepped, and nothing else follows from that.
    pub(crate) is_alone: bool,
    /// The chunks have brought the cell to a newer shape.
    pub(crate) raised: bool,
}

/// A step that wrote what is passed over.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stepped {
    chunk: Tid,
    job: Oid,
    cell: Cell,
    /// It has read more than this cell.
    reads: bool,
}

impl Pass {
    /// What the jobs owe when the cell is written: cells of their ledgers, and what is put there.
    fn owed(&self) -> impl Iterator<Item = (Cell, Bytes)> + '_ {
        self.over.iter().filter_map(|(chunk, job)| owed(*chunk, *job, &self.cell))
    }

    /// The same when it is a check that passes, of a draft that writes these cells. A stepped cell that is written itself is a pass
    /// of its own.
    fn owed_by_check<'p>(&'p self, written: &'p hash::Set<&Cell>) -> impl Iterator<Item = (Cell, Bytes)> + 'p {
        let owes = |step: &&Stepped| step.reads || (step.cell != self.cell && written.contains(&step.cell));
        self.steps.iter().filter(owes).filter_map(|step| owed(step.chunk, step.job, &step.cell))
    }
}

/// All that a draft passes over and may owe for.
#[derive(Clone, Default, Debug)]
pub(crate) struct Passed {
    /// Its writes go over these.
    pub(crate) writes: Vec<Pass>,
    /// Its checks hold in spite of these.
    pub(crate) checks: Vec<Pass>,
}

impl Passed {
    /// Most drafts pass over nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.checks.is_empty()
    }

    /// Adds to the writes what is owed for them.
    pub(crate) fn add_owed(&self, writes: &mut Vec<SealedWrite>) {
        if self.is_empty() {
            return;
        }
        let mut owed = self.owed(writes);
        // Nobody says himself that he owes nothing.
        for write in writes.iter_mut().filter(|write| is_owed(&write.cell)) {
            write.record = owed.remove(&write.cell).or(write.record.take());
        }
        let owed = owed.into_iter().map(|(cell, record)| (cell, Some(record)));
        writes.extend(owed.map(|(cell, record)| SealedWrite { cell, stamped: false, record, merged: false }));
    }

    /// Takes that away again; `anew`: these cells are written or read anew, or not any more.
    pub(crate) fn take_owed(&mut self, writes: &mut Vec<SealedWrite>, anew: impl Fn(&Cell) -> bool) {
        let owed = self.owed(writes);
        writes.retain(|write| !owed.contains_key(&write.cell));
        self.writes.retain(|pass| !anew(&pass.cell));
        self.checks.retain(|pass| !anew(&pass.cell));
    }

    fn owed(&self, writes: &[SealedWrite]) -> BTreeMap<Cell, Bytes> {
        let written: hash::Set<&Cell> = match self.checks.is_empty() {
            true => hash::Set::default(),
            false => writes.iter().map(|write| &write.cell).collect(),
        };
        let checks = self.checks.iter().flat_map(|pass| pass.owed_by_check(&written));
        self.writes.iter().flat_map(Pass::owed).chain(checks).collect()
    }
}

fn owed(chunk: Tid, job: Oid, cell: &Cell) -> Option<(Cell, Bytes)> {
    let record = Owed::new(chunk, cell).encode().ok()?;
    Some((owed_cell(job, chunk, cell), record))
}

/// Whether a commit yields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Yielding {
    Yes,
    No,
    /// It is from before the start.
    Unknown,
}

/// The commits that yield.
pub(crate) struct Yields {
    known: Mutex<Known>,
}

struct Known {
    tids: BTreeSet<Tid>,
    /// Of what is newer all is known.
    from: Tid,
    chunks: hash::Map<Tid, Option<Arc<Chunk>>>,
}

/// A chunk as the log has it.
struct Chunk {
    note: ChunkNote,
    /// What it wrote, the ledger left out.
    written: Vec<Cell>,
}

impl Chunk {
    fn of(txn: &Txn) -> Option<Chunk> {
        let note = ChunkNote::of_any(&note::decode(&txn.note).extension).filter(|note| !note.steps.is_empty())?;
        let written = txn.writes.iter().map(|write| &write.cell).filter(|cell| cell.oid.0 != note.job);
        Some(Chunk { written: written.cloned().collect(), note })
    }

    /// Whether the cell was stepped, and whether nothing but that was written for it: its step has written nowhere else, and no other
    /// step has written it.
    fn how(&self, cell: &Cell) -> (bool, bool) {
        let Some(place) = self.written.iter().position(|written| written == cell) else { return (false, false) };
        let is_stepped = |step: &StepNote| step.cell(&self.written).as_ref() == Some(cell);
        let stepped = self.note.steps_at(place).any(is_stepped);
        (stepped, stepped && self.note.steps_at(place).all(|step| is_stepped(step) && !step.writes_elsewhere()))
    }
}

impl Chunk {
    /// The cells whose steps wrote this one, and whether the step has read more than its cell.
    fn steps_of(&self, cell: &Cell) -> impl Iterator<Item = (Cell, bool)> + '_ {
        let place = self.written.iter().position(|written| written == cell);
        let steps = place.into_iter().flat_map(|place| self.note.steps_at(place));
        steps.filter_map(|step| Some((step.cell(&self.written)?, step.reads)))
    }
}

impl Yields {
    /// Nothing is known of what the store has, up to `from`.
    pub(crate) fn new(from: Tid) -> Yields {
        Yields { known: Mutex::new(Known { tids: BTreeSet::new(), from, chunks: hash::Map::default() }) }
    }

    /// A transaction was sealed.
    pub(crate) fn sealed(&self, txn: &Txn) {
        if txn.note.is_empty() || !ChunkNote::says_yields(&note::decode(&txn.note).extension) {
            return;
        }
        let mut known = self.known.lock();
        known.tids.insert(txn.tid);
        if known.tids.len() > TIDS_MAX
            && let Some(oldest) = known.tids.pop_first()
        {
            known.from = oldest;
        }
    }

    pub(crate) fn of(&self, tid: Tid) -> Yielding {
        let known = self.known.lock();
        match known.tids.contains(&tid) {
            true => Yielding::Yes,
            false if tid > known.from => Yielding::No,
            false => Yielding::Unknown,
        }
    }

    fn chunk(&self, tid: Tid, reader: &dyn Read) -> Result<Option<Arc<Chunk>>, StoreError> {
        if self.of(tid) == Yielding::No {
            return Ok(None);
        }
        if let Some(chunk) = self.known.lock().chunks.get(&tid) {
            return Ok(chunk.clone());
        }
        let chunk = reader.txn(tid)?.as_ref().and_then(Chunk::of).map(Arc::new);
        let chunks = &mut self.known.lock().chunks;
        if chunks.len() >= CHUNKS_MAX {
            chunks.clear();
        }
        chunks.insert(tid, chunk.clone());
        Ok(chunk)
    }
}

impl Engine {
    /// What a live draft that knows the cell as of `base` passes over, if every revision since yields. Reads the store.
    pub(crate) fn pass(&self, cell: &Cell, base: Tid, newest: Tid) -> Result<Option<Pass>, Fault> {
        self.find_pass(cell, base, newest).map_err(fault_of)
    }

    fn find_pass(&self, cell: &Cell, base: Tid, newest: Tid) -> Result<Option<Pass>, StoreError> {
        let (over, steps) = (Vec::new(), Vec::new());
        let mut pass = Pass { cell: cell.clone(), newest, over, steps, has_more: false, is_alone: true, raised: false };
        let newest_version = self.version(cell, newest)?;
        let mut tid = newest;
        while pass.over.len() < OVER_MAX && pass.steps.len() <= IN_RANGE_MAX {
            let Some(chunk) = self.pipeline.yields.chunk(tid, self.reader())? else { return Ok(None) };
            let job = Oid(chunk.note.job);
            if cell.oid == job || !self.is_job(job)? {
                return Ok(None);
            }
            let (is_stepped, is_alone) = chunk.how(cell);
            pass.has_more |= is_stepped && !is_alone;
            pass.is_alone &= is_alone;
            pass.over.push((tid, job));
            pass.steps.extend(chunk.steps_of(cell).map(|(cell, reads)| Stepped { chunk: tid, job, cell, reads }));
            let before = self.reader().as_of_many(&[(cell.clone(), tid.prev())], 1)?.pop();
            match before {
                Some(Ok(Some(revision))) if revision.tid > base => tid = revision.tid,
                // A deletion may have been packed: nothing there proves nothing about an older base.
                Some(Ok(None)) if base != Tid::NONE && base < self.reader().packed_to() => return Ok(None),
                Some(Ok(before)) => {
                    pass.raised = version(before.and_then(|before| before.record).as_ref()) < newest_version;
                    return Ok(Some(pass));
                }
                // Packed: nobody can say what the draft was made on.
                Some(Err(_)) | None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn version(&self, cell: &Cell, at: Tid) -> Result<u32, StoreError> {
        Ok(version(self.reader().get(cell, at)?.and_then(|revision| revision.record).as_ref()))
    }

    fn is_job(&self, oid: Oid) -> Result<bool, StoreError> {
        if oid == SYSTEM_OID {
            return Ok(false);
        }
        let record = self.reader().get(&Cell::object(oid), Tid::MAX)?.and_then(|revision| revision.record);
        Ok(record.is_some_and(|record| Header::parse(&record).is_ok_and(|header| header.class == JobRecord::CLASS)))
    }
}

/// The schema version of a record; 0: there is none.
pub(crate) fn version(record: Option<&Bytes>) -> u32 {
    record.and_then(|record| Header::parse(record).ok()).map_or(0, |header| header.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::TxnWrite;
    use zeolite_proto::evolve::SteppedNote;
    use zeolite_proto::{CommitKey, Note};

    fn txn(tid: u64, note: &Note, cells: &[Cell]) -> Txn {
        let writes = cells.iter().map(|cell| TxnWrite { cell: cell.clone(), record: None, merged: false }).collect();
        Txn { tid: Tid(tid), key: CommitKey([0; 16]), digest: 0, own: false, note: note::encode(note), writes }
    }

    fn note(steps: Vec<StepNote>) -> Note {
        ChunkNote { job: 9, range: 0, groups: vec![1], steps, operations: Vec::new() }.note("n", "")
    }

    #[test]
    fn what_yields_is_known_since_the_start() {
        let yields = Yields::new(Tid(10));
        let step = StepNote {
            of: SteppedNote::Written(0),
            writes: vec![0],
            applied: Vec::new(),
            reads: false,
            after: Vec::new(),
        };
        yields.sealed(&txn(11, &note(vec![step]), &[]));
        yields.sealed(&txn(12, &note(Vec::new()), &[]));
        yields.sealed(&txn(13, &Note::new("a", "b"), &[]));
        let of = |tid| yields.of(Tid(tid));
        assert_eq!([of(11), of(12), of(13)], [Yielding::Yes, Yielding::No, Yielding::No]);
        assert_eq!([of(9), of(10)], [Yielding::Unknown; 2]);
    }

    #[test]
    fn an_object_whose_step_wrote_elsewhere_is_told_from_one_that_was_only_changed() {
        let cells = [1, 2, 9, 3].map(|oid| Cell::object(Oid(oid)));
        let step = |of, writes| StepNote {
            of: SteppedNote::Written(of),
            writes,
            applied: Vec::new(),
            reads: false,
            after: Vec::new(),
        };
        let chunk = Chunk::of(&txn(11, &note(vec![step(0, vec![0]), step(1, vec![1, 2])]), &cells)).expect("a chunk");
        assert_eq!(chunk.written.len(), 3, "the ledger is left out");
        let how = |oid| chunk.how(&Cell::object(Oid(oid)));
        assert_eq!([how(1), how(2), how(3), how(9)], [(true, true), (true, false), (false, false), (false, false)]);
    }
}
