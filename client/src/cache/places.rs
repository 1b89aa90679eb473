//! Owns where in the cache's file the cells of one shard are: a table of six bytes a slot.
//!
//! A file of a gigabyte has millions of objects, and the memory that a cache in a file is to save must not go to its table. So
//! no cell is kept here, only a part of its hash and a place in the file; whoever goes there finds out which cell it is of.
//!
//! ```text
//!   hash of a cell ── some bits ──> segment (about two hundred cells)
//!                  └─ 16 others ──> tag ──> home slot, and on from there    [tag | place]  6 bytes
//! ```
//!
//! Within a segment a tag is there once: of two cells that share it (one in some hundreds) the later one stays. So nothing has to be read to
//! know what an invalidation takes out: the cell itself, or in its stead one that is dropped in vain. A segment grows by an eighth, without
//! reading either: the tag says where its home is in a table of any size.

use std::ops::Range;

/// Bytes of the file for which there is one segment.
const SEGMENT_BYTES: u64 = 64 << 10;

/// Place 0 is the file's header: no cell is there.
const VACANT: u32 = 0;

/// The places of a shard.
#[derive(Debug, Default)]
pub(crate) struct Places {
    segments: Box<[Segment]>,
}

#[derive(Clone, Debug, Default)]
struct Segment {
    slots: Box<[Slot]>,
    taken: usize,
}

/// A tag, and a place in two halves, so that it is six bytes long.
#[derive(Clone, Copy, Debug, Default)]
struct Slot([u16; 3]);

impl Slot {
    fn new(tag: u16, place: u32) -> Slot {
        Slot([tag, place as u16, (place >> 16) as u16])
    }

    fn place(self) -> u32 {
        u32::from(self.0[1]) | (u32::from(self.0[2]) << 16)
    }

    fn is_vacant(self) -> bool {
        self.place() == VACANT
    }
}

impl Places {
    /// An empty table for one of so many shards, over a file of this size.
    pub(crate) fn new(file_bytes: u64, shards: usize) -> Places {
        let segments = file_bytes.div_ceil(SEGMENT_BYTES * shards as u64).max(1);
        Places { segments: vec![Segment::default(); segments as usize].into() }
    }

    /// Where a cell of this hash may be.
    pub(crate) fn find(&self, hash: u64) -> Option<u32> {
        let segment = self.segments.get(self.segment(hash))?;
        segment.at(tag(hash)).ok().map(|at| segment.slots[at].place())
    }

    /// From here on it is there; the place that counts no more.
    pub(crate) fn set(&mut self, hash: u64, place: u32) -> Option<u32> {
        let at = self.segment(hash);
        self.segments.get_mut(at)?.set(tag(hash), place)
    }

    /// It is nowhere; the place that counts no more.
    pub(crate) fn remove(&mut self, hash: u64) -> Option<u32> {
        let at = self.segment(hash);
        let segment = self.segments.get_mut(at)?;
        let at = segment.at(tag(hash)).ok()?;
        Some(segment.take(at))
    }

    /// Nothing is in this part of the file any more.
    pub(crate) fn vacate(&mut self, places: &Range<u32>) {
        self.segments.iter_mut().for_each(|segment| segment.vacate(places));
    }

    /// Nothing is anywhere.
    pub(crate) fn clear(&mut self) {
        self.segments.fill(Segment::default());
    }

    /// How many cells there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.taken).sum()
    }

    fn segment(&self, hash: u64) -> usize {
        // Neither the tag's bits nor those that chose the shard.
        ((hash >> 16) & 0xffff_ffff) as usize % self.segments.len().max(1)
    }
}

fn tag(hash: u64) -> u16 {
    hash as u16
}

impl Segment {
    /// Where a tag would be if nothing was in its way; in the order of tags, whatever the size.
    fn home(&self, tag: u16) -> usize {
        (usize::from(tag) * self.slots.len()) >> 16
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    /// The slot of a tag, or the vacant one where it is to be.
    fn at(&self, tag: u16) -> Result<usize, Option<usize>> {
        if self.slots.is_empty() {
            return Err(None);
        }
        let mut at = self.home(tag);
        loop {
            match self.slots[at] {
                slot if slot.is_vacant() => return Err(Some(at)),
                slot if slot.0[0] == tag => return Ok(at),
                _ => at = self.next(at),
            }
        }
    }

    fn set(&mut self, tag: u16, place: u32) -> Option<u32> {
        if let Ok(at) = self.at(tag) {
            let before = self.slots[at].place();
            self.slots[at] = Slot::new(tag, place);
            return Some(before);
        }
        if (self.taken + 1) * 8 > self.slots.len() * 7 {
            let larger = self.slots.len() + self.slots.len() / 8 + 8;
            self.rebuild(larger, |_| true);
        }
        self.put(Slot::new(tag, place));
        None
    }

    /// Puts in what is not there yet; there is room.
    fn put(&mut self, slot: Slot) {
        if let Err(Some(at)) = self.at(slot.0[0]) {
            self.slots[at] = slot;
            self.taken += 1;
        }
    }

    /// Takes a slot out, and moves up those behind it that were not at home.
    fn take(&mut self, mut hole: usize) -> u32 {
        let place = self.slots[hole].place();
        let mut at = hole;
        loop {
            at = self.next(at);
            let slot = self.slots[at];
            if slot.is_vacant() {
                break;
            }
            let size = self.slots.len();
            let from_home = (at + size - self.home(slot.0[0])) % size;
            if from_home >= (at + size - hole) % size {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = Slot::default();
        self.taken -= 1;
        place
    }

    fn vacate(&mut self, places: &Range<u32>) {
        let goes = |slot: &Slot| !slot.is_vacant() && places.contains(&slot.place());
        if self.slots.iter().any(goes) {
            self.rebuild(self.slots.len(), |slot| !goes(slot));
        }
    }

    fn rebuild(&mut self, size: usize, stays: impl Fn(&Slot) -> bool) {
        let before = std::mem::replace(&mut self.slots, vec![Slot::default(); size].into());
        self.taken = 0;
        before.iter().filter(|slot| !slot.is_vacant() && stays(slot)).for_each(|slot| self.put(*slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Against a map: whatever is put in, replaced, taken out and vacated.
    #[test]
    fn it_does_what_a_map_of_tags_does() {
        let mut dice = fastrand::Rng::with_seed(7);
        let mut places = Places::new(256 << 10, 1);
        let mut model: BTreeMap<(usize, u16), u32> = BTreeMap::new();
        for round in 0..60_000_u32 {
            // Few homes, so that they stand in each other's way, at the end of the table as well.
            let hash = (dice.u64(0..4) << 16) | (dice.u64(0..3000) * 21 % 65_536);
            let key = (places.segment(hash), tag(hash));
            match dice.u8(0..10) {
                0..6 => assert_eq!(places.set(hash, round + 1), model.insert(key, round + 1)),
                6..9 => assert_eq!(places.remove(hash), model.remove(&key)),
                _ if dice.u8(0..50) == 0 => {
                    let from = dice.u32(0..round + 1);
                    places.vacate(&(from..from + 500));
                    model.retain(|_, place| !(from..from + 500).contains(place));
                }
                _ => assert_eq!(places.find(hash), model.get(&key).copied()),
            }
            assert_eq!(places.len(), model.len());
        }
        for (hash, place) in
            model.iter().map(|((segment, tag), place)| (((*segment as u64) << 16) | u64::from(*tag), place))
        {
            assert_eq!(places.find(hash), Some(*place));
        }
        places.clear();
        assert_eq!((places.len(), places.find(7), places.set(7, 1), places.find(7)), (0, None, None, Some(1)));
    }

    #[test]
    fn an_object_takes_eight_bytes_of_memory() {
        let mut dice = fastrand::Rng::with_seed(1);
        let objects = 200_000;
        let mut places = Places::new(objects * 340, 1);
        (1..=objects as u32).for_each(|place| _ = places.set(dice.u64(..), place));
        let slots: usize = places.segments.iter().map(|segment| segment.slots.len()).sum();
        let bytes = slots * size_of::<Slot>() + places.segments.len() * size_of::<Segment>();
        assert!(places.len() as u64 > objects / 100 * 99, "{} of {objects}", places.len());
        assert!((bytes as u64) < objects * 8, "{bytes} bytes for {objects}");
    }
}
