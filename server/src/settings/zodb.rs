//! Owns the settings of what the server does with ZODB's records. They are read by whoever makes the registry of resolvers.

use serde::{Deserialize, Serialize};

/// What the server does with records that ZODB's BTrees wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ZodbSettings {
    /// Merges BTrees' buckets, sets and lengths by BTrees' own rules; off: each such conflict is the client's.
    pub merge: bool,
    /// Lets a read check of a BTree's node hold, although the node has changed, if it still leads to the buckets that the transaction wrote;
    /// off: each such check is a read conflict.
    pub route_read_checks: bool,
    /// Makes anew, on the newest tree, what a transaction changed of a BTree's keys, if only a split makes it a conflict; off: it is one.
    pub replay_splits: bool,
    /// Takes what two transactions did to a BTree's key in the same way as done once: the same value set, the same key put into a set, or removed, by
    /// both; off: that is a conflict, as by BTrees' own rules. Who counts what was new or gone counts it twice.
    pub merge_same_changes: bool,
    /// Merges what two transactions changed of a PersistentMapping (PersistentDict) by its keys; off: each such conflict is the client's.
    pub merge_mappings: bool,
}

impl Default for ZodbSettings {
    fn default() -> ZodbSettings {
        ZodbSettings {
            merge: true,
            route_read_checks: true,
            replay_splits: false,
            merge_same_changes: false,
            merge_mappings: false,
        }
    }
}
