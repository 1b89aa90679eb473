//! Owns how far the opening of a database is, and what whoever asks for it meanwhile is told.

use crate::clock::Clock;
use crate::store::Progress;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind};

/// When to come back.
const AGAIN_MS: u64 = 250;

/// The opening of one database.
pub(super) struct Course {
    name: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The first step that was told, and when: from there on the speed is known.
    first: Option<(Duration, Progress)>,
    now: Progress,
    /// It has not begun, since there is nothing to copy yet: why.
    waits: Option<String>,
}

impl Course {
    pub(super) fn new(name: &str, clock: Arc<dyn Clock>) -> Course {
        Course { name: name.to_owned(), clock, state: Mutex::default() }
    }

    /// It is to be a copy, and there is nothing yet that it could be copied from.
    pub(super) fn waits(&self, why: String) {
        self.state.lock().waits = Some(why);
    }

    /// It has come so far.
    pub(super) fn reached(&self, step: Progress) {
        let mut state = self.state.lock();
        state.waits = None;
        state.now = step;
        state.first.get_or_insert((self.clock.steady(), step));
    }

    /// How far it is; nothing is known of it at first.
    pub(super) fn now(&self) -> Progress {
        self.state.lock().now
    }

    /// What it does, how far it is and how long it takes yet, as a fault that passes.
    pub(super) fn fault(&self) -> Fault {
        if let Some(why) = &self.state.lock().waits {
            let message = format!(
                "the database {} has nothing yet and is waiting for its first primary: {why}; start that, or name it in follow.primary",
                self.name
            );
            return Fault::new(FaultKind::Busy, message).after_ms(AGAIN_MS);
        }
        let message = format!("the database {} is being opened{}; come back in a moment", self.name, self.doing());
        Fault::new(FaultKind::Busy, message).after_ms(AGAIN_MS)
    }

    fn doing(&self) -> String {
        let state = self.state.lock();
        let Progress { done_bytes, all_bytes, anew } = state.now;
        if all_bytes == 0 {
            return String::new();
        }
        let what =
            if anew { "its index is made anew from the log" } else { "the end of its log is put into the index" };
        let percent = done_bytes.min(all_bytes) * 100 / all_bytes;
        let left = state.first.and_then(|(at, first)| {
            let (done, left) = (done_bytes.checked_sub(first.done_bytes)?, all_bytes.saturating_sub(done_bytes));
            let passed = self.clock.steady().saturating_sub(at).as_secs_f64();
            (done > 0).then(|| passed * left as f64 / done as f64)
        });
        let left = left.map_or_else(String::new, |left| format!(", about {left:.0} s left"));
        format!(": {what}, {percent} %{left}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;

    #[test]
    fn it_says_what_it_does_how_far_it_is_and_how_long_it_takes_yet() {
        let clock = Arc::new(HandClock::at(0));
        let course = Course::new("shop", clock.clone());
        assert_eq!(course.fault().message, "the database shop is being opened; come back in a moment");
        course.waits("db1 does not answer".into());
        assert!(course.fault().message.contains("waiting for its first primary: db1 does not answer"));
        let step = |done_bytes, anew| course.reached(Progress { done_bytes, all_bytes: 1000, anew });
        step(0, true);
        assert!(course.fault().message.contains("its index is made anew from the log, 0 %; come"));
        clock.advance(Duration::from_secs(10));
        step(400, true);
        assert!(course.fault().message.contains("40 %, about 15 s left"), "{}", course.fault());
        clock.advance(Duration::from_secs(5));
        step(2000, false);
        assert!(course.fault().message.contains("the end of its log is put into the index, 100 %, about 0 s left"));
        assert_eq!(course.now().done_bytes, 2000);
        assert_eq!((course.fault().kind, course.fault().retry_after_ms), (FaultKind::Busy, AGAIN_MS));
    }
}
