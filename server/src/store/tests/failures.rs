//! A disk that fails: full, failing writes and syncs, a machine that stops at any call.

use super::*;
use crate::store::disk::sim::SimOp;
use std::io::ErrorKind;

fn tids(opened: &Opened) -> Vec<u64> {
    all_txns(opened).iter().map(|txn| txn.tid.0).collect()
}

fn log_bytes(disk: &SimDisk) -> usize {
    use crate::store::disk::Disk;
    let names = disk.list("log").expect("lists");
    names.iter().filter_map(|name| disk.bytes(&format!("log/{name}"))).map(|bytes| bytes.len()).sum()
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_goes_on_when_there_is_room() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, small()).expect("opens");
    commit(&mut opened, &[simple(1, 300)]);
    for room in (0..8).map(|blocks| blocks * 4096) {
        disk.set_room(Some(room));
        let mut next = opened.appender.last_tid().0 + 1;
        let error = loop {
            let before = log_bytes(&disk);
            match opened.appender.append(&[simple(next, 1500)]) {
                Ok(appended) => opened.appender.publish(appended),
                Err(error) => {
                    assert_eq!(log_bytes(&disk), before, "what was written is taken back");
                    break error;
                }
            }
            next += 1;
        };
        assert!(matches!(error, StoreError::DiskFull), "{error}");
        assert!(matches!(opened.settler.settle(10), Err(StoreError::DiskFull)));
        assert_eq!(tids(&opened), (1..next).collect::<Vec<_>>(), "reads go on");
        for seed in 0..8 {
            let after = disk.crash(seed);
            assert_eq!(tids(&open(&after, small()).expect("opens")), (1..next).collect::<Vec<_>>());
        }
        disk.set_room(None);
        commit(&mut opened, &[simple(next, 1500)]);
        opened.settler.settle(usize::MAX).expect("settles");
    }
    opened.settler.close().expect("closes");
}

#[test]
fn a_failed_sync_or_write_poisons_and_reads_go_on() {
    for op in [SimOp::Sync, SimOp::Write] {
        let disk = SimDisk::new();
        let mut opened = open(&disk, small()).expect("opens");
        commit(&mut opened, &[simple(1, 300)]);
        disk.fail(op, "log/", 0, ErrorKind::Other);
        for tid in [2, 3] {
            let Err(StoreError::Poisoned { reason }) = opened.appender.append(&[simple(tid, 300)]) else {
                panic!("appended after a failed {op:?}")
            };
            assert!(reason.contains("simulated"), "the first reason is kept: {reason}");
        }
        assert_eq!(tids(&opened), [1]);
        assert!(opened.reader.stats().poison.is_some());
        opened.settler.settle(10).expect("the index goes on");
        let after = open(&disk.crash(3), small()).expect("opens");
        assert_eq!(all_txns(&after)[0].tid, Tid(1));
    }
}

#[test]
fn a_full_disk_at_a_new_segment_leaves_nothing_behind() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, small()).expect("opens");
    (1..5).for_each(|tid| commit(&mut opened, &[simple(tid, 1500)]));
    let len = disk.bytes("log/0000000001.0000.seg").map(|bytes| bytes.len());
    disk.set_room(Some(0));
    assert!(matches!(opened.appender.append(&[simple(5, 1500)]), Err(StoreError::DiskFull)));
    assert_eq!(disk.bytes("log/0000000001.0000.seg").map(|bytes| bytes.len()), len);
    assert!(disk.bytes("log/0000000002.0000.seg").is_none());
    disk.set_room(None);
    commit(&mut opened, &[simple(5, 1500)]);
    assert_eq!(tids(&opened), (1..=5).collect::<Vec<_>>());
    assert_eq!(opened.reader.stats().segments, 2);
}

#[test]
fn what_cannot_be_stored_is_refused_and_changes_nothing() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, StoreSettings { overlay_bytes_max: 1500, ..small() }).expect("opens");
    commit(&mut opened, &[simple(5, 300)]);
    let long_key = put(Cell::entry(Oid(1), vec![1; 70_000]), record("A", 1, 1));
    let no_record = put(Cell::object(Oid(1)), Bytes::from_static(b"?"));
    let bad = [vec![], vec![simple(5, 1)], vec![simple(6, 1), simple(6, 1)]];
    let no_oid = put(Cell::object(Oid(u64::MAX)), record("A", 1, 1));
    let writes = [long_key, no_record, no_oid].map(|write| vec![txn(6, vec![write])]);
    let bad = bad.into_iter().chain(writes);
    let calls = disk.calls();
    for txns in bad {
        assert!(matches!(opened.appender.append(&txns), Err(StoreError::Refused { .. })));
    }
    // Each counts for a quarter of the limit, however large it is.
    (6..9).for_each(|tid| commit(&mut opened, &[simple(tid, 1000)]));
    assert!(matches!(opened.appender.append(&[simple(9, 1)]), Err(StoreError::Behind { .. })));
    // A piece, the header and a sync.
    assert_eq!(disk.calls(), calls + 3 * 3);
    opened.settler.settle(10).expect("settles");
    commit(&mut opened, &[simple(9, 1)]);
    assert_eq!(tids(&opened), [5, 6, 7, 8, 9]);
}

#[test]
fn a_machine_stopped_at_any_call_loses_nothing_that_was_acknowledged() {
    let mut stop = 0;
    let mut finished = false;
    while !finished {
        let disk = SimDisk::new();
        disk.stop_at(stop);
        let mut acknowledged = 0;
        finished = (|| {
            let mut opened = open(&disk, small())?;
            for tid in 1..14 {
                let appended = opened.appender.append(&[simple(tid, 700)])?;
                opened.appender.publish(appended);
                acknowledged = tid;
                if tid % 4 == 0 {
                    opened.settler.settle(3)?;
                }
            }
            opened.settler.close()
        })()
        .is_ok();
        for seed in 0..6 {
            let after = disk.crash(seed);
            let opened = open(&after, small()).unwrap_or_else(|error| panic!("stop {stop} seed {seed}: {error}"));
            let found = tids(&opened);
            assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>(), "stop {stop} seed {seed}");
            let extra = found.len() as u64 - acknowledged;
            assert!(found.len() as u64 >= acknowledged && extra <= 1, "stop {stop} seed {seed}: {found:?}");
        }
        stop += 1;
    }
    assert!(stop > 40, "{stop}");
}

#[test]
fn a_store_that_fills_the_disk_opens_again_while_it_is_full() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, StoreSettings::default()).expect("opens");
    (1..20).for_each(|tid| commit(&mut opened, &[simple(tid, 300)]));
    opened.settler.settle(5).expect("settles");
    opened.settler.checkpoint().expect("checkpoint");
    (20..90).for_each(|tid| commit(&mut opened, &[simple(tid, 300)]));
    let disk = disk.crash(1);
    drop(opened);
    disk.set_room(Some(0));
    let mut opened = open(&disk, StoreSettings::default()).expect("opens without room for the index");
    assert_eq!(opened.recovered.oid_max, 89);
    assert_eq!(opened.recovered.keys.len(), 89);
    assert_eq!(tids(&opened), (1..90).collect::<Vec<_>>());
    assert_eq!(opened.reader.kinds().expect("reads")[0].objects, 89);
    assert!(matches!(opened.settler.settle(10), Err(StoreError::DiskFull)));
    disk.set_room(None);
    opened.settler.settle(usize::MAX).expect("settles");
    commit(&mut opened, &[simple(90, 300)]);
    opened.settler.close().expect("closes");
    assert_eq!(opened.reader.get(&Cell::object(Oid(7)), Tid::MAX).expect("reads").expect("there").tid, Tid(7));
}

#[test]
fn an_index_that_something_scribbled_on_is_rebuilt_or_answers_with_an_error() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, small()).expect("opens");
    (1..100).for_each(|tid| commit(&mut opened, &[simple(tid, 100)]));
    opened.settler.close().expect("closes");
    drop(opened);
    let mut rebuilt = 0;
    for seed in 0..60 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let bad = disk.crash(seed);
        let files = engine::files(&bad);
        bad.edit(&files[dice.usize(..files.len())], |bytes| {
            let from = if seed % 2 == 0 { 0 } else { dice.usize(..bytes.len()) };
            let to = bytes.len().min(from + dice.usize(1..20_000));
            bytes[from..to].iter_mut().for_each(|byte| *byte = dice.u8(..));
        });
        let opened = open(&bad, small()).expect("opens in any case");
        rebuilt += usize::from(opened.recovered.index_rebuilt.is_some());
        // Where the damage is not found at open, a read may fail, but not panic, and not be wrong.
        for oid in 1..100 {
            let found = opened.reader.get(&Cell::object(Oid(oid)), Tid::MAX);
            let may_fail = opened.recovered.index_rebuilt.is_none();
            let right = found.as_ref().is_ok_and(|found| found.as_ref().is_some_and(|found| found.tid.0 == oid));
            assert!(right || (found.is_err() && may_fail), "seed {seed}: {oid} is {found:?}");
        }
        assert_eq!(opened.recovered.last_tid, Tid(99));
    }
    assert!(rebuilt > 20, "{rebuilt}");
}

#[test]
fn a_segment_that_cannot_be_made_is_refused_and_made_later_and_poisons_nothing() {
    for op in [SimOp::Create, SimOp::SetLen, SimOp::Write, SimOp::Sync, SimOp::SyncDir] {
        for leftover in [false, true] {
            let disk = SimDisk::new();
            let mut opened = open(&disk, small()).expect("opens");
            (1..5).for_each(|tid| commit(&mut opened, &[simple(tid, 1500)]));
            let next = if op == SimOp::SyncDir { "log" } else { "log/0000000002" };
            // Of a directory also the sync that makes the removal of what was begun durable.
            for kind in [ErrorKind::QuotaExceeded, ErrorKind::Other] {
                (0..if op == SimOp::SyncDir { 2 } else { 1 }).for_each(|_| disk.fail(op, next, 0, kind));
            }
            if leftover {
                disk.fail(SimOp::Remove, "log/0000000002", 0, ErrorKind::Other);
            }
            for _ in 0..2 {
                let refused = opened.appender.append(&[simple(5, 1500)]);
                assert!(matches!(refused, Err(StoreError::DiskFull | StoreError::NoSegment { .. })), "{op:?}");
                assert_eq!(opened.appender.poison(), None, "{op:?}");
                for seed in 0..4 {
                    let after = open(&disk.crash(seed), small()).unwrap_or_else(|error| panic!("{op:?}: {error}"));
                    assert_eq!(tids(&after), (1..5).collect::<Vec<_>>(), "{op:?}");
                }
            }
            disk.heal();
            (5..12).for_each(|tid| commit(&mut opened, &[simple(tid, 1500)]));
            assert_eq!(tids(&opened), (1..12).collect::<Vec<_>>(), "{op:?}");
            for seed in 0..4 {
                let after = open(&disk.crash(seed), small()).unwrap_or_else(|error| panic!("{op:?}: {error}"));
                assert_eq!(tids(&after), (1..12).collect::<Vec<_>>(), "{op:?}");
            }
        }
    }
}
