//! Owns a sample: what a server did between two looks at its status, as rates, and how it is now.
//!
//! The time between the looks is the server's own (its uptime): a slow network between does not bend the rates. After a
//! restart the counters begin anew: there is no sample over it.

use crate::check::oldest_pin_s;
use crate::evolve::{JobLine, Jobs};
use serde::Serialize;
use zeolite_client::{ClassCounts, Status};

/// Rates over one interval, and what holds at its end.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// The server's uptime at the end.
    pub(crate) uptime_ms: u64,
    pub(crate) interval_ms: u64,
    pub(crate) commits_per_s: f64,
    pub(crate) conflicts_per_s: f64,
    pub(crate) merges_per_s: f64,
    pub(crate) loads_per_s: f64,
    pub(crate) batches_per_s: f64,
    /// Commits that shared one sync, on average; none without commits.
    pub(crate) batch_size: Option<f64>,
    /// Records found in the server's cache, in percent; none without look-ups.
    pub(crate) cache_hit_percent: Option<f64>,
    pub(crate) live_p50_us: u64,
    pub(crate) live_p99_us: u64,
    pub(crate) quiet_p99_us: u64,
    pub(crate) fsync_p99_us: u64,
    pub(crate) queue_live: u64,
    pub(crate) queue_batch: u64,
    pub(crate) prepared: u64,
    pub(crate) sessions: u64,
    pub(crate) pins: u64,
    pub(crate) oldest_pin_s: f64,
    pub(crate) pinned_bytes: u64,
    pub(crate) unsettled_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) free_percent: Option<f64>,
    pub(crate) objects: u64,
    pub(crate) mode: String,
    pub(crate) banner: String,
    pub(crate) mode_until_unix_ms: Option<u64>,
    pub(crate) mode_automatic: Option<String>,
    pub(crate) poisoned: Option<String>,
    pub(crate) pack: String,
    /// The busiest first.
    pub(crate) classes: Vec<ClassRates>,
    /// The evolves that are not over; none: the server could not be asked for them.
    pub(crate) jobs: Option<Vec<JobLine>>,
    /// Further ones, which are not told.
    pub(crate) jobs_more: u64,
    #[serde(skip)]
    pub(crate) version: String,
}

/// One class over one interval.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct ClassRates {
    pub(crate) class: String,
    pub(crate) conflicts_per_s: f64,
    pub(crate) merges_per_s: f64,
    /// Since the server's start.
    pub(crate) conflicts: u64,
    pub(crate) merges: u64,
}

impl Sample {
    /// What happened between two looks; `None`: no time has passed, or the server was restarted.
    pub(crate) fn between(before: &Status, after: &Status) -> Option<Sample> {
        let interval_ms = after.uptime_ms.checked_sub(before.uptime_ms).filter(|ms| *ms > 0)?;
        let seconds = interval_ms as f64 / 1e3;
        let grown = |read: fn(&Status) -> u64| read(after).saturating_sub(read(before));
        let rate = |read: fn(&Status) -> u64| grown(read) as f64 / seconds;
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let (hits, misses) = (grown(|s| s.cache_hits), grown(|s| s.cache_misses));
        let (mode, pressure) = (after.mode.clone(), &after.pressure);
        Some(Sample {
            uptime_ms: after.uptime_ms,
            interval_ms,
            commits_per_s: rate(|s| s.commits),
            conflicts_per_s: rate(|s| s.conflicts),
            merges_per_s: rate(|s| s.merges),
            loads_per_s: rate(|s| s.loads),
            batches_per_s: rate(|s| s.batches),
            batch_size: ratio(grown(|s| s.commits), grown(|s| s.batches)),
            cache_hit_percent: ratio(hits * 100, hits + misses),
            live_p50_us: pressure.live_p50_us,
            live_p99_us: pressure.live_p99_us,
            quiet_p99_us: pressure.quiet_p99_us,
            fsync_p99_us: pressure.fsync_p99_us,
            queue_live: after.queue_live,
            queue_batch: after.queue_batch,
            prepared: after.prepared,
            sessions: after.sessions,
            pins: after.pins,
            oldest_pin_s: oldest_pin_s(after),
            pinned_bytes: after.pinned_bytes,
            unsettled_bytes: after.unsettled_bytes,
            log_bytes: after.log_bytes,
            free_bytes: after.free_bytes,
            free_percent: ratio(after.free_bytes, after.disk_bytes).map(|part| part * 100.0),
            objects: after.objects,
            mode: mode.kind.to_string(),
            banner: mode.banner,
            mode_until_unix_ms: mode.until_unix_ms,
            mode_automatic: mode.automatic,
            poisoned: after.poisoned.clone(),
            pack: after.pack.clone().unwrap_or_else(|| "idle".into()),
            classes: classes(&before.classes, &after.classes, seconds),
            jobs: None,
            jobs_more: 0,
            version: after.version.clone(),
        })
    }

    /// The same with the evolves.
    pub(crate) fn with_jobs(mut self, jobs: Option<Jobs>) -> Sample {
        self.jobs_more = jobs.as_ref().map_or(0, |jobs| jobs.more);
        self.jobs = jobs.map(|jobs| jobs.told);
        self
    }
}

/// The classes with conflicts or merges, those with most conflicts now first, then those with most of all time.
fn classes(before: &[ClassCounts], after: &[ClassCounts], seconds: f64) -> Vec<ClassRates> {
    let mut rates: Vec<ClassRates> = after
        .iter()
        .map(|now| {
            let then = before.iter().find(|then| then.class == now.class).cloned().unwrap_or_default();
            ClassRates {
                class: now.class.clone(),
                conflicts_per_s: now.conflicts.saturating_sub(then.conflicts) as f64 / seconds,
                merges_per_s: now.merges.saturating_sub(then.merges) as f64 / seconds,
                conflicts: now.conflicts,
                merges: now.merges,
            }
        })
        .collect();
    let key = |rates: &ClassRates| (rates.conflicts_per_s, rates.merges_per_s, rates.conflicts as f64);
    rates.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)).then(b.2.total_cmp(&a.2))
    });
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, conflicts: u64) -> ClassCounts {
        ClassCounts { class: name.into(), conflicts, merges: 0 }
    }

    #[test]
    fn rates_are_by_the_servers_own_time() {
        let before = Status { uptime_ms: 1000, commits: 100, batches: 10, loads: 7, ..Default::default() };
        let after = Status {
            uptime_ms: 3000,
            commits: 300,
            batches: 60,
            loads: 7,
            cache_hits: 30,
            cache_misses: 10,
            classes: vec![class("Page", 1), class("User", 9)],
            ..Default::default()
        };
        let sample = Sample::between(&before, &after).expect("two seconds");
        assert_eq!((sample.commits_per_s, sample.batches_per_s, sample.loads_per_s), (100.0, 25.0, 0.0));
        assert_eq!((sample.batch_size, sample.cache_hit_percent), (Some(4.0), Some(75.0)));
        let names: Vec<&str> = sample.classes.iter().map(|rates| rates.class.as_str()).collect();
        assert_eq!(names, ["User", "Page"]);
        assert_eq!(sample.classes[0].conflicts_per_s, 4.5);
    }

    #[test]
    fn there_is_no_sample_over_a_restart_nor_over_no_time() {
        let at = |uptime_ms| Status { uptime_ms, ..Default::default() };
        assert!(Sample::between(&at(5000), &at(100)).is_none());
        assert!(Sample::between(&at(5000), &at(5000)).is_none());
        let idle = Sample::between(&at(1), &at(2)).expect("a millisecond");
        assert_eq!((idle.batch_size, idle.cache_hit_percent), (None, None));
    }
}
