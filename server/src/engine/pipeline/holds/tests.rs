//! What is held: by cells shared, beside very many ranges, and against a model that walks over everything.

use super::*;
use crate::engine::caller::Caller;
use crate::engine::pipeline::ranges;
use crate::engine::pipeline::yields::Passed;
use crate::engine::sealed_write::SealedWrite;
use crate::engine::share::Share;
use bytes::Bytes;
use std::sync::Arc;
use zeolite_proto::{Change, Note, Oid, Priority, ReadCell, ReadRange, StaleCell, Write};

fn cell(n: u64) -> Cell {
    Cell::object(Oid(n))
}

fn prepared(writes: Vec<SealedWrite>, reads: Vec<Cell>, ranges: Vec<ReadRange>) -> Prepared {
    Prepared {
        key: CommitKey([1; 16]),
        priority: Priority::Live,
        note: Note::default(),
        caller: Caller::default(),
        writes,
        passed: Passed::default(),
        read_cells: reads,
        read_ranges: ranges,
        wide: None,
        wide_len: (0, 0),
        deadline: Duration::ZERO,
        since_unix_ms: 0,
        since_steady_ms: 0,
        durable: None,
        rests_on: Tid::NONE,
        stale: BTreeMap::new(),
        bytes: 0,
        places: Prepared::places(&Share::default(), 0),
        blobs: Vec::new(),
        left_out: Vec::new(),
    }
}

fn sealed(cell: Cell) -> SealedWrite {
    SealedWrite { cell, stamped: false, record: None, merged: false }
}

fn range(oid: u64, from: &str, to: &str) -> ReadRange {
    let key = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    ReadRange { oid: Oid(oid), from: key(from), to: key(to), base: Tid::NONE }
}

fn draft(writes: &[(Cell, bool)], reads: &[Cell], ranges: &[ReadRange]) -> Draft {
    let write = |(cell, stamped): &(Cell, bool)| Write {
        cell: cell.clone(),
        base: Tid::NONE,
        change: Change::Delete,
        stamped: *stamped,
    };
    Draft {
        key: CommitKey([2; 16]),
        key_since: Tid::NONE,
        priority: Priority::Live,
        read_cells: reads.iter().map(|cell| ReadCell { cell: cell.clone(), base: Tid::NONE }).collect(),
        read_ranges: ranges.to_vec(),
        writes: writes.iter().map(write).collect(),
        note: Note::default(),
    }
}

fn holds_nothing(holds: &Holds) -> bool {
    let Held { cells, written, ranges, stamped, drafts, wide } = &holds.held;
    cells.is_empty()
        && written.is_empty()
        && ranges.is_empty()
        && stamped.is_empty()
        && drafts.is_empty()
        && wide.is_empty()
}

/// What is in a draft's way, found as the sequencer does.
fn other_holder(holds: &Holds, draft: &Draft, to_prepare: bool, own: Option<u64>) -> Option<u64> {
    let read_ranges = ranges::disjoint(draft.read_ranges.clone());
    let wide = WideReads::of(&draft.read_cells, &read_ranges);
    let draft = Draft { read_ranges, ..draft.clone() };
    match own {
        None => holds.holder(&draft, wide.as_ref(), to_prepare),
        own => holds.other_holder(&draft, to_prepare, own),
    }
}

#[test]
fn a_cell_that_several_have_read_is_held_until_the_last_of_them_ends() {
    let mut holds = Holds::default();
    for (id, writes) in [(1, vec![cell(10)]), (2, vec![cell(11)]), (3, vec![])] {
        holds.hold(id, prepared(writes.into_iter().map(sealed).collect(), vec![cell(20)], Vec::new()));
    }
    assert_eq!(holds.held.against_write(&cell(20), false, Some(1)), Some(2), "own is not in its own way, another is");
    assert!(holds.release(1).is_some() && holds.is_held(&cell(20), None) && !holds.is_held(&cell(10), None));
    assert!(holds.release(2).is_some() && holds.is_held(&cell(20), None) && !holds.is_held(&cell(11), None));
    assert_eq!(holds.held.against_write(&cell(20), false, Some(3)), None);
    assert!(holds.release(3).is_some() && !holds.is_held(&cell(20), None));
    assert!(holds_nothing(&holds));
}

#[test]
fn a_commit_beside_a_hundred_thousand_held_ranges_looks_at_a_few() {
    const RANGES: u64 = 100_000;
    const COMMITTED: u64 = 900;
    let mut holds = Holds::default();
    let many = (0..RANGES).map(|n| range(7, &format!("{n:06}a"), &format!("{n:06}b"))).collect();
    holds.hold(1, prepared(Vec::new(), Vec::new(), many));
    // Others, whose ranges lie over each other and over all of these, and end before what is committed.
    for id in 2..1000 {
        holds.hold(id, prepared(Vec::new(), Vec::new(), vec![range(7, &format!("000000{id}"), "zzz")]));
    }
    let looked_at = |holds: &Holds| holds.held.ranges[&Oid(7)].looked_at.get();
    for (key, own) in [("zzz", None), ("050000aa", Some(1))] {
        let before = looked_at(&holds);
        let writes: Vec<_> = (0..COMMITTED).map(|n| (Cell::entry(Oid(7), format!("{key}{n}")), false)).collect();
        assert_eq!(holds.other_holder(&draft(&writes, &[], &[]), false, own).is_some(), own.is_some());
        let each = (looked_at(&holds) - before) / if own.is_some() { 1 } else { COMMITTED };
        assert!(each <= 100, "each key met {each} of {RANGES} ranges");
    }
    assert!(holds.release(1).is_some());
    assert_eq!(holds.held.drafts.len(), 998);
}

#[test]
fn very_many_reads_are_held_and_let_go_in_one_step() {
    const MANY: u64 = 120_000;
    let key = |n: u64| format!("{n:06}");
    let ranges: Vec<_> = (0..MANY).map(|n| range(7, &key(n), &(key(n) + "b"))).collect();
    let reads: Vec<_> = (0..MANY).map(|n| cell(100 + n)).collect();
    let draft = draft(&[(cell(9), false)], &reads, &ranges);
    let mut holds = Holds::default();
    holds.hold(1, prepared(vec![sealed(cell(50)), sealed(cell(51))], Vec::new(), Vec::new()));
    let wide = Arc::new(WideReads::of(&draft.read_cells, &draft.read_ranges).expect("they are many"));
    assert_eq!(holds.holder(&draft, Some(&wide), true), None);
    let wide_len = (reads.len(), ranges.len());
    holds.hold(2, Prepared { wide: Some(wide.clone()), wide_len, ..prepared(vec![sealed(cell(9))], reads, ranges) });
    let Held { cells, written, ranges, drafts, .. } = &holds.held;
    let own: usize = drafts.values().map(super::held::OfDraft::len).sum();
    assert_eq!((cells.len(), written.len(), ranges.len(), own), (3, 3, 0, 3), "only what is written is entered");

    let entry = |key: &str| Cell::entry(Oid(7), key.to_owned());
    let stands = |cell: &Cell, stamped| holds.held.against_write(cell, stamped, None);
    assert_eq!([stands(&cell(100), false), stands(&entry("050000a"), false)], [Some(2); 2]);
    assert_eq!([stands(&entry("050000c"), false), stands(&cell(99), false)], [None; 2]);
    assert_eq!([stands(&entry(""), true), stands(&Cell::entry(Oid(8), "x"), true)], [Some(2), None]);
    let before = wide.asked();
    assert_eq!(holds.holder(&draft, Some(&wide), true), Some(2), "the cell that it writes is held");
    assert!(wide.asked() - before <= 2 * 4, "it is asked for what others write");
    assert!(holds.release(2).is_some_and(|(_, freed)| freed.is_empty()) && holds.held.wide.is_empty());
    assert_eq!(holds.held.drafts.len(), 1);
}

/// The rules of `Held`, without its ways to be quick.
#[derive(Default)]
struct Model(BTreeMap<u64, Naive>);

#[derive(Default)]
struct Naive {
    writes: Vec<(Cell, bool)>,
    reads: Vec<Cell>,
    ranges: Vec<ReadRange>,
}

impl Model {
    fn in_the_way(&self, draft: &Draft, to_prepare: bool, own: Option<u64>) -> Vec<u64> {
        let sense = |range: &&ReadRange| range.to.is_empty() || range.from < range.to;
        let over = |range: &ReadRange, cell: &Cell, stamped: bool| match stamped {
            true => range.oid == cell.oid,
            false => range.covers(cell),
        };
        let held = |naive: &Naive, write: &Write| {
            let cell = &write.cell;
            let same = naive.reads.contains(cell) || naive.writes.contains(&(cell.clone(), false));
            (same && !write.stamped) || naive.ranges.iter().filter(sense).any(|range| over(range, cell, write.stamped))
        };
        let read = |naive: &Naive| {
            let written = |cell: &Cell| naive.writes.contains(&(cell.clone(), false));
            let ranges = || draft.read_ranges.iter().filter(sense);
            draft.read_cells.iter().any(|read| written(&read.cell))
                || naive.writes.iter().any(|(cell, stamped)| ranges().any(|range| over(range, cell, *stamped)))
        };
        let blocks = |naive: &Naive| draft.writes.iter().any(|write| held(naive, write)) || (to_prepare && read(naive));
        self.0.iter().filter(|(id, naive)| Some(**id) != own && blocks(naive)).map(|(id, _)| *id).collect()
    }

    fn add(&mut self, id: u64, draft: &Draft) {
        let naive = self.0.entry(id).or_default();
        naive.writes.extend(draft.writes.iter().map(|write| (write.cell.clone(), write.stamped)));
        naive.reads.extend(draft.read_cells.iter().map(|read| read.cell.clone()));
        naive.ranges.extend(draft.read_ranges.iter().cloned());
    }
}

fn random_key(dice: &mut fastrand::Rng, empty: bool) -> String {
    (0..dice.usize(usize::from(!empty)..4)).map(|_| dice.char('a'..='c')).collect()
}

fn random_draft(dice: &mut fastrand::Rng) -> Draft {
    let random_cell = |dice: &mut fastrand::Rng| Cell::entry(Oid(dice.u64(1..3)), random_key(dice, true));
    let writes: Vec<_> = (0..dice.usize(0..3)).map(|_| (random_cell(dice), dice.u8(0..8) == 0)).collect();
    let reads: Vec<_> = (0..dice.usize(0..3)).map(|_| random_cell(dice)).collect();
    let mut ranges = Vec::new();
    for _ in 0..dice.usize(0..4) {
        let (from, no_end) = (random_key(dice, true), dice.u8(0..4) == 0);
        ranges.push(range(dice.u64(1..3), &from, &random_key(dice, no_end)));
    }
    draft(&writes, &reads, &ranges)
}

#[test]
fn what_is_held_is_what_a_walk_over_everything_finds() {
    let seed = std::env::var("HOLDS_SEED").map_or(1, |text| text.parse().expect("a number"));
    let mut dice = fastrand::Rng::with_seed(seed);
    let (mut holds, mut model) = (Holds::default(), Model::default());
    let (mut found, mut next) = (0, 1);
    for step in 0..20_000 {
        let draft = random_draft(&mut dice);
        let some = |dice: &mut fastrand::Rng, model: &Model| dice.choice(model.0.keys().copied());
        let own = if dice.bool() { some(&mut dice, &model) } else { None };
        let to_prepare = dice.bool();
        let expected = model.in_the_way(&draft, to_prepare, own);
        let holder = other_holder(&holds, &draft, to_prepare, own);
        assert!(
            holder.map_or(expected.is_empty(), |id| expected.contains(&id)),
            "HOLDS_SEED={seed}, step {step}: {holder:?} is not of {expected:?}, {draft:?} {own:?}"
        );
        found += usize::from(holder.is_some());
        if to_prepare && holder.is_none() {
            hold(&mut holds, own.unwrap_or(next), own.is_some(), &draft);
            model.add(own.unwrap_or(next), &draft);
            next += 1;
        }
        if model.0.len() > 3
            && let Some(id) = some(&mut dice, &model)
        {
            assert!(holds.release(id).is_some() && model.0.remove(&id).is_some());
        }
    }
    assert!((4_000..19_000).contains(&found), "{found} of 20,000 found something in their way");
    model.0.keys().for_each(|id| drop(holds.release(*id)));
    assert!(holds_nothing(&holds));
}

/// As a prepare would, or an amendment; every other write is told as a stale cell.
fn hold(holds: &mut Holds, id: u64, is_amendment: bool, draft: &Draft) {
    let to_be_written = |at: usize, write: &Write| write.stamped || at.is_multiple_of(2);
    let (mut writes, mut stale) = (Vec::new(), Vec::new());
    for (at, write) in draft.writes.iter().enumerate() {
        match to_be_written(at, write) {
            true => writes.push(SealedWrite { stamped: write.stamped, ..sealed(write.cell.clone()) }),
            false => stale.push(StaleCell { cell: write.cell.clone(), newest: Tid(1), reason: String::new() }),
        }
    }
    if is_amendment {
        let (draft, withdrawn) = (draft.clone(), Vec::new());
        let amendment = Amendment { draft, writes, withdrawn, stale, rests_on: Tid::NONE, bytes: 0, blobs: None };
        assert!(holds.amend(id, amendment).is_some());
        return;
    }
    let reads = draft.read_cells.iter().map(|read| read.cell.clone()).collect();
    let ranges = ranges::disjoint(draft.read_ranges.clone());
    let wide = WideReads::of(&draft.read_cells, &ranges).map(Arc::new);
    let wide_len = (draft.read_cells.len(), ranges.len());
    let mut prepared = Prepared { wide, wide_len, ..prepared(writes, reads, ranges) };
    prepared.stale = stale.into_iter().map(|stale| (stale.cell.clone(), stale)).collect();
    holds.hold(id, prepared);
}

#[test]
fn what_is_in_the_way_of_very_many_writes_is_in_the_way_of_one_of_them() {
    let mut found = 0;
    for seed in 0..3000 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let any = |dice: &mut fastrand::Rng| {
            let key: String = (0..dice.usize(0..3)).map(|_| dice.char('a'..='c')).collect();
            Cell::entry(Oid(dice.u64(1..20)), key)
        };
        let key = |dice: &mut fastrand::Rng| (0..dice.usize(0..3)).map(|_| dice.char('a'..='c')).collect::<String>();
        let mut holds = Holds::default();
        for id in 1..1 + dice.u64(0..3) {
            let writes = (0..dice.usize(0..3)).map(|_| sealed(any(&mut dice))).collect();
            let reads = (0..dice.usize(0..3)).map(|_| any(&mut dice)).collect();
            let spans = (0..dice.usize(0..2)).map(|_| range(dice.u64(1..20), &key(&mut dice), &key(&mut dice)));
            holds.hold(id, prepared(writes, reads, ranges::disjoint(spans.collect())));
        }
        let cells: std::collections::BTreeSet<Cell> = (0..dice.usize(1..12)).map(|_| any(&mut dice)).collect();
        let each: Vec<_> = cells.iter().map(|cell| (cell.clone(), false)).collect();
        let write = |cell| crate::storage::TxnWrite { cell, record: None, merged: false };
        let large = Writes::large(cells.into_iter().map(write).collect(), 0).expect("fits");
        let expected = holds.holder(&draft(&each, &[], &[]), None, false);
        assert_eq!(holds.holder_of_large(&large).is_some(), expected.is_some(), "seed {seed}");
        found += usize::from(expected.is_some());
    }
    assert!((300..2700).contains(&found), "{found}");
}
