//! Owns running a pack beside the traffic: to which tid it may go, its pauses, its progress, its end.
//!
//! ```text
//!   caller's thread:  survey ─ sieve ─ catch up ─┐             ┌─ copy, shift; copy, shift ...
//!   sequencer:                                   └─ condemn ───┤
//!   writer:                                         all before it visible ─ roll, if the open segment is to be packed
//! ```
//! The thread that asks does the work; one at a time, and not beside a verify. After each portion it lets live drafts go
//! first, for a bounded time, and beside commits it rests as long as the portion took: what it brings to the disk comes in slices, and a
//! commit waits for one of them at most. It ends early when the caller wants it to, and when the server goes down, but never within the
//! shift of a segment; then what was done stays done. When an error leaves a shift half-way, the garbage stays condemned
//! until the settle loop, the next pack or a verify has ended it.
//!
//! The tid to go to is the oldest of: what was asked for; what pins allow, and for a while after a start all history (`pins`); what evolves owe (`owed`); what was visible `history_min_s` ago, so that a
//! draft that is on its way finds the base that it was made on. Who asked for more is told what holds the pack back.

use crate::engine::Engine;
use crate::engine::faults::{fault_of, shutting_down};
use crate::engine::keep::oids::FIRST_OID;
use crate::engine::pipeline::ask::Ask;
use crate::engine::work::long_work::WorkProgress;
use crate::storage::{Gatekeeper, PackPlan, Packed, StoreError, Upkeep};
use roaring::RoaringTreemap;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Oid, PackOptions, Tid};

// How often a wait looks whether the server is going down.
const LOOK: Duration = Duration::from_millis(100);

/// What a pack did, or would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackReport {
    /// Older snapshots are refused; may be older than what was asked for.
    pub packed_to: Tid,
    /// Revisions that went.
    pub revisions_removed: u64,
    /// Unreachable objects that went.
    pub objects_removed: u64,
    /// Log before.
    pub bytes_before: u64,
    /// Log after; of a dry run about.
    pub bytes_after: u64,
    /// Blobs that no revision names any more; of a dry run none.
    pub blobs_removed: u64,
    /// Their bytes.
    pub blob_bytes_removed: u64,
    /// Why it went less far than was asked for.
    pub held_back: Option<String>,
}

/// How far a pack may go.
struct Reach {
    to: Tid,
    held_back: Option<String>,
}

impl Engine {
    /// Takes away the history before a tid (none: everything that may go), and the objects that cannot be reached. Works on the calling thread until it is done; `progress` says whether to go on.
    pub fn pack(
        self: &Arc<Self>,
        options: PackOptions,
        progress: &mut dyn FnMut(WorkProgress) -> bool,
    ) -> Result<PackReport, Fault> {
        let _registered = self.long_work().begin("pack")?;
        let Reach { to, held_back } = self.reach(options.to, options.dry_run)?;
        let _packing = (!options.dry_run).then(|| self.long_work().packing());
        let result = self.run_pack(to, options, progress);
        self.lift_condemned();
        self.pins().pack_ended(self.reader().packed_to());
        let (to, packed) = result.map_err(|error| self.pack_fault(error))?;
        tracing::info!(%to, dry_run = options.dry_run, ?packed, held_back, "packed");
        Ok(PackReport {
            packed_to: to,
            revisions_removed: packed.revisions,
            objects_removed: packed.objects,
            bytes_before: packed.bytes_before,
            bytes_after: packed.bytes_after,
            blobs_removed: packed.blobs,
            blob_bytes_removed: packed.blob_bytes,
            held_back,
        })
    }

    /// Differs when a pack was at work in between; odd: one is.
    pub(crate) fn packs(&self) -> u64 {
        self.long_work().packs()
    }

    // From here on no older snapshot is pinned.
    fn reach(&self, asked: Option<Tid>, dry_run: bool) -> Result<Reach, Fault> {
        let visible = self.visible();
        let asked = asked.unwrap_or(visible);
        if asked > visible {
            let message = format!("tid {asked} is newer than anything here ({visible}); pack to an older one, or to 0");
            return Err(Fault::new(FaultKind::SnapshotAhead, message));
        }
        let packed_to = self.reader().packed_to();
        let wanted = asked.max(packed_to);
        let grace = self.pins().grace_left();
        let old = if grace.is_some() { packed_to } else { self.age().old().clamp(packed_to, wanted) };
        let needed =
            self.copies().followers.needed().map(|needed| needed.max(packed_to)).filter(|needed| *needed < old);
        let old = needed.unwrap_or(old);
        let owed = self.owed_from()?.map(|owed| owed.max(packed_to)).filter(|owed| *owed < old);
        let (old, is_owed) = (owed.unwrap_or(old), owed.is_some());
        let pinned = |to: Tid| self.pins().oldest().1.map_or(to, |oldest| oldest.min(to));
        let to = if dry_run { pinned(old) } else { self.pins().allow_pack(old) };
        let held_back = if needed == Some(to) {
            Some("a follower has not all of it yet (see zeolite status; replication.keep_s)".to_owned())
        } else if to < old {
            Some("a pinned snapshot holds it back (see zeolite status)".to_owned())
        } else if is_owed {
            Some("an evolve owes steps, and needs what was there before them: run its workers again (see zeolite evolve list)".to_owned())
        } else if old < wanted
            && let Some(left) = grace
        {
            let (all_s, left_s) = (self.settings().pin_grace_s, left.as_secs().max(1));
            Some(format!(
                "for {all_s} s after a start all history stays, for clients that come back to their pinned snapshots \
                 (engine.pin_grace_s); pack again in {left_s} s"
            ))
        } else if old < wanted {
            let kept_s = self.settings().history_min_s;
            Some(format!("the history of the last {kept_s} s stays (engine.history_min_s)"))
        } else {
            None
        };
        Ok(Reach { to, held_back })
    }

    fn run_pack(
        self: &Arc<Self>,
        to: Tid,
        options: PackOptions,
        tell: &mut dyn FnMut(WorkProgress) -> bool,
    ) -> Result<(Tid, Packed), StoreError> {
        let roots = if options.keep_garbage { Vec::new() } else { (0..FIRST_OID.0).map(Oid).collect() };
        let plan = PackPlan { to, roots, dry_run: options.dry_run, keys_floor: self.keys().floor() };
        self.long_work().upkeep()?.pack(plan, &mut Gate { engine: self, tell })
    }

    // Lets nothing name these objects any more, and waits until everything sealed before is visible. Gives what
    // prepared drafts name.
    fn condemn(&self, oids: RoaringTreemap) -> Result<Vec<Oid>, StoreError> {
        self.wait_for(|done| Ask::Condemn { oids: Some(Arc::new(oids)), done })
    }

    /// At the end of a long work, whatever its outcome: what is still there may be named again, unless it is half gone.
    pub(crate) fn lift_condemned(&self) {
        let half_packed = self.long_work().upkeep().is_ok_and(Upkeep::is_half_packed);
        if !half_packed {
            self.push_control(Ask::Condemn { oids: None, done: Box::new(|_| {}) });
        }
    }

    // Gives an ask to the sequencer and waits for its answer, as long as the server is up.
    fn wait_for<T: Send + 'static>(&self, ask: impl FnOnce(Box<dyn FnOnce(T) + Send>) -> Ask) -> Result<T, StoreError> {
        let (answer, answered) = crossbeam_channel::bounded(1);
        // Nobody waits any more when the server goes down.
        let done = Box::new(move |value| drop(answer.send(value)));
        self.push_control(ask(done));
        loop {
            match answered.recv_timeout(LOOK) {
                Ok(value) => return Ok(value),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) if !self.long_work().is_stopping() => {}
                Err(_) => return Err(StoreError::Stopped),
            }
        }
    }

    /// The fault of a long work that has ended early.
    pub(crate) fn pack_fault(&self, error: StoreError) -> Fault {
        match error {
            StoreError::Stopped if self.long_work().is_stopping() => shutting_down(),
            other => fault_of(other),
        }
    }
}

/// The engine's side of a pack.
struct Gate<'a> {
    engine: &'a Engine,
    tell: &'a mut dyn FnMut(WorkProgress) -> bool,
}

impl Gatekeeper for Gate<'_> {
    fn condemn(&mut self, oids: RoaringTreemap) -> Result<Vec<Oid>, StoreError> {
        self.engine.condemn(oids)
    }

    fn roll(&mut self) -> Result<(), StoreError> {
        self.engine.wait_for(Ask::Roll)?
    }

    fn step(&mut self, stage: &str, done_units: u64, total_units: u64) -> Result<(), StoreError> {
        let progress = WorkProgress { stage: stage.to_owned(), done_units, total_units };
        self.engine.long_work().step(self.engine, progress, self.tell)
    }
}

#[cfg(test)]
mod tests;
