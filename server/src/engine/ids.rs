//! Owns the ids that nobody can guess: of pins and of prepared drafts.
//!
//! Whoever knows such an id and has the same owner can end what it names, so ids must not be counted up in the open: an id
//! is the keyed hash (SipHash-2-4) of a counter, under a key that this life of the server alone knows: its seed. So an id of
//! an earlier life is not taken for one of this either. What is told to everybody (store id, timelines, the server's own
//! commit keys) is made by [`public`] and does not show the seed.

use siphasher::sip::SipHasher24;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that everybody may see, made of the seed, which nobody may: of one `kind`, the `count`-th.
pub(crate) fn public(seed: u64, kind: &str, count: u64) -> u64 {
    let key = SipHasher24::new_with_keys(seed, 0).hash(kind.as_bytes());
    // Never 0, which stands for none.
    SipHasher24::new_with_keys(seed, key).hash(&count.to_le_bytes()).max(1)
}

/// Makes ids.
pub(crate) struct Ids {
    key: (u64, u64),
    made: AtomicU64,
}

impl Ids {
    /// Of one kind; two kinds of the same seed have different ids.
    pub(crate) fn new(seed: u64, kind: &str) -> Ids {
        let half = |which: u8| SipHasher24::new_with_keys(seed, u64::from(which)).hash(kind.as_bytes());
        Ids { key: (half(1), half(2)), made: AtomicU64::new(0) }
    }

    /// The next one, never 0, and none that `taken` knows.
    pub(crate) fn next(&self, taken: impl Fn(u64) -> bool) -> u64 {
        let hasher = SipHasher24::new_with_keys(self.key.0, self.key.1);
        loop {
            let id = hasher.hash(&self.made.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            if id != 0 && !taken(id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_tell_the_next_one_and_none_is_given_twice() {
        let ids = Ids::new(7, "pin");
        let first = ids.next(|_| false);
        assert_eq!(first, Ids::new(7, "pin").next(|_| false), "tests can repeat a run");
        for other in [Ids::new(8, "pin"), Ids::new(7, "prepared")] {
            assert_ne!(first, other.next(|_| false));
        }
        let again = Ids::new(7, "pin");
        assert!(public(7, "pin", 0) != 7 && public(7, "pin", 0) != public(7, "pin", 1) && public(7, "pin", 0) != first);
        let second = again.next(|id| id == first);
        assert!(second != first && second.wrapping_sub(first) != 1 && second == ids.next(|_| false));
    }
}
