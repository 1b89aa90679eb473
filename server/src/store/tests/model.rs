//! The model: every revision of every cell in a map. A run is a list of random steps from a seed; after each step a few
//! random questions are asked of both.

use super::*;
use crate::store::{Entry, Kind, Range, Reader, Revision, verify};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use zeolite_proto::record::Header;

#[derive(Clone, Default)]
pub(super) struct Model {
    cells: BTreeMap<Cell, BTreeMap<Tid, Option<Bytes>>>,
    txns: Vec<Txn>,
}

impl Model {
    pub(super) fn add(&mut self, txn: &Txn) {
        for write in &txn.writes {
            self.cells.entry(write.cell.clone()).or_default().insert(txn.tid, write.record.clone());
        }
        self.txns.push(txn.clone());
    }

    pub(super) fn last(&self) -> Tid {
        self.txns.last().map_or(Tid::NONE, |txn| txn.tid)
    }

    fn get(&self, cell: &Cell, at: Tid) -> Option<Revision> {
        let revisions = self.cells.get(cell)?;
        let (tid, record) = revisions.range(..=at).next_back()?;
        let end = revisions.range(tid.next()..).next().map(|(tid, _)| *tid);
        Some(Revision { tid: *tid, end, record: record.clone() })
    }

    fn scan(&self, range: &Range, at: Tid) -> Vec<Entry> {
        let within = |cell: &&Cell| {
            cell.oid == range.oid
                && !cell.key.is_empty()
                && cell.key >= range.from
                && (range.to.is_empty() || cell.key < range.to)
        };
        let entry = |cell: &Cell| {
            let revision = self.get(cell, at)?;
            let record = revision.record?;
            let record = if range.keys_only { Bytes::new() } else { record };
            Some(Entry { key: cell.key.clone(), tid: revision.tid, record })
        };
        let mut found: Vec<_> = self.cells.keys().filter(within).filter_map(entry).collect();
        if range.reverse {
            found.reverse();
        }
        found
    }

    fn live(&self) -> impl Iterator<Item = (Oid, String, u32)> + '_ {
        self.cells.iter().filter(|(cell, _)| cell.is_object()).filter_map(|(cell, revisions)| {
            let record = revisions.values().next_back()?.as_ref()?;
            let header = Header::parse(record).expect("a record");
            Some((cell.oid, header.class.to_owned(), header.version))
        })
    }

    fn kinds(&self) -> Vec<Kind> {
        let mut counts: BTreeMap<(String, u32), u64> = BTreeMap::new();
        self.live().for_each(|(_, class, version)| *counts.entry((class, version)).or_default() += 1);
        let kind = |((class, version), objects)| Kind { class, version, objects };
        counts.into_iter().map(kind).collect()
    }

    fn objects(&self, class: &str, version_below: u32) -> Vec<Oid> {
        let wanted = self.live().filter(|(_, of, version)| of == class && *version < version_below);
        wanted.map(|(oid, ..)| oid).collect()
    }
}

fn random_cell(dice: &mut fastrand::Rng) -> Cell {
    if dice.bool() {
        return Cell::object(Oid(dice.u64(0..30)));
    }
    let key: Vec<u8> = (0..dice.usize(1..4)).map(|_| [0, 1, 2, 0xff][dice.usize(0..4)]).collect();
    Cell::entry(Oid([3, 40, u64::MAX - 1][dice.usize(0..3)]), key)
}

pub(super) fn random_txn(dice: &mut fastrand::Rng, tid: u64) -> Txn {
    let cells: BTreeSet<Cell> = (0..dice.usize(0..6)).map(|_| random_cell(dice)).collect();
    let write = |cell| {
        let record = record(["A", "Bee"][dice.usize(0..2)], dice.u32(1..4), [0, 10, 40, 100, 300][dice.usize(0..5)]);
        TxnWrite { cell, record: (dice.u8(0..5) > 0).then_some(record), merged: dice.bool() }
    };
    let txn = txn(tid, cells.into_iter().map(write).collect());
    if dice.bool() { txn } else { as_large(txn) }
}

pub(super) fn ask(reader: &Reader, model: &Model, dice: &mut fastrand::Rng) {
    let at = if dice.bool() { Tid::MAX } else { Tid(dice.u64(0..=model.last().0 + 2)) };
    let cells: Vec<Cell> = (0..8).map(|_| random_cell(dice)).collect();
    let expected: Vec<_> = cells.iter().map(|cell| model.get(cell, at)).collect();
    assert_eq!(reader.get_many(&cells, at, usize::MAX).expect("reads"), expected, "at {at}");
    let cut = reader.get_many(&cells, at, 1).expect("reads");
    assert_eq!(cut, expected[..cut.len()]);
    for (cell, expected) in cells.iter().zip(expected) {
        assert_eq!(reader.get(cell, at).expect("reads"), expected, "{cell} at {at}");
        let revisions = model.cells.get(cell);
        let newest = revisions.and_then(|revisions| revisions.keys().next_back().copied());
        assert_eq!(reader.newest(cell).expect("reads"), newest, "{cell}");
        let limit = dice.usize(0..5);
        let older = revisions.into_iter().flat_map(|revisions| revisions.range(..at).rev()).take(limit);
        let history: Vec<_> = older.map(|(tid, _)| model.get(cell, *tid).expect("there")).collect();
        assert_eq!(reader.history(cell, at, limit).expect("reads"), history, "{cell} before {at}");
    }
    ask_scan(reader, model, at, dice);
    ask_kinds(reader, model, dice);
    let tid = Tid(dice.u64(0..=model.last().0 + 1));
    assert_eq!(reader.txn(tid).expect("reads"), model.txns.iter().find(|txn| txn.tid == tid).cloned(), "{tid}");
}

// Not to be asked while the overlay is being emptied: it waits for that.
fn ask_kinds(reader: &Reader, model: &Model, dice: &mut fastrand::Rng) {
    if reader.state.overlay.is_held() {
        return;
    }
    assert_eq!(reader.kinds().expect("reads"), model.kinds());
    let (class, below) = (["A", "Bee", "none"][dice.usize(0..3)], dice.u32(0..5));
    let (mut oids, mut after, limit) = (Vec::new(), None, dice.usize(1..9));
    loop {
        let page = reader.objects(Some(class), below, after, limit).expect("reads");
        assert!(page.len() <= limit);
        let Some(last) = page.last() else { break };
        after = Some(*last);
        oids.extend(page);
    }
    assert_eq!(oids, model.objects(class, below), "{class} below {below}");
}

fn ask_scan(reader: &Reader, model: &Model, at: Tid, dice: &mut fastrand::Rng) {
    let bound = |dice: &mut fastrand::Rng| if dice.bool() { Bytes::new() } else { random_cell(dice).key };
    let oid = Oid([3, 40, u64::MAX - 1, 5][dice.usize(0..4)]);
    let range = Range { oid, from: bound(dice), to: bound(dice), reverse: dice.bool(), keys_only: dice.bool() };
    let (limit, bytes_max) = (dice.usize(1..12), [1, 500, usize::MAX][dice.usize(0..3)]);
    let (mut rest, mut entries) = (range.clone(), Vec::new());
    loop {
        let (page, next) = reader.scan(&rest, at, limit, bytes_max).expect("scans");
        assert!(page.len() <= limit);
        entries.extend(page);
        let Some(next) = next else { break };
        if range.reverse {
            rest.to = next;
        } else {
            rest.from = next;
        }
    }
    assert_eq!(entries, model.scan(&range, at), "{range:?} at {at}");
    let newer_than = Tid(dice.u64(0..=model.last().0));
    let expected = model.cells.iter().find_map(|(cell, revisions)| {
        let within = cell.oid == range.oid && !cell.key.is_empty() && cell.key >= range.from;
        let within = within && (range.to.is_empty() || cell.key < range.to);
        let newest = *revisions.keys().next_back()?;
        (within && newest > newer_than).then(|| (cell.clone(), newest))
    });
    let found = reader.newest_in_range(oid, &range.from, &range.to, newer_than).expect("reads");
    assert_eq!(found, expected, "{range:?} newer than {newer_than}");
}

fn check_all(opened: &Opened, model: &Model) {
    assert_eq!(all_txns(opened), model.txns);
    for (cell, revisions) in &model.cells {
        for tid in revisions.keys() {
            assert_eq!(opened.reader.revision(cell, *tid).expect("reads"), model.get(cell, *tid), "{cell} {tid}");
        }
    }
}

// Verify reads log and index by its own code: it has no fault to find with either.
fn verified(opened: Opened) {
    let Opened { reader, settler, .. } = opened;
    let found = verify(&reader, &Mutex::new(settler), &[], &mut |_, _, _| Ok(())).expect("verifies");
    assert!(found.problems.is_empty(), "{:#?}", found.problems);
}

fn run(seed: u64, steps: usize) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let settings = StoreSettings {
        cache_bytes: [0, 64 << 10][dice.usize(0..2)],
        recent_entries_max: [0, 5, 50][dice.usize(0..3)],
        ..small()
    };
    let mut disk = SimDisk::new();
    let mut opened = open(&disk, settings.clone()).expect("opens");
    let mut model = Model::default();
    for _ in 0..steps {
        match dice.u8(0..40) {
            0..20 => {
                let mut tid = model.last().0;
                let txns: Vec<_> = (0..dice.usize(1..4))
                    .map(|_| {
                        tid += dice.u64(1..4);
                        random_txn(&mut dice, tid)
                    })
                    .collect();
                commit(&mut opened, &txns);
                txns.iter().for_each(|txn| model.add(txn));
            }
            20..30 => drop(opened.settler.settle(dice.usize(0..10)).expect("settles")),
            30..32 => opened.settler.checkpoint().expect("checkpoint"),
            how @ 32..36 => {
                if how == 32 {
                    opened.settler.close().expect("closes");
                    verified(opened);
                } else {
                    // A kill leaves the bytes, a power cut only what was synced; both leave what was acknowledged.
                    let cut = how > 33;
                    disk = if cut { disk.crash(dice.u64(..)) } else { disk.clone() };
                    drop(opened);
                }
                if dice.u8(0..6) == 0 {
                    Store::remove_index(&disk).expect("removes");
                }
                opened = open(&disk, settings.clone()).expect("opens");
                let found = &opened.recovered;
                assert_eq!(found.last_tid, model.last());
                let keys: Vec<_> = model.txns.iter().rev().take(40).map(|txn| (txn.key, txn.tid)).rev().collect();
                assert_eq!(found.keys.iter().map(|known| (known.key, known.tid)).collect::<Vec<_>>(), keys);
                assert!(found.keys.iter().all(|known| known.digest == !known.tid.0));
                let forgotten = model.txns.iter().rev().nth(40).map_or(Tid::NONE, |txn| txn.tid);
                assert_eq!(found.keys_floor, forgotten);
                let oid_max = model.cells.keys().map(|cell| cell.oid.0).max().unwrap_or(0);
                assert_eq!(found.oid_max, oid_max);
                check_all(&opened, &model);
            }
            _ => {}
        }
        ask(&opened.reader, &model, &mut dice);
    }
    check_all(&opened, &model);
    verified(opened);
}

#[test]
fn the_store_is_the_model_under_random_steps_kills_and_power_cuts() {
    // More of them, or one again: STORE_SEED=17 STORE_RUNS=1.
    let number = |name, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (from, runs): (u64, u64) = (number("STORE_SEED", 1), number("STORE_RUNS", 60));
    for seed in from..from + runs {
        let told = std::panic::catch_unwind(|| run(seed, 150));
        assert!(told.is_ok(), "failed with STORE_SEED={seed} STORE_RUNS=1");
    }
}

#[test]
fn a_long_history_is_stepped_over_by_scans_both_ways() {
    let disk = SimDisk::new();
    let mut opened = open(&disk, StoreSettings { segment_bytes_max: 1 << 20, ..small() }).expect("opens");
    let mut model = Model::default();
    let mut dice = fastrand::Rng::with_seed(1);
    for tid in 1..400 {
        let key = if tid % 10 == 0 { vec![tid as u8, 1] } else { vec![7] };
        let txn = txn(tid, vec![put(Cell::entry(Oid(3), key), record("A", 1, 5))]);
        commit(&mut opened, std::slice::from_ref(&txn));
        model.add(&txn);
    }
    for _ in 0..2 {
        for at in [1, 5, 100, 200, 399] {
            for reverse in [false, true] {
                let (from, to) = (Bytes::new(), Bytes::new());
                let range = Range { oid: Oid(3), from, to, reverse, keys_only: false };
                let (entries, next) = opened.reader.scan(&range, Tid(at), 1000, usize::MAX).expect("scans");
                assert_eq!((entries, next), (model.scan(&range, Tid(at)), None), "at {at} reverse {reverse}");
            }
        }
        (0..100).for_each(|_| ask(&opened.reader, &model, &mut dice));
        opened.settler.settle(usize::MAX).expect("settles");
    }
}
