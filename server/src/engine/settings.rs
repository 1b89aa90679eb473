//! Owns the engine's settings: plain data, units last in the names.

use crate::engine::pipeline::intake::IntakeBounds;
use crate::engine::pipeline::recent::RecentBounds;
use crate::engine::pipeline::writer::BatchBounds;
use crate::engine::replication::ReplicationSettings;
use serde::{Deserialize, Serialize};

/// Bounds of the engine's queues, batches and memories.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Live drafts that may wait for the sequencer, those of less than 256 KiB; more get `Busy`.
    pub live_queue_max: usize,
    /// Batch drafts and large ones that may wait for the sequencer; more get `Busy`.
    pub batch_queue_max: usize,
    /// Bytes of all waiting drafts.
    pub queue_bytes_max: usize,
    /// A waiting batch draft, or a large one, is let in after this many live ones that waited too.
    pub live_per_batch: u32,
    /// Sealed drafts between sequencer and writer.
    pub hop_max: usize,
    /// Transactions that one fsync covers.
    pub batch_txns_max: usize,
    /// Bytes that one fsync covers, unless a single transaction is larger.
    pub batch_bytes_max: usize,
    /// Cells whose newest tid the sequencer remembers.
    pub recent_cells_max: usize,
    /// Bytes of their records that it keeps.
    pub recent_bytes_max: usize,
    /// A draft of so many writes is sorted and compared with the store before its turn, so that others wait less for it.
    pub ready_writes_min: usize,
    /// Transactions moved into the index at once.
    pub settle_txns_max: usize,
    /// Bytes of all prepared drafts, unless a single one is larger; more get `Busy`.
    pub prepared_bytes_max: usize,
    /// Snapshots that may be pinned at once.
    pub pins_max: usize,
    /// For so long after a start pack leaves all history, so that clients find what they had pinned before; 0: it does not.
    pub pin_grace_s: u64,
    /// Threads for expensive resolvers.
    pub mergers: usize,
    /// Pack keeps what was superseded in the last seconds (of time that passes, not of the clock), whatever it is asked for:
    /// drafts that are on their way were made on it.
    pub history_min_s: u64,
    /// A commit that takes so long from its admission until it is durable is logged, in milliseconds; 0: none is.
    pub slow_commit_ms: u64,
    /// A restored transaction may be so far ahead of the server's clock, in seconds: whatever is committed later is newer.
    pub restore_ahead_max_s: u64,
    /// The database is made read-only when fewer bytes than this are free on its disk; 0: never.
    pub read_only_below_free_bytes: u64,
    /// What stands in a section of its own.
    #[serde(skip)]
    pub replication: ReplicationSettings,
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            live_queue_max: 8192,
            batch_queue_max: 256,
            queue_bytes_max: 512 << 20,
            live_per_batch: 64,
            hop_max: 1024,
            batch_txns_max: 1024,
            batch_bytes_max: 8 << 20,
            recent_cells_max: 100_000,
            recent_bytes_max: 32 << 20,
            ready_writes_min: if cfg!(test) { 3 } else { 16_384 },
            settle_txns_max: 4096,
            prepared_bytes_max: 1 << 30,
            pins_max: 10_000,
            pin_grace_s: 60,
            mergers: 1,
            history_min_s: 60,
            slow_commit_ms: 1000,
            restore_ahead_max_s: 86_400,
            read_only_below_free_bytes: 256 << 20,
            replication: ReplicationSettings::default(),
        }
    }
}

impl EngineSettings {
    pub(crate) fn intake_bounds(&self) -> IntakeBounds {
        IntakeBounds {
            live_max: self.live_queue_max,
            batch_max: self.batch_queue_max,
            bytes_max: self.queue_bytes_max,
            live_per_batch: self.live_per_batch,
        }
    }

    pub(crate) fn recent_bounds(&self) -> RecentBounds {
        RecentBounds { cells_max: self.recent_cells_max, bytes_max: self.recent_bytes_max }
    }

    pub(crate) fn batch_bounds(&self) -> BatchBounds {
        BatchBounds { txns_max: self.batch_txns_max, bytes_max: self.batch_bytes_max }
    }
}
