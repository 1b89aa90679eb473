//! Owns the model's word on yielding: what a live draft may pass over, and what is owed then. Written anew, over what was committed.

use super::Model;
use bytes::Bytes;
use zeolite_proto::evolve::{ChunkNote, JobRecord, Owed, StepNote, Stored, owed_cell};
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Draft, Oid, Priority, Tid};

/// A chunk's commit.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    job: Oid,
    /// Cells that were stepped, and whose steps have written elsewhere.
    with_more: Vec<Cell>,
    /// Cells that were stepped, of which nothing else follows.
    alone: Vec<Cell>,
    steps: Vec<Step>,
}

/// A step of it.
#[derive(Clone, Debug)]
struct Step {
    of: Cell,
    wrote: Vec<Cell>,
    reads: bool,
}

/// The chunks that a draft passes over at one cell, the newest first.
pub(super) struct Passed {
    chunks: Vec<(Tid, Oid)>,
    /// The steps that wrote the cell.
    steps: Vec<(Tid, Oid, Step)>,
    pub(super) has_more: bool,
    pub(super) is_alone: bool,
    pub(super) raised: bool,
}

impl Chunk {
    /// What the draft's note says, once it is committed with these writes.
    pub(super) fn of(draft: &Draft, written: &[Cell]) -> Option<Chunk> {
        let note = ChunkNote::of_any(&draft.note.extension).filter(|note| !note.steps.is_empty())?;
        let written: Vec<Cell> = written.iter().filter(|cell| cell.oid.0 != note.job).cloned().collect();
        let (mut with_more, mut alone) = (Vec::new(), Vec::new());
        for step in &note.steps {
            let Some(cell) = step.cell(&written).filter(|cell| written.contains(cell)) else { continue };
            let others = note.steps.iter().filter(|other| *other != step);
            let by_others = others.flat_map(StepNote::places).any(|place| written.get(place) == Some(&cell));
            if step.writes_elsewhere() || by_others { &mut with_more } else { &mut alone }.push(cell);
        }
        let wrote = |step: &StepNote| step.places().filter_map(|place| written.get(place).cloned()).collect();
        let told = |step: &StepNote| Some(Step { of: step.cell(&written)?, wrote: wrote(step), reads: step.reads });
        Some(Chunk { job: Oid(note.job), with_more, alone, steps: note.steps.iter().filter_map(told).collect() })
    }
}

impl Passed {
    /// What is written into the ledgers.
    pub(super) fn owed(&self, cell: &Cell) -> Vec<Debt> {
        self.chunks.iter().map(|(chunk, job)| debt(*chunk, *job, cell)).collect()
    }

    /// The same where a check of the draft passes over the cell: what the steps have read is not what the draft has made of it.
    pub(super) fn owed_by_check(&self, cell: &Cell, draft: &Draft) -> Vec<Debt> {
        let writes = |of: &Cell| draft.writes.iter().any(|write| write.cell == *of);
        let owes = |step: &Step| step.reads || (step.of != *cell && writes(&step.of));
        let steps = self.steps.iter().filter(|(.., step)| owes(step));
        steps.map(|(chunk, job, step)| debt(*chunk, *job, &step.of)).collect()
    }
}

/// What is written into a ledger.
type Debt = (Cell, Option<Bytes>, bool);

fn debt(chunk: Tid, job: Oid, cell: &Cell) -> Debt {
    let record = Owed::new(chunk, cell).encode().expect("a short record");
    (owed_cell(job, chunk, cell), Some(record), false)
}

pub(super) fn version(record: Option<&Bytes>) -> u32 {
    record.map_or(0, |record| Header::parse(record).expect("the engine has let in records only").version)
}

impl Model {
    /// What a draft that knows a cell as of a base may pass over, if that is all that is newer.
    pub(super) fn passed(&self, draft: &Draft, cell: &Cell, base: Tid, seen: Tid) -> Option<Passed> {
        if draft.priority != Priority::Live {
            return None;
        }
        let newest = self.newest(cell, seen)?;
        let (chunks, steps) = (Vec::new(), Vec::new());
        let mut passed = Passed { chunks, steps, has_more: false, is_alone: true, raised: false };
        for (tid, _) in self.cells.get(cell)?.range(base.next()..=seen).rev() {
            let chunk = self.chunks.get(tid).filter(|chunk| chunk.job != cell.oid && self.is_job(chunk.job, seen))?;
            passed.has_more |= chunk.with_more.contains(cell);
            passed.is_alone &= chunk.alone.contains(cell);
            passed.chunks.push((*tid, chunk.job));
            let steps = chunk.steps.iter().filter(|step| step.wrote.contains(cell));
            passed.steps.extend(steps.map(|step| (*tid, chunk.job, step.clone())));
        }
        let before = self.newest(cell, base).and_then(|(_, record)| record);
        passed.raised = version(before.as_ref()) < version(newest.1.as_ref());
        Some(passed)
    }

    fn is_job(&self, oid: Oid, seen: Tid) -> bool {
        let record = self.newest(&Cell::object(oid), seen).and_then(|(_, record)| record);
        record.is_some_and(|record| Header::parse(&record).is_ok_and(|header| header.class == JobRecord::CLASS))
    }
}
