//! Owns the past that the plots show: a sample of each database a second, for as long as the settings say.
//!
//! A sample is a few numbers, so an hour of a database is a quarter of a megabyte. A second that could not be sampled (the machine slept, the
//! database is being opened) is a hole in the plot: samples carry their time.

use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// One second of a database. Plain arrays on the wire: the page gets hundreds of them.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Sample {
    /// In seconds since 1970.
    pub(super) at: f64,
    pub(super) commits: f64,
    pub(super) loads: f64,
    pub(super) conflicts: f64,
    pub(super) merges: f64,
    /// Of live commits, in milliseconds; none: there were none.
    pub(super) live_p99_ms: Option<f64>,
    pub(super) quiet_p99_ms: Option<f64>,
    pub(super) fsync_p99_ms: Option<f64>,
    /// Invalidations that wait in the session that is furthest behind.
    pub(super) feed_batches: u64,
    pub(super) free_percent: Option<f64>,
}

#[derive(Default)]
struct Past {
    samples: VecDeque<Sample>,
    /// Samples in all: the number of the newest. Whoever goes on goes on from a number, since clocks are set back.
    taken: u64,
}

/// The samples of all databases.
pub(super) struct Histories {
    of: HashMap<Arc<str>, Mutex<Past>>,
    samples_max: usize,
    /// Counts the rounds of samples.
    rounds: watch::Sender<u64>,
}

impl Histories {
    pub(super) fn new<'a>(databases: impl Iterator<Item = &'a Arc<str>>, history_s: u64) -> Histories {
        Histories {
            of: databases.map(|name| (name.clone(), Mutex::default())).collect(),
            samples_max: usize::try_from(history_s).unwrap_or(usize::MAX),
            rounds: watch::Sender::new(0),
        }
    }

    /// One more.
    pub(super) fn add(&self, database: &str, sample: Sample) {
        let Some(past) = self.of.get(database) else { return };
        let mut past = past.lock();
        while past.samples.len() >= self.samples_max {
            past.samples.pop_front();
        }
        past.samples.push_back(sample);
        past.taken += 1;
    }

    /// A round is over: whoever waits for it looks.
    pub(super) fn round(&self) {
        self.rounds.send_modify(|round| *round += 1);
    }

    /// Tells of each round to come.
    pub(super) fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    /// What was taken behind the sample of a number, the oldest first, and the number of the newest.
    pub(super) fn since(&self, database: &str, number: u64) -> (Vec<Sample>, u64) {
        let Some(past) = self.of.get(database) else { return (Vec::new(), 0) };
        let past = past.lock();
        let newer = past.taken.saturating_sub(number).min(past.samples.len() as u64) as usize;
        (past.samples.iter().skip(past.samples.len() - newer).copied().collect(), past.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_bounded_and_told_from_a_sample_on_whatever_the_clock_does() {
        let name: Arc<str> = "main".into();
        let histories = Histories::new([&name].into_iter(), 10);
        for second in 0..25 {
            let sample = Sample {
                // The clock is set back in the middle.
                at: f64::from(if second < 23 { second } else { second - 20 }),
                commits: 1.0,
                loads: 0.0,
                conflicts: 0.0,
                merges: 0.0,
                live_p99_ms: None,
                quiet_p99_ms: None,
                fsync_p99_ms: None,
                feed_batches: 0,
                free_percent: None,
            };
            histories.add("main", sample);
        }
        let times = |number| histories.since("main", number).0.iter().map(|sample| sample.at).collect::<Vec<_>>();
        assert_eq!((times(0).len(), histories.since("main", 0).1), (10, 25));
        assert_eq!(times(22), [22.0, 3.0, 4.0]);
        assert!(times(25).is_empty() && histories.since("other", 0).0.is_empty());
    }
}
