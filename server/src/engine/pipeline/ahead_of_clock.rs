//! Owns the warning that commits are ahead of the clock: tids never run back, so behind a commit that was made while the clock was
//! ahead, or restored from where it was, the next ones are no times until the clock has caught up. Said once, and again only
//! after that.

use std::time::Duration;
use zeolite_proto::Tid;

// Less is nothing: restores and the server's own commits are a little ahead.
const WORTH_A_WORD: Duration = Duration::from_secs(60);

/// Whether it was said.
#[derive(Default)]
pub(crate) struct AheadOfClock {
    told: bool,
}

impl AheadOfClock {
    /// Looks at a commit, by the clock in nanoseconds since 1970; whether it was told now.
    pub(crate) fn look(&mut self, tid: Tid, now: i128) -> bool {
        let ahead = tid.unix_nanos() - now;
        let is_ahead = ahead > WORTH_A_WORD.as_nanos() as i128;
        let tell = is_ahead && !self.told;
        self.told = is_ahead;
        if tell {
            let ahead_s = u64::try_from(ahead / 1_000_000_000).unwrap_or(u64::MAX);
            tracing::warn!(
                newest = %tid.utc(),
                ahead_s,
                "the newest commit is ahead of this machine's clock: what is committed until that has caught up has no true \
                 time; set the clock right"
            );
        }
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_until_the_clock_has_caught_up() {
        let (start, second) = (1_700_000_000_000_000_000, 1_000_000_000);
        let tid = Tid::from_unix_nanos(start + 3600 * second);
        let mut ahead = AheadOfClock::default();
        let told = [0, 1, 3541, 3600, 10].map(|passed| ahead.look(tid, start + passed * second));
        assert_eq!(told, [true, false, false, false, true]);
    }
}
