//! Owns the settings of a primary towards its followers: plain data, units last in the names.

use serde::{Deserialize, Serialize};

/// What a primary does for its followers.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplicationSettings {
    /// A commit is acknowledged, and visible, when so many followers have it on their disks; 0: they follow as fast as they can.
    pub sync: u64,
    /// A commit that waits for followers longer than this is answered with `OUTCOME_UNKNOWN`, in milliseconds; it goes on waiting all the same.
    pub wait_ms: u64,
    /// Bytes of commits on the own disk that wait for followers; beyond it nothing more is written until they have some.
    pub held_bytes_max: usize,
    /// Bytes of the log's end that are kept in memory for followers; who is further behind is given it from the disk.
    pub tail_bytes_max: usize,
    /// History that a follower needs stays for so long after it was last heard of, in seconds; a pack takes it then, and the follower has to
    /// begin anew.
    pub keep_s: u64,
    /// Whether this server is to follow another one.
    #[serde(skip)]
    pub follows: bool,
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        ReplicationSettings {
            sync: 0,
            wait_ms: 10_000,
            held_bytes_max: 64 << 20,
            tail_bytes_max: 32 << 20,
            keep_s: 86_400,
            follows: false,
        }
    }
}
