//! Owns the pace: when a follower is sent what there is.
//!
//! ```text
//!   replication.sync = N    batch │ batch │ batch      each at once: somebody waits for the answer
//!   replication.sync = 0    batch batch batch batch batch ...      together, when the last message is GATHER ago
//!                           └──────── one message ────────┘
//! ```
//! A message costs both sides the same whether there is one commit in it or a hundred: a wake, an answer, and at the follower a sync. So where
//! nobody waits, what comes in a moment goes together. What comes after a while in which nothing came goes at once, and who is behind by more than a
//! message is sent the next one at once: so nobody is behind by more than the moment and what it takes to send.

use std::time::Duration;

/// Between two messages to a follower that nobody waits for.
const GATHER: Duration = Duration::from_millis(10);

/// Of one stream.
pub(super) struct Pace {
    /// `replication.sync`: somebody waits for what this follower has.
    waits: bool,
    /// Nothing is sent before.
    next: Duration,
}

impl Pace {
    pub(super) fn new(waits: bool) -> Pace {
        Pace { waits, next: Duration::ZERO }
    }

    /// A message goes at a moment of the steady clock; `more`: it was full, and there is more than went into it.
    pub(super) fn sends(&mut self, now: Duration, more: bool) {
        self.next = if self.waits || more { now } else { now + GATHER };
    }

    /// So long is what comes gathered; none: what there is goes at once.
    pub(super) fn pause(&self, now: Duration) -> Option<Duration> {
        self.next.checked_sub(now).filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_a_moment_goes_together_and_the_first_of_it_at_once() {
        let mut pace = Pace::new(false);
        let now = Duration::from_secs(7);
        assert_eq!(pace.pause(now), None, "nothing was sent yet");
        pace.sends(now, false);
        assert_eq!(pace.pause(now), Some(GATHER));
        assert_eq!(pace.pause(now + GATHER / 2), Some(GATHER / 2));
        assert_eq!(pace.pause(now + GATHER), None, "a commit after a while waits for nothing");
        assert_eq!(pace.pause(now + 2 * GATHER), None);
    }

    #[test]
    fn who_is_behind_by_more_than_a_message_is_not_kept_waiting() {
        let mut pace = Pace::new(false);
        let now = Duration::from_secs(7);
        pace.sends(now, true);
        assert_eq!(pace.pause(now), None);
        pace.sends(now, false);
        assert_eq!(pace.pause(now), Some(GATHER), "that was the last of it");
    }

    #[test]
    fn nobody_is_kept_waiting_where_commits_wait_for_followers() {
        let mut pace = Pace::new(true);
        let now = Duration::from_secs(7);
        pace.sends(now, false);
        assert_eq!(pace.pause(now), None);
    }
}
