//! Owns who turns the sequencer: its own thread, or, while that sleeps, whoever brings something.
//!
//! ```text
//!   brings ──> intake ──┬─ the thread is awake, or somebody turns ──> it is taken after what is before it
//!                       └─ it sleeps ──> he turns the sequencer himself, until nothing is left
//! ```
//! To put a draft in order takes a few microseconds; to wake a thread for it, and to be woken by it with the answer, takes more of both
//! processors than that. A first phase is answered so before its caller has looked for anything else. There is one sequencer and one lock
//! around it: what is decided, and in which order, does not depend on whose thread it is.
//!
//! A caller has work of his own, and others wait for his thread: so what takes long, or has to wait for the writer, is left to the
//! sequencer's thread, and so is what is left after [`TURNS_MAX`] turns.

use crate::engine::Engine;
use crate::engine::pipeline::intake::{Helper, Intake};
use crate::engine::pipeline::sequencer::{By, Sequencer};
use crate::engine::turn::Turn;
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

/// So much is done for others in a row.
const TURNS_MAX: usize = 16;

/// The sequencer, for who turns it.
pub(crate) struct Turning {
    /// None: it has ended, or has panicked. Nobody waits for this lock but the thread.
    sequencer: Mutex<Option<Box<Sequencer>>>,
    engine: Arc<Engine>,
    died: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Turning {
    /// From here on callers help. `died` is told when the sequencer has panicked in the thread of one of them.
    pub(crate) fn begin(
        engine: Arc<Engine>,
        sequencer: Sequencer,
        died: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Arc<Turning> {
        let turning = Arc::new(Turning { sequencer: Mutex::new(Some(Box::new(sequencer))), engine, died });
        let helper: Weak<Turning> = Arc::downgrade(&turning);
        turning.intake().is_helped_by(helper);
        turning
    }

    fn intake(&self) -> &Arc<Intake> {
        self.engine.intake()
    }

    /// The life of the sequencer's thread.
    pub(crate) fn run(&self) {
        loop {
            let at_most = {
                let mut there = self.sequencer.lock();
                // Taken out meanwhile: were there a panic, it would be gone.
                let Some(mut sequencer) = there.take() else { return };
                match sequencer.turn(By::Thread) {
                    Turn::Ended => return,
                    Turn::Worked => {
                        *there = Some(sequencer);
                        continue;
                    }
                    Turn::Idle => there.insert(sequencer).sleep_for(),
                }
            };
            self.intake().wait(at_most);
        }
    }

    /// Turns until nothing is left to do here. Whether the thread has to go on.
    fn turn_for_others(sequencer: &mut Sequencer) -> bool {
        if sequencer.needs_its_thread() {
            return true;
        }
        for _ in 0..TURNS_MAX {
            if sequencer.turn(By::Caller) != Turn::Worked {
                break;
            }
        }
        sequencer.needs_its_thread()
    }
}

impl Helper for Turning {
    fn help(&self) {
        let (mut goes_on, mut panicked) = (false, false);
        if let Some(mut there) = self.sequencer.try_lock()
            && let Some(sequencer) = there.as_mut()
        {
            match catch_unwind(AssertUnwindSafe(|| Turning::turn_for_others(sequencer))) {
                Ok(left) => goes_on = left,
                Err(_) => (*there, panicked) = (None, true),
            }
        }
        if panicked {
            self.engine.die("sequencer");
            (self.died)("sequencer");
        }
        self.intake().help_ends(goes_on || panicked);
    }
}
