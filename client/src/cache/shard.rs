//! Owns one shard of the cache: its slots, and the rule that decides whether a revision may be kept *open*.
//!
//! The rule, for a reply that was read at snapshot S and gives a revision r that the server did not see end:
//!
//! ```text
//!   right for r ..= S            always: that is what the server said
//!   open (r .. and on)           only if no invalidation of the cell with tid > S was seen, nor may have been missed
//! ```
//!
//! "Was seen" is asked under the shard's lock, in the moment of insertion, so it does not matter how late the reply comes,
//! which task brings it, or which of two connections it came from. Either the invalidation came first (then it is found in
//! [`Recent`], and the revision is not opened), or it comes later (then it finds the open revision and closes it). There is
//! no third case; ZEO's caches lost updates for years in one that looked like a third.
//!
//! The same rule decides what has a place in the file of the cache, if there is one ([`super::file`]): what has one is open.
//!
//! Pure: the tests below run it against a model with every message order that a seed can make.

use super::places::Places;
use super::recent::Recent;
use super::slot::{Known, Slot};
use crate::revision::Revision;
use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::{DefaultHashBuilder, Weighter, unsync};
use std::hash::{BuildHasher, Hash};
use std::ops::Range;
use zeolite_proto::{Cell, Tid};

/// What a slot costs beside its bytes: key, slot, and the map's own.
const SLOT_BYTES: usize = 160;

#[derive(Clone, Debug)]
pub(crate) struct Weigh;

impl Weighter<Cell, Slot> for Weigh {
    fn weight(&self, cell: &Cell, slot: &Slot) -> u64 {
        (SLOT_BYTES + cell.key.len() + slot.bytes()) as u64
    }
}

/// Hashes cells; the cache's map and the memory of invalidations share the hash's quality, not its value.
pub(crate) type Hasher = zeolite_proto::hash::Seeded;

/// The 64-bit hash of a cell.
pub(crate) fn hash(cell: &Cell) -> u64 {
    let mut state = Hasher::default().build_hasher();
    cell.oid.hash(&mut state);
    if !cell.key.is_empty() {
        cell.key.hash(&mut state);
    }
    std::hash::Hasher::finish(&state)
}

/// All shards of a cache.
#[derive(Debug)]
pub(crate) struct Shards(Box<[Mutex<Shard>]>);

impl Shards {
    /// So many, over a file of this size if there is one.
    pub(crate) fn new(count: usize, bytes_max: u64, file_bytes: Option<u64>) -> Shards {
        let shard = || {
            let mut shard = Shard::new(bytes_max / count as u64);
            shard.places = file_bytes.map(|bytes| Places::new(bytes, count)).unwrap_or_default();
            Mutex::new(shard)
        };
        Shards(std::iter::repeat_with(shard).take(count).collect())
    }

    /// The one of a cell's hash.
    pub(crate) fn of(&self, hash: u64) -> &Mutex<Shard> {
        // The map inside uses the low bits of another hash; these are the well mixed high ones.
        &self.0[(hash >> 48) as usize % self.0.len()]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Mutex<Shard>> {
        self.0.iter()
    }
}

#[derive(Debug)]
pub(crate) struct Shard {
    slots: unsync::Cache<Cell, Slot, Weigh, DefaultHashBuilder>,
    recent: Recent,
    /// Where in the file what is; empty where there is none.
    places: Places,
    /// Which store the slots came from; replies of another generation are not taken in.
    generation: u64,
}

impl Shard {
    /// An empty shard that has seen no feed: nothing will be kept open before `reset` gives it a beginning.
    pub(crate) fn new(bytes_max: u64) -> Shard {
        let slots = (bytes_max / 1024).max(16) as usize;
        let mut shard = Shard {
            slots: unsync::Cache::with(slots, bytes_max, Weigh, DefaultHashBuilder::default(), Default::default()),
            recent: Recent::default(),
            places: Places::default(),
            generation: 0,
        };
        shard.recent.forget(Tid::MAX);
        shard
    }

    /// The revision that is right at the snapshot. The snapshot must not be newer than the feed's position.
    pub(crate) fn find(&self, cell: &Cell, at: Tid, generation: u64) -> Option<Known> {
        if generation != self.generation {
            return None;
        }
        self.slots.get(cell)?.find(at).cloned()
    }

    /// A commit wrote the cell. Gives the place in the file that counts no more.
    pub(crate) fn invalidate(&mut self, cell: &Cell, hash: u64, tid: Tid) -> Option<u32> {
        self.recent.note(hash, tid);
        if let Some(mut slot) = self.slots.peek_mut(cell) {
            slot.close(tid);
        }
        self.places.remove(hash)
    }

    /// Takes in a revision that was read at the snapshot `at`. Gives it if it is open.
    pub(crate) fn insert(
        &mut self,
        cell: &Cell,
        hash: u64,
        revision: &Revision,
        at: Tid,
        generation: u64,
    ) -> Option<Known> {
        if generation != self.generation {
            return None;
        }
        let to = match revision.end {
            Some(end) => end.prev(),
            None if self.recent.unchanged_since(hash, at) => Tid::MAX,
            None => at,
        };
        // A cell that did not exist is known not to exist at `at`; what was before, pack may have removed.
        let from = if revision.tid == Tid::NONE { at } else { revision.tid };
        if from > to {
            return None;
        }
        let known =
            Known { tid: revision.tid, from, to, record: revision.record.as_deref().map(Bytes::copy_from_slice) };
        self.learn(cell, known.clone());
        Some(known).filter(|known| known.to == Tid::MAX)
    }

    fn learn(&mut self, cell: &Cell, known: Known) {
        if let Some(mut slot) = self.slots.peek_mut(cell) {
            slot.learn(known);
            return;
        }
        // The key is copied as well: a slice would keep a whole reply alive.
        let cell = Cell { oid: cell.oid, key: Bytes::copy_from_slice(&cell.key) };
        self.slots.insert(cell, Slot::new(known));
    }

    /// Where in the file the cell may be.
    pub(crate) fn place(&self, hash: u64, generation: u64) -> Option<u32> {
        if generation == self.generation { self.places.find(hash) } else { None }
    }

    /// Takes in what was found at a place in the file, if the place counts still: then nothing has ended it, however long the way here was.
    pub(crate) fn found(
        &mut self,
        cell: &Cell,
        (hash, place): (u64, u32),
        (tid, record): (Tid, Bytes),
        generation: u64,
    ) -> Option<Known> {
        if self.place(hash, generation) != Some(place) {
            return None;
        }
        let known = Known { tid, from: tid, to: Tid::MAX, record: Some(record) };
        self.learn(cell, known.clone());
        Some(known)
    }

    /// Whether what was read of a cell at the snapshot `at` has not ended.
    pub(crate) fn is_open(&mut self, hash: u64, at: Tid, generation: u64) -> bool {
        generation == self.generation && self.recent.unchanged_since(hash, at)
    }

    /// What was read of a cell at the snapshot `at` is at this place from here on, unless it has ended; the place that counts no more.
    pub(crate) fn set_place(&mut self, hash: u64, at: Tid, generation: u64, place: u32) -> Result<Option<u32>, ()> {
        if self.is_open(hash, at, generation) { Ok(self.places.set(hash, place)) } else { Err(()) }
    }

    /// What the file had when it was opened; the place that counts no more.
    pub(crate) fn begin_with(&mut self, hash: u64, place: u32) -> Option<u32> {
        self.places.set(hash, place)
    }

    /// Nothing of use is at this place; whether it counted.
    pub(crate) fn forget_place(&mut self, hash: u64, place: u32) -> bool {
        self.places.find(hash) == Some(place) && self.places.remove(hash).is_some()
    }

    /// Nothing is in this part of the file any more.
    pub(crate) fn vacate(&mut self, places: &Range<u32>) {
        self.places.vacate(places);
    }

    /// Forgets everything; of commits up to `floor` nothing is known any more.
    pub(crate) fn reset(&mut self, generation: u64, floor: Tid) {
        self.places.clear();
        self.begin(generation, floor);
    }

    /// Forgets what is in memory.
    pub(crate) fn begin(&mut self, generation: u64, floor: Tid) {
        self.slots.clear();
        self.recent.forget(floor);
        self.generation = generation;
    }

    /// The bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.slots.weight()
    }
}
