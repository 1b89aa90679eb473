//! What survives a crash of the simulated disk, and what its faults do.

use super::*;

#[test]
fn synced_bytes_and_names_survive_every_crash_and_unsynced_ones_only_some() {
    let disk = SimDisk::new();
    let file = disk.open("log/a", true).expect("opens");
    file.write_all_at(&[1; 2000], 0).expect("writes");
    file.sync_data().expect("syncs");
    disk.sync_dir("log").expect("syncs");
    file.write_all_at(&[2; 2000], 2000).expect("writes");
    disk.open("log/b", true).expect("opens");
    let (mut lost, mut kept, mut torn, mut named) = (0, 0, 0, 0);
    for seed in 0..200 {
        let after = disk.crash(seed);
        let bytes = after.bytes("log/a").expect("a durable name");
        assert_eq!(bytes[..2000], [1; 2000], "seed {seed}");
        match bytes[2000..].iter().filter(|byte| **byte == 2).count() {
            0 => lost += 1,
            2000 => kept += 1,
            _ => torn += 1,
        }
        named += usize::from(after.bytes("log/b").is_some());
    }
    assert!(lost > 20 && kept > 20 && torn > 20, "{lost} {kept} {torn}");
    assert!((20..180).contains(&named), "{named}");
}

#[test]
fn a_failed_sync_loses_its_writes_for_good() {
    let disk = SimDisk::new();
    let file = disk.open("a", true).expect("opens");
    disk.sync_dir("").expect("syncs");
    file.write_all_at(b"gone", 0).expect("writes");
    disk.fail(SimOp::Sync, "a", 0, io::ErrorKind::Other);
    file.sync_data().expect_err("fails");
    file.sync_data().expect("succeeds, too late");
    assert!((0..50).all(|seed| disk.crash(seed).bytes("a") == Some(Vec::new())));
}

#[test]
fn a_full_disk_takes_what_fits_and_room_comes_back() {
    let disk = SimDisk::new();
    let file = disk.open("a", true).expect("opens");
    disk.set_room(Some(8192));
    let error = file.write_all_at(&[1; 10_000], 0).expect_err("full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().expect("length"), 8192);
    file.set_len(4096).expect("cuts");
    assert_eq!(disk.free_bytes().expect("free"), 4096);
    disk.remove("a").expect("removes");
    assert_eq!(disk.free_bytes().expect("free"), 8192);
}

#[test]
fn a_stopped_machine_changes_nothing_any_more() {
    let disk = SimDisk::new();
    let file = disk.open("a", true).expect("opens");
    disk.stop_at(disk.calls() + 1);
    file.write_all_at(b"x", 0).expect("the last call");
    file.write_all_at(b"y", 1).expect_err("stopped");
    file.sync_data().expect_err("stopped");
    assert_eq!(disk.bytes("a").expect("there"), b"x");
}
