//! Owns the backlog: what is durable and readable but not yet in the index, and the loop that works it off.
//!
//! The overlay is memory, so it has a limit. From half of it on nothing large is let in any more (`intake`), so that the other half is for
//! live drafts. Over it the writer waits for the settler; when the settler cannot go on (the disk is full, the index has failed and is
//! made ready again) commits are refused with its reason instead.

use crate::engine::Engine;
use crate::engine::faults::fault_of;
use crate::engine::turn::Turn;
use crate::storage::{Left, StoreError, Upkeep};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind};

/// Between two tries to end a pack that stays half-way.
const RESUME_MIN: Duration = Duration::from_secs(1);
const RESUME_MAX: Duration = Duration::from_secs(60);

/// How far the index is behind.
pub(crate) struct Backlog {
    bytes: AtomicU64,
    /// What of it counts against the limit.
    weight: AtomicU64,
    weight_max: u64,
    /// However little of it counts.
    bytes_max: u64,
    /// Settling starts at once from here on; below, when a moment has passed.
    bytes_worth: u64,
    why_stuck: Mutex<Option<Fault>>,
    stuck: AtomicBool,
    state: Mutex<bool>,
    worth_it: Condvar,
    room: Condvar,
}

impl Backlog {
    pub(crate) fn new(weight_max: u64, bytes_max: u64) -> Backlog {
        Backlog {
            bytes: AtomicU64::new(0),
            weight: AtomicU64::new(0),
            weight_max,
            bytes_max,
            bytes_worth: (weight_max / 32).min(4 << 20),
            why_stuck: Mutex::new(None),
            stuck: AtomicBool::new(false),
            state: Mutex::new(false),
            worth_it: Condvar::new(),
            room: Condvar::new(),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.weight.load(Ordering::Relaxed) > self.weight_max || self.bytes() > self.bytes_max
    }

    /// Whether something large may be added. What cannot go on is no reason to wait: commits are told why, at the limit.
    pub(crate) fn has_room_for_bulk(&self) -> bool {
        self.bytes() <= self.weight_max / 2 || self.is_stuck()
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    pub(crate) fn why_stuck(&self) -> Fault {
        let why = self.why_stuck.lock().clone();
        why.unwrap_or_else(|| Fault::new(FaultKind::Busy, "the index is behind; come back").after_ms(200))
    }

    pub(crate) fn grew(&self, (bytes, weight): (u64, u64)) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.weight.store(weight, Ordering::Relaxed);
        if bytes > self.bytes_worth {
            self.worth_it.notify_one();
        }
    }

    pub(crate) fn wait_for_room(&self, at_most: Duration) {
        let mut state = self.state.lock();
        self.worth_it.notify_one();
        self.room.wait_for(&mut state, at_most);
    }

    fn wait_until_worth_it(&self, at_most: Duration) {
        let mut state = self.state.lock();
        // What cannot go on is not tried without a pause.
        if self.bytes() <= self.bytes_worth || self.is_stuck() {
            self.worth_it.wait_for(&mut state, at_most);
        }
    }

    fn shrank(&self, left: &Left, stuck: Option<Fault>) {
        self.bytes.store(left.bytes, Ordering::Relaxed);
        self.weight.store(left.weight, Ordering::Relaxed);
        self.stuck.store(stuck.is_some(), Ordering::Release);
        *self.why_stuck.lock() = stuck;
        let _state = self.state.lock();
        self.room.notify_all();
    }
}

impl Engine {
    /// Whether there is room for bulk work may have changed.
    pub(in crate::engine) fn tell_room(&self) {
        self.intake().set_room(self.backlog().has_room_for_bulk());
    }
}

/// The loop that has the upkeep.
pub(crate) struct SettleLoop {
    pub(crate) engine: Arc<Engine>,
    upkeep: Arc<dyn Upkeep>,
    txns_max: usize,
    /// The last turn made a step with an index that is not ready yet.
    in_steps: bool,
    /// What was told last of what is in the way.
    told: Option<String>,
    /// When a pack that stays half-way is tried again, and how long after that if it fails again.
    resume: (Duration, Duration),
}

impl SettleLoop {
    pub(crate) fn new(engine: Arc<Engine>, upkeep: Arc<dyn Upkeep>, txns_max: usize) -> SettleLoop {
        SettleLoop { engine, upkeep, txns_max, in_steps: false, told: None, resume: (Duration::ZERO, RESUME_MIN) }
    }

    // Ends a change-over that an error has left half-way; not beside another long work. It begins from the beginning each time: so
    // one that fails again is left alone for a while, and for longer each time.
    fn resume_pack(&mut self) {
        let now = self.engine.clock().steady();
        if now < self.resume.0 || !self.upkeep.is_half_packed() {
            return;
        }
        let Ok(_registered) = self.engine.long_work().begin("finishing a pack") else { return };
        match self.upkeep.resume_pack() {
            Ok(()) => {
                self.resume = (now, RESUME_MIN);
                self.engine.lift_condemned();
            }
            Err(error) => {
                tracing::warn!(%error, next_s = self.resume.1.as_secs(), "a pack stays half-way");
                self.resume = (now + self.resume.1, (self.resume.1 * 2).min(RESUME_MAX));
            }
        }
    }

    /// Moves one portion of the overlay into the index. A failure keeps everything and is tried again.
    pub(crate) fn turn(&mut self, wait: bool) -> Turn {
        if wait && !self.in_steps {
            self.engine.backlog().wait_until_worth_it(Duration::from_millis(100));
        }
        let turn = self.settle();
        self.resume_pack();
        turn
    }

    fn shrank(&self, left: &Left, stuck: Option<Fault>) {
        self.engine.backlog().shrank(left, stuck);
        self.engine.tell_room();
    }

    fn settle(&mut self) -> Turn {
        let upkeep = &self.upkeep;
        upkeep.set_lived(self.engine.keys().lived_ms());
        let before = upkeep.left().txns;
        match upkeep.settle(self.txns_max) {
            Ok(left) => {
                self.in_steps = left.index_down.is_some();
                let stuck = left.index_down.clone().map(|why| fault_of(StoreError::IndexDown { why }));
                if stuck.is_none() {
                    self.told = None;
                }
                self.shrank(&left, stuck);
                if before > 0 || self.in_steps { Turn::Worked } else { Turn::Idle }
            }
            Err(error) => {
                self.in_steps = false;
                let why = error.to_string();
                if self.told.as_ref() != Some(&why) {
                    tracing::error!(%error, "the index cannot take what is committed; it is kept in memory and tried again");
                    self.told = Some(why);
                }
                self.shrank(&upkeep.left(), Some(fault_of(error)));
                Turn::Idle
            }
        }
    }
}
