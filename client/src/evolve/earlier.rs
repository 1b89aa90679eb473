//! Owns what an earlier step of an object has written, and taking it back: before an object is stepped anew, what its former step
//! wrote elsewhere (entries, counters, other objects) must be gone.
//!
//! ```text
//!   chunk c    x: v1 ─> v2, entry (a ─> x), counter + 1
//!   live       x: v1', committed over c's x, since that yields; the ledger says: owed (c, x)
//!   payment    entry (a ─> x) goes, counter - 1; x is stepped: v2', entry (a' ─> x), counter + 1; owed ─> paid (c, x)
//! ```
//! Which step wrote what stands in the note of the chunk's commit; what was there before, in kept revisions. A cell that a live
//! draft has written over stays as it is, also where it wrote the same. One that was changed otherwise since is merged by the
//! resolver of its class, as an undo does it; where there is none the object goes to the quarantine with the reason. A payment is a
//! chunk like any other, and may have to be taken back as well: then what was there before is what it had made of it before it
//! stepped.

use super::job::newest_view;
use super::ledger::{OWED, Owed, PAID, bad_cell, entries, owed_cell, paid_cell};
use crate::collections::kept;
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::revision::Revision;
use crate::tx::{Staged, Tx, View, fold};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use zeolite_proto::evolve::{ChunkNote, OperationNote, StepNote, SteppedNote};
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::class;
use zeolite_proto::{Cell, FaultKind, Note, Oid, Record, Registry, Tid, hash};

/// Revisions of an object that are looked through for its former step.
const REVISIONS_MAX: u32 = 16;
/// So much of what is owed is looked at together, and counted.
pub const OWED_MAX: u64 = 2000;
/// Steps of one object that were taken back one after the other, and have to be followed.
const CHAIN_MAX: usize = 64;

/// A chunk as the log has it.
#[derive(Debug)]
pub(crate) struct ChunkLog {
    tid: Tid,
    note: ChunkNote,
    /// What it wrote, the ledger left out.
    written: Vec<Cell>,
}

impl ChunkLog {
    /// What was read elsewhere.
    pub(crate) fn of(tid: Tid, note: ChunkNote, written: Vec<Cell>) -> ChunkLog {
        ChunkLog { tid, note, written }
    }

    /// None: it is no chunk of this job, or does not tell its steps.
    pub(crate) async fn read(db: &Db, job: Oid, tid: Tid) -> Result<Option<ChunkLog>> {
        let Some((note, written)) = written(db, job, tid).await? else { return Ok(None) };
        let note = ChunkNote::of(&note.extension, job).filter(|note| !note.steps.is_empty());
        Ok(note.map(|note| ChunkLog { tid, note, written }))
    }

    /// The same; none as well if it is packed.
    async fn read_unless_packed(db: &Db, job: Oid, tid: Tid) -> Result<Option<ChunkLog>> {
        match ChunkLog::read(db, job, tid).await {
            Err(error) if error.kind() == Some(FaultKind::SnapshotPacked) => Ok(None),
            read => read,
        }
    }

    /// The step of a cell.
    fn step_of(&self, cell: &Cell) -> Option<&StepNote> {
        self.note.steps.iter().find(|step| step.cell(&self.written).as_ref() == Some(cell))
    }

    /// The cells whose steps wrote this one.
    pub(crate) fn stepped_at(&self, cell: &Cell) -> Vec<Cell> {
        let Some(place) = self.written.iter().position(|written| written == cell) else { return Vec::new() };
        self.note.steps_at(place).filter_map(|step| step.cell(&self.written)).collect()
    }

    /// What a step wrote.
    fn cells_of(&self, step: &StepNote) -> Vec<Cell> {
        let mut cells: Vec<Cell> = step.places().filter_map(|place| self.written.get(place).cloned()).collect();
        cells.sort_unstable();
        cells.dedup();
        cells
    }
}

/// What a commit of a job wrote, the ledger left out, and its note; none: it is no more.
pub(crate) async fn written(db: &Db, job: Oid, tid: Tid) -> Result<Option<(Note, Vec<Cell>)>> {
    let found = db.admin().log(Some(tid), Some(tid), Some(1), false).await?.collect().await?;
    let transaction = found.into_iter().find(|transaction| transaction.tid == tid);
    Ok(transaction.map(|transaction| {
        let cells = transaction.writes.into_iter().map(|write| write.cell).filter(|cell| cell.oid != job);
        (transaction.note, cells.collect())
    }))
}

/// The newest chunk of a job that has stepped an object, by the object's own revisions, if somebody has written it since.
pub(crate) async fn last_step_before_a_write(db: &Db, job: Oid, cell: &Cell) -> Result<Option<Tid>> {
    let past = db.history(cell, None, REVISIONS_MAX, false).await?.items;
    let newest = past.first().map_or(Tid::NONE, |past| past.revision.tid);
    for past in past {
        let yields = ChunkNote::of(&past.note.extension, job).is_some_and(|note| !note.steps.is_empty());
        if yields
            && let Some(chunk) = ChunkLog::read(db, job, past.revision.tid).await?
            && chunk.step_of(cell).is_some()
        {
            return Ok(Some(chunk.tid).filter(|tid| *tid != newest));
        }
    }
    Ok(None)
}

/// What was taken back before an object was stepped anew.
#[derive(Clone, Debug)]
pub(crate) struct Repaid {
    /// The chunk of the former step; none: it was taken back before.
    pub(crate) chunk: Option<Tid>,
    /// The former step had changed the cell itself.
    pub(crate) changed: bool,
    /// Cells of the ledger that said so.
    pub(crate) owed: Vec<Owing>,
    /// What was staged for it.
    pub(crate) staged: BTreeMap<Cell, Staged>,
}

/// A cell of the ledger that says what is owed.
#[derive(Clone, Debug)]
pub(crate) struct Owing {
    pub(crate) cell: Cell,
    /// Stepped cells whose steps have written what is owed as well, and are not paid: it is owed until all of them are.
    pub(crate) others: Vec<Cell>,
}

/// Why a step is not taken back.
pub(crate) enum Stuck {
    /// It cannot be: a reason for the quarantine.
    Cannot(String),
    Error(Error),
}

impl From<Error> for Stuck {
    fn from(error: Error) -> Stuck {
        match error.kind() {
            Some(FaultKind::SnapshotPacked) => Stuck::Cannot("what was there before its former step is packed".into()),
            _ => Stuck::Error(error),
        }
    }
}

/// The step that an object had before.
pub(crate) struct Former {
    /// Its chunk; none: it was taken back, and not made anew.
    pub(crate) chunk: Option<Tid>,
    pub(crate) owed: Vec<Owing>,
    /// It had changed the object itself.
    pub(crate) changed: bool,
    /// A live draft has gone over the object.
    pub(crate) is_owed: bool,
}

/// Takes the former step of a cell back, in the transaction in which it is stepped anew.
pub(crate) struct TakeBack<'a> {
    pub(crate) db: &'a Db,
    pub(crate) job: Oid,
    /// The cell that was stepped.
    pub(crate) cell: &'a Cell,
}

impl TakeBack<'_> {
    /// Stages it. What a live draft has written over is left alone.
    pub(crate) async fn stage(&self, tx: &Tx, chunk: Tid) -> Result<Repaid, Stuck> {
        let (log, owed) = self.former(&self.db.at(tx.snapshot()), chunk).await?;
        let Some((log, step)) = log.as_ref().and_then(|log| Some((log, log.step_of(self.cell)?))) else {
            return Ok(Repaid { chunk: None, changed: false, owed, staged: BTreeMap::new() });
        };
        let staged = self.staged(tx, log, step, &owed).await?;
        Ok(Repaid { chunk: Some(log.tid), changed: matches!(step.of, SteppedNote::Written(_)), owed, staged })
    }

    /// The former step of a cell that is stepped together with others: what it wrote elsewhere is left to the step itself. With it
    /// what the cell was before, if nobody has written it since.
    pub(crate) async fn own(
        &self,
        at: &View,
        chunk: Tid,
        now: &Revision,
    ) -> Result<(Former, Option<Option<Bytes>>), Stuck> {
        let (log, owed) = self.former(at, chunk).await?;
        let Some((log, step)) = log.as_ref().and_then(|log| Some((log, log.step_of(self.cell)?))) else {
            return Ok((Former { chunk: None, owed, changed: false, is_owed: false }, None));
        };
        let ledger = owed_cell(self.job, log.tid, self.cell);
        let is_owed = owed.iter().any(|owing| owing.cell == ledger);
        let changed = matches!(step.of, SteppedNote::Written(_));
        let before = match changed && now.tid == log.tid {
            true => Some(self.db.at(log.tid.prev()).get_encoded(self.cell).await?),
            false => None,
        };
        Ok((Former { chunk: Some(log.tid), owed, changed, is_owed }, before))
    }

    /// The chunk of its former step, and what is owed of it and of those before it; no chunk: what is owed is of a cell that was only
    /// taken back, then there is no step.
    async fn former(&self, at: &View, chunk: Tid) -> Result<(Option<Arc<ChunkLog>>, Vec<Owing>), Stuck> {
        let (mut chunk, mut owed) = (chunk, Vec::new());
        for _ in 0..CHAIN_MAX {
            let Some(log) = self.log(chunk).await? else {
                return Err(Stuck::Cannot(format!("the log no longer tells what its former step ({chunk}) wrote")));
            };
            owed.extend(self.owing(&log, at).await?);
            if log.step_of(self.cell).is_none() {
                return Ok((None, owed));
            }
            let paid = at.revision(&paid_cell(self.job, chunk, self.cell)).await?;
            if paid.record.is_none() {
                return Ok((Some(log), owed));
            }
            // It was stepped anew by the chunk that has noted that: so that one's step is the former one now.
            chunk = paid.tid;
        }
        Err(Stuck::Cannot(format!("it was stepped anew more than {CHAIN_MAX} times")))
    }

    /// What the ledger says is owed of this cell's step in a chunk.
    async fn owing(&self, log: &ChunkLog, at: &View) -> Result<Vec<Owing>> {
        let mut cells = log.step_of(self.cell).map(|step| log.cells_of(step)).unwrap_or_default();
        // It is owed itself where it was written over, and where it was written by who has not seen what its step made.
        if !cells.contains(self.cell) {
            cells.push(self.cell.clone());
        }
        let ledger: Vec<Cell> = cells.iter().map(|cell| owed_cell(self.job, log.tid, cell)).collect();
        let is_owed = at.get_many(&ledger).await?;
        let mut owing = Vec::new();
        for ((cell, of), _) in ledger.into_iter().zip(cells).zip(is_owed).filter(|(_, owed)| owed.is_some()) {
            let mut others = log.stepped_at(&of);
            others.retain(|other| other != self.cell);
            let paid: Vec<Cell> = others.iter().map(|other| paid_cell(self.job, log.tid, other)).collect();
            let paid = at.get_many(&paid).await?;
            let others = others.into_iter().zip(paid).filter(|(_, paid)| paid.is_none()).map(|(other, _)| other);
            owing.push(Owing { cell, others: others.collect() });
        }
        Ok(owing)
    }

    /// Takes back what the step of this cell in a chunk wrote.
    async fn staged(
        &self,
        tx: &Tx,
        log: &Arc<ChunkLog>,
        step: &StepNote,
        owed: &[Owing],
    ) -> Result<BTreeMap<Cell, Staged>, Stuck> {
        let cells = log.cells_of(step);
        let mut staged = BTreeMap::new();
        let revisions = self.db.at(tx.snapshot()).revisions(&cells).await?;
        let is_owed = |cell: &Cell| {
            let ledger = owed_cell(self.job, log.tid, cell);
            owed.iter().any(|owing| owing.cell == ledger)
        };
        let is_left = |cell: &Cell, now: &Revision| match cell == self.cell {
            // What is in the cell now is to be stepped, whoever wrote it.
            true => now.tid != log.tid,
            false => is_owed(cell),
        };
        for (cell, now) in cells.into_iter().zip(revisions) {
            if is_left(&cell, &now) {
                continue;
            }
            if let Some((class, operations)) = self.inverse(log, step, &cell) {
                for operation in &operations {
                    tx.apply(cell.clone(), &class, operation.clone())?;
                }
                staged.insert(cell, Staged::Apply { class, operations });
                continue;
            }
            let before = self.taken_back(log, step, &cell, now.clone(), 0).await?.record;
            if before != now.record {
                match before {
                    Some(record) => {
                        tx.put_unchecked(cell.clone(), record.clone())?;
                        staged.insert(cell, Staged::Put(record));
                    }
                    None => {
                        tx.delete(cell.clone())?;
                        staged.insert(cell, Staged::Delete);
                    }
                }
            }
        }
        Ok(staged)
    }

    /// The operations that take a step's operations on a cell back, if that was all that it did there, and its class has such.
    pub(crate) fn inverse(&self, log: &ChunkLog, step: &StepNote, cell: &Cell) -> Option<(String, Vec<Bytes>)> {
        let place = log.written.iter().position(|written| written == cell)? as u32;
        let resolvers = &self.db.core().options.resolvers;
        let applied = step.applied.iter().rev().filter(|(at, _)| *at == place);
        let applied = applied.map(|(_, number)| log.note.operations.get(*number as usize));
        let applied: Vec<&OperationNote> = applied.collect::<Option<_>>()?;
        let inverse = |of: &OperationNote| resolvers.get(&of.class)?.inverse(&Bytes::copy_from_slice(&of.operation));
        let class = applied.first().filter(|_| !step.writes.contains(&place))?.class.clone();
        Some((class, applied.into_iter().map(inverse).collect::<Option<_>>()?))
    }

    async fn log(&self, chunk: Tid) -> Result<Option<Arc<ChunkLog>>> {
        Ok(ChunkLog::read(self.db, self.job, chunk).await?.map(Arc::new))
    }

    /// What is in a cell once a step is taken back from what is in it.
    fn taken_back<'b>(
        &'b self,
        log: &'b ChunkLog,
        step: &'b StepNote,
        cell: &'b Cell,
        now: Revision,
        depth: usize,
    ) -> BoxFuture<'b, Result<Revision, Stuck>> {
        Box::pin(async move {
            let Revision { tid, record: mut now, .. } = now;
            let revision = |record| Revision { tid, end: None, record };
            let Some(place) = log.written.iter().position(|written| written == cell) else { return Ok(revision(now)) };
            let resolvers = &self.db.core().options.resolvers;
            if step.writes.iter().any(|at| *at as usize == place) {
                let after = self.db.at(log.tid).get_encoded(cell).await?;
                let before = self.before(log, step, cell, depth).await?.record;
                now = match now == after {
                    true if tid == log.tid => before,
                    // Somebody has written the same since: that is his.
                    true => now,
                    // The key of a unique index that is another object's by now is not this one's any more.
                    false if is_anothers(cell, now.as_ref(), self.cell.oid) => now,
                    false => merged(resolvers, cell, after, now, before)?,
                };
            }
            for (at, operation) in step.applied.iter().rev() {
                let Some(operation) = log.note.operations.get(*operation as usize).filter(|_| *at as usize == place)
                else {
                    continue;
                };
                let before = self.db.at(log.tid.prev()).get_encoded(cell).await?;
                let operations = [Bytes::copy_from_slice(&operation.operation)];
                let after = fold(cell, &operation.class, before.clone(), &operations, resolvers)
                    .map_err(|error| Stuck::Cannot(error.to_string()))?;
                now = merged(resolvers, cell, after, now, before)?;
            }
            Ok(revision(now))
        })
    }

    /// What was in a cell when a step began: as the chunk found it, or as the taking back of a former step had left it.
    pub(crate) async fn before(
        &self,
        log: &ChunkLog,
        step: &StepNote,
        cell: &Cell,
        depth: usize,
    ) -> Result<Revision, Stuck> {
        if depth >= CHAIN_MAX {
            return Err(Stuck::Cannot(format!("it was stepped anew more than {CHAIN_MAX} times")));
        }
        let mut before = self.db.at(log.tid.prev()).revision(cell).await?;
        for former in &step.after {
            // The stepped cell is not taken back behind what was written over it: that is what was stepped.
            if cell == self.cell && before.tid != Tid(*former) {
                continue;
            }
            // What a live draft had gone over was left alone then.
            let ledger = owed_cell(self.job, Tid(*former), cell);
            if cell != self.cell && self.db.at(log.tid.prev()).get_encoded(&ledger).await?.is_some() {
                continue;
            }
            let Some(log) = self.log(Tid(*former)).await? else {
                return Err(Stuck::Cannot(format!(
                    "the log no longer tells what its former step ({}) wrote",
                    Tid(*former)
                )));
            };
            if let Some(step) = log.step_of(self.cell) {
                before = self.taken_back(&log, step, cell, before, depth + 1).await?;
            }
        }
        Ok(before)
    }
}

/// Whether an entry of a unique index is that of another object.
fn is_anothers(cell: &Cell, entry: Option<&Bytes>, object: Oid) -> bool {
    let Some(Ok(header)) = entry.map(|entry| Header::parse(entry)) else { return false };
    let owner = entry.filter(|_| header.class == class::UNIQUE).and_then(|entry| kept::owner(cell, entry).ok());
    owner.is_some_and(|owner| owner != object && header.refs().any(|referred| referred == owner))
}

/// What is there (`now`) without what made `after` of `before`.
fn merged(
    resolvers: &Registry,
    cell: &Cell,
    after: Option<Bytes>,
    now: Option<Bytes>,
    before: Option<Bytes>,
) -> Result<Option<Bytes>, Stuck> {
    if now == after || before == after {
        return Ok(if now == after { before } else { now });
    }
    if now == before {
        return Ok(now);
    }
    let there = before.as_ref().or(now.as_ref()).or(after.as_ref());
    let class = there.and_then(|record| Header::parse(record).ok()).map_or("", |header| header.class);
    let cannot = |why: String| Stuck::Cannot(format!("what its former step wrote in {cell} was changed since: {why}"));
    let Some(resolver) = resolvers.get(class) else {
        return Err(cannot(format!("class {class:?} has no resolver that could take it back")));
    };
    let decoded = |record: &Option<Bytes>| record.as_ref().map(Record::decode).transpose();
    let bad = |bad: zeolite_proto::BadRecord| cannot(bad.to_string());
    let (base, theirs, ours) =
        (decoded(&after).map_err(bad)?, decoded(&now).map_err(bad)?, decoded(&before).map_err(bad)?);
    let merged = resolver.merge(base.as_ref(), theirs.as_ref(), ours.as_ref()).map_err(|why| cannot(why.0))?;
    merged.map(|record| record.encode()).transpose().map_err(bad)
}

/// What a job owes, up to a limit.
pub(crate) async fn owed(view: &View, job: Oid, limit: u64) -> Result<Vec<Owed>> {
    entries(view, job, OWED, limit).await
}

/// The newest snapshot that shows what was there before everything that is owed; none: nothing is.
pub(crate) async fn oldest_owed(db: &Db, job: Oid) -> Result<Option<Tid>> {
    // They are in the order of their chunks.
    let first = owed(&newest_view(db).await?, job, 1).await?;
    Ok(first.first().map(|owed| Tid(owed.chunk).prev()))
}

/// Steps that were taken back, and not made anew: live drafts have brought these objects to the new shape themselves.
pub(crate) async fn only_taken_back(view: &View, job: Oid) -> Result<u64> {
    let paid: Vec<Owed> = entries(view, job, PAID, u64::MAX).await?;
    Ok(paid.iter().filter(|paid| !paid.stands).count() as u64)
}

/// What an undo of a chunk leaves alone.
pub(crate) struct Alone {
    /// Cells that live drafts went over.
    pub(crate) owed: hash::Set<Cell>,
    /// Cells whose steps were taken back.
    pub(crate) paid: hash::Set<Cell>,
    /// Cells that were stepped anew by a step that has replaced itself what it had made elsewhere: only they are left alone.
    pub(crate) replaced: hash::Set<Cell>,
}

/// Cells of a chunk that an undo leaves alone.
pub(crate) async fn left_alone(view: &View, job: Oid, chunk: Tid) -> Result<Alone> {
    let told = async |what: &str| -> Result<hash::Set<Cell>> {
        let told: Vec<Owed> = entries(view, job, format!("{what}{:016x}/", chunk.0), u64::MAX).await?;
        Ok(told.iter().map(Owed::cell).collect())
    };
    let (owed, mut paid, mut replaced) = (told(OWED).await?, hash::Set::default(), hash::Set::default());
    for cell in told(PAID).await? {
        let by = view.revision(&paid_cell(job, chunk, &cell)).await?.tid;
        let log = ChunkLog::read_unless_packed(view.db(), job, by).await?;
        let has_replaced = |log: &ChunkLog| log.step_of(&cell).is_some_and(|step| !step.after.contains(&chunk.0));
        match log.is_some_and(|log| has_replaced(&log)) {
            true => replaced.insert(cell),
            false => paid.insert(cell),
        };
    }
    Ok(Alone { owed, paid, replaced })
}

/// The cells whose former steps are to be taken back before they are stepped anew, with the chunks of these; up to a limit of what is
/// owed.
pub(crate) async fn owed_steps(db: &Db, job: Oid) -> Result<Vec<(Cell, Tid)>> {
    let (mut steps, mut known) = (Vec::new(), hash::Set::default());
    let view = newest_view(db).await?;
    let mut chunk: Option<(Tid, Option<ChunkLog>)> = None;
    for owed in owed(&view, job, OWED_MAX).await? {
        let (tid, cell) = (Tid(owed.chunk), owed.cell());
        if chunk.as_ref().is_none_or(|(read, _)| *read != tid) {
            chunk = Some((tid, ChunkLog::read_unless_packed(db, job, tid).await?));
        }
        let log = chunk.as_ref().and_then(|(_, log)| log.as_ref());
        let mut stepped = log.map(|log| log.stepped_at(&cell)).unwrap_or_default();
        if stepped.is_empty() || log.is_some_and(|log| log.step_of(&cell).is_some()) {
            stepped.push(cell);
        }
        // One that was made anew waits for the others.
        let paid: Vec<Cell> = stepped.iter().map(|cell| paid_cell(job, tid, cell)).collect();
        let paid = view.get_many(&paid).await?;
        if paid.iter().any(Option::is_none) {
            let mut paid = paid.iter();
            stepped.retain(|_| paid.next().is_some_and(Option::is_none));
        }
        // Of several chunks the oldest: from there on what was stepped anew is followed.
        steps.extend(stepped.into_iter().filter(|cell| known.insert(cell.clone())).map(|cell| (cell, tid)));
    }
    Ok(steps)
}

/// How many of them are not in the quarantine.
pub(crate) async fn owed_left(db: &Db, job: Oid) -> Result<u64> {
    let steps = owed_steps(db, job).await?;
    let bad: Vec<Cell> = steps.iter().map(|(cell, _)| bad_cell(job, cell)).collect();
    let bad = newest_view(db).await?.get_many(&bad).await?;
    Ok(bad.iter().filter(|bad| bad.is_none()).count() as u64)
}
