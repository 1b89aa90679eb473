//! Owns the forecast: the rate over a window of recent samples, and when the work will be over. Pure.
//!
//! Honest in two ways: the rate is what really happened lately, pauses included, and the total may move (live writers add
//! and remove what is to be done), so a forecast is for the total as it is now. Without a rate there is no forecast, nor while the rate is
//! still being found: an evolve begins slowly beside live traffic, and what it would take at that pace frightens for nothing.

use std::collections::VecDeque;
use std::time::Duration;

/// The window of samples.
const WINDOW: Duration = Duration::from_secs(60);
const SAMPLES_MAX: usize = 240;
/// A shorter time says nothing.
const LEAST: Duration = Duration::from_millis(200);
/// A forecast needs samples over so long, of which the newer half may not be faster or slower than all by more than this.
const SETTLED: Duration = Duration::from_secs(5);
const SETTLED_RATIO: f64 = 1.5;

/// Forecasts from samples of progress.
///
/// ```
/// use std::time::Duration;
/// use zeolite_client::evolve::Eta;
///
/// let mut eta = Eta::default();
/// for second in 0..20 {
///     eta.sample(Duration::from_secs(second), 100 * second);
/// }
/// assert_eq!(eta.rate(), Some(100.0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Eta {
    samples: VecDeque<(Duration, u64)>,
}

impl Eta {
    /// So much was done at this moment (counted from anywhere). Work that was taken back starts the window anew.
    pub fn sample(&mut self, now: Duration, done: u64) {
        if self.samples.back().is_some_and(|(last, before)| now < *last || done < *before) {
            self.samples.clear();
        }
        self.samples.push_back((now, done));
        // One sample older than the window stays, so that the window is always covered.
        while self.samples.len() > SAMPLES_MAX || self.samples.get(1).is_some_and(|(then, _)| *then + WINDOW <= now) {
            self.samples.pop_front();
        }
    }

    /// Objects a second lately.
    pub fn rate(&self) -> Option<f64> {
        let ((first, from), (last, to)) = (self.samples.front()?, self.samples.back()?);
        let took = last.saturating_sub(*first);
        (took >= LEAST).then(|| (to - from) as f64 / took.as_secs_f64())
    }

    /// Whether the rate is found: the newer half of the window went about as fast as all of it.
    fn is_settled(&self) -> bool {
        let (Some((first, from)), Some((last, to))) = (self.samples.front(), self.samples.back()) else { return false };
        let took = last.saturating_sub(*first);
        let half = *first + took / 2;
        let middle = self.samples.iter().find(|(then, _)| *then >= half).filter(|(then, _)| then < last);
        let Some((then, done)) = middle.filter(|_| took >= SETTLED) else { return false };
        let all = (to - from) as f64 / took.as_secs_f64();
        let newer = (to - done) as f64 / (*last - *then).as_secs_f64();
        newer <= all * SETTLED_RATIO && all <= newer * SETTLED_RATIO
    }

    /// How long it takes from the last sample on, for the total as it is now; none while the rate is still being found.
    pub fn left(&self, total: u64) -> Option<Duration> {
        let left = total.saturating_sub(self.samples.back()?.1);
        if left == 0 {
            return Some(Duration::ZERO);
        }
        let rate = self.rate().filter(|rate| *rate > 0.0 && self.is_settled())?;
        Duration::try_from_secs_f64(left as f64 / rate).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forecast_follows_the_rate_and_the_total() {
        let mut eta = Eta::default();
        assert_eq!((eta.rate(), eta.left(100)), (None, None));
        for second in 0..=120 {
            eta.sample(Duration::from_secs(second), second * 100);
        }
        assert_eq!(eta.rate(), Some(100.0));
        assert_eq!(eta.left(13_000), Some(Duration::from_secs(10)));
        assert_eq!(eta.left(22_000), Some(Duration::from_secs(100)), "the total has moved");
        // It is paused for half of the window: the rate halves, and the forecast says so.
        for second in 121..=150 {
            eta.sample(Duration::from_secs(second), 12_000);
        }
        assert!((45.0..55.0).contains(&eta.rate().expect("a rate")), "{eta:?}");
        for second in 151..=300 {
            eta.sample(Duration::from_secs(second), 12_000);
        }
        assert_eq!((eta.rate(), eta.left(13_000)), (Some(0.0), None));
        assert_eq!(eta.left(12_000), Some(Duration::ZERO));
        eta.sample(Duration::from_secs(301), 5);
        assert_eq!(eta.rate(), None, "another job, or an undo");
    }

    /// Slowly at first, then three times as fast every second: nothing is forecast until it has found its speed.
    #[test]
    fn there_is_no_forecast_while_the_speed_is_being_found() {
        let (mut eta, mut done, mut told) = (Eta::default(), 0, Vec::new());
        for second in 0..90 {
            eta.sample(Duration::from_secs(second), done);
            done += 3_u64.pow(second.min(6) as u32);
            told.push(eta.left(100_000).is_some());
        }
        let first = told.iter().position(|told| *told).expect("some time");
        assert!((7..60).contains(&first) && told[first..].iter().all(|told| *told), "{told:?}");
    }
}
