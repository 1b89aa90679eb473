//! Owns the write heat: about how often each object was written lately, so that an evolve leaves the hot ones for last.
//!
//! Objects share counts by a hash of their oid: a fixed amount of memory for any number of objects, and a count that is
//! never too low. Counts are halved every half minute, so what is told is about the last minute's writes.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use zeolite_proto::Oid;

const COUNTS: usize = 1 << 16;
/// How long until all counts are halved.
pub(crate) const HALF_LIFE: Duration = Duration::from_secs(30);

/// Counts of live writes.
pub(crate) struct Heat(Box<[AtomicU32]>);

impl Heat {
    pub(crate) fn new() -> Heat {
        Heat((0..COUNTS).map(|_| AtomicU32::new(0)).collect())
    }

    fn count(&self, oid: Oid) -> &AtomicU32 {
        // Fibonacci hashing: neighbours spread over the whole table.
        let hash = oid.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        &self.0[hash as usize % COUNTS]
    }

    /// A live commit wrote this object.
    pub(crate) fn written(&self, oid: Oid) {
        self.count(oid).fetch_add(1, Relaxed);
    }

    /// About how often it was written lately.
    pub(crate) fn of(&self, oid: Oid) -> u32 {
        self.count(oid).load(Relaxed)
    }

    /// Halves all counts.
    pub(crate) fn cool(&self) {
        for count in &self.0 {
            let now = count.load(Relaxed);
            if now > 0 {
                count.store(now / 2, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_often_is_hot_until_it_is_left_alone() {
        let heat = Heat::new();
        (0..8).for_each(|_| heat.written(Oid(77)));
        assert_eq!((heat.of(Oid(77)), heat.of(Oid(78))), (8, 0));
        (0..4).for_each(|_| heat.cool());
        assert_eq!(heat.of(Oid(77)), 0);
    }

    #[test]
    fn neighbours_do_not_share() {
        let heat = Heat::new();
        (1000..2000).for_each(|oid| heat.written(Oid(oid)));
        let warm = (0..1_000_000).step_by(997).filter(|oid| heat.of(Oid(*oid)) > 0).count();
        assert!(warm < 40, "{warm} of about 1000 others look warm");
    }
}
