//! Owns the age of history: how far pack may go, so that what was superseded lately stays.
//!
//! A tid is a point in time by the wall clock, and that one jumps: behind a commit made with the clock ahead all tids stay
//! ahead, behind a clock that is set ahead all history looks old. So age is counted in the server's steady time: a *mark*
//! says that everything up to a tid was visible at a moment. What was superseded by a tid of a mark that is old enough is
//! old enough. Marks are few: those that are close together become one, which is as old as its youngest.
//!
//! What an earlier life of the server has left has no marks. It is as old as its tids say, by the clock as it was at the
//! start and the steady time since; and when the server has run for long enough, it is old in any case.

use crate::clock::Clock;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::Tid;

/// Marks that are closer together than this part of what is kept become one.
const PARTS: u32 = 64;

/// At this moment everything up to the tid was visible.
struct Mark {
    begun: Duration,
    at: Duration,
    visible: Tid,
}

/// What was visible since when.
pub(crate) struct Age {
    clock: Arc<dyn Clock>,
    kept: Duration,
    opened: Duration,
    opened_unix_nanos: i128,
    at_start: Tid,
    /// In order; at most the parts and two more.
    marks: Mutex<VecDeque<Mark>>,
}

impl Age {
    /// The history of the last `kept` seconds stays; `at_start` is visible already.
    pub(crate) fn new(clock: Arc<dyn Clock>, kept_s: u64, at_start: Tid) -> Age {
        let (opened, opened_unix_nanos) = (clock.steady(), clock.unix_nanos());
        let kept = Duration::from_secs(kept_s);
        Age { clock, kept, opened, opened_unix_nanos, at_start, marks: Mutex::default() }
    }

    /// Everything up to here is visible now.
    pub(crate) fn mark(&self, visible: Tid) {
        let now = self.clock.steady();
        let mut marks = self.marks.lock();
        match marks.back_mut() {
            Some(last) if now.saturating_sub(last.begun) < self.kept / PARTS => {
                (last.at, last.visible) = (now, visible)
            }
            _ => marks.push_back(Mark { begun: now, at: now, visible }),
        }
        self.forget(&mut marks, now);
    }

    /// What was superseded up to here is old enough to go.
    pub(crate) fn old(&self) -> Tid {
        let now = self.clock.steady();
        let mut marks = self.marks.lock();
        self.forget(&mut marks, now);
        let marked = marks.front().filter(|mark| self.is_old(mark.at, now)).map(|mark| mark.visible);
        marked.unwrap_or_else(|| self.old_at_start(now))
    }

    fn old_at_start(&self, now: Duration) -> Tid {
        if self.is_old(self.opened, now) {
            return self.at_start;
        }
        let since = now.saturating_sub(self.opened).as_nanos() as i128;
        Tid::from_unix_nanos(self.opened_unix_nanos + since - self.kept.as_nanos() as i128).min(self.at_start)
    }

    fn is_old(&self, at: Duration, now: Duration) -> bool {
        now.saturating_sub(at) >= self.kept
    }

    // Of the old ones the youngest says it all.
    fn forget(&self, marks: &mut VecDeque<Mark>, now: Duration) {
        while marks.get(1).is_some_and(|next| self.is_old(next.at, now)) {
            marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;
    use crate::engine::reads::test_times::{START_NS, before, seconds};

    #[test]
    fn what_was_visible_for_long_enough_is_old_whatever_the_clock_says() {
        let clock = Arc::new(HandClock::at(START_NS));
        let age = Age::new(clock.clone(), 64, Tid::NONE);
        age.mark(Tid(7));
        clock.set_wall(START_NS * 2);
        clock.advance(seconds(63));
        assert_eq!(age.old(), Tid::NONE, "the clock has jumped, not the time");
        age.mark(Tid(9));
        clock.set_wall(0);
        clock.advance(seconds(1));
        assert_eq!(age.old(), Tid(7));
        clock.advance(seconds(63));
        assert_eq!(age.old(), Tid(9));
        let none_kept = Age::new(clock, 0, Tid(3));
        assert_eq!(none_kept.old(), Tid(3));
        none_kept.mark(Tid(4));
        none_kept.mark(Tid(5));
        assert_eq!(none_kept.old(), Tid(5));
    }

    #[test]
    fn marks_are_few_and_none_is_older_than_its_youngest() {
        let clock = Arc::new(HandClock::at(START_NS));
        let age = Age::new(clock.clone(), 64, Tid::NONE);
        for n in 1..=10_000 {
            clock.advance(Duration::from_millis(100));
            age.mark(Tid(n));
        }
        assert!(age.marks.lock().len() <= PARTS as usize + 2, "{}", age.marks.lock().len());
        let old = age.old();
        assert!(old <= Tid(10_000 - 640) && old > Tid(10_000 - 660), "{old:?}");
    }

    #[test]
    fn what_an_earlier_life_left_is_as_old_as_its_tids_say_or_as_this_life() {
        let clock = Arc::new(HandClock::at(START_NS));
        let (old, ahead) = (before(100), before(-1_000_000));
        assert_eq!(Age::new(clock.clone(), 60, old).old(), old);
        let age = Age::new(clock.clone(), 60, ahead);
        assert_eq!(age.old(), before(60));
        clock.set_wall(START_NS * 2);
        clock.advance(seconds(10));
        assert_eq!(age.old(), before(50), "as the clock was at the start, and the time since");
        clock.advance(seconds(50));
        assert_eq!(age.old(), ahead);
    }
}
