//! Owns how much history there is from one tid to another, in time that has passed: what an old pin is told by.
//!
//! A tid is a point in time by the wall clock, and that one is set now and then: by tids a pin of a minute would look a day old.
//! So it is noted what was visible when, by the steady clock, for as long as the server runs:
//!
//! ```text
//!   at the start ── at most 128 moments, evenly apart ──> now        too many: every second one goes
//! ```
//! A tid between two moments counts as of the later one: history is told too short by one part in 64, never too long. What an
//! earlier life has left is as old as its tids say, by the clock as it was at the start.
//!
//! `age` is for pack, which looks back no further than a setting, and more finely.

use crate::clock::Clock;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::Tid;

/// More moments than this are thinned out.
const MOMENTS_MAX: usize = 128;
/// How far they are apart at first.
const APART: Duration = Duration::from_secs(1);

/// What was visible when.
pub(crate) struct Since {
    clock: Arc<dyn Clock>,
    opened: Duration,
    opened_unix_nanos: i128,
    at_start: Tid,
    moments: Mutex<Moments>,
}

struct Moments {
    apart: Duration,
    /// In order, of what became visible in this life.
    all: Vec<Moment>,
}

#[derive(Clone, Copy)]
struct Moment {
    begun: Duration,
    at: Duration,
    visible: Tid,
}

impl Since {
    /// `at_start` is visible already.
    pub(crate) fn new(clock: Arc<dyn Clock>, at_start: Tid) -> Since {
        let (opened, opened_unix_nanos) = (clock.steady(), clock.unix_nanos());
        let moments = Mutex::new(Moments { apart: APART, all: Vec::new() });
        Since { clock, opened, opened_unix_nanos, at_start, moments }
    }

    /// Everything up to here is visible now.
    pub(crate) fn mark(&self, visible: Tid) {
        self.moments.lock().mark(self.clock.steady(), visible);
    }

    /// How long it took from when a snapshot was the newest until the last commit came.
    pub(crate) fn behind(&self, snapshot: Tid) -> Duration {
        let moments = self.moments.lock();
        let newest = moments.all.last().map_or(self.opened, |last| last.at);
        if snapshot > self.at_start {
            let seen = moments.all.iter().find(|moment| moment.visible >= snapshot);
            return newest.saturating_sub(seen.map_or(newest, |moment| moment.at));
        }
        // What the tid says is trusted up to the start alone, and only if anything came behind it.
        let last = if moments.all.is_empty() { self.at_start.unix_nanos() } else { self.opened_unix_nanos };
        let before = (last.min(self.opened_unix_nanos) - snapshot.unix_nanos()).max(0);
        Duration::from_nanos(u64::try_from(before).unwrap_or(u64::MAX)) + newest.saturating_sub(self.opened)
    }
}

impl Moments {
    fn mark(&mut self, now: Duration, visible: Tid) {
        match self.all.last_mut() {
            Some(last) if now.saturating_sub(last.begun) < self.apart => (last.at, last.visible) = (now, visible),
            _ => self.all.push(Moment { begun: now, at: now, visible }),
        }
        if self.all.len() > MOMENTS_MAX {
            self.thin_out();
        }
    }

    // Of two the younger stays, for both.
    fn thin_out(&mut self) {
        self.apart *= 2;
        let of_two = |two: &[Moment]| two.iter().copied().reduce(|one, other| Moment { begun: one.begun, ..other });
        self.all = self.all.chunks(2).filter_map(of_two).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;
    use crate::engine::reads::test_times::{START_NS, before, seconds};

    #[test]
    fn a_clock_that_is_set_makes_no_history() {
        let clock = Arc::new(HandClock::at(START_NS));
        let since = Since::new(clock.clone(), before(100));
        let mark = || since.mark(Tid::from_unix_nanos(clock.unix_nanos()));
        clock.advance(seconds(10));
        let pinned = Tid::from_unix_nanos(clock.unix_nanos());
        mark();
        assert_eq!(since.behind(pinned), Duration::ZERO);
        clock.set_wall(START_NS + 100 * 86_400 * 1_000_000_000);
        clock.advance(seconds(20));
        mark();
        assert_eq!(since.behind(pinned), seconds(20));
        clock.set_wall(START_NS + 200 * 86_400 * 1_000_000_000);
        clock.advance(seconds(1000));
        assert_eq!(since.behind(pinned), seconds(20), "nothing came since");
    }

    #[test]
    fn what_an_earlier_life_left_is_as_old_as_its_tids_say_at_the_start() {
        let clock = Arc::new(HandClock::at(START_NS));
        let since = Since::new(clock.clone(), before(100));
        assert_eq!(since.behind(before(400)).as_secs(), 300, "up to the newest there is");
        assert_eq!(since.behind(before(100)), Duration::ZERO);
        assert_eq!(Since::new(clock.clone(), before(-900)).behind(before(-800)), Duration::ZERO, "ahead of the clock");
        clock.set_wall(0);
        clock.advance(seconds(50));
        since.mark(before(-50));
        assert_eq!(since.behind(before(400)).as_secs(), 450);
        assert_eq!(since.behind(before(100)).as_secs(), 150);
        let empty = Since::new(clock, Tid::NONE);
        assert_eq!(empty.behind(Tid::NONE), Duration::ZERO);
    }

    #[test]
    fn moments_are_few_and_tell_a_little_less_for_any_length_of_time() {
        let clock = Arc::new(HandClock::at(START_NS));
        let since = Since::new(clock.clone(), Tid::NONE);
        for n in 1..=1_000_000 {
            clock.advance(Duration::from_millis(100));
            since.mark(Tid(n));
        }
        assert!(since.moments.lock().all.len() <= MOMENTS_MAX);
        for (snapshot, real) in [(1, 100_000.0), (500_000, 50_000.0), (990_000, 1_000.0), (1_000_000, 0.0)] {
            let told = since.behind(Tid(snapshot)).as_secs_f64();
            assert!(told <= real && told >= real - 100_000.0 / 32.0, "{snapshot}: {told} of {real}");
        }
    }
}
