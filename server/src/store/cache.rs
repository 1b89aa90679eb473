//! Owns the cache: for a cell, the newest revision *in the index*, with its record, so that a read needs neither the
//! index nor the log.
//!
//! A cache beside a writer has one classic race, and it serves stale objects for ever:
//!
//! ```text
//!   reader                                   settler
//!   looks here: nothing
//!   reads revision 1 from the index
//!                                            commits revision 2 to the index
//!                                            takes the cell out of the cache (nothing there)
//!   puts revision 1 into the cache           -- from now on everybody gets revision 1
//! ```
//! So a miss hands out a ticket, the generation of the cell's shard, read under the shard's lock; each cell that is
//! settled raises it under the same lock; and an insertion whose ticket is not the generation any more does nothing. The
//! settler calls [`Cache::settled`] after its index commit and before it removes the cells from the overlay, where readers
//! look first: so whoever does not find revision 2 in the overlay does not find revision 1 here.
//!
//! A hit answers only for snapshots not older than its tid; the caller checks that. Locks are per shard and held for a
//! look-up, never across I/O.

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::unsync;
use std::hash::BuildHasher;
use zeolite_proto::{Cell, Tid, hash};

const SHARDS: usize = 64;
// What an entry costs beside its key and record.
const ENTRY_BYTES: u64 = 128;

/// The newest revision of a cell in the index. `record: None`: deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Newest {
    pub(crate) tid: Tid,
    pub(crate) record: Option<Bytes>,
}

/// What a miss hands out: good for one insertion, unless a cell of the shard is settled before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket(u64);

/// Records of the newest revisions in the index, bounded by their bytes.
pub(crate) struct Cache {
    shards: Vec<Mutex<Shard>>,
    hash: hash::Seeded,
    record_bytes_max: u64,
}

struct Shard {
    cells: unsync::Cache<Cell, Newest, ByBytes, hash::Seeded>,
    generation: u64,
    hits: u64,
    misses: u64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Cell, Newest> for ByBytes {
    fn weight(&self, cell: &Cell, newest: &Newest) -> u64 {
        ENTRY_BYTES + cell.key.len() as u64 + newest.record.as_ref().map_or(0, Bytes::len) as u64
    }
}

impl Cache {
    /// A cache of about this many bytes; 0: it never holds anything.
    pub(crate) fn new(bytes_max: u64) -> Cache {
        let per_shard = bytes_max / SHARDS as u64;
        let items = (per_shard / 1024) as usize;
        let hash = hash::Seeded::default();
        let shard = || Shard {
            cells: unsync::Cache::with(items, per_shard, ByBytes, hash.clone(), Default::default()),
            generation: 0,
            hits: 0,
            misses: 0,
        };
        Cache {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            hash: hash.clone(),
            // One long record must not push out everything else of its shard.
            record_bytes_max: per_shard / 8,
        }
    }

    /// The newest revision of a cell in the index, or a ticket to bring it.
    pub(crate) fn get(&self, cell: &Cell) -> Result<Newest, Ticket> {
        let mut shard = self.shard(cell).lock();
        if let Some(newest) = shard.cells.get(cell).cloned() {
            shard.hits += 1;
            return Ok(newest);
        }
        shard.misses += 1;
        Err(Ticket(shard.generation))
    }

    /// Keeps what the index said, unless it may have changed since the ticket was handed out. The ticket must be older
    /// than the view of the index that said it.
    pub(crate) fn insert(&self, cell: &Cell, ticket: Ticket, newest: Newest) {
        if ByBytes.weight(cell, &newest) > self.record_bytes_max {
            return;
        }
        let mut shard = self.shard(cell).lock();
        if shard.generation == ticket.0 {
            // The key may be a piece of a large request, which must not live as long as this.
            let cell = Cell { oid: cell.oid, key: Bytes::copy_from_slice(&cell.key) };
            shard.cells.insert(cell, newest);
        }
    }

    /// The index holds a newer revision of a cell now: it replaces the older one if that was wanted before.
    pub(crate) fn settled(&self, cell: &Cell, newest: Option<Newest>) {
        let mut shard = self.shard(cell).lock();
        shard.generation += 1;
        let was = shard.cells.remove(cell);
        if let (Some((cell, _)), Some(newest)) = (was, newest)
            && ByBytes.weight(&cell, &newest) <= self.record_bytes_max
        {
            shard.cells.insert(cell, newest);
        }
    }

    /// Look-ups answered, and not, since the start.
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(hits, misses), shard| {
            let shard = shard.lock();
            (hits + shard.hits, misses + shard.misses)
        })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().cells.weight()).sum()
    }

    fn shard(&self, cell: &Cell) -> &Mutex<Shard> {
        // Bits from the middle: the lowest and the highest are what the table inside the shard goes by.
        &self.shards[(self.hash.hash_one(cell) >> 40) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::Oid;

    fn newest(tid: u64) -> Newest {
        Newest { tid: Tid(tid), record: Some(Bytes::from_static(b"x")) }
    }

    #[test]
    fn a_reading_that_a_settle_overtook_is_not_kept() {
        let cache = Cache::new(1 << 20);
        let cell = Cell::object(Oid(1));
        let ticket = cache.get(&cell).expect_err("empty");
        cache.settled(&cell, Some(newest(2)));
        cache.insert(&cell, ticket, newest(1));
        let ticket = cache.get(&cell).expect_err("the stale reading must not be there");
        cache.insert(&cell, ticket, newest(2));
        assert_eq!(cache.get(&cell).expect("kept"), newest(2));
    }

    #[test]
    fn what_is_wanted_is_renewed_by_a_settle_and_what_is_not_is_not_brought_in() {
        let cache = Cache::new(1 << 20);
        let (wanted, other) = (Cell::object(Oid(1)), Cell::object(Oid(2)));
        let ticket = cache.get(&wanted).expect_err("empty");
        cache.insert(&wanted, ticket, newest(1));
        cache.settled(&wanted, Some(newest(2)));
        cache.settled(&other, Some(newest(2)));
        assert_eq!(cache.get(&wanted).expect("renewed"), newest(2));
        assert!(cache.get(&other).is_err());
        cache.settled(&wanted, None);
        assert!(cache.get(&wanted).is_err());
    }

    #[test]
    fn the_bytes_stay_within_the_limit() {
        let cache = Cache::new(1 << 20);
        for oid in 0..10_000 {
            let cell = Cell::object(Oid(oid));
            let ticket = cache.get(&cell).expect_err("new");
            cache.insert(&cell, ticket, Newest { tid: Tid(1), record: Some(Bytes::from(vec![0; 1000])) });
        }
        assert!((500 << 10..=1 << 20).contains(&cache.bytes()), "{}", cache.bytes());
        let none = Cache::new(0);
        let cell = Cell::object(Oid(1));
        let ticket = none.get(&cell).expect_err("empty");
        none.insert(&cell, ticket, newest(1));
        assert!(none.get(&cell).is_err());
    }
}
