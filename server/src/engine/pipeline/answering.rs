//! Owns the way back: who is told what became of a draft, once it is durable or refused.

use crate::engine::Engine;
use crate::engine::faults::shutting_down;
use crate::engine::numbers::slow::Journey;
use crate::engine::pipeline::ask::{Answer, Ask, DraftAsk, Hop};
use crate::engine::pipeline::intake::NotTaken;
use crate::engine::pipeline::keys::{Keyed, NO_KEY, Standing};
use crate::storage::{StoreError, Txn};
use zeolite_proto::{CommitKey, Fault, FaultKind, Merged, Receipt};

impl Engine {
    pub(super) fn refuse_hop(&self, hop: Hop, why: Fault) {
        match hop {
            Hop::Sealed(sealed) => self.answer(&sealed.txn, sealed.answer, Journey::default(), Err(why)),
            Hop::After { tell, .. } => tell(Some(why)),
            // A new segment may begin at any time.
            Hop::Roll { done, .. } => done(Err(StoreError::Stopped)),
        }
    }

    /// Gives an ask to the sequencer that concludes or resumes something; with no sequencer left it is refused.
    pub(in crate::engine) fn push_control(&self, ask: Ask) {
        if let Err(ask) = self.intake().push_control(ask) {
            self.refuse_ask(*ask, &self.health.unwritable().unwrap_or_else(shutting_down));
        }
    }

    /// Gives it what anybody may ask at any time, as long as there is room for it.
    pub(in crate::engine) fn push_asked(&self, ask: Ask) {
        if let Err(not_taken) = self.intake().push_asked(ask) {
            let NotTaken { ask, fault } = *not_taken;
            self.refuse_ask(ask, &self.health.unwritable().unwrap_or(fault));
        }
    }

    /// The sequencer takes nothing any more: what is left is refused.
    pub(in crate::engine) fn end_intake(&self) {
        let why = self.health.unwritable().unwrap_or_else(shutting_down);
        self.intake().end().into_iter().for_each(|ask| self.refuse_ask(ask, &why));
    }

    pub(super) fn refuse_ask(&self, ask: Ask, why: &Fault) {
        match ask {
            Ask::Commit(admitted) => self.refuse_draft(DraftAsk::Commit(admitted), why.clone()),
            Ask::Prepare(ask) => self.refuse_draft(DraftAsk::Prepare(ask), why.clone()),
            Ask::PrepareAgain { done, .. } => done(Err(why.clone())),
            Ask::Amend(ask) => (ask.done)(Err(why.clone())),
            Ask::Finish { key, since, done, .. } => match self.keys().standing(&Keyed { key, digest: 0, since }) {
                Standing::Committed(_) => self.answer_by_key(key, since, done),
                Standing::Unknown | Standing::Forgotten | Standing::InFlight => done(Err(why.clone())),
            },
            Ask::Abort { done, .. } => done(Err(why.clone())),
            Ask::ListPrepared(done) => done(Err(why.clone())),
            Ask::Restore(ask) => ask.refuse(why.clone()),
            Ask::Promote { done, .. } => done(Err(why.clone())),
            Ask::TryGate { done, .. } | Ask::CountGate { done, .. } | Ask::CloseGate { done, .. } => {
                done(Err(why.clone()));
            }
            // Who waits for these sees that nobody will answer.
            Ask::Condemn { .. } => {}
            Ask::Roll(done) => done(Err(StoreError::Stopped)),
        }
    }

    pub(super) fn refuse_draft(&self, draft: DraftAsk, fault: Fault) {
        match draft {
            DraftAsk::Commit(admitted) => self.keys().complete(admitted.draft.key, Err(fault)),
            DraftAsk::Amend(ask) => (ask.done)(Err(fault)),
            DraftAsk::Prepare(ask) => {
                self.keys().complete(ask.admitted.draft.key, Err(fault.clone()));
                (ask.done)(Err(fault));
            }
        }
    }

    /// Whether something that was refused for this reason can be written later, by this life of the server.
    fn may_come_again(&self, why: &Fault) -> bool {
        why.kind != FaultKind::ShuttingDown && self.health.unwritable().is_none()
    }

    /// What ends a durable prepared draft without committing it is durable, or was refused. Where nothing is written any more only the next
    /// start can tell: until then the key is as unknown as all that was on its way.
    pub(super) fn end_key(&self, key: CommitKey, ended: Result<(), &Fault>) {
        match ended {
            Ok(()) => self.keys().complete(key, Err(aborted())),
            Err(why) if self.health.unwritable().is_some() => self.keys().complete(key, Err(why.clone())),
            // It is prepared again, or is at the next start.
            Err(_) => {}
        }
    }

    /// Tells the committer of a transaction: durable, or why not.
    pub(super) fn answer(&self, txn: &Txn, answer: Answer, journey: Journey, result: Result<(), Fault>) {
        match answer {
            Answer::Finish(_) if result.as_ref().is_err_and(|why| self.may_come_again(why)) => {}
            Answer::Key(origin) | Answer::Finish(origin) => {
                if result.is_ok() {
                    self.numbers.measure(txn, &origin, journey, self.clock().steady());
                }
                self.keys().complete(txn.key, result.map(|()| receipt_of(txn)));
            }
            Answer::Restored { ends, done } => {
                // What was to end is prepared again, and so its key stays in flight.
                let stays = ends == Some(txn.key) && result.as_ref().is_err_and(|why| self.may_come_again(why));
                if txn.key != NO_KEY && !stays {
                    self.keys().complete(txn.key, result.clone().map(|()| receipt_of(txn)));
                }
                if let Some(key) = ends {
                    // Ignored if that was its own transaction.
                    self.end_key(key, result.as_ref().map(drop));
                }
                done(result.map(|()| txn.tid));
            }
        }
    }
}

/// What is told of a prepared draft that was given up.
pub(crate) fn aborted() -> Fault {
    lost("the draft was aborted")
}

/// The fault of a prepared draft that is given up for a reason.
pub(crate) fn lost(why: &str) -> Fault {
    let message = format!("{why}: nothing of it was committed; run the transaction again");
    Fault::new(FaultKind::PrepareLost, message)
}

/// What the committer of a transaction is told.
pub(crate) fn receipt_of(txn: &Txn) -> Receipt {
    let by_resolver = txn.writes.iter().filter(|write| write.merged);
    let merged = by_resolver.map(|write| Merged { cell: write.cell.clone(), record: write.record.clone() }).collect();
    Receipt { tid: txn.tid, merged }
}
