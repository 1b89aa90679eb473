//! The feed: what watchers hear, and that no reader ever sees half of a commit or runs back.

use crate::support::{GUARD, World, add_one, number, object, oid, read, value, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeolite_client::{Cell, Change, Db, Options, Tid};

#[tokio::test(flavor = "multi_thread")]
async fn watchers_hear_every_commit_in_order() {
    let world = World::start().await;
    let (a, b) = (world.db().await, world.db().await);
    let (mut all, mut one) = (b.watch_all(), b.watch([oid(2)]));
    assert!(within(all.begun()).await && within(one.begun()).await);
    let mut receipts = Vec::new();
    for n in 0..20 {
        let work = a.transaction().run_for_receipt(async |tx| tx.put(object(1 + n % 2), &number(n)));
        receipts.push(work.await.expect("commits").1.tid);
    }
    assert!(receipts.is_sorted());
    for (n, tid) in receipts.iter().enumerate() {
        let expected = Change::Written { tid: *tid, cells: vec![object(1 + n as u64 % 2)] };
        assert_eq!(within(all.next()).await, Some(expected.clone()));
        if n % 2 == 1 {
            assert_eq!(within(one.next()).await, Some(expected));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_heard_of_a_commit_reads_what_it_wrote() {
    const COMMITS: u64 = 1_000;
    let world = World::start().await;
    let (writer, reader) = (world.db().await, world.db().await);
    // Behind what is committed here already, and what the reader has not heard of yet.
    let writing = tokio::spawn(async move {
        for n in 1..=COMMITS {
            writer.run(async |tx| tx.put(object(1), &number(n))).await.expect("commits");
        }
    });
    let (mut changes, mut told) = (reader.watch([oid(1)]), 0);
    while reader.now().get(&object(1)).await.expect("reads").is_none_or(|record| value(&record) < COMMITS) {
        let (Change::Written { tid, .. } | Change::Missed { tid }) = within(changes.next()).await.expect("is told")
        else {
            panic!("nothing else is told")
        };
        let snapshot = reader.now().snapshot();
        assert!(snapshot >= tid, "told of {tid}, and reads at {snapshot}");
        told += 1;
        // One that begins between two commits may have missed some: that is told by a tid as well.
        if told % 100 == 0 {
            changes = reader.watch([oid(1)]);
        }
    }
    writing.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_in_pieces_is_heard_whole_or_not_at_all() {
    const ENTRIES: u64 = 40_000;
    // Whatever is missed is replayed.
    let world = World::start_with(|settings| settings.sessions.replay_cost_factor = 1000).await;
    let line = world.line().await;
    let (writer, reader) = (world.db().await, Db::connect(line.url()).await.expect("connects"));
    let large = zeolite_client::Record::new("Blob", 1, vec![5; 20_000]);
    let first = async |tx: zeolite_client::Tx| {
        tx.put(object(1), &number(7))?;
        tx.put(object(3), &large)
    };
    writer.run(first).await.expect("puts");
    let fresh = reader.transaction().fresh().begin().await.expect("begins");
    assert_eq!(read(&fresh, 1).await.expect("reads"), 7);
    assert_eq!(fresh.get(&object(3)).await.expect("reads"), Some(large.clone()));
    let connections = line.connections();
    let mut changes = reader.watch_all();
    assert!(within(changes.begun()).await);
    // The feed of the next commit has 4 MB: the connection ends between two of its pieces, and so does the one after it.
    line.shorten(2_500_000);
    let entry = |n: u64| Cell::entry(oid(2), format!("{n:0100}"));
    let work = async |tx: zeolite_client::Tx| {
        tx.put(object(1), &number(8))?;
        (0..ENTRIES).try_for_each(|n| tx.put(entry(n), &number(n)))
    };
    let (_, receipt) = writer.transaction().run_for_receipt(work).await.expect("commits");
    line.accepted(connections + 2).await;
    assert!(reader.position() < receipt.tid, "half a commit is none");
    assert_eq!(read(&reader.now(), 1).await.expect("is in the cache"), 7);
    line.cut();
    let Some(Change::Written { tid, cells }) = within(changes.next()).await else { panic!("it was replayed") };
    assert_eq!((tid, cells.len() as u64), (receipt.tid, ENTRIES + 1));
    assert_eq!(read(&reader.now(), 1).await.expect("reads"), 8);
}

/// Writers move amounts between objects, so that their sum never changes; readers check each snapshot's sum, and that
/// snapshots and values never run back. Small caches, several clients: what ZEO's caches got wrong for years.
#[tokio::test(flavor = "multi_thread")]
async fn every_snapshot_is_whole_under_load() {
    const OBJECTS: u64 = 12;
    let world = World::start().await;
    let options = |cache_bytes| Options::new().cache_bytes(cache_bytes);
    let clients = [world.db_with(options(4 << 10)).await, world.db().await, world.db_with(options(64 << 10)).await];
    clients[0]
        .run(async |tx| (0..OBJECTS).try_for_each(|oid| tx.put(object(oid + 1), &number(100))))
        .await
        .expect("puts");
    let done = Arc::new(AtomicBool::new(false));
    let write = |db: Db, seed: u64| async move {
        let mut dice = fastrand::Rng::with_seed(seed);
        for _ in 0..150 {
            let (from, to) = (1 + dice.u64(0..OBJECTS), 1 + dice.u64(0..OBJECTS));
            db.run(async |tx| {
                let amount = read(&tx, from).await?.min(3);
                tx.put(object(from), &number(read(&tx, from).await? - amount))?;
                tx.put(object(to), &number(read(&tx, to).await? + amount))
            })
            .await
            .expect("comes through");
        }
    };
    let first = clients[0].position();
    let check = move |db: Db, done: Arc<AtomicBool>, seed: u64| async move {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (mut last, mut checks) = (Tid::NONE, 0);
        while !done.load(Ordering::Acquire) {
            let now = db.now();
            assert!(now.snapshot() >= last);
            last = now.snapshot();
            let view = if dice.bool() { now } else { db.at(first.max(Tid(last.0 - dice.u64(0..2)))) };
            let mut cells: Vec<_> = (1..=OBJECTS).map(object).collect();
            dice.shuffle(&mut cells);
            let (some, others) = cells.split_at(dice.usize(0..cells.len()));
            let mut sum = 0;
            for cell in some {
                sum += view.get(cell).await.expect("reads").as_ref().map_or(0, value);
            }
            for record in view.get_many(others).await.expect("reads").into_iter().flatten() {
                sum += value(&zeolite_client::Record::decode(&record).expect("a record"));
            }
            assert_eq!(sum, 100 * OBJECTS, "at {:?}", view.snapshot());
            checks += 1;
        }
        checks
    };
    for db in &clients {
        assert!(db.wait_for(first, GUARD).await);
    }
    let writers: Vec<_> = (0..4).map(|n| tokio::spawn(write(clients[n % 3].clone(), n as u64))).collect();
    let readers: Vec<_> =
        (0..6).map(|n| tokio::spawn(check(clients[n % 3].clone(), done.clone(), 100 + n as u64))).collect();
    for writer in writers {
        within(writer).await.expect("no panic");
    }
    done.store(true, Ordering::Release);
    for reader in readers {
        assert!(within(reader).await.expect("no panic") > 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_feed_a_transaction_asks_first() {
    let world = World::start().await;
    let (with, without) = (world.db().await, world.db_with(Options::new().feed(false)).await);
    for n in 1..20 {
        with.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
        let tx = without.begin().await.expect("begins");
        assert_eq!(read(&tx, 1).await.expect("reads"), n);
        assert_eq!(read(&tx, 1).await.expect("reads"), n, "from the cache");
    }
    assert!(without.cache_stats().hits >= 19);
}
