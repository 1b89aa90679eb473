//! Owns the keeper: the loop that looks at the clock and the disk on behalf of everybody else.
//!
//! A few times a second it ends a mode whose time is over, makes the database read-only when the disk is nearly full or
//! the store is poisoned, keeps who follows, begins a new second of the pressure gauge and lets the heat cool. Nothing waits for it.

use crate::engine::Engine;
use crate::engine::keep::mode::DiskRoom;
use crate::engine::numbers::heat::HALF_LIFE;
use crate::engine::turn::Turn;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// Between two turns.
const PAUSE: Duration = Duration::from_millis(200);

/// The keeper's state; nobody else has it.
pub(crate) struct Keeper {
    pub(crate) engine: Arc<Engine>,
    room: DiskRoom,
    cooled: Duration,
}

/// Ends the keeper's loop.
#[derive(Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    rung: Condvar,
}

impl Stop {
    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.rung.notify_all();
    }

    /// Waits for the next turn; true: there is none.
    pub(crate) fn wait(&self, pause: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.rung.wait_for(&mut stopped, pause);
        }
        *stopped
    }
}

impl Keeper {
    pub(crate) fn new(engine: Arc<Engine>) -> Keeper {
        let cooled = engine.clock().steady();
        Keeper { engine, room: DiskRoom::Enough, cooled }
    }

    /// Looks at everything once.
    pub(crate) fn turn(&mut self) -> Turn {
        let engine = &self.engine;
        let now = engine.clock().steady();
        let (free, size) = (engine.setup.disk.free_bytes().ok(), engine.setup.disk.size_bytes().unwrap_or(0));
        self.room = room(self.room, free, engine.settings().read_only_below_free_bytes);
        engine.keep_mode(self.room);
        engine.keep_followers(false);
        engine.numbers.turn(now, (free.unwrap_or(0), size));
        if now.saturating_sub(self.cooled) >= HALF_LIFE {
            self.cooled = now;
            engine.numbers.cool();
        }
        Turn::Worked
    }

    pub(crate) fn run(mut self, stop: &Stop) {
        loop {
            self.turn();
            if stop.wait(PAUSE) {
                self.engine.keep_followers(true);
                return;
            }
        }
    }
}

/// Low below the limit; enough again only with a quarter more, so that the mode does not flicker. A disk that does not
/// tell counts as before.
fn room(before: DiskRoom, free_bytes: Option<u64>, limit: u64) -> DiskRoom {
    let Some(free_bytes) = free_bytes else { return before };
    let limit = if before == DiskRoom::Enough { limit } else { limit.saturating_add(limit / 4) };
    if free_bytes < limit { DiskRoom::Low { free_bytes } } else { DiskRoom::Enough }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_low_until_there_is_a_quarter_more() {
        let low = room(DiskRoom::Enough, Some(99), 100);
        assert_eq!(low, DiskRoom::Low { free_bytes: 99 });
        assert_eq!(room(low, Some(120), 100), DiskRoom::Low { free_bytes: 120 });
        assert_eq!(room(low, None, 100), low);
        assert_eq!(room(low, Some(125), 100), DiskRoom::Enough);
        assert_eq!(room(DiskRoom::Enough, Some(100), 100), DiskRoom::Enough);
        assert_eq!(room(DiskRoom::Enough, Some(0), 0), DiskRoom::Enough, "a limit of 0 is off");
    }
}
