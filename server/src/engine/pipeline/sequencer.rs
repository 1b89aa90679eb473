//! Owns the order: what decides which draft is committed, when, and under which tid. Who turns it is `turning`'s.
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
//! - the disk is never read here: what memory does not have is looked up by a merger, and the draft comes back;
//! - when the writer refuses an epoch (disk full), everything sealed in it is refused, and the next epoch starts from
//!   what the store has; prepared drafts that were to be finished in it are prepared again.

mod closing;
mod durable;
mod promoting;
mod readied;
mod restoring;
mod turns;
mod two_phase;

pub(crate) use turns::By;

use crate::engine::answers::Preparing;
use crate::engine::faults::shutting_down;
use crate::engine::ids::Ids;
use crate::engine::keep::system;
use crate::engine::pipeline::admission::Admitted;
use crate::engine::pipeline::ahead_of_clock::AheadOfClock;
use crate::engine::pipeline::ask::{
    self, Answer, Ask, DraftAsk, Errand, Hop, LOOKS_MAX, Life, PrepareAsk, Question, ROUNDS_MAX, Sealed,
};
use crate::engine::pipeline::check::{self, Check, Refused};
use crate::engine::pipeline::condemned;
use crate::engine::pipeline::condemned::Condemned;
use crate::engine::pipeline::endings::Endings;
use crate::engine::pipeline::head::HeadView;
use crate::engine::pipeline::holds::Holds;
use crate::engine::pipeline::intake::Intake;
use crate::engine::pipeline::keys::forgotten_key;
use crate::engine::pipeline::kinds;
use crate::engine::pipeline::recent::{Recent, RecentBounds};
use crate::engine::pipeline::replays::ToReplay;
use crate::engine::pipeline::way::{LARGE_BYTES, Line};
use crate::engine::sealed_write::SealedWrite;
use crate::engine::{Engine, note};
use crate::storage::{Txn, TxnWrite, Writes};
use crossbeam_channel::{Sender, TrySendError};
use roaring::RoaringTreemap;
use std::sync::Arc;
use zeolite_proto::evolve::is_owed;
use zeolite_proto::{Cell, CommitKey, Fault, FaultKind, Note, Oid, Tid};

const PARKED_MAX: usize = 1024;

/// The sequencer's state; nobody else has it.
pub(crate) struct Sequencer {
    engine: Arc<Engine>,
    intake: Arc<Intake>,
    recent: Recent,
    holds: Holds,
    endings: Endings,
    condemned: Condemned,
    last: Tid,
    /// The newest of what the store has and of what was sealed since in this epoch: after a refusal that is less than `last`.
    newest: Tid,
    /// The last that was sealed and is no client's commit: a gate, what is restored, another term.
    unlike: Tid,
    /// No transaction but the server's own is newer.
    last_of_others: Tid,
    /// Nothing but what was restored is behind the beginning of this life, if this is the newest of all.
    last_restored: Tid,
    /// A restore has said that history is packed up to here.
    packed_said: Tid,
    /// Keys as old as this may have been committed where a restore comes from; what is admitted later is refused there.
    keys_unknown_to: Tid,
    epoch: u64,
    prepared_ids: Ids,
    to_writer: Sender<Hop>,
    to_mergers: Sender<Errand>,
    /// Sealed, but the writer's hop was full.
    stuck: Option<Hop>,
    ahead: AheadOfClock,
    /// In this epoch it was promoted, with this tid: until that is in force, what it followed is over.
    promoted: Option<(u64, Tid)>,
    /// In this epoch drafts were kept for the next life of the server.
    kept_in: Option<u64>,
}

impl Sequencer {
    pub(crate) fn new(
        engine: Arc<Engine>,
        bounds: RecentBounds,
        (last, last_of_others): (Tid, Tid),
        to_writer: Sender<Hop>,
        to_mergers: Sender<Errand>,
    ) -> Sequencer {
        Sequencer {
            intake: engine.intake().clone(),
            recent: Recent::new(last, bounds),
            holds: Holds::default(),
            endings: Endings::default(),
            condemned: Condemned::default(),
            last,
            newest: last,
            unlike: last,
            last_of_others,
            last_restored: Tid::MAX,
            packed_said: engine.reader().packed_said(),
            keys_unknown_to: Tid::NONE,
            epoch: 1,
            prepared_ids: Ids::new(engine.setup.seed, "prepared"),
            to_writer,
            to_mergers,
            stuck: None,
            ahead: AheadOfClock::default(),
            promoted: None,
            kept_in: None,
            engine,
        }
    }

    fn work(&mut self, ask: Ask) {
        // Whatever was admitted before: what is decided is decided here.
        if let Some(why) = self.engine.copies().refuses(&ask) {
            return self.engine.refuse_ask(ask, &why);
        }
        match ask {
            Ask::Commit(admitted) => self.decide(DraftAsk::Commit(admitted)),
            Ask::Prepare(ask) => self.decide(DraftAsk::Prepare(ask)),
            Ask::Amend(ask) => self.amend(ask),
            Ask::Finish { whose, prepared, key, since, done } => self.finish(whose, prepared, key, since, done),
            Ask::Abort { whose, prepared, key, since, done } => self.abort(whose, prepared, (key, since), done),
            Ask::ListPrepared(done) => done(Ok(self.list_prepared())),
            Ask::PrepareAgain { owner, key, how, done } => self.prepare_again(owner, (key, how), done),
            Ask::Restore(ask) => self.restore(ask),
            Ask::Condemn { oids, done } => self.condemn(oids, done),
            Ask::TryGate { gate, done } => self.try_gate(gate, done),
            Ask::CountGate { gate, done } => self.count_gate(gate, done),
            Ask::CloseGate { gate, done } => self.close_gate(&gate, done),
            Ask::Promote { term, done } => self.promote(term, done),
            Ask::Roll(done) => self.send_on(Hop::Roll { epoch: self.epoch, done }),
        }
    }

    fn decide(&mut self, draft: DraftAsk) {
        let admitted = draft.admitted();
        if admitted.draft.key_since < self.keys_unknown_to {
            return self.refuse(draft, forgotten_key());
        }
        if let Some(holder) = self.holder(&draft) {
            if let Some(fault) = self.in_doubt(holder) {
                return self.refuse(draft, fault);
            }
            if self.holds.parked() >= PARKED_MAX {
                let message = format!("{PARKED_MAX} drafts wait for prepared ones already; come back");
                return self.refuse(draft, Fault::new(FaultKind::Busy, message).after_ms(50));
            }
            // It may wait for long, and few are written ahead at once.
            draft.admitted().ready.iter().for_each(|ready| ready.writes().give_up_ahead());
            return self.holds.park(holder, draft);
        }
        if matches!(draft, DraftAsk::Prepare(_))
            && let Some(fault) = self.too_much_prepared(draft.admitted())
        {
            return self.refuse(draft, fault);
        }
        let Some(draft) = self.seal_ready(draft) else { return };
        let admitted = draft.admitted();
        let started = self.engine.clock().steady();
        if let Some(came) = admitted.came {
            self.engine.stats().queue.record((started.as_nanos() as u64).saturating_sub(came.ns));
        }
        let results = match &draft {
            DraftAsk::Prepare(PrepareAsk { how: Preparing { hold: true, .. }, .. }) => {
                self.check(admitted, true).held(admitted)
            }
            _ => self.check(admitted, true).results(admitted),
        };
        let seals = matches!(draft, DraftAsk::Commit(_));
        let results = match self.engine.to_replay(&draft, &results) {
            ToReplay::Nothing => results.map(|judged| draft.admitted().replays.told(judged)),
            ToReplay::Ask(conflicts) => Err(Refused::Out(vec![Question::Replay(conflicts)])),
            ToReplay::Wait(newest) => Err(Refused::Wait(newest)),
            ToReplay::Never => return self.decide(draft.into_sent()),
        };
        let results = results
            .and_then(|judged| self.allowed(&judged.writes, seals).map(|()| judged).map_err(Refused::Fault))
            .and_then(|judged| self.may_owe(&judged).map(|()| judged).map_err(Refused::Fault));
        match results {
            Ok(judged) => {
                self.engine.stats().check.record(self.engine.nanos_since(started));
                match draft {
                    DraftAsk::Commit(admitted) => {
                        let (draft, answer) = readied::parts_of(admitted);
                        self.seal(draft.key, &draft.note, judged.writes, answer);
                    }
                    DraftAsk::Prepare(ask) => self.prepare(ask, judged),
                    DraftAsk::Amend(ask) => self.amend(ask),
                }
            }
            Err(Refused::Fault(fault)) => self.refuse(draft, fault),
            Err(Refused::Out(questions)) => self.send_out(draft, questions),
            Err(Refused::Wait(tid)) => self.ask_again_after(tid, draft.into_ask()),
        }
    }

    /// A prepared draft that is in the way.
    fn holder(&self, draft: &DraftAsk) -> Option<u64> {
        let Admitted { draft: asked, wide, ready, .. } = draft.admitted();
        let holder = self.holds.holder(asked, wide.as_deref(), matches!(draft, DraftAsk::Prepare(_)));
        holder.or_else(|| self.holds.holder_of_large(ready.as_ref()?.writes()))
    }

    /// What stands in the way whatever the bases are: size, garbage collection, gates, kinds. What the writer could refuse is refused
    /// here, so that a batch fails for the disk alone. `seals`: they are sealed at once, not promised.
    fn allowed(&self, writes: &[SealedWrite], seals: bool) -> Result<(), Fault> {
        check::check_merged(writes, self.engine.limits())?;
        self.condemned.check(writes.iter().map(|write| (&write.cell, write.record.as_ref())))?;
        self.engine.keep.gates().check(writes)?;
        kinds::check(self.engine.reader(), writes.iter().map(|write| (&write.cell, write.record.as_ref())), seals)
    }

    /// What is owed is written beside the draft's own writes: no prepared draft may hold it.
    fn may_owe(&self, judged: &check::Judged) -> Result<(), Fault> {
        let mut owed = judged.writes.iter().filter(|write| is_owed(&write.cell));
        match !judged.passed.is_empty() && owed.any(|write| self.holds.is_held(&write.cell, None)) {
            false => Ok(()),
            true => {
                Err(Fault::new(FaultKind::Busy, "a prepared draft holds the ledger of an evolve; come back")
                    .after_ms(50))
            }
        }
    }

    fn check<'a>(&'a self, admitted: &'a Admitted, passes: bool) -> Check<'a> {
        let view = HeadView { recent: &self.recent, reader: self.engine.reader(), ahead: &admitted.looked_ahead };
        Check { engine: &self.engine, view, passes }
    }

    fn send_out(&mut self, draft: DraftAsk, questions: Vec<Question>) {
        let looks = questions.iter().any(|question| !matches!(question, Question::Merge { .. }));
        if looks && draft.admitted().looks >= LOOKS_MAX {
            let message = "the objects of this draft change faster than they can be looked up; come back";
            return self.refuse(draft, Fault::new(FaultKind::Busy, message).after_ms(50));
        }
        let errand = Errand::Draft { ask: Box::new(draft), questions };
        if let Err(Errand::Draft { ask: mut draft, .. }) = self.send_errand(errand) {
            if looks {
                let message = "more drafts are out to be looked up than may be at once; come back";
                return self.refuse(*draft, Fault::new(FaultKind::Busy, message).after_ms(50));
            }
            // The mergers are busy: better late here than never.
            draft.admitted_mut().rounds = ROUNDS_MAX;
            self.work(draft.into_ask());
        }
    }

    /// Back when the mergers have as much as they may.
    fn send_errand(&self, errand: Errand) -> Result<(), Errand> {
        self.engine.pipeline.merging_started();
        self.to_mergers.try_send(errand).map_err(|not_sent| {
            self.engine.pipeline.merging_ended();
            let (TrySendError::Full(errand) | TrySendError::Disconnected(errand)) = not_sent;
            errand
        })
    }

    fn seal(&mut self, key: CommitKey, note: &Note, writes: Vec<SealedWrite>, answer: Answer) {
        let tid = self.next_tid(&answer);
        let stamped = |position: usize, write: SealedWrite| TxnWrite {
            cell: if write.stamped { stamp(&write.cell, tid, position) } else { write.cell },
            record: write.record,
            merged: write.merged,
        };
        let writes = writes.into_iter().enumerate().map(|(position, write)| stamped(position, write)).collect();
        self.seal_at(tid, key, note, writes, answer);
    }

    fn next_tid(&mut self, answer: &Answer) -> Tid {
        let next = self.last.next();
        // The server's own bookkeeping takes no time: what is restored later may be as old as what is there.
        let now = self.engine.clock().unix_nanos();
        let tid = if answer.is_own() { next } else { Tid::from_unix_nanos(now).max(next) };
        self.ahead.look(tid, now);
        tid
    }

    fn seal_at(&mut self, tid: Tid, key: CommitKey, note: &Note, writes: Writes, answer: Answer) {
        let digest = self.engine.keys().digest(key);
        let txn = Txn { tid, key, digest, own: answer.is_own(), note: note::encode(note), writes };
        self.pass_on(txn, (None, true), answer);
    }

    fn pass_on(&mut self, txn: Txn, (life, of_primary): (Option<Life>, bool), answer: Answer) {
        (self.last, self.newest) = (txn.tid, txn.tid);
        if answer.is_own() || !matches!(answer, Answer::Key(_) | Answer::Finish(_)) {
            self.unlike = txn.tid;
        }
        if !system::is_own(&txn) {
            self.last_of_others = txn.tid;
        }
        self.engine.pipeline.yields.sealed(&txn);
        self.recent.note_all(txn.tid, &txn.writes);
        let sealed_ns = self.engine.steady_ns();
        let bytes = ask::size(&txn);
        let line = if answer.is_batch() || bytes >= LARGE_BYTES { Line::Bulk } else { Line::Live };
        let on_its_way = self.intake.way().enter(line, bytes);
        self.send_on(Hop::Sealed(Sealed { txn, epoch: self.epoch, life, of_primary, answer, sealed_ns, on_its_way }));
    }

    /// An ask makes at most one hop, and the next ask is only taken when it has been handed over.
    fn send_on(&mut self, hop: Hop) {
        debug_assert!(self.stuck.is_none());
        self.stuck = Some(hop);
    }

    fn hand_over(&mut self, hop: Hop, wait: bool) -> bool {
        if wait {
            if let Err(lost) = self.to_writer.send(hop) {
                self.engine.refuse_hop(lost.0, shutting_down());
            }
            return true;
        }
        match self.to_writer.try_send(hop) {
            Ok(()) => true,
            Err(TrySendError::Full(hop)) => {
                self.stuck = Some(hop);
                false
            }
            Err(TrySendError::Disconnected(hop)) => {
                self.engine.refuse_hop(hop, shutting_down());
                true
            }
        }
    }

    fn condemn(&mut self, oids: Option<Arc<RoaringTreemap>>, done: Box<dyn FnOnce(Vec<Oid>) + Send>) {
        self.condemned.set(oids);
        let named = condemned::named_by(self.promised());
        // What is refused instead of becoming visible names nothing.
        let tell = Box::new(move |_refused: Option<Fault>| done(named));
        self.send_on(Hop::After { epoch: self.epoch, rests_on: self.newest, tell });
    }

    /// Tells a refusal: at once, or, when it shows a revision that is not durable yet, after that.
    fn refuse(&mut self, draft: DraftAsk, fault: Fault) {
        if matches!(fault.kind, FaultKind::Conflict | FaultKind::ReadConflict) {
            let class = fault.conflict.as_ref().map_or("", |at| at.class.as_str());
            self.engine.numbers.conflict(class, draft.admitted().draft.priority);
        }
        let rests_on = fault.in_the_way().map(|at| at.newest).max().unwrap_or(Tid::NONE);
        if rests_on <= self.engine.visible() {
            return self.engine.refuse_draft(draft, fault);
        }
        let engine = self.engine.clone();
        let tell = Box::new(move |refused: Option<Fault>| engine.refuse_draft(draft, refused.unwrap_or(fault)));
        self.send_on(Hop::After { epoch: self.epoch, rests_on, tell });
    }

    fn start_epoch_if_refused(&mut self) {
        if !self.is_refused() {
            return;
        }
        let refused = self.engine.health.refused_epoch();
        if let Some(hop) = self.stuck.take() {
            self.engine.refuse_hop(hop, self.engine.health.why_refused());
        }
        let visible = self.engine.visible();
        // A draft that was prepared on top of what is refused now may have been merged with it.
        for id in self.holds.resting_above(visible) {
            self.give_up(id, "the disk was full");
        }
        self.prepare_refused(visible);
        self.recent.reset(visible);
        self.packed_said = self.engine.reader().packed_said();
        (self.last_restored, self.keys_unknown_to) = (Tid::MAX, Tid::NONE);
        (self.epoch, self.newest, self.unlike) = (refused + 1, visible, self.unlike.min(visible));
        if self.engine.check_seat().is_err() {
            // Nobody has seen the tids that are refused, and those of the new primary may be as old.
            (self.last, self.last_of_others) = (visible, self.last_of_others.min(visible));
        }
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
