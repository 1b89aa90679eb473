//! Owns the limits that client and server agree on; the server tells its own in the session's hello. They are settings of the server.

use serde::{Deserialize, Serialize};

/// The bound of every message, key, draft, lease and scan. Beyond a bound a request gets a fault that names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Limits {
    /// One frame or unary message from a client, in bytes.
    pub message_bytes_max: usize,
    /// One encoded record, in bytes.
    pub record_bytes_max: usize,
    /// All records, keys and operations of one draft, in bytes; also one draft that comes in parts, encoded.
    pub draft_bytes_max: usize,
    /// Writes and read checks of one draft.
    pub draft_writes_max: usize,
    /// One entry key, in bytes.
    pub key_bytes_max: usize,
    /// Cells of one load.
    pub load_cells_max: usize,
    /// Entries of one scan page.
    pub scan_entries_max: usize,
    /// Oids handed out at once.
    pub oids_max: u32,
    /// The longest lease of a pin, in milliseconds.
    pub pin_ms_max: u64,
    /// The longest time limit of a prepared draft, in milliseconds.
    pub prepare_ms_max: u64,
    /// One blob, in bytes; 0: no blobs are taken.
    pub blob_bytes_max: u64,
    /// One answer, in bytes: longer ones are cut here and continued.
    pub reply_bytes_aim: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_bytes_max: 4 << 20,
            record_bytes_max: 64 << 20,
            draft_bytes_max: 256 << 20,
            draft_writes_max: 1_000_000,
            key_bytes_max: 1024,
            load_cells_max: 10_000,
            scan_entries_max: 10_000,
            oids_max: 100_000,
            pin_ms_max: 3_600_000,
            prepare_ms_max: 60_000,
            blob_bytes_max: 64 << 30,
            reply_bytes_aim: 1 << 20,
        }
    }
}
