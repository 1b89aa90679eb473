//! Owns the size of a chunk: how many objects the next commit of a worker covers. Pure.
//!
//! The aim is a time per chunk, not a number of objects. A smoothed cost per object is learnt; the next chunk is what fits
//! into the target time, but at most doubled and at most halved, so that one odd measurement does not matter much.
//!
//! ```text
//!   cost  = 0.7 · cost + 0.3 · took / objects
//!   next  = target / cost, within size/2 ..= size·2 and 1 ..= objects_max
//! ```
//!
//! Beside live traffic chunks stay small, at ten objects (more where an fsync takes long by itself): a live commit that waits for a large chunk to be put in order,
//! written and synced is one of the slowest of its hundred. And a throttled worker makes small chunks rather than large ones with long
//! pauses: at `rate` objects a second no chunk covers more than a twentieth of a second's worth.

use std::time::Duration;
use zeolite_proto::Pressure;
use zeolite_proto::evolve::Settings;

/// The share of the newest measurement.
const NEWEST: f64 = 0.3;
/// Measured with objects of 1 KiB: beside chunks of 50 the slowest of a hundred live commits took 1.9 times as long as without, of 25 1.6, of 10 0.8 to 1.2
/// times; the evolve took 2.1, 2.1 and 2.8 times as long as without live commits.
const OBJECTS_BESIDE_LIVE: usize = 10;
/// Where an fsync takes longer than this, and again as long, so many objects for each of these are a small part of it.
const FSYNC_US: u64 = 5000;
const OBJECTS_PER_SLOW_FSYNC: usize = 50;
/// A throttled worker makes so many chunks in a second, if they can be as small.
const THROTTLED_CHUNKS_PER_S: f64 = 20.0;
/// A throttled chunk is not made smaller than this: below it the commit itself costs more than the objects.
const THROTTLED_OBJECTS_MIN: usize = 10;

/// How large chunks are.
#[derive(Clone, Debug)]
pub(crate) struct Sizing {
    size: usize,
    cost_ms: Option<f64>,
}

impl Sizing {
    pub(crate) fn new(settings: &Settings) -> Sizing {
        Sizing { size: (settings.chunk_objects_start as usize).clamp(1, objects_max(settings)), cost_ms: None }
    }

    /// Objects of the next chunk; `rate`: how many a second are allowed; `live`: what live traffic feels, if there is
    /// any.
    pub(crate) fn objects(&self, settings: &Settings, rate: Option<f64>, live: Option<&Pressure>) -> usize {
        let most = live.map_or(usize::MAX, beside);
        let size = self.size.min(most).clamp(1, objects_max(settings));
        match rate {
            None => size,
            Some(rate) => {
                let worth = (rate / THROTTLED_CHUNKS_PER_S) as usize;
                size.min(worth.max(THROTTLED_OBJECTS_MIN))
            }
        }
    }

    /// A chunk of so many objects took so long, from its first load to its receipt.
    pub(crate) fn took(&mut self, settings: &Settings, objects: usize, took: Duration) {
        if objects == 0 {
            return;
        }
        let newest = (took.as_secs_f64() * 1000.0 / objects as f64).max(1e-4);
        let cost = self.cost_ms.map_or(newest, |cost| cost * (1.0 - NEWEST) + newest * NEWEST);
        self.cost_ms = Some(cost);
        // A small chunk (the end of a range, a throttled one) says something about the cost, but nothing about the size.
        let fits = (settings.chunk_target_ms as f64 / cost) as usize;
        self.size = fits.clamp((self.size / 2).max(1), self.size.saturating_mul(2)).clamp(1, objects_max(settings));
    }

    /// A chunk was too large for the server.
    pub(crate) fn too_large(&mut self, objects: usize) {
        self.size = (objects / 2).max(1);
    }
}

/// Objects of a chunk beside live traffic.
fn beside(live: &Pressure) -> usize {
    match live.fsync_p99_us / FSYNC_US {
        0 | 1 => OBJECTS_BESIDE_LIVE,
        times => OBJECTS_PER_SLOW_FSYNC * times.min(20) as usize,
    }
}

fn objects_max(settings: &Settings) -> usize {
    (settings.chunk_objects_max as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_find_their_size_from_either_side() {
        for start in [1, 100, 1000] {
            let settings = Settings::default().chunk_objects_start(start);
            let mut sizing = Sizing::new(&settings);
            for _ in 0..40 {
                let size = sizing.objects(&settings, None, None);
                sizing.took(&settings, size, Duration::from_millis(size as u64));
            }
            let size = sizing.objects(&settings, None, None);
            assert!((240..=260).contains(&size), "{start} -> {size}");
        }
    }

    #[test]
    fn one_odd_chunk_changes_little() {
        let settings = Settings::default().chunk_objects_start(250);
        let mut sizing = Sizing::new(&settings);
        for _ in 0..10 {
            sizing.took(&settings, 250, Duration::from_millis(250));
        }
        sizing.took(&settings, 250, Duration::from_millis(5000));
        assert!(sizing.objects(&settings, None, None) >= 125, "{sizing:?}");
        for _ in 0..20 {
            sizing.took(&settings, 250, Duration::from_millis(250));
        }
        assert!(sizing.objects(&settings, None, None) > 230, "{sizing:?}");
    }

    #[test]
    fn no_measurement_leads_out_of_bounds() {
        let settings = Settings::default();
        let mut sizing = Sizing::new(&settings);
        for _ in 0..20 {
            let size = sizing.objects(&settings, None, None);
            sizing.took(&settings, size, Duration::ZERO);
        }
        assert_eq!(sizing.objects(&settings, None, None), 1000);
        for _ in 0..30 {
            sizing.took(&settings, 1, Duration::from_secs(100));
        }
        assert_eq!(sizing.objects(&settings, None, None), 1);
        sizing.took(&settings, 0, Duration::ZERO);
        sizing.too_large(1);
        assert_eq!(sizing.objects(&settings, None, None), 1);
    }

    #[test]
    fn a_throttled_worker_makes_small_chunks() {
        let settings = Settings::default().chunk_objects_start(1000);
        let sizing = Sizing::new(&settings);
        assert_eq!(sizing.objects(&settings, Some(2000.0), None), 100);
        assert_eq!(sizing.objects(&settings, Some(4.0), None), 10);
        assert_eq!(sizing.objects(&settings, Some(1e9), None), 1000);
        let on = |fsync_p99_us| Pressure { fsync_p99_us, ..Pressure::default() };
        assert_eq!(sizing.objects(&settings, None, Some(&on(300))), 10);
        assert_eq!(sizing.objects(&settings, None, Some(&on(9_999))), 10);
        assert_eq!(sizing.objects(&settings, None, Some(&on(30_000))), 300, "a spinning disk");
        assert_eq!(sizing.objects(&settings, None, Some(&on(u64::MAX))), 1000);
        assert_eq!(sizing.objects(&settings, Some(400.0), Some(&on(300))), 10);
        assert_eq!(sizing.objects(&settings, Some(200.0), Some(&on(300))), 10);
    }
}
