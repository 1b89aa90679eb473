//! Owns the pressure: what live commits feel, second by second, told to batch workers so that they throttle themselves.
//!
//! ```text
//!   slots   [ -3 s | -2 s | -1 s | now ]   live commits, fsyncs, how many batch drafts         => the window
//!   apart   of the same live commits those that came while no bulk work was on its way         => what the others are compared with
//!   quiet   the last 10 slots that had live commits and no batch draft                        => the baseline
//! ```
//! A worker compares the window with what was apart in it: on a machine that is busy with other things both are slow, and neither is
//! its doing. What it does to all commits (a disk that has much to write back) shows against the quiet seconds only. An evolve that
//! never rests leaves none of these, so workers pause for one now and then; until they do, the last known ones stand.
//!
//! Which commits are apart is decided by the moment in which they came, not by what happens in their time: the longer a commit takes, the more
//! surely something happens in it, so those in whose time nothing did are the quick ones, and any evolve would seem to be felt. What comes
//! later stands behind a live draft anyway.

use crate::engine::numbers::histogram::{Counts, Histogram};
use crate::engine::pipeline::way::Came;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use zeolite_proto::Pressure;

const SLOTS: usize = 4;
const QUIET_SLOTS_MAX: usize = 10;
/// Fewer commits that were apart say nothing about a 99th percentile.
const APART_MIN: u64 = 100;
/// How long a slot lasts.
pub(crate) const SLOT: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Slot {
    live: Histogram,
    apart: Histogram,
    fsync: Histogram,
    batch: AtomicU64,
    conflicts: AtomicU64,
}

/// What live commits feel.
pub(crate) struct Gauge {
    slots: [Slot; SLOTS],
    now: AtomicUsize,
    /// When the present slot began; by the keeper alone.
    begun: Mutex<Duration>,
    quiet: Mutex<VecDeque<Counts>>,
    last: Mutex<Pressure>,
}

impl Gauge {
    pub(crate) fn new(now: Duration) -> Gauge {
        Gauge {
            slots: Default::default(),
            now: AtomicUsize::new(0),
            begun: Mutex::new(now),
            quiet: Mutex::default(),
            last: Mutex::default(),
        }
    }

    fn slot(&self) -> &Slot {
        &self.slots[self.now.load(Relaxed) % SLOTS]
    }

    /// A live draft that came then is durable now.
    pub(crate) fn live(&self, came: Came, now_ns: u64) {
        let took = now_ns.saturating_sub(came.ns);
        self.slot().live.record(took);
        if !came.beside_bulk {
            self.slot().apart.record(took);
        }
    }

    /// A batch draft is durable.
    pub(crate) fn batch(&self) {
        self.slot().batch.fetch_add(1, Relaxed);
    }

    /// A live draft is refused for a conflict.
    pub(crate) fn conflict(&self) {
        self.slot().conflicts.fetch_add(1, Relaxed);
    }

    pub(crate) fn fsync(&self, ns: u64) {
        self.slot().fsync.record(ns);
    }

    /// The keeper's turn: begins a new slot when the present one is over, and sums up.
    pub(crate) fn turn(&self, now: Duration, disk: (u64, u64)) {
        let over = {
            let mut begun = self.begun.lock();
            let over = now.saturating_sub(*begun) >= SLOT;
            if over {
                *begun = now;
            }
            over
        };
        if over {
            self.begin_slot();
        }
        let (mut live, mut apart, mut fsync) = (Counts::default(), Counts::default(), Counts::default());
        for slot in &self.slots {
            live.add(&slot.live.counts());
            apart.add(&slot.apart.counts());
            fsync.add(&slot.fsync.counts());
        }
        let apart_p99 = if apart.count() >= APART_MIN { apart.percentile(99) } else { 0 };
        let mut quiet = Counts::default();
        self.quiet.lock().iter().for_each(|counts| quiet.add(counts));
        let us = |ns: u64| ns.div_ceil(1000);
        *self.last.lock() = Pressure {
            live_p50_us: us(live.percentile(50)),
            live_p99_us: us(live.percentile(99)),
            live_commits: live.count(),
            window_ms: SLOT.as_millis() as u64 * SLOTS as u64,
            quiet_p99_us: us(quiet.percentile(99)),
            queue_live: 0,
            queue_batch: 0,
            fsync_p99_us: us(fsync.percentile(99)),
            free_bytes: disk.0,
            disk_bytes: disk.1,
            apart_p99_us: us(apart_p99),
            live_conflicts: self.slots.iter().map(|slot| slot.conflicts.load(Relaxed)).sum(),
        };
    }

    fn begin_slot(&self) {
        let ended = self.slot();
        let counts = ended.live.counts();
        if ended.batch.load(Relaxed) == 0 && counts.count() > 0 {
            let mut quiet = self.quiet.lock();
            if quiet.len() >= QUIET_SLOTS_MAX {
                quiet.pop_front();
            }
            quiet.push_back(counts);
        }
        // Late recordings into a slot that is being cleared are lost or counted a few seconds longer: it is a gauge.
        let next = self.now.load(Relaxed) + 1;
        let slot = &self.slots[next % SLOTS];
        slot.live.clear();
        slot.apart.clear();
        slot.fsync.clear();
        slot.batch.store(0, Relaxed);
        slot.conflicts.store(0, Relaxed);
        self.now.store(next, Relaxed);
    }

    /// As of the keeper's last turn; the queues as of now are the caller's.
    pub(crate) fn read(&self) -> Pressure {
        *self.last.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(ns: u64) -> Came {
        Came { ns, beside_bulk: false }
    }

    #[test]
    fn the_baseline_comes_from_seconds_without_batch_drafts_and_the_window_forgets() {
        let gauge = Gauge::new(Duration::ZERO);
        (0..100).for_each(|_| gauge.live(apart(1), 1_000_001));
        gauge.conflict();
        gauge.turn(SLOT, (5, 10));
        let pressure = gauge.read();
        assert_eq!((pressure.live_commits, pressure.free_bytes, pressure.disk_bytes), (100, 5, 10));
        assert_eq!(pressure.live_conflicts, 1);
        assert!((1000..1100).contains(&pressure.quiet_p99_us), "{pressure:?}");

        assert_eq!(pressure.apart_p99_us, pressure.live_p99_us, "nothing was in their way");

        gauge.batch();
        (0..100).for_each(|_| gauge.live(Came { ns: 400, beside_bulk: true }, 9_000_400));
        gauge.turn(SLOT * 2, (5, 10));
        let pressure = gauge.read();
        assert!(
            (1000..1100).contains(&pressure.quiet_p99_us),
            "a second with a batch draft is not quiet: {pressure:?}"
        );
        assert!(pressure.live_p99_us >= 9000 && pressure.live_p50_us < 1100, "{pressure:?}");
        assert!((1000..1100).contains(&pressure.apart_p99_us), "they met a batch draft: {pressure:?}");

        for n in 3..8 {
            gauge.turn(SLOT * n, (5, 10));
        }
        let pressure = gauge.read();
        assert_eq!((pressure.live_commits, pressure.live_p99_us), (0, 0), "the window has moved on");
        assert_eq!(pressure.live_conflicts, 0);
        assert_eq!(pressure.apart_p99_us, 0, "too few to say");
        assert!(pressure.quiet_p99_us > 0, "the baseline stands");
    }

    #[test]
    fn a_turn_within_a_slot_only_sums_up() {
        let gauge = Gauge::new(Duration::ZERO);
        gauge.live(apart(0), 1_000);
        gauge.turn(SLOT / 2, (0, 0));
        assert_eq!((gauge.read().live_commits, gauge.read().quiet_p99_us), (1, 0));
    }
}
