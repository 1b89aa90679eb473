//! Owns the status: what a server says about itself. The engine fills it, and whoever looks reads the same words: the command
//! line and its JSON, the metrics, the client.

use crate::gate::Gate;
use crate::ids::Tid;
use crate::mode::Mode;
use crate::pressure::Pressure;
use crate::replication::Replication;
use crate::role::Role;
use serde::{Deserialize, Serialize};

/// What the server says about itself. Counters begin at its start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// The store's identity.
    #[serde(with = "crate::hex")]
    pub store_id: u64,
    /// The life of the store: another one after it was put back from a copy, or restored into.
    #[serde(with = "crate::hex")]
    pub timeline: u64,
    /// The newest visible tid.
    pub visible: Tid,
    /// The server's clock, in milliseconds since 1970; 0: a server that does not tell it.
    pub unix_ms: u64,
    /// How far `visible` is ahead of the server's clock, in milliseconds; 0: it is not.
    pub ahead_ms: u64,
    /// History before this tid is packed.
    pub packed_to: Tid,
    /// Since the start, in milliseconds.
    pub uptime_ms: u64,
    /// Why nothing is written any more; `None`: healthy.
    pub poisoned: Option<String>,
    /// Which index.
    pub index: String,
    /// Why there is no index at the moment; `None`: there is. It is made ready again by itself, commits go on meanwhile.
    pub index_down: Option<String>,
    /// How many ends of the log, cut off at a start, are kept beside it (`*.torn`).
    pub torn: u64,
    /// Calls to the disk that have failed since the start, a full one aside.
    #[serde(default)]
    pub disk_errors: u64,
    /// The newest of them, if it was in the last hour.
    #[serde(default)]
    pub disk_error: Option<String>,
    /// When the certificate ends that the server shows, in milliseconds since 1970; 0: it has none.
    #[serde(default)]
    pub certificate_expires_unix_ms: u64,
    /// Why files of certificates or users do not count as they are now, and the former ones stay in force; `None`: they do.
    #[serde(default)]
    pub security_problem: Option<String>,
    /// Users in the file of users; `None`: there is no such file.
    #[serde(default)]
    pub users: Option<u64>,
    /// The role of whoever proves nothing; `None`: without proof nobody may do anything.
    #[serde(default)]
    pub anonymous_role: Option<Role>,
    /// Live objects (entries not counted).
    pub objects: u64,
    /// Bytes of all segments.
    pub log_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Free bytes on the data directory's disk.
    pub free_bytes: u64,
    /// The size of that disk; 0: not known.
    pub disk_bytes: u64,
    /// Sessions.
    pub sessions: u64,
    /// Those of them that want the feed.
    pub feeds: u64,
    /// Pinned snapshots.
    pub pins: u64,
    /// The oldest of them.
    pub oldest_pin: Option<Tid>,
    /// How much history there is from that to the newest commit, in milliseconds that have passed; 0 without pins.
    pub oldest_pin_ms: u64,
    /// Bytes of log since the oldest pinned snapshot: what pins keep from pack, at most.
    pub pinned_bytes: u64,
    /// Blobs that were named; after a start they are counted within a moment.
    pub blobs: u64,
    /// Their bytes on the disk.
    pub blob_bytes: u64,
    /// Uploads, whole or not, that no commit has named yet.
    pub staged_blobs: u64,
    /// Their bytes.
    pub staged_bytes: u64,
    /// Drafts that are prepared.
    pub prepared: u64,
    /// Those of them that outlive the server.
    pub prepared_durable: u64,
    /// For how long the oldest of all is prepared, in milliseconds; 0: none is.
    pub oldest_prepared_ms: u64,
    /// Durable transactions.
    pub commits: u64,
    /// Batches: one fsync each.
    pub batches: u64,
    /// Drafts refused by a conflict.
    pub conflicts: u64,
    /// Cells that a resolver decided.
    pub merges: u64,
    /// Cells loaded.
    pub loads: u64,
    /// Drafts waiting, live.
    pub queue_live: u64,
    /// Drafts waiting, batch.
    pub queue_batch: u64,
    /// Bytes in the record cache.
    pub cache_bytes: u64,
    /// Records found in it.
    pub cache_hits: u64,
    /// Records that had to be read from the log.
    pub cache_misses: u64,
    /// Bytes that are durable but not in the index yet.
    pub unsettled_bytes: u64,
    /// Where the time of commits goes.
    pub stages: Vec<Stage>,
    /// What pack is doing; `None`: nothing.
    pub pack: Option<String>,
    /// Who may write.
    pub mode: Mode,
    /// What live traffic feels.
    pub pressure: Pressure,
    /// Conflicts and merges by class.
    pub classes: Vec<ClassCounts>,
    /// The closed gates.
    pub gates: Vec<Gate>,
    /// What the server does by itself from time to time on this database.
    #[serde(default)]
    pub schedules: Vec<Schedule>,
    /// The databases of the server that the asker has a role on.
    #[serde(default)]
    pub databases: Vec<String>,
    /// How it stands among its copies.
    #[serde(default)]
    pub replication: Replication,
}

/// What a server does by itself from time to time, and how that has gone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Schedule {
    /// `backup` or `pack`.
    pub work: String,
    /// How often.
    pub every_ms: u64,
    /// It is at it.
    pub running: bool,
    /// When it was last done, in milliseconds since 1970; 0: never yet.
    pub done_unix_ms: u64,
    /// When it last failed; 0: never.
    pub failed_unix_ms: u64,
    /// Why.
    pub error: String,
    /// When it is due.
    pub next_unix_ms: u64,
    /// Since when the server has this schedule: as long as it was never done, its age counts from here.
    pub since_unix_ms: u64,
}

impl Schedule {
    /// How long ago it was last done, in its intervals; `now_unix_ms` by the server's clock. What was done in the future was done by a
    /// clock that was ahead: it is as far away as it looks, and warned of like what is old.
    pub fn age_in_intervals(&self, now_unix_ms: u64) -> f64 {
        let from = if self.done_unix_ms == 0 { self.since_unix_ms } else { self.done_unix_ms };
        now_unix_ms.abs_diff(from) as f64 / self.every_ms.max(1) as f64
    }

    /// Whether it has failed since it was last done.
    pub fn has_failed(&self) -> bool {
        self.failed_unix_ms > self.done_unix_ms
    }
}

/// A stage in the life of a commit: how often it was passed, and how long that took.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Stage {
    /// decode, queue, check, merge, write, fsync, publish.
    pub name: String,
    /// How often.
    pub count: u64,
    /// In all.
    pub total_ns: u64,
    /// The median.
    pub p50_ns: u64,
    /// The 99th percentile.
    pub p99_ns: u64,
}

/// Conflicts and merges of one class; the class "" stands for those beyond the first 256.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct ClassCounts {
    /// The class.
    pub class: String,
    /// Drafts refused because of a cell of this class.
    pub conflicts: u64,
    /// Cells of this class that a resolver decided.
    pub merges: u64,
}

/// The exact number of objects of one class and schema version.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Kind {
    /// The class.
    pub class: String,
    /// The schema version.
    pub version: u32,
    /// How many objects.
    pub objects: u64,
}

/// How many objects there are of each kind, counted by one reply.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Kinds {
    /// Every commit up to this one is counted.
    pub tid: Tid,
    /// The kinds of which there are objects, by class and version.
    pub kinds: Vec<Kind>,
}

impl Kinds {
    /// Objects of a class.
    pub fn of(&self, class: &str) -> u64 {
        self.count(|kind| kind.class == class)
    }

    /// Objects of a class below a schema version.
    pub fn below(&self, class: &str, version: u32) -> u64 {
        self.count(|kind| kind.class == class && kind.version < version)
    }

    /// Objects of a class above a schema version.
    pub fn above(&self, class: &str, version: u32) -> u64 {
        self.count(|kind| kind.class == class && kind.version > version)
    }

    fn count(&self, is: impl Fn(&Kind) -> bool) -> u64 {
        self.kinds.iter().filter(|kind| is(kind)).map(|kind| kind.objects).sum()
    }
}

/// A resolver that the server has.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct ResolverInfo {
    /// The class whose concurrent writes it merges.
    pub class: String,
    /// One line for people.
    pub description: String,
    /// Whether it has operations.
    pub applies: bool,
    /// Whether it runs beside the ordering of commits.
    pub expensive: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_in_the_future_is_no_better_than_what_is_old() {
        let schedule = |done_unix_ms| Schedule { every_ms: 10, done_unix_ms, since_unix_ms: 60, ..Schedule::default() };
        let age = |done| schedule(done).age_in_intervals(100);
        assert_eq!((age(90), age(50), age(900), age(0)), (1.0, 5.0, 80.0, 4.0));
    }
}
