//! Owns the making of commit keys: each is 16 bytes of the operating system's randomness.
//!
//! Nothing is kept between two keys, so processes that fork, or are started from one snapshot of a machine, never share one.

use zeolite_proto::CommitKey;

/// A key that was never given out.
pub(crate) fn new() -> CommitKey {
    let mut key = [0; 16];
    getrandom::fill(&mut key).expect("the operating system has no randomness; nothing can be committed exactly once");
    CommitKey(key)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn keys_differ_from_the_first_byte_on() {
        let keys: Vec<_> = (0..10_000).map(|_| super::new()).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        // Neither half is counted up from, or shared with, the key before.
        let halves = keys.iter().flat_map(|key| [(0, &key.0[..8]), (1, &key.0[8..])]);
        assert_eq!(halves.collect::<HashSet<_>>().len(), 2 * keys.len());
    }
}
