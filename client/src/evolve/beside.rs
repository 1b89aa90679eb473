//! Owns the pace of who reads much beside live traffic, a backup: so many bytes a second that live commits do not feel it.
//!
//! It is the throttle of evolves, in another measure. What differs is what the site is compared with: the server tells how fast live
//! commits are where no bulk *draft* was on its way, and a reader makes none. So the reader measures it by itself, before it begins,
//! and every other minute again, by reading nothing for as long as the server's window is.

use super::throttle::{Throttle, Verdict, is_live};
use crate::admin::Admin;
use crate::errors::Result;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::Pressure;
use zeolite_proto::evolve::Settings;

/// What the throttle counts, in bytes: 4 MB a second are where it begins.
const UNIT_BYTES: f64 = 4096.0;
/// Never slower than this, in units a second: 1 MB.
const LEAST: f64 = 256.0;
/// How often the server is asked how it feels.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long a measurement counts.
const MEASURE_EVERY: Duration = Duration::from_secs(120);
/// A window of the server's is not waited for longer.
const WINDOW_MAX: Duration = Duration::from_secs(15);
/// What live commits may take more before it counts, in microseconds: faster ones are noise.
const NOISE_US: u64 = 50;

/// The pace of one reader.
///
/// ```
/// use zeolite_client::evolve::Beside;
///
/// # zeolite_testing::with_db(async |db| {
/// let mut pace = Beside::new(1.5); // live commits may take one and a half times as long
/// for bytes in [0, 4096] {
///     pace.took(bytes, &db.admin()).await?; // then the next page is read
/// }
/// assert_eq!(pace.why(), "");
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct Beside {
    ratio_max: f64,
    settings: Settings,
    throttle: Throttle,
    begun: Instant,
    asked: Option<Instant>,
    /// What live commits took without the reader, and when that was measured.
    alone: Option<(u64, Instant)>,
    rate: Option<f64>,
    /// Units since it was asked.
    units: f64,
    /// When the bytes that were read are paid for.
    free_at: Instant,
    why: String,
}

impl Beside {
    /// A reader beside which the 99th percentile of live commits may be this many times what it is without.
    pub fn new(ratio_max: f64) -> Beside {
        let settings = Settings::default().rate_min(LEAST).disk_pause_percent(0.0).disk_stop_percent(0.0);
        let (throttle, now) = (Throttle::default(), Instant::now());
        let (asked, alone, rate, units, why) = (None, None, None, 0.0, String::new());
        Beside { ratio_max, settings, throttle, begun: now, asked, alone, rate, units, free_at: now, why }
    }

    /// What slows the reader down; empty: nothing.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Whether it goes at a pace, because somebody else is there.
    pub fn is_slowed(&self) -> bool {
        self.rate.is_some()
    }

    /// Waits until more may be read, after so many bytes were; before the first ones with 0.
    pub async fn took(&mut self, bytes: usize, admin: &Admin) -> Result<()> {
        let units = bytes as f64 / UNIT_BYTES;
        self.units += units;
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            self.ask(admin).await?;
        }
        if let Some(rate) = self.rate {
            self.free_at =
                self.free_at.max(Instant::now()) + Duration::from_secs_f64((units / rate.max(1.0)).min(60.0));
            tokio::time::sleep_until(self.free_at).await;
        }
        Ok(())
    }

    async fn ask(&mut self, admin: &Admin) -> Result<()> {
        let mut pressure = admin.status().await?.pressure;
        let is_old = self.alone.is_none_or(|(_, when)| when.elapsed() >= MEASURE_EVERY);
        if is_live(&pressure) && is_old {
            if self.asked.is_some() {
                let window = Duration::from_millis(pressure.window_ms).min(WINDOW_MAX);
                tokio::time::sleep(window + ASK_EVERY).await;
                pressure = admin.status().await?.pressure;
            }
            self.measured(&pressure);
        }
        self.decide(&pressure, Instant::now());
        Ok(())
    }

    /// What live commits take now they take without the reader.
    fn measured(&mut self, pressure: &Pressure) {
        let us = pressure.live_p99_us;
        self.alone = Some((us, Instant::now()));
        self.settings.live_p99_us_max = ((us as f64 * self.ratio_max) as u64).max(us + NOISE_US);
    }

    fn decide(&mut self, pressure: &Pressure, now: Instant) {
        let since = self.asked.map_or(Duration::ZERO, |asked| now - asked).as_secs_f64();
        let achieved = if since > 0.0 { self.units / since } else { 0.0 };
        (self.asked, self.units) = (Some(now), 0.0);
        let pressure = self.alone.is_some().then_some(pressure);
        let verdict = self.throttle.decide(now - self.begun, &self.settings, pressure, achieved);
        let (rate, why) = match verdict {
            Verdict::Go { rate, why } => (rate, why.unwrap_or_default()),
            Verdict::Pause(why) | Verdict::Stop(why) => (Some(LEAST), why),
        };
        (self.rate, self.why) = (rate, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_felt_slows_down_and_one_that_nobody_feels_does_not() {
        let felt =
            |live_p99_us, live_commits| Pressure { live_p99_us, live_commits, window_ms: 1000, ..Pressure::default() };
        let run = |after: u64, commits| {
            let mut reader = Beside::new(1.2);
            if commits > 100 {
                reader.measured(&felt(1000, commits));
            }
            let begun = Instant::now();
            for second in 1..40 {
                // As much as it may, or all that there is.
                reader.units = reader.rate.unwrap_or(100_000.0);
                reader.decide(&felt(after, commits), begun + Duration::from_secs(second));
            }
            (reader.rate, reader.why)
        };
        let (rate, why) = run(5000, 500);
        assert!(rate == Some(LEAST) && why.contains("5000 us"), "{rate:?} {why}");
        assert!(run(1100, 500).0.is_none_or(|rate| rate > 100_000.0), "within its budget");
        assert_eq!(run(5000, 0).0, None, "nobody to be careful for");
    }
}
