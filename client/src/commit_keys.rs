//! Owns the making of commit keys: 8 bytes of this client, 8 bytes counted, so that no two commits share one.
//!
//! Both halves start at values that the operating system's randomness gives (through the standard library's hash
//! seeds); a clash would need two clients with the same 64 bits whose counters overlap as well.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_proto::CommitKey;

#[derive(Debug)]
pub(crate) struct CommitKeys {
    client: u64,
    next: AtomicU64,
}

impl CommitKeys {
    pub(crate) fn new() -> CommitKeys {
        let random = || RandomState::new().build_hasher().finish();
        CommitKeys { client: random(), next: AtomicU64::new(random()) }
    }

    /// A key that was never given out.
    pub(crate) fn next(&self) -> CommitKey {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        CommitKey((u128::from(self.client) << 64 | u128::from(count)).to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_of_many_clients_differ() {
        let keys = (0..100).flat_map(|_| {
            let keys = CommitKeys::new();
            (0..100).map(move |_| keys.next())
        });
        assert_eq!(keys.collect::<HashSet<_>>().len(), 10_000);
    }
}
