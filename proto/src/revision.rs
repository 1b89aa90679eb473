//! Owns what reading gives: a revision of a cell, and an entry of a collection.

use crate::ids::Tid;
use bytes::Bytes;

/// A record with the commit that wrote it and the commit that ended it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revision {
    /// The commit that wrote it; [`Tid::NONE`]: the cell did not exist.
    pub tid: Tid,
    /// The commit that ended it, as far as whoever tells it knew; none: it is still the newest.
    pub end: Option<Tid>,
    /// The encoded record; none: deleted, or never written.
    pub record: Option<Bytes>,
}

/// One entry of a collection, as a scan finds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its key.
    pub key: Bytes,
    /// The commit that wrote it; [`Tid::NONE`]: a transaction's own write, not committed yet.
    pub tid: Tid,
    /// Its encoded record; empty in a scan of keys only.
    pub record: Bytes,
}
