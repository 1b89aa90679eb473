//! Large transactions that are written before their turn: the same bytes on the disk, and nothing of what did not come to its turn.

use super::*;
use crate::store::disk::Disk;
use crate::store::disk::sim::SimOp;
use crate::store::{Ahead, Unsealed};
use std::io::ErrorKind;

fn settings() -> StoreSettings {
    StoreSettings { ahead_bytes_min: 1, ..small() }
}

/// A transaction that is not small.
fn large(tid: u64) -> Txn {
    let writes = (0..9).map(|n| put(Cell::object(Oid(tid * 100 + 8 - n)), record("Page", 1, 150)));
    let txn = txn(tid, writes.collect());
    Txn { own: false, ..txn }
}

fn made(ahead: &Ahead, txn: &Txn) -> Result<Txn, StoreError> {
    let of = Unsealed { key: txn.key, digest: txn.digest, note: txn.note.clone() };
    Ok(Txn { writes: ahead.large(txn.writes.clone().into_vec(), of)?, ..txn.clone() })
}

fn parts(disk: &SimDisk) -> usize {
    disk.list("log").expect("lists").iter().filter(|name| name.ends_with(".part")).count()
}

fn tids(opened: &Opened) -> Vec<u64> {
    all_txns(opened).iter().map(|txn| txn.tid.0).collect()
}

#[test]
fn it_is_on_the_disk_as_if_a_segment_had_been_begun_with_it() {
    let (disk, other) = (SimDisk::new(), SimDisk::new());
    let (mut opened, mut model) = (open(&disk, settings()).expect("opens"), open(&other, settings()).expect("opens"));
    let ahead = opened.reader.ahead();
    for tid in 1..12 {
        if tid % 3 == 0 {
            let txn = made(&ahead, &large(tid)).expect("makes it");
            assert!(txn.writes.is_ahead() && parts(&disk) == 1, "{tid}");
            assert!(!opened.appender.fits(std::slice::from_ref(&txn)));
            commit(&mut opened, &[txn]);
            model.appender.roll().expect("rolls");
            commit(&mut model, &[large(tid)]);
        } else {
            commit(&mut opened, &[simple(tid, 300)]);
            commit(&mut model, &[simple(tid, 300)]);
        }
        assert_eq!(parts(&disk), 0);
        assert_eq!(all_txns(&opened), all_txns(&model), "{tid}");
    }
    for name in other.list("log").expect("lists") {
        let path = format!("log/{name}");
        // What room there is behind the end is nobody's.
        let [one, two] = [&disk, &other].map(|disk| disk.bytes(&path).expect("a segment"));
        let end = one.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        assert!(one[..end] == two[..end] && two[end..].iter().all(|byte| *byte == 0), "{name}");
    }
    opened.settler.settle(usize::MAX).expect("settles");
    let again = open(&disk.crash(1), settings()).expect("opens");
    assert_eq!(all_txns(&again), all_txns(&model));
    for cell in all_txns(&model).iter().flat_map(|txn| txn.writes.iter().map(|write| &write.cell)) {
        let expected = model.reader.get(cell, Tid::MAX).expect("reads");
        assert_eq!(opened.reader.get(cell, Tid::MAX).expect("reads"), expected);
        assert_eq!(again.reader.get(cell, Tid::MAX).expect("reads"), expected);
    }
}

#[test]
fn what_does_not_come_to_its_turn_or_shares_a_batch_leaves_no_file_and_few_are_there_at_once() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, settings()).expect("opens");
    let ahead = opened.reader.ahead();
    let many: Vec<Txn> = (1..9).map(|tid| made(&ahead, &large(tid)).expect("makes it")).collect();
    let there = many.iter().filter(|txn| txn.writes.is_ahead()).count();
    assert_eq!((there, parts(&disk)), (4, 4));
    commit(&mut opened, &many);
    opened.settler.settle(usize::MAX).expect("settles");
    assert_eq!(parts(&disk), 0, "it was written with the others");
    drop(made(&ahead, &large(9)).expect("makes it"));
    opened.settler.settle(usize::MAX).expect("settles");
    assert_eq!(parts(&disk), 0);
    // Another transaction of the same writes.
    let txn = made(&ahead, &large(9)).expect("makes it");
    commit(&mut opened, &[Txn { digest: 0, ..txn }]);
    opened.settler.settle(usize::MAX).expect("settles");
    assert_eq!((tids(&opened), parts(&disk)), ((1..=9).collect(), 0));
    let left = made(&ahead, &large(10)).expect("makes it");
    let after = disk.fork();
    drop(left);
    assert_eq!(parts(&after), 1);
    assert_eq!(tids(&open(&after, settings()).expect("opens")), (1..=9).collect::<Vec<_>>());
    assert_eq!(parts(&after), 0, "the next start removes it");
}

#[test]
fn a_machine_stopped_at_any_call_has_all_of_it_or_nothing() {
    let (mut stop, mut finished) = (0, false);
    while !finished {
        let disk = SimDisk::new();
        disk.stop_at(stop);
        let mut acknowledged = 0;
        finished = (|| {
            let mut opened = open(&disk, settings())?;
            let ahead = opened.reader.ahead();
            for tid in 1..8 {
                let txn = if tid % 2 == 0 { simple(tid, 700) } else { made(&ahead, &large(tid))? };
                let appended = opened.appender.append(&[txn])?;
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
            let opened =
                open(&disk.crash(seed), settings()).unwrap_or_else(|error| panic!("stop {stop} seed {seed}: {error}"));
            let found = tids(&opened);
            assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>(), "stop {stop} seed {seed}");
            assert!(
                (acknowledged..=acknowledged + 1).contains(&(found.len() as u64)),
                "stop {stop} seed {seed}: {found:?}"
            );
            let whole = all_txns(&opened).iter().all(|txn| txn.writes.len() == if txn.tid.0 % 2 == 0 { 1 } else { 9 });
            assert!(whole, "stop {stop} seed {seed}");
        }
        stop += 1;
    }
    assert!(stop > 60, "{stop}");
}

#[test]
fn whatever_one_call_does_it_is_there_or_refused_for_good_or_nobody_can_tell() {
    let ops = [SimOp::Write, SimOp::Sync, SimOp::Create, SimOp::Rename, SimOp::SyncDir, SimOp::SetLen, SimOp::Remove];
    let (mut refused, mut poisoned) = (0, 0);
    for (op, kind) in ops.iter().flat_map(|op| [(*op, ErrorKind::Other), (*op, ErrorKind::StorageFull)]) {
        for skip in 0..8 {
            let disk = SimDisk::new();
            let mut opened = open(&disk, settings()).expect("opens");
            commit(&mut opened, &[simple(1, 300)]);
            let ahead = opened.reader.ahead();
            disk.fail(op, "log/", skip, kind);
            let txn = made(&ahead, &large(2)).expect("is written in its turn then");
            let what = format!("{op:?} {kind:?} {skip}");
            let expected: &[&[u64]] = match opened.appender.append(&[txn]) {
                Ok(appended) => {
                    opened.appender.publish(appended);
                    &[&[1, 2]]
                }
                Err(StoreError::Poisoned { .. }) => {
                    poisoned += 1;
                    &[&[1], &[1, 2]]
                }
                Err(StoreError::DiskFull | StoreError::NoSegment { .. }) => {
                    refused += 1;
                    disk.heal();
                    commit(&mut opened, &[simple(3, 300)]);
                    assert_eq!(tids(&opened), [1, 3], "{what}");
                    &[&[1, 3]]
                }
                Err(error) => panic!("{what}: {error}"),
            };
            for seed in 0..4 {
                let after = disk.crash(seed);
                let found = tids(&open(&after, settings()).unwrap_or_else(|error| panic!("{what} {seed}: {error}")));
                assert!(expected.contains(&&found[..]), "{what} {seed}: {found:?}");
                assert_eq!(parts(&after), 0);
            }
        }
    }
    assert!(refused > 0 && poisoned > 0, "{refused} {poisoned}");
}
