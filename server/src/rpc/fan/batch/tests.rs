//! Owns the tests of what each session takes of a batch.

use super::*;
use crate::engine::FeedItem;
use zeolite_proto::{Cell, Oid};

fn place(number: u32) -> Place {
    Place { table: (number / 64) as usize, bit: 1 << (number % 64) }
}

/// A batch of commits of so many cells; each session holds every cell whose number it divides.
fn large(commits: &[u64], sessions: &[u32]) -> (FeedBatch, Vec<HeldCell>) {
    let (mut number, mut items, mut held) = (0, Vec::new(), Vec::new());
    for (tid, cells) in (1..).zip(commits) {
        let cells: Vec<Cell> = (0..*cells).map(|n| Cell::entry(Oid(tid), format!("{:06}", number + n))).collect();
        for cell in &cells {
            let mut who: Box<[u64]> = vec![0; 2].into();
            for session in sessions.iter().filter(|session| number % u64::from(**session) == 0) {
                who[place(*session).table] |= place(*session).bit;
            }
            number += 1;
            if who.iter().any(|mask| *mask != 0) {
                held.push(HeldCell { tid: Tid(tid), cell: cell.clone(), who });
            }
        }
        items.push(FeedItem { tid: Tid(tid), cells: cells.into() });
    }
    (FeedBatch { items, timeline: 7 }, held)
}

/// A commit's tid, and its cells.
type Told = (u64, Vec<v2::Cell>);

/// What the client makes of it: commits that wrote something, and how far it is at the end. As `FeedJoiner` of the client's does.
fn joined(frames: impl Iterator<Item = Bytes>) -> (Vec<Told>, u64) {
    let (mut told, mut open, mut at): (Vec<Told>, Option<Told>, u64) = (Vec::new(), None, 0);
    for frame in frames {
        let batch = v2::FeedBatch::decode(frame).expect("a batch");
        let count = batch.items.len();
        for (n, item) in batch.items.into_iter().enumerate() {
            let mut cells = match open.take() {
                Some((tid, cells)) => {
                    assert_eq!(tid, item.tid, "a commit ends in its middle");
                    cells
                }
                None => Vec::new(),
            };
            cells.extend(item.cells);
            if batch.more && n + 1 == count {
                open = Some((item.tid, cells));
            } else {
                at = item.tid;
                told.push((item.tid, cells));
            }
        }
        assert!(batch.up_to == 0 || (!batch.more && batch.up_to >= at));
        at = at.max(batch.up_to);
    }
    assert!(open.is_none());
    told.retain(|(_, cells)| !cells.is_empty());
    (told, at)
}

#[test]
fn of_a_large_batch_each_session_takes_its_cells_in_order() {
    let sessions = [1, 2, 3, 7, 65, 100];
    for commits in [&[1000][..], &[3, 500, 0, 1, 200, 0], &[1; 300], &[100, 100, 100]] {
        for part_bytes in [1, 100, 1000, 1 << 20] {
            let (batch, held) = large(commits, &sessions);
            let last = batch.items.last().expect("commits").tid;
            let parts = cut(held, last, batch.timeline, part_bytes);
            let whole: Vec<Tid> = parts.iter().map(|part| part.whole).filter(|tid| *tid != Tid::NONE).collect();
            assert!(whole.is_sorted() && whole.last() == Some(&last));
            for session in sessions {
                let (told, at) = joined(parts.iter().map(|part| part.encode(place(session))));
                let mut number = 0;
                let mut expected: Vec<Told> = Vec::new();
                for item in &batch.items {
                    let mut cells = Vec::new();
                    for cell in item.cells.iter() {
                        cells.extend((number % u64::from(session) == 0).then(|| v2::Cell::from(cell)));
                        number += 1;
                    }
                    expected.extend((!cells.is_empty()).then_some((item.tid.0, cells)));
                }
                assert_eq!((told, at), (expected, last.0), "{session} {commits:?} {part_bytes}");
            }
        }
    }
}

#[test]
fn what_is_nobodys_is_not_kept() {
    let concern = |who: u64, everything: u64, held: Option<Vec<HeldCell>>| Concern {
        who: [who, 0].into(),
        everything: [everything, 0].into(),
        held,
    };
    let (batch, _) = large(&[1000], &[]);
    let nobodys = Batch::of(&batch, concern(0, 0, Some(vec![])), false);
    assert_eq!(nobodys.bytes, BATCH_BYTES);
    assert!(matches!(nobodys.share(Some(place(5))), Share::Nothing));
    let (_, held) = large(&[1000], &[7]);
    let one = Batch::of(&batch, concern(place(7).bit, 0, Some(held)), false);
    assert!(one.bytes < 10_000 && one.whole.is_empty());
    assert!(matches!(one.share(Some(place(7))), Share::Parts([_])));
    assert!(matches!(one.share(Some(place(8))), Share::Nothing));
    let (_, held) = large(&[1000], &[7]);
    let both = Batch::of(&batch, concern(place(7).bit | place(8).bit, place(8).bit, Some(held)), false);
    assert!(matches!(both.share(Some(place(8))), Share::Pieces([_])), "it is told everything");
    assert!(matches!(both.share(Some(place(7))), Share::Parts([_])));
    let small = Batch::of(&batch, concern(place(7).bit, 0, None), false);
    assert!(matches!(small.share(Some(place(7))), Share::Pieces([_])));
    assert!(matches!(small.share(Some(place(70))), Share::Nothing));
    let plain = Batch::of(&batch, concern(0, 0, Some(vec![])), true);
    assert!(matches!(plain.share(None), Share::Pieces([_])));
}
