//! Owns the loops: sequencer, writer, mergers, settle loop, keeper, sweeper; turned by threads in a server, by hand in a test.

use crate::engine::Engine;
use crate::engine::blobs::Sweeper;
use crate::engine::keep::keeper::{Keeper, Stop};
use crate::engine::keep::prepared_cell::InPieces;
use crate::engine::pipeline::mergers::Merger;
use crate::engine::pipeline::sequencer::{By, Sequencer};
use crate::engine::pipeline::turning::Turning;
use crate::engine::pipeline::writer::Writer;
use crate::engine::turn::Turn;
use crate::engine::work::giving_way::{SETTLE_NICE, give_way};
use crate::engine::work::long_work::LongWork;
use crate::engine::work::settling::SettleLoop;
use crate::storage::{Append, StoreError, Upkeep};
use std::sync::Arc;
use std::thread::JoinHandle;
use zeolite_proto::Tid;

/// What the loops are made of; see [`Loops`].
pub(crate) struct Parts {
    pub(crate) append: Box<dyn Append>,
    pub(crate) upkeep: Arc<dyn Upkeep>,
    pub(crate) last: Tid,
    pub(crate) last_of_others: Tid,
    /// Drafts that were prepared in an earlier life.
    pub(crate) prepared: Vec<InPieces>,
}

/// The engine's loops, not running yet.
pub struct Loops {
    sequencer: Sequencer,
    writer: Writer,
    mergers: Vec<Merger>,
    settle: SettleLoop,
    keeper: Keeper,
    sweeper: Sweeper,
    upkeep: Arc<dyn Upkeep>,
    long_work: Arc<LongWork>,
}

/// The engine's loops, each on its thread.
pub struct Running {
    engine: Arc<Engine>,
    pipeline: Vec<JoinHandle<Option<()>>>,
    settle: JoinHandle<Option<()>>,
    keeper: JoinHandle<Option<()>>,
    sweeper: JoinHandle<Option<()>>,
    stop_keeping: Arc<Stop>,
    stop_settling: Arc<std::sync::atomic::AtomicBool>,
    writer: JoinHandle<Option<Writer>>,
    upkeep: Arc<dyn Upkeep>,
    long_work: Arc<LongWork>,
}

impl Loops {
    pub(crate) fn new(engine: Arc<Engine>, parts: Parts) -> Loops {
        let (to_writer, from_sequencer) = crossbeam_channel::bounded(engine.settings().hop_max);
        let (to_mergers, questions) = crossbeam_channel::bounded(1024);
        let mut sequencer = Sequencer::new(
            engine.clone(),
            engine.settings().recent_bounds(),
            (parts.last, parts.last_of_others),
            to_writer,
            to_mergers,
        );
        parts.prepared.into_iter().for_each(|draft| sequencer.take_up(draft, Tid::NONE));
        let writer = Writer::new(engine.clone(), parts.append, from_sequencer);
        let merger = || Merger { engine: engine.clone(), from_sequencer: questions.clone() };
        let mergers = (0..engine.settings().mergers.max(1)).map(|_| merger()).collect();
        let upkeep = parts.upkeep;
        let txns_max = engine.settings().settle_txns_max;
        engine.long_work().connect(upkeep.clone());
        let long_work = engine.long_work().clone();
        let (keeper, sweeper) = (Keeper::new(engine.clone()), Sweeper::new(engine.clone()));
        let settle = SettleLoop::new(engine, upkeep.clone(), txns_max);
        Loops { sequencer, writer, mergers, settle, keeper, sweeper, upkeep, long_work }
    }

    /// One ask of the sequencer.
    pub fn turn_sequencer(&mut self) -> Turn {
        self.sequencer.turn(By::Hand)
    }

    /// One batch of the writer.
    pub fn turn_writer(&mut self) -> Turn {
        self.writer.turn(false)
    }

    /// One draft of the mergers.
    pub fn turn_merger(&mut self) -> Turn {
        self.mergers.first_mut().map_or(Turn::Idle, |merger| merger.turn(false))
    }

    /// One portion of the settle loop.
    pub fn turn_settle(&mut self) -> Turn {
        self.settle.turn(false)
    }

    /// One look of the keeper at the clock and the disk.
    pub fn turn_keeper(&mut self) -> Turn {
        self.keeper.turn()
    }

    /// One look of the sweeper at what is staged.
    pub fn turn_sweeper(&mut self) -> Turn {
        self.sweeper.turn()
    }

    /// Turns sequencer, mergers and writer until none has anything to do.
    pub fn run_dry(&mut self) {
        loop {
            let turns = [self.turn_sequencer(), self.turn_merger(), self.turn_writer()];
            if !turns.contains(&Turn::Worked) {
                return;
            }
        }
    }

    /// Closes the store after [`Engine::shut_down`], for loops that were turned by hand: what was admitted is finished, the
    /// index takes what is left and is checkpointed.
    pub fn close(&mut self) -> Result<(), StoreError> {
        self.run_dry();
        self.turn_settle();
        self.upkeep.close()
    }

    /// Starts a thread for each loop. `died` is told the name of a loop that has panicked: the engine is poisoned then.
    pub fn spawn(self, died: impl Fn(&str) + Send + Sync + 'static) -> Running {
        let Loops { sequencer, mut writer, mergers, mut settle, keeper, sweeper, upkeep, long_work } = self;
        let stop_settling = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let guard = Guard { engine: settle.engine.clone(), died: Arc::new(died) };
        let turning = Turning::begin(guard.engine.clone(), sequencer, guard.died.clone());
        let mut pipeline = vec![guard.thread("sequencer", move || turning.run())];
        for mut merger in mergers {
            pipeline.push(guard.thread("merger", move || while merger.turn(true) != Turn::Ended {}));
        }
        let writer = guard.thread("writer", move || {
            while writer.turn(true) != Turn::Ended {}
            writer
        });
        let stop = stop_settling.clone();
        let settle = guard.thread("settle loop", move || {
            give_way(SETTLE_NICE);
            while !stop.load(std::sync::atomic::Ordering::Acquire) {
                settle.turn(true);
            }
        });
        let stop_keeping = Arc::new(Stop::default());
        let until = stop_keeping.clone();
        let keeper = guard.thread("keeper", move || keeper.run(&until));
        let until = stop_keeping.clone();
        let sweeper = guard.thread("sweeper", move || sweeper.run(&until));
        let engine = guard.engine;
        Running { engine, pipeline, settle, keeper, sweeper, stop_keeping, stop_settling, writer, upkeep, long_work }
    }
}

/// How a store is closed. Nothing that was acknowledged is lost either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// The index takes what is left and is checkpointed: the next start replays nothing.
    Settled,
    /// At once: the next start replays the end of the log, as after a crash, which takes less time than a checkpoint.
    AtOnce,
}

impl Running {
    /// Waits until the loops have ended (call `Engine::shut_down` first), then closes the store.
    pub fn join(self, leaving: Leaving) -> Result<(), StoreError> {
        self.pipeline.into_iter().for_each(|one| {
            join(one);
        });
        self.stop_keeping.stop();
        join(self.keeper);
        join(self.sweeper);
        let writer = join(self.writer);
        // A pack ends between two portions; the upkeep is the last that touches the index.
        self.long_work.wait_for_end();
        self.stop_settling.store(true, std::sync::atomic::Ordering::Release);
        join(self.settle);
        drop(writer);
        // What has died has half changed something, perhaps: the next start makes it whole from the log.
        if self.engine.health.has_died() || leaving == Leaving::AtOnce { Ok(()) } else { self.upkeep.close() }
    }
}

/// What watches over the threads of an engine.
///
/// A loop that panics leaves drafts unanswered and state half changed, and the log as it was. Nothing more is written then:
/// the engine is poisoned, everybody who waits is told that the outcome is unknown, reads go on. Clients learn the outcome
/// by their commit keys after the restart.
struct Guard {
    engine: Arc<Engine>,
    died: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Guard {
    fn thread<T: Send + 'static>(
        &self,
        name: &'static str,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let (engine, died) = (self.engine.clone(), self.died.clone());
        let guarded = move || match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            Ok(value) => Some(value),
            Err(_) => {
                engine.die(name);
                died(name);
                None
            }
        };
        let spawned = std::thread::Builder::new().name(format!("zeolite-{name}")).spawn(guarded);
        spawned.expect("the system has a thread left for the server's own loops")
    }
}

/// What the loop left; `None`: it has panicked, which was caught and told.
fn join<T>(handle: JoinHandle<Option<T>>) -> Option<T> {
    handle.join().expect("panics of loops are caught in their threads")
}
