//! Owns restores: transactions that bring their tids (import, copy), admitted like everything else and added at the end.
//!
//! A restore is a course of transactions of which each rests on those before it. So the first one that is refused ends it: what
//! is on its way behind that one is refused as well, or the copy would have a hole that nothing can fill any more.
//!
//! The mode is looked at when a restore begins: a copy goes on through the modes that it copies.

use crate::engine::Engine;
use crate::engine::answers::Done;
use crate::engine::faults::fault_of;
use crate::engine::ids::public;
use crate::engine::pipeline::admission;
use crate::engine::pipeline::ask::{Ask, Life, RestoreAsk};
use crate::engine::pipeline::course::Course;
use crate::storage::{StoreError, Txn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeolite_proto::{CommitKey, Fault, FaultKind, Priority, Role, Tid};

/// One restore.
pub struct Restoring {
    engine: Arc<Engine>,
    course: Arc<Course>,
    /// One was refused before it was queued: those before it go on, none follows.
    closed: AtomicBool,
}

/// What programs without commit keys write; nobody asks for its outcome.
pub(crate) const NO_KEY: CommitKey = CommitKey([0; 16]);

impl Engine {
    /// Begins a restore, if the mode lets it.
    pub fn restoring(self: &Arc<Self>) -> Result<Restoring, Fault> {
        self.check_mode(Role::Write)?;
        Ok(Restoring { engine: self.clone(), course: Arc::default(), closed: AtomicBool::new(false) })
    }
}

impl Restoring {
    /// Its transactions are about to come: a new life of the store begins. `packed_to`: history up to there was packed where
    /// they come from.
    pub fn begin(&self, packed_to: Tid, done: Done<()>) {
        let engine = &self.engine;
        if packed_to > engine.setup.restore_end().newest {
            let message = format!("packed_to {packed_to} is too far ahead of the clock; give the source's own");
            return done(Err(Fault::invalid(message)));
        }
        // Every life of the server has another seed, and every life of the store in it another beginning.
        let timeline = public(engine.setup.seed, "timeline", engine.steady_ns());
        let life = Some(Life { timeline, packed_to });
        let done = Box::new(move |begun: Result<(), StoreError>| done(begun.map_err(fault_of)));
        engine.push_control(Ask::Roll { life, done });
    }

    /// Adds a transaction, newer than any here; the outcome through `done`.
    pub fn add(&self, mut txn: Txn, done: Done<Tid>) {
        let engine = &self.engine;
        let end = engine.setup.restore_end();
        let admitted = match self.closed.load(Ordering::Acquire) {
            true => Err(ended()),
            false => engine.check_own_mode().and_then(|()| admission::admit_restored(&txn, engine.limits(), end)),
        };
        let bytes = match admitted {
            Ok(bytes) => bytes,
            Err(fault) => return self.close(done, fault),
        };
        admission::own_restored(&mut txn);
        let ask = RestoreAsk { txn, course: self.course.clone(), done };
        if let Err(not_taken) = engine.intake().push(Ask::Restore(ask), Priority::Batch, bytes)
            && let Ask::Restore(ask) = not_taken.ask
        {
            self.close(ask.done, not_taken.fault);
        }
    }

    fn close(&self, done: Done<Tid>, why: Fault) {
        self.closed.store(true, Ordering::Release);
        done(Err(why));
    }
}

impl RestoreAsk {
    /// Ends the restore here.
    pub(crate) fn refuse(self, why: Fault) {
        self.course.end();
        (self.done)(Err(why));
    }
}

/// The fault of what comes behind a refused transaction.
pub(crate) fn ended() -> Fault {
    let message = "an earlier transaction of this restore was refused; begin again behind the newest one that is there";
    Fault::new(FaultKind::Invalid, message)
}
