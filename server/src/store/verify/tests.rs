//! Owns the tests of verify: a good store is clean, and each kind of damage is found and named.

use super::*;
use crate::store::KnownKey;
use crate::store::disk::Disk;
use crate::store::index::rows::{self, Revision, Stored};
use crate::store::index::{Change, Table, keys};
use crate::store::pack::tests::{Model, World};
use roaring::RoaringTreemap;
use zeolite_proto::Cell;

const ROOT: Oid = Oid(0);

/// The root refers to 1, 1 to 2; some revisions in several segments.
fn world() -> World {
    let mut world = World::new(1);
    world.put(Cell::object(ROOT), &[1]);
    world.put(Cell::object(Oid(1)), &[2]);
    for _ in 0..120 {
        world.put(Cell::object(Oid(2)), &[]);
        world.put(Cell::entry(Oid(2), "k"), &[1]);
    }
    world
}

fn problems(world: &World) -> Vec<String> {
    let verified = verify(&world.reader, &world.settler, &[ROOT], &mut |_, _, _| Ok(())).expect("verifies");
    assert_eq!(verified.problems_total, verified.problems.len() as u64);
    verified.problems
}

fn dangling(world: &World) -> (Vec<(Oid, Oid)>, u64) {
    let verified = verify(&world.reader, &world.settler, &[ROOT], &mut |_, _, _| Ok(())).expect("verifies");
    (verified.dangling, verified.dangling_total)
}

/// Changes the index behind everybody's back.
fn tamper(world: &World, change: Change) {
    world.settle();
    world.reader.state.index.commit(&[change], true).expect("commits");
}

fn one(world: &World, words: &[&str]) {
    let problems = problems(world);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(words.iter().all(|word| problems[0].contains(word)), "{problems:#?} says nothing of {words:?}");
}

#[test]
fn a_good_store_has_no_problems_and_everything_is_counted() {
    let world = world();
    let mut stages = Vec::new();
    let verified = verify(&world.reader, &world.settler, &[ROOT], &mut |stage, _, _| {
        stages.push(stage);
        Ok(())
    });
    let verified = verified.expect("verifies");
    let expected = Verified {
        upto: world.reader.published(),
        transactions: 242,
        revisions: 242,
        objects: 3,
        ..Verified::default()
    };
    assert_eq!(verified, expected);
    assert!(stages.contains(&VerifyStage::Settle) && stages.contains(&VerifyStage::References));
}

#[test]
fn commits_between_its_pieces_do_no_harm_and_no_view_lasts() {
    let world = std::cell::RefCell::new(world());
    let (reader, settler) = (world.borrow().reader.clone(), world.borrow().settler.clone());
    let before = reader.state.index.views();
    let mut pieces = 0;
    let verified = verify(&reader, &settler, &[ROOT], &mut |stage, _, _| {
        if stage == VerifyStage::Index {
            // Objects that are behind, before and among what was looked at, of a new kind too.
            pieces += 1;
            let mut world = world.borrow_mut();
            world.put(Cell::object(Oid(1)), &[2]);
            world.put(Cell::object(Oid(100 + pieces)), &[]);
            world.delete(Cell::object(Oid(99 + pieces)));
            world.settle();
        }
        Ok(())
    });
    assert_eq!(verified.expect("verifies").problems, Vec::<String>::new());
    assert!(pieces > 10, "{pieces}");
    assert!(reader.state.index.views() - before > pieces, "a view for each piece");
}

#[test]
fn the_caller_can_stop_it() {
    let stopped = verify(&world().reader, &world().settler, &[ROOT], &mut |_, _, _| Err(StoreError::Stopped));
    assert!(matches!(stopped, Err(StoreError::Stopped)));
}

#[test]
fn a_reference_to_nothing_is_named_if_it_can_be_reached() {
    let mut world = world();
    world.put(Cell::object(Oid(8)), &[9]);
    assert!(problems(&world).is_empty(), "8 cannot be reached");
    world.put(Cell::object(Oid(2)), &[7]);
    let to_7 = (vec![(Oid(2), Oid(7))], 1);
    assert_eq!(dangling(&world), to_7);
    world.put(Cell::object(Oid(7)), &[]);
    assert_eq!(dangling(&world), (Vec::new(), 0));
    world.delete(Cell::object(Oid(7)));
    assert_eq!(dangling(&world), to_7);
    assert!(problems(&world).is_empty(), "it is no damage");
}

#[test]
fn many_references_to_nothing_are_counted_and_hide_no_damage() {
    let mut world = world();
    let nowhere: Vec<u64> = (1000..1300).collect();
    world.put(Cell::object(Oid(2)), &nowhere);
    let (first, total) = dangling(&world);
    assert_eq!((first.len(), total), (100, 300));
    tamper(&world, (Table::Objects, keys::object(0, Oid(77)), Some(Vec::new())));
    one(&world, &["lists 4 objects", "has 3"]);
}

#[test]
fn a_flipped_bit_in_the_log_is_named_with_its_segment_and_the_rest_is_still_read() {
    let mut world = world();
    world.settle();
    let before = problems(&world).len();
    assert_eq!(before, 0);
    let names = world.disk.list("log").expect("lists");
    assert!(names.len() > 3, "{names:?}");
    let flipped = world.disk.edit(&format!("log/{}", names[1]), |bytes| bytes[700] ^= 1);
    assert!(flipped);
    let problems = problems(&world);
    assert!(problems[0].contains("damage in segment 2 at offset"), "{problems:#?}");
    // The records of the rest of this segment, if they were looked for; nothing of other segments.
    assert!(problems.iter().all(|problem| problem.contains("segment 2")), "{problems:#?}");
    world.put(Cell::object(Oid(2)), &[]);
}

#[test]
fn what_the_index_lacks_or_has_besides_is_named() {
    let cell = Cell::object(Oid(2));
    let lacking = world();
    let tid = lacking.reader.history(&cell, Tid::MAX, 50).expect("reads")[20].tid;
    let row_of = |world: &World, key: &[u8]| {
        world.reader.state.index.view().expect("view").get(Table::Revisions, key).expect("reads")
    };
    let key = keys::revision(&cell, tid);
    tamper(&lacking, (Table::Revisions, key.clone(), None));
    one(&lacking, &["the index does not have it", &tid.to_string()]);

    let besides = world();
    besides.settle();
    let row = row_of(&besides, &key).expect("there");
    let other = Cell::entry(Oid(2), "other");
    tamper(&besides, (Table::Revisions, keys::revision(&other, tid), Some(row.clone())));
    one(&besides, &["the log does not", "2/other"]);

    let elsewhere = world();
    elsewhere.settle();
    let mut revision = Revision::parse(&row).expect("parses");
    let Stored::At(place) = &mut revision.record else { panic!("a record of this size is in the log") };
    place.offset += 1;
    tamper(&elsewhere, (Table::Revisions, key.clone(), Some(revision.encode())));
    one(&elsewhere, &["the index has something else", &tid.to_string()]);
}

#[test]
fn lists_counts_keys_and_places_that_do_not_fit_are_named() {
    let listed = world();
    tamper(&listed, (Table::Objects, keys::object(0, Oid(77)), Some(Vec::new())));
    one(&listed, &["lists 4 objects", "has 3"]);

    let counted = world();
    counted.settle();
    let view = counted.reader.state.index.view().expect("view");
    let row = view.get(Table::Kinds, &0u32.to_be_bytes()).expect("reads").expect("there");
    drop(view);
    let (_, kind, count) = rows::parse_kind(&0u32.to_be_bytes(), &row).expect("parses");
    tamper(&counted, (Table::Kinds, 0u32.to_be_bytes().to_vec(), Some(rows::encode_kind(&kind, count + 5))));
    one(&counted, &["counts 8 objects of \"Page\" version 1", "has 3"]);

    let keyed = world();
    let row = rows::encode_keys(
        0,
        &[KnownKey { key: zeolite_proto::CommitKey([9; 16]), digest: 0, tid: Tid(11), lived_ms: 0 }],
    );
    tamper(&keyed, (Table::Keys, rows::tid_key(Tid(11)), Some(row)));
    one(&keyed, &["commit key", &Tid(11).to_string()]);

    let placed = world();
    let position = crate::store::log::Position { segment: 1, generation: 0, offset: 65 };
    tamper(&placed, (Table::Places, rows::tid_key(Tid(11)), Some(rows::encode_position(position))));
    one(&placed, &["begins in segment 1 at 65"]);
}

#[test]
fn it_finds_nothing_wrong_beside_traffic() {
    let seed = 5;
    let mut world = World::new(seed);
    for _ in 0..100 {
        world.random_commit(&RoaringTreemap::new()).expect("commits");
    }
    let (reader, settler) = (world.reader.clone(), world.settler.clone());
    let verified = verify(&reader, &settler, &[ROOT], &mut |_, _, _| {
        world.random_commit(&RoaringTreemap::new())?;
        world.settler.lock().settle(1).map(drop)
    });
    let problems = verified.expect("verifies").problems;
    assert!(problems.is_empty(), "seed {seed}: {problems:#?}");
    drop(Model::default());
}
