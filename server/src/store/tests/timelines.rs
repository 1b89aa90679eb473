//! The lives of a store: when a new timeline begins, and what it is told apart from.

use super::super::disk::Disk;
use super::super::frame::SegmentHeader;
use super::super::log::segments::segment_path;
use super::super::{IndexKind, Opening};
use super::*;

fn open_as(disk: &SimDisk, settings: StoreSettings, opening: Opening) -> Result<Opened, StoreError> {
    let settings = StoreSettings { index: engine::kind(), ..settings };
    Store::open(engine::on(disk), settings, opening, &mut |_| {})
}

fn closed(mut opened: Opened) {
    drop((opened.appender, opened.reader));
    opened.settler.close().expect("closes");
}

#[test]
fn a_life_goes_on_through_restarts_and_segments_and_ends_with_the_index() {
    let disk = SimDisk::new();
    let mut opened = open_as(&disk, small(), 5.into()).expect("opens");
    (1..40).for_each(|tid| commit(&mut opened, &[simple(tid, 400)]));
    assert!(opened.reader.stats().segments > 2);
    closed(opened);
    let mut opened = open_as(&disk, small(), 6.into()).expect("opens");
    assert_eq!((opened.recovered.store_id, opened.recovered.timeline), (5, 5));
    (40..60).for_each(|tid| commit(&mut opened, &[simple(tid, 400)]));
    closed(opened);
    Store::remove_index(&disk).expect("removes");
    let mut opened = open_as(&disk, small(), 7.into()).expect("opens");
    assert_eq!((opened.recovered.store_id, opened.recovered.timeline), (5, 7));
    commit(&mut opened, &[simple(60, 10)]);
    assert!(opened.reader.shares(5, Tid(59)) && !opened.reader.shares(5, Tid(60)));
    assert!(opened.reader.shares(7, Tid(60)) && !opened.reader.shares(6, Tid(1)));
    closed(opened);
    let opened = open_as(&disk, small(), 8.into()).expect("opens");
    assert_eq!((opened.recovered.timeline, opened.reader.timeline()), (7, 7));
}

#[test]
fn without_room_for_its_segment_a_new_life_begins_with_the_next_commit() {
    let disk = SimDisk::new();
    let mut opened = open_as(&disk, StoreSettings { log_room_bytes: 0, ..small() }, 5.into()).expect("opens");
    commit(&mut opened, &[simple(1, 10)]);
    closed(opened);
    // Room that is cut off would be room for a segment.
    let mut opened = open_as(&disk, StoreSettings { log_room_bytes: 0, ..small() }, 5.into()).expect("opens");
    disk.set_room(Some(0));
    opened.appender.begin_timeline(9, Tid::NONE).expect("waits for room");
    assert_eq!((opened.reader.timeline(), disk.bytes(&segment_path(2, 0))), (9, None));
    disk.set_room(None);
    commit(&mut opened, &[simple(2, 10)]);
    closed(opened);
    assert!(disk.bytes(&segment_path(2, 0)).is_some());
    assert_eq!(open_as(&disk, small(), 8.into()).expect("opens").reader.timeline(), 9);
}

/// A store with two lives that were one up to tid 20: the first went on to 40, the copy to `to`.
fn two_lives(to: u64, pack: bool) -> (SimDisk, SimDisk) {
    let first = SimDisk::new();
    let mut opened = open_as(&first, small(), 5.into()).expect("opens");
    (1..=20).for_each(|tid| commit(&mut opened, &[simple(tid, 100)]));
    closed(opened);
    let copy = first.fork();
    let mut opened = open_as(&first, small(), 5.into()).expect("opens");
    (21..=40).for_each(|tid| commit(&mut opened, &[simple(tid, 100)]));
    closed(opened);
    let mut opened = open_as(&copy, small(), 5.into()).expect("opens");
    (21..=to).for_each(|tid| commit(&mut opened, &[simple(tid, 110)]));
    closed(opened);
    if pack {
        // As a pack leaves it: another generation, which the older log does not have.
        let (old, new) = (segment_path(1, 0), segment_path(1, 1));
        assert!(first.bytes(&old).is_some());
        let header = SegmentHeader { generation: 1, ..SegmentHeader::first(5) };
        let mut bytes = copy.bytes(&old).expect("there");
        bytes[..64].copy_from_slice(&header.encode());
        copy.put(&new, bytes);
        copy.remove(&old).expect("removes");
    }
    (first, copy)
}

/// The log of one life under the index of the other.
fn mixed(index: &SimDisk, log: &SimDisk) -> SimDisk {
    let mixed = index.fork();
    for name in mixed.list("log").expect("lists") {
        mixed.remove(&format!("log/{name}")).expect("removes");
    }
    for name in log.list("log").expect("lists") {
        let path = format!("log/{name}");
        mixed.put(&path, log.bytes(&path).expect("there"));
    }
    mixed
}

#[test]
fn an_older_log_is_refused_until_somebody_says_that_it_was_put_back() {
    for pack in [false, true] {
        let (first, copy) = two_lives(25, pack);
        let disk = mixed(&first, &copy);
        // sled's index says nothing any more when its first opening ended without a clean stop.
        for _ in 0..if engine::kind() == IndexKind::Sled { 1 } else { 2 } {
            match open_as(&disk, small(), 6.into()) {
                Err(StoreError::Damaged { what, .. }) => assert!(what.contains("--put-back"), "{what}"),
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("an older log was taken without a word"),
            }
        }
        let opening = Opening { put_back: true, ..Opening::from(6) };
        let mut opened = open_as(&disk, small(), opening).expect("opens");
        assert_eq!((opened.recovered.last_tid, opened.recovered.timeline), (Tid(25), 6));
        commit(&mut opened, &[simple(26, 10)]);
        assert!(opened.reader.shares(5, Tid(25)) && !opened.reader.shares(5, Tid(26)));
    }
}

#[test]
fn the_index_of_another_life_is_not_taken_for_that_of_a_longer_log() {
    let (first, copy) = two_lives(60, false);
    let opened = open_as(&mixed(&first, &copy), small(), 6.into()).expect("opens");
    let why = opened.recovered.index_rebuilt.as_deref().expect("rebuilt");
    assert!(why.contains("another life"), "{why}");
    assert_eq!((opened.recovered.timeline, opened.recovered.last_tid), (6, Tid(60)));
    let found = opened.reader.get(&Cell::object(Oid(40)), Tid(60)).expect("reads").expect("there");
    assert_eq!(found.record, simple(40, 110).writes[0].record);
}

#[test]
fn what_a_life_says_of_packing_counts_as_far_as_the_life_has_come() {
    let disk = SimDisk::new();
    let mut opened = open_as(&disk, small(), 5.into()).expect("opens");
    commit(&mut opened, &[simple(1, 10)]);
    commit(&mut opened, &[simple(2, 10)]);
    opened.appender.begin_timeline(9, Tid(50)).expect("begins");
    assert_eq!(opened.reader.packed_to(), Tid::NONE, "nothing has come");
    closed(opened);
    let mut opened = open_as(&disk, small(), 6.into()).expect("opens");
    assert_eq!((opened.reader.packed_to(), opened.reader.timeline()), (Tid::NONE, 9));
    assert!(opened.reader.get(&Cell::object(Oid(1)), Tid(1)).is_ok());
    opened.appender.begin_timeline(10, Tid(50)).expect("begins");
    commit(&mut opened, &[simple(3, 10)]);
    let all = |opened: &Opened| (opened.reader.packed_to(), opened.reader.packed_said(), opened.recovered.last_tid);
    assert_eq!((opened.reader.packed_to(), opened.reader.packed_said()), (Tid(3), Tid(50)));
    closed(opened);
    for lost in [false, true] {
        if lost {
            Store::remove_index(&disk).expect("removes");
        }
        let opened = open_as(&disk, small(), 7.into()).expect("opens");
        assert_eq!(all(&opened), (Tid(3), Tid(50), Tid(3)));
        assert!(opened.recovered.keys_floor <= Tid(3), "what is committed next has a key that is known");
        assert!(opened.reader.get(&Cell::object(Oid(1)), Tid(3)).is_ok(), "the newest snapshot can be read");
        assert!(matches!(opened.reader.get(&Cell::object(Oid(1)), Tid(2)), Err(StoreError::Packed { .. })));
        closed(opened);
    }
    let mut opened = open_as(&disk, small(), 8.into()).expect("opens");
    commit(&mut opened, &[simple(60, 10)]);
    assert_eq!((opened.reader.packed_to(), opened.reader.packed_said()), (Tid(50), Tid(50)));
    let packed = opened.reader.get(&Cell::object(Oid(1)), Tid(49));
    assert!(matches!(packed, Err(StoreError::Packed { packed_to: Tid(50), .. })));
}

#[test]
fn a_life_that_is_restored_into_and_still_empty_is_used_again() {
    let disk = SimDisk::new();
    let mut opened = open_as(&disk, small(), 5.into()).expect("opens");
    let begin = |opened: &mut Opened, timeline, packed_to| {
        opened.appender.begin_restored(timeline, Tid(packed_to)).expect("begins");
        (opened.reader.timeline(), opened.reader.stats().segments)
    };
    assert_eq!(begin(&mut opened, 6, 0), (5, 1), "the store is new");
    commit(&mut opened, &[simple(1, 10)]);
    assert_eq!(begin(&mut opened, 7, 0), (7, 2));
    assert_eq!(begin(&mut opened, 8, 0), (7, 2), "nothing is in it");
    assert_eq!(begin(&mut opened, 9, 50), (9, 3), "it says something else of packing");
    closed(opened);
    let mut opened = open_as(&disk, small(), 5.into()).expect("opens");
    assert_eq!(begin(&mut opened, 10, 50), (9, 3));
    commit(&mut opened, &[simple(2, 10)]);
    assert_eq!(begin(&mut opened, 11, 50), (11, 4));
    opened.appender.roll().expect("is empty already");
    commit(&mut opened, &[simple(3, 10)]);
    opened.appender.roll().expect("rolls");
    assert_eq!(begin(&mut opened, 12, 0), (12, 6), "a segment is empty, its life is not");
}
