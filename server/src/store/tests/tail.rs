//! The end of the log: torn at every byte, damaged in the middle, cut too short, missing.

use super::*;
use crate::store::log::segments::segment_path;

const SEGMENT_1: &str = "log/0000000001.0000.seg";

// The file ends with its last batch; `room` has the others.
fn settings() -> StoreSettings {
    StoreSettings { segment_bytes_max: 1 << 20, log_room_bytes: 0, ..small() }
}

// A store with some batches, all in one segment, and the length of its file before the last one.
fn with_batches(settle: bool) -> (SimDisk, usize) {
    let disk = SimDisk::new();
    let mut opened = open(&disk, settings()).expect("opens");
    (1..5).for_each(|tid| commit(&mut opened, &[simple(tid, 30)]));
    if settle {
        opened.settler.settle(usize::MAX).expect("settles");
        opened.settler.checkpoint().expect("checkpoint");
    }
    let len = disk.bytes(SEGMENT_1).expect("there").len();
    commit(&mut opened, &[simple(5, 30), simple(6, 300)]);
    (disk, len)
}

fn damage(result: Result<Opened, StoreError>) -> (u32, u64, String) {
    match result {
        Err(StoreError::Damaged { segment, offset, what }) => (segment, offset, what),
        Err(other) => panic!("{other}"),
        Ok(opened) => panic!("opened: {:?}", opened.recovered),
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_store_goes_on() {
    for settle in [false, true] {
        let (disk, before) = with_batches(settle);
        let len = disk.bytes(SEGMENT_1).expect("there").len();
        for cut in before..len {
            for zeros in [false, true] {
                let torn = disk.crash(0);
                torn.edit(SEGMENT_1, |bytes| {
                    bytes.truncate(cut);
                    // A file whose length was written, but not its bytes.
                    bytes.resize(if zeros { len } else { cut }, 0);
                });
                let mut opened = open(&torn, settings()).expect("opens");
                // Zeros at the end are room.
                let written = &disk.bytes(SEGMENT_1).expect("there")[before..cut];
                let expected = written.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                assert_eq!(opened.recovered.torn_bytes_cut, expected as u64, "cut at {cut}");
                assert_eq!(opened.recovered.last_tid, Tid(4));
                commit(&mut opened, &[simple(7, 10)]);
                drop(opened);
                let opened = open(&torn, settings()).expect("opens again");
                assert_eq!(opened.recovered.torn_bytes_cut, 0);
                let tids: Vec<_> = all_txns(&opened).iter().map(|txn| txn.tid.0).collect();
                assert_eq!(tids, [1, 2, 3, 4, 7]);
            }
        }
    }
}

#[test]
fn damage_before_a_good_batch_is_named_and_nothing_is_cut() {
    let (disk, before) = with_batches(false);
    for at in (64..before).step_by(7) {
        let bad = disk.crash(0);
        bad.edit(SEGMENT_1, |bytes| bytes[at] ^= 0x10);
        Store::remove_index(&bad).expect("removes");
        let image = bad.bytes(SEGMENT_1);
        let (segment, offset, what) = damage(open(&bad, settings()));
        assert_eq!(segment, 1);
        assert!(offset <= at as u64 && at as u64 - offset < 200, "{at}: {offset} {what}");
        assert_eq!(bad.bytes(SEGMENT_1), image);
    }
}

#[test]
fn damage_in_an_earlier_segment_is_named_even_at_its_end() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, small()).expect("opens");
    (1..40).for_each(|tid| commit(&mut opened, &[simple(tid, 400)]));
    let segments = opened.reader.stats().segments;
    assert!(segments > 2);
    drop(opened);
    let len = disk.bytes(SEGMENT_1).expect("there").len();
    for flip in [true, false] {
        let bad = disk.crash(0);
        bad.edit(SEGMENT_1, |bytes| if flip { bytes[len - 1] ^= 1 } else { bytes.truncate(len - 1) });
        Store::remove_index(&bad).expect("removes");
        assert_eq!(damage(open(&bad, small())).0, 1);
    }
}

#[test]
fn a_segment_that_ends_too_early_between_two_batches_is_named_by_the_next_one() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, StoreSettings { segment_bytes_max: 4096, ..small() }).expect("opens");
    let mut lens = vec![64];
    (1..40).for_each(|tid| {
        commit(&mut opened, &[simple(tid, 400)]);
        lens.push(disk.bytes(SEGMENT_1).expect("there").len());
    });
    lens.dedup();
    drop(opened);
    let shorter = lens[lens.len() - 2];
    disk.edit(SEGMENT_1, |bytes| bytes.truncate(shorter));
    Store::remove_index(&disk).expect("removes");
    let (segment, offset, what) = damage(open(&disk, small()));
    assert_eq!((segment, offset), (1, shorter as u64), "{what}");
}

#[test]
fn a_missing_segment_is_named() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, small()).expect("opens");
    (1..60).for_each(|tid| commit(&mut opened, &[simple(tid, 400)]));
    opened.settler.close().expect("closes");
    let segments = u32::try_from(opened.reader.stats().segments).expect("few");
    drop(opened);
    for missing in 1..=segments {
        let bad = disk.crash(0);
        use crate::store::disk::Disk;
        bad.remove(&segment_path(missing, 0)).expect("removes");
        let (segment, ..) = damage(open(&bad, small()));
        assert_eq!(segment, missing);
    }
}

#[test]
fn a_log_that_lost_what_the_index_has_seen_synced_is_damage_and_not_a_shorter_log() {
    let (disk, before) = with_batches(true);
    let mut opened = open(&disk, settings()).expect("opens");
    opened.settler.settle(usize::MAX).expect("settles");
    opened.settler.close().expect("closes");
    drop(opened);
    disk.edit(SEGMENT_1, |bytes| bytes.truncate(before));
    let (segment, offset, what) = damage(open(&disk, settings()));
    assert_eq!((segment, offset), (1, before as u64), "{what}");
    Store::remove_index(&disk).expect("removes");
    assert_eq!(open(&disk, settings()).expect("opens").recovered.last_tid, Tid(4));
}

#[test]
fn a_segment_whose_making_was_interrupted_is_removed() {
    for len in [0, 10, 64] {
        let (disk, _) = with_batches(true);
        use crate::store::disk::Disk;
        let file = disk.open(&segment_path(2, 0), true).expect("opens");
        file.set_len(len).expect("extends");
        let mut opened = open(&disk, settings()).expect("opens");
        assert_eq!(opened.recovered.last_tid, Tid(6));
        commit(&mut opened, &[simple(7, 10)]);
        assert!(disk.bytes(&segment_path(2, 0)).is_none());
    }
}

#[test]
fn a_batch_of_this_store_inside_a_torn_record_is_not_taken_for_a_good_batch() {
    let (disk, _) = with_batches(false);
    let image = disk.bytes(SEGMENT_1).expect("there");
    let mut opened = open(&disk, settings()).expect("opens");
    let before = disk.bytes(SEGMENT_1).expect("there").len();
    // The whole segment as the data of a record, then torn behind it.
    let data = Record::new("Backup", 1, image).encode().expect("encodes");
    commit(&mut opened, &[txn(9, vec![put(Cell::object(Oid(1)), data)])]);
    drop(opened);
    disk.edit(SEGMENT_1, |bytes| bytes.truncate(bytes.len() - 1));
    let opened = open(&disk, settings()).expect("opens");
    assert_eq!(disk.bytes(SEGMENT_1).expect("there").len(), before);
    assert_eq!(opened.recovered.last_tid, Tid(6));
}

// Segments of which some are as appended, the first as pack leaves one, without its lengths.
fn with_segments() -> (SimDisk, Vec<usize>) {
    let disk = SimDisk::new();
    let settings = StoreSettings { segment_bytes_max: 4096, ..small() };
    let mut opened = open(&disk, settings).expect("opens");
    let mut lens = vec![64];
    (1..40).for_each(|tid| {
        commit(&mut opened, &[simple(tid, 400)]);
        lens.push(disk.bytes(SEGMENT_1).expect("there").len());
    });
    lens.dedup();
    opened.settler.close().expect("closes");
    (disk, lens)
}

// As programs wrote it that did not know the lengths.
fn forget_lengths(disk: &SimDisk) {
    use crate::store::disk::Disk;
    for name in disk.list("log").expect("lists") {
        disk.edit(&format!("log/{name}"), |bytes| {
            bytes[52..60].fill(0);
            let crc = crc32fast::hash(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        });
    }
}

#[test]
fn a_segment_that_has_lost_its_end_is_named_at_the_opening_though_the_index_covers_it() {
    let (disk, lens) = with_segments();
    for len in [64, lens[1], lens[lens.len() - 2]] {
        let bad = disk.crash(0);
        bad.edit(SEGMENT_1, |bytes| bytes.truncate(len));
        let image = bad.bytes(SEGMENT_1);
        let (segment, offset, what) = damage(open(&bad, small()));
        assert_eq!((segment, offset), (1, len as u64), "{what}");
        assert_eq!(bad.bytes(SEGMENT_1), image);
    }
}

#[test]
fn reading_on_from_a_segment_that_has_lost_its_end_names_it_and_steps_over_nothing() {
    let (disk, lens) = with_segments();
    forget_lengths(&disk);
    for len in [64, lens[1], lens[lens.len() - 2]] {
        let bad = disk.crash(0);
        bad.edit(SEGMENT_1, |bytes| bytes.truncate(len));
        let opened = open(&bad, small()).expect("opens: its index covers all of that");
        let (mut from, mut read) = (Tid::NONE, Vec::new());
        let error = loop {
            match opened.reader.txns(from, Tid::MAX, 500) {
                Ok(page) => {
                    assert!(!page.is_empty(), "{len}: the log ends with {read:?} without a word");
                    read.extend(page.iter().map(|txn| txn.tid.0));
                    from = Tid(*read.last().expect("a page") + 1);
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::Damaged { segment: 1, .. }), "{len}: {error}");
        assert_eq!(read, (1..=read.len() as u64).collect::<Vec<_>>(), "{len}");
        // What lies behind it is there, and so is the way back to it.
        let last = opened.recovered.last_tid;
        assert_eq!(opened.reader.txn(last).expect("reads").map(|txn| txn.tid), Some(last));
    }
}

#[test]
fn what_is_cut_off_is_kept_and_the_oldest_of_it_goes() {
    use crate::store::disk::Disk;
    let disk = SimDisk::new();
    for round in 1..=10u64 {
        let mut opened = open(&disk, settings()).expect("opens");
        commit(&mut opened, &[simple(2 * round, 30)]);
        drop(opened);
        let torn = vec![round as u8; 50];
        disk.edit(SEGMENT_1, |bytes| bytes.extend_from_slice(&torn));
        let opened = open(&disk, settings()).expect("opens");
        assert_eq!(opened.recovered.torn_bytes_cut, 50);
        assert_eq!(opened.reader.stats().torn, round.min(8));
        let kept: Vec<String> =
            disk.list("log").expect("lists").into_iter().filter(|name| name.ends_with("torn")).collect();
        let newest = kept.iter().filter_map(|name| disk.bytes(&format!("log/{name}"))).next_back();
        assert_eq!((kept.len() as u64, newest), (round.min(8), Some(torn)));
    }
}
