//! Owns the caller's side of a commit: admission and the commit key, in the caller's own task, in parallel with all others.

use crate::engine::Engine;
use crate::engine::answers::{Done, Outcome, PreparedReceipt, Preparing};
use crate::engine::caller::{Caller, Owner, Whose};
use crate::engine::faults::fault_of;
use crate::engine::pipeline::admission;
use crate::engine::pipeline::admission::Admitted;
use crate::engine::pipeline::answering::receipt_of;
use crate::engine::pipeline::ask::{AmendAsk, Ask, PrepareAsk};
use crate::engine::pipeline::intake::Bringer;
use crate::engine::pipeline::keys::{Entered, Keyed, Reserved, Standing};
use crate::engine::pipeline::way::Line;
use std::sync::Arc;
use zeolite_proto::{Cell, CommitKey, Draft, Fault, FaultKind, PreparedDraft, Receipt, Role, Tid};

/// What becomes of an admitted draft that nothing is in the way of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Sealed,
    Held,
}

impl Engine {
    /// Commits a draft for anybody; see [`Engine::commit_as`].
    pub fn commit(self: &Arc<Self>, draft: Draft, done: Done<Receipt>) {
        self.commit_as(Role::Write, draft, done);
    }

    /// Commits a draft: admission here, in the caller's thread; the outcome through `done`. The mode may refuse it, but not
    /// one whose key is known: that is answered as before.
    pub fn commit_as(self: &Arc<Self>, caller: impl Into<Caller>, draft: Draft, done: Done<Receipt>) {
        self.commit_keyed(caller.into(), Keyed::of(&draft), || Ok(draft), done);
    }

    /// The same for a draft that is made when its key is new, and not looked at otherwise.
    pub(crate) fn commit_keyed(
        self: &Arc<Self>,
        caller: Caller,
        keyed: Keyed,
        draft: impl FnOnce() -> Result<Draft, Fault>,
        done: Done<Receipt>,
    ) {
        match self.keys().enter(&keyed, done) {
            Entered::Joined => {}
            Entered::Committed(tid, done) => done(self.tell_again(tid)),
            Entered::Refused(fault, done) => done(Err(fault)),
            Entered::New => {
                let pushed = draft().and_then(|draft| self.admit(caller, draft, Next::Sealed)).and_then(|admitted| {
                    let (line, bytes) = (Line::of(admitted.draft.priority, admitted.bytes), admitted.bytes);
                    self.intake()
                        .push(Ask::Commit(admitted), (line, bytes), Bringer::Helps)
                        .map_err(|not_taken| not_taken.fault)
                });
                if let Err(fault) = pushed {
                    self.keys().complete(keyed.key, Err(fault));
                }
            }
        }
    }

    /// First phase of two: after it, `finish` succeeds until the time limit is over, once nothing of the draft is stale. The
    /// same draft again gets the same answer.
    pub fn prepare(
        self: &Arc<Self>,
        caller: impl Into<Caller>,
        draft: Draft,
        how: Preparing,
        done: Done<PreparedReceipt>,
    ) {
        let how = match self.how_to_prepare(how) {
            Ok(how) => how,
            Err(fault) => return done(Err(fault)),
        };
        let key = draft.key;
        match self.keys().reserve(&Keyed::of(&draft)) {
            Ok(Reserved::New) => {}
            Ok(Reserved::Again) => {
                return self.push_asked(Ask::PrepareAgain { owner: caller.into().owner, key, how, done });
            }
            Err(fault) => return done(Err(fault)),
        }
        let refuse = |fault: Fault, done: Done<PreparedReceipt>| {
            self.keys().complete(key, Err(fault.clone()));
            done(Err(fault));
        };
        let admitted = match self.admit(caller.into(), draft, Next::Held) {
            Ok(admitted) => admitted,
            Err(fault) => return refuse(fault, done),
        };
        let (line, bytes) = (Line::of(admitted.draft.priority, admitted.bytes), admitted.bytes);
        let ask = PrepareAsk { admitted, how, done };
        if let Err(not_taken) = self.intake().push(Ask::Prepare(ask), (line, bytes), Bringer::Helps)
            && let Ask::Prepare(ask) = not_taken.ask
        {
            refuse(not_taken.fault, ask.done);
        }
    }

    fn how_to_prepare(&self, how: Preparing) -> Result<Preparing, Fault> {
        let limit = self.limits().prepare_ms_max;
        match how {
            Preparing { durable: true, hold: true, .. } => Err(Fault::invalid(
                "a draft is prepared as durable or held although parts of it are stale, not both; leave one out",
            )),
            Preparing { durable: true, .. } => Ok(how),
            Preparing { time_limit_ms: 0, .. } => Ok(Preparing { time_limit_ms: limit.min(30_000), ..how }),
            Preparing { time_limit_ms, .. } if time_limit_ms > limit => {
                Err(Fault::too_large("time_limit_ms", time_limit_ms as usize, limit as usize))
            }
            how => Ok(how),
        }
    }

    /// Between the two: parts of a prepared draft made anew, under its key. Others wait for what it holds, so it goes with the
    /// live drafts, whatever its own priority.
    pub fn amend(
        self: &Arc<Self>,
        caller: impl Into<Caller>,
        prepared: u64,
        draft: Draft,
        withdrawn: Vec<Cell>,
        done: Done<PreparedReceipt>,
    ) {
        if withdrawn.len() > self.limits().draft_writes_max {
            return done(Err(Fault::too_large("number of cells", withdrawn.len(), self.limits().draft_writes_max)));
        }
        let mut admitted = match self.admit_in_any_mode(draft, Next::Held) {
            Ok(admitted) => admitted,
            Err(fault) => return done(Err(fault)),
        };
        admitted.caller = caller.into();
        let bytes = admitted.bytes;
        let ask = AmendAsk { prepared, admitted, withdrawn, done };
        if let Err(not_taken) = self.intake().push(Ask::Amend(ask), (Line::Live, bytes), Bringer::Leaves)
            && let Ask::Amend(ask) = not_taken.ask
        {
            (ask.done)(Err(not_taken.fault));
        }
    }

    /// Second phase: commits what was prepared, also by its key alone (`prepared` 0, or of an earlier life of the server). Also
    /// answers a key that is committed already.
    pub fn finish(
        self: &Arc<Self>,
        owner: &Owner,
        prepared: u64,
        key: CommitKey,
        since: Option<Tid>,
        done: Done<Receipt>,
    ) {
        self.push_asked(Ask::Finish { whose: Whose::Of(owner.clone()), prepared, key, since, done });
    }

    /// Gives an owner's prepared draft up, by its id or its key; one that is gone already is no error, one that is committed is,
    /// or that may be.
    pub fn abort(
        self: &Arc<Self>,
        owner: &Owner,
        prepared: u64,
        (key, since): (Option<CommitKey>, Option<Tid>),
        done: Done<Tid>,
    ) {
        self.push_asked(Ask::Abort { whose: Whose::Of(owner.clone()), prepared, key, since, done });
    }

    /// The same for what an owner can no longer end, in any case.
    pub(crate) fn give_up(&self, owner: &Owner, prepared: u64) {
        self.push_control(Ask::Abort {
            whose: Whose::Of(owner.clone()),
            prepared,
            key: None,
            since: None,
            done: Box::new(|_| {}),
        });
    }

    /// Finishes anybody's prepared draft.
    pub fn finish_anybodys(self: &Arc<Self>, key: CommitKey, done: Done<Receipt>) {
        self.push_asked(Ask::Finish { whose: Whose::Anybodys, prepared: 0, key, since: None, done });
    }

    /// Gives anybody's prepared draft up.
    pub fn abort_anybodys(self: &Arc<Self>, key: CommitKey, done: Done<Tid>) {
        self.push_asked(Ask::Abort { whose: Whose::Anybodys, prepared: 0, key: Some(key), since: None, done });
    }

    /// Everybody's prepared drafts, the oldest first.
    pub fn prepared(&self, done: Done<Vec<PreparedDraft>>) {
        self.push_asked(Ask::ListPrepared(done));
    }

    /// Whether the key of a draft says already what becomes of it.
    pub(crate) fn knows_key(&self, draft: &Draft) -> bool {
        // Its bytes are not asked for here, so they are not summed.
        matches!(self.keys().standing(&Keyed::new(draft.key)), Standing::Committed(_) | Standing::InFlight)
    }

    /// Where a commit key stands. `since`: a tid that was committed before the key was made, if that is known.
    pub fn outcome(&self, key: CommitKey, since: Option<Tid>) -> Result<Outcome, Fault> {
        match (self.keys().standing(&Keyed { key, digest: 0, since }), self.health.unwritable()) {
            // The batch that poisoned the store may be on the disk or not.
            (Standing::Unknown, Some(fault)) => Err(fault),
            // A copy may not have it yet.
            (Standing::Unknown, None) => self.check_seat().map(|()| Outcome::Unknown),
            (Standing::Forgotten, _) => Ok(Outcome::Forgotten),
            (Standing::InFlight, _) => Ok(Outcome::InFlight),
            (Standing::Committed(tid), _) => self.tell_again(tid).map(Outcome::Committed),
        }
    }

    fn admit(&self, caller: Caller, draft: Draft, next: Next) -> Result<Admitted, Fault> {
        if let Some(fault) = self.health.unwritable() {
            return Err(fault);
        }
        self.check_mode(caller.role)?;
        let mut admitted = self.admit_in_any_mode(draft, next)?;
        admitted.caller = caller;
        Ok(admitted)
    }

    /// What was begun in another mode may be concluded in this one.
    fn admit_in_any_mode(&self, draft: Draft, next: Next) -> Result<Admitted, Fault> {
        let mut admitted = admission::admit(draft, self.limits(), self.keep.oids(), self.visible())?;
        admitted.blobs = self.hold_blobs(&admitted.draft)?;
        if next == Next::Sealed {
            admitted.ready = self.make_ready(&mut admitted.draft)?;
        }
        admitted.looked_ahead = self.look_ahead(&admitted.draft)?;
        admitted.came = Some(self.intake().way().came(self.steady_ns()));
        Ok(admitted)
    }

    /// The receipt of a committed transaction, told again from the log.
    fn tell_again(&self, tid: Tid) -> Result<Receipt, Fault> {
        let txn = self.reader().txn(tid).map_err(fault_of)?;
        // A transaction of which pack has taken everything is still committed.
        Ok(txn.map_or(Receipt { tid, merged: Vec::new() }, |txn| receipt_of(&txn)))
    }

    /// Answers by the key alone: a finish whose prepared draft is gone.
    pub(crate) fn answer_by_key(&self, key: CommitKey, since: Option<Tid>, done: Done<Receipt>) {
        match self.keys().enter(&Keyed { key, digest: 0, since }, done) {
            Entered::Joined => {}
            Entered::Committed(tid, done) => done(self.tell_again(tid)),
            Entered::Refused(fault, done) => done(Err(self.health.unwritable().unwrap_or(fault))),
            // What was to be finished when a write failed may have been; only the next start can tell.
            Entered::New => self.keys().complete(key, Err(self.health.unwritable().unwrap_or_else(prepare_lost))),
        }
    }
}

/// The fault of a prepared draft that is no more.
pub(crate) fn prepare_lost() -> Fault {
    let message = "there is no such prepared draft: it was aborted, ran out of time, or the server was restarted; \
                   nothing of it was committed: run the transaction again";
    Fault::new(FaultKind::PrepareLost, message)
}
