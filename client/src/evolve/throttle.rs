//! Owns the throttle: how fast a worker may go, decided by what live traffic feels. Pure.
//!
//! ```text
//!   budget   an absolute bound, or live_ratio_max times what live commits take that meet no batch draft in the same seconds;
//!            and twice that of what they take in quiet seconds, for what is felt by all of them: but then never below a third of
//!            what the worker has reached, since nobody knows that it is the reason
//!   start    beside live traffic: slowly, then half as much again, three times a second, until it is too much or nothing binds
//!   over     rate = rate · budget / p99, at least half of it; then the server's window, some seconds long, has to pass
//!   under    rate = 1.25 · rate, once a second, up to near where it was too much, then 1.05 · rate; one that is not used is no
//!            bound any more
//!   disk     little free: pause; very little: stop
//! ```
//!
//! Why the same seconds: on a machine that is busy with other things all commits take longer, and an evolve that slows down for
//! that starves. Why the window has to pass: it shows a slow second for as long as it is, and that is not to be answered four times.
//!
//! The quiet baseline must be measured beside a job that runs for hours, so all workers leave the same two seconds of each
//! minute free of commits. Their common clock is the tids, which they all have from the server. A worker's first minute has none: what
//! was before it is the baseline, if there is one, and a job that is done by then has spared them.

use std::time::Duration;
use zeolite_proto::evolve::{LOW_DISK, Settings};
use zeolite_proto::{Pressure, Tid};

/// Between two adjustments.
const ADJUST_EVERY: Duration = Duration::from_secs(1);
/// The rate of the first moment beside live traffic, in objects a second, and how it grows while nobody feels it.
const START: f64 = 1000.0;
const STARTING_EVERY: Duration = Duration::from_millis(300);
const STARTING_INCREASE: f64 = 1.5;
/// A rate of which less than this is used does not bind.
const BINDS: f64 = 0.4;
/// The least and the most of a rate that is left of it when it is too much.
const DECREASE: (f64, f64) = (0.5, 0.9);
const INCREASE: f64 = 1.25;
const INCREASE_NEAR: f64 = 1.05;
/// So near to the rate that was too much.
const NEAR: f64 = 0.8;
/// What is left of the best rate where it is not sure who is the reason.
const UNSURE: f64 = 1.0 / 3.0;
/// Live commits may take so many budgets of quiet seconds before an evolve counts as the reason that all of them are slow.
const FELT_BY_ALL: f64 = 2.0;
/// Fewer live commits in the window say nothing about a 99th percentile.
const LIVE_COMMITS_MIN: u64 = 20;
/// The part of each minute without batch commits: one whole second of the server's lies within.
const QUIET: Duration = Duration::from_secs(2);
/// So long a worker does not ask for a baseline that there is when it begins.
const FRESH: Duration = Duration::from_secs(60);
/// While there is no baseline at all, or the worker is as slow as it gets and the site is still over it (so that it may be slower
/// for reasons of its own), one is asked for this often.
const ASK_EVERY: Duration = Duration::from_secs(20);

/// What a worker may do.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Verdict {
    /// Go on; objects a second at most, and what binds, if something does.
    Go { rate: Option<f64>, why: Option<String> },
    /// Wait for the operator to make room.
    Pause(String),
    /// Give up.
    Stop(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Start {
    /// Nothing was decided so far.
    #[default]
    Before,
    Slow,
    Over,
}

/// The state of one worker's throttle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttle {
    rate: Option<f64>,
    why: Option<String>,
    start: Start,
    /// The rate that was too much.
    ceiling: f64,
    /// The most that it has reached.
    best: f64,
    /// When the window shows nothing of before the last decrease any more.
    seen_from: Duration,
    adjusted: Option<Duration>,
    /// When there was something to decide by.
    begun: Option<Duration>,
    quiet_minute: Option<u64>,
    asked: Option<Duration>,
    /// Slowed down as far as it goes.
    at_the_floor: bool,
}

impl Throttle {
    /// Decides; `now` counts from anywhere, `achieved` is the worker's own rate lately.
    pub(crate) fn decide(
        &mut self,
        now: Duration,
        settings: &Settings,
        pressure: Option<&Pressure>,
        achieved: f64,
    ) -> Verdict {
        if let Some(free) = pressure.and_then(Pressure::free_percent) {
            if free < settings.disk_stop_percent {
                let least = settings.disk_stop_percent;
                let what = format!("the job stops below {least} %; make room, then resume it");
                return Verdict::Stop(format!("{LOW_DISK}: {free:.1} % is free, {what}"));
            }
            if free < settings.disk_pause_percent {
                let least = settings.disk_pause_percent;
                return Verdict::Pause(format!("{LOW_DISK}: {free:.1} % is free, until there is room ({least} %)"));
            }
        }
        if let Some(pressure) = pressure {
            if self.start == Start::Before {
                self.begin(settings, pressure);
            }
            let every = if self.start == Start::Slow { STARTING_EVERY } else { ADJUST_EVERY };
            if self.adjusted.is_none_or(|last| now >= last + every) && now >= self.seen_from {
                self.adjusted = Some(now);
                self.adjust(now, settings, pressure, achieved);
            }
        }
        let bound = (settings.rate_max > 0.0).then_some(settings.rate_max);
        match (self.rate, bound) {
            (Some(rate), Some(bound)) if bound < rate => Verdict::Go { rate: Some(bound), why: None },
            (Some(rate), _) => Verdict::Go { rate: Some(rate), why: self.why.clone() },
            (None, bound) => Verdict::Go { rate: bound, why: None },
        }
    }

    fn begin(&mut self, settings: &Settings, pressure: &Pressure) {
        self.start = Start::Over;
        if is_live(pressure) && !budgets(settings, pressure).is_empty() {
            self.start = Start::Slow;
            // The first adjustment raises it to this.
            self.rate = Some(START / STARTING_INCREASE);
            self.why = Some("starting slowly beside live traffic".into());
        }
    }

    fn adjust(&mut self, now: Duration, settings: &Settings, pressure: &Pressure, achieved: f64) {
        self.best = self.best.max(achieved);
        match over(settings, pressure) {
            None if self.start == Start::Slow => {
                let rate = self.rate.unwrap_or(START);
                // The first rate has not been tried yet.
                let binds = rate < START || achieved >= rate * BINDS;
                self.rate = binds.then_some(rate * STARTING_INCREASE);
                if !binds {
                    self.start = Start::Over;
                    self.why = None;
                }
            }
            Some(Over { why, part, is_sure }) => {
                self.start = Start::Over;
                // What a worker was allowed and did not use is no measure.
                let used = self.rate.map_or(achieved, |rate| rate.min(achieved.max(rate * DECREASE.0)));
                self.ceiling = used;
                let floor = settings.rate_min.max(if is_sure { 0.0 } else { self.best * UNSURE });
                let slower = (used * part.clamp(DECREASE.0, DECREASE.1)).max(floor);
                self.rate = Some(slower);
                self.at_the_floor = slower <= floor;
                self.seen_from = now + Duration::from_millis(pressure.window_ms);
                self.why = Some(why);
            }
            None => {
                self.at_the_floor = false;
                if let Some(rate) = self.rate {
                    let binds = achieved >= rate * BINDS;
                    let is_near = rate * INCREASE > self.ceiling * NEAR && rate < self.ceiling / NEAR;
                    self.rate = binds.then_some(rate * if is_near { INCREASE_NEAR } else { INCREASE });
                    if !binds {
                        self.why = None;
                    }
                }
            }
        }
    }

    /// How long to commit nothing now, so that the server can measure its quiet baseline; none: not now.
    pub(crate) fn quiet(&mut self, now: Duration, newest: Tid, pressure: Option<&Pressure>) -> Option<Duration> {
        let pressure = pressure.filter(|pressure| is_live(pressure))?;
        let (minute, into) = (newest.0 >> 32, into_minute(newest));
        let begun = *self.begun.get_or_insert(now);
        let is_fresh = pressure.quiet_p99_us > 0 && now < begun + FRESH;
        if !is_fresh && into < QUIET && self.quiet_minute != Some(minute) {
            self.quiet_minute = Some(minute);
            return Some(QUIET - into);
        }
        let unsure = pressure.quiet_p99_us == 0 || self.at_the_floor;
        if unsure && self.asked.is_none_or(|asked| now >= asked + ASK_EVERY) {
            self.asked = Some(now);
            return Some(QUIET);
        }
        None
    }
}

/// Whether there is live traffic that could feel anything.
pub(crate) fn is_live(pressure: &Pressure) -> bool {
    pressure.live_commits >= LIVE_COMMITS_MIN
}

/// How far into its minute a tid is.
fn into_minute(tid: Tid) -> Duration {
    Duration::from_nanos(((u128::from(tid.0 & 0xffff_ffff) * 60_000_000_000) >> 32) as u64)
}

/// What is over its budget.
struct Over {
    why: String,
    /// Which part of it the budget is.
    part: f64,
    /// Whether it is this that makes live commits slow.
    is_sure: bool,
}

fn over(settings: &Settings, pressure: &Pressure) -> Option<Over> {
    if pressure.queue_live > settings.queue_live_max {
        let why = format!("{} live drafts wait, over {}", pressure.queue_live, settings.queue_live_max);
        return Some(Over { why, part: DECREASE.0, is_sure: true });
    }
    let p99 = pressure.live_p99_us;
    let over = |budget: &Budget| is_live(pressure) && p99 > budget.us;
    budgets(settings, pressure).into_iter().find(over).map(|budget| Over {
        why: format!("live p99 {p99} us is over {} us, {}", budget.us, budget.by),
        part: budget.us as f64 / p99.max(1) as f64,
        is_sure: budget.is_sure,
    })
}

/// What live commits may take.
struct Budget {
    us: u64,
    by: String,
    is_sure: bool,
}

/// All that count, the surest first; none: there is nothing to compare with.
fn budgets(settings: &Settings, pressure: &Pressure) -> Vec<Budget> {
    let (ratio, bound) = (settings.live_ratio_max, settings.live_p99_us_max);
    if bound > 0 {
        return vec![Budget { us: bound, by: "the bound".into(), is_sure: true }];
    }
    let of = |us: u64, times: f64, what: &str, is_sure| {
        let by = format!("{times} times the {us} us {what}");
        (us > 0).then_some(Budget { us: (us as f64 * times) as u64, by, is_sure })
    };
    let (apart, quiet) = (pressure.apart_p99_us, pressure.quiet_p99_us);
    let by_all = if apart > 0 { ratio * FELT_BY_ALL } else { ratio };
    let apart = of(apart, ratio, "of those that met no chunk", true);
    apart.into_iter().chain(of(quiet, by_all, "of quiet seconds", false)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn felt(live_p99_us: u64) -> Pressure {
        Pressure { live_p99_us, quiet_p99_us: 1000, live_commits: 500, window_ms: 5000, ..Pressure::default() }
    }

    fn rate(verdict: Verdict) -> Option<f64> {
        match verdict {
            Verdict::Go { rate, .. } => rate,
            other => panic!("{other:?}"),
        }
    }

    /// A site whose p99 grows with the worker's rate: the throttle finds the rate at which the budget just holds.
    #[test]
    fn the_rate_settles_below_the_budget() {
        let (settings, mut throttle) = (Settings::default(), Throttle::default());
        let mut achieved = 10_000.0_f64;
        let mut over = 0;
        for second in 0..600 {
            let p99 = 1000.0 + achieved / 10.0;
            let verdict = throttle.decide(Duration::from_secs(second), &settings, Some(&felt(p99 as u64)), achieved);
            if second > 60 {
                over += u32::from(p99 > 1500.0);
                assert!((2500.0..6000.0).contains(&achieved), "second {second}: {achieved}");
            }
            achieved = rate(verdict).unwrap_or(10_000.0).min(10_000.0);
        }
        assert!(over < 180, "over the budget in {over} of 540 seconds");
    }

    #[test]
    fn a_bound_is_named_and_given_up_again() {
        let (settings, mut throttle) = (Settings::default(), Throttle::default());
        let mut at =
            |second, p99, achieved| throttle.decide(Duration::from_secs(second), &settings, Some(&felt(p99)), achieved);
        assert_eq!(rate(at(0, 1400, 0.0)), Some(1000.0));
        match at(1, 9000, 1000.0) {
            Verdict::Go { rate: Some(rate), why: Some(why) } => {
                assert!((499.0..501.0).contains(&rate) && why.contains("9000 us") && why.contains("1500 us"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        let mut freed = None;
        for second in 6..60 {
            let verdict = at(second, 1000, 600.0);
            if rate(verdict).is_none() {
                freed = Some(second);
                break;
            }
        }
        assert!((10..30).contains(&freed.expect("free again")), "{freed:?}");
    }

    #[test]
    fn beside_live_traffic_it_starts_slowly_and_is_soon_free_where_nobody_feels_it() {
        let (settings, mut throttle) = (Settings::default(), Throttle::default());
        let mut achieved = 0.0;
        let mut rates = Vec::new();
        for step in 0..40 {
            let now = Duration::from_millis(step * 300);
            let allowed = rate(throttle.decide(now, &settings, Some(&felt(1100)), achieved));
            rates.push(allowed);
            achieved = allowed.unwrap_or(50_000.0).min(50_000.0);
        }
        assert_eq!((rates[0], rates[1], rates[2]), (Some(1000.0), Some(1500.0), Some(2250.0)));
        let freed = rates.iter().position(Option::is_none).expect("free in the end");
        assert!((8..16).contains(&freed), "{rates:?}");
        let idle = Pressure { live_commits: 0, ..felt(0) };
        let alone = Throttle::default().decide(Duration::ZERO, &settings, Some(&idle), 0.0);
        assert_eq!(rate(alone), None, "nobody to be careful for");
    }

    #[test]
    fn one_window_is_not_punished_twice() {
        let (settings, mut throttle) = (Settings::default(), Throttle::default());
        let mut at = |ms| {
            throttle.decide(
                Duration::from_millis(ms),
                &settings,
                Some(&Pressure { apart_p99_us: 1000, ..felt(9000) }),
                1000.0,
            )
        };
        let first = rate(at(0));
        assert_eq!((rate(at(1000)), rate(at(4999))), (first, first), "the window still shows what it was answered for");
        assert!(rate(at(5000)) < first);
        for second in 2..100 {
            at(second * 1000);
        }
        assert_eq!(rate(at(100_000)), Some(settings.rate_min), "never down to nothing");
    }

    /// A machine that is busy with something else: all commits are slow, those that meet a chunk no more than the others.
    #[test]
    fn what_others_do_to_the_site_is_not_answered() {
        let (settings, mut throttle) = (Settings::default(), Throttle::default());
        let mut at = |second, live_p99_us, apart_p99_us| {
            let felt = Pressure { apart_p99_us, ..felt(live_p99_us) };
            rate(throttle.decide(Duration::from_secs(second), &settings, Some(&felt), 1000.0))
        };
        let before = at(0, 1000, 900).expect("it starts slowly");
        assert!(at(1, 2800, 2500).is_none_or(|rate| rate > before), "as slow without a chunk");
        assert!(at(2, 2800, 1500).is_some_and(|rate| rate < before), "slower with one");
        let mut throttle = Throttle::default();
        let all = Pressure { apart_p99_us: 3900, ..felt(4000) };
        throttle.decide(Duration::ZERO, &settings, Some(&all), 1000.0);
        let slowed = rate(throttle.decide(Duration::from_secs(1), &settings, Some(&all), 1000.0));
        assert!(
            slowed.is_some_and(|rate| rate < 1000.0),
            "all of them are far slower than in quiet seconds: {slowed:?}"
        );
        for second in 2..100 {
            let slowed = rate(throttle.decide(Duration::from_secs(second), &settings, Some(&all), 333.0));
            assert!(slowed.is_some_and(|rate| rate > 300.0), "nobody knows that it is the reason: {slowed:?}");
        }
    }

    #[test]
    fn an_absolute_bound_and_the_queue_count_without_a_baseline() {
        let settings = Settings::default().live_p99_us_max(5000);
        let blind = Pressure { quiet_p99_us: 0, ..felt(6000) };
        let decide = |settings: &Settings, pressure: &Pressure| {
            rate(Throttle::default().decide(Duration::ZERO, settings, Some(pressure), 100.0))
        };
        assert!(decide(&settings, &blind).is_some());
        assert_eq!(decide(&Settings::default(), &blind), None, "nothing to compare with");
        assert!(decide(&Settings::default(), &Pressure { queue_live: 65, ..blind }).is_some());
        assert_eq!(decide(&settings, &Pressure { live_commits: 3, ..blind }), None, "too few to judge");
        let settings = settings.rate_max(50.0);
        assert_eq!(decide(&settings, &blind), Some(50.0));
        assert_eq!(decide(&settings, &felt(0)), Some(50.0));
    }

    #[test]
    fn little_disk_pauses_and_less_stops() {
        let at = |free_bytes| {
            let pressure = Pressure { free_bytes, disk_bytes: 1000, ..felt(0) };
            Throttle::default().decide(Duration::ZERO, &Settings::default(), Some(&pressure), 0.0)
        };
        assert!(matches!(at(151), Verdict::Go { .. }));
        assert!(matches!(at(149), Verdict::Pause(why) if why.contains("14.9 %")));
        assert!(matches!(at(51), Verdict::Pause(_)));
        assert!(matches!(at(49), Verdict::Stop(why) if why.contains("4.9 %")));
        let unknown = Throttle::default().decide(Duration::ZERO, &Settings::default(), None, 0.0);
        assert_eq!(unknown, Verdict::Go { rate: None, why: None });
    }

    #[test]
    fn the_first_seconds_of_a_minute_are_quiet_once() {
        let mut throttle = Throttle::default();
        let tid = |minute: u64, ms: u64| Tid((minute << 32) | ((ms << 32) / 60_000));
        let first = throttle.quiet(Duration::ZERO, tid(7, 0), Some(&felt(0)));
        assert_eq!(first, None, "what was before it began is fresh");
        let mut at = |minute, ms| throttle.quiet(FRESH, tid(minute, ms), Some(&felt(0)));
        assert_eq!(at(7, 30_000), None);
        let pause = at(8, 500).expect("quiet");
        assert!((1499..=1501).contains(&(pause.as_millis() as u64)), "{pause:?}");
        assert_eq!(at(8, 1900), None, "the same minute");
        assert!(at(9, 0).is_some());
        let idle = Pressure { live_commits: 0, ..felt(0) };
        assert_eq!(throttle.quiet(Duration::ZERO, tid(10, 0), Some(&idle)), None, "nobody to measure");
        let blind = Pressure { quiet_p99_us: 0, ..felt(0) };
        assert!(throttle.quiet(Duration::ZERO, tid(10, 30_000), Some(&blind)).is_some(), "no baseline yet");
        assert_eq!(throttle.quiet(Duration::from_secs(19), tid(10, 31_000), Some(&blind)), None);
        assert!(throttle.quiet(Duration::from_secs(20), tid(10, 32_000), Some(&blind)).is_some());

        // As slow as it gets, and the site is still over the budget: it may be slower by itself.
        let settings = Settings::default().rate_min(1000.0);
        let mut throttle = Throttle::default();
        throttle.decide(Duration::ZERO, &settings, Some(&felt(9000)), 0.0);
        throttle.decide(Duration::from_secs(1), &settings, Some(&felt(9000)), 1000.0);
        assert!(throttle.quiet(Duration::from_secs(1), tid(10, 33_000), Some(&felt(9000))).is_some());
        throttle.decide(Duration::from_secs(30), &settings, Some(&felt(900)), 1000.0);
        assert_eq!(throttle.quiet(Duration::from_secs(30), tid(10, 34_000), Some(&felt(900))), None, "it goes");
    }
}
