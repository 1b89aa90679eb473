//! A large segment of which little would go is left as it is, and every answer is right all the same.

use super::*;

/// A large segment with the first revisions of 1 and 2 among many others; then 1 is written twice and 2 deleted. With the tids of 1.
fn little_in_a_large_one() -> (World, Tid, [Tid; 3]) {
    let mut world = World::new(1);
    world.put(Cell::object(ROOT), &(1..40).collect::<Vec<_>>());
    let first = world.put(Cell::object(Oid(1)), &[]);
    for oid in 2..30 {
        world.put(Cell::object(Oid(oid)), &[]);
    }
    world.appender.roll().expect("rolls");
    let second = world.put(Cell::object(Oid(1)), &[]);
    world.delete(Cell::object(Oid(2)));
    world.delete(Cell::object(Oid(30)));
    world.appender.roll().expect("rolls");
    let third = world.put(Cell::object(Oid(1)), &[]);
    let to = world.put(Cell::object(Oid(31)), &[]);
    (world, to, [first, second, third])
}

#[test]
fn a_deletion_stays_as_long_as_what_it_deletes() {
    let (world, to, [first, second, third]) = little_in_a_large_one();
    let (mut world, packed) = pack(world, to);
    // The second of 1, and the deletion of what never was.
    assert_eq!(packed.revisions, 2);
    assert!(segments(&world.disk).contains(&"0000000001.0000.seg".to_owned()), "{:?}", segments(&world.disk));
    let tids = |world: &World| {
        let history = world.reader.history(&Cell::object(Oid(1)), Tid::MAX, 9).expect("reads");
        history.iter().map(|revision| revision.tid).collect::<Vec<_>>()
    };
    assert_eq!(tids(&world), [third, first], "{second} is gone");
    for round in 0..3 {
        world.check(to, "packed");
        world.verify("packed");
        let deleted = world.reader.get(&Cell::object(Oid(2)), Tid::MAX).expect("reads").expect("a deletion");
        assert_eq!(deleted.record, None);
        if round == 0 {
            (world, _) = pack(world, to);
            assert_eq!(tids(&world), [third, first]);
            continue;
        }
        let World { disk, model, settler, .. } = world;
        drop(settler);
        Store::remove_index(&disk).expect("removes");
        // The second time whatever can go goes.
        world = World::open(&disk, model, round).expect("opens");
    }
    (world, _) = pack(world, to);
    assert_eq!(tids(&world), [third]);
    assert_eq!(world.reader.newest(&Cell::object(Oid(2))).expect("reads"), None);
    world.check(to, "packed");
    world.verify("packed");
}

#[test]
fn a_revision_that_is_left_is_not_taken_for_the_base_of_what_came_behind_a_gone_one() {
    let (world, to, [first, second, third]) = little_in_a_large_one();
    let (world, _) = pack(world, to);
    let cell = Cell::object(Oid(1));
    let as_of = |base| world.reader.as_of_many(&[(cell.clone(), base)], 999).expect("reads").remove(0);
    for base in [first, second, third.prev()] {
        assert!(matches!(as_of(base), Err(StoreError::Packed { .. })), "{base}");
    }
    for base in [third, to, to.next()] {
        assert_eq!(as_of(base).expect("told").map(|revision| revision.tid), Some(third), "{base}");
    }
}
