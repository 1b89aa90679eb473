//! Owns the cache of revisions that all transactions of one `Db` share, kept right by the feed.
//!
//! Each cell has a few revisions, each with the interval of snapshots for which it is right ([`slot`]); the feed closes
//! intervals, replies open them under one rule ([`shard`]). A read at snapshot S is answered from here if some interval
//! holds S; so the newest state and a pinned old snapshot live side by side, and a commit of somebody else takes nothing
//! away from a transaction that reads at an older tid.
//!
//! Who may do what: the reader of the session alone calls `invalidate` and `reset`; any task calls `find` and `insert`.
//! Shards have a lock each, held for one cell and never across an await. Records are copied in: a slice of a reply would
//! keep the whole reply alive, and the byte budget would mean nothing.
//!
//! Not kept: scans (a walk over a collection would push everything else out), uncommitted writes.

mod recent;
mod shard;
mod slot;

#[cfg(test)]
mod schedule;

use crate::revision::Revision;
use parking_lot::Mutex;
use shard::{Shard, hash};
pub(crate) use slot::Known;
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_proto::{Cell, Tid};

/// A power of two; more than the threads that are likely to be there.
const SHARDS: usize = 32;

/// The shared cache.
#[derive(Debug)]
pub(crate) struct Cache {
    shards: Box<[Mutex<Shard>]>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How the cache has done.
///
/// ```
/// use zeolite_client::{Cell, Oid};
///
/// # zeolite_testing::with_db(async |db| {
/// let cell = Cell::object(Oid(1));
/// let view = db.now();
/// for _ in 0..3 {
///     view.get(&cell).await?;
/// }
/// let stats = db.cache_stats();
/// assert!(stats.hits <= 2 && stats.bytes < 1 << 20);
/// # Ok(()) });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Bytes held.
    pub bytes: u64,
    /// Reads that were answered from the cache.
    pub hits: u64,
    /// Reads that had to ask the server.
    pub misses: u64,
}

impl Cache {
    /// An empty cache with a budget.
    pub(crate) fn new(bytes_max: u64) -> Cache {
        let shard = || Mutex::new(Shard::new(bytes_max / SHARDS as u64));
        Cache {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // The map inside uses the low bits of another hash; these are the well mixed high ones.
        &self.shards[(hash >> 48) as usize % SHARDS]
    }

    /// The revision that is right at the snapshot, if it is here.
    pub(crate) fn find(&self, cell: &Cell, at: Tid, generation: u64) -> Option<Known> {
        let found = self.shard(hash(cell)).lock().find(cell, at, generation);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// The same for who only looks: it is not counted.
    pub(crate) fn peek(&self, cell: &Cell, at: Tid, generation: u64) -> Option<Known> {
        self.shard(hash(cell)).lock().find(cell, at, generation)
    }

    /// Takes in a revision that was read at the snapshot, from a connection of that generation.
    pub(crate) fn insert(&self, cell: &Cell, revision: &Revision, at: Tid, generation: u64) {
        let hash = hash(cell);
        self.shard(hash).lock().insert(cell, hash, revision, at, generation);
    }

    /// A commit wrote these cells.
    pub(crate) fn invalidate(&self, tid: Tid, cells: &[Cell]) {
        for cell in cells {
            let hash = hash(cell);
            self.shard(hash).lock().invalidate(cell, hash, tid);
        }
    }

    /// Forgets everything: see [`Shard::reset`].
    pub(crate) fn reset(&self, generation: u64, floor: Tid) {
        self.shards.iter().for_each(|shard| shard.lock().reset(generation, floor));
    }

    /// How it has done.
    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            bytes: self.shards.iter().map(|shard| shard.lock().bytes()).sum(),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}
