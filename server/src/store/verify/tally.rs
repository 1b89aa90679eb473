//! Owns the adding up of revisions in buckets by tid: two sides that have the same revisions have the same sums.

use std::hash::{BuildHasher, Hasher};
use zeolite_proto::{Cell, Tid, hash};

const BUCKETS: usize = 4096;

/// Sums of one side.
pub(super) struct Tally {
    buckets: Vec<(u64, u64)>,
}

impl Default for Tally {
    /// Nothing added up.
    fn default() -> Tally {
        Tally { buckets: vec![(0, 0); BUCKETS] }
    }
}

impl Tally {
    /// Adds a revision, in whatever order.
    pub(super) fn add(&mut self, cell: &Cell, tid: Tid) {
        let mut hasher = hash::Seeded::default().build_hasher();
        hasher.write_u64(cell.oid.0);
        hasher.write(&cell.key);
        hasher.write_u64(tid.0);
        let bucket = &mut self.buckets[bucket_of(tid)];
        bucket.0 += 1;
        bucket.1 = bucket.1.wrapping_add(mixed(hasher.finish()));
    }

    /// The buckets in which the two sides are not the same.
    pub(super) fn differing(&self, other: &Tally) -> Vec<usize> {
        let pairs = self.buckets.iter().zip(&other.buckets).enumerate();
        pairs.filter(|(_, (a, b))| a != b).map(|(bucket, _)| bucket).collect()
    }
}

/// The bucket of a tid's revisions.
pub(super) fn bucket_of(tid: Tid) -> usize {
    (mixed(tid.0) % BUCKETS as u64) as usize
}

/// Spreads the bits (the finisher of splitmix64), so that sums of neighbours do not cancel out.
pub(super) fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::Oid;

    #[test]
    fn a_revision_more_less_or_other_is_seen_in_the_bucket_of_its_tid() {
        let fill = |skip: u64| {
            let mut tally = Tally::default();
            (0..10_000).rev().filter(|n| *n != skip).for_each(|n| tally.add(&Cell::object(Oid(n % 7)), Tid(n)));
            tally
        };
        let all = fill(u64::MAX);
        assert!(all.differing(&fill(u64::MAX)).is_empty());
        assert_eq!(all.differing(&fill(77)), [bucket_of(Tid(77))]);
        let mut other = fill(77);
        other.add(&Cell::entry(Oid(0), "x"), Tid(77));
        assert_eq!(all.differing(&other), [bucket_of(Tid(77))]);
    }
}
