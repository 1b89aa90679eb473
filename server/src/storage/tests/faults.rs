//! What fails around blobs: the disk is full, a write or a sync fails, bytes rot, a file is gone.

use super::*;
use std::io::ErrorKind;

#[test]
fn a_full_disk_refuses_an_upload_which_goes_on_when_there_is_room() {
    for room in (0..400_000).step_by(20_480) {
        let (mut world, bytes) = (World::new(), content(3, 300_000));
        world.commit(ROOT, &[], &[]).expect("commits");
        world.disk.set_room(Some(room));
        let full = world.upload(id(1), &bytes);
        if room < 300_000 {
            assert!(matches!(full, Err(StoreError::DiskFull)), "{room}: {full:?}");
            assert!(world.blobs.hold(vec![id(1)]).is_err());
        }
        world.disk.set_room(None);
        world.upload(id(1), &bytes).expect("goes on");
        world.commit(1, &[], &[id(1)]).expect("the store is well");
        assert_eq!(world.bytes(id(1), 0).expect("reads"), bytes, "{room}");
    }
}

#[test]
fn a_failed_sync_of_a_blob_poisons_the_store_as_one_of_the_log_does() {
    for (op, path) in [(SimOp::Sync, "blobs/staged"), (SimOp::SyncDir, "blobs/staged")] {
        let (mut world, bytes) = (World::new(), content(4, 100));
        world.commit(ROOT, &[], &[]).expect("commits");
        world.disk.fail(op, path, 0, ErrorKind::Other);
        assert!(matches!(world.upload(id(1), &bytes), Err(StoreError::Poisoned { .. })), "{op:?}");
        assert!(matches!(world.commit(1, &[], &[]), Err(StoreError::Poisoned { .. })), "{op:?}");
        assert!(matches!(world.upload(id(2), &bytes), Err(StoreError::Poisoned { .. })), "{op:?}");
        assert!(world.read.get(&Cell::object(Oid(ROOT)), Tid(1)).expect("reads go on").is_some());
        for seed in 0..20 {
            let mut again = World::open(world.disk.crash(seed)).expect("opens");
            again.upload(id(1), &bytes).expect("anew, or what is left");
            again.commit(1, &[], &[id(1)]).expect("commits");
            assert_eq!(again.bytes(id(1), 0).expect("reads"), bytes, "{op:?}, seed {seed}");
        }
    }
}

#[test]
fn any_other_failed_call_refuses_the_upload_and_the_next_try_succeeds() {
    for op in [SimOp::Create, SimOp::Write, SimOp::Rename, SimOp::SetLen, SimOp::Read] {
        for skip in 0..4 {
            let (mut world, bytes) = (World::new(), content(5, 200_000));
            world.disk.fail(op, "blobs/", skip, ErrorKind::Other);
            let first = world.upload(id(1), &bytes);
            world.disk.heal();
            world.upload(id(1), &bytes).expect("the next try");
            world.commit(ROOT, &[], &[id(1)]).expect("commits");
            assert_eq!(world.bytes(id(1), 0).expect("reads"), bytes, "{op:?} {skip}: {first:?}");
        }
    }
}

#[test]
fn every_bit_that_rots_is_found_and_every_file_that_is_gone() {
    let (mut world, bytes) = (World::new(), content(6, 150_000));
    world.upload(id(1), &bytes).expect("uploads");
    world.upload(id(2), b"small").expect("uploads");
    world.commit(ROOT, &[], &[id(1), id(2)]).expect("commits");
    world.sweep().expect("moves them");
    let path = |n: u8| format!("blobs/{:02x}/{}", id(n).0[0], id(n));
    let whole = world.disk.bytes(&path(2)).expect("there");
    for bit in 0..whole.len() * 8 {
        world.disk.edit(&path(2), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let problems = world.problems();
        assert!(problems.len() == 1 && problems[0].contains(&id(2).to_string()), "bit {bit}: {problems:?}");
        world.disk.edit(&path(2), |bytes| *bytes = whole.clone());
    }
    for cut in 0..whole.len() {
        world.disk.edit(&path(2), |bytes| bytes.truncate(cut));
        assert_eq!(world.problems().len(), 1, "cut at {cut}");
        world.disk.edit(&path(2), |bytes| *bytes = whole.clone());
    }
    world.disk.edit(&path(1), |bytes| bytes[32 + 65_540 + 7] ^= 1);
    assert!(matches!(world.bytes(id(1), 70_000), Err(StoreError::DamagedBlob { .. })), "read of the second frame");
    let first = world.blobs.read(id(1)).expect("opens").read(0, 65_536).expect("the first frame is well");
    assert_eq!(first, bytes[..65_536]);
    world.disk.remove(&path(2)).expect("removes");
    let problems = world.problems();
    assert!(problems.len() == 2 && problems.iter().any(|what| what.contains("is missing")), "{problems:?}");
}
