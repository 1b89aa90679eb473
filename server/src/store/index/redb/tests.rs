//! Shows that the redb index keeps what is durable, shows one moment per view, and turns failures into errors.

use super::spill::Spill;
use super::*;
use crate::store::disk::sim::SimOp;
use crate::store::disk::watched::Call;
use crate::store::disk::{RealDisk, SLICE_BYTES, SimDisk, WatchedDisk};
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::Weak;

fn put(key: u32, value: &[u8]) -> Change {
    (Table::Meta, key.to_be_bytes().to_vec(), Some(value.to_vec()))
}

fn open(disk: &SimDisk) -> Arc<RedbIndex> {
    Arc::new(RedbIndex::open(Arc::new(disk.clone()), 1 << 20).expect("opens"))
}

fn value(index: &Arc<RedbIndex>, key: u32) -> Option<Vec<u8>> {
    index.clone().view().expect("view").get(Table::Meta, &key.to_be_bytes()).expect("reads")
}

#[test]
fn an_empty_durable_commit_keeps_everything_before_it_and_a_crash_loses_only_what_came_after() {
    for seed in 0..60 {
        let disk = SimDisk::new();
        let index = open(&disk);
        (0..50).for_each(|key| index.commit(&[put(key, &[7; 300])], false).expect("commits"));
        index.commit(&[], true).expect("checkpoint");
        (50..90).for_each(|key| index.commit(&[put(key, &[8; 300])], false).expect("commits"));
        let after = open(&disk.crash(seed));
        let kept = (0..90).take_while(|key| value(&after, *key).is_some()).count();
        assert!(kept >= 50, "seed {seed}: {kept}");
        assert!((kept..90).all(|key| value(&after, key as u32).is_none()), "seed {seed}: commits out of order");
    }
}

#[test]
fn a_view_sees_one_moment() {
    let disk = SimDisk::new();
    let index = open(&disk);
    index.commit(&[put(1, b"old")], false).expect("commits");
    let view = index.clone().view().expect("view");
    index.commit(&[put(1, b"new"), put(2, b"new")], false).expect("commits");
    assert_eq!(view.get(Table::Meta, &1u32.to_be_bytes()).expect("reads").as_deref(), Some(&b"old"[..]));
    let mut seen = Vec::new();
    let visit: Visitor<'_> = &mut |key, _| {
        seen.push(key.to_vec());
        true
    };
    view.range(Table::Meta, Bound::Unbounded, Bound::Unbounded, true, visit).expect("reads");
    assert_eq!(seen, [1u32.to_be_bytes()]);
    assert_eq!(value(&index, 2).as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_full_disk_fails_no_read_and_everything_goes_on_when_there_is_room() {
    let disk = SimDisk::new();
    let index = Arc::new(RedbIndex::open(Arc::new(disk.clone()), 64 << 10).expect("opens"));
    index.commit(&[], true).expect("checkpoint");
    disk.set_room(Some(8192));
    for key in 0..400 {
        index.commit(&[put(key, &[key as u8; 2000])], false).expect("kept in memory");
    }
    assert!(matches!(index.make_room(0), Err(StoreError::DiskFull)));
    assert!((0..400).all(|key| value(&index, key) == Some(vec![key as u8; 2000])));
    disk.set_room(None);
    index.make_room(0).expect("room again");
    index.commit(&[], true).expect("checkpoint");
    drop(index);
    let after = open(&disk.crash(1));
    assert!((0..400).all(|key| value(&after, key) == Some(vec![key as u8; 2000])));
}

// The bytes that are written to the index between two syncs of it; at each sync all of an open index is read.
#[derive(Default)]
struct Bursts {
    bytes: Mutex<(usize, Vec<usize>)>,
    read: OnceLock<Weak<RedbIndex>>,
}

const ROWS: u32 = 500;

impl Bursts {
    fn watch(self: &Arc<Bursts>) -> impl Fn(Call<'_>) -> io::Result<()> + Send + Sync + 'static {
        let bursts = self.clone();
        move |call| {
            if call.path != REDB_FILE {
                return Ok(());
            }
            match call.op {
                SimOp::Write => bursts.bytes.lock().0 += call.len,
                SimOp::Sync => {
                    let mut bytes = bursts.bytes.lock();
                    let burst = std::mem::take(&mut bytes.0);
                    bytes.1.push(burst);
                    drop(bytes);
                    if let Some(index) = bursts.read.get().and_then(Weak::upgrade) {
                        assert!((0..ROWS).all(|key| value(&index, key) == Some(vec![7; 900])), "what waits is read");
                    }
                }
                _ => {}
            }
            Ok(())
        }
    }
}

#[test]
fn a_checkpoint_is_written_in_slices_and_what_waits_for_its_turn_is_read() {
    let bursts = Arc::new(Bursts::default());
    let disk = SimDisk::new();
    let watched = WatchedDisk::new(Arc::new(disk.clone()), bursts.watch());
    // Large enough to hold back what is committed, and too small for all of it to be read from memory.
    let index = Arc::new(RedbIndex::open(Arc::new(watched), 1 << 20).expect("opens"));
    let changes: Vec<_> = (0..ROWS).map(|key| put(key, &[7; 900])).collect();
    index.commit(&changes, false).expect("commits");
    bursts.bytes.lock().1.clear();
    drop(bursts.read.set(Arc::downgrade(&index)));
    index.commit(&[], true).expect("checkpoint");
    let bursts = std::mem::take(&mut bursts.bytes.lock().1);
    assert!(bursts.iter().sum::<usize>() > 20 * SLICE_BYTES, "{bursts:?}");
    assert!(bursts.iter().all(|burst| *burst < 2 * SLICE_BYTES), "{bursts:?}");
    assert!(!index.file.has_spilled());
    let after = open(&disk.crash(3));
    assert!((0..ROWS).all(|key| value(&after, key) == Some(vec![7; 900])), "durable");
}

#[test]
fn a_compacted_index_is_smaller_and_whole_and_without_room_it_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).expect("opens"));
    let mut index = RedbIndex::open(disk.clone(), 1 << 20).expect("opens");
    // Each commit leaves the pages that it replaces, until the next durable one.
    (0..60).for_each(|round| {
        let changes: Vec<_> = (0..60).map(|key| put(key, &[round; 2000])).collect();
        index.commit(&changes, false).expect("commits");
    });
    index.commit(&[], true).expect("checkpoint");
    let before = index.size_bytes();
    index.compact().expect("compacts");
    assert!(index.size_bytes() * 3 < before * 2, "{} of {before}", index.size_bytes());
    drop(index);
    let after = Arc::new(RedbIndex::open(disk, 1 << 20).expect("opens"));
    assert!((0..60).all(|key| value(&after, key) == Some(vec![59; 2000])));
    let disk = SimDisk::new();
    let mut index = RedbIndex::open(Arc::new(disk.clone()), 1 << 20).expect("opens");
    (0..50).for_each(|key| index.commit(&[put(key, &[7; 900])], true).expect("commits"));
    let calls = disk.calls();
    disk.set_room(Some(index.size_bytes()));
    index.compact().expect("says nothing");
    assert_eq!(disk.calls(), calls);
}

#[test]
fn a_failing_or_scribbled_file_is_an_error_and_no_panic() {
    let disk = SimDisk::new();
    let index = open(&disk);
    (0..200).for_each(|key| index.commit(&[put(key, &[7; 900])], false).expect("commits"));
    index.commit(&[], true).expect("checkpoint");
    disk.fail(SimOp::Sync, REDB_FILE, 0, io::ErrorKind::Other);
    assert!(matches!(index.commit(&[put(1, b"x")], true), Err(StoreError::Io { .. })));
    assert!(index.failure().is_some_and(|failure| !failure.is_damaged));
    drop(index);
    for seed in 0..40 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let bad = disk.crash(seed);
        bad.edit(REDB_FILE, |bytes| {
            let from = dice.usize(..bytes.len());
            let to = bytes.len().min(from + 200_000);
            bytes[from..to].iter_mut().for_each(|byte| *byte = dice.u8(..));
        });
        if let Ok(index) = RedbIndex::open(Arc::new(bad), 1 << 20)
            && let Ok(view) = Arc::new(index).view()
        {
            // The right answer, or an error.
            for key in 0..200u32 {
                let found = view.get(Table::Meta, &key.to_be_bytes());
                assert!(found.is_err() || found.is_ok_and(|row| row == Some(vec![7; 900])), "seed {seed}: {key}");
            }
        }
    }
}

#[test]
fn spilled_pieces_read_back_like_a_flat_file() {
    let seed = 1;
    let mut dice = fastrand::Rng::with_seed(seed);
    let (mut spill, mut flat) = (Spill::default(), vec![0u8; 300]);
    for step in 1..3000u32 {
        let from = dice.usize(0..300);
        let to = dice.usize(from..=300);
        if dice.u8(0..10) == 0 {
            spill.cut(from as u64, to as u64);
            flat[from..to].fill(0);
        } else {
            let value = vec![step as u8; to - from];
            if !value.is_empty() {
                spill.put(from as u64, &value);
            }
            flat[from..to].copy_from_slice(&value);
        }
        let (from, mut out) = (dice.usize(0..200), vec![0; 100]);
        spill.overlay(from as u64, &mut out);
        assert_eq!(out, flat[from..from + 100], "seed {seed} step {step}");
        assert_eq!(spill.bytes, spill.pieces.values().map(Vec::len).sum::<usize>(), "seed {seed}");
    }
}
