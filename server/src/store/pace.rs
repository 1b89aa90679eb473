//! Owns the pace of what is brought to the disk beside live commits: in slices, each synced, with rests between them.
//!
//! ```text
//!   all at once   ████████████████████ sync   a commit that comes now waits for all of it
//!   in slices     ██ sync ········ ██ sync ········ ██ sync ········   or for one slice; the rests are nine times as long as what they rest from
//! ```
//! A disk takes what it is given in order: a commit's fdatasync stands behind whatever was given before. `zeolite backup` writes its files the same way,
//! from its side of the wire.
//!
//! **When it rests.** Only while commits come, the last of them [`LIVE`] ago at most: so a server that stops rests no more, and neither does one that nobody
//! writes to. And only while little waits for the index: who settles must not fall behind for the sake of a bulk import, whose memory has a limit.
//!
//! **How long.** [`REST_MAX`] behind a slice, and in all what whoever begins says. Nothing is durable later than it is promised: who writes in slices
//! says that it is done behind the last one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So much is written between two syncs: it takes about as long as the disk takes for some of its syncs anyway. Less in
/// tests, so that they see the seams.
pub(crate) const SLICE_BYTES: usize = if cfg!(test) { 16 << 10 } else { 256 << 10 };
/// So many times as long as a slice took.
const RESTS: u32 = 9;
const REST_MAX: Duration = Duration::from_millis(10);
/// Nobody commits any more when nobody has for so long.
const LIVE: Duration = Duration::from_millis(100);
/// More than this waits for the index: it is written as fast as it can be.
const WAITING_BYTES_MAX: u64 = 4 << 20;

/// What commits tell of themselves.
#[derive(Default)]
pub(crate) struct Pace {
    batches: AtomicU64,
    waiting_bytes: AtomicU64,
}

/// What is written in slices, on its way.
pub(crate) struct Slices {
    pace: Arc<Pace>,
    seen: u64,
    // Since a commit was seen; at the beginning none was.
    quiet: Duration,
    // For so long it may rest yet.
    left: Duration,
}

impl Pace {
    /// A batch is published, and so much waits for the index.
    pub(crate) fn published(&self, waiting_bytes: u64) {
        self.waiting_bytes.store(waiting_bytes, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins: commits from now on are those that it rests for, so long in all.
    pub(crate) fn begin(self: &Arc<Pace>, rests_max: Duration) -> Slices {
        Slices { pace: self.clone(), seen: self.batches.load(Ordering::Relaxed), quiet: LIVE, left: rests_max }
    }
}

impl Slices {
    /// A slice is on the disk, which took so long.
    #[expect(clippy::disallowed_methods, reason = "the rest is what this is for: the disk is left to others")]
    pub(crate) fn rest(&mut self, took: Duration) {
        let rest = self.next(took);
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
    }

    // How long the next rest is.
    fn next(&mut self, took: Duration) -> Duration {
        let batches = self.pace.batches.load(Ordering::Relaxed);
        let came = std::mem::replace(&mut self.seen, batches) != batches;
        self.quiet = if came { Duration::ZERO } else { self.quiet.saturating_add(took) };
        if self.quiet >= LIVE || self.pace.waiting_bytes.load(Ordering::Relaxed) > WAITING_BYTES_MAX {
            return Duration::ZERO;
        }
        let rest = took.saturating_mul(RESTS).min(REST_MAX).min(self.left);
        self.left -= rest;
        self.quiet += rest;
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_rests_only_while_commits_come() {
        let pace = Arc::new(Pace::default());
        pace.published(0);
        let mut slices = pace.begin(Duration::MAX);
        assert_eq!(slices.next(MS), Duration::ZERO, "nobody has committed since it began");
        pace.published(0);
        assert_eq!(slices.next(MS), 9 * MS);
        assert_eq!(slices.next(10 * MS), REST_MAX, "and for a while after that");
        let quiet: Vec<_> = std::iter::repeat_with(|| slices.next(MS)).take(10).collect();
        assert_eq!(quiet.iter().filter(|rest| rest.is_zero()).count(), 3, "{quiet:?}");
        assert_eq!(quiet.last(), Some(&Duration::ZERO), "nobody commits any more");
        pace.published(0);
        assert_eq!(slices.next(MS), 9 * MS, "somebody does again");
    }

    #[test]
    fn it_rests_no_longer_than_it_may_and_not_while_much_waits() {
        let pace = Arc::new(Pace::default());
        let mut slices = pace.begin(25 * MS);
        let mut rests = || {
            pace.published(0);
            slices.next(2 * MS)
        };
        let taken: Vec<_> = std::iter::repeat_with(&mut rests).take(5).collect();
        assert_eq!(taken, [10 * MS, 10 * MS, 5 * MS, Duration::ZERO, Duration::ZERO]);
        let mut slices = pace.begin(Duration::MAX);
        pace.published(WAITING_BYTES_MAX + 1);
        assert_eq!(slices.next(MS), Duration::ZERO);
        pace.published(WAITING_BYTES_MAX);
        assert_eq!(slices.next(MS), 9 * MS);
    }
}
