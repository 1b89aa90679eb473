//! Owns the tests of pack in the store: what is kept, what goes, and a crash at every boundary.

mod giving_back;
mod little;
mod merging;
mod since;
mod slices;

use super::*;
use crate::store::disk::{Disk, SimDisk};
use crate::store::frame::SegmentHeader;
use crate::store::tests::engine;
use crate::store::{Appender, Opened, Store, StoreSettings, Txn, TxnWrite, verify};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use zeolite_proto::{Cell, CommitKey, Record};

const ROOT: Oid = Oid(0);
// So many segments become one in these tests.
const OLDS_MAX: u64 = 12;

/// What a store should say: every revision of every cell that was committed, packed or not.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) cells: BTreeMap<Cell, BTreeMap<Tid, Option<Bytes>>>,
}

impl Model {
    fn take(&mut self, txn: &Txn) {
        for write in &txn.writes {
            self.cells.entry(write.cell.clone()).or_default().insert(txn.tid, write.record.clone());
        }
    }

    fn at(&self, cell: &Cell, at: Tid) -> Option<Bytes> {
        self.cells.get(cell)?.range(..=at).next_back().and_then(|(_, record)| record.clone())
    }

    fn oids(&self) -> BTreeSet<Oid> {
        self.cells.keys().map(|cell| cell.oid).collect()
    }

    /// What must be there after packing to a tid, by plain search.
    fn reached(&self, to: Tid) -> BTreeSet<Oid> {
        let mut kept: BTreeMap<Oid, Vec<Oid>> = BTreeMap::new();
        let mut frontier = vec![ROOT];
        for (cell, revisions) in &self.cells {
            let refs = kept.entry(cell.oid).or_default();
            let seen = revisions.range(..=to).next_back();
            for (tid, record) in revisions.range(to.next()..).chain(seen) {
                if *tid > to {
                    frontier.push(cell.oid);
                }
                refs.extend(record.iter().flat_map(|record| Record::decode(record).expect("decodes").refs));
            }
        }
        let mut reached = BTreeSet::new();
        while let Some(oid) = frontier.pop() {
            if reached.insert(oid) {
                frontier.extend(kept.get(&oid).into_iter().flatten());
            }
        }
        reached
    }
}

pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) appender: Appender,
    pub(crate) reader: Reader,
    pub(crate) settler: Arc<Mutex<Settler>>,
    pub(crate) model: Model,
    pub(crate) dice: fastrand::Rng,
    /// Sent to the disk, outcome unknown.
    unsure: Option<Txn>,
}

// Half of the seeds leave large segments of which little goes.
fn settings(seed: u64) -> StoreSettings {
    StoreSettings {
        pack_garbage_min_percent: if seed.is_multiple_of(2) { 0 } else { 80 },
        segment_bytes_max: 4096,
        inline_bytes_max: 40,
        checkpoint_log_bytes: 16 << 10,
        cache_bytes: 64 << 10,
        index_cache_bytes: 256 << 10,
        index: engine::kind(),
        ..StoreSettings::default()
    }
}

impl World {
    pub(crate) fn open(disk: &SimDisk, model: Model, seed: u64) -> Result<World, StoreError> {
        let Opened { appender, reader, settler, .. } = Store::open(engine::on(disk), settings(seed), 7, &mut |_| {})?;
        let settler = Arc::new(Mutex::new(settler));
        let dice = fastrand::Rng::with_seed(seed);
        Ok(World { disk: disk.clone(), appender, reader, settler, model, dice, unsure: None })
    }

    pub(crate) fn new(seed: u64) -> World {
        World::open(&SimDisk::new(), Model::default(), seed).expect("opens")
    }

    fn commit(&mut self, writes: Vec<TxnWrite>) -> Result<Tid, StoreError> {
        let tid = Tid(self.appender.last_tid().0 + 10);
        let txn = Txn {
            tid,
            key: CommitKey(u128::from(tid.0).to_le_bytes()),
            digest: 1,
            own: false,
            note: Bytes::new(),
            writes: writes.into(),
        };
        self.unsure = Some(txn.clone());
        let appended = self.appender.append(std::slice::from_ref(&txn))?;
        self.appender.publish(appended);
        self.unsure = None;
        self.model.take(&txn);
        Ok(tid)
    }

    pub(crate) fn put(&mut self, cell: Cell, refs: &[u64]) -> Tid {
        self.commit(vec![write(cell, refs, 60)]).expect("commits")
    }

    pub(crate) fn delete(&mut self, cell: Cell) -> Tid {
        self.commit(vec![TxnWrite { cell, record: None, merged: false }]).expect("commits")
    }

    pub(crate) fn settle(&self) {
        while self.settler.lock().settle(100).expect("settles").txns > 0 {}
    }

    /// A transaction of a few random writes that names nothing of `gone`.
    pub(crate) fn random_commit(&mut self, gone: &RoaringTreemap) -> Result<Tid, StoreError> {
        let known: Vec<u64> =
            self.model.oids().into_iter().map(|oid| oid.0).filter(|oid| !gone.contains(*oid)).collect();
        let next = self.model.oids().last().map_or(1, |oid| oid.0 + 1);
        let dice = &mut self.dice;
        let mut writes: BTreeMap<Cell, TxnWrite> = BTreeMap::new();
        for _ in 0..dice.usize(1..4) {
            let oid = if dice.u8(0..4) == 0 || known.is_empty() { next } else { known[dice.usize(0..known.len())] };
            let oid = if dice.u8(0..4) == 0 { 0 } else { oid };
            let key = if dice.bool() { Bytes::new() } else { Bytes::copy_from_slice(&[dice.u8(0..3)]) };
            let cell = Cell { oid: Oid(oid), key };
            let refs: Vec<u64> =
                (0..dice.usize(0..3)).filter_map(|_| known.get(dice.usize(0..known.len().max(1))).copied()).collect();
            let one = match dice.u8(0..5) {
                0 => TxnWrite { cell: cell.clone(), record: None, merged: false },
                _ => write(cell.clone(), &refs, dice.usize(0..200)),
            };
            writes.insert(cell, one);
        }
        self.commit(writes.into_values().collect())
    }

    /// Nothing that verify finds wrong.
    fn verify(&self, context: &str) {
        let verified = verify(&self.reader, &self.settler, &[ROOT], &mut |_, _, _| Ok(())).expect("verifies");
        // References may dangle: the random commits delete what others refer to.
        assert!(verified.problems.is_empty(), "{context}: {:#?}", verified.problems);
    }

    /// Everything reads as the model says, at a few snapshots from `to` on, as far as it was reached.
    fn check(&mut self, to: Tid, context: &str) {
        let reached = self.model.reached(to);
        let published = self.reader.published();
        let between = Tid(self.dice.u64(to.0..=published.0.max(to.0)));
        let cells: Vec<Cell> = self.model.cells.keys().filter(|cell| reached.contains(&cell.oid)).cloned().collect();
        for at in [to, between, published] {
            let found = self.reader.get_many(&cells, at, usize::MAX).expect("reads");
            for (cell, found) in cells.iter().zip(found) {
                let found = found.and_then(|revision| revision.record);
                assert_eq!(found, self.model.at(cell, at), "{context}: {cell} at {at}, packed to {to}");
            }
        }
        let live =
            cells.iter().filter(|cell| cell.is_object() && self.model.at(cell, published).is_some()).count() as u64;
        let counted: u64 = self.reader.kinds().expect("kinds").iter().map(|kind| kind.objects).sum();
        assert!(counted >= live, "{context}: {counted} objects counted, {live} live");
    }
}

fn write(cell: Cell, refs: &[u64], len: usize) -> TxnWrite {
    let record = Record { refs: refs.iter().map(|oid| Oid(*oid)).collect(), ..Record::new("Page", 1, vec![7; len]) };
    TxnWrite { cell, record: Some(record.encode().expect("encodes")), merged: false }
}

type Between<'a> = &'a mut dyn FnMut(&mut World, &RoaringTreemap, Stage) -> Result<(), StoreError>;

/// Packs with something happening between any two steps; `gone` of it is what may no longer be named.
fn pack_beside(
    world: &RefCell<World>,
    to: Tid,
    between: Between<'_>,
) -> Result<(Tid, Packed, RoaringTreemap), StoreError> {
    let (reader, settler) = (world.borrow().reader.clone(), world.borrow().settler.clone());
    let gone = RefCell::new(RoaringTreemap::new());
    let mut step = |stage, _, _| between(&mut world.borrow_mut(), &gone.borrow(), stage);
    let mut packer = Packer::new(&reader, settler, to, &mut step)?;
    packer.find_garbage(&[ROOT], &mut step)?;
    packer.catch_up(&mut step)?;
    // As the sequencer does it: from here on nothing names the garbage.
    *gone.borrow_mut() = packer.garbage();
    packer.catch_up(&mut step)?;
    since::is_what_everything_says(&packer, &reader);
    packer.forecast(&mut step)?;
    if packer.needs_roll() {
        world.borrow_mut().appender.roll()?;
    }
    let packed = packer.run(Tid::NONE, &mut step)?;
    Ok((packer.to(), packed, packer.garbage()))
}

pub(crate) fn pack(world: World, to: Tid) -> (World, Packed) {
    let world = RefCell::new(world);
    let packed = pack_beside(&world, to, &mut |_, _, _| Ok(())).expect("packs").1;
    (world.into_inner(), packed)
}

fn exists(world: &World, oid: u64) -> bool {
    let newest = world.reader.newest(&Cell::object(Oid(oid))).expect("reads");
    newest.is_some()
}

#[test]
fn old_revisions_go_and_what_the_tid_sees_stays() {
    let mut world = World::new(1);
    world.put(Cell::object(ROOT), &[1, 2]);
    world.put(Cell::object(Oid(1)), &[]);
    let second = world.put(Cell::object(Oid(1)), &[]);
    world.put(Cell::object(Oid(2)), &[]);
    let to = world.delete(Cell::object(Oid(2)));
    let third = world.put(Cell::object(Oid(1)), &[]);
    let (mut world, packed) = pack(world, to);
    // The first revision of 1, and both of 2.
    assert_eq!((packed.revisions, packed.objects), (3, 0));
    assert!(packed.bytes_after < packed.bytes_before);
    let history = world.reader.history(&Cell::object(Oid(1)), Tid::MAX, 9).expect("reads");
    assert_eq!(history.iter().map(|revision| revision.tid).collect::<Vec<_>>(), [third, second]);
    assert!(!exists(&world, 2));
    assert!(matches!(world.reader.get(&Cell::object(ROOT), to.prev()), Err(StoreError::Packed { .. })));
    world.check(to, "after");
    let (world, again) = pack(world, to);
    assert_eq!(
        again,
        Packed { bytes_before: again.bytes_after, ..Packed { bytes_after: again.bytes_after, ..Packed::default() } }
    );
    drop(world);
}

#[test]
fn a_cycle_that_nothing_refers_to_goes_and_what_an_entry_refers_to_stays() {
    let mut world = World::new(2);
    world.put(Cell::object(ROOT), &[1, 3]);
    world.put(Cell::object(Oid(1)), &[2]);
    world.put(Cell::object(Oid(2)), &[1]);
    world.put(Cell::entry(Oid(3), "kept"), &[4]);
    world.put(Cell::object(Oid(4)), &[]);
    world.put(Cell::entry(Oid(5), "lost"), &[4]);
    world.settle();
    let to = world.put(Cell::object(ROOT), &[3]);
    let (mut world, packed) = pack(world, to);
    assert_eq!(packed.objects, 3);
    assert!(!exists(&world, 1) && !exists(&world, 2) && exists(&world, 4));
    assert_eq!(world.reader.newest(&Cell::entry(Oid(5), "lost")).expect("reads"), None);
    let objects: u64 = world.reader.kinds().expect("kinds").iter().map(|kind| kind.objects).sum();
    assert_eq!(objects, 2);
    world.check(to, "after");
}

#[test]
fn without_a_root_nothing_is_garbage() {
    let mut world = World::new(3);
    let to = world.put(Cell::object(Oid(1)), &[]);
    let (world, packed) = pack(world, to);
    assert_eq!(packed.objects, 0);
    assert!(exists(&world, 1));
}

#[test]
fn what_is_linked_while_pack_looks_stays_with_all_that_it_refers_to() {
    let mut world = World::new(4);
    world.put(Cell::object(ROOT), &[1]);
    world.put(Cell::object(Oid(1)), &[]);
    world.put(Cell::object(Oid(2)), &[3]);
    world.put(Cell::object(Oid(3)), &[]);
    let to = world.put(Cell::object(Oid(4)), &[]);
    world.put(Cell::object(Oid(1)), &[]);
    let world = RefCell::new(world);
    let mut linked = false;
    let (_, packed, _) = pack_beside(&world, to, &mut |world, _, stage| {
        if stage == Stage::Mark && !std::mem::replace(&mut linked, true) {
            world.put(Cell::object(Oid(1)), &[2]);
        }
        Ok(())
    })
    .expect("packs");
    let mut world = world.into_inner();
    assert_eq!(packed.objects, 1);
    assert!(exists(&world, 2) && exists(&world, 3) && !exists(&world, 4));
    world.check(to, "after");
}

#[test]
fn whatever_is_committed_between_its_steps_every_read_from_the_tid_on_stays_as_it_was() {
    let seeds = std::env::var("ZEOLITE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        let mut world = World::new(seed);
        for round in 0..3 {
            let context = format!("seed {seed} round {round}");
            for _ in 0..world.dice.usize(20..80) {
                world.random_commit(&RoaringTreemap::new()).expect("commits");
                if world.dice.u8(0..4) == 0 {
                    let portion = world.dice.usize(1..9);
                    world.settler.lock().settle(portion).expect("settles");
                }
            }
            let (from, published) = (world.reader.packed_to(), world.reader.published());
            let to = if world.dice.bool() { published } else { Tid(world.dice.u64(from.0..=published.0)) };
            let cell = RefCell::new(world);
            let (to, _, garbage) = pack_beside(&cell, to, &mut |world, gone, _| {
                match world.dice.u8(0..12) {
                    0..3 => drop(world.random_commit(gone)?),
                    3 => drop(world.settler.lock().settle(5)?),
                    4 => world.check(to, &context),
                    _ => {}
                }
                Ok(())
            })
            .expect("packs");
            world = cell.into_inner();
            for oid in &garbage {
                assert!(!exists(&world, oid), "{context}: object {oid:x} was garbage and is still there");
            }
            world.model.cells.retain(|cell, _| !garbage.contains(cell.oid.0));
            world.check(to, &context);
            world.settle();
            world.check(to, &context);
            // And so it is in the log alone.
            let World { disk, model, settler, .. } = world;
            drop(settler);
            let after = disk.crash(seed);
            if round == 1 {
                Store::remove_index(&after).expect("removes");
            }
            world = World::open(&after, model, seed * 1000 + round).expect("opens");
            world.check(to, &context);
            world.verify(&context);
        }
    }
}

/// What a run does that the crash matrix repeats: it depends on the seed alone, until the disk stops.
fn recorded_run(seed: u64) -> (World, Tid) {
    let mut world = World::new(seed);
    for _ in 0..60 {
        world.random_commit(&RoaringTreemap::new()).expect("commits");
    }
    world.settle();
    world.settler.lock().checkpoint().expect("checkpoint");
    for _ in 0..10 {
        world.random_commit(&RoaringTreemap::new()).expect("commits");
    }
    let to = world.reader.published();
    (world, to)
}

fn between(world: &mut World, gone: &RoaringTreemap, stage: Stage) -> Result<(), StoreError> {
    if matches!(stage, Stage::Copy | Stage::Shift) && world.dice.bool() {
        world.random_commit(gone)?;
        if world.dice.bool() {
            world.settler.lock().settle(3)?;
        }
    }
    Ok(())
}

#[test]
fn cut_at_every_write_nothing_that_is_kept_is_lost_and_pack_can_be_run_again() {
    // Every `ZEOLITE_STRIDE`-th boundary; the nightly run takes each.
    let (cut, half_way) = cut_at_every_write(&recorded_run, &mut between, 7);
    assert!(cut > 20 && half_way > 3, "{cut} cuts, {half_way} with two generations of a segment");
}

// At how many boundaries, and at how many of them two files stood for one number.
fn cut_at_every_write(recorded_run: &dyn Fn(u64) -> (World, Tid), between: Between<'_>, stride: usize) -> (u32, u32) {
    let stride = std::env::var("ZEOLITE_STRIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(stride);
    let (mut cut, mut half_way) = (0, 0);
    for seed in 0..2 {
        let (world, to) = recorded_run(seed);
        let (disk, from) = (world.disk.clone(), world.disk.calls());
        let cell = RefCell::new(world);
        let (mut freeing, mut frees) = (false, u64::MAX);
        let mut noting = |world: &mut World, gone: &RoaringTreemap, stage| {
            if !std::mem::replace(&mut freeing, stage == Stage::GiveBack) && freeing {
                frees = world.disk.calls();
            }
            between(world, gone, stage)
        };
        pack_beside(&cell, to, &mut noting).expect("packs");
        let until = disk.calls();
        // The last calls remove old files, two for each, and give their room back: what fails of that fails nothing, and a file that stays is the next
        // opening's.
        let removes = frees.min(until) - 2 * OLDS_MAX;
        for stop in (from + seed..until).step_by(stride) {
            let context = format!("seed {seed} cut at call {stop} of {from}..{until}");
            let (world, to) = recorded_run(seed);
            world.disk.stop_at(stop);
            let cell = RefCell::new(world);
            let failed = pack_beside(&cell, to, between);
            assert!(failed.is_err() || stop >= removes, "{context}");
            let World { disk, mut model, unsure, .. } = cell.into_inner();
            let after = disk.crash(stop);
            let two = |disk: &SimDisk| numbers(disk).windows(2).any(|pair| pair[0] == pair[1]);
            half_way += u32::from(two(&after));
            let rebuilt = after.crash(0);
            let mut world = World::open(&after, Model::default(), stop).expect("opens");
            assert!(!two(&after), "{context}: only what the index names is left");
            if let Some(txn) = unsure.filter(|txn| txn.tid <= world.reader.published()) {
                model.take(&txn);
            }
            world.model = model.clone();
            world.check(to, &context);
            world.verify(&context);
            let (mut world, _) = pack(world, to);
            world.check(to, &context);
            world.verify(&context);
            drop(world);
            // The same without an index: the log alone tells everything.
            Store::remove_index(&rebuilt).expect("removes");
            let mut world = World::open(&rebuilt, model, stop).expect("opens");
            world.check(to, &context);
            world.verify(&context);
            let (mut world, _) = pack(world, to);
            world.check(to, &context);
            world.verify(&context);
            cut += 1;
        }
    }
    (cut, half_way)
}

// The numbers that the segment files stand for, in order.
fn numbers(disk: &SimDisk) -> Vec<u32> {
    let header = |name: String| {
        let bytes = disk.bytes(&format!("log/{name}")).expect("there");
        bytes.first_chunk().and_then(|bytes| SegmentHeader::parse(bytes).ok())
    };
    let segments = disk.list("log").expect("lists").into_iter().filter(|name| name.ends_with(".seg"));
    let mut numbers: Vec<u32> = segments.filter_map(header).flat_map(|header| header.numbers()).collect();
    numbers.sort_unstable();
    numbers
}

// A world of one closed segment that is changed over in several portions, and what it is to be packed to.
fn several_portions(seed: u64) -> (World, Tid) {
    let mut world = World::new(seed);
    world.put(Cell::object(ROOT), &[1]);
    for _ in 0..20 {
        world.put(Cell::object(Oid(1)), &[]);
    }
    let to = world.put(Cell::object(Oid(2)), &[]);
    (world, to)
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.list("log").expect("lists")
}

#[test]
fn a_new_generation_that_the_index_has_no_room_for_is_taken_back() {
    let (world, to) = several_portions(1);
    let cell = RefCell::new(world);
    let full = pack_beside(&cell, to, &mut |world, _, stage| {
        if stage == Stage::Copy {
            world.disk.set_room(Some(512 << 10));
        }
        Ok(())
    });
    assert!(matches!(full, Err(StoreError::DiskFull)));
    let world = cell.into_inner();
    assert!(segments(&world.disk).iter().all(|name| name.ends_with(".0000.seg")), "{:?}", segments(&world.disk));
    world.disk.set_room(None);
    let (mut world, packed) = pack(world, to);
    assert_eq!((packed.revisions, packed.objects), (20, 1));
    world.check(to, "after");
}

#[test]
fn a_store_with_half_a_pack_and_no_room_takes_nothing_until_the_pack_is_ended() {
    let (world, to) = several_portions(2);
    let cell = RefCell::new(world);
    let full = pack_beside(&cell, to, &mut |world, _, stage| {
        if stage == Stage::Shift {
            world.settler.lock().checkpoint()?;
            world.disk.set_room(Some(512 << 10));
        }
        Ok(())
    });
    assert!(matches!(full, Err(StoreError::DiskFull)));
    let World { disk, model, settler, reader, appender, .. } = cell.into_inner();
    drop((settler, reader, appender));
    let after = disk.fork();
    let mut world = World::open(&after, model, 2).expect("opens");
    if !world.settler.lock().is_half_packed() {
        // An index that is dropped after any unclean stop is whole again.
        assert_eq!(engine::kind(), crate::store::IndexKind::Sled);
        return;
    }
    world.check(to, "half-way");
    assert!(matches!(world.commit(vec![write(Cell::object(Oid(1)), &[2], 9)]), Err(StoreError::DiskFull)));
    assert!(matches!(resume_pack(&world.reader, &world.settler), Err(StoreError::DiskFull)));
    after.set_room(None);
    resume_pack(&world.reader, &world.settler).expect("ends it");
    assert!(!exists(&world, 2));
    world.put(Cell::object(Oid(1)), &[]);
    world.check(to, "after");
    world.verify("after");
}

#[test]
fn a_pack_leaves_a_sixteenth_of_a_small_disk_and_64_mib_of_a_large_one() {
    const MIB: u64 = 1 << 20;
    // What stays of the segment is some kilobytes.
    for (size, room, has_room) in [
        (160 * MIB, 9 * MIB, false),
        (160 * MIB, 11 * MIB, true),
        (1600 * MIB, 63 * MIB, false),
        (1600 * MIB, 96 * MIB, true),
        (1 << 50, 63 * MIB, false),
    ] {
        // An index on sled keeps 64 MiB for itself.
        if has_room && room < 64 * MIB && engine::kind() == crate::store::IndexKind::Sled {
            continue;
        }
        let (world, to) = several_portions(4);
        world.settle();
        world.disk.set_size(size);
        world.disk.set_room(Some(room));
        let packed = pack_beside(&RefCell::new(world), to, &mut |_, _, _| Ok(()));
        assert_eq!(packed.is_ok(), has_room, "{size} {room}: {packed:?}");
        assert!(packed.is_ok() || matches!(packed, Err(StoreError::DiskFull)));
    }
}

#[test]
fn a_pack_that_has_no_room_to_begin_refuses_no_snapshot() {
    let (world, to) = several_portions(3);
    world.settle();
    world.disk.set_room(Some(512 << 10));
    let cell = RefCell::new(world);
    assert!(matches!(pack_beside(&cell, to, &mut |_, _, _| Ok(())), Err(StoreError::DiskFull)));
    cell.into_inner().reader.get(&Cell::object(ROOT), to.prev()).expect("nothing is gone");
}
