//! Owns the engine's counters and stage times, and the status that is made of them.

use super::histogram::{Histogram, Summary};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zeolite_proto::Tid;

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
    prepared: AtomicU64,
}

impl Stats {
    pub(crate) fn set_prepared(&self, n: usize) {
        self.prepared.store(n as u64, Relaxed);
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
}
