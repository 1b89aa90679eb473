//! Owns latencies: a histogram of durations with the numbers that reports show.

use hdrhistogram::Histogram;
use std::time::Duration;

/// The longest duration that is told apart from longer ones.
const NANOS_MAX: u64 = 3_600_000_000_000;

/// Durations from a nanosecond to an hour, to three digits.
#[derive(Clone)]
pub(crate) struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    pub(crate) fn new() -> Latency {
        Latency { histogram: Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("the bounds are in order") }
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.histogram.saturating_record(time.as_nanos().min(u128::from(u64::MAX)) as u64);
    }

    /// Takes in what another has seen.
    pub(crate) fn merge(&mut self, other: &Latency) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
    }

    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    pub(crate) fn p50_us(&self) -> f64 {
        self.us(0.5)
    }

    pub(crate) fn p99_us(&self) -> f64 {
        self.us(0.99)
    }

    pub(crate) fn max_us(&self) -> f64 {
        self.histogram.max() as f64 / 1e3
    }

    /// In microseconds: this share of all took at most so long.
    pub(crate) fn us(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut all = Latency::new();
        for ms in 1..=100 {
            let mut one = Latency::new();
            one.add(Duration::from_millis(ms));
            all.merge(&one);
        }
        all.add(Duration::from_secs(100_000));
        assert_eq!(all.count(), 101);
        assert!((all.p50_us() - 51_000.0).abs() < 100.0, "{}", all.p50_us());
        assert!((all.p99_us() - 100_000.0).abs() < 200.0, "{}", all.p99_us());
        assert!(all.max_us() >= 3.5e9);
    }
}
