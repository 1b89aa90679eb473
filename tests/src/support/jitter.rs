//! Owns the jitter of a disk: every call may let other threads run first, as the seed says.
//!
//! Threads on a quiet machine take turns at the same few places. A disk call is where a real server is interrupted, so here
//! each one yields a random number of times; with one seed after the other the threads meet in many orders.

use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use zeolite_server::store::disk::sim::SimOp;
use zeolite_server::store::disk::watched::{Call, Watch};

/// Yields at random.
#[derive(Clone)]
pub struct Jitter {
    dice: Arc<Mutex<fastrand::Rng>>,
}

impl Jitter {
    /// The seed decides how often.
    pub fn new(seed: u64) -> Jitter {
        Jitter { dice: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))) }
    }

    /// Lets others run, perhaps.
    pub fn pause(&self) {
        let times = self.dice.lock().u32(0..6);
        (0..times).for_each(|_| std::thread::yield_now());
    }
}

impl Watch for Jitter {
    fn before(&self, call: Call<'_>) -> io::Result<()> {
        if matches!(call.op, SimOp::Read | SimOp::Write | SimOp::Sync) {
            self.pause();
        }
        Ok(())
    }

    fn after(&self, call: Call<'_>) {
        if call.op == SimOp::Sync {
            self.pause();
        }
    }
}
