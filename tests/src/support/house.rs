//! Owns the house: a whole engine on a simulated disk, with a clock moved by hand, in one thread.
//!
//! ```text
//!   House ─┬─ HandClock   stands still until the test moves it
//!          ├─ SimDisk     survives `crash` and `restart`; what was not synced may be lost
//!          └─ a life      engine and loops: ended by `crash` (dropped as it stands) or `restart` (shut down in order)
//! ```
//! Nothing happens by itself: a submitted draft waits until a test turns the loops.

use super::resolvers;
use super::told::Told;
use std::sync::Arc;
use zeolite_proto::{Draft, Fault, Limits, Oid, Receipt, Registry};
use zeolite_server::engine::clock::{Clock, HandClock};
use zeolite_server::engine::{Engine, EngineSettings, Loops, Turn};
use zeolite_server::store::disk::Disk;
use zeolite_server::store::disk::sim::SimDisk;
use zeolite_server::store::{StoreError, StoreSettings};

/// 2026-01-01 00:00:00 UTC: where every house's clock begins.
pub const START_UNIX_NANOS: i128 = 1_767_225_600_000_000_000;

/// What a house is made of.
#[derive(Clone, Debug)]
pub struct HouseSettings {
    /// The store's.
    pub store: StoreSettings,
    /// The engine's.
    pub engine: EngineSettings,
    /// The limits.
    pub limits: Limits,
    /// The resolvers.
    pub registry: Registry,
}

impl Default for HouseSettings {
    fn default() -> Self {
        // Small caches: a test opens a house many times.
        let store = StoreSettings { cache_bytes: 1 << 20, index_cache_bytes: 1 << 20, ..StoreSettings::default() };
        let engine = EngineSettings { mergers: 1, ..EngineSettings::default() };
        HouseSettings { store, engine, limits: Limits::default(), registry: resolvers::registry() }
    }
}

/// An engine in one thread.
pub struct House {
    settings: HouseSettings,
    disk: SimDisk,
    clock: Arc<HandClock>,
    lives: u64,
    engine: Arc<Engine>,
    loops: Loops,
}

impl House {
    /// A house on a new disk.
    pub fn new(settings: HouseSettings) -> House {
        House::open(settings, SimDisk::new()).expect("an empty disk without faults opens")
    }

    /// A house on a disk that may have a past.
    pub fn open(settings: HouseSettings, disk: SimDisk) -> Result<House, StoreError> {
        let door = Arc::new(disk.clone());
        House::open_through(settings, disk, door)
    }

    /// The same, with the first life's calls going through another disk in front of it.
    pub fn open_through(settings: HouseSettings, disk: SimDisk, door: Arc<dyn Disk>) -> Result<House, StoreError> {
        let clock = Arc::new(HandClock::at(START_UNIX_NANOS));
        let (engine, loops) = begin(&settings, door, &clock, 1)?;
        Ok(House { settings, disk, clock, lives: 1, engine, loops })
    }

    /// The engine of this life.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The loops of this life.
    pub fn loops(&mut self) -> &mut Loops {
        &mut self.loops
    }

    /// The clock's time, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        (self.clock.unix_nanos() / 1_000_000) as u64
    }

    /// The clock.
    pub fn clock(&self) -> &HandClock {
        &self.clock
    }

    /// The disk of this life.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The settings; a change counts from the next life on.
    pub fn settings_mut(&mut self) -> &mut HouseSettings {
        &mut self.settings
    }

    /// A power cut: the life ends as it stands, the seed chooses what of the unsynced bytes survives, a new life begins.
    pub fn crash(&mut self, seed: u64) -> Result<(), StoreError> {
        let disk = self.disk.crash(seed);
        self.reopen(disk)
    }

    /// The process alone dies, the system stays: nothing that was written is lost.
    pub fn kill(&mut self) -> Result<(), StoreError> {
        let disk = self.disk.fork();
        self.reopen(disk)
    }

    /// Shuts down in order and begins a new life.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.shut_down()?;
        self.kill()
    }

    /// Shuts down in order: what was admitted is finished, the index is checkpointed.
    pub fn shut_down(&mut self) -> Result<(), StoreError> {
        self.engine.shut_down();
        self.run_dry();
        self.loops.close()
    }

    fn reopen(&mut self, disk: SimDisk) -> Result<(), StoreError> {
        self.lives += 1;
        let (engine, loops) = begin(&self.settings, Arc::new(disk.clone()), &self.clock, self.lives)?;
        (self.disk, self.engine, self.loops) = (disk, engine, loops);
        Ok(())
    }

    /// Turns sequencer, mergers and writer until nothing is left to do.
    pub fn run_dry(&mut self) {
        self.loops.run_dry();
    }

    /// Moves everything into the index.
    pub fn settle(&mut self) {
        while self.loops.turn_settle() == Turn::Worked {}
    }

    /// Queues a draft; nothing is decided yet.
    pub fn submit(&self, draft: Draft) -> Told<Receipt> {
        let (done, told) = Told::pair();
        self.engine.commit(draft, done);
        told
    }

    /// Commits a draft, turning the loops until it is answered.
    pub fn commit(&mut self, draft: Draft) -> Result<Receipt, Fault> {
        let told = self.submit(draft);
        self.run_dry();
        told.expect()
    }

    /// Takes a block of oids.
    pub fn oids(&mut self, count: u32) -> Result<Oid, Fault> {
        let (done, told) = Told::pair();
        self.engine.new_oids(count, done);
        self.run_dry();
        told.expect()
    }
}

fn begin(
    settings: &HouseSettings,
    door: Arc<dyn Disk>,
    clock: &Arc<HandClock>,
    life: u64,
) -> Result<(Arc<Engine>, Loops), StoreError> {
    let settings = settings.clone();
    Engine::open(
        door,
        clock.clone(),
        settings.store,
        settings.engine,
        settings.limits,
        settings.registry,
        // Makes pins and keys of different lives differ.
        life * 1_000_000,
        &mut |_| {},
    )
}
