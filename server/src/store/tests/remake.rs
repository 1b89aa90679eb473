//! An index whose disk fails: it is made ready again beside the traffic, nothing is lost, nothing wrong is told meanwhile.

use super::*;
use crate::store::IndexKind;
use crate::store::disk::sim::SimOp;
use crate::store::disk::watched::{Call, WatchedDisk};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

fn open_on_redb(disk: Arc<dyn crate::store::disk::Disk>, settings: StoreSettings) -> Opened {
    Store::open(disk, StoreSettings { index: IndexKind::Redb, ..settings }, 77, &mut |_| {}).expect("opens")
}

fn check(opened: &Opened, last: u64, what: &str) {
    for tid in 1..=last {
        let found = opened.reader.get(&Cell::object(Oid(tid)), Tid::MAX).expect("reads").expect("there");
        assert_eq!(found.record, simple(tid, len(tid)).writes[0].record, "{what}: {tid}");
    }
    let objects: u64 = opened.reader.kinds().expect("counts").iter().map(|kind| kind.objects).sum();
    assert_eq!(objects, last, "{what}");
}

fn len(tid: u64) -> usize {
    [20, 100, 700][tid as usize % 3]
}

#[test]
fn one_call_that_fails_does_not_end_the_index() {
    let mut failed = 0;
    for op in [SimOp::Write, SimOp::Sync, SimOp::SetLen, SimOp::Read] {
        for skip in 0..40 {
            let disk = SimDisk::new();
            let mut opened = open_on_redb(Arc::new(disk.clone()), small());
            for tid in 1..=60 {
                if tid == 5 {
                    disk.fail(op, "index", skip, ErrorKind::Other);
                }
                commit(&mut opened, &[simple(tid, len(tid))]);
                failed += u32::from(opened.settler.settle(3).is_err());
                if let Ok(found) = opened.reader.get(&Cell::object(Oid(tid / 2 + 1)), Tid::MAX) {
                    assert_eq!(found.expect("there").tid, Tid(tid / 2 + 1), "{op:?} {skip}");
                }
            }
            disk.heal();
            while opened.settler.settle(100).expect("it is ready again").txns > 0 {}
            check(&opened, 60, &format!("{op:?} {skip}"));
            opened.settler.close().expect("closes");
            drop(opened);
            let opened = open_on_redb(Arc::new(disk.clone()), small());
            assert_eq!((&opened.recovered.index_rebuilt, opened.recovered.replayed_bytes), (&None, 0));
            check(&opened, 60, "opened again");
        }
    }
    assert!(failed > 30, "{failed}");
}

#[test]
fn an_index_that_stays_broken_is_told_and_commits_go_on_until_there_is_no_room() {
    let disk = SimDisk::new();
    let broken = Arc::new(AtomicBool::new(false));
    let heard = broken.clone();
    let door = WatchedDisk::new(Arc::new(disk), move |call: Call<'_>| {
        let hit = heard.load(Ordering::Acquire) && call.op == SimOp::Write && call.path.starts_with("index");
        if hit { Err(ErrorKind::Other.into()) } else { Ok(()) }
    });
    let mut opened = open_on_redb(Arc::new(door), StoreSettings { overlay_bytes_max: 20_000, ..small() });
    (1..10).for_each(|tid| commit(&mut opened, &[simple(tid, len(tid))]));
    opened.settler.settle(100).expect("settles");
    opened.settler.checkpoint().expect("checkpoint");
    broken.store(true, Ordering::Release);
    let mut next = 10;
    let error = loop {
        match opened.appender.append(&[simple(next, len(next))]) {
            Ok(appended) => opened.appender.publish(appended),
            Err(error) => break error,
        }
        if opened.reader.stats().index_down.is_some() {
            assert_eq!(opened.reader.newest(&Cell::object(Oid(next))).expect("in memory"), Some(Tid(next)));
        }
        let told = opened.settler.settle(100).map(|left| left.index_down);
        assert!(!matches!(told, Ok(None)) || opened.reader.stats().index_down.is_none(), "{told:?}");
        next += 1;
    };
    assert!(matches!(error, StoreError::Behind { .. }), "{error}");
    assert!(opened.reader.stats().index_down.is_some());
    broken.store(false, Ordering::Release);
    while opened.settler.settle(100).expect("it is ready again").txns > 0 {}
    assert_eq!(opened.reader.stats().index_down, None);
    commit(&mut opened, &[simple(next, len(next))]);
    check(&opened, next, "after");
}

#[test]
fn a_disk_that_fails_at_the_opening_is_named_and_the_index_stays() {
    let disk = SimDisk::new();
    let mut opened = open_on_redb(Arc::new(disk.clone()), small());
    (1..40).for_each(|tid| commit(&mut opened, &[simple(tid, len(tid))]));
    opened.settler.close().expect("closes");
    drop(opened);
    for (op, skip) in [(SimOp::Read, 0), (SimOp::Read, 2), (SimOp::Read, 4), (SimOp::Write, 0), (SimOp::Sync, 0)] {
        let bad = disk.fork();
        bad.fail(op, "index", skip, ErrorKind::Other);
        let opened = Store::open(Arc::new(bad.clone()), small(), 77, &mut |_| {});
        assert!(matches!(opened, Err(StoreError::Io { .. })), "{op:?} {skip}");
        let opened = open_on_redb(Arc::new(bad), small());
        assert_eq!(opened.recovered.index_rebuilt, None, "{op:?} {skip}");
        check(&opened, 39, "opened again");
    }
}
