//! Owns the sequencer's part in two-phase commits: prepare, amend, finish, abort, and the end of the time limit.
//!
//! What a prepared draft holds and who waits for it is `prepare`'s; this is what happens in the order of commits.

use super::{Sequencer, durable};
use crate::engine::answers::{Done, PreparedReceipt, Preparing};
use crate::engine::caller::{Caller, Owner, Whose};
use crate::engine::pipeline::admission::Admitted;
use crate::engine::pipeline::answering;
use crate::engine::pipeline::ask::{AmendAsk, Answer, Ask, DraftAsk, Errand, Hop, Origin, PrepareAsk, ROUNDS_MAX};
use crate::engine::pipeline::check::{Judged, Refused};
use crate::engine::pipeline::commit::prepare_lost;
use crate::engine::pipeline::endings::Ending;
use crate::engine::pipeline::holds::{Amendment, Prepared, merged};
use crate::engine::pipeline::keys::{Keyed, Standing, forgotten_key};
use crate::engine::pipeline::wide::WIDE_MAX;
use crate::engine::share::Counted;
use std::time::Duration;
use zeolite_proto::{Cell, CommitKey, Fault, FaultKind, Receipt, Tid, hash};

/// Drafts that are prepared at once.
const PREPARED_MAX: usize = 1024;

/// What is found of a prepared draft that somebody asks for.
enum Found {
    Prepared(u64),
    /// Its end is sealed at this tid.
    Ending(Tid),
    /// What others have is told to nobody.
    Anothers,
    OtherKey,
    Gone,
}

impl Sequencer {
    pub(crate) fn prepare(&mut self, ask: PrepareAsk, judged: Judged) {
        let rests_on = self.rests_on(&ask.admitted, &judged);
        let Judged { writes, passed, stale } = judged;
        let PrepareAsk { admitted, how, done } = ask;
        let Admitted { draft, wide, bytes, caller, blobs, replays, .. } = admitted;
        let (now, limit) = (self.engine.clock().steady(), Duration::from_millis(how.time_limit_ms));
        let places = Prepared::places(&caller.share, bytes);
        let wide_cells = draft.read_cells.len();
        let mut prepared = Prepared {
            key: draft.key,
            priority: draft.priority,
            note: draft.note,
            caller,
            writes,
            passed,
            read_cells: draft.read_cells.into_iter().map(|read| read.cell).collect(),
            wide_len: (wide_cells, draft.read_ranges.len()),
            wide,
            read_ranges: draft.read_ranges,
            deadline: if how.time_limit_ms == 0 { Duration::MAX } else { now.saturating_add(limit) },
            since_unix_ms: self.engine.unix_ms(),
            since_steady_ms: now.as_millis() as i64,
            durable: None,
            rests_on,
            stale: stale.into_iter().map(|stale| (stale.cell.clone(), stale)).collect(),
            bytes,
            places,
            blobs: blobs.into_iter().collect(),
            left_out: replays.left_out,
        };
        let id = self.new_id();
        let receipt = PreparedReceipt { prepared: id, merged: prepared.merged(), stale: prepared.stale() };
        if how.durable {
            let records = match self.records_to_keep(&prepared, how.time_limit_ms, false) {
                Ok(records) => records,
                Err(fault) => {
                    self.engine.keys().complete(prepared.key, Err(fault.clone()));
                    return done(Err(fault));
                }
            };
            let told = Box::new(move |kept: Result<Receipt, Fault>| done(kept.map(|_| receipt)));
            prepared.durable = Some(self.keep(prepared.key, records, told));
            prepared.rests_on = self.newest;
        } else {
            self.promise(receipt, rests_on, done);
        }
        self.holds.hold(id, prepared);
        self.count_prepared();
    }

    /// An id that nobody can guess and nothing has.
    pub(super) fn new_id(&self) -> u64 {
        self.prepared_ids.next(|id| self.holds.get(id).is_some() || self.endings.end_of(id, None).is_some())
    }

    /// Says how many are prepared, for the status.
    pub(super) fn count_prepared(&self) {
        let durable = self.holds.prepared().filter(|prepared| prepared.durable.is_some()).count();
        let oldest = self.holds.prepared().map(|prepared| prepared.since_steady_ms).min();
        self.engine.stats().set_prepared(self.holds.len(), durable, oldest);
    }

    /// What a draft was decided by, of that which is sealed: the newest of it. A draft of a few cells that nothing on its way has written, and that no
    /// prepared draft held whose end is on its way, rests on none of that: were it refused, all that the draft has been held against would be
    /// as it is.
    fn rests_on(&self, admitted: &Admitted, judged: &Judged) -> Tid {
        let draft = &admitted.draft;
        // Who replays, or judges a read that would fail, looks at other cells as well.
        let is_looked_at = admitted.replays.any() || !admitted.judged.is_empty();
        // The key of what is stamped is not known yet: whoever has read a range of its object may have read it.
        let is_stamped = draft.writes.iter().any(|write| write.stamped);
        let is_plain = admitted.is_short() && draft.read_ranges.is_empty() && judged.passed.is_empty() && !is_stamped;
        if self.newest <= self.engine.visible() || is_looked_at || !is_plain {
            return self.newest;
        }
        let written: hash::Set<&Cell> = draft.writes.iter().map(|write| &write.cell).collect();
        let cells = written.iter().copied().chain(draft.read_cells.iter().map(|read| &read.cell));
        let heads = cells.filter_map(|cell| self.recent.newest(cell));
        heads.chain(self.endings.newest_reader(&written)).max().unwrap_or(Tid::NONE).max(self.unlike)
    }

    /// The promise is given when what it rests on is durable. Where it is already, the writer need not be woken for it, unless he holds answers
    /// back for want of room.
    fn promise(&mut self, receipt: PreparedReceipt, rests_on: Tid, done: Done<PreparedReceipt>) {
        if rests_on <= self.engine.visible() && !self.engine.backlog().is_over() {
            return done(Ok(receipt));
        }
        let tell = Box::new(move |refused: Option<Fault>| done(refused.map_or(Ok(receipt), Err)));
        self.send_on(Hop::After { epoch: self.epoch, rests_on, tell });
    }

    pub(super) fn amend(&mut self, mut ask: AmendAsk) {
        if let Some(end) = self.endings.end_of(ask.prepared, None) {
            return self.ask_again_after(end, Ask::Amend(ask));
        }
        // Nobody else gets anything done meanwhile: no rounds.
        ask.admitted.rounds = ROUNDS_MAX;
        match self.amended(&ask) {
            Ok(Judged { writes, stale, .. }) => {
                let AmendAsk { prepared, admitted, withdrawn, done } = ask;
                let (merged, rests_on) = (merged(&writes).collect(), self.newest);
                let (blobs, bytes) = (admitted.blobs, admitted.bytes);
                let bytes = bytes + self.holds.get(prepared).map_or(0, |prepared| prepared.bytes);
                let amendment = Amendment { draft: admitted.draft, writes, withdrawn, stale, rests_on, bytes, blobs };
                match self.holds.amend(prepared, amendment).map(Prepared::stale) {
                    Some(stale) => self.promise(PreparedReceipt { prepared, merged, stale }, rests_on, done),
                    None => done(Err(prepare_lost())),
                }
            }
            Err(Refused::Fault(fault)) => (ask.done)(Err(fault)),
            Err(Refused::Out(questions)) => self.send_out(DraftAsk::Amend(ask), questions),
            Err(Refused::Wait(tid)) => self.ask_again_after(tid, Ask::Amend(ask)),
        }
    }

    fn amended(&self, ask: &AmendAsk) -> Result<Judged, Refused> {
        let AmendAsk { prepared: id, admitted, .. } = ask;
        let refused = |fault: Fault| Err(Refused::Fault(fault));
        let owned = |prepared: &&Prepared| prepared.caller.owner == admitted.caller.owner;
        let Some(prepared) = self.holds.get(*id).filter(owned) else { return refused(prepare_lost()) };
        if prepared.durable.is_some_and(|durable| durable.for_restart) {
            // Its hold has ended with its session.
            return refused(prepare_lost());
        }
        if prepared.durable.is_some() {
            return refused(Fault::invalid(
                "a durable prepared draft stays as it is; abort it and prepare another one",
            ));
        }
        if prepared.key != admitted.draft.key {
            return refused(Fault::invalid(
                "the amendment has another commit key than the prepared draft; use the same",
            ));
        }
        let limits = self.engine.limits();
        let (bytes, count) = (prepared.bytes + admitted.bytes, prepared.writes.len() + admitted.draft.writes.len());
        // Twice: what was replaced counts as well.
        if bytes > 2 * limits.draft_bytes_max {
            let what = "size of a prepared draft with its amendments";
            return refused(Fault::too_large(what, bytes, 2 * limits.draft_bytes_max));
        }
        if count > 2 * limits.draft_writes_max {
            let what = "number of writes of a prepared draft with its amendments";
            return refused(Fault::too_large(what, count, 2 * limits.draft_writes_max));
        }
        let (there, bytes_max) = (self.prepared_bytes(), self.engine.settings().prepared_bytes_max);
        if there > prepared.bytes && there + admitted.bytes > bytes_max {
            return refused(too_many_bytes(there, bytes_max));
        }
        if self.holds.other_holder(&admitted.draft, true, Some(*id)).is_some() {
            // Two that wait for each other would wait for their time limits.
            let message = "the amendment needs a cell that another prepared draft holds; abort this one and come back";
            return refused(Fault::new(FaultKind::Busy, message).after_ms(50));
        }
        let judged = self.check(admitted, false).held(admitted)?;
        self.allowed(&judged.writes, false).map_err(Refused::Fault)?;
        Ok(judged)
    }

    /// Which prepared draft is meant: by its id, or, where the id is not one of this life of the server, by its key.
    fn find(&self, whose: &Whose, id: u64, key: Option<CommitKey>) -> Found {
        if let Some(end) = self.endings.end_of(id, key) {
            return Found::Ending(end);
        }
        let by_key = || key.and_then(|key| self.holds.by_key(key));
        match self.holds.get(id).map(|prepared| (id, prepared)).or_else(by_key) {
            None => Found::Gone,
            Some((_, prepared)) if !whose.includes(&prepared.caller.owner) => Found::Anothers,
            Some((_, prepared)) if key.is_some_and(|key| key != prepared.key) => Found::OtherKey,
            Some((id, _)) => Found::Prepared(id),
        }
    }

    /// The answer of a prepare, once more.
    pub(crate) fn prepare_again(
        &mut self,
        owner: Owner,
        (key, how): (CommitKey, Preparing),
        done: Done<PreparedReceipt>,
    ) {
        match self.find(&Whose::Of(owner.clone()), 0, Some(key)) {
            Found::Ending(end) => self.ask_again_after(end, Ask::PrepareAgain { owner, key, how, done }),
            Found::Prepared(id) => {
                let Some(prepared) = self.holds.get(id) else { return };
                let (merged, stale) = (prepared.merged(), prepared.stale());
                // Its promise would be another one than that which is asked for.
                if how.durable != prepared.is_asked_durable() || (!how.hold && !stale.is_empty()) {
                    return done(Err(prepared_otherwise()));
                }
                self.promise(PreparedReceipt { prepared: id, merged, stale }, self.newest, done);
            }
            Found::Gone | Found::Anothers | Found::OtherKey => {
                done(Err(self.engine.health.unwritable().unwrap_or_else(on_its_way)))
            }
        }
    }

    /// Why nothing of this size is prepared now for this caller.
    pub(crate) fn too_much_prepared(&self, Admitted { caller, wide, bytes, .. }: &Admitted) -> Option<Fault> {
        let bytes = *bytes;
        let bytes_max = self.engine.settings().prepared_bytes_max;
        let (count, there) = (self.holds.len() + self.endings.len(), self.prepared_bytes());
        if count >= PREPARED_MAX {
            let message = format!("{PREPARED_MAX} drafts are prepared already; come back");
            return Some(Fault::new(FaultKind::Busy, message).after_ms(50));
        }
        if wide.is_some() && self.holds.wide() >= WIDE_MAX {
            let message = format!("{WIDE_MAX} drafts with very many reads are prepared already; come back");
            return Some(Fault::new(FaultKind::Busy, message).after_ms(50));
        }
        if count > 0 && there + bytes > bytes_max {
            return Some(too_many_bytes(there, bytes_max));
        }
        let of_drafts = caller.share.room(Counted::PreparedDrafts, 1, PREPARED_MAX);
        of_drafts.and_then(|()| caller.share.room(Counted::PreparedBytes, bytes, bytes_max)).err()
    }

    fn prepared_bytes(&self) -> usize {
        self.holds.bytes() + self.endings.bytes()
    }

    /// What the log knows of a key: read by a merger.
    fn answer_by_log(&self, key: CommitKey, since: Option<Tid>, done: Done<Receipt>) {
        if let Err(Errand::ByKey { done, .. }) = self.send_errand(Errand::ByKey { key, since, done }) {
            let message = "the server is busy with other questions; send the finish again in a moment";
            done(Err(Fault::new(FaultKind::Busy, message).after_ms(50)));
        }
    }

    pub(crate) fn finish(
        &mut self,
        whose: Whose,
        prepared: u64,
        key: CommitKey,
        since: Option<Tid>,
        done: Done<Receipt>,
    ) {
        let id = match self.find(&whose, prepared, Some(key)) {
            Found::Prepared(id) => id,
            Found::Ending(end) => {
                return self.ask_again_after(end, Ask::Finish { whose, prepared, key, since, done });
            }
            Found::Anothers => return done(Err(prepare_lost())),
            Found::OtherKey => return done(Err(other_key("finish it"))),
            Found::Gone => {
                let standing = self.engine.keys().standing(&Keyed { key, digest: 0, since });
                return match standing {
                    Standing::InFlight => done(Err(self.engine.health.unwritable().unwrap_or_else(on_its_way))),
                    // It may have been finished by an earlier try of the same caller.
                    _ => self.answer_by_log(key, since, done),
                };
            }
        };
        let stale = self.holds.get(id).map_or(0, |prepared| prepared.stale.len());
        if stale > 0 {
            let message = format!("{stale} cells of the prepared draft are stale; amend it before it is finished");
            return done(Err(Fault::invalid(message)));
        }
        let writes = self.holds.get(id).map_or(&[][..], |prepared| &prepared.writes);
        if let Err(fault) = self.engine.keep.gates().check_promised(writes) {
            return done(Err(fault));
        }
        let Some((prepared, freed)) = self.holds.release(id) else { return };
        self.count_prepared();
        self.engine.keys().enter_reserved(key, done);
        let came = Some(self.intake.way().came(self.engine.steady_ns()));
        // What it names is kept by what is being ended.
        let Caller { client, mark, .. } = prepared.caller.clone();
        let origin = Origin { priority: prepared.priority, came, client, mark, _blobs: None };
        let writes = prepared.writes.iter().cloned().chain(durable::end_of(&prepared)).collect();
        self.seal(key, &prepared.note, writes, Answer::Finish(origin));
        self.endings.begin(Ending { tid: self.last, id, prepared });
        self.unpark(freed);
    }

    /// Whoever asks for a draft that is being ended is heard again when it is known whether it was.
    pub(super) fn ask_again_after(&mut self, end: Tid, ask: Ask) {
        let engine = self.engine.clone();
        let tell = Box::new(move |_refused: Option<Fault>| engine.push_control(ask));
        self.send_on(Hop::After { epoch: self.epoch, rests_on: end, tell });
    }

    /// The ends that were sealed in a refused epoch are none: these drafts hold again what they held, before anything of the next
    /// epoch is decided. Whoever wanted them finished is told why not.
    pub(super) fn prepare_refused(&mut self, visible: Tid) {
        let refused = self.endings.refused(visible);
        // When nothing is written any more the writer tells, and nothing is finished either.
        if refused.is_empty() || self.engine.health.unwritable().is_some() {
            return;
        }
        let why = self.engine.health.why_refused();
        for Ending { id, mut prepared, .. } in refused {
            let key = prepared.key;
            // What it was merged with may be refused as well.
            if prepared.rests_on > visible {
                self.engine.keys().complete(key, Err(why.clone()));
                continue;
            }
            self.not_ended(&mut prepared);
            self.holds.hold(id, prepared);
            self.engine.keys().refuse_waiting(key, &why);
        }
        self.count_prepared();
    }

    /// Everything that was promised: prepared, or being finished.
    pub(super) fn promised(&self) -> impl Iterator<Item = &Prepared> {
        self.holds.prepared().chain(self.endings.prepared())
    }

    pub(crate) fn abort(
        &mut self,
        whose: Whose,
        prepared: u64,
        (key, since): (Option<CommitKey>, Option<Tid>),
        done: Done<Tid>,
    ) {
        let id = match self.find(&whose, prepared, key) {
            Found::Prepared(id) => id,
            Found::Ending(end) => return self.ask_again_after(end, Ask::Abort { whose, prepared, key, since, done }),
            Found::OtherKey => return done(Err(other_key("abort it"))),
            Found::Anothers => return done(Ok(self.engine.visible())),
            Found::Gone => {
                // It may be waiting for what others hold: then it is not prepared at all.
                if let Some(parked) = key.and_then(|key| self.holds.take_parked(key, &whose)) {
                    self.refuse(
                        parked,
                        Fault::new(FaultKind::PrepareLost, "the draft was aborted before it was prepared"),
                    );
                }
                return done(self.already_gone(&whose, key, since));
            }
        };
        if self.holds.get(id).is_some_and(|prepared| prepared.durable.is_some()) {
            return self.abort_durable(id, done);
        }
        self.give_up(id, "the draft was aborted");
        done(Ok(self.engine.visible()));
    }

    /// What is gone already need not be aborted, unless it was committed, or may have been, or is still to come. An operator may
    /// have mistyped it.
    fn already_gone(&self, whose: &Whose, key: Option<CommitKey>, since: Option<Tid>) -> Result<Tid, Fault> {
        let standing = key.map(|key| self.engine.keys().standing(&Keyed { key, digest: 0, since }));
        match (standing, self.engine.health.unwritable(), whose) {
            (Some(Standing::Committed(tid)), ..) => {
                Err(Fault::invalid(format!("the draft of this commit key is committed already, at {tid}; undo it")))
            }
            // The end of it may be on the disk or not: only the next start can tell.
            (_, Some(fault), _) => Err(fault),
            (Some(Standing::InFlight), ..) => Err(on_its_way()),
            (Some(Standing::Forgotten), ..) => Err(forgotten_key()),
            (Some(Standing::Unknown) | None, None, Whose::Of(_)) => Ok(self.engine.visible()),
            (Some(Standing::Unknown) | None, None, Whose::Anybodys) => {
                Err(Fault::new(FaultKind::NotFound, "nothing is prepared under this commit key"))
            }
        }
    }

    pub(crate) fn expire_prepared(&mut self) {
        // What a copy holds ends when its primary ends it.
        if self.holds.len() == 0 || self.engine.check_seat().is_err() {
            return;
        }
        let now = self.engine.clock().steady();
        self.refuse_who_waited(now);
        for id in self.holds.expired(now) {
            if self.holds.get(id).is_none_or(|prepared| prepared.durable.is_none()) {
                self.give_up(id, "the prepared draft was over its time limit");
            } else if self.stuck.is_none() {
                // The next one in the next turn: one hop at a time.
                self.abort_durable(id, Box::new(|_| {}));
            }
        }
    }

    pub(crate) fn give_up(&mut self, id: u64, why: &str) {
        if let Some((prepared, freed)) = self.holds.release(id) {
            self.count_prepared();
            self.lose(prepared.key, why);
            self.unpark(freed);
        }
    }

    pub(crate) fn lose(&self, key: CommitKey, why: &str) {
        self.engine.keys().complete(key, Err(answering::lost(why)));
    }

    pub(super) fn unpark(&self, freed: Vec<DraftAsk>) {
        for draft in freed {
            self.engine.push_control(draft.into_ask());
        }
    }
}

fn too_many_bytes(there: usize, bytes_max: usize) -> Fault {
    let message = format!("drafts of {there} bytes are prepared already, at most {bytes_max} may be; come back");
    Fault::new(FaultKind::Busy, message).after_ms(50)
}

fn other_key(what: &str) -> Fault {
    Fault::invalid(format!("the prepared draft has another commit key; {what} under the key it was prepared with"))
}

fn prepared_otherwise() -> Fault {
    Fault::invalid("this draft is prepared already, with other options (durable, hold); ask as then, or abort it first")
}

fn on_its_way() -> Fault {
    let message = "the draft of this commit key is on its way; send it again in a moment";
    Fault::new(FaultKind::Busy, message).after_ms(50)
}
