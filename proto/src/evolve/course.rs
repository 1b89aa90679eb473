//! Owns the stored form of a range's course: how its numbers went over time, for whoever asks afterwards.
//!
//! ```text
//!   samples   one a second at first; when there are 240, each two become one and the time between two of them doubles
//!             => a range of a minute and one of a week have a course of the same size, with ever coarser grain
//! ```
//! It is a report and nothing rests on it: a worker writes it with the first chunk of a range, then in commits of its own, and goes on when one of
//! these fails.

use super::ledger::Counts;
use super::stored::Stored;
use crate::ids::{Cell, Oid, Tid};
use serde::{Deserialize, Serialize};

/// More samples are thinned out.
pub const SAMPLES_MAX: usize = 240;
const EVERY_MS: u64 = 1000;
/// Of a reason; the rest is cut off.
const WHY_BYTES_MAX: usize = 120;

/// How a range went.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct CourseRecord {
    /// Milliseconds between two samples, at least.
    pub every_ms: u64,
    /// The oldest first.
    pub samples: Vec<CourseSample>,
}

/// A range at one moment, and what live traffic felt in the seconds before.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct CourseSample {
    /// The range's last commit: the moment, by the server's clock. Of one that is written with that commit, what the commit rests on.
    pub tid: u64,
    /// What has become of the range's objects so far.
    pub counts: Counts,
    /// The 99th percentile of live commits, in microseconds; 0: there were none.
    pub live_p99_us: u64,
    /// The same of quiet seconds; 0: not known.
    pub quiet_p99_us: u64,
    /// Live commits a second.
    pub live_rate: f64,
    /// Live drafts that were refused for a conflict, a second.
    pub conflict_rate: f64,
    /// What slowed the worker down; empty: nothing.
    pub why: String,
}

impl Default for CourseRecord {
    fn default() -> CourseRecord {
        CourseRecord { every_ms: EVERY_MS, samples: Vec::new() }
    }
}

impl Stored for CourseRecord {
    const CLASS: &str = "zeolite.evolve.Course";
}

impl CourseSample {
    /// In milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        u64::try_from(Tid(self.tid).unix_nanos() / 1_000_000).unwrap_or(0)
    }

    /// Of two that follow each other: the counts of the second, the worst of what was felt.
    fn then(self, next: CourseSample) -> CourseSample {
        CourseSample {
            live_p99_us: self.live_p99_us.max(next.live_p99_us),
            quiet_p99_us: self.quiet_p99_us.max(next.quiet_p99_us),
            live_rate: (self.live_rate + next.live_rate) / 2.0,
            conflict_rate: (self.conflict_rate + next.conflict_rate) / 2.0,
            why: if next.why.is_empty() { self.why } else { next.why },
            ..next
        }
    }
}

impl CourseRecord {
    /// Whether it is time for a sample of this moment.
    pub fn is_due(&self, tid: Tid) -> bool {
        let now = CourseSample { tid: tid.0, ..CourseSample::default() }.unix_ms();
        self.samples.last().is_none_or(|last| now >= last.unix_ms().saturating_add(self.every_ms))
    }

    /// Adds one, and makes room if there are too many.
    pub fn add(&mut self, mut sample: CourseSample) {
        sample.why.truncate(sample.why.floor_char_boundary(WHY_BYTES_MAX));
        self.samples.push(sample);
        if self.samples.len() < SAMPLES_MAX {
            return;
        }
        self.every_ms *= 2;
        let mut thinned = Vec::with_capacity(SAMPLES_MAX / 2);
        let mut samples = std::mem::take(&mut self.samples).into_iter();
        while let Some(sample) = samples.next() {
            thinned.push(match samples.next() {
                Some(next) => sample.then(next),
                None => sample,
            });
        }
        self.samples = thinned;
    }
}

/// The cell of a range's course.
pub fn course_cell(job: Oid, range: u32) -> Cell {
    Cell::entry(job, format!("course/{range:04}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> CourseSample {
        let tid = Tid::from_unix_nanos((1_700_000_000_000 + i128::from(ms)) * 1_000_000).0;
        CourseSample { tid, counts: Counts { done: ms, ..Counts::default() }, ..CourseSample::default() }
    }

    #[test]
    fn a_course_keeps_its_size_its_span_and_what_was_worst() {
        let mut course = CourseRecord::default();
        let mut taken = 0;
        for second in 0..100_000 {
            let mut sample = at(second * 1000);
            if !course.is_due(Tid(sample.tid)) {
                continue;
            }
            taken += 1;
            if second == 0 {
                (sample.live_p99_us, sample.why) = (77_000, "é".repeat(100));
            }
            course.add(sample);
            assert!(course.samples.len() < SAMPLES_MAX);
        }
        assert!(course.samples.len() >= SAMPLES_MAX / 2 && taken < 3000, "{} of {taken}", course.samples.len());
        assert!(course.every_ms >= 100_000_000 / SAMPLES_MAX as u64, "{}", course.every_ms);
        let (first, last) = (&course.samples[0], course.samples.last().expect("one"));
        assert_eq!((first.live_p99_us, first.why.chars().count()), (77_000, 60), "cut between characters");
        assert!(100_000_000 - last.counts.done <= 2 * course.every_ms, "the newest is there: {last:?}");
        let done: Vec<u64> = course.samples.iter().map(|sample| sample.counts.done).collect();
        assert!(done.is_sorted());
    }
}
