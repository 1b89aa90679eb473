//! Owns restores: transactions that bring their tids (import, copy), admitted like everything else and added at the end.
//!
//! A restore is a course of transactions of which each rests on those before it. So the first one that is refused ends it: what
//! is on its way behind that one is refused as well, or the copy would have a hole that nothing can fill any more.
//!
//! With the first one that is admitted a new life of the store begins, and what was packed where it comes from is packed here: as
//! far as the transactions have come, and only in a database that was empty. In another one nothing of its own history is given
//! up; so a source must be unpacked behind what is here already, or what it took away in between would stay.
//!
//! The mode is looked at when a restore begins: a copy goes on through the modes that it copies.

use crate::engine::Engine;
use crate::engine::answers::Done;
use crate::engine::pipeline::admission;
use crate::engine::pipeline::ask::{Ask, RestoreAsk};
use crate::engine::pipeline::course::Course;
use crate::engine::pipeline::intake::Bringer;
use crate::engine::pipeline::way::Line;
use crate::storage::{Txn, blobs_of_record};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeolite_proto::{Fault, FaultKind, Role, Tid};

/// One restore.
pub struct Restoring {
    engine: Arc<Engine>,
    course: Arc<Course>,
    /// It follows, in this life of the primary's.
    life: Option<u64>,
    /// One was refused before it was queued: those before it go on, none follows.
    closed: AtomicBool,
}

impl Engine {
    /// Begins a restore, if the mode lets it.
    pub fn restoring(self: &Arc<Self>) -> Result<Restoring, Fault> {
        self.check_mode(Role::Write)?;
        Ok(Restoring { engine: self.clone(), course: Arc::default(), life: None, closed: AtomicBool::new(false) })
    }

    /// Begins to take what a primary writes, in its life of the store, whatever the mode is that it copies.
    pub(crate) fn following(self: &Arc<Self>, life: u64) -> Restoring {
        Restoring { engine: self.clone(), course: Arc::default(), life: Some(life), closed: AtomicBool::new(false) }
    }
}

impl Restoring {
    /// Adds a transaction, newer than any here; the outcome through `done`. `packed_to`: history up to there was packed where it
    /// comes from.
    pub fn add(&self, mut txn: Txn, packed_to: Tid, done: Done<Tid>) {
        let engine = &self.engine;
        let end = engine.setup.restore_end();
        let admitted = match self.closed.load(Ordering::Acquire) {
            true => Err(ended()),
            false if packed_to > end.newest => {
                let message = format!("packed_to {packed_to} is too far ahead of the clock; give the source's own");
                Err(Fault::invalid(message))
            }
            false => engine.check_own_mode().and_then(|()| admission::admit_restored(&txn, engine.limits(), end)),
        };
        let named =
            txn.writes.iter().filter_map(|write| write.record.as_ref()).flat_map(|record| blobs_of_record(record));
        let admitted = admitted.and_then(|bytes| engine.hold_named(named.collect()).map(|hold| (bytes, hold)));
        let (bytes, hold) = match admitted {
            Ok(admitted) => admitted,
            Err(fault) => return self.close(done, fault),
        };
        let done = Box::new(move |result| {
            drop(hold);
            done(result);
        });
        admission::own_restored(&mut txn);
        // A follower has nobody else's drafts to give way to.
        let line = if self.life.is_some() { Line::Live } else { Line::Bulk };
        let ask = RestoreAsk { txn, packed_to, life: self.life, course: self.course.clone(), done };
        if let Err(not_taken) = engine.intake().push(Ask::Restore(ask), (line, bytes), Bringer::Leaves)
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
