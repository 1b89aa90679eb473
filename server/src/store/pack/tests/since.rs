//! A pack that looks only at what was written since the last one finds what one over everything finds, and says when it cannot.

use super::*;
use crate::store::index::Table;

/// A look at everything at the same moment finds the same garbage, and the same to go.
pub(super) fn is_what_everything_says(packer: &Packer, reader: &Reader) {
    if !packer.is_since() {
        return;
    }
    let quiet = &mut |_, _, _| Ok(());
    let mut whole = Packer::whole(reader, packer.settler.clone(), packer.to()).expect("surveys");
    assert!(whole.find_garbage(&[ROOT], quiet).expect("follows"), "there is a root");
    whole.catch_up(quiet).expect("catches up");
    assert_eq!(packer.garbage(), whole.garbage());
    let goes = |packer: &Packer| -> Vec<(u32, u64)> {
        let drops = packer.survey.drops.iter().filter(|(_, drops)| drops.revisions > 0);
        drops.map(|(number, drops)| (*number, drops.revisions)).collect()
    };
    assert_eq!(goes(packer), goes(&whole));
}

// Whether the next pack to the newest tid need not go over everything, and how many views of the index that takes.
fn next(world: &World) -> (bool, u64) {
    let state = &world.reader.state;
    let before = state.index.views();
    let packer = Packer::new(&world.reader, world.settler.clone(), Tid::MAX, &mut |_, _, _| Ok(())).expect("surveys");
    (packer.is_since(), state.index.views() - before)
}

fn packed(world: World) -> (World, Packed) {
    let to = world.reader.published();
    let (mut world, packed) = pack(world, to);
    world.check(to, "packed");
    world.verify("packed");
    (world, packed)
}

// A packed store of a root and forty objects.
fn forty() -> World {
    let mut world = World::new(2);
    world.put(Cell::object(ROOT), &(1..=40).collect::<Vec<_>>());
    for oid in 1..=40 {
        world.put(Cell::object(Oid(oid)), &[]);
    }
    packed(world).0
}

#[test]
fn the_second_pack_looks_at_what_was_written_since_and_finds_history_and_new_garbage_in_it() {
    let mut world = forty();
    assert!(next(&world).0);
    world.put(Cell::object(Oid(3)), &[]);
    world.put(Cell::object(Oid(50)), &[51]);
    world.put(Cell::object(Oid(51)), &[50]);
    world.put(Cell::entry(ROOT, "new"), &[52]);
    world.put(Cell::object(Oid(52)), &[53]);
    world.put(Cell::object(Oid(53)), &[]);
    let (since, views) = next(&world);
    assert!(since && views < 20, "{views} views");
    let (world, packed) = packed(world);
    assert_eq!((packed.objects, packed.revisions), (2, 3));
    assert!(!exists(&world, 50) && !exists(&world, 51) && exists(&world, 52) && exists(&world, 53));
    assert!(next(&world).0);
}

#[test]
fn a_reference_that_is_gone_or_an_oid_that_comes_back_makes_it_go_over_everything() {
    let mut world = forty();
    world.put(Cell::object(ROOT), &(1..=39).collect::<Vec<_>>());
    assert!(!next(&world).0);
    let (mut world, took) = packed(world);
    assert!(took.objects == 1 && !exists(&world, 40));
    world.delete(Cell::object(Oid(7)));
    assert!(next(&world).0, "it referred to nothing");
    (world, _) = packed(world);
    world.put(Cell::object(Oid(7)), &[]);
    assert!(!next(&world).0);
    (world, _) = packed(world);
    assert!(exists(&world, 7), "the root refers to it");
    let (_, took) = pack(world, Tid::NONE);
    assert_eq!(took.objects, 0);
}

#[test]
fn where_several_clients_make_objects_the_next_pack_still_looks_only_at_what_was_written() {
    let mut world = World::new(2);
    // Each takes its oids from a block of its own; the second has come further.
    world.put(Cell::object(ROOT), &[100, 200, 201, 260]);
    for oid in [100, 200, 201] {
        world.put(Cell::object(Oid(oid)), &[]);
    }
    (world, _) = packed(world);
    world.put(Cell::entry(ROOT, "one"), &[101]);
    world.put(Cell::object(Oid(101)), &[102]);
    world.put(Cell::object(Oid(102)), &[]);
    world.put(Cell::object(Oid(103)), &[104]);
    world.put(Cell::object(Oid(202)), &[]);
    world.put(Cell::entry(Oid(104), "only"), &[]);
    let (since, views) = next(&world);
    assert!(since && views < 20, "{views} views");
    let (mut world, took) = packed(world);
    assert_eq!(took.objects, 3, "103, 104 and 202");
    assert!(exists(&world, 101) && exists(&world, 102) && !exists(&world, 103) && !exists(&world, 202));
    // One that was deleted and named by nobody is as new as one that never was; one that the root names is not.
    world.put(Cell::object(Oid(103)), &[]);
    assert!(next(&world).0);
    world.put(Cell::object(Oid(260)), &[]);
    assert!(!next(&world).0);
    let (world, took) = packed(world);
    assert!(took.objects == 1 && exists(&world, 260) && !exists(&world, 103));
}

#[test]
fn what_was_deleted_since_and_may_be_named_is_not_taken_for_new_by_the_pack_after() {
    for entries in [false, true] {
        let mut world = forty();
        if entries {
            // What has an entry left is still there.
            world.put(Cell::entry(Oid(7), "left"), &[]);
            (world, _) = packed(world);
        }
        world.delete(Cell::object(Oid(7)));
        assert!(next(&world).0);
        (world, _) = packed(world);
        world.put(Cell::object(Oid(7)), &[50]);
        world.put(Cell::object(Oid(50)), &[]);
        assert_eq!(next(&world).0, entries);
        (world, _) = packed(world);
        assert!(exists(&world, 7) && exists(&world, 50));
    }
}

#[test]
fn what_was_named_before_it_was_made_is_not_taken_for_new() {
    // By something old, something new, and at a pack over everything.
    for names in 0..3 {
        let mut world = if names == 2 { World::new(2) } else { forty() };
        if names == 2 {
            world.put(Cell::object(ROOT), &[]);
        }
        let refs: &[u64] = if names == 1 { &[50] } else { &[99] };
        world.put(Cell::entry(ROOT, "later"), refs);
        world.put(Cell::object(Oid(50)), &[99]);
        world.put(Cell::entry(ROOT, "also"), &[50]);
        assert_eq!(next(&world).0, names < 2);
        (world, _) = packed(world);
        assert!(next(&world).0);
        world.put(Cell::object(Oid(99)), &[98]);
        world.put(Cell::object(Oid(98)), &[]);
        (world, _) = packed(world);
        assert!(exists(&world, 99) && exists(&world, 98), "{names}");
    }
}

#[test]
fn what_only_something_newer_than_the_tid_reaches_is_looked_at_again() {
    let mut world = forty();
    let to = world.put(Cell::object(Oid(60)), &[]);
    world.put(Cell::entry(ROOT, "young"), &[60]);
    (world, _) = pack(world, to);
    assert!(exists(&world, 60));
    world.put(Cell::object(Oid(1)), &[]);
    assert!(!next(&world).0);
}

#[test]
fn a_row_that_is_of_another_pack_is_not_gone_by_and_one_that_is_lost_costs_a_look_at_everything() {
    let world = forty();
    let surveyed =
        |world: &World| world.reader.state.index.view().expect("view").get(Table::Meta, SURVEYED).expect("reads");
    let row = surveyed(&world).expect("there");
    // Somebody has packed further and said nothing.
    world.settler.lock().pack_to(world.reader.published().next()).expect("says");
    world.reader.state.set_packed_to(world.reader.published().next());
    let mut world = world;
    world.put(Cell::object(Oid(1)), &[]);
    assert!(!next(&world).0);
    (world, _) = packed(world);
    assert!(next(&world).0 && surveyed(&world).expect("there") != row);
    let World { disk, model, settler, .. } = world;
    drop(settler);
    Store::remove_index(&disk).expect("removes");
    let world = World::open(&disk, model, 4).expect("opens");
    assert!(!next(&world).0 && surveyed(&world).is_none());
}

/// Commits that take no reference away, packs to any tid with commits between the steps, crashes: mostly since the last pack, and always right (see
/// `pack_beside`).
#[test]
fn whatever_is_added_between_packs_they_find_what_a_look_at_everything_finds() {
    let seeds = std::env::var("ZEOLITE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(16);
    let (mut since, mut garbage_of_these) = (0, 0);
    for seed in 0..seeds {
        let mut world = World::new(seed);
        world.put(Cell::object(ROOT), &[]);
        for round in 0..5 {
            let context = format!("seed {seed} round {round}");
            let gone = RoaringTreemap::new();
            for _ in 0..world.dice.usize(3..25) {
                world.adding_commit(&gone);
            }
            let (from, published) = (world.reader.packed_to(), world.reader.published());
            let to = if world.dice.u8(0..3) > 0 { published } else { Tid(world.dice.u64(from.0..=published.0)) };
            let is_since = next_to(&world, to);
            let cell = RefCell::new(world);
            let between: Between<'_> = &mut |world, gone, _| {
                if world.dice.u8(0..60) == 0 {
                    world.adding_commit(gone);
                }
                Ok(())
            };
            let (to, _, garbage) = pack_beside(&cell, to, between).expect("packs");
            world = cell.into_inner();
            since += u32::from(is_since);
            garbage_of_these += if is_since { garbage.len() } else { 0 };
            world.model.cells.retain(|cell, _| !garbage.contains(cell.oid.0));
            world.check(to, &context);
            world.verify(&context);
            if world.dice.u8(0..6) == 0 {
                let World { disk, model, settler, .. } = world;
                drop(settler);
                world = World::open(&disk.crash(seed), model, seed * 100 + round).expect("opens");
            }
        }
    }
    let enough = u64::from(since) > seeds && garbage_of_these > seeds;
    assert!(
        enough || engine::kind() == crate::store::IndexKind::Sled,
        "{since} packs of {}, {garbage_of_these} objects",
        seeds * 5
    );
}

fn next_to(world: &World, to: Tid) -> bool {
    let quiet = &mut |_, _, _| Ok(());
    Packer::new(&world.reader, world.settler.clone(), to, quiet).expect("surveys").is_since()
}

impl World {
    // New objects with or without somebody who refers to them, from anywhere among the oids; records that refer to all that they did before and more,
    // also to what is not there; deletions of what refers to nothing.
    fn adding_commit(&mut self, gone: &RoaringTreemap) {
        let oids: Vec<u64> = self.model.oids().iter().map(|oid| oid.0).filter(|oid| !gone.contains(*oid)).collect();
        let is_there = |oid: u64| oids.binary_search(&oid).is_ok() || gone.contains(oid);
        let free: Vec<u64> = (1..400).filter(|oid| !is_there(*oid)).collect();
        let next = free[self.dice.usize(0..free.len())];
        let at = oids[self.dice.usize(0..oids.len())];
        let key = if self.dice.bool() { Bytes::new() } else { Bytes::copy_from_slice(&[self.dice.u8(0..3)]) };
        let cell = Cell { oid: Oid(at), key };
        let before = self.model.at(&cell, Tid::MAX).map(|record| Record::decode(&record).expect("decodes").refs);
        let mut refs: Vec<u64> = before.iter().flatten().map(|oid| oid.0).collect();
        let mut writes = Vec::new();
        match self.dice.u8(0..16) {
            // Nobody refers to it.
            0..4 => {
                self.put(Cell::object(Oid(next)), &[next]);
                return;
            }
            4 if at != 0 && refs.is_empty() => {
                self.delete(cell);
                return;
            }
            // It is not made, or later, and then the pack goes over everything.
            5 => refs.push(next),
            6..8 => {}
            _ => {
                refs.push(next);
                let own: Vec<u64> = if self.dice.bool() { vec![at] } else { Vec::new() };
                writes.push(write(Cell::object(Oid(next)), &own, self.dice.usize(0..200)));
            }
        }
        writes.push(write(cell, &refs, self.dice.usize(0..200)));
        self.commit(writes).expect("commits");
    }
}
