//! What a pack copies is brought to the disk in slices: a live commit waits for one of them at most.

use super::*;
use crate::store::disk::sim::SimOp;
use crate::store::disk::watched::Call;
use crate::store::disk::{SLICE_BYTES, WatchedDisk};
use crate::store::log::segments::PART;

const OBJECTS: u64 = 100;

#[test]
fn no_more_than_a_slice_of_what_is_copied_is_written_between_two_syncs() {
    // What was written since the last sync, and at each sync.
    let bursts: Arc<Mutex<(usize, Vec<usize>)>> = Arc::default();
    let told = bursts.clone();
    let watch = move |call: Call<'_>| {
        let mut told = told.lock();
        match call.op {
            SimOp::Write if call.path.ends_with(PART) => told.0 += call.len,
            SimOp::Sync if call.path.ends_with(PART) => {
                let burst = std::mem::take(&mut told.0);
                told.1.push(burst);
            }
            _ => {}
        }
        Ok(())
    };
    let disk = SimDisk::new();
    let watched = Arc::new(WatchedDisk::new(engine::on(&disk), watch));
    let settings = StoreSettings { segment_bytes_max: 1 << 20, ..settings(0) };
    let Opened { appender, reader, settler, .. } = Store::open(watched, settings, 7, &mut |_| {}).expect("opens");
    let (settler, dice) = (Arc::new(Mutex::new(settler)), fastrand::Rng::with_seed(1));
    let mut world = World { disk, appender, reader, settler, model: Model::default(), dice, unsure: None };
    let all: Vec<u64> = (1..=OBJECTS).collect();
    world.put(Cell::object(ROOT), &all);
    // More than a slice in one batch, and many small ones.
    let large = (1..10).map(|oid| write(Cell::object(Oid(oid)), &[], SLICE_BYTES / 3)).collect();
    world.commit(large).expect("commits");
    for oid in 10..=OBJECTS {
        world.commit(vec![write(Cell::object(Oid(oid)), &[], 1000)]).expect("commits");
    }
    let to = world.put(Cell::object(Oid(1)), &[]);
    world.appender.roll().expect("rolls");
    world.settle();
    let (world, packed) = pack(world, to);
    assert_eq!(packed.revisions, 1, "the first revision of the object that was written over");
    let bursts = std::mem::take(&mut bursts.lock().1);
    assert!(bursts.iter().sum::<usize>() > 6 * SLICE_BYTES, "{bursts:?}");
    assert!(bursts.iter().all(|burst| *burst < 2 * SLICE_BYTES), "{bursts:?}");
    world.verify("packed");
}
