//! Owns the engine's counters and stage times, and the status that is made of them.

use crate::engine::Engine;
use crate::engine::numbers::histogram::{Histogram, Summary};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zeolite_proto::{Gate, Mode, Pressure, Tid};

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
    classes: Mutex<BTreeMap<String, ClassCounts>>,
}

/// Conflicts and merges of one class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClassCounts {
    /// Drafts refused because of a cell of this class.
    pub conflicts: u64,
    /// Cells of this class that a resolver decided.
    pub merges: u64,
}

impl Stats {
    pub(crate) fn set_prepared(&self, n: usize) {
        self.prepared.store(n as u64, Relaxed);
    }

    pub(crate) fn conflict(&self, class: &str) {
        self.conflicts.add(1);
        self.class(class, |counts| counts.conflicts += 1);
    }

    pub(crate) fn merged(&self, class: &str) {
        self.merges.add(1);
        self.class(class, |counts| counts.merges += 1);
    }

    fn class(&self, class: &str, count: impl FnOnce(&mut ClassCounts)) {
        let mut classes = self.classes.lock();
        if let Some(counts) = classes.get_mut(class) {
            return count(counts);
        }
        let name = if classes.len() < CLASSES_MAX { class } else { "" };
        count(classes.entry(name.to_owned()).or_default());
    }

    /// By class.
    pub fn classes(&self) -> BTreeMap<String, ClassCounts> {
        self.classes.lock().clone()
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
    pub fn stages(&self) -> Vec<(&'static str, Summary)> {
        self.histograms().map(|(name, histogram)| (name, histogram.summary())).to_vec()
    }

    pub(crate) fn prepared(&self) -> u64 {
        self.prepared.load(Relaxed)
    }
}

/// What the engine says about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// The store's identity.
    pub store_id: u64,
    /// The newest visible tid.
    pub visible: Tid,
    /// History before this tid is packed.
    pub packed_to: Tid,
    /// Since the engine was opened, in milliseconds.
    pub uptime_ms: u64,
    /// Why nothing is written any more; `None`: healthy.
    pub poisoned: Option<String>,
    /// Which index.
    pub index: String,
    /// Live objects (entries not counted).
    pub objects: u64,
    /// Bytes of all segments.
    pub log_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Free bytes on the disk.
    pub free_bytes: u64,
    /// Subscribers of the feed.
    pub feeds: u64,
    /// Number of pins.
    pub pins: u64,
    /// The oldest pinned snapshot.
    pub oldest_pin: Option<Tid>,
    /// Prepared drafts.
    pub prepared: u64,
    /// Durable transactions since the start.
    pub commits: u64,
    /// Batches since the start.
    pub batches: u64,
    /// Drafts refused by a conflict since the start.
    pub conflicts: u64,
    /// Merged cells since the start.
    pub merges: u64,
    /// Loaded cells since the start.
    pub loads: u64,
    /// Drafts waiting, live.
    pub queue_live: u64,
    /// Drafts waiting, batch.
    pub queue_batch: u64,
    /// Bytes in the record cache.
    pub cache_bytes: u64,
    /// Hits since the start.
    pub cache_hits: u64,
    /// Misses since the start.
    pub cache_misses: u64,
    /// Bytes that are durable but not in the index yet.
    pub unsettled_bytes: u64,
    /// Stage times.
    pub stages: Vec<(&'static str, Summary)>,
    /// What pack is doing; empty: nothing.
    pub pack: String,
    /// Who may write.
    pub mode: Mode,
    /// What live traffic feels.
    pub pressure: Pressure,
    /// Bytes of log since the oldest pinned snapshot: what pins keep from pack, at most.
    pub pinned_bytes: u64,
    /// The size of the disk; 0: not known.
    pub disk_bytes: u64,
    /// Conflicts and merges by class since the start.
    pub classes: BTreeMap<String, ClassCounts>,
    /// The closed gates.
    pub gates: Vec<Gate>,
}

impl Engine {
    /// The state of the whole engine.
    pub fn status(&self) -> Status {
        let (pins, oldest_pin) = self.pins().oldest();
        let (live, batch) = self.intake().waiting();
        let store = self.reader().stats();
        Status {
            store_id: self.store_id(),
            visible: self.visible(),
            packed_to: self.reader().packed_to(),
            uptime_ms: self.clock().steady().saturating_sub(self.setup.opened_at).as_millis() as u64,
            poisoned: self.poisoned().map(str::to_owned),
            index: store.index.to_owned(),
            objects: self.reader().kinds().map_or(0, |kinds| kinds.iter().map(|kind| kind.objects).sum()),
            log_bytes: store.log_bytes,
            index_bytes: store.index_bytes,
            segments: store.segments,
            free_bytes: self.setup.disk.free_bytes().unwrap_or(0),
            feeds: self.reads.subscribers() as u64,
            pins: pins as u64,
            oldest_pin,
            prepared: self.stats().prepared(),
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
            pack: self.long_work().text(),
            mode: Mode::clone(&self.mode()),
            pressure: self.pressure(),
            pinned_bytes: oldest_pin.map_or(0, |oldest| self.reader().log_bytes_since(oldest).unwrap_or(0)),
            disk_bytes: self.setup.disk.size_bytes().unwrap_or(0),
            classes: self.stats().classes(),
            gates: self.gates(),
        }
    }
}
