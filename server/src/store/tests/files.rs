//! Open files: a log of more segments than may be open is served, and a lack of them passes.

use super::super::disk::Disk;
use super::super::frame::SEGMENT_HEADER_LEN;
use super::super::log::batches::Batches;
use super::super::{Packer, Settler, verify};
use super::*;
use parking_lot::Mutex;

const SEGMENTS: u64 = 60;

// A closed store of many segments, one batch in each, and an index that is whole.
fn many_segments() -> SimDisk {
    let disk = SimDisk::new();
    let mut opened = open(&disk, one_batch_each()).expect("opens");
    (1..=SEGMENTS).for_each(|tid| commit(&mut opened, &[simple(tid, 4200)]));
    assert_eq!(opened.reader.stats().segments, SEGMENTS);
    drop(opened.appender);
    opened.settler.close().expect("closes");
    disk
}

fn one_batch_each() -> StoreSettings {
    StoreSettings { segment_bytes_max: 4096, cache_bytes: 0, kept_bytes_max: 0, overlay_bytes_max: 1 << 20, ..small() }
}

// Object `oid` once more.
fn again(oid: u64, tid: u64) -> Txn {
    txn(tid, simple(oid, 10).writes.into_vec())
}

fn record_of(opened: &Opened, tid: u64) -> Result<Option<Bytes>, StoreError> {
    let found = opened.reader.get(&Cell::object(Oid(tid)), Tid::MAX)?;
    Ok(found.and_then(|revision| revision.record))
}

#[test]
fn a_log_of_more_segments_than_may_be_open_is_opened_read_written_packed_and_verified() {
    for (bound, limit) in [(3, 9), (1000, 9), (3, 1000)] {
        let disk = many_segments();
        disk.set_open_files_max(Some(limit));
        let mut opened = open(&disk, StoreSettings { open_files_max: bound, ..one_batch_each() }).expect("opens");
        assert_eq!((opened.recovered.replayed_bytes, opened.recovered.index_rebuilt.as_deref()), (0, None));
        for tid in (1..=SEGMENTS).chain([7, 7, 3]) {
            assert_eq!(record_of(&opened, tid).expect("reads"), simple(tid, 4200).writes[0].record);
        }
        (SEGMENTS + 1..=SEGMENTS + 20).for_each(|tid| commit(&mut opened, &[simple(tid, 4200)]));
        commit(&mut opened, &[again(1, SEGMENTS + 21)]);
        assert_eq!(all_txns(&opened).len() as u64, SEGMENTS + 21);
        let Opened { appender, reader, settler, .. } = opened;
        let settler: Arc<Mutex<Settler>> = Arc::new(Mutex::new(settler));
        let mut packer = Packer::new(&reader, settler.clone(), Tid::MAX, &mut |_, _, _| Ok(())).expect("surveys");
        packer.forecast(&mut |_, _, _| Ok(())).expect("forecasts");
        let packed = packer.run(Tid::NONE, &mut |_, _, _| Ok(())).expect("packs");
        assert_eq!(packed.revisions, 1);
        let found = verify(&reader, &settler, &[], &mut |_, _, _| Ok(())).expect("verifies");
        assert_eq!(found.problems, Vec::<String>::new());
        assert!(bound > 3 || disk.open_files() <= 9, "{}", disk.open_files());
        drop((appender, reader, settler, packer));
        // The whole log again, for a new index.
        Store::remove_index(&disk).expect("removes");
        let opened = open(&disk, StoreSettings { open_files_max: bound, ..one_batch_each() }).expect("opens");
        assert_eq!(record_of(&opened, 2).expect("reads"), simple(2, 4200).writes[0].record);
    }
}

#[test]
fn a_read_that_finds_no_open_file_fails_alone_and_the_next_one_succeeds() {
    let disk = many_segments();
    let mut opened = open(&disk, StoreSettings { open_files_max: 1, ..one_batch_each() }).expect("opens");
    commit(&mut opened, &[simple(SEGMENTS + 1, 10)]);
    record_of(&opened, 1).expect("reads");
    // Whatever the log gives up is taken by somebody else.
    disk.set_open_files_max(Some(0));
    for _ in 0..3 {
        let error = record_of(&opened, 9).expect_err("no more files");
        assert!(matches!(error, StoreError::NoFiles { .. }), "{error}");
        assert!(error.to_string().contains("limit of open files"), "{error}");
    }
    commit(&mut opened, &[simple(SEGMENTS + 2, 10)]);
    assert_eq!((opened.reader.stats().poison, opened.reader.stats().index_down), (None, None));
    disk.set_open_files_max(None);
    assert_eq!(record_of(&opened, 9).expect("reads"), simple(9, 4200).writes[0].record);
    commit(&mut opened, &[simple(SEGMENTS + 3, 10)]);
}

#[test]
fn an_opening_without_files_fails_and_costs_neither_the_index_nor_the_log() {
    let disk = many_segments();
    // sled has its files elsewhere.
    let whole = disk.list("log").expect("lists");
    for limit in 0..6 {
        let disk = disk.fork();
        disk.set_open_files_max(Some(limit));
        let opened = open(&disk, one_batch_each());
        if let Err(error) = &opened {
            assert!(!matches!(error, StoreError::Damaged { .. }), "{limit}: {error}");
        }
        let could = opened.is_ok();
        drop(opened);
        disk.set_open_files_max(None);
        let opened = open(&disk, one_batch_each()).expect("opens");
        if engine::kind() == crate::store::IndexKind::Redb {
            assert_eq!(opened.recovered.index_rebuilt, None, "{limit}");
        }
        assert!(could || opened.recovered.timeline == 77);
        assert!(disk.list("log").expect("lists").len() >= whole.len());
        assert_eq!(opened.recovered.last_tid, Tid(SEGMENTS));
    }
}

#[test]
fn who_holds_a_segment_reads_it_after_pack_has_retired_it_and_its_file_is_gone() {
    let disk = many_segments();
    let mut opened = open(&disk, StoreSettings { open_files_max: 1, ..one_batch_each() }).expect("opens");
    let held = opened.reader.state.segments.find(5, 0).expect("there");
    commit(&mut opened, &[again(5, SEGMENTS + 1)]);
    let settler = Arc::new(Mutex::new(opened.settler));
    let mut packer = Packer::new(&opened.reader, settler, Tid::MAX, &mut |_, _, _| Ok(())).expect("surveys");
    packer.run(Tid::NONE, &mut |_, _, _| Ok(())).expect("packs");
    drop(packer);
    assert_eq!(disk.bytes("log/0000000005.0000.seg"), None);
    let mut batches = Batches::new(held.clone(), SEGMENT_HEADER_LEN as u64, Tid::NONE);
    assert_eq!(batches.next().expect("reads").expect("a batch").last, Tid(5));
    let open_files = disk.open_files();
    drop((batches, held));
    assert_eq!(disk.open_files(), open_files - 1);
}

#[test]
fn the_notes_of_a_batch_are_read_once() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, small()).expect("opens");
    let noted = |tid: u64| Txn { note: format!("note {tid}").into(), ..simple(tid, 30) };
    for batch in [1..=64, 66..=66, 70..=90] {
        commit(&mut opened, &batch.map(noted).collect::<Vec<_>>());
    }
    let read = |opened: &Opened| opened.settler.state.batches_read.load(std::sync::atomic::Ordering::Relaxed);
    for settled in [false, true] {
        if settled {
            opened.settler.settle(1000).expect("settles");
        }
        let before = read(&opened);
        let tids: Vec<Tid> = (1..=64).chain([66]).chain(70..=90).rev().map(Tid).collect();
        let notes = opened.reader.notes(&tids).expect("reads");
        for (tid, note) in tids.iter().zip(notes) {
            assert_eq!(note, opened.reader.txn(*tid).expect("reads").map(|txn| txn.note), "{tid}");
        }
        assert_eq!(read(&opened) - before, 3);
        assert_eq!(opened.reader.notes(&[Tid(65), Tid(69), Tid(91)]).expect("reads"), [None, None, None]);
    }
}
