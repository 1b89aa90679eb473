//! Owns a histogram that many threads may record into without a lock: 4 buckets per power of two of nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const BUCKETS: usize = 64 * 4;

/// Counts of durations by size; a percentile is right to within 25 %.
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    total_ns: AtomicU64,
}

/// A histogram read at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// How many durations were recorded.
    pub count: u64,
    /// Their sum, in nanoseconds.
    pub total_ns: u64,
    /// The median, in nanoseconds.
    pub p50_ns: u64,
    /// The 99th percentile, in nanoseconds.
    pub p99_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: std::array::from_fn(|_| AtomicU64::new(0)), total_ns: AtomicU64::new(0) }
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < 4 {
        return ns as usize;
    }
    let power = ns.ilog2();
    (power as usize) * 4 + ((ns >> (power - 2)) & 3) as usize
}

fn upper_bound(bucket: usize) -> u64 {
    if bucket < 8 {
        return bucket as u64;
    }
    let (power, quarter) = (bucket / 4, (bucket % 4) as u64);
    // The last bucket ends at 2^64.
    ((u128::from(4 + quarter + 1) << (power - 2)) - 1) as u64
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, ns: u64) {
        self.buckets[bucket_of(ns)].fetch_add(1, Relaxed);
        self.total_ns.fetch_add(ns, Relaxed);
    }

    /// Counts one duration on behalf of `times` events that shared it.
    pub fn record_n(&self, ns: u64, times: u64) {
        self.buckets[bucket_of(ns)].fetch_add(times, Relaxed);
        self.total_ns.fetch_add(ns.saturating_mul(times), Relaxed);
    }

    /// Reads it.
    pub fn summary(&self) -> Summary {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let percentile = |percent: u64| {
            let mut left = (count * percent).div_ceil(100);
            for (bucket, n) in counts.iter().enumerate() {
                if *n >= left {
                    return upper_bound(bucket);
                }
                left -= n;
            }
            0
        };
        Summary {
            count,
            total_ns: self.total_ns.load(Relaxed),
            p50_ns: if count == 0 { 0 } else { percentile(50) },
            p99_ns: if count == 0 { 0 } else { percentile(99) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_quarter() {
        let histogram = Histogram::default();
        for ns in 1..=10_000u64 {
            histogram.record(ns);
        }
        let summary = histogram.summary();
        assert_eq!(summary.count, 10_000);
        assert!((5_000..=6_300).contains(&summary.p50_ns), "{summary:?}");
        assert!((9_900..=12_400).contains(&summary.p99_ns), "{summary:?}");
    }

    #[test]
    fn every_value_falls_below_its_upper_bound() {
        for ns in (0..64).flat_map(|power| [1u64 << power, (1u64 << power) + (1 << power) / 3, u64::MAX >> power]) {
            let bucket = bucket_of(ns);
            assert!(upper_bound(bucket) >= ns, "{ns} {bucket}");
            assert!(bucket == 0 || upper_bound(bucket - 1) < ns || bucket <= 8, "{ns} {bucket}");
        }
    }
}
