//! Owns the times that the tests of ages speak of.

use std::time::Duration;
use zeolite_proto::Tid;

pub(crate) const START_NS: i128 = 1_700_000_000_000_000_000;

pub(crate) fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// So many seconds before the start.
pub(crate) fn before(s: i128) -> Tid {
    Tid::from_unix_nanos(START_NS - s * 1_000_000_000)
}
