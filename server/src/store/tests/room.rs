//! The zeros behind the end of the log: what is written over them, torn there, cut off before the next segment; a full disk.

use super::*;
use crate::store::disk::Disk;
use crate::store::log::segments::segment_path;
use crate::store::verify;
use parking_lot::Mutex;

const SEGMENT_1: &str = "log/0000000001.0000.seg";

fn settings() -> StoreSettings {
    StoreSettings { segment_bytes_max: 1 << 20, log_room_bytes: 9000, ..small() }
}

fn bytes(disk: &SimDisk) -> Vec<u8> {
    disk.bytes(SEGMENT_1).expect("there")
}

// A store with four batches and the room that the first of them made, and where the fifth begins.
fn with_room(settle: bool) -> (SimDisk, Opened, usize) {
    let disk = SimDisk::new();
    let mut opened = open(&disk, settings()).expect("opens");
    (1..5).for_each(|tid| commit(&mut opened, &[simple(tid, 30)]));
    if settle {
        opened.settler.settle(usize::MAX).expect("settles");
        opened.settler.checkpoint().expect("checkpoint");
    }
    let end = opened.reader.stats().log_bytes as usize;
    assert!(bytes(&disk).len() >= end + 8000 && bytes(&disk)[end..].iter().all(|byte| *byte == 0));
    (disk, opened, end)
}

fn tids(opened: &Opened) -> Vec<u64> {
    all_txns(opened).iter().map(|txn| txn.tid.0).collect()
}

#[test]
fn batches_are_written_over_it_and_the_file_grows_when_it_is_used_up() {
    let (disk, mut opened, end) = with_room(false);
    let (mut lens, mut tid) = (vec![bytes(&disk).len()], 4);
    while lens.len() < 4 {
        tid += 1;
        commit(&mut opened, &[simple(tid, 100)]);
        lens.push(bytes(&disk).len());
        lens.dedup();
    }
    assert!(tid > 60, "{tid}: many share one growth");
    assert!(opened.reader.stats().log_bytes as usize > end && lens.windows(2).all(|pair| pair[1] > pair[0] + 8000));
    commit(&mut opened, &[simple(1000, 40_000)]);
    assert_eq!(bytes(&disk).len() as u64, opened.reader.stats().log_bytes, "a large one makes none");
    drop(opened);
    let opened = open(&disk, settings()).expect("opens");
    assert_eq!(opened.recovered.torn_bytes_cut, 0);
    assert_eq!(tids(&opened), (1..=tid).chain([1000]).collect::<Vec<_>>());
}

#[test]
fn a_batch_torn_in_it_at_any_byte_is_cut_and_what_was_never_written_is_not() {
    for settle in [false, true] {
        let (disk, mut opened, end) = with_room(settle);
        let before = bytes(&disk);
        commit(&mut opened, &[simple(5, 30), simple(6, 300)]);
        let after = opened.reader.stats().log_bytes as usize;
        let written = bytes(&disk);
        assert_eq!(written.len(), before.len());
        for cut in end..after {
            for (first, second) in [(&written, &before), (&before, &written)] {
                let image = [&first[..cut], &second[cut..]].concat();
                // None of the bytes, or all that are not zeros.
                if image == before || image == written {
                    continue;
                }
                let torn = disk.crash(0);
                torn.edit(SEGMENT_1, |bytes| bytes.clone_from(&image));
                let mut opened = open(&torn, settings()).expect("opens");
                let last = image.iter().rposition(|byte| *byte != 0).expect("a header");
                assert_eq!(opened.recovered.torn_bytes_cut as usize, last + 1 - end, "cut at {cut}");
                assert_eq!(opened.recovered.last_tid, Tid(4));
                commit(&mut opened, &[simple(7, 10)]);
                drop(opened);
                let opened = open(&torn, settings()).expect("opens again");
                assert_eq!((opened.recovered.torn_bytes_cut, tids(&opened)), (0, vec![1, 2, 3, 4, 7]));
            }
        }
        drop(opened);
        let untouched = disk.crash(0);
        untouched.edit(SEGMENT_1, |bytes| bytes.clone_from(&before));
        let opened = open(&untouched, settings()).expect("opens");
        assert_eq!((opened.recovered.torn_bytes_cut, opened.reader.stats().torn), (0, 0));
        assert_eq!((bytes(&untouched), opened.reader.stats().log_bytes as usize), (before, end), "room stays");
    }
}

#[test]
fn batches_that_have_become_zeros_are_damage_if_the_index_has_seen_them() {
    let (disk, opened, end) = with_room(false);
    let first = 64;
    for from in [first, end - 100] {
        let gone = disk.fork();
        let mut seen = open(&gone, settings()).expect("opens");
        seen.settler.settle(usize::MAX).expect("settles");
        seen.settler.close().expect("closes");
        drop(seen);
        gone.edit(SEGMENT_1, |bytes| bytes[from..].fill(0));
        let Err(StoreError::Damaged { segment, offset, what }) = open(&gone, settings()) else { panic!("opened") };
        assert!(segment == 1 && offset <= from as u64, "{offset} {what}");
    }
    drop(opened);
}

#[test]
fn before_the_next_segment_begins_it_is_cut_off_and_nothing_torn_is_told() {
    let (disk, mut opened, end) = with_room(false);
    opened.appender.roll().expect("rolls");
    assert_eq!(bytes(&disk).len(), end);
    commit(&mut opened, &[simple(5, 30)]);
    for seed in 0..20 {
        let after = disk.crash(seed);
        let opened = open(&after, settings()).expect("opens");
        assert_eq!((tids(&opened), opened.recovered.torn_bytes_cut), (vec![1, 2, 3, 4, 5], 0));
        let Opened { reader, settler, .. } = opened;
        let verified = verify(&reader, &Mutex::new(settler), &[], &mut |_, _, _| Ok(())).expect("verifies");
        assert_eq!(verified.problems, Vec::<String>::new());
    }
}

#[test]
fn a_segment_of_room_alone_holds_nothing_and_is_gone_on_with() {
    let disk = SimDisk::new();
    drop(open(&disk, settings()).expect("opens"));
    let file = disk.open(SEGMENT_1, false).expect("there");
    file.set_len(9000).expect("extends");
    Store::remove_index(&disk).expect("removes");
    let mut opened = open(&disk, settings()).expect("opens");
    assert_eq!((opened.recovered.torn_bytes_cut, opened.recovered.index_rebuilt.take()), (0, None), "it is new");
    commit(&mut opened, &[simple(1, 10)]);
    assert!(tids(&opened) == [1] && disk.bytes(&segment_path(2, 0)).is_none());
}

#[test]
fn where_there_is_no_space_for_it_a_batch_goes_without_and_what_there_is_of_it_can_be_used() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, settings()).expect("opens");
    disk.set_room(Some(5000));
    commit(&mut opened, &[simple(1, 100)]);
    assert_eq!(bytes(&disk).len() as u64, opened.reader.stats().log_bytes);
    disk.set_room(None);
    commit(&mut opened, &[simple(2, 100)]);
    let end = bytes(&disk).len();
    disk.set_room(Some(0));
    let mut tid = 3;
    while let Ok(appended) = opened.appender.append(&[simple(tid, 100)]) {
        opened.appender.publish(appended);
        tid += 1;
    }
    assert!(tid > 30 && opened.reader.stats().log_bytes as usize + 250 > end, "{tid}");
    assert!(matches!(opened.appender.append(&[simple(tid, 100)]), Err(StoreError::DiskFull)));
    disk.set_room(None);
    commit(&mut opened, &[simple(tid, 100)]);
    drop(opened);
    let opened = open(&disk.crash(3), settings()).expect("opens");
    assert_eq!((tids(&opened), opened.recovered.torn_bytes_cut), ((1..=tid).collect(), 0));
}
