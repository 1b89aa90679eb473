//! Owns the tests of packing through the engine: pins, merge bases, garbage, traffic beside it.

use super::*;
use crate::clock::{Clock, HandClock};
use crate::engine::answers::Preparing;
use crate::engine::caller::{Caller, Owner};
use crate::engine::work::verify::verify_offline;
use crate::engine::{EngineSettings, Running};
use crate::storage::StoreSettings;
use crate::storage::disk::SimDisk;
use crate::store::Stage;
use std::cell::Cell as Once;
use std::sync::mpsc;
use zeolite_proto::Role;
use zeolite_proto::resolvers::{class, counter};
use zeolite_proto::{Cell, Change, CommitKey, Draft, Limits, Note, Priority, Receipt, Record, Registry, Write};

const START_NS: i128 = 1_700_000_000_000_000_000;

struct Site {
    engine: Arc<Engine>,
    running: Option<Running>,
    clock: Arc<HandClock>,
    disk: SimDisk,
    /// Commit keys of one life are not those of another.
    keys: Once<u64>,
}

impl Site {
    fn open(disk: &SimDisk, history_min_s: u64) -> Site {
        let settings = EngineSettings { history_min_s, pin_grace_s: 0, ..EngineSettings::default() };
        // The keeper has a thread of its own: on a disk that is made full here it would forbid writing, sooner or later.
        Site::open_with(disk, EngineSettings { read_only_below_free_bytes: 0, ..settings })
    }

    fn open_with(disk: &SimDisk, settings: EngineSettings) -> Site {
        let clock = Arc::new(HandClock::at(START_NS));
        let store = StoreSettings { segment_bytes_max: 4096, inline_bytes_max: 16, ..StoreSettings::default() };
        let (registry, limits) = (Registry::built_in(), Limits::default());
        let (engine, loops) =
            Engine::open(Arc::new(disk.clone()), clock.clone(), store, settings, limits, registry, 3, &mut |_| {})
                .expect("opens");
        Site {
            engine,
            running: Some(loops.spawn(|_| {})),
            clock,
            disk: disk.clone(),
            keys: Once::new(disk.calls() << 16),
        }
    }

    fn new() -> Site {
        let site = Site::open(&SimDisk::new(), 0);
        site.hand_out();
        site
    }

    fn hand_out(&self) {
        let (told, first) = mpsc::channel();
        self.engine.new_oids(100, Box::new(move |oid| told.send(oid).expect("waits")));
        assert_eq!(first.recv().expect("told").expect("handed out"), FIRST_OID);
    }

    fn commit(&self, writes: Vec<(Cell, Tid, Change)>) -> Result<Receipt, Fault> {
        // Time goes on between commits, so that a tid is a time as well.
        self.clock.advance(Duration::from_millis(10));
        self.keys.set(self.keys.get() + 1);
        let write = |(cell, base, change)| Write { cell, base, change, stamped: false };
        let draft = Draft {
            key: CommitKey(u128::from(self.keys.get()).to_le_bytes()),
            key_since: Tid::MAX,
            priority: Priority::Live,
            read_cells: Vec::new(),
            read_ranges: Vec::new(),
            writes: writes.into_iter().map(write).collect(),
            note: Note::default(),
        };
        let (told, receipt) = mpsc::channel();
        self.engine.commit(draft, Box::new(move |result| told.send(result).expect("waits")));
        receipt.recv().expect("told")
    }

    fn put(&self, oid: u64, base: Tid, refs: &[u64]) -> Tid {
        self.commit(vec![(Cell::object(Oid(oid)), base, put(refs))]).expect("commits").tid
    }

    fn pack(&self, tid: Tid) -> Result<PackReport, Fault> {
        let to = (tid != Tid::NONE).then_some(tid);
        self.engine.pack(PackOptions::new().to(to), &mut |_| true)
    }

    fn load(&self, oid: u64, at: Tid) -> Result<Option<Tid>, Fault> {
        let loaded = self.engine.load(at, &[Cell::object(Oid(oid))])?;
        Ok(loaded.revisions[0].as_ref().filter(|revision| revision.record.is_some()).map(|revision| revision.tid))
    }

    fn close(mut self) -> SimDisk {
        self.engine.shut_down();
        self.running.take().expect("runs").join(crate::engine::Leaving::Settled).expect("closes");
        self.disk
    }
}

fn put(refs: &[u64]) -> Change {
    let record = Record { refs: refs.iter().map(|oid| Oid(*oid)).collect(), ..Record::new("Page", 1, vec![7; 100]) };
    Change::Put(record.encode().expect("encodes"))
}

#[test]
fn a_pinned_snapshot_holds_pack_back_and_reads_as_before_until_the_pin_ends() {
    let site = Site::new();
    site.put(0, Tid::NONE, &[20]);
    let first = site.put(20, Tid::NONE, &[]);
    let pin = site.engine.pin(&Caller::default(), first, 60_000).expect("pins");
    let second = site.put(20, first, &[]);
    let third = site.put(20, second, &[]);
    let report = site.pack(Tid::NONE).expect("packs");
    assert_eq!(report.packed_to, first);
    assert_eq!(site.load(20, first), Ok(Some(first)));
    site.engine.unpin(&Owner::anonymous(), pin.pin);
    let dry = site.engine.pack(PackOptions::new().dry_run(true), &mut |_| true);
    assert_eq!((dry.expect("tells").revisions_removed, site.load(20, first)), (2, Ok(Some(first))));
    let report = site.pack(Tid::NONE).expect("packs");
    assert_eq!((report.packed_to, report.revisions_removed), (third, 2));
    assert_eq!(site.load(20, first).expect_err("packed").kind, FaultKind::SnapshotPacked);
    assert_eq!(site.engine.pin(&Caller::default(), first, 60_000).expect_err("packed").kind, FaultKind::SnapshotPacked);
    assert_eq!(site.load(20, third), Ok(Some(third)));
    // And so it is after a restart.
    let site = Site::open(&site.close(), 0);
    assert_eq!(site.load(20, second).expect_err("packed").kind, FaultKind::SnapshotPacked);
    assert_eq!(site.load(20, Tid::NONE), Ok(Some(third)));
}

#[test]
fn the_history_of_the_last_seconds_stays() {
    let site = Site::open(&Site::new().close(), 60);
    site.put(0, Tid::NONE, &[20]);
    let first = site.put(20, Tid::NONE, &[]);
    let second = site.put(20, first, &[]);
    assert_eq!(site.pack(Tid::NONE).expect("packs").revisions_removed, 0);
    assert_eq!(site.load(20, first), Ok(Some(first)));
    site.clock.advance(Duration::from_secs(61));
    assert!(site.pack(Tid::NONE).expect("packs").revisions_removed > 0);
    assert!(site.load(20, first).is_err());
    assert_eq!(site.load(20, second), Ok(Some(second)));
}

#[test]
fn a_base_older_than_the_pack_still_merges_while_its_revision_is_there() {
    let site = Site::new();
    let cell = Cell::object(Oid(20));
    let number = |n: i64| Change::Put(counter::record(n).encode().expect("encodes"));
    site.put(0, Tid::NONE, &[20]);
    let base = site.commit(vec![(cell.clone(), Tid::NONE, number(10))]).expect("commits").tid;
    site.put(21, Tid::NONE, &[]);
    assert!(site.pack(Tid::NONE).expect("packs").packed_to > base);
    // Two from the same base, which is older than the pack and the one that it has kept.
    site.commit(vec![(cell.clone(), base, number(11))]).expect("commits");
    let merged = site.commit(vec![(cell.clone(), base, number(12))]).expect("merges").merged;
    let record = Record::decode(merged[0].record.as_ref().expect("a record")).expect("decodes");
    assert_eq!(counter::value(&record), Ok(13));
}

#[test]
fn what_was_deleted_and_packed_is_not_overwritten_from_before() {
    let site = Site::new();
    site.put(0, Tid::NONE, &[20]);
    let base = site.put(20, Tid::NONE, &[]);
    site.commit(vec![(Cell::object(Oid(20)), base, Change::Delete)]).expect("commits");
    site.pack(Tid::NONE).expect("packs");
    // After a restart nothing remembers the deletion.
    let site = Site::open(&site.close(), 0);
    let refused = site.commit(vec![(Cell::object(Oid(20)), base, put(&[]))]).expect_err("was deleted since");
    assert_eq!(refused.kind, FaultKind::SnapshotPacked);
    site.put(20, site.engine.visible(), &[]);
}

#[test]
fn while_garbage_goes_nothing_may_name_it_and_what_a_prepared_draft_names_stays() {
    pack_beside_a_prepared_draft(false);
}

#[test]
fn what_a_durable_prepared_draft_names_stays_also_after_a_restart() {
    pack_beside_a_prepared_draft(true);
}

fn pack_beside_a_prepared_draft(durable: bool) {
    let mut site = Site::new();
    site.put(0, Tid::NONE, &[20]);
    site.put(20, Tid::NONE, &[]);
    // 30 and 31 can be reached from nowhere.
    site.put(30, Tid::NONE, &[]);
    site.put(31, Tid::NONE, &[]);
    let root = site.load(0, Tid::NONE).expect("reads").expect("is there");
    let packed_to = site.put(20, site.engine.visible(), &[]);
    let draft = Draft {
        key: CommitKey([9; 16]),
        key_since: Tid::MAX,
        priority: Priority::Live,
        read_cells: Vec::new(),
        read_ranges: Vec::new(),
        writes: vec![Write { cell: Cell::object(Oid(0)), base: root, change: put(&[20, 31]), stamped: false }],
        note: Note::default(),
    };
    let (told, prepared) = mpsc::channel();
    site.engine.prepare(
        Role::Write,
        draft,
        Preparing { durable, ..Preparing::default() },
        Box::new(move |result| told.send(result).expect("waits")),
    );
    let prepared = prepared.recv().expect("told").expect("prepares").prepared;
    if durable {
        site = Site::open(&site.close(), 0);
        site.clock.advance(Duration::from_secs(60));
    }
    let refused = Once::new(0);
    let mut name_it = |progress: WorkProgress| {
        if progress.stage == Stage::Copy.text() || progress.stage == Stage::Shift.text() {
            for writes in [(20, vec![30]), (30, vec![])] {
                let change = (Cell::object(Oid(writes.0)), site.engine.visible(), put(&writes.1));
                let fault = site.commit(vec![change]).expect_err("names garbage");
                assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
                refused.set(refused.get() + 1);
            }
        }
        true
    };
    let report = site.engine.pack(PackOptions::new().to(Some(packed_to)), &mut name_it).expect("packs");
    assert_eq!((report.objects_removed, site.load(30, Tid::NONE)), (1, Ok(None)));
    assert!(refused.get() > 0);
    let (told, finished) = mpsc::channel();
    site.engine.finish(
        &Owner::anonymous(),
        prepared,
        CommitKey([9; 16]),
        None,
        Box::new(move |result| told.send(result).expect("waits")),
    );
    finished.recv().expect("told").expect("finishes");
    assert!(site.load(31, Tid::NONE).expect("reads").is_some());
    // Nor does what kept it hold anything up.
    site.pack(Tid::NONE).expect("packs");
    assert!(site.load(31, Tid::NONE).expect("reads").is_some());
    // Afterwards it is an oid like any other.
    site.put(20, site.engine.visible(), &[30]);
}

#[test]
fn one_at_a_time_and_it_ends_when_its_caller_or_the_server_does() {
    let site = Site::new();
    site.put(0, Tid::NONE, &[20]);
    let base = site.put(20, Tid::NONE, &[]);
    site.put(20, base, &[]);
    assert!(site.engine.status().pack.is_none());
    let stopped = site.engine.pack(PackOptions::default(), &mut |progress| {
        assert!(site.engine.status().pack.is_some_and(|pack| pack.starts_with(&progress.stage)));
        assert_eq!(site.pack(Tid::NONE).expect_err("one runs").kind, FaultKind::Busy);
        false
    });
    assert_eq!(stopped.expect_err("stopped").kind, FaultKind::Busy);
    let engine = site.engine.clone();
    let closing = engine.pack(PackOptions::default(), &mut |_| {
        site.engine.shut_down();
        true
    });
    assert_eq!(closing.expect_err("goes down").kind, FaultKind::ShuttingDown);
    let site = Site::open(&site.close(), 0);
    site.pack(Tid::NONE).expect("packs");
}

#[test]
fn a_tid_that_nobody_has_seen_is_refused() {
    let site = Site::new();
    let ahead = site.engine.visible().next();
    assert_eq!(site.pack(ahead).expect_err("ahead").kind, FaultKind::SnapshotAhead);
    assert!(site.clock.unix_nanos() >= START_NS);
}

// A store whose first segment a pack will change over in several portions: the garbage 30 goes in the last of them.
fn with_garbage() -> Site {
    let site = Site::new();
    site.put(0, Tid::NONE, &[20]);
    let mut base = Tid::NONE;
    (0..10).for_each(|_| base = site.put(20, base, &[]));
    site.put(30, Tid::NONE, &[]);
    site.put(20, base, &[]);
    site
}

#[test]
fn a_pack_that_is_stopped_leaves_nothing_half_gone_to_be_named_again() {
    let site = with_garbage();
    let (mut shifting, mut named) = (false, None);
    let stopped = site.engine.pack(PackOptions::default(), &mut |progress| {
        shifting |= progress.stage == Stage::Shift.text();
        !shifting
    });
    assert_eq!(stopped.expect_err("stopped").kind, FaultKind::Busy);
    assert!(shifting);
    if site.load(30, Tid::NONE).expect("reads").is_some() {
        named = Some(site.put(20, site.engine.visible(), &[30]));
    }
    site.pack(Tid::NONE).expect("packs");
    assert_eq!(site.load(30, Tid::NONE).expect("reads").is_some(), named.is_some(), "what was named must stay");
}

#[test]
fn a_pack_that_a_full_disk_leaves_half_way_goes_on_by_itself_and_what_it_takes_is_not_named_until_then() {
    let site = with_garbage();
    let full = site.engine.pack(PackOptions::default(), &mut |progress| {
        if progress.stage == Stage::Shift.text() {
            // Room for the log, none for the index.
            site.disk.set_room(Some(512 << 10));
        }
        true
    });
    assert_eq!(full.expect_err("full").kind, FaultKind::DiskFull);
    // Who only looks at what a kill would leave sees it ended, and ends nothing.
    let killed = site.disk.fork();
    let calls = killed.calls();
    let looked =
        verify_offline(Arc::new(killed.clone()), StoreSettings::default(), 3, &mut |_| true).expect("verifies");
    assert_eq!((looked.problems_total, looked.dangling_total, killed.calls()), (0, 0, calls), "{looked:?}");
    let name_it = || site.commit(vec![(Cell::object(Oid(20)), site.engine.visible(), put(&[30]))]);
    assert_eq!(name_it().expect_err("is half gone").kind, FaultKind::NotFound);
    site.put(20, site.engine.visible(), &[]);
    site.disk.set_room(None);
    while site.engine.long_work().upkeep().is_ok_and(Upkeep::is_half_packed) {
        // It has been tried without room, and is again after a while.
        site.clock.advance(Duration::from_secs(1));
        std::thread::yield_now();
    }
    assert_eq!(site.load(30, Tid::NONE), Ok(None));
    let Ok(report) = (loop {
        match site.engine.verify(&mut |_| true) {
            Err(fault) if fault.kind == FaultKind::Busy => std::thread::yield_now(),
            other => break other,
        }
    }) else {
        panic!("does not verify")
    };
    assert_eq!((report.problems_total, report.dangling_total), (0, 0), "{report:?}");
    name_it().expect("an oid like any other");
}

#[test]
fn a_pack_that_was_stopped_before_it_took_anything_holds_no_pin_back() {
    let site = with_garbage();
    let old = site.load(0, Tid::NONE).expect("reads").expect("there");
    site.engine.pack(PackOptions::default(), &mut |_| false).expect_err("stopped");
    site.engine.pin(&Caller::default(), old, 60_000).expect("pins");
}

#[test]
fn what_was_last_written_before_a_pack_can_still_be_merged_after_it() {
    // The records of recent writes are forgotten at once, their tids are not.
    let settings = EngineSettings { history_min_s: 0, recent_bytes_max: 1, ..EngineSettings::default() };
    let site = Site::open_with(&SimDisk::new(), settings);
    site.hand_out();
    site.put(0, Tid::NONE, &[20, 21]);
    let add = || Change::Apply { class: class::COUNTER.to_owned(), operation: counter::add(1) };
    let cell = Cell::object(Oid(20));
    site.commit(vec![(cell.clone(), Tid::NONE, add())]).expect("adds");
    site.put(21, Tid::NONE, &[]);
    site.pack(Tid::NONE).expect("packs");
    site.commit(vec![(cell.clone(), Tid::NONE, add())]).expect("adds");
    let value = site.engine.load(Tid::NONE, &[cell]).expect("loads").revisions[0].clone();
    let record = Record::decode(&value.and_then(|revision| revision.record).expect("there")).expect("a record");
    assert_eq!(counter::value(&record), Ok(2));
}
