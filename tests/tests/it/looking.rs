//! Looking without writing: a verify of a directory that refuses every call that would change it.

use std::io::ErrorKind;
use std::sync::Arc;
use zeolite_proto::{Cell, Oid, Record, Tid};
use zeolite_server::engine::{VerifyReport, verify_offline};
use zeolite_server::store::disk::watched::Call;
use zeolite_server::store::disk::{Disk, SimDisk, WatchedDisk, sim::SimOp};
use zeolite_server::store::{IndexKind, StoreError, StoreSettings};
use zeolite_tests::support::work::{Work, key};
use zeolite_tests::support::{House, HouseSettings};

/// Some commits, of which the index has a part.
fn house() -> House {
    let mut house = House::new(HouseSettings::default());
    let oid = house.oids(10).expect("oids");
    let mut base = Tid::NONE;
    for n in 0..20u64 {
        if n == 12 {
            house.settle();
        }
        let record = Record::new("Page", 1, vec![n as u8; 400]);
        base = house.commit(Work::new(key(n)).put(Cell::object(oid), base, &record).draft()).expect("commits").tid;
        let root = Record { refs: vec![oid], ..Record::new("Root", 1, "") };
        if n == 0 {
            house.commit(Work::new(key(99)).put(Cell::object(Oid::ROOT), Tid::NONE, &root).draft()).expect("commits");
        }
    }
    house
}

/// Verifies a disk that may only be read; it is the same afterwards.
fn look(disk: &SimDisk, settings: StoreSettings) -> Result<VerifyReport, StoreError> {
    let (calls, files) = (disk.calls(), files(disk));
    let read_only = |call: Call<'_>| match call.op {
        SimOp::Read => Ok(()),
        _ => Err(ErrorKind::ReadOnlyFilesystem.into()),
    };
    let door = WatchedDisk::new(Arc::new(disk.clone()), read_only);
    let report = verify_offline(Arc::new(door), settings, 7, &mut |_| true);
    assert_eq!((disk.calls(), self::files(disk)), (calls, files));
    report
}

fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let list = |dir: &str| disk.list(dir).expect("lists").into_iter();
    let names = list("").chain(list("log").map(|name| format!("log/{name}")));
    names.map(|name| (name.clone(), bytes(disk, &name))).collect()
}

fn bytes(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path, false).expect("opens");
    let mut bytes = vec![0; file.len().expect("tells") as usize];
    file.read_exact_at(&mut bytes, 0).expect("reads");
    bytes
}

fn segment(disk: &SimDisk) -> String {
    format!("log/{}", disk.list("log").expect("lists").last().expect("a segment"))
}

/// The log alone, as a backup has it.
fn log_alone(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new();
    files(disk)
        .into_iter()
        .filter(|(path, _)| path.starts_with("log/"))
        .for_each(|(path, bytes)| copy.put(&path, bytes));
    copy
}

fn settings() -> StoreSettings {
    HouseSettings::default().store
}

#[test]
fn a_directory_that_cannot_be_written_is_verified_and_stays_as_it_was() {
    let mut house = house();
    let killed = house.disk().fork();
    house.shut_down().expect("stops");
    for disk in [house.disk().fork(), killed] {
        let report = look(&disk, settings()).expect("verifies");
        assert_eq!((report.problems, report.remarks), (Vec::<String>::new(), Vec::<String>::new()));
        assert_eq!((report.transactions, report.objects), (22, 2));
    }
}

#[test]
fn a_copy_of_the_log_alone_is_verified_and_it_is_said_that_there_is_no_index() {
    let report = look(&log_alone(house().disk()), settings()).expect("verifies");
    assert_eq!((report.problems_total, report.transactions, report.objects), (0, 22, 2));
    assert!(matches!(&report.remarks[..], [no_index] if no_index.contains("no index to compare")), "{report:?}");
}

#[test]
fn a_torn_end_is_told_and_stays() {
    let house = house();
    let disk = house.disk().fork();
    // In the room, which is no torn end by itself.
    disk.edit(&segment(&disk), |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("a header") + 1;
        bytes.copy_within(64..64 + 49, end);
        bytes[end + 49] = 1;
        assert!(bytes.len() > end + 50);
    });
    let report = look(&disk, settings()).expect("verifies");
    assert_eq!(report.problems_total, 0, "{report:?}");
    assert!(matches!(&report.remarks[..], [torn] if torn.contains("the last 50 bytes")), "{report:?}");
}

#[test]
fn what_is_damaged_is_named_and_nothing_is_mended() {
    let mut house = house();
    house.shut_down().expect("stops");
    let flipped = house.disk().fork();
    flipped.edit(&segment(&flipped), |bytes| bytes[900] ^= 1);
    let report = look(&flipped, settings()).expect("the index opens");
    assert!(report.problems[0].contains("damage in segment 1"), "{report:?}");
    assert!(matches!(look(&log_alone(&flipped), settings()), Err(StoreError::Damaged { .. })));
    // An index that is none is told as a problem, and not removed.
    let rotten = house.disk().fork();
    rotten.edit("index.redb", |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1));
    let report = look(&rotten, settings()).expect("verifies the log");
    assert!(matches!(&report.problems[..], [index] if index.contains("the index cannot be used")), "{report:?}");
}

#[test]
fn an_index_that_writes_where_it_is_read_is_not_opened() {
    let sled = StoreSettings { index: IndexKind::Sled, ..settings() };
    let report = look(house().disk(), sled).expect("verifies");
    assert_eq!(report.problems_total, 0, "{report:?}");
    assert!(report.remarks[0].contains("sled's index was not looked at"), "{report:?}");
}
