//! What is remembered and what is forgotten; and that a large draft's writes are remembered as if each had been noted.

use super::*;
use std::collections::BTreeSet;
use zeolite_proto::{Oid, record};

fn cell(n: u64) -> Cell {
    Cell::object(Oid(n))
}

#[test]
fn what_is_pending_is_never_forgotten() {
    let mut recent = Recent::new(Tid(10), RecentBounds { cells_max: 2, bytes_max: 4 });
    for n in 11..20 {
        recent.note(Tid(n), cell(n), Some(Bytes::from_static(b"abc")));
    }
    recent.trim(Tid(14), 1);
    assert_eq!(recent.floor(), Tid(14));
    assert!(recent.head(&cell(14)).is_none());
    for n in 15..20 {
        let head = recent.head(&cell(n)).expect("pending");
        assert_eq!(head.record, Kept::Here(Some(Bytes::from_static(b"abc"))));
    }
}

#[test]
fn what_one_large_draft_wrote_is_forgotten_in_parts() {
    let mut recent = Recent::new(Tid(0), RecentBounds { cells_max: 10, bytes_max: 100 });
    (0..100_000).for_each(|n| recent.note(Tid(1), cell(n), Some(Bytes::from_static(&[7; 30]))));
    assert!(!recent.trim(Tid(0), 1), "nothing of it is durable");
    let (mut parts, mut before) = (0, recent.order.len());
    while recent.trim(Tid(1), 1) {
        parts += 1;
        let now = recent.order.len();
        assert!((1..=before / TRIM_PART + TRIM_MIN).contains(&(before - now)), "{before} {now}");
        before = now;
    }
    assert!(parts > 10, "{parts}");
    assert_eq!((recent.order.len(), recent.heads.len()), (10, 10));
    assert!(recent.kept_bytes <= 100, "{} bytes are left", recent.kept_bytes);
    // What comes all the time is forgotten as fast as it comes.
    for n in 2..50 {
        (0..5000).for_each(|cell_n| recent.note(Tid(n), cell(cell_n), None));
        recent.trim(Tid(n), 1);
        assert!(recent.order.len() <= 10 + 5000, "{n}");
    }
}

#[test]
fn bytes_go_before_tids_do() {
    let mut recent = Recent::new(Tid(0), RecentBounds { cells_max: 100, bytes_max: 4 });
    for n in 1..4 {
        recent.note(Tid(n), cell(n), Some(Bytes::from_static(b"abc")));
    }
    recent.trim(Tid(3), 1);
    assert_eq!(recent.head(&cell(1)).map(|head| head.record.clone()), Some(Kept::Stored));
    assert_eq!(recent.head(&cell(1)).map(|head| head.tid), Some(Tid(1)));
    assert_eq!(recent.floor(), Tid(0));
}

#[test]
fn a_rewritten_cell_outlives_its_older_write() {
    let mut recent = Recent::new(Tid(0), RecentBounds { cells_max: 1, bytes_max: 100 });
    recent.note(Tid(1), cell(7), None);
    recent.note(Tid(2), cell(7), Some(Bytes::from_static(b"x")));
    recent.trim(Tid(2), 1);
    assert_eq!(recent.floor(), Tid(1));
    assert_eq!(recent.head(&cell(7)).map(|head| head.tid), Some(Tid(2)));
    assert_eq!(recent.kept_bytes, 1);
}

#[test]
fn ranges_see_only_their_keys_and_only_newer_ones() {
    let mut recent = Recent::new(Tid(0), RecentBounds { cells_max: 100, bytes_max: 100 });
    recent.note(Tid(5), Cell::entry(Oid(1), "b"), None);
    recent.note(Tid(6), Cell::object(Oid(1)), None);
    recent.note(Tid(7), Cell::entry(Oid(2), "b"), None);
    let range = |from: &'static str, to: &'static str, base| ReadRange {
        oid: Oid(1),
        from: Bytes::from_static(from.as_bytes()),
        to: Bytes::from_static(to.as_bytes()),
        base: Tid(base),
    };
    assert_eq!(recent.first_in_range(&range("", "", 4), &|_, _| false).map(|hit| hit.1), Some(Tid(5)));
    assert!(recent.first_in_range(&range("", "", 5), &|_, _| false).is_none());
    assert!(recent.first_in_range(&range("", "b", 4), &|_, _| false).is_none());
    assert!(recent.first_in_range(&range("b\0", "", 4), &|_, _| false).is_none());
    assert!(recent.first_in_range(&range("a", "c", 4), &|_, _| false).is_some());
}

fn write(dice: &mut fastrand::Rng) -> TxnWrite {
    let key: String = (0..dice.usize(0..3)).map(|_| dice.char('a'..='c')).collect();
    let record = dice.bool().then(|| record::encode("Page", 1, &[], &vec![7; dice.usize(0..20)]).expect("encodes"));
    TxnWrite { cell: Cell::entry(Oid(dice.u64(1..4)), key), record, merged: false }
}

#[test]
fn what_large_drafts_wrote_is_remembered_as_if_each_write_had_been_noted() {
    let (mut forgot, mut hits) = (0, 0);
    for seed in 0..3000 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let bounds = RecentBounds { cells_max: dice.usize(1..40), bytes_max: dice.usize(1..400) };
        let unbounded = RecentBounds { cells_max: usize::MAX, bytes_max: usize::MAX };
        let (mut recent, mut model) = (Recent::new(Tid(5), bounds), Recent::new(Tid(5), unbounded));
        let mut visible = 5;
        for tid in 6..6 + dice.u64(1..12) {
            let writes: BTreeMap<Cell, TxnWrite> =
                (0..dice.usize(1..8)).map(|_| write(&mut dice)).map(|write| (write.cell.clone(), write)).collect();
            let writes: Writes = writes.into_values().collect();
            writes.iter().for_each(|write| model.note(Tid(tid), write.cell.clone(), write.record.clone()));
            let large = Writes::large(writes.clone().into_vec(), 0).expect("fits");
            recent.note_all(Tid(tid), if dice.bool() { &large } else { &writes });
            visible = dice.u64(visible..=tid);
            while recent.trim(Tid(visible), 1) {}
            assert!(recent.floor() <= Tid(visible), "seed {seed}");
            let cells: BTreeSet<&Cell> = model.cells_behind(recent.floor()).collect();
            assert_eq!(recent.cells_behind(recent.floor()).collect::<BTreeSet<_>>(), cells, "seed {seed}");
            assert_eq!(recent.count_behind(recent.floor()), model.count_behind(recent.floor()), "seed {seed}");
            for _ in 0..6 {
                let cell = write(&mut dice).cell;
                let expected = model.head(&cell).filter(|head| head.tid > recent.floor());
                // Of the transaction that the floor is in the middle of some writes may be left.
                let found = recent.head(&cell).filter(|head| head.tid > recent.floor());
                assert_eq!(
                    found.as_ref().map(|head| head.tid),
                    expected.as_ref().map(|head| head.tid),
                    "seed {seed}: {cell}"
                );
                assert_eq!(recent.newest(&cell), recent.head(&cell).map(|head| head.tid));
                if let (Some(Head { record: found @ Kept::Here(_), .. }), Some(expected)) = (found, expected) {
                    assert_eq!(found, expected.record, "seed {seed}: {cell}");
                }
                let (from, to) = (write(&mut dice).cell.key, write(&mut dice).cell.key);
                let range =
                    ReadRange { oid: Oid(dice.u64(1..4)), from, to, base: Tid(dice.u64(recent.floor().0..tid + 1)) };
                let odd = |_: &Cell, tid: Tid| tid.0 % 2 == 1;
                let expected = model.first_in_range(&range, &odd);
                assert_eq!(recent.first_in_range(&range, &odd), expected, "seed {seed}: {range:?}");
                hits += usize::from(expected.is_some());
            }
        }
        forgot += usize::from(recent.floor() > Tid(5));
        assert!(recent.large.cells == recent.large.runs.iter().map(|(_, writes)| writes.len()).sum::<usize>());
    }
    assert!(forgot > 1000 && hits > 5000, "{forgot} {hits}");
}
