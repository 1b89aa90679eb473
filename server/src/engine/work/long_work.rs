//! Owns the registration of the one long work on the store: a pack or a verify, its progress and its early end.

use crate::engine::Engine;
use crate::engine::faults::shutting_down;
use crate::storage::{StoreError, Upkeep};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Tid};

// After each portion, while live drafts wait: so long, so often.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSES_MAX: u32 = 3;
// Beside commits it rests for as long as the portion took, and no longer than this: so they have the disk and the processors for half of the time.
const REST_MAX: Duration = Duration::from_millis(10);

/// How far a long work has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkProgress {
    /// What it does, in words.
    pub stage: String,
    /// How much of that is done.
    pub done_units: u64,
    /// Of how much.
    pub total_units: u64,
}

/// Where the one long work on the store is registered: a pack or a verify.
#[derive(Default)]
pub(crate) struct LongWork {
    upkeep: OnceLock<Arc<dyn Upkeep>>,
    /// What runs, in words; `None`: nothing.
    running: Mutex<Option<String>>,
    changed: Condvar,
    /// When the present portion was begun, by the steady clock, and what was visible then.
    portion: Mutex<(Duration, Tid)>,
    stopping: AtomicBool,
    /// Each pack that may remove something counts when it begins and when it has ended: so it is odd while one does.
    packs: AtomicU64,
}

/// A pack that may remove something; it ends with this.
pub(crate) struct Packing<'a>(&'a LongWork);

impl Drop for Packing<'_> {
    fn drop(&mut self) {
        self.0.packs.fetch_add(1, Ordering::AcqRel);
    }
}

/// Its registration; ends with it.
pub(crate) struct Registered<'a>(&'a LongWork);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        *self.0.running.lock() = None;
        self.0.changed.notify_all();
    }
}

impl LongWork {
    /// The loops have the upkeep; once.
    pub(crate) fn connect(&self, upkeep: Arc<dyn Upkeep>) {
        if self.upkeep.set(upkeep).is_err() {
            tracing::warn!("the engine's loops were made twice; pack works with the first");
        }
    }

    /// The upkeep, once the loops have it.
    pub(crate) fn upkeep(&self) -> Result<&dyn Upkeep, StoreError> {
        self.upkeep.get().map(AsRef::as_ref).ok_or(StoreError::Stopped)
    }

    /// Registers a work, if none runs.
    pub(crate) fn begin(&self, what: &str) -> Result<Registered<'_>, Fault> {
        let mut running = self.running.lock();
        if self.stopping.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        if let Some(other) = running.as_ref() {
            let message = format!("another long work is running ({other}); wait for its end");
            return Err(Fault::new(FaultKind::Busy, message).after_ms(1000));
        }
        *running = Some(what.to_owned());
        Ok(Registered(self))
    }

    /// Notes that a pack begins which may remove something.
    pub(crate) fn packing(&self) -> Packing<'_> {
        self.packs.fetch_add(1, Ordering::AcqRel);
        Packing(self)
    }

    /// Differs when a pack was at work in between; odd: one is.
    pub(crate) fn packs(&self) -> u64 {
        self.packs.load(Ordering::Acquire)
    }

    /// What runs.
    pub(crate) fn running(&self) -> Option<String> {
        self.running.lock().clone()
    }

    /// The running work ends as soon as it can, and none begins any more.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _running = self.running.lock();
        self.changed.notify_all();
    }

    /// Waits for that end.
    pub(crate) fn wait_for_end(&self) {
        let mut running = self.running.lock();
        while running.is_some() {
            self.changed.wait(&mut running);
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Says how far it is, waits a moment while live drafts wait, and rests beside commits.
    pub(crate) fn step(
        &self,
        engine: &Engine,
        progress: WorkProgress,
        tell: &mut dyn FnMut(WorkProgress) -> bool,
    ) -> Result<(), StoreError> {
        let (begun, visible) = *self.portion.lock();
        let took = engine.clock().steady().saturating_sub(begun);
        let is_beside_commits = engine.visible() > visible;
        {
            let mut running = self.running.lock();
            *running = Some(format!("{}: {} of {}", progress.stage, progress.done_units, progress.total_units));
            for _ in 0..PAUSES_MAX {
                if engine.intake().waiting().0 == 0 || self.is_stopping() {
                    break;
                }
                self.changed.wait_for(&mut running, PAUSE);
            }
            if is_beside_commits && !took.is_zero() && !self.is_stopping() {
                self.changed.wait_for(&mut running, took.min(REST_MAX));
            }
        }
        *self.portion.lock() = (engine.clock().steady(), engine.visible());
        if self.is_stopping() || !tell(progress) { Err(StoreError::Stopped) } else { Ok(()) }
    }
}
