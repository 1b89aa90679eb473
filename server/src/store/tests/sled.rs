//! A store on sled on a real disk: used again after a clean stop, rebuilt after any other, changed for redb and back.

use super::*;
use crate::store::IndexKind;
use crate::store::disk::RealDisk;
use std::fs::File;
use std::path::Path;

// sled lets go of its lock in a thread of its own, a moment after its last handle is gone.
fn wait_for_its_lock(dir: &Path) {
    let Ok(file) = File::open(dir.join("index-sled/db")) else { return };
    file.lock().expect("locks");
}

fn open_real(dir: &Path, index: IndexKind) -> Opened {
    wait_for_its_lock(dir);
    let disk = Arc::new(RealDisk::open(dir).expect("opens"));
    Store::open(disk, StoreSettings { index, ..small() }, 77, &mut |_| {}).expect("opens")
}

fn check(opened: &Opened, commits: u64) {
    let tids: Vec<u64> = all_txns(opened).iter().map(|txn| txn.tid.0).collect();
    assert_eq!(tids, (1..=commits).collect::<Vec<_>>());
    for tid in 1..=commits {
        let found = opened.reader.get(&Cell::object(Oid(tid)), Tid::MAX).expect("reads").expect("there");
        assert_eq!(found.tid, Tid(tid));
    }
    let objects: u64 = opened.reader.kinds().expect("reads").iter().map(|kind| kind.objects).sum();
    assert_eq!(objects, commits);
}

#[test]
fn a_clean_stop_is_used_again_and_an_unclean_one_is_rebuilt() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut commits = 0;
    for clean in [true, true, false, true, false, false] {
        let mut opened = open_real(dir.path(), IndexKind::Sled);
        check(&opened, commits);
        for _ in 0..40 {
            commits += 1;
            commit(&mut opened, &[simple(commits, [30, 300][commits as usize % 2])]);
            if commits.is_multiple_of(3) {
                opened.settler.settle(2).expect("settles");
            }
        }
        if clean {
            opened.settler.close().expect("closes");
        }
        drop(opened);
        let opened = open_real(dir.path(), IndexKind::Sled);
        let found = &opened.recovered;
        assert_eq!((found.index_rebuilt.is_none(), found.replayed_bytes == 0), (clean, clean), "{found:?}");
        check(&opened, commits);
        let Opened { settler, .. } = opened;
        { settler }.close().expect("closes");
    }
}

#[test]
fn the_engine_can_be_changed_and_changed_back() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut commits = 0;
    for (round, kind) in [IndexKind::Redb, IndexKind::Sled, IndexKind::Redb, IndexKind::Sled].into_iter().enumerate() {
        let mut opened = open_real(dir.path(), kind);
        assert_eq!(opened.recovered.index_rebuilt.is_some(), round > 0);
        check(&opened, commits);
        for _ in 0..20 {
            commits += 1;
            commit(&mut opened, &[simple(commits, 300)]);
        }
        if round != 1 {
            opened.settler.close().expect("closes");
        }
        check(&opened, commits);
        let sled_there = std::fs::read_dir(dir.path().join("index-sled"))
            .is_ok_and(|dir| dir.map_while(Result::ok).any(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())));
        assert_eq!((dir.path().join("index.redb").exists(), sled_there), (round % 2 == 0, round % 2 == 1));
    }
}

#[test]
fn one_that_fails_is_made_anew_beside_the_traffic_and_its_views_tell_nothing_wrong() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut opened = open_real(dir.path(), IndexKind::Sled);
    let mut commits = 0;
    for round in 0..3 {
        for _ in 0..30 {
            commits += 1;
            commit(&mut opened, &[simple(commits, 300)]);
        }
        while opened.settler.settle(7).expect("settles").txns > 0 {}
        check(&opened, commits);
        let old = opened.settler.state.index.view().expect("a view");
        // What is in the directory goes with the index that failed.
        std::fs::write(dir.path().join("index-sled/broken"), "x").expect("writes");
        commits += 1;
        commit(&mut opened, &[simple(commits, 300)]);
        match round {
            0 => drop(opened.settler.settle(7).expect_err("it cannot commit")),
            _ => {
                opened.reader.history(&Cell::object(Oid(1)), Tid::MAX, 10).expect_err("it cannot be read");
            }
        }
        assert!(opened.reader.stats().index_down.is_some());
        commits += 1;
        commit(&mut opened, &[simple(commits, 300)]);
        let newest = opened.reader.newest(&Cell::object(Oid(commits))).expect("in memory");
        assert_eq!(newest, Some(Tid(commits)), "commits go on");
        while opened.settler.settle(7).expect("it is made anew").txns > 0 {}
        assert_eq!(opened.reader.stats().index_down, None);
        check(&opened, commits);
        let of_old = old.get(crate::store::index::Table::Meta, crate::store::index::rows::COVERED);
        assert!(matches!(of_old, Err(StoreError::IndexDown { .. })), "its files are another's");
    }
    opened.settler.close().expect("closes");
    drop(opened);
    let opened = open_real(dir.path(), IndexKind::Sled);
    assert_eq!((&opened.recovered.index_rebuilt, opened.recovered.replayed_bytes), (&None, 0));
    check(&opened, commits);
}

#[test]
fn a_log_that_is_gone_is_not_begun_anew_beside_its_index() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut opened = open_real(dir.path(), IndexKind::Sled);
    commit(&mut opened, &[simple(1, 30)]);
    opened.settler.close().expect("closes");
    drop(opened);
    std::fs::remove_dir_all(dir.path().join("log")).expect("removes");
    for index in [IndexKind::Sled, IndexKind::Redb] {
        let disk = Arc::new(RealDisk::open(dir.path()).expect("opens"));
        let opened = Store::open(disk, StoreSettings { index, ..small() }, 77, &mut |_| {});
        assert!(matches!(opened, Err(StoreError::Damaged { .. })));
    }
}
