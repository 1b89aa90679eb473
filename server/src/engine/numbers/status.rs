//! Owns the engine's counters and stage times, and how the status is made of them.

use crate::engine::Engine;
use crate::engine::numbers::histogram::Histogram;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use zeolite_proto::{ClassCounts, Mode, Stage, Status};

/// Classes whose conflicts and merges are counted by name; those that come later share the name "".
const CLASSES_MAX: usize = 256;

/// A number that only goes up.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counters and stage times. A commit's time goes: decode (rpc) › queue (both hops) › check › merge › write › fsync ›
/// publish. `write` and `fsync` are counted once per draft of the batch: what that draft waited for.
#[derive(Default)]
pub struct Stats {
    /// Reading the request off the wire.
    pub decode: Histogram,
    /// Waiting for the sequencer, and for the writer.
    pub queue: Histogram,
    /// Looking for newer revisions, merges included.
    pub check: Histogram,
    /// Resolvers, in the sequencer.
    pub merge: Histogram,
    /// Encoding and writing the batch.
    pub write: Histogram,
    /// fdatasync of the batch.
    pub fsync: Histogram,
    /// Overlay, feed, receipts; counted once per batch.
    pub publish: Histogram,
    /// Durable transactions.
    pub commits: Counter,
    /// Batches: one fsync each.
    pub batches: Counter,
    /// Drafts refused by a conflict.
    pub conflicts: Counter,
    /// Cells that a resolver decided.
    pub merges: Counter,
    /// Cells loaded.
    pub loads: Counter,
    /// Durable transactions that took longer than the settings call slow.
    pub slow_commits: Counter,
    prepared: AtomicU64,
    prepared_durable: AtomicU64,
    oldest_prepared_steady_ms: AtomicI64,
    classes: Mutex<BTreeMap<String, OfClass>>,
}

/// Conflicts and merges of one class.
#[derive(Default)]
struct OfClass {
    conflicts: u64,
    merges: u64,
}

impl Stats {
    pub(crate) fn set_prepared(&self, all: usize, durable: usize, oldest_steady_ms: Option<i64>) {
        self.prepared.store(all as u64, Relaxed);
        self.prepared_durable.store(durable as u64, Relaxed);
        self.oldest_prepared_steady_ms.store(oldest_steady_ms.unwrap_or(i64::MAX), Relaxed);
    }

    pub(crate) fn conflict(&self, class: &str) {
        self.conflicts.add(1);
        self.class(class, |counts| counts.conflicts += 1);
    }

    pub(crate) fn merged(&self, class: &str) {
        self.merges.add(1);
        self.class(class, |counts| counts.merges += 1);
    }

    fn class(&self, class: &str, count: impl FnOnce(&mut OfClass)) {
        let mut classes = self.classes.lock();
        if let Some(counts) = classes.get_mut(class) {
            return count(counts);
        }
        let name = if classes.len() < CLASSES_MAX { class } else { "" };
        count(classes.entry(name.to_owned()).or_default());
    }

    /// By class.
    pub fn classes(&self) -> Vec<ClassCounts> {
        let counts = |(class, counts): (&String, &OfClass)| ClassCounts {
            class: class.clone(),
            conflicts: counts.conflicts,
            merges: counts.merges,
        };
        self.classes.lock().iter().map(counts).collect()
    }

    /// The stages in their order.
    pub fn histograms(&self) -> [(&'static str, &Histogram); 7] {
        [
            ("decode", &self.decode),
            ("queue", &self.queue),
            ("check", &self.check),
            ("merge", &self.merge),
            ("write", &self.write),
            ("fsync", &self.fsync),
            ("publish", &self.publish),
        ]
    }

    /// The stages in their order, summed up.
    pub fn stages(&self) -> Vec<Stage> {
        self.histograms().map(|(name, histogram)| histogram.stage(name)).to_vec()
    }

    /// How many drafts are prepared, and how many of them are durable.
    pub(crate) fn prepared(&self) -> (u64, u64) {
        (self.prepared.load(Relaxed), self.prepared_durable.load(Relaxed))
    }
}

impl Engine {
    /// Why there is no index at the moment.
    pub fn index_down(&self) -> Option<String> {
        self.reader().stats().index_down
    }

    // The server's own commits move a tid on by one, so a little of it is nothing.
    fn ahead_ms(&self) -> u64 {
        u64::try_from((self.visible().unix_nanos() - self.clock().unix_nanos()) / 1_000_000).unwrap_or(0)
    }

    /// The state of the whole engine; what only its server knows (sessions) is left to that.
    pub fn status(&self) -> Status {
        let (pins, oldest_pin) = self.pins().oldest();
        let (live, batch) = self.intake().waiting();
        let store = self.reader().stats();
        let (prepared, prepared_durable) = self.stats().prepared();
        let oldest_prepared_ms = self.stats().oldest_prepared_steady_ms.load(Relaxed);
        let (steady, blobs) = (self.clock().steady(), self.blob_counts());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sessions: 0,
            store_id: self.store_id(),
            timeline: self.timeline(),
            visible: self.visible(),
            unix_ms: self.unix_ms(),
            ahead_ms: self.ahead_ms(),
            packed_to: self.reader().packed_to(),
            uptime_ms: steady.saturating_sub(self.setup.opened_at).as_millis() as u64,
            poisoned: self.poisoned().map(str::to_owned),
            index: store.index.to_owned(),
            index_down: store.index_down,
            torn: store.torn,
            disk_errors: self.setup.disk_errors.count(),
            disk_error: self.setup.disk_errors.newest(),
            objects: self.reader().kinds().map_or(0, |kinds| kinds.iter().map(|kind| kind.objects).sum()),
            log_bytes: store.log_bytes,
            index_bytes: store.index_bytes,
            segments: store.segments,
            free_bytes: self.setup.disk.free_bytes().unwrap_or(0),
            feeds: self.reads.listeners() as u64,
            pins: pins as u64,
            oldest_pin,
            oldest_pin_ms: oldest_pin.map_or(0, |oldest| self.behind(oldest).as_millis() as u64),
            blobs: blobs.blobs,
            blob_bytes: blobs.bytes,
            staged_blobs: blobs.staged,
            staged_bytes: blobs.staged_bytes,
            prepared,
            prepared_durable,
            oldest_prepared_ms: match prepared {
                0 => 0,
                _ => (steady.as_millis() as i64).saturating_sub(oldest_prepared_ms).max(0) as u64,
            },
            commits: self.stats().commits.get(),
            batches: self.stats().batches.get(),
            conflicts: self.stats().conflicts.get(),
            merges: self.stats().merges.get(),
            loads: self.stats().loads.get(),
            queue_live: live as u64,
            queue_batch: batch as u64,
            cache_bytes: store.cache_bytes,
            cache_hits: store.cache_hits,
            cache_misses: store.cache_misses,
            unsettled_bytes: self.backlog().bytes(),
            stages: self.stats().stages(),
            pack: self.long_work().running(),
            mode: Mode::clone(&self.mode()),
            pressure: self.pressure(),
            pinned_bytes: oldest_pin.map_or(0, |oldest| self.reader().log_bytes_since(oldest).unwrap_or(0)),
            disk_bytes: self.setup.disk.size_bytes().unwrap_or(0),
            classes: self.stats().classes(),
            gates: self.gates(),
            certificate_expires_unix_ms: 0,
            security_problem: None,
            users: None,
            anonymous_role: None,
            schedules: Vec::new(),
            databases: Vec::new(),
            replication: self.replication(),
        }
    }
}
