//! Owns the open files of the process: its limit is raised as far as the system allows, and connections get what the databases leave.
//!
//! ```text
//!   limit   process | metrics | for each database: the log's segments, blobs, index, pack, locks | connections ...
//!           <──────────────────────────── kept back ───────────────────────────────────────────>
//! ```
//! A connection that is accepted takes a file before anybody knows who it is; so without this, whoever can connect takes the files
//! that the next segment of the log needs.

use crate::settings::{DatabasePlan, MetricsSettings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

// Standard streams, listener, the runtime's own, a connection that is closed at once, and what is open for a moment.
const PROCESS_FILES: usize = 64;
// Beside the segments that are open for reading: locks, index, the segment that is appended to, what pack writes, what is closed
// when a read is done.
const DATABASE_FILES: usize = 32;
// So many connections are accepted however few files there are: the segments of the log give way.
const CONNECTIONS_MIN: usize = 8;

/// Raises the limit of open files, and says how many of the wanted connections may be accepted.
pub(super) fn for_connections(wanted: usize, plans: &[DatabasePlan], metrics: &MetricsSettings) -> usize {
    let kept = kept(plans, metrics);
    let limit = raised().map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let places = left(limit, kept, wanted);
    if places < wanted {
        let needed = wanted.saturating_add(kept);
        tracing::warn!(
            "the process may have {limit} open files, of which {kept} are kept for logs and indexes: {places} connections are \
             accepted, and sessions.connections_max is {wanted}; raise the limit to {needed} (LimitNOFILE=, ulimit -n) or \
             lower sessions.connections_max or store.open_files_max"
        );
    }
    places
}

/// Those that connections do not get.
pub(super) fn kept(plans: &[DatabasePlan], metrics: &MetricsSettings) -> usize {
    let of_one = |plan: &DatabasePlan| plan.store.open_files_max.saturating_add(plan.store.open_blobs_max);
    let databases: usize = plans.iter().map(|plan| of_one(plan).saturating_add(DATABASE_FILES)).sum();
    let readers = if metrics.listen.is_empty() { 0 } else { metrics.connections_max };
    PROCESS_FILES.saturating_add(databases).saturating_add(readers)
}

/// What the limit can be raised to; `None`: there is none.
pub(super) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

fn left(limit: usize, kept: usize, wanted: usize) -> usize {
    wanted.min(limit.saturating_sub(kept).max(CONNECTIONS_MIN))
}

// The limit after it was raised to what the system allows; `None`: there is none.
fn raised() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays where it is");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_is_left_and_no_more_than_are_wanted() {
        assert_eq!(left(20_000, 224, 1024), 1024);
        assert_eq!(left(1024, 224, 1024), 800);
        assert_eq!(left(200, 224, 1024), CONNECTIONS_MIN);
        assert_eq!(left(200, 224, 3), 3);
        assert_eq!(left(usize::MAX, usize::MAX, 9), CONNECTIONS_MIN);
    }
}
