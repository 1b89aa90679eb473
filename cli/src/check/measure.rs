//! Owns what `check` measures: the names, their units, their thresholds unless told otherwise, and where each comes from.

use super::range::Range;
use crate::evolve::JobCounts;
use zeolite_client::{Pressure, Replication, Schedule, Seat, Status};

/// One number that can have thresholds.
pub(crate) struct Measure {
    /// Also the label of its performance data.
    pub(crate) name: &'static str,
    /// Its unit in performance data: ms, s, %, B, c (a counter), or nothing.
    pub(crate) unit: &'static str,
    /// Thresholds unless told otherwise; empty: none.
    pub(crate) warning: &'static str,
    pub(crate) critical: &'static str,
    /// For `--help`.
    pub(crate) help: &'static str,
    /// What an alert means and what to do, where the name does not say it; empty: it does.
    pub(crate) advice: &'static str,
    read: fn(&Seen) -> Option<f64>,
}

/// What one check has seen.
pub(crate) struct Seen {
    pub(crate) status: Status,
    /// How long the server took to answer.
    pub(crate) answer_ms: f64,
    /// The evolves; none: the server could not be asked for them.
    pub(crate) evolves: Option<JobCounts>,
}

impl Measure {
    /// The value; `None`: the server does not know it.
    pub(crate) fn value(&self, seen: &Seen) -> Option<f64> {
        (self.read)(seen)
    }

    /// The smallest and the largest possible value, for graphs.
    pub(crate) fn bounds(&self) -> (&'static str, &'static str) {
        ("0", if self.unit == "%" { "100" } else { "" })
    }

    /// Its value for people.
    pub(crate) fn shown(&self, value: f64) -> String {
        match self.unit {
            "B" => crate::output::size(value as u64),
            "c" => number(value),
            unit => format!("{}{unit}", number(value)),
        }
    }
}

/// At most three decimals, a point, no exponent: what every reader of performance data understands.
pub(crate) fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The default thresholds of a range's kind; the tables below are tested to be ranges.
pub(crate) fn default(text: &str) -> Option<Range> {
    text.parse().ok()
}

macro_rules! measures {
    ($($name:ident $unit:literal $warning:literal $critical:literal $help:literal $read:expr $(, $advice:literal)?;)*) => {
        /// Every measure, in the order of the performance data.
        pub(crate) const ALL: &[Measure] = &[$(Measure {
            name: stringify!($name),
            unit: $unit,
            warning: $warning,
            critical: $critical,
            help: $help,
            advice: concat!($($advice)?),
            read: $read,
        },)*];
    };
}

measures! {
    answer_ms "ms" "1000" "5000" "how long the server took to answer this check" |seen| Some(seen.answer_ms);
    live_p99_ms "ms" "100" "1000" "99th percentile of live commits over the last seconds, in the server" |seen| Some(pressure(seen).live_p99_us as f64 / 1e3);
    live_p50_ms "ms" "" "" "median of the same" |seen| Some(pressure(seen).live_p50_us as f64 / 1e3);
    fsync_p99_ms "ms" "100" "1000" "99th percentile of syncs of the log over the last seconds" |seen| Some(pressure(seen).fsync_p99_us as f64 / 1e3);
    queue_live "" "1000" "4000" "live drafts that wait" |seen| Some(seen.status.queue_live as f64);
    queue_batch "" "" "" "batch drafts that wait" |seen| Some(seen.status.queue_batch as f64);
    free_percent "%" "15:" "5:" "free part of the data directory's disk" free_percent;
    free_bytes "B" "" "" "the same in bytes" |seen| Some(seen.status.free_bytes as f64);
    oldest_pin_s "s" "86400" "" "from the oldest pinned snapshot to the newest commit" |seen| Some(oldest_pin_s(&seen.status));
    pinned_bytes "B" "10737418240" "" "log that pins keep from pack, at most" |seen| Some(seen.status.pinned_bytes as f64);
    pins "" "" "" "pinned snapshots" |seen| Some(seen.status.pins as f64);
    oldest_prepared_s "s" "300" "" "for how long the oldest prepared transaction holds its cells; see zeolite prepared" |seen| Some(seen.status.oldest_prepared_ms as f64 / 1e3);
    prepared "" "" "" "prepared transactions" |seen| Some(seen.status.prepared as f64);
    ahead_s "s" "60" "" "how far the newest commit is ahead of the server's clock" |seen| Some(seen.status.ahead_ms as f64 / 1e3), "a commit was made while the clock was ahead, or the clock is behind: set it right; until it has caught up commits have no true time, all else works";
    unsettled_bytes "B" "67108864" "134217728" "log that is not in the index yet; from 64 MiB on commits wait for it" |seen| Some(seen.status.unsettled_bytes as f64);
    log_bytes "B" "" "" "the log" |seen| Some(seen.status.log_bytes as f64);
    blob_bytes "B" "" "" "the files of blobs" |seen| Some(seen.status.blob_bytes as f64);
    blobs "" "" "" "blobs that were named" |seen| Some(seen.status.blobs as f64);
    staged_bytes "B" "" "" "uploads that no commit has named yet" |seen| Some(seen.status.staged_bytes as f64);
    sessions "" "" "" "open sessions" |seen| Some(seen.status.sessions as f64);
    commits "c" "" "" "durable transactions since the start" |seen| Some(seen.status.commits as f64);
    conflicts "c" "" "" "drafts refused by a conflict since the start" |seen| Some(seen.status.conflicts as f64);
    merges "c" "" "" "cells merged since the start" |seen| Some(seen.status.merges as f64);
    loads "c" "" "" "cells loaded since the start" |seen| Some(seen.status.loads as f64);
    evolve_failed "" "0" "" "evolves that have failed; resume, cancel or forget them" |seen| Some(seen.evolves?.failed as f64);
    evolve_running "" "" "" "evolves that are begun and not over, paused ones too" |seen| Some(seen.evolves?.running as f64);
    evolve_silent "" "0" "" "evolves whose workers have given no sign of life for longer than their lease" |seen| Some(seen.evolves?.silent as f64), "start a worker (zeolite evolve show), or cancel it";
    evolve_owing "" "0" "" "evolves that are done and owe steps: live transactions that began before went over what they had stepped" |seen| Some(seen.evolves?.owing as f64), "run their workers again (zeolite evolve list)";
    certificate_days "" "14:" "3:" "until the certificate ends that the server shows" certificate_days, "write a new one to tls.cert and tls.key; the server takes it in by itself";
    backup_intervals "" "2" "4" "how long ago the last backup that the server took by itself was whole, in its intervals" |seen| intervals(seen, "backup"), "zeolite status says why; see docs/backup.md";
    backup_failed "" "0" "" "1: the last of these has failed" |seen| failed(seen, "backup"), "zeolite status says why";
    pack_intervals "" "2" "4" "the same of packs" |seen| intervals(seen, "pack"), "zeolite status says why";
    pack_failed "" "0" "" "1: the last of these has failed" |seen| failed(seen, "pack"), "zeolite status says why";
    behind_s "s" "30" "300" "for how long a follower has not had all that its primary had" |seen| follower(seen).map(|it| it.behind_ms as f64 / 1e3), "see zeolite status";
    behind_bytes "B" "" "" "log that the primary has and the follower has not" |seen| follower(seen).map(|it| it.behind.bytes as f64);
    behind_transactions "" "" "" "the same in transactions" |seen| follower(seen).map(|it| it.behind.transactions as f64);
    followers "" "" "" "followers of a primary that are there" followers;
    waiting_s "s" "1" "10" "for how long the oldest commit has waited for followers (replication.sync)" |seen| Some(seen.status.replication.waiting_ms as f64 / 1e3), "a follower is slow or gone: see zeolite status";
    uptime_s "s" "" "" "since the server was started" |seen| Some(seen.status.uptime_ms as f64 / 1e3);
}

fn pressure(seen: &Seen) -> &Pressure {
    &seen.status.pressure
}

fn follower(seen: &Seen) -> Option<&Replication> {
    Some(&seen.status.replication).filter(|it| it.seat == Seat::Follower)
}

/// None without any, ever.
fn followers(seen: &Seen) -> Option<f64> {
    let all = &seen.status.replication.followers;
    (!all.is_empty()).then(|| all.iter().filter(|one| one.connected).count() as f64)
}

fn scheduled<'a>(seen: &'a Seen, work: &str) -> Option<&'a Schedule> {
    seen.status.schedules.iter().find(|schedule| schedule.work == work)
}

/// None without such a schedule.
fn intervals(seen: &Seen, work: &str) -> Option<f64> {
    Some(scheduled(seen, work)?.age_in_intervals(seen.status.unix_ms))
}

/// None without such a schedule.
fn failed(seen: &Seen, work: &str) -> Option<f64> {
    Some(f64::from(u8::from(scheduled(seen, work)?.has_failed())))
}

/// None without TLS.
fn certificate_days(seen: &Seen) -> Option<f64> {
    let (expires, now) = (seen.status.certificate_expires_unix_ms as f64, seen.status.unix_ms as f64);
    (expires > 0.0).then(|| ((expires - now) / 86_400_000.0).max(0.0))
}

fn free_percent(seen: &Seen) -> Option<f64> {
    let (free, disk) = (seen.status.free_bytes as f64, seen.status.disk_bytes as f64);
    (disk > 0.0).then(|| free * 100.0 / disk)
}

/// What pins hold is history up to the newest commit; a database that nobody writes to loses nothing by an old pin.
pub(crate) fn oldest_pin_s(status: &Status) -> f64 {
    status.oldest_pin_ms as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Prometheus alerts on.
    const RULES: &str = include_str!("../../../packaging/prometheus/zeolite.rules.yml");

    #[test]
    fn whatever_is_warned_of_here_prometheus_alerts_on() {
        let alerts = |measure: &&Measure| RULES.contains(&format!("{{ check: {}, ", measure.name));
        let missing: Vec<&str> =
            ALL.iter().filter(|it| !it.warning.is_empty() && !alerts(it)).map(|it| it.name).collect();
        assert!(missing.is_empty(), "packaging/prometheus/zeolite.rules.yml has no alert for {missing:?}");
    }

    #[test]
    fn every_default_is_a_range() {
        for measure in ALL {
            for text in [measure.warning, measure.critical].into_iter().filter(|text| !text.is_empty()) {
                assert!(default(text).is_some(), "{}: {text}", measure.name);
            }
        }
    }

    #[test]
    fn numbers_are_plain() {
        assert_eq!(
            [0.0, 1.0, 1.5, 0.0004, 12345678901.0, 2.0004].map(number),
            ["0", "1", "1.5", "0", "12345678901", "2"]
        );
    }
}
