//! Many readers beside a writer and a settler: every answer is checked against what the writer must have written by then.
//!
//! Which cells a transaction writes is computed from its tid, so a reader knows by itself what each snapshot must show,
//! and when each revision must have ended: no locks, no shared model that would keep the threads in step.

use super::*;
use crate::store::{Range, Reader};
use std::sync::atomic::{AtomicBool, Ordering};

const COMMITS: u64 = 4000;
const COLLECTION: Oid = Oid(5);

fn cells() -> Vec<Cell> {
    let plain = (10..20).map(|oid| Cell::object(Oid(oid)));
    plain.chain((0..20u8).map(|key| Cell::entry(COLLECTION, vec![key]))).collect()
}

// Whether a transaction writes a cell: some cells often, some seldom.
fn writes(tid: u64, number: usize) -> bool {
    tid == 1
        || tid.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(number as u32 * 7).is_multiple_of(2 + number as u64 * 3)
}

fn before(at: u64, number: usize) -> Option<u64> {
    (1..=at).rev().find(|tid| writes(*tid, number))
}

fn after(tid: u64, number: usize, published: u64) -> Option<u64> {
    (tid + 1..=published).find(|tid| writes(*tid, number))
}

fn transaction(tid: u64, cells: &[Cell]) -> Txn {
    let written = cells.iter().enumerate().filter(|(number, _)| writes(tid, *number));
    let record = |number: usize| record("A", 1, if number.is_multiple_of(3) { 400 } else { 20 });
    txn(tid, written.map(|(number, cell)| put(cell.clone(), record(number))).collect())
}

fn read(reader: &Reader, cells: &[Cell], seed: u64, done: &AtomicBool) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut rounds = 0;
    while !done.load(Ordering::Relaxed) || rounds < 100 {
        rounds += 1;
        let published = reader.published().0;
        if published == 0 {
            continue;
        }
        let at = if dice.bool() { published } else { dice.u64(1..=published) };
        let found = reader.get_many(cells, Tid(at), usize::MAX).expect("reads");
        for (number, (cell, many)) in cells.iter().zip(found).enumerate() {
            let expected = before(at, number);
            for found in [many, reader.get(cell, Tid(at)).expect("reads")] {
                assert_eq!(found.as_ref().map(|found| found.tid.0), expected, "{cell} at {at}, published {published}");
                let end = found.as_ref().and_then(|found| found.end).map(|end| end.0);
                // What was published before the question counts; what became so meanwhile may.
                let known = after(expected.unwrap_or(0), number, published);
                let later = after(expected.unwrap_or(0), number, reader.published().0);
                assert!(end == known || (known.is_none() && end == later), "{cell}: {end:?} {known:?} {later:?}");
            }
            let newest = reader.newest(cell).expect("reads").map(|tid| tid.0);
            assert!(newest >= before(published, number), "{cell}: newest {newest:?}, published {published}");
        }
        scan(reader, cells, at, dice.bool(), dice.usize(1..30));
        let from = dice.u64(0..=published);
        let txns = reader.txns(Tid(from), Tid(published), 5000).expect("reads");
        assert!(txns.iter().zip(from.max(1)..).all(|(txn, tid)| *txn == transaction(tid, cells)), "from {from}");
        let objects: u64 = reader.kinds().expect("reads").iter().map(|kind| kind.objects).sum();
        assert_eq!(objects, 10);
        assert_eq!(reader.objects(Some("A"), 2, None, 100).expect("reads").len(), 10);
    }
}

fn scan(reader: &Reader, cells: &[Cell], at: u64, reverse: bool, limit: usize) {
    let mut range = Range { oid: COLLECTION, from: Bytes::new(), to: Bytes::new(), reverse, keys_only: false };
    let mut found = Vec::new();
    loop {
        let (page, next) = reader.scan(&range, Tid(at), limit, usize::MAX).expect("scans");
        found.extend(page.into_iter().map(|entry| (entry.key, entry.tid.0)));
        match next {
            None => break,
            Some(next) if reverse => range.to = next,
            Some(next) => range.from = next,
        }
    }
    let entries = cells.iter().enumerate().filter(|(_, cell)| !cell.is_object());
    let mut expected: Vec<_> =
        entries.filter_map(|(number, cell)| Some((cell.key.clone(), before(at, number)?))).collect();
    if reverse {
        expected.reverse();
    }
    assert_eq!(found, expected, "at {at}");
}

#[test]
fn readers_beside_writer_and_settler_never_see_a_stale_or_a_torn_snapshot() {
    for (seed, cache_bytes) in [(1, 1 << 20), (2, 0), (3, 20 << 10)] {
        let disk = SimDisk::new();
        let settings = StoreSettings { segment_bytes_max: 100_000, cache_bytes, ..small() };
        let Opened { mut appender, reader, mut settler, .. } = open(&disk, settings).expect("opens");
        let (cells, done) = (cells(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let readers: Vec<_> = {
                let (reader, cells, done) = (&reader, &cells, &done);
                (0..2).map(|part| scope.spawn(move || read(reader, cells, seed * 10 + part, done))).collect()
            };
            let settling = scope.spawn(|| {
                let mut dice = fastrand::Rng::with_seed(seed);
                while !done.load(Ordering::Relaxed) {
                    settler.settle(dice.usize(1..20)).expect("settles");
                }
            });
            let running = || readers.iter().all(|thread| !thread.is_finished()) && !settling.is_finished();
            for tid in 1..=COMMITS {
                let appended = appender.append(&[transaction(tid, &cells)]).expect("appends");
                appender.publish(appended);
                if !running() {
                    break;
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(reader.published(), Tid(COMMITS));
    }
}
