//! Owns a histogram that many threads may record into without a lock: 16 buckets per power of two of nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zeolite_proto::Stage;

/// 16 exact buckets below 16, then 16 for each of the powers from 4 to 63.
const BUCKETS: usize = 16 + 60 * 16;

/// Counts of durations by size; a percentile is right to within 7 %.
pub struct Histogram {
    buckets: Box<[AtomicU64; BUCKETS]>,
    total_ns: AtomicU64,
}

/// A histogram's counts read at one moment; several can be added up.
#[derive(Clone)]
pub struct Counts(Box<[u64; BUCKETS]>);

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: Box::new(std::array::from_fn(|_| AtomicU64::new(0))), total_ns: AtomicU64::new(0) }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Counts(Box::new([0; BUCKETS]))
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < 16 {
        return ns as usize;
    }
    let power = ns.ilog2();
    (power as usize - 3) * 16 + ((ns >> (power - 4)) & 15) as usize
}

fn upper_bound(bucket: usize) -> u64 {
    if bucket < 16 {
        return bucket as u64;
    }
    let (power, part) = (bucket / 16 + 3, (bucket % 16) as u64);
    // The last bucket ends at 2^64.
    ((u128::from(16 + part + 1) << (power - 4)) - 1) as u64
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, ns: u64) {
        self.record_n(ns, 1);
    }

    /// Counts one duration on behalf of `times` events that shared it.
    pub fn record_n(&self, ns: u64, times: u64) {
        self.buckets[bucket_of(ns)].fetch_add(times, Relaxed);
        self.total_ns.fetch_add(ns.saturating_mul(times), Relaxed);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
        self.total_ns.store(0, Relaxed);
    }

    /// Reads the counts.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (count, bucket) in counts.0.iter_mut().zip(self.buckets.iter()) {
            *count = bucket.load(Relaxed);
        }
        counts
    }

    /// The sum of all durations, in nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.total_ns.load(Relaxed)
    }

    /// Reads it, under its name.
    pub fn stage(&self, name: &str) -> Stage {
        let counts = self.counts();
        Stage {
            name: name.to_owned(),
            count: counts.count(),
            total_ns: self.total_ns(),
            p50_ns: counts.percentile(50),
            p99_ns: counts.percentile(99),
        }
    }
}

impl Counts {
    /// How many durations.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Counts) {
        for (count, more) in self.0.iter_mut().zip(other.0.iter()) {
            *count += more;
        }
    }

    /// The upper bound, in nanoseconds, of the bucket where this percent of the durations ends; 0 of none.
    pub fn percentile(&self, percent: u64) -> u64 {
        let count = self.count();
        if count == 0 {
            return 0;
        }
        let mut left = (count * percent).div_ceil(100);
        for (bucket, n) in self.0.iter().enumerate() {
            if *n >= left {
                return upper_bound(bucket);
            }
            left -= n;
        }
        0
    }

    /// How many durations were at most so long, up to the width of a bucket: for coarser, cumulative buckets.
    pub fn at_most(&self, ns: u64) -> u64 {
        self.0[..=bucket_of(ns)].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_sixteenth() {
        let histogram = Histogram::default();
        for ns in 1..=10_000u64 {
            histogram.record(ns);
        }
        let summary = histogram.stage("");
        assert_eq!(summary.count, 10_000);
        assert!((5_000..=5_350).contains(&summary.p50_ns), "{summary:?}");
        assert!((9_900..=10_600).contains(&summary.p99_ns), "{summary:?}");
        let counts = histogram.counts();
        assert!((5_000..=5_350).contains(&counts.at_most(5_000)), "{}", counts.at_most(5_000));
        assert_eq!(counts.at_most(u64::MAX), 10_000);
        histogram.clear();
        assert_eq!(histogram.stage(""), Stage::default());
    }

    #[test]
    fn every_value_falls_below_its_upper_bound_and_above_the_bucket_before() {
        for ns in (0..64).flat_map(|power| [1u64 << power, (1u64 << power) + (1 << power) / 3, u64::MAX >> power]) {
            let bucket = bucket_of(ns);
            assert!(upper_bound(bucket) >= ns, "{ns} {bucket}");
            assert!(bucket == 0 || upper_bound(bucket - 1) < ns, "{ns} {bucket}");
        }
    }
}
