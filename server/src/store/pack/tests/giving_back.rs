//! The room of what was replaced goes back in slices, behind its name, and never under somebody who reads it.

use super::*;
use crate::store::disk::FREED_BYTES;
use crate::store::disk::WatchedDisk;
use crate::store::disk::sim::SimOp;
use crate::store::disk::watched::Call;
use crate::store::log::handles::Handles;
use crate::store::log::segments::{Segment, Segments, segment_path};
use crate::store::pack::give_back::give_back;

const LEN: u64 = 3 * FREED_BYTES + 100;

type Calls = Arc<Mutex<Vec<(SimOp, u64)>>>;

/// A catalogue of one segment of some slices, its disk and what is asked of that.
fn one() -> (Segments, Arc<WatchedDisk>, SimDisk, Calls) {
    let (sim, calls) = (SimDisk::new(), Calls::default());
    let heard = calls.clone();
    let disk = Arc::new(WatchedDisk::new(Arc::new(sim.clone()), move |call: Call<'_>| {
        heard.lock().push((call.op, call.offset));
        Ok(())
    }));
    let path = segment_path(1, 0);
    sim.put(&path, (0..LEN).map(|at| at as u8).collect());
    let handles = Handles::new(disk.clone(), 9);
    let segments = Segments::new([Arc::new(Segment::new(SegmentHeader::first(7), handles.lazy(path), LEN))]);
    (segments, disk, sim, calls)
}

#[test]
fn it_is_freed_in_slices_each_synced_behind_its_name() {
    let (segments, disk, sim, calls) = one();
    let retired = segments.retire(disk.as_ref(), 1, 0).expect("is gone");
    let mut told = Vec::new();
    give_back(vec![retired], &mut |stage, done, all| {
        assert_eq!((stage, all), (Stage::GiveBack, LEN));
        told.push(done);
        Ok(())
    })
    .expect("goes");
    let mut wanted = vec![(SimOp::Remove, 0), (SimOp::SyncDir, 0)];
    let lens = [2 * FREED_BYTES + 100, FREED_BYTES + 100, 100, 0];
    wanted.extend(lens.iter().flat_map(|len| [(SimOp::SetLen, *len), (SimOp::Sync, 0)]));
    assert_eq!(*calls.lock(), wanted);
    assert_eq!((told, sim.open_files()), (lens.iter().map(|len| LEN - len).collect(), 0));
}

#[test]
fn one_that_somebody_reads_is_left_to_him() {
    let (segments, disk, sim, calls) = one();
    let reader = segments.find(1, 0).expect("is there");
    let retired = segments.retire(disk.as_ref(), 1, 0).expect("is gone");
    give_back(vec![retired], &mut |_, _, _| panic!("nothing is freed")).expect("goes");
    let mut byte = [0];
    reader.read(&mut byte, LEN - 1).expect("reads");
    assert_eq!((byte[0], calls.lock().iter().any(|(op, _)| *op == SimOp::SetLen)), ((LEN - 1) as u8, false));
    drop(reader);
    assert_eq!(sim.open_files(), 0);
}

#[test]
fn a_name_that_may_come_back_has_all_of_its_file() {
    let (segments, disk, sim, _) = one();
    sim.fail(SimOp::SyncDir, "log", 0, std::io::ErrorKind::Other);
    assert!(segments.retire(disk.as_ref(), 1, 0).is_none());
    let path = segment_path(1, 0);
    let after = (0..20).filter_map(|seed| sim.crash(seed).bytes(&path));
    assert!(after.map(|bytes| assert_eq!(bytes.len() as u64, LEN)).count() > 0, "in some crash the name is there");
}

#[test]
fn who_wants_to_stop_and_a_disk_that_fails_leave_the_rest_to_the_system() {
    let (segments, disk, sim, calls) = one();
    let retired = segments.retire(disk.as_ref(), 1, 0).expect("is gone");
    let stopped = give_back(vec![retired], &mut |_, _, _| Err(StoreError::Stopped));
    assert!(matches!(stopped, Err(StoreError::Stopped)));
    let count = |calls: &Calls| calls.lock().iter().filter(|(op, _)| *op == SimOp::SetLen).count();
    assert_eq!((count(&calls), sim.open_files()), (1, 0));

    let (segments, disk, sim, calls) = one();
    let retired = segments.retire(disk.as_ref(), 1, 0).expect("is gone");
    sim.fail(SimOp::SetLen, "log", 1, std::io::ErrorKind::Other);
    give_back(vec![retired], &mut |_, _, _| Ok(())).expect("the file is gone all the same");
    assert_eq!((count(&calls), sim.open_files()), (2, 0));
}

#[test]
fn a_pack_keeps_nothing_of_what_it_has_replaced_and_gives_all_of_it_back() {
    let mut world = World::new(6);
    world.put(Cell::object(ROOT), &[1]);
    let mut to = Tid::NONE;
    (0..60).for_each(|_| to = world.put(Cell::object(Oid(1)), &[]));
    world.settle();
    let (world, mut told) = (RefCell::new(world), Vec::new());
    let (reader, settler) = (world.borrow().reader.clone(), world.borrow().settler.clone());
    let before = world.borrow().reader.stats().log_bytes;
    let mut step = |stage, done, all| {
        if stage == Stage::GiveBack {
            told.push((done, all));
        }
        Ok(())
    };
    let mut packer = Packer::new(&reader, settler, to, &mut step).expect("surveys");
    packer.forecast(&mut step).expect("says");
    assert!(packer.needs_roll());
    world.borrow_mut().appender.roll().expect("rolls");
    let packed = packer.run(Tid::NONE, &mut step).expect("packs");
    assert!(packed.revisions > 50 && before > FREED_BYTES, "{packed:?}, {before}");
    assert!(told.len() as u64 >= before / FREED_BYTES, "{told:?} of {before}");
}
