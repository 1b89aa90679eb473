//! Owns the hash maps of the house: each of them is seeded with what nobody outside knows.
//!
//! Keys are chosen by others: keys of entries, oids, commit keys. With a hash that everybody can compute somebody sends keys that
//! all fall into one bucket, and a draft of 30,000 of them costs seconds instead of milliseconds, for everybody. So there is one
//! kind of map here, over [aHash](https://docs.rs/ahash), seeded once in the life of a process.
//!
//! A debug build has a fixed seed: a run on a simulated disk, told by its printed seed, must go the same way again. What must
//! not depend on the seed (an order, a file, an answer) uses a `BTreeMap`.

use ahash::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::OnceLock;

/// A hash map whose keys may come from anywhere.
pub type Map<K, V> = HashMap<K, V, Seeded>;

/// A hash set whose members may come from anywhere.
pub type Set<T> = HashSet<T, Seeded>;

/// The seeded hash of this process: the same for all its maps, other in another process.
#[derive(Clone, Debug)]
pub struct Seeded(RandomState);

impl Default for Seeded {
    fn default() -> Seeded {
        static OF_PROCESS: OnceLock<RandomState> = OnceLock::new();
        Seeded(OF_PROCESS.get_or_init(|| state(cfg!(debug_assertions))).clone())
    }
}

impl BuildHasher for Seeded {
    type Hasher = <RandomState as BuildHasher>::Hasher;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

fn state(fixed: bool) -> RandomState {
    // The standard library's maps are seeded by the operating system, and hash with SipHash.
    let random = std::hash::RandomState::new();
    let seed = |n: u64| if fixed { n } else { random.hash_one(n) };
    RandomState::with_seeds(seed(1), seed(2), seed(3), seed(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_from_life_to_life_and_are_fixed_in_debug_builds() {
        let key: &[u8] = b"a key";
        let hashes = |fixed: bool| [(), ()].map(|()| state(fixed).hash_one(key));
        let [one, other] = hashes(false);
        assert_ne!(one, other);
        let [one, other] = hashes(true);
        assert_eq!(one, other);
        let [one, other] = [(), ()].map(|()| Seeded::default().hash_one(key));
        assert_eq!(one, other, "all maps of a process share one seed");
    }

    /// In FxHash a word times a known number is added up: these keys, told in public, had one hash.
    #[test]
    fn keys_that_cancel_out_in_a_known_hash_do_not_here() {
        let key = |n: u64| [0x243f_6a88_85a3_08d3_u64.to_le_bytes(), n.to_le_bytes()].concat();
        let hashes: Set<u64> = (0..10_000).map(|n| Seeded::default().hash_one(key(n))).collect();
        assert_eq!(hashes.len(), 10_000);
        let oids: Set<u64> = (0..10_000_u64).map(|n| Seeded::default().hash_one(n << 48) & 0xffff).collect();
        assert!(oids.len() > 5_000, "{} buckets of 65,536", oids.len());
    }
}
