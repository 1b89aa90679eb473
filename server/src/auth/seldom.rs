//! Owns the bound on lines of the log that strangers can cause: one now and then, with how many were left out.

use parking_lot::Mutex;
use std::time::Duration;

/// When the last one was told.
pub(crate) struct Seldom {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    told: Option<Duration>,
    untold: u64,
}

impl Seldom {
    /// One in so much time.
    pub(crate) fn new(every: Duration) -> Seldom {
        Seldom { every, state: Mutex::default() }
    }

    /// Whether this one may be told, by the steady clock: then with how many were not, since the last.
    pub(crate) fn may_tell(&self, now: Duration) -> Option<u64> {
        let mut state = self.state.lock();
        if state.told.is_some_and(|told| now < told + self.every) {
            state.untold += 1;
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let seldom = Seldom::new(Duration::from_secs(10));
        let at = |seconds| seldom.may_tell(Duration::from_secs(seconds));
        assert_eq!([at(1), at(2), at(10), at(11), at(12), at(30)], [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
