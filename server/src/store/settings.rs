//! Owns the store's settings: plain data with defaults; what they mean is said here and nowhere else.

use super::StoreError;
use serde::{Deserialize, Serialize};

/// Which engine holds the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexKind {
    /// redb, the default.
    #[default]
    Redb,
    /// sled, in builds with the cargo feature `sled`; rebuilt from the log after every unclean stop.
    Sled,
}

impl IndexKind {
    /// As the settings name it.
    pub fn name(self) -> &'static str {
        match self {
            IndexKind::Redb => "redb",
            IndexKind::Sled => "sled",
        }
    }
}

/// The settings of a store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// A segment that has reached this size is followed by a new one. At most 2 GiB.
    pub segment_bytes_max: u64,
    /// The segment that is appended to is kept longer than what is in it by so much, in zeros: a small commit that is written over them is durable sooner than one
    /// that makes the file longer. 0: never.
    pub log_room_bytes: u64,
    /// A large commit of so many bytes is written before its turn, to a file that becomes a segment of the log then: others do not wait for its
    /// writing.
    pub ahead_bytes_min: u64,
    /// Segments of the log that may be open at once for reading; others are opened when they are read. The one that is appended
    /// to is open besides.
    pub open_files_max: usize,
    /// A large segment of which less than this part would go, in percent of its bytes, is left as it is by a pack, unless
    /// something unreachable is in it. 0: whatever can go goes.
    pub pack_garbage_min_percent: u64,
    /// The engine of the index.
    pub index: IndexKind,
    /// Memory for records that were read lately.
    pub cache_bytes: u64,
    /// Memory for the index engine's pages. 0: a tenth of the machine's memory (of its control group, if that has less), at least 64 MiB and at
    /// most 1 GiB.
    pub index_cache_bytes: usize,
    /// Records up to this size are kept in the index itself, so that a scan of entries need not touch the log.
    pub inline_bytes_max: usize,
    /// The same of plain objects, which nobody scans: the index has less to write and to hold, and a load reads the log. Not above
    /// `inline_bytes_max`.
    pub inline_object_bytes_max: usize,
    /// Records up to this size stay in memory from commit until the index has them; longer ones are read from the log.
    pub kept_bytes_max: usize,
    /// After this much log the index is made durable: the next start reads at most this much again, and what waited in memory.
    pub checkpoint_log_bytes: u64,
    /// So it is after this many revisions: of small ones a start takes longer than of as much log of large ones.
    pub checkpoint_revisions: u64,
    /// What may wait in memory for the index before `Appender::append` refuses with `StoreError::Behind`.
    pub overlay_bytes_max: u64,
    /// Cells that are moved into the index at once, at least one batch: room in memory comes in steps of so much.
    pub settle_cells_max: usize,
    /// Entries whose last write is remembered in memory after it reached the index, at some 150 bytes each: a check of a
    /// key range whose snapshot is not older than these does not walk the range in the index.
    pub recent_entries_max: usize,
    /// Commit keys are remembered for at most this many commits, at some 80 bytes of memory each (and 24 in the index). The
    /// default is 80 MB, and reaches back as far as the age does up to 1,600 commits/s, 66 s at 15,000.
    pub keys_count_max: u64,
    /// Different kinds (a class at a schema version) of the database; a write that would make one more is refused. A copy needs as many as
    /// its source has.
    pub kinds_max: usize,
    /// Bytes of uploads that no commit has named yet, of all together; more get `Busy`.
    pub staged_bytes_max: u64,
    /// Uploads that no commit has named yet; more get `Busy`.
    pub staged_blobs_max: usize,
    /// An upload that is not gone on with, or that no commit names, is removed after so long, in seconds of one life of the server.
    pub staged_keep_s: u64,
    /// Blobs that may be open at once, to be read or uploaded; more get `Busy`.
    pub open_blobs_max: usize,
    /// A commit key is remembered for this long, in seconds that servers have run on the database.
    pub keys_age_s: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        StoreSettings {
            segment_bytes_max: 256 << 20,
            log_room_bytes: 256 << 10,
            ahead_bytes_min: 32 << 20,
            open_files_max: 128,
            pack_garbage_min_percent: 20,
            index: IndexKind::Redb,
            cache_bytes: 256 << 20,
            index_cache_bytes: 0,
            inline_bytes_max: 256,
            inline_object_bytes_max: 64,
            kept_bytes_max: 64 << 10,
            checkpoint_log_bytes: 32 << 20,
            checkpoint_revisions: 50_000,
            overlay_bytes_max: 128 << 20,
            settle_cells_max: 16_384,
            recent_entries_max: 65_536,
            kinds_max: 65_536,
            keys_count_max: 1_000_000,
            staged_bytes_max: 256 << 30,
            staged_blobs_max: 40_000,
            staged_keep_s: 86_400,
            open_blobs_max: 64,
            keys_age_s: 600,
        }
    }
}

/// What the index engine's pages get at least and at most where the settings leave it open.
pub const INDEX_CACHE_BYTES: (usize, usize) = (64 << 20, 1 << 30);

impl StoreSettings {
    /// Memory for the index engine's pages; where the settings leave it open and nobody has asked the machine, the least.
    pub(crate) fn index_cache_bytes(&self) -> usize {
        if self.index_cache_bytes == 0 { INDEX_CACHE_BYTES.0 } else { self.index_cache_bytes }
    }

    /// Refuses what cannot work, and says what can.
    pub fn check(&self) -> Result<(), StoreError> {
        let refused = |what: &str| Err(StoreError::Refused { what: what.to_owned() });
        if !(4096..=2 << 30).contains(&self.segment_bytes_max) {
            return refused("segment_bytes_max must be from 4 KiB to 2 GiB");
        }
        if self.inline_bytes_max > 1 << 20 {
            return refused("inline_bytes_max must be at most 1 MiB");
        }
        let positive =
            [self.checkpoint_log_bytes, self.checkpoint_revisions, self.overlay_bytes_max, self.keys_count_max];
        if positive.contains(&0) {
            return refused(
                "checkpoint_log_bytes, checkpoint_revisions, overlay_bytes_max and keys_count_max must not be 0",
            );
        }
        Ok(())
    }
}
