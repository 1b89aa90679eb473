//! Owns how a job stands: its state in one word with the reason, how much is done, how fast. A sum of its records.
//!
//! A job that should be worked on, and of which nobody holds a range for a lease, is told as one that nobody works on: a worker that
//! lives holds one, or has just given it back.
//!
//! A worker that was killed leaves its last report behind. So a report counts only as long as a lease after the commit that wrote
//! it: a worker that lives writes one in that time, whatever it waits for. Both times are the server's.

use super::job::{JobRecord, Phase};
use super::ledger::{Counts, Part, RangeRecord, counts};
use super::stored::Kept;
use crate::ids::Tid;
use std::time::Duration;

/// What a worker's reason to wait begins with when the disk has too little room.
pub const LOW_DISK: &str = "low disk";

/// The state in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum State {
    /// The job is in this phase, and nothing holds it up.
    In(Phase),
    /// Workers go slowly, because the site feels them.
    Throttled,
    /// An operator holds it, or the disk has too little room.
    Paused,
}

impl State {
    /// All of them.
    pub const ALL: [State; 11] = [
        State::In(Phase::Planned),
        State::In(Phase::Running),
        State::Throttled,
        State::Paused,
        State::In(Phase::CatchingUp),
        State::In(Phase::Verifying),
        State::In(Phase::Done),
        State::In(Phase::Failed),
        State::In(Phase::Cancelled),
        State::In(Phase::Undoing),
        State::In(Phase::Undone),
    ];

    /// The word.
    pub fn text(self) -> &'static str {
        match self {
            State::In(phase) => phase.text(),
            State::Throttled => "throttled",
            State::Paused => "paused",
        }
    }
}

/// A job as its records tell it at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    /// In one word.
    pub state: State,
    /// Why; empty: nothing to say.
    pub why: String,
    /// When a pause ends by itself, in milliseconds since 1970; 0: it does not, or not by the clock.
    pub until_unix_ms: u64,
    /// What became of objects, in all ranges.
    pub counts: Counts,
    /// Objects that were looked at, of `total`.
    pub done: u64,
    /// Objects in the plan, and what live writers have added to it.
    pub total: u64,
    /// Objects a second, as the workers tell it.
    pub rate: f64,
    /// Ranges that a worker holds which gives signs of life.
    pub workers: u64,
    /// For how long none of its workers has given a sign, or nobody has worked on it at all; none: somebody does, or need not.
    pub silent: Option<Duration>,
}

/// For how long the holder of a range has given no sign of life, if that is longer than its lease.
pub fn silent(job: &JobRecord, range: &Kept<RangeRecord>, now_unix_ms: u64) -> Option<Duration> {
    let last_ms = u64::try_from(range.tid.unix_nanos() / 1_000_000).unwrap_or(0);
    let since = Duration::from_millis(now_unix_ms.saturating_sub(last_ms));
    (!range.record.holder.is_empty() && since > job.lease()).then_some(since)
}

/// For how long nobody has worked on a job of which no range is held, if that is longer than a lease.
fn alone<'a>(
    job: &JobRecord,
    ranges: impl Iterator<Item = &'a Kept<RangeRecord>>,
    now_unix_ms: u64,
) -> Option<Duration> {
    let is_to_be_done = matches!(job.phase, Phase::Running | Phase::CatchingUp | Phase::Verifying | Phase::Undoing);
    let last = ranges.map(|range| range.tid).max()?.max(Tid(job.started));
    let last_ms = u64::try_from(last.unix_nanos() / 1_000_000).unwrap_or(0);
    let since = Duration::from_millis(now_unix_ms.saturating_sub(last_ms));
    (is_to_be_done && !job.is_paused(now_unix_ms) && since > job.lease()).then_some(since)
}

impl Standing {
    /// Of a job and its ranges, the last one for the end of the job; `undo`: the range of its undo, if there is one. `old`: how
    /// many objects of the target class are below the target's version, if there is a target. The time is that of the server's clock.
    pub fn of(
        job: &JobRecord,
        kept: &[Kept<RangeRecord>],
        undo: Option<&Kept<RangeRecord>>,
        old: Option<u64>,
        now_unix_ms: u64,
    ) -> Standing {
        let undo = undo.filter(|_| job.phase == Phase::Undoing);
        let is_alive = |range: &&Kept<RangeRecord>| silent(job, range, now_unix_ms).is_none();
        let own: Vec<&RangeRecord> = held(kept.iter().filter(is_alive)).collect();
        let all: Vec<&RangeRecord> = own.iter().copied().chain(held(undo.into_iter().filter(is_alive))).collect();
        let is_left = !kept.iter().chain(undo).any(|range| !range.record.holder.is_empty());
        let silent = match is_left {
            true => alone(job, kept.iter().chain(undo), now_unix_ms),
            false => kept.iter().chain(undo).filter_map(|range| silent(job, range, now_unix_ms)).min(),
        };
        let silent = silent.filter(|_| all.is_empty() && !job.phase.is_over());
        let (state, why, until_unix_ms) = state(job, &all, silent.map(|silent| (silent, is_left)), now_unix_ms);
        let (mut done, mut extra) = (0, 0);
        let ranges = || kept.iter().map(|kept| &kept.record);
        for range in ranges() {
            if range.part == Part::Finish {
                extra += range.counts.done;
            } else {
                // What live writers had brought to the new shape by then was not even listed.
                done += if range.finished { range.counts.done.max(range.total) } else { range.counts.done };
            }
        }
        let planned: u64 = ranges().map(|range| range.total).sum();
        let done = done + extra;
        let ahead = match (job.phase, old) {
            (Phase::CatchingUp | Phase::Verifying, Some(old)) => old,
            _ => planned.saturating_sub(done),
        };
        let workers = all.len() as u64;
        // What an undo takes back are no objects of the plan. Not `sum`: that of no rates is -0.0, and is shown like that.
        let rate = own.iter().fold(0.0, |rate, range| rate + range.rate);
        let counts = counts(ranges());
        Standing { state, why, until_unix_ms, counts, done, total: done + ahead, rate, workers, silent }
    }
}

fn held<'a>(ranges: impl Iterator<Item = &'a Kept<RangeRecord>>) -> impl Iterator<Item = &'a RangeRecord> {
    ranges.map(|kept| &kept.record).filter(|range| !range.holder.is_empty())
}

/// `silent`: for how long nobody has given a sign, and whether that is since nobody holds a range.
fn state(
    job: &JobRecord,
    alive: &[&RangeRecord],
    silent: Option<(Duration, bool)>,
    now_unix_ms: u64,
) -> (State, String, u64) {
    let plain = || (State::In(job.phase), job.reason.clone(), 0);
    if job.phase.is_over() {
        return plain();
    }
    if let Some(pause) = job.pause.as_ref().filter(|_| job.is_paused(now_unix_ms)) {
        return (State::Paused, pause.reason.clone(), pause.until_unix_ms);
    }
    let waits = |low_disk: bool| {
        let mut all = alive.iter().map(|range| range.waits_for.as_str());
        all.find(|why| !why.is_empty() && why.starts_with(LOW_DISK) == low_disk)
    };
    match (waits(true), waits(false)) {
        (Some(why), _) => (State::Paused, why.to_owned(), 0),
        (None, Some(why)) => (State::Throttled, why.to_owned(), 0),
        (None, None) => match silent {
            Some((silent, true)) => {
                let why = if job.reason.is_empty() { String::new() } else { format!("{}; ", job.reason) };
                (State::In(job.phase), format!("{why}nobody works on it for {} s", silent.as_secs()), 0)
            }
            Some((silent, false)) => {
                (State::In(job.phase), format!("no sign of its workers for {} s", silent.as_secs()), 0)
            }
            None => plain(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn running() -> JobRecord {
        let mut job = samples::jobs().swap_remove(1);
        (job.phase, job.pause) = (Phase::Running, None);
        job
    }

    fn range(waits_for: &str) -> RangeRecord {
        let mut range = RangeRecord::new(Part::Objects { after: 0, last: 9 }, 10);
        (range.holder, range.rate, range.waits_for) = ("worker".into(), 2.5, waits_for.into());
        range.counts.done = 4;
        range
    }

    /// As it was written at a time.
    fn at(unix_ms: u64, range: &RangeRecord) -> Kept<RangeRecord> {
        Kept { tid: Tid::from_unix_nanos(i128::from(unix_ms) * 1_000_000), record: range.clone() }
    }

    fn now(ranges: &[RangeRecord]) -> Vec<Kept<RangeRecord>> {
        ranges.iter().map(|range| at(1000, range)).collect()
    }

    fn told(job: &JobRecord, ranges: &[RangeRecord]) -> (&'static str, String) {
        let standing = Standing::of(job, &now(ranges), None, None, 1000);
        (standing.state.text(), standing.why)
    }

    #[test]
    fn an_operator_comes_first_then_the_disk_then_the_site() {
        let mut job = running();
        let (slow, low) = (range("live p99"), range("low disk: 9 %"));
        assert_eq!(told(&job, &[range("")]), ("running", String::new()));
        assert_eq!(told(&job, std::slice::from_ref(&slow)), ("throttled", "live p99".into()));
        assert_eq!(told(&job, &[slow.clone(), low.clone()]), ("paused", "low disk: 9 %".into()));
        job.pause = Some(super::super::Pause { reason: "lunch".into(), until_unix_ms: 1001 });
        assert_eq!(told(&job, std::slice::from_ref(&low)), ("paused", "lunch".into()));
        job.pause = Some(super::super::Pause { reason: "lunch".into(), until_unix_ms: 1000 });
        assert_eq!(told(&job, std::slice::from_ref(&slow)), ("throttled", "live p99".into()), "that pause is over");
        let mut nobody = low;
        nobody.holder.clear();
        assert_eq!(told(&job, &[nobody]), ("running", String::new()), "nobody waits any more");
        (job.phase, job.reason) = (Phase::Failed, "no".into());
        assert_eq!(told(&job, &[slow]), ("failed", "no".into()));
    }

    #[test]
    fn an_undo_tells_what_it_waits_for_as_a_run_does() {
        let mut job = running();
        job.phase = Phase::Undoing;
        let told = |job: &JobRecord, undo: &RangeRecord| {
            let standing = Standing::of(job, &[], Some(&at(1000, undo)), None, 1000);
            (standing.state.text(), standing.why, standing.workers)
        };
        assert_eq!(told(&job, &range("")), ("undoing", String::new(), 1));
        assert_eq!(told(&job, &range("live p99")), ("throttled", "live p99".into(), 1));
        assert_eq!(told(&job, &range("low disk: 9 %")), ("paused", "low disk: 9 %".into(), 1));
        job.phase = Phase::Undone;
        assert_eq!(told(&job, &range("live p99")), ("undone", String::new(), 0), "its last worker was killed");
    }

    #[test]
    fn the_total_follows_what_live_writers_leave_behind() {
        let mut job = running();
        let mut end = RangeRecord::new(Part::Finish, 0);
        let mut finished = range("");
        finished.finished = true;
        let at = |job: &JobRecord, ranges: &[RangeRecord], old| {
            let standing = Standing::of(job, &now(ranges), None, old, 0);
            (standing.done, standing.total, standing.workers)
        };
        assert_eq!(at(&job, &[range(""), end.clone()], Some(50)), (4, 10, 1));
        assert_eq!(at(&job, &[finished.clone(), end.clone()], Some(50)), (10, 10, 1));
        job.phase = Phase::CatchingUp;
        end.counts.done = 3;
        assert_eq!(at(&job, &[finished, end], Some(5)), (13, 18, 1));
    }

    #[test]
    fn without_workers_the_rate_is_a_plain_zero() {
        let mut free = range("");
        free.holder.clear();
        let rate = |ranges: &[RangeRecord]| Standing::of(&running(), &now(ranges), None, None, 0).rate;
        assert_eq!(format!("{:.1} {:.1}", rate(&[]), rate(&[free])), "0.0 0.0");
        assert_eq!(rate(&[range(""), range("")]), 5.0);
    }

    #[test]
    fn a_worker_without_a_sign_for_its_lease_counts_no_more() {
        let mut job = running();
        job.settings.lease_ms = 10_000;
        let (one, two) = (at(1000, &range("live p99")), at(9000, &range("")));
        let told = |job: &JobRecord, ranges: &[Kept<RangeRecord>], now| {
            let standing = Standing::of(job, ranges, None, None, now);
            (standing.state.text(), standing.why, standing.workers, standing.rate)
        };
        let both = [one.clone(), two];
        assert_eq!(told(&job, &both, 10_990), ("throttled", "live p99".into(), 2, 5.0));
        assert_eq!(told(&job, &both, 11_010), ("running", String::new(), 1, 2.5), "one of them is alive");
        let silent = "no sign of its workers for 15 s".to_owned();
        assert_eq!(told(&job, &both, 24_500), ("running", silent.clone(), 0, 0.0), "since the last sign of any");
        job.settings.atomic = true;
        assert_eq!(told(&job, &both, 24_000).2, 2, "a whole plan is longer on its way");
        (job.settings.atomic, job.phase) = (false, Phase::Undoing);
        let undo = Standing::of(&job, &[], Some(&one), None, 16_500);
        assert_eq!((undo.why, undo.workers, undo.silent.is_some()), (silent, 0, true));
        job.phase = Phase::Failed;
        assert_eq!(told(&job, &both, 24_000), ("failed", job.reason.clone(), 0, 0.0), "nobody is expected");
    }

    #[test]
    fn a_job_of_which_nobody_has_a_range_is_told_as_one_that_nobody_works_on() {
        let mut job = running();
        (job.settings.lease_ms, job.started) = (10_000, Tid::from_unix_nanos(2_000_000_000).0);
        let mut free = range("live p99");
        free.holder.clear();
        let kept = [at(1000, &free)];
        let told = |job: &JobRecord, kept: &[Kept<RangeRecord>], now| {
            let standing = Standing::of(job, kept, None, None, now);
            (standing.state.text(), standing.why, standing.silent.is_some())
        };
        assert_eq!(told(&job, &kept, 11_990), ("running", String::new(), false), "it was begun just now");
        let alone = "nobody works on it for 15 s".to_owned();
        assert_eq!(told(&job, &kept, 17_500), ("running", alone.clone(), true));
        job.reason = "the worker a ended: no program".into();
        assert_eq!(told(&job, &kept, 17_500).1, format!("the worker a ended: no program; {alone}"));
        job.pause = Some(super::super::Pause { reason: "lunch".into(), until_unix_ms: 0 });
        assert_eq!(told(&job, &kept, 17_500), ("paused", "lunch".into(), false), "nobody is to");
        (job.pause, job.phase) = (None, Phase::Planned);
        assert!(!told(&job, &kept, 17_500).2);
        job.phase = Phase::Failed;
        assert!(!told(&job, &kept, 17_500).2);
        (job.phase, job.reason) = (Phase::Undoing, String::new());
        let undo = Standing::of(&job, &kept, Some(&at(4000, &free)), None, 19_500);
        assert_eq!((undo.why, undo.silent.is_some()), (alone, true));
    }

    #[test]
    fn every_state_has_its_word() {
        let words: std::collections::BTreeSet<&str> = State::ALL.map(State::text).into();
        assert_eq!(words.len(), State::ALL.len());
        let phases = samples::jobs().into_iter().map(|job| State::In(job.phase));
        assert!(phases.into_iter().all(|state| State::ALL.contains(&state)));
    }
}
