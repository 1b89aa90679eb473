//! Owns the sequencer's part in two-phase commits: prepare, amend, finish, abort, and the end of the time limit.
//!
//! What a prepared draft holds and who waits for it is `prepare`'s; this is what happens in the order of commits.

use super::Sequencer;
use crate::engine::answers::{Done, PreparedReceipt};
use crate::engine::caller::Owner;
use crate::engine::pipeline::ask::{
    AmendAsk, Answer, Ask, DraftAsk, Errand, Hop, Origin, PrepareAsk, ROUNDS_MAX, SealedWrite,
};
use crate::engine::pipeline::check::Refused;
use crate::engine::pipeline::commit::prepare_lost;
use crate::engine::pipeline::endings::Ending;
use crate::engine::pipeline::holds::{Amendment, Prepared};
use zeolite_proto::{CommitKey, Fault, FaultKind, Merged, Receipt, StaleCell, Tid};

/// Drafts that are prepared at once.
const PREPARED_MAX: usize = 1024;

impl Sequencer {
    pub(crate) fn prepare(&mut self, ask: PrepareAsk, writes: Vec<SealedWrite>, stale: Vec<StaleCell>) {
        let id = self.prepared_ids.next(|id| self.holds.get(id).is_some() || self.endings.end_of(id, None).is_some());
        let (draft, bytes) = (ask.admitted.draft, ask.admitted.bytes);
        let mut receipt = PreparedReceipt { prepared: id, merged: merged(&writes), stale: Vec::new() };
        let prepared = Prepared {
            key: draft.key,
            priority: draft.priority,
            note: draft.note,
            caller: ask.admitted.caller,
            writes,
            read_cells: draft.read_cells.into_iter().map(|read| read.cell).collect(),
            read_ranges: draft.read_ranges,
            deadline: self.engine.clock().steady() + ask.time_limit,
            rests_on: self.newest,
            stale: stale.into_iter().map(|stale| (stale.cell, stale.newest)).collect(),
            bytes,
        };
        receipt.stale = prepared.stale();
        self.holds.hold(id, prepared);
        self.engine.stats().set_prepared(self.holds.len());
        self.promise(receipt, ask.done);
    }

    /// The promise rests on what is sealed before it: it is given when that is durable.
    fn promise(&mut self, receipt: PreparedReceipt, done: Done<PreparedReceipt>) {
        let tell = Box::new(move |refused: Option<Fault>| done(refused.map_or(Ok(receipt), Err)));
        self.send_on(Hop::After { epoch: self.epoch, rests_on: self.newest, tell });
    }

    pub(super) fn amend(&mut self, mut ask: AmendAsk) {
        if let Some(end) = self.endings.end_of(ask.prepared, None) {
            return self.ask_again_after(end, Ask::Amend(ask));
        }
        // Nobody else gets anything done meanwhile: no rounds.
        ask.admitted.rounds = ROUNDS_MAX;
        match self.amended(&ask) {
            Ok((writes, stale)) => {
                let AmendAsk { prepared, admitted, withdrawn, done } = ask;
                let (merged, rests_on) = (merged(&writes), self.newest);
                let bytes = admitted.bytes + self.holds.get(prepared).map_or(0, |prepared| prepared.bytes);
                let amendment = Amendment { draft: admitted.draft, writes, withdrawn, stale, rests_on, bytes };
                match self.holds.amend(prepared, amendment).map(Prepared::stale) {
                    Some(stale) => self.promise(PreparedReceipt { prepared, merged, stale }, done),
                    None => done(Err(prepare_lost())),
                }
            }
            Err(Refused::Fault(fault)) => (ask.done)(Err(fault)),
            Err(Refused::Out(questions)) => self.send_out(DraftAsk::Amend(ask), questions),
        }
    }

    fn amended(&self, ask: &AmendAsk) -> Result<(Vec<SealedWrite>, Vec<StaleCell>), Refused> {
        let AmendAsk { prepared: id, admitted, .. } = ask;
        let refused = |fault: Fault| Err(Refused::Fault(fault));
        let Some(prepared) = self.owned(&admitted.caller.owner, *id) else { return refused(prepare_lost()) };
        if prepared.key != admitted.draft.key {
            return refused(Fault::invalid(
                "the amendment has another commit key than the prepared draft; use the same",
            ));
        }
        let limits = self.engine.limits();
        let (bytes, count) = (prepared.bytes + admitted.bytes, prepared.writes.len() + admitted.draft.writes.len());
        // Twice: what was replaced counts as well.
        if bytes > 2 * limits.draft_bytes_max || count > 2 * limits.draft_writes_max {
            let what = "size of a prepared draft with its amendments";
            return refused(Fault::too_large(what, bytes, 2 * limits.draft_bytes_max));
        }
        if self.holds.other_holder(&admitted.draft, true, Some(*id)).is_some() {
            // Two that wait for each other would wait for their time limits.
            let message = "the amendment needs a cell that another prepared draft holds; abort this one and come back";
            return refused(Fault::new(FaultKind::Busy, message).after_ms(50));
        }
        let (writes, stale) = self.check(admitted).held(admitted)?;
        self.allowed(&writes).map_err(Refused::Fault)?;
        Ok((writes, stale))
    }

    /// The prepared draft of this id, if it is this owner's: what others have is told to nobody.
    fn owned(&self, owner: &Owner, id: u64) -> Option<&Prepared> {
        self.holds.get(id).filter(|prepared| prepared.caller.owner == *owner)
    }

    /// The answer of a prepare, once more.
    pub(crate) fn prepare_again(&mut self, owner: &Owner, key: CommitKey, done: Done<PreparedReceipt>) {
        if let Some(end) = self.endings.end_of(0, Some(key)) {
            return self.ask_again_after(end, Ask::PrepareAgain { owner: owner.clone(), key, done });
        }
        match self.holds.by_key(key).filter(|(_, prepared)| prepared.caller.owner == *owner) {
            Some((id, prepared)) => {
                let (merged, stale) = (merged(&prepared.writes), prepared.stale());
                self.promise(PreparedReceipt { prepared: id, merged, stale }, done);
            }
            None => {
                let message = "the draft of this commit key is on its way; send it again in a moment";
                done(Err(Fault::new(FaultKind::Busy, message).after_ms(50)));
            }
        }
    }

    /// Why nothing of this size is prepared now.
    pub(crate) fn too_much_prepared(&self, bytes: usize) -> Option<Fault> {
        let bytes_max = self.engine.settings().prepared_bytes_max;
        let (count, there) = (self.holds.len() + self.endings.len(), self.holds.bytes() + self.endings.bytes());
        let message = if count >= PREPARED_MAX {
            format!("{PREPARED_MAX} drafts are prepared already; come back")
        } else if count > 0 && there + bytes > bytes_max {
            format!("drafts of {there} bytes are prepared already, at most {bytes_max} may be; come back")
        } else {
            return None;
        };
        Some(Fault::new(FaultKind::Busy, message).after_ms(50))
    }

    pub(crate) fn finish(&mut self, owner: &Owner, id: u64, key: CommitKey, since: Option<Tid>, done: Done<Receipt>) {
        if let Some(end) = self.endings.end_of(id, None) {
            let owner = owner.clone();
            return self.ask_again_after(end, Ask::Finish { owner, prepared: id, key, since, done });
        }
        let Some(prepared) = self.owned(owner, id) else {
            if self.holds.get(id).is_some() {
                return done(Err(prepare_lost()));
            }
            // It may have been finished by an earlier try of the same caller: the log knows.
            if let Err(Errand::ByKey { done, .. }) = self.send_errand(Errand::ByKey { key, since, done }) {
                let message = "the server is busy with other questions; send the finish again in a moment";
                done(Err(Fault::new(FaultKind::Busy, message).after_ms(50)));
            }
            return;
        };
        if prepared.key != key {
            let message = "the prepared draft has another commit key; finish it under the key it was prepared with";
            return done(Err(Fault::invalid(message)));
        }
        if !prepared.stale.is_empty() {
            let stale = prepared.stale.len();
            let message = format!("{stale} cells of the prepared draft are stale; amend it before it is finished");
            return done(Err(Fault::invalid(message)));
        }
        let Some((prepared, freed)) = self.holds.release(id) else { return };
        self.engine.stats().set_prepared(self.holds.len());
        self.engine.keys().enter_reserved(key, done);
        let queued_ns = Some(self.engine.steady_ns());
        let origin = Origin { priority: prepared.priority, queued_ns, client: prepared.caller.client.clone() };
        self.seal(key, &prepared.note, prepared.writes.clone(), Answer::Finish(origin));
        self.endings.begin(Ending { tid: self.last, id, prepared });
        self.unpark(freed);
    }

    /// Whoever asks for a draft that is being ended is heard again when it is known whether it was.
    fn ask_again_after(&mut self, end: Tid, ask: Ask) {
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
        for Ending { id, prepared, .. } in refused {
            let key = prepared.key;
            // What it was merged with may be refused as well.
            if prepared.rests_on > visible {
                self.engine.keys().complete(key, Err(why.clone()));
                continue;
            }
            self.holds.hold(id, prepared);
            self.engine.keys().refuse_waiting(key, &why);
        }
        self.engine.stats().set_prepared(self.holds.len());
    }

    /// Everything that was promised: prepared, or being finished.
    pub(super) fn promised(&self) -> impl Iterator<Item = &Prepared> {
        self.holds.prepared().chain(self.endings.prepared())
    }

    pub(crate) fn abort(&mut self, owner: &Owner, id: u64, done: Done<Tid>) {
        if let Some(end) = self.endings.end_of(id, None) {
            return self.ask_again_after(end, Ask::Abort { owner: owner.clone(), prepared: id, done });
        }
        if self.owned(owner, id).is_some() {
            self.give_up(id, "the draft was aborted");
        }
        done(Ok(self.engine.visible()));
    }

    pub(crate) fn expire_prepared(&mut self) {
        if self.holds.len() == 0 {
            return;
        }
        for id in self.holds.expired(self.engine.clock().steady()) {
            self.give_up(id, "the prepared draft was over its time limit");
        }
    }

    pub(crate) fn give_up(&mut self, id: u64, why: &str) {
        if let Some((prepared, freed)) = self.holds.release(id) {
            self.engine.stats().set_prepared(self.holds.len());
            self.lose(prepared.key, why);
            self.unpark(freed);
        }
    }

    pub(crate) fn lose(&self, key: CommitKey, why: &str) {
        let message = format!("{why}: nothing of it was committed; run the transaction again");
        self.engine.keys().complete(key, Err(Fault::new(FaultKind::PrepareLost, message)));
    }

    fn unpark(&self, freed: Vec<DraftAsk>) {
        for draft in freed {
            self.engine.push_control(draft.into_ask());
        }
    }
}

/// What resolvers decided.
fn merged(writes: &[SealedWrite]) -> Vec<Merged> {
    let by_resolver = writes.iter().filter(|write| write.merged);
    by_resolver.map(|write| Merged { cell: write.cell.clone(), record: write.record.clone() }).collect()
}
