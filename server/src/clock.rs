//! Owns `Clock`: the door through which time comes in, so that a test can move it.

use std::time::Duration;

/// Wall time for tids, steady time for leases and deadlines.
pub trait Clock: Send + Sync + 'static {
    /// Nanoseconds since 1970-01-01 UTC. May jump, also back: tids do not follow it back.
    fn unix_nanos(&self) -> i128;
    /// Time since some fixed moment; never goes back.
    fn steady(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose steady time begins now.
    pub fn new() -> SystemClock {
        SystemClock { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door through which the time comes in")]
    fn unix_nanos(&self) -> i128 {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => since.as_nanos() as i128,
            Err(_) => 0,
        }
    }

    fn steady(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct HandClock {
    now: parking_lot::Mutex<(i128, Duration)>,
}

impl HandClock {
    /// Starts at a moment, in nanoseconds since 1970-01-01 UTC.
    pub fn at(unix_nanos: i128) -> HandClock {
        HandClock { now: parking_lot::Mutex::new((unix_nanos, Duration::ZERO)) }
    }

    /// Both times go on by this much.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        now.0 += by.as_nanos() as i128;
        now.1 += by;
    }

    /// The wall clock alone is set, as an operator or NTP does.
    pub fn set_wall(&self, unix_nanos: i128) {
        self.now.lock().0 = unix_nanos;
    }
}

impl Clock for HandClock {
    fn unix_nanos(&self) -> i128 {
        self.now.lock().0
    }

    fn steady(&self) -> Duration {
        self.now.lock().1
    }
}
