//! Owns which numbers are told, and under which names; docs/operations.md says what to do about them.
//!
//! A name, once told, keeps its meaning: graphs and alerts rest on it. New ones may come.

use super::evolves::Evolves;
use super::families::Families;
use super::process::Process;
use super::replication::replication;
use crate::databases::Database;
use crate::engine::{Engine, Histogram};
use crate::rpc::{Rpc, SessionLoad};
use crate::store::Progress;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt::{self, Error};
use std::ops::RangeInclusive;
use std::sync::Arc;
use zeolite_proto::{ClassCounts, ModeKind, Status};

/// The bounds of the exported buckets, as powers of two of nanoseconds: 4 µs to 17 s.
const BUCKET_POWERS: RangeInclusive<u32> = 12..=34;

/// Where the numbers come from.
pub(crate) struct Numbers {
    pub(crate) database: Arc<Database>,
    pub(crate) rpc: Arc<Rpc>,
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbers")
    }
}

impl Numbers {
    /// Why the server should not be sent anybody; `None`: it is well.
    pub(crate) fn sick(&self) -> Option<String> {
        if let Some(reason) = self.database.engine().poisoned() {
            return Some(format!("poisoned: {reason} (database {})", self.database.name()));
        }
        if let Some(why) = self.database.engine().index_down() {
            return Some(format!(
                "the index has failed and is made ready again: {why} (database {})",
                self.database.name()
            ));
        }
        self.rpc.is_shutting_down().then(|| "shutting down".to_owned())
    }
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let engine = self.database.engine();
        let status = self.rpc.status(&self.database);
        let mut to = Families::new(encoder);
        opening(false, Progress::default(), &mut to)?;
        server(&status, &mut to)?;
        commits(&status, engine, &mut to)?;
        pressure(&status, &mut to)?;
        stages(engine, &mut to)?;
        queues(&status, &mut to)?;
        sessions(&self.rpc.session_load(&self.database), &status, &mut to)?;
        let [waiting, sent, dropped] = self.rpc.spans();
        to.gauge(
            "zeolite_spans_waiting",
            "Spans of requests that somebody traces, not sent yet, of all databases",
            waiting,
        )?;
        to.counter("zeolite_spans_sent", "Those that a collector has taken", sent)?;
        to.counter("zeolite_spans_dropped", "Those that none has got: it was slow or gone", dropped)?;
        let requests = self.rpc.requests_bytes();
        to.gauge("zeolite_requests_bytes", "What requests hold that are not answered yet, of all databases", requests)?;
        snapshots(&status, &mut to)?;
        reads(&status, &mut to)?;
        disk(&status, &mut to)?;
        replication(&status.replication, &mut to)?;
        Evolves::read(engine).write(&mut to)?;
        Process::now().write(&mut to)
    }
}

/// What there is to tell of a database that is being opened.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) progress: Progress,
}

impl Collector for Opening {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut to = Families::new(encoder);
        opening(true, self.progress, &mut to)?;
        Process::now().write(&mut to)
    }
}

fn opening(
    is_opening: bool,
    Progress { done_bytes, all_bytes, .. }: Progress,
    to: &mut Families<'_>,
) -> Result<(), Error> {
    let help = "1: the database is being opened, its calls are told to come back";
    to.gauge("zeolite_opening", help, u64::from(is_opening))?;
    to.gauge("zeolite_opening_done_bytes", "Log that the opening has read", done_bytes)?;
    to.gauge("zeolite_opening_all_bytes", "Log that it has to read; 0: not known yet, or not opening", all_bytes)
}

fn server(status: &Status, to: &mut Families<'_>) -> Result<(), Error> {
    let labels = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("index", status.index.clone()),
        ("store_id", format!("{:016x}", status.store_id)),
    ];
    to.info("zeolite_build", "What runs here", &labels)?;
    to.gauge("zeolite_uptime_seconds", "Since the server was started", status.uptime_ms as f64 / 1e3)?;
    let help = "1: a write or sync of the log failed, nothing is written any more";
    to.gauge("zeolite_poisoned", help, u64::from(status.poisoned.is_some()))?;
    let help = "1: the index has failed and is made ready again; commits go on, most reads wait";
    to.gauge("zeolite_index_down", help, u64::from(status.index_down.is_some()))?;
    let help = "Calls to the disk that have failed, a full one aside";
    to.counter("zeolite_disk_errors", help, status.disk_errors)?;
    let help = "Ends of the log that were cut off at a start and are kept beside it";
    to.gauge("zeolite_torn_tails", help, status.torn)?;
    let help = "How far the newest commit is ahead of the server's clock: made when that was ahead, or restored";
    to.gauge("zeolite_newest_ahead_seconds", help, status.ahead_ms as f64 / 1e3)?;
    let help = "When the certificate ends that the server shows, in seconds since 1970; 0: it has none";
    to.gauge("zeolite_certificate_expires_seconds", help, status.certificate_expires_unix_ms as f64 / 1e3)?;
    let help = "1: files of certificates or users do not count as they are now, the former ones are in force";
    to.gauge("zeolite_security_problem", help, u64::from(status.security_problem.is_some()))?;
    let of = |value: fn(&zeolite_proto::Schedule) -> f64| {
        status.schedules.iter().map(move |one| (("work", one.work.as_str()), value(one))).collect::<Vec<_>>()
    };
    let help = "When the server last did by itself what is scheduled, in seconds since 1970; 0: never yet";
    to.gauges("zeolite_schedule_done_seconds", help, of(|one| one.done_unix_ms as f64 / 1e3))?;
    let help = "When that last failed, in seconds since 1970; 0: never";
    to.gauges("zeolite_schedule_failed_seconds", help, of(|one| one.failed_unix_ms as f64 / 1e3))?;
    let help = "How often it is to be done";
    to.gauges("zeolite_schedule_every_seconds", help, of(|one| one.every_ms as f64 / 1e3))?;
    let help = "1: it is at it";
    to.gauges("zeolite_schedule_running", help, of(|one| f64::from(u8::from(one.running))))?;
    let modes = ModeKind::ALL.map(|kind| (("mode", kind.text()), u64::from(kind == status.mode.kind)));
    to.gauges("zeolite_mode", "1 for the mode in force: who may write", modes)?;
    let help = "1: the server took that mode by itself, because of its disk or a failed write";
    to.gauge("zeolite_mode_automatic", help, u64::from(status.mode.automatic.is_some()))?;
    to.gauge("zeolite_gates", "Classes whose old schema versions are refused", status.gates.len())?;
    let help = "1: pack is at work";
    to.gauge("zeolite_pack_running", help, u64::from(status.pack.is_some()))?;
    to.gauge("zeolite_objects", "Live objects, entries of collections not counted", status.objects)
}

fn commits(status: &Status, engine: &Engine, to: &mut Families<'_>) -> Result<(), Error> {
    to.counter("zeolite_commits", "Durable transactions", status.commits)?;
    let slow = engine.stats().slow_commits.get();
    to.counter("zeolite_slow_commits", "Durable transactions that took longer than engine.slow_commit_ms", slow)?;
    to.counter("zeolite_batches", "Batches, each with one sync of the log", status.batches)?;
    to.counter("zeolite_conflicts", "Drafts refused because of a conflict", status.conflicts)?;
    to.counter("zeolite_merges", "Cells that a resolver merged", status.merges)?;
    let by_class = |read: fn(&ClassCounts) -> u64| {
        status.classes.iter().map(move |counts| (("class", counts.class.as_str()), read(counts)))
    };
    let help = "The same by class; classes beyond the first few hundred together have the empty name";
    to.counters("zeolite_class_conflicts", help, by_class(|counts| counts.conflicts))?;
    to.counters("zeolite_class_merges", help, by_class(|counts| counts.merges))
}

/// What live commits feel, as the evolve's throttle sees it: percentiles over a moving window, which cannot be added up;
/// the histograms of the stages can.
fn pressure(status: &Status, to: &mut Families<'_>) -> Result<(), Error> {
    let pressure = &status.pressure;
    let seconds = |us: u64| us as f64 / 1e6;
    let live =
        [(("percentile", "50"), seconds(pressure.live_p50_us)), (("percentile", "99"), seconds(pressure.live_p99_us))];
    to.gauges("zeolite_live_commit_window_seconds", "Live commits of the last few seconds, in the server", live)?;
    let help = "The 99th percentile of live commits over recent seconds without batch drafts";
    to.gauge("zeolite_live_commit_quiet_p99_seconds", help, seconds(pressure.quiet_p99_us))?;
    let help = "The 99th percentile of live commits of the last few seconds that met no batch draft; 0: too few";
    to.gauge("zeolite_live_commit_apart_p99_seconds", help, seconds(pressure.apart_p99_us))?;
    let help = "The 99th percentile of syncs of the log over the last few seconds";
    to.gauge("zeolite_fsync_window_p99_seconds", help, seconds(pressure.fsync_p99_us))
}

fn stages(engine: &Engine, to: &mut Families<'_>) -> Result<(), Error> {
    let histograms = engine.stats().histograms();
    let help = "Where the time of commits goes; write and fsync are counted for each draft that waited for them";
    let values = histograms.into_iter().map(|(name, histogram)| {
        let (sum, buckets) = exported(histogram);
        (("stage", name), sum, buckets)
    });
    to.histograms("zeolite_commit_stage_seconds", help, values)
}

/// A histogram's sum in seconds, and its buckets with their bounds in seconds.
fn exported(histogram: &Histogram) -> (f64, Vec<(f64, u64)>) {
    let counts = histogram.counts();
    let seconds = |ns: u64| ns as f64 / 1e9;
    let mut below = 0;
    let mut since_last = |up_to: u64| up_to - std::mem::replace(&mut below, up_to);
    let bounded = BUCKET_POWERS.map(|power| {
        // One of the histogram's own buckets ends right below each power of two: these counts are exact.
        let bound_ns = 1u64 << power;
        (seconds(bound_ns), since_last(counts.at_most(bound_ns - 1)))
    });
    let mut buckets: Vec<(f64, u64)> = bounded.collect();
    buckets.push((f64::INFINITY, since_last(counts.count())));
    (seconds(histogram.total_ns()), buckets)
}

fn queues(status: &Status, to: &mut Families<'_>) -> Result<(), Error> {
    let waiting = [(("priority", "live"), status.queue_live), (("priority", "batch"), status.queue_batch)];
    to.gauges("zeolite_queued_drafts", "Drafts that wait to be put in order", waiting)?;
    to.gauge("zeolite_prepared_drafts", "Drafts that are prepared and hold their cells", status.prepared)?;
    to.gauge("zeolite_prepared_drafts_durable", "Those of them that outlive the server", status.prepared_durable)?;
    let oldest = status.oldest_prepared_ms as f64 / 1e3;
    to.gauge("zeolite_oldest_prepared_age_seconds", "For how long the oldest of them is prepared", oldest)?;
    to.gauge("zeolite_unsettled_bytes", "Log that is durable but not in the index yet", status.unsettled_bytes)
}

fn sessions(load: &SessionLoad, status: &Status, to: &mut Families<'_>) -> Result<(), Error> {
    to.gauge("zeolite_sessions", "Open sessions", load.sessions)?;
    to.gauge("zeolite_feed_subscribers", "Sessions that want the feed", status.feeds)?;
    to.gauge("zeolite_session_requests_in_flight", "Requests that are not answered yet", load.in_flight)?;
    to.gauge("zeolite_session_reply_queue_bytes", "Answers that their clients have not read", load.reply_bytes)?;
    to.gauge("zeolite_session_feed_queue_bytes", "Invalidations that their clients have not read", load.feed_bytes)?;
    let help = "The same of the session that is furthest behind; at the limit it is cut";
    to.gauge("zeolite_session_feed_queue_longest_bytes", help, load.feed_bytes_longest)?;
    let help = "Batches of invalidations that wait in the session that is furthest behind";
    to.gauge("zeolite_session_feed_queue_longest_batches", help, load.feed_batches_longest)?;
    let help = "Written cells that sessions were told of, each once for each session";
    to.counter("zeolite_session_feed_cells_told", help, load.feed_cells_told)?;
    let help = "Written cells that sessions were not told of, since they cannot hold them";
    to.counter("zeolite_session_feed_cells_left_out", help, load.feed_cells_left_out)?;
    to.gauge("zeolite_session_feed_told_everything", "Sessions that are told of every cell", load.feed_everything)
}

fn snapshots(status: &Status, to: &mut Families<'_>) -> Result<(), Error> {
    to.gauge("zeolite_pins", "Pinned snapshots", status.pins)?;
    let oldest = status.oldest_pin_ms as f64 / 1e3;
    to.gauge("zeolite_oldest_pin_age_seconds", "From the oldest pinned snapshot to the newest commit", oldest)?;
    to.gauge("zeolite_pinned_bytes", "Log that pins keep from pack, at most", status.pinned_bytes)
}

fn reads(status: &Status, to: &mut Families<'_>) -> Result<(), Error> {
    to.counter("zeolite_loads", "Cells loaded", status.loads)?;
    to.gauge("zeolite_cache_bytes", "Records in the server's cache", status.cache_bytes)?;
    to.counter("zeolite_cache_hits", "Records found in the server's cache", status.cache_hits)?;
    to.counter("zeolite_cache_misses", "Records read from the log", status.cache_misses)
}

fn disk(status: &Status, to: &mut Families<'_>) -> Result<(), Error> {
    to.gauge("zeolite_log_bytes", "The log's segments", status.log_bytes)?;
    to.gauge("zeolite_log_segments", "How many segments the log has", status.segments)?;
    to.gauge("zeolite_index_bytes", "The index", status.index_bytes)?;
    to.gauge("zeolite_blobs", "Blobs that were named", status.blobs)?;
    to.gauge("zeolite_blob_bytes", "Their files", status.blob_bytes)?;
    to.gauge("zeolite_staged_blobs", "Uploads, whole or not, that no commit has named yet", status.staged_blobs)?;
    to.gauge("zeolite_staged_blob_bytes", "Their bytes", status.staged_bytes)?;
    to.gauge("zeolite_disk_free_bytes", "Free on the disk of the data directory", status.free_bytes)?;
    // Left out when it is not known: a part of nothing would look like a full disk.
    match status.disk_bytes {
        0 => Ok(()),
        bytes => to.gauge("zeolite_disk_size_bytes", "The size of that disk", bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_exact_at_their_bounds() {
        let histogram = Histogram::default();
        let bound = 1u64 << 20;
        for ns in [0, bound - 1, bound, 2 * bound - 1, 1 << 40] {
            histogram.record(ns);
        }
        let (sum, buckets) = exported(&histogram);
        let at = |bound_ns: u64| buckets.iter().find(|(le, _)| *le == bound_ns as f64 / 1e9).map(|(_, count)| *count);
        assert_eq!((at(bound), at(2 * bound), at(4 * bound)), (Some(1), Some(2), Some(0)));
        assert_eq!(buckets.first().map(|(_, count)| *count), Some(1));
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, 1)));
        assert!(sum > 1000.0);
    }
}
