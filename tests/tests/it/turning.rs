//! Who turns the sequencer: whoever brings a draft, while its thread sleeps.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use zeolite_proto::resolver::{Resolver, Unresolved};
use zeolite_proto::{Cell, Draft, Fault, FaultKind, Oid, Record, Tid};
use zeolite_server::engine::clock::SystemClock;
use zeolite_server::engine::{Caller, Engine, Leaving, Owner, Preparing, Running};
use zeolite_server::store::disk::sim::SimDisk;
use zeolite_tests::support::work::key;
use zeolite_tests::support::{HouseSettings, Told, Work};

/// Nothing here takes as long.
const LIMIT: Duration = Duration::from_secs(60);

/// The class of [`Broken`].
const BROKEN: &str = "Broken";

/// Has a bug.
#[derive(Debug)]
struct Broken;

impl Resolver for Broken {
    fn description(&self) -> &str {
        "a bug"
    }

    fn merge(
        &self,
        _base: Option<&Record>,
        _theirs: Option<&Record>,
        _ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        panic!("it has met what it does not expect")
    }
}

/// An engine on its threads, with a hundred oids from the first on, and what was told of a loop that died.
struct Stage {
    engine: Arc<Engine>,
    running: Running,
    first: u64,
    died: std::sync::mpsc::Receiver<String>,
}

impl Stage {
    fn new() -> Stage {
        let HouseSettings { store, engine, limits, mut registry } = HouseSettings::default();
        registry.register(BROKEN, Arc::new(Broken));
        let (disk, clock) = (Arc::new(SimDisk::new()), Arc::new(SystemClock::new()));
        let (engine, mut loops) =
            Engine::open(disk, clock, store, engine, limits, registry, 1, &mut |_| {}).expect("an empty disk opens");
        let (done, oids) = Told::pair();
        engine.new_oids(100, done);
        loops.run_dry();
        let first = oids.expect().expect("there are oids").0;
        let (tells, died) = channel();
        let running = loops.spawn(move |name| tells.send(name.to_owned()).expect("the test waits"));
        Stage { engine, running, first, died }
    }

    fn draft(&self, number: u64, cells: u64, class: &str) -> Draft {
        let record = Record::new(class, 1, number.to_string());
        let cells = (0..cells).map(|n| Cell::object(Oid(self.first + n)));
        cells.fold(Work::new(key(number)), |work, cell| work.put(cell, Tid::NONE, &record)).draft()
    }

    /// The thread in which a draft of so many cells was promised; it is given up again.
    fn prepared_in(&self, number: u64, cells: u64) -> ThreadId {
        let (tells, told) = channel();
        let done = Box::new(move |promised: Result<_, Fault>| {
            tells.send((thread::current().id(), promised.expect("nothing is in its way"))).expect("the test waits");
        });
        self.engine.prepare(Caller::default(), self.draft(number, cells, "Note"), Preparing::default(), done);
        let (thread, receipt) = told.recv_timeout(LIMIT).expect("it is answered");
        let (tells, told) = channel();
        let done = Box::new(move |ended| tells.send(ended).expect("the test waits"));
        self.engine.abort(&Owner::anonymous(), receipt.prepared, (Some(key(number)), None), done);
        told.recv_timeout(LIMIT).expect("it is answered").expect("it is given up");
        thread
    }

    fn commit(&self, draft: Draft) -> Result<(), FaultKind> {
        let (tells, told) = channel();
        self.engine.commit(draft, Box::new(move |committed| tells.send(committed).expect("the test waits")));
        told.recv_timeout(LIMIT).expect("it is answered").map(drop).map_err(|fault| fault.kind)
    }
}

#[test]
fn what_is_short_is_decided_by_who_brings_it_and_what_is_large_is_left_to_the_thread() {
    let (stage, begun) = (Stage::new(), Instant::now());
    let mut number = 0;
    let mut next = |cells| {
        number += 1;
        stage.prepared_in(number, cells)
    };
    // The thread looks after what is there now and then: then it is it.
    while next(1) != thread::current().id() {
        assert!(begun.elapsed() < LIMIT, "the thread sleeps nearly always");
    }
    for _ in 0..20 {
        assert_ne!(next(65), thread::current().id(), "its caller has no time for so much");
    }
    let Stage { engine, running, .. } = stage;
    engine.shut_down();
    running.join(Leaving::Settled).expect("closes");
    let left = Arc::downgrade(&engine);
    drop(engine);
    assert!(left.upgrade().is_none(), "who helps does not keep it, and its store locked");
}

#[test]
fn who_meets_a_bug_of_the_sequencer_goes_on_and_the_engine_does_not() {
    let stage = Stage::new();
    stage.commit(stage.draft(1, 1, BROKEN)).expect("nothing is merged");
    assert_eq!(stage.commit(stage.draft(2, 1, BROKEN)), Err(FaultKind::OutcomeUnknown));
    assert_eq!(stage.died.recv_timeout(LIMIT).as_deref(), Ok("sequencer"));
    assert!(stage.engine.poisoned().is_some());
    assert!(stage.commit(stage.draft(3, 1, "Note")).is_err(), "nothing is decided any more");
    stage.running.join(Leaving::AtOnce).expect("the threads end");
}
