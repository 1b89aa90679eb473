//! What the index does not cover at an opening: it stays in memory, is answered from there, and is settled like anything else; a kill right then costs
//! no more than the one before.

use super::*;
use crate::store::IndexKind;

// A store killed with this many transactions behind its last checkpoint, which holds five.
fn killed(settings: &StoreSettings, txns: u64) -> SimDisk {
    let disk = SimDisk::new();
    let mut opened = open(&disk, settings.clone()).expect("opens");
    (1..=5).for_each(|tid| commit(&mut opened, &[simple(tid, 100)]));
    opened.settler.close().expect("closes");
    (6..6 + txns).for_each(|tid| commit(&mut opened, &[simple(tid, 100)]));
    disk.crash(1)
}

fn waiting(opened: &Opened) -> usize {
    opened.reader.state.overlay.txns()
}

fn waiting_bytes(disk: &SimDisk) -> u64 {
    open(&disk.fork(), StoreSettings::default()).expect("opens").reader.state.overlay.bytes()
}

fn all_are_there(opened: &Opened, upto: u64) {
    let cells: Vec<Cell> = (1..=upto).map(|oid| Cell::object(Oid(oid))).collect();
    let found = opened.reader.get_many(&cells, Tid::MAX, usize::MAX).expect("reads");
    let tids: Vec<u64> = found.into_iter().map(|found| found.expect("there").tid.0).collect();
    assert_eq!(tids, (1..=upto).collect::<Vec<_>>());
    assert_eq!(opened.reader.kinds().expect("reads")[0].objects, upto);
}

#[test]
fn the_rest_of_the_log_is_answered_from_memory_and_settled_later_also_after_a_second_kill() {
    // sled begins anew after a kill.
    if engine::kind() == IndexKind::Sled {
        return;
    }
    let mut disk = killed(&StoreSettings::default(), 40);
    for seed in 0..3 {
        let opened = open(&disk, StoreSettings::default()).expect("opens");
        assert_eq!((waiting(&opened), opened.reader.state.index.failure()), (40, None));
        assert_eq!(opened.recovered.keys.len(), 45);
        all_are_there(&opened, 45);
        disk = disk.crash(seed);
    }
    let mut opened = open(&disk, StoreSettings::default()).expect("opens");
    opened.settler.settle(7).expect("settles");
    commit(&mut opened, &[simple(46, 100)]);
    all_are_there(&opened, 46);
    opened.settler.close().expect("closes");
    all_are_there(&opened, 46);
    let opened = open(&disk.crash(9), StoreSettings::default()).expect("opens");
    assert_eq!((waiting(&opened), opened.recovered.replayed_bytes), (0, 0));
    all_are_there(&opened, 46);
}

#[test]
fn of_a_rest_that_is_too_large_for_memory_the_oldest_is_settled_at_the_opening() {
    let disk = killed(&StoreSettings::default(), 400);
    let settings = StoreSettings { overlay_bytes_max: 64 << 10, ..StoreSettings::default() };
    let mut opened = open(&disk, settings).expect("opens");
    let bytes = opened.reader.state.overlay.bytes();
    assert!(bytes <= (64 << 10) / 8 * 7, "{bytes}");
    // Also of one that would fit, and leave nothing to the first commits.
    let fits = StoreSettings { overlay_bytes_max: waiting_bytes(&disk) + 100, ..StoreSettings::default() };
    let left = open(&disk.fork(), fits.clone()).expect("opens").reader.state.overlay.bytes();
    assert!(left <= fits.overlay_bytes_max / 8 * 7, "{left} of {}", fits.overlay_bytes_max);
    assert!(waiting(&opened) > 10 || engine::kind() == IndexKind::Sled, "{}", waiting(&opened));
    all_are_there(&opened, 405);
    commit(&mut opened, &[simple(406, 100)]);
    opened.settler.close().expect("closes");
    all_are_there(&opened, 406);
}

#[test]
fn so_many_revisions_make_a_checkpoint_however_small_they_are() {
    if engine::kind() == IndexKind::Sled {
        return;
    }
    for (revisions, left) in [(10, 5), (1000, 45)] {
        let disk = SimDisk::new();
        let settings = StoreSettings { checkpoint_revisions: revisions, ..StoreSettings::default() };
        let mut opened = open(&disk, settings.clone()).expect("opens");
        for tid in 1..=45 {
            commit(&mut opened, &[simple(tid, 1)]);
            opened.settler.settle(1).expect("settles");
        }
        assert_eq!(waiting(&open(&disk.crash(3), settings).expect("opens")), left, "{revisions}");
    }
}

#[test]
fn small_records_are_in_the_index_those_of_entries_longer_than_those_of_objects() {
    use crate::store::index::rows::{Revision, Stored};
    use crate::store::index::{Table, keys};
    let disk = SimDisk::new();
    let lens = [1, 20, 60, 150, 300];
    for (objects, settings) in [
        (64, StoreSettings::default()),
        (150, StoreSettings { inline_object_bytes_max: 150, ..StoreSettings::default() }),
        (60, StoreSettings { inline_bytes_max: 60, ..StoreSettings::default() }),
    ] {
        let disk = disk.fork();
        let entries = settings.inline_bytes_max;
        let mut opened = open(&disk, settings.clone()).expect("opens");
        let cells: Vec<Cell> =
            (0..lens.len() as u64).flat_map(|oid| [Cell::object(Oid(oid)), Cell::entry(Oid(oid), "key")]).collect();
        let records: Vec<Bytes> = lens.iter().map(|len| record("Page", 1, *len)).collect();
        let of = |cell: &Cell| records[cell.oid.0 as usize].clone();
        commit(&mut opened, &[txn(5, cells.iter().map(|cell| put(cell.clone(), of(cell))).collect())]);
        opened.settler.settle(usize::MAX).expect("settles");
        let view = opened.reader.state.index.view().expect("views");
        for cell in &cells {
            let row = view.get(Table::Revisions, &keys::revision(cell, Tid(5))).expect("reads").expect("there");
            let is_inline = matches!(Revision::parse(&row).expect("parses").record, Stored::Inline(_));
            let max = if cell.is_object() { objects } else { entries };
            assert_eq!(is_inline, of(cell).len() <= max, "{cell} of {} with {max}", of(cell).len());
        }
        drop(opened);
        let opened = open(&disk, settings).expect("opens again");
        let found = opened.reader.get_many(&cells, Tid::MAX, usize::MAX).expect("reads");
        let found: Vec<_> = found.into_iter().map(|revision| revision.expect("there").record.expect("there")).collect();
        assert_eq!(found, cells.iter().map(of).collect::<Vec<_>>());
    }
}
