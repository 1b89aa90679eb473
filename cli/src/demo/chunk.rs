//! Owns the size of a chunk: how many objects the next commit of the worker covers.
//!
//! A pure decision: aim at a time per chunk, trust one measurement only so far.
//!
//! ```text
//!   next = size · target / took, but at most doubled and at most halved, within 1 ..= OBJECTS_MAX
//! ```

use std::time::Duration;

/// The first chunk.
pub(crate) const OBJECTS_START: usize = 100;
/// No chunk is larger.
pub(crate) const OBJECTS_MAX: usize = 1000;
/// How long a chunk should take, from its first load to its receipt.
pub(crate) const TARGET: Duration = Duration::from_millis(250);

/// The size of the next chunk, after one of `size` objects took so long.
pub(crate) fn next(size: usize, took: Duration) -> usize {
    let factor = (TARGET.as_secs_f64() / took.as_secs_f64().max(1e-6)).clamp(0.5, 2.0);
    ((size as f64 * factor) as usize).clamp(1, OBJECTS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_find_their_size() {
        // A worker that needs 1 ms per object settles at 250 objects, from either side.
        for start in [1, 100, 1000] {
            let mut size = start;
            for _ in 0..20 {
                size = next(size, Duration::from_millis(size as u64));
            }
            assert!((245..=255).contains(&size), "{start} -> {size}");
        }
    }

    #[test]
    fn no_measurement_leads_out_of_bounds() {
        assert_eq!(next(OBJECTS_MAX, Duration::ZERO), OBJECTS_MAX);
        assert_eq!(next(1, Duration::from_secs(100)), 1);
        assert_eq!(next(100, Duration::from_secs(100)), 50);
    }
}
