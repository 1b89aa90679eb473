//! Owns the order: the one thread that decides which draft is committed, when, and under which tid.
//!
//! ```text
//!   intake ──> held by a prepared draft? park ──> newer revision than the base? merge, or refuse
//!          ──> clean: next tid, Draft → Sealed ──> writer (bounded hop)
//! ```
//! Rules:
//! - tids increase in the order of sealing, whatever the clock does;
//! - a draft is checked against everything sealed before it, durable or not: cheap resolvers merge right here, against
//!   pending bytes, so that a hot cell costs a function call and not an fsync;
//! - an expensive resolver runs elsewhere and comes back with a candidate for one revision; stale again it goes out again,
//!   at most [`ROUNDS_MAX`] times, then it runs here: a merge never loses to contention;
//! - when the writer refuses an epoch (disk full), everything sealed in it is refused, and the next epoch starts from
//!   what the store has.

use super::clock::Clock;
use super::draft::{Admitted, Candidate};
use super::head::HeadView;
use super::intake::{Intake, Taken};
use super::merge::{self, Sides};
use super::prepare::{Holds, ParkedDraft, Prepared};
use super::recent::{Recent, RecentBounds};
use super::{Done, PreparedReceipt, Engine, fault_of, note};
use crate::store::{Reader, Txn, TxnWrite};
use bytes::Bytes;
use crossbeam_channel::{Sender, TrySendError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use zeolite_proto::{
    Cell, Change, CommitKey, ConflictDetail, Fault, FaultKind, Merged, Note, Oid, Priority, Receipt, Tid, Write,
};

/// How often a draft goes out for an expensive resolver before it runs in the sequencer.
pub(crate) const ROUNDS_MAX: u8 = 3;
const PARKED_MAX: usize = 1024;

/// What is asked of the sequencer.
pub(crate) enum Job {
    Commit(Admitted),
    Prepare(PrepareJob),
    Finish { prepared: u64, key: CommitKey, done: Done<Receipt> },
    Abort { prepared: u64, done: Done<Tid> },
    /// A transaction with a tid of its own.
    Restore { txn: Txn, done: Done<Tid> },
}

/// A draft to be prepared.
pub(crate) struct PrepareJob {
    pub(crate) admitted: Admitted,
    pub(crate) time_limit: Duration,
    pub(crate) done: Done<PreparedReceipt>,
}

/// A write whose result is known; its key may still want its stamp.
#[derive(Clone, Debug)]
pub(crate) struct SealedWrite {
    pub(crate) cell: Cell,
    pub(crate) stamped: bool,
    pub(crate) record: Option<Bytes>,
    pub(crate) merged: bool,
}

/// A draft whose order and tid are fixed, on its way to the disk.
pub(crate) struct Sealed {
    pub(crate) txn: Txn,
    pub(crate) epoch: u64,
    pub(crate) answer: Answer,
    pub(crate) sealed_ns: u64,
}

/// Who is told when it is durable.
pub(crate) enum Answer {
    /// Everybody who waits for the transaction's key.
    Key,
    Restored(Done<Tid>),
}

/// What an expensive resolver needs; made by the sequencer, worked off by the mergers, and back.
pub(crate) struct MergeOut {
    pub(crate) job: ParkedDraft,
    pub(crate) questions: Vec<Question>,
}

/// One write's merge.
pub(crate) struct Question {
    pub(crate) position: usize,
    pub(crate) base: Option<Bytes>,
    pub(crate) theirs_tid: Tid,
    pub(crate) theirs: Option<Bytes>,
}

/// The sequencer's state; nobody else has it.
pub(crate) struct Sequencer {
    engine: Arc<Engine>,
    intake: Arc<Intake>,
    reader: Reader,
    clock: Arc<dyn Clock>,
    recent: Recent,
    holds: Holds,
    last: Tid,
    epoch: u64,
    next_prepared: u64,
    to_writer: Sender<Sealed>,
    to_mergers: Sender<MergeOut>,
    /// Sealed, but the writer's hop was full.
    stuck: Option<Sealed>,
}

/// How a turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Something was done.
    Worked,
    /// There was nothing to do.
    Idle,
    /// There never will be again.
    Ended,
}

enum Refused {
    /// This draft alone.
    Fault(Fault),
    /// It needs an expensive resolver first.
    Out(Vec<Question>),
}

impl Sequencer {
    pub(crate) fn new(
        engine: Arc<Engine>,
        bounds: RecentBounds,
        last: Tid,
        to_writer: Sender<Sealed>,
        to_mergers: Sender<MergeOut>,
    ) -> Sequencer {
        Sequencer {
            intake: engine.intake.clone(),
            reader: engine.reader.clone(),
            clock: engine.clock.clone(),
            recent: Recent::new(last, bounds),
            holds: Holds::default(),
            last,
            epoch: 1,
            next_prepared: engine.seed | 1,
            to_writer,
            to_mergers,
            stuck: None,
            engine,
        }
    }

    /// One step: at most one job. With `wait` it may sleep for work or for room in the writer's hop.
    pub(crate) fn turn(&mut self, wait: bool) -> Turn {
        self.start_epoch_if_refused();
        if let Some(sealed) = self.stuck.take()
            && !self.hand_over(sealed, wait)
        {
            return Turn::Idle;
        }
        self.expire_prepared();
        match self.intake.take() {
            Taken::Job(job) => {
                self.recent.trim(self.engine.feed.visible());
                self.engine.recent_floor.store(self.recent.floor().0, Ordering::Release);
                self.work(job);
                if let Some(sealed) = self.stuck.take() {
                    self.hand_over(sealed, wait);
                }
                Turn::Worked
            }
            Taken::Empty => {
                if wait {
                    self.intake.wait(self.sleep_for());
                }
                Turn::Idle
            }
            Taken::Closed => self.end(),
        }
    }

    fn sleep_for(&self) -> Duration {
        let longest = Duration::from_millis(500);
        self.holds.next_deadline().map_or(longest, |at| at.saturating_sub(self.clock.steady()).min(longest))
    }

    fn end(&mut self) -> Turn {
        // Mergers hold a way back into the intake: while one of them works, its draft counts as queued.
        if self.engine.out_merging() > 0 {
            return Turn::Idle;
        }
        let (prepared, parked) = self.holds.drain();
        prepared.into_iter().for_each(|held| self.lose(held.key, "the server went down"));
        parked.into_iter().for_each(|draft| self.refuse(draft, super::intake::shutting_down()));
        Turn::Ended
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Commit(admitted) => self.decide(ParkedDraft::Commit(admitted)),
            Job::Prepare(job) => self.decide(ParkedDraft::Prepare(job)),
            Job::Finish { prepared, key, done } => self.finish(prepared, key, done),
            Job::Abort { prepared, done } => self.abort(prepared, done),
            Job::Restore { txn, done } => self.restore(txn, done),
        }
    }

    fn decide(&mut self, draft: ParkedDraft) {
        let admitted = draft.admitted();
        if let Some(holder) = self.holds.holder(&admitted.draft, matches!(draft, ParkedDraft::Prepare(_))) {
            if self.holds.parked() >= PARKED_MAX {
                let message = format!("{PARKED_MAX} drafts wait for prepared ones already; come back");
                return self.refuse(draft, Fault::new(FaultKind::Busy, message).after_ms(50));
            }
            return self.holds.park(holder, draft);
        }
        let started = self.clock.steady();
        self.engine.stats.queue.record((started.as_nanos() as u64).saturating_sub(admitted.queued_ns));
        match self.results(admitted) {
            Ok(writes) => {
                self.engine.stats.check.record(since(&*self.clock, started));
                match draft {
                    ParkedDraft::Commit(admitted) => {
                        let (key, note) = (admitted.draft.key, admitted.draft.note);
                        self.seal(key, &note, writes);
                    }
                    ParkedDraft::Prepare(job) => self.prepare(job, writes),
                }
            }
            Err(Refused::Fault(fault)) => self.refuse(draft, fault),
            Err(Refused::Out(questions)) => self.send_out(draft, questions),
        }
    }

    /// What the draft's writes become, or why not. Pure with respect to the sequencer.
    fn results(&self, admitted: &Admitted) -> Result<Vec<SealedWrite>, Refused> {
        let view = HeadView { recent: &self.recent, reader: &self.reader };
        let draft = &admitted.draft;
        for read in &draft.read_cells {
            if let Some(newest) = view.newer(&read.cell, read.base, admitted.checked_at)? {
                return Err(self.read_conflict(&view, &read.cell, read.base, newest));
            }
        }
        for range in &draft.read_ranges {
            if let Some((cell, newest)) = view.newer_in_range(range, admitted.checked_at)? {
                return Err(self.read_conflict(&view, &cell, range.base, newest));
            }
        }
        let mut writes = Vec::with_capacity(draft.writes.len());
        let mut questions = Vec::new();
        for (position, write) in draft.writes.iter().enumerate() {
            if let Some(record) = self.clean(&view, write, admitted.checked_at)? {
                writes.push(SealedWrite { cell: write.cell.clone(), stamped: write.stamped, record, merged: false });
                continue;
            }
            match self.merged(&view, admitted, position, write)? {
                Ok(record) => {
                    writes.push(SealedWrite { cell: write.cell.clone(), stamped: write.stamped, record, merged: true });
                }
                Err(question) => questions.push(question),
            }
        }
        if questions.is_empty() { Ok(writes) } else { Err(Refused::Out(questions)) }
    }

    /// The write's own record when nothing stands in its way; `None`: a resolver has to decide.
    fn clean(&self, view: &HeadView<'_>, write: &Write, checked_at: Tid) -> Result<Option<Option<Bytes>>, Refused> {
        let own = match &write.change {
            Change::Apply { .. } => return Ok(None),
            Change::Put(record) => Some(record.clone()),
            Change::Delete => None,
        };
        // The key of a stamped write does not exist before its stamp.
        let newer = if write.stamped { None } else { view.newer(&write.cell, write.base, checked_at)? };
        Ok(newer.is_none().then_some(own))
    }

    fn merged(
        &self,
        view: &HeadView<'_>,
        admitted: &Admitted,
        position: usize,
        write: &Write,
    ) -> Result<Result<Option<Bytes>, Question>, Refused> {
        let (theirs_tid, theirs) = if write.stamped { (Tid::NONE, None) } else { view.newest(&write.cell)? };
        let fits = |candidate: &&Candidate| candidate.position == position && candidate.theirs == theirs_tid;
        if let Some(candidate) = admitted.candidates.iter().find(fits) {
            return Ok(Ok(candidate.record.clone()));
        }
        let base = match write.change {
            Change::Apply { .. } => None,
            Change::Put(_) | Change::Delete => self.reader.get(&write.cell, write.base)?.and_then(|base| base.record),
        };
        let resolver = merge::resolver_of(&self.engine.registry, &write.change, theirs.as_ref());
        if resolver.is_some_and(|resolver| resolver.expensive()) && admitted.rounds < ROUNDS_MAX {
            return Ok(Err(Question { position, base, theirs_tid, theirs }));
        }
        let started = self.clock.steady();
        let sides = Sides { base: base.as_ref(), theirs: theirs.as_ref() };
        let outcome = merge::resolve(&self.engine.registry, &self.engine.limits, &write.change, sides);
        self.engine.stats.merge.record(since(&*self.clock, started));
        outcome.map(Ok).map_err(|not_merged| {
            Refused::Fault(Fault::conflict(
                FaultKind::Conflict,
                ConflictDetail {
                    cell: write.cell.clone(),
                    class: not_merged.class,
                    base: write.base,
                    newest: theirs_tid,
                    reason: not_merged.reason,
                    base_record: base,
                    newest_record: theirs,
                },
            ))
        })
    }

    fn read_conflict(&self, view: &HeadView<'_>, cell: &Cell, base: Tid, newest: Tid) -> Refused {
        let newest_record = view.newest(cell).ok().and_then(|(_, record)| record);
        let class = merge::class_of(&Change::Delete, newest_record.as_ref()).to_owned();
        Refused::Fault(Fault::conflict(
            FaultKind::ReadConflict,
            ConflictDetail {
                cell: cell.clone(),
                class,
                base,
                newest,
                reason: "it was read, and the draft asked for a serializable commit".into(),
                base_record: None,
                newest_record: None,
            },
        ))
    }

    fn send_out(&mut self, draft: ParkedDraft, questions: Vec<Question>) {
        self.engine.merging_started();
        if let Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) =
            self.to_mergers.try_send(MergeOut { job: draft, questions })
        {
            // The mergers are busy: better late here than never.
            self.engine.merging_ended();
            let mut draft = back.job;
            draft.admitted_mut().rounds = ROUNDS_MAX;
            self.decide(draft);
        }
    }

    fn seal(&mut self, key: CommitKey, note: &Note, writes: Vec<SealedWrite>) {
        let tid = Tid::from_unix_nanos(self.clock.unix_nanos()).max(self.last.next());
        let stamped = |position: usize, write: SealedWrite| TxnWrite {
            cell: if write.stamped { stamp(&write.cell, tid, position) } else { write.cell },
            record: write.record,
            merged: write.merged,
        };
        let writes = writes.into_iter().enumerate().map(|(position, write)| stamped(position, write)).collect();
        self.pass_on(Txn { tid, key, note: note::encode(note), writes }, Answer::Key);
    }

    fn pass_on(&mut self, txn: Txn, answer: Answer) {
        self.last = txn.tid;
        for write in &txn.writes {
            self.recent.note(txn.tid, write.cell.clone(), write.record.clone());
        }
        let sealed_ns = self.clock.steady().as_nanos() as u64;
        let sealed = Sealed { txn, epoch: self.epoch, answer, sealed_ns };
        // At most one is stuck: the next job is only taken when it has been handed over.
        debug_assert!(self.stuck.is_none());
        self.stuck = Some(sealed);
    }

    fn hand_over(&mut self, sealed: Sealed, wait: bool) -> bool {
        if wait {
            if let Err(lost) = self.to_writer.send(sealed) {
                self.engine.refuse_sealed(lost.0, super::intake::shutting_down());
            }
            return true;
        }
        match self.to_writer.try_send(sealed) {
            Ok(()) => true,
            Err(TrySendError::Full(sealed)) => {
                self.stuck = Some(sealed);
                false
            }
            Err(TrySendError::Disconnected(sealed)) => {
                self.engine.refuse_sealed(sealed, super::intake::shutting_down());
                true
            }
        }
    }

    fn prepare(&mut self, job: PrepareJob, writes: Vec<SealedWrite>) {
        let id = self.next_prepared;
        self.next_prepared = self.next_prepared.wrapping_add(1);
        let draft = job.admitted.draft;
        let by_resolver = writes.iter().filter(|write| write.merged);
        let merged = by_resolver.map(|write| Merged { cell: write.cell.clone(), record: write.record.clone() }).collect();
        let prepared = Prepared {
            key: draft.key,
            note: draft.note,
            writes,
            read_cells: draft.read_cells.into_iter().map(|read| read.cell).collect(),
            read_ranges: draft.read_ranges,
            deadline: self.clock.steady() + job.time_limit,
        };
        self.holds.hold(id, prepared);
        self.engine.stats.set_prepared(self.holds.len());
        (job.done)(Ok(PreparedReceipt { prepared: id, merged }));
    }

    fn finish(&mut self, id: u64, key: CommitKey, done: Done<Receipt>) {
        let Some((prepared, freed)) = self.holds.release(id) else {
            // It may have been finished by an earlier try of the same caller.
            return self.engine.answer_by_key(key, done);
        };
        self.engine.stats.set_prepared(self.holds.len());
        self.engine.keys.enter_reserved(prepared.key, done);
        self.seal(prepared.key, &prepared.note, prepared.writes);
        self.unpark(freed);
    }

    fn abort(&mut self, id: u64, done: Done<Tid>) {
        if let Some((prepared, freed)) = self.holds.release(id) {
            self.engine.stats.set_prepared(self.holds.len());
            self.lose(prepared.key, "the draft was aborted");
            self.unpark(freed);
        }
        done(Ok(self.engine.feed.visible()));
    }

    fn expire_prepared(&mut self) {
        if self.holds.len() == 0 {
            return;
        }
        for id in self.holds.expired(self.clock.steady()) {
            if let Some((prepared, freed)) = self.holds.release(id) {
                self.engine.stats.set_prepared(self.holds.len());
                self.lose(prepared.key, "the prepared draft was over its time limit");
                self.unpark(freed);
            }
        }
    }

    fn lose(&self, key: CommitKey, why: &str) {
        let message = format!("{why}: nothing of it was committed; run the transaction again");
        self.engine.keys.complete(key, Err(Fault::new(FaultKind::PrepareLost, message)));
    }

    fn unpark(&self, freed: Vec<ParkedDraft>) {
        for draft in freed {
            self.intake.push_control(draft.into_job());
        }
    }

    fn restore(&mut self, txn: Txn, done: Done<Tid>) {
        if txn.tid <= self.last {
            let message = format!("tid {} is not newer than {}; restore only adds to the end", txn.tid, self.last);
            return done(Err(Fault::invalid(message)));
        }
        let greatest = txn.writes.iter().map(|write| write.cell.oid).filter(|oid| *oid != super::oids::SYSTEM_OID).max();
        self.engine.oids.observe(greatest.unwrap_or(Oid::ROOT));
        self.pass_on(txn, Answer::Restored(done));
    }

    fn refuse(&self, draft: ParkedDraft, fault: Fault) {
        if matches!(fault.kind, FaultKind::Conflict | FaultKind::ReadConflict) {
            self.engine.stats.conflicts.add(1);
        }
        match draft {
            ParkedDraft::Commit(admitted) => self.engine.keys.complete(admitted.draft.key, Err(fault)),
            ParkedDraft::Prepare(job) => {
                self.engine.keys.complete(job.admitted.draft.key, Err(fault.clone()));
                (job.done)(Err(fault));
            }
        }
    }

    fn start_epoch_if_refused(&mut self) {
        let refused = self.engine.refused_epoch();
        if refused < self.epoch {
            return;
        }
        if let Some(sealed) = self.stuck.take() {
            self.engine.refuse_sealed(sealed, self.engine.why_refused());
        }
        self.recent.reset(self.last);
        self.epoch = refused + 1;
    }
}

impl ParkedDraft {
    pub(crate) fn admitted(&self) -> &Admitted {
        match self {
            ParkedDraft::Commit(admitted) => admitted,
            ParkedDraft::Prepare(job) => &job.admitted,
        }
    }

    pub(crate) fn admitted_mut(&mut self) -> &mut Admitted {
        match self {
            ParkedDraft::Commit(admitted) => admitted,
            ParkedDraft::Prepare(job) => &mut job.admitted,
        }
    }

    pub(crate) fn into_job(self) -> Job {
        match self {
            ParkedDraft::Commit(admitted) => Job::Commit(admitted),
            ParkedDraft::Prepare(job) => Job::Prepare(job),
        }
    }

    pub(crate) fn priority(&self) -> Priority {
        self.admitted().draft.priority
    }
}

impl From<crate::store::StoreError> for Refused {
    fn from(error: crate::store::StoreError) -> Refused {
        Refused::Fault(fault_of(error))
    }
}

/// The key of a stamped write: prefix, tid, position; see the wire's `Write.stamped`.
fn stamp(cell: &Cell, tid: Tid, position: usize) -> Cell {
    let mut key = Vec::with_capacity(cell.key.len() + 12);
    key.extend_from_slice(&cell.key);
    key.extend_from_slice(&tid.0.to_be_bytes());
    key.extend_from_slice(&(position as u32).to_be_bytes());
    Cell { oid: cell.oid, key: key.into() }
}

fn since(clock: &dyn Clock, started: Duration) -> u64 {
    clock.steady().saturating_sub(started).as_nanos() as u64
}
