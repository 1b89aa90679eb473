//! Scans, against a model: pages, both directions, limits, own writes merged in.

use crate::support::{World, number, value};
use std::collections::BTreeMap;
use std::ops::Bound;
use zeolite_client::{Cell, Entry, Oid, Range, Record};

const OID: Oid = Oid(177);

fn key(n: u64) -> String {
    format!("{n:03}")
}

fn expected(model: &BTreeMap<String, u64>, range: &Range) -> Vec<(String, u64)> {
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).expect("a key");
    let from = if range.from.is_empty() { Bound::Unbounded } else { Bound::Included(text(&range.from)) };
    let to = range.to.as_ref().map_or(Bound::Unbounded, |to| Bound::Excluded(text(to)));
    if range.to.as_ref().is_some_and(|to| range.from >= *to) {
        return Vec::new();
    }
    let inside = model.range((from, to)).map(|(key, value)| (key.clone(), *value));
    let mut all: Vec<_> = if range.reverse { inside.rev().collect() } else { inside.collect() };
    all.truncate(range.limit.map_or(usize::MAX, |limit| limit as usize));
    all
}

fn found(entries: Vec<Entry>) -> Vec<(String, u64)> {
    let pair = |entry: Entry| {
        let record = Record::decode(&entry.record).expect("a record");
        (String::from_utf8(entry.key.to_vec()).expect("a key"), value(&record))
    };
    entries.into_iter().map(pair).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_is_what_the_model_says() {
    let seed = 5;
    println!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let world = World::start_with(|settings| settings.limits.scan_entries_max = 7).await;
    let db = world.db().await;
    for round in 0..6 {
        let mut stored = BTreeMap::new();
        let oid = Oid(OID.0 + round);
        let tx = db.begin().await.expect("begins");
        for _ in 0..round * 12 {
            let n = dice.u64(0..100);
            stored.insert(key(n), n);
            tx.put(Cell::entry(oid, key(n)), &number(n)).expect("puts");
        }
        tx.put(Cell::object(oid), &number(0)).expect("puts");
        tx.commit().await.expect("commits");
        for _ in 0..40 {
            let tx = db.begin().await.expect("begins");
            let mut model = stored.clone();
            for _ in 0..dice.usize(0..20) {
                let n = dice.u64(0..100);
                if dice.bool() {
                    model.insert(key(n), 1000 + n);
                    tx.put(Cell::entry(oid, key(n)), &number(1000 + n)).expect("puts");
                } else {
                    model.remove(&key(n));
                    tx.delete(Cell::entry(oid, key(n))).expect("deletes");
                }
            }
            let bound = |dice: &mut fastrand::Rng| (dice.u8(0..3) > 0).then(|| key(dice.u64(0..100)));
            let mut range = Range::between(bound(&mut dice).unwrap_or_default(), bound(&mut dice).map(Into::into));
            range.reverse = dice.bool();
            range.limit = [None, None, Some(0), Some(1), Some(5), Some(30)][dice.usize(0..6)];
            let all = tx.entries(oid, range.clone()).await.expect("scans");
            assert_eq!(found(all), expected(&model, &range), "{range:?}");
            let mut scan = tx.scan(oid, range.clone().keys_only());
            let mut keys = Vec::new();
            while let Some(entry) = scan.next().await.expect("scans") {
                keys.push(entry.key);
            }
            let expected: Vec<_> = expected(&model, &range).into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, expected, "{range:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_scan_leaves_nothing_behind() {
    let world = World::start_with(|settings| settings.limits.scan_entries_max = 3).await;
    let db = world.db().await;
    db.run(async |tx| (0..100).try_for_each(|n| tx.put(Cell::entry(OID, key(n)), &number(n)))).await.expect("puts");
    for stop in 0..20 {
        let view = db.now();
        let mut scan = view.scan(OID, Range::all());
        for n in 0..stop {
            assert_eq!(scan.next().await.expect("scans").map(|entry| entry.key), Some(key(n).into()));
        }
    }
    assert_eq!(db.now().entries(OID, Range::all()).await.expect("scans").len(), 100);
}
