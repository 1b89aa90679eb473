//! Shows that the sled index has views of one moment, and what of it can be used again after which end.

use super::*;
use crate::store::disk::{RealDisk, SimDisk};
use std::collections::BTreeMap;
use std::path::Path;

/// Beside it sled fails, until somebody removes its files.
const BROKEN: &str = "index-sled/broken";

/// What the next call meets.
pub(super) fn breaks(disk: &dyn Disk) -> Result<(), StoreError> {
    match disk.open(BROKEN, false) {
        Ok(_) => Err(text("it is broken")),
        Err(_) => Ok(()),
    }
}

fn open(dir: &Path) -> Result<Arc<SledIndex>, StoreError> {
    SledIndex::open(Arc::new(RealDisk::open(dir).expect("opens")), 1 << 20).map(Arc::new)
}

fn put(key: u32, value: &[u8]) -> Change {
    (Table::Meta, key.to_be_bytes().to_vec(), Some(value.to_vec()))
}

fn rows(view: &dyn View, from: Bound<&[u8]>, to: Bound<&[u8]>, reverse: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let visit: Visitor<'_> = &mut |key, row| {
        rows.push((key.to_vec(), row.to_vec()));
        true
    };
    view.range(Table::Meta, from, to, reverse, visit).expect("reads");
    rows
}

#[test]
fn every_view_sees_its_moment_however_long_it_lasts() {
    for seed in 0..20 {
        let dir = tempfile::tempdir().expect("temporary directory");
        let index = open(dir.path()).expect("opens");
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut views = vec![(index.clone().view().expect("view"), model.clone())];
        for step in 0..120u32 {
            let changes: Vec<Change> = (0..dice.usize(0..12))
                .map(|_| {
                    let key = dice.u32(0..if seed % 2 == 0 { 30 } else { 900 });
                    let value = (dice.u8(0..3) > 0).then(|| step.to_be_bytes().to_vec());
                    (Table::Meta, key.to_be_bytes().to_vec(), value)
                })
                .collect();
            index.commit(&changes, dice.u8(0..9) == 0).expect("commits");
            for (_, key, value) in changes {
                match value {
                    Some(value) => drop(model.insert(key, value)),
                    None => drop(model.remove(&key)),
                }
            }
            if dice.bool() {
                views.push((index.clone().view().expect("view"), model.clone()));
            }
            if views.len() > 1 && dice.u8(0..3) == 0 {
                views.swap_remove(dice.usize(..views.len()));
            }
            let (view, model) = &views[dice.usize(..views.len())];
            let (from, to) = (dice.u32(0..900).to_be_bytes(), dice.u32(0..900).to_be_bytes());
            let low = [Bound::Unbounded, Bound::Included(&from[..]), Bound::Excluded(&from[..])][dice.usize(0..3)];
            let high = [Bound::Unbounded, Bound::Included(&to[..]), Bound::Excluded(&to[..])][dice.usize(0..3)];
            let reverse = dice.bool();
            let within = |key: &[u8]| {
                let over = match low {
                    Bound::Included(low) => key >= low,
                    Bound::Excluded(low) => key > low,
                    Bound::Unbounded => true,
                };
                let under = match high {
                    Bound::Included(high) => key <= high,
                    Bound::Excluded(high) => key < high,
                    Bound::Unbounded => true,
                };
                over && under
            };
            let all = model.iter().filter(|(key, _)| within(key)).map(|(key, row)| (key.clone(), row.clone()));
            let mut expected: Vec<_> = all.collect();
            if reverse {
                expected.reverse();
            }
            assert_eq!(rows(view.as_ref(), low, high, reverse), expected, "seed {seed} step {step}");
            assert_eq!(view.get(Table::Meta, &from).expect("reads"), model.get(&from[..]).cloned(), "seed {seed}");
        }
        views.clear();
        assert_eq!(index.moments.len(), 0, "seed {seed}: what nobody reads is let go");
    }
}

#[test]
fn views_beside_a_writer_see_each_commit_whole() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let index = open(dir.path()).expect("opens");
    index.commit(&(0..300).map(|key| put(key, &[0; 4])).collect::<Vec<_>>(), false).expect("commits");
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0;
                    while seen < 60 {
                        let view = index.clone().view().expect("view");
                        let all = rows(view.as_ref(), Bound::Unbounded, Bound::Unbounded, false);
                        assert_eq!(all.len(), 300);
                        assert!(all.iter().all(|(_, row)| *row == all[0].1), "a commit was seen in part");
                        seen = u32::from_be_bytes(all[0].1.as_slice().try_into().expect("four bytes"));
                    }
                })
            })
            .collect();
        for round in 1..=60u32 {
            let changes: Vec<_> = (0..300).map(|key| put(key, &round.to_be_bytes())).collect();
            index.commit(&changes, false).expect("commits");
        }
        readers.into_iter().for_each(|reader| reader.join().expect("reads"));
    });
}

#[test]
fn a_clean_close_is_used_again_and_nothing_else_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let index = open(dir.path()).expect("opens");
    index.commit(&[put(1, b"one")], true).expect("commits");
    index.close().expect("closes");
    // A commit after all: the mark is gone before it.
    index.commit(&[put(2, &[7; 2_000_000])], false).expect("commits");
    drop(index);
    let Err(StoreError::Index(why)) = open(dir.path()) else { panic!("opened what was not closed") };
    assert!(why.contains("not closed"), "{why}");
    let dir = tempfile::tempdir().expect("temporary directory");
    let index = open(dir.path()).expect("opens");
    index.commit(&[put(1, b"one"), put(2, &[7; 2_000_000])], false).expect("commits");
    index.close().expect("closes");
    drop(index);
    let index = open(dir.path()).expect("opens again");
    let value = |key: u32| index.clone().view().expect("view").get(Table::Meta, &key.to_be_bytes()).expect("reads");
    assert_eq!((value(1).as_deref(), value(2).map(|row| row.len())), (Some(&b"one"[..]), Some(2_000_000)));
    // Only read since, and killed: whatever sled has done meanwhile, nobody knows.
    drop(index);
    assert!(open(dir.path()).is_err());
}

#[test]
fn a_byte_that_changed_after_the_close_is_noticed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let index = open(dir.path()).expect("opens");
    index.commit(&[put(1, b"one")], false).expect("commits");
    index.close().expect("closes");
    drop(index);
    let path = dir.path().join(SLED_DIR).join("db");
    let mut bytes = std::fs::read(&path).expect("reads");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("writes");
    let Err(StoreError::Index(why)) = open(dir.path()) else { panic!("opened what has changed") };
    assert!(why.contains("not those"), "{why}");
}

#[test]
fn a_simulated_disk_has_none() {
    let Err(StoreError::Refused { what }) = SledIndex::open(Arc::new(SimDisk::new()), 1 << 20) else {
        panic!("opened without files")
    };
    assert!(what.contains("redb"), "{what}");
}
