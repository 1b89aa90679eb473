//! Owns the pressure: what live traffic feels, as the server tells batch workers, so that they throttle themselves.

use serde::{Deserialize, Serialize};

/// What live traffic feels. Times are of the server alone: from a draft's admission until it is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Pressure {
    /// The median of live commits in the window; 0: there were none.
    pub live_p50_us: u64,
    /// Their 99th percentile.
    pub live_p99_us: u64,
    /// How many there were.
    pub live_commits: u64,
    /// The window's length.
    pub window_ms: u64,
    /// The 99th percentile over recent seconds in which no batch draft was committed; 0: none were seen.
    pub quiet_p99_us: u64,
    /// Live drafts that wait now.
    pub queue_live: u64,
    /// Batch drafts that wait now.
    pub queue_batch: u64,
    /// The 99th percentile of fdatasync in the window.
    pub fsync_p99_us: u64,
    /// Free bytes on the data directory's disk.
    pub free_bytes: u64,
    /// The size of that disk; 0: not known.
    pub disk_bytes: u64,
    /// The 99th percentile of the window's live commits that came while no bulk work was on its way; 0: too few.
    #[serde(default)]
    pub apart_p99_us: u64,
    /// How many live drafts were refused for a conflict in the window.
    #[serde(default)]
    pub live_conflicts: u64,
}

impl Pressure {
    /// The free part of the disk, in percent; `None`: not known.
    pub fn free_percent(&self) -> Option<f64> {
        (self.disk_bytes > 0).then(|| self.free_bytes as f64 * 100.0 / self.disk_bytes as f64)
    }
}
