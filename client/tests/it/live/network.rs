//! Lost connections, restarts, other stores: what is resent, what is kept, what is said.

use crate::support::{World, add_one, number, object, oid, read, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use zeolite_client::{Cell, Change, Db, Error, FaultKind, Options, Outcome, Range, Remedy};
use zeolite_proto::Registry;
use zeolite_server::store::disk::sim::{SimDisk, SimOp};

fn hasty(request_ms: u64) -> Options {
    Options::new()
        .request_timeout(Duration::from_millis(request_ms))
        .backoff_min(Duration::from_millis(1))
        .backoff_max(Duration::from_millis(20))
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_happen_once_however_often_the_network_is_cut() {
    let world = Arc::new(World::start().await);
    let (a, b) = (world.db_with(hasty(60_000)).await, world.db_with(hasty(60_000)).await);
    let (done, receipts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let cutter = tokio::spawn({
        let (world, done, receipts) = (world.clone(), done.clone(), receipts.clone());
        let watcher = world.db_with(hasty(60_000)).await;
        async move {
            let (mut cuts, mut changes) = (0, watcher.watch_all());
            while !done.load(Ordering::Acquire) {
                // Wait for a few commits, swallow the next replies, then cut.
                for _ in 0..3 {
                    let _ = tokio::time::timeout(Duration::from_millis(100), changes.next()).await;
                }
                world.network.deafen();
                let before = receipts.load(Ordering::Acquire);
                let _ = tokio::time::timeout(Duration::from_millis(3), changes.next()).await;
                assert!(receipts.load(Ordering::Acquire) >= before);
                world.network.cut();
                cuts += 1;
            }
            cuts
        }
    });
    let work = |db: Db| {
        let receipts = receipts.clone();
        async move {
            for _ in 0..60 {
                db.run(async |tx| {
                    add_one(&tx, 1).await?;
                    zeolite_client::collections::Counter::new(oid(2)).add(&tx, 1)
                })
                .await
                .expect("comes through");
                receipts.fetch_add(1, Ordering::AcqRel);
            }
        }
    };
    let tasks: Vec<_> = (0..4).map(|n| tokio::spawn(work(if n % 2 == 0 { a.clone() } else { b.clone() }))).collect();
    for task in tasks {
        within(task).await.expect("no panic");
    }
    done.store(true, Ordering::Release);
    let cuts = within(cutter).await.expect("no panic");
    println!("{cuts} cuts, {} connections", world.network.connections());
    assert!(cuts >= 3 && world.network.connections() > 3, "{cuts} cuts: nothing was tested");
    let view = a.transaction().fresh().begin().await.expect("begins");
    assert_eq!(read(&view, 1).await.expect("reads"), 240);
    let counted = zeolite_client::collections::Counter::new(oid(2)).get(&view).await.expect("reads");
    assert_eq!(counted, 240, "each receipt is one commit, and each commit one receipt");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_is_right_after_a_lost_connection() {
    let world = World::start().await;
    let (a, b) = (world.db().await, world.db_with(hasty(30_000)).await);
    a.run(async |tx| (0..100).try_for_each(|oid| tx.put(object(oid + 1), &number(oid)))).await.expect("puts");
    let cells: Vec<Cell> = (1..=100).map(object).collect();
    b.transaction().fresh().begin().await.expect("begins").prefetch(&cells).await.expect("loads");
    let tid = b.position();
    world.network.cut();
    let view = b.now();
    assert_eq!(view.snapshot(), tid, "what is in the cache can be read without a connection");
    assert_eq!(read(&view, 50).await.expect("reads"), 49);
    a.run(async |tx| (0..50).try_for_each(|oid| tx.put(object(oid + 1), &number(1000 + oid)))).await.expect("puts");
    let now = b.transaction().fresh().begin().await.expect("reconnects");
    let before = b.cache_stats();
    for oid in 1..=100 {
        let expected = if oid <= 50 { 1000 + oid - 1 } else { oid - 1 };
        assert_eq!(read(&now, oid).await.expect("reads"), expected);
    }
    let after = b.cache_stats();
    assert_eq!(after.misses - before.misses, 50, "only what was changed is loaded again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_reply_never_comes_is_said_to_be_unknown() {
    let world = World::start().await;
    let db = world.db_with(hasty(400)).await;
    let tx = db.begin().await.expect("begins");
    let (key, since) = (db.new_commit_key(), db.position());
    add_one(&tx, 1).await.expect("adds");
    world.network.deafen();
    let error = tx.commit_as(key, since).await.expect_err("no reply");
    assert!(matches!(&error, Error::OutcomeUnknown { key: named, .. } if *named == key), "{error}");
    assert_eq!(error.remedy(), Remedy::AskOutcome);
    world.network.cut();
    let outcome = within(db.outcome(key, since)).await.expect("answers");
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_is_said_within_the_time_limit() {
    let mut world = World::start().await;
    let db = world.db_with(hasty(300)).await;
    world.stop().await;
    world.network.cut();
    let error = db.newest().await.expect_err("nobody is there");
    assert_eq!(error.remedy(), Remedy::Wait, "{error}");
    // Not after the minute.
    let gone = within(Db::connect_with(world.network.url(), hasty(600_000))).await.expect_err("nobody is there");
    assert!(matches!(gone, Error::Disconnected { .. }), "{gone}");
    let nonsense = Db::connect_with("http://", hasty(60_000)).await.expect_err("no address");
    assert_eq!(nonsense.remedy(), Remedy::FixRequest, "{nonsense}");
    let waits = hasty(60_000).wait_for_server(true);
    let waiting = tokio::spawn(Db::connect_with(world.network.url(), waits));
    world.start_again().await;
    within(async { while db.newest().await.is_err() {} }).await;
    within(waiting).await.expect("no panic").expect("it was waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hears_nothing_does_not_keep_the_store_of_a_server_that_has_stopped() {
    let mut world = World::start_with(|settings| settings.sessions.shutdown_grace_ms = 50).await;
    let line = world.line().await;
    let db = Db::connect_with(line.url(), hasty(60_000)).await.expect("connects");
    db.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    line.deafen();
    let unheard = tokio::spawn({
        let db = db.clone();
        async move { db.run(async |tx| add_one(&tx, 1).await).await }
    });
    within(world.restart()).await;
    line.cut();
    assert_eq!(within(unheard).await.expect("no panic").expect("is sent again"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_fails_no_request() {
    let mut world = World::start().await;
    let db = world.db_with(hasty(60_000)).await;
    let done = Arc::new(AtomicBool::new(false));
    let worker = tokio::spawn({
        let (db, done) = (db.clone(), done.clone());
        async move {
            let mut count = 0;
            while !done.load(Ordering::Acquire) {
                count = db.run(async |tx| add_one(&tx, 1).await).await.expect("comes through");
                assert!(!db.now().entries(oid(9), Range::all()).await.expect("scans").iter().any(|_| true));
            }
            count
        }
    });
    let mut changes = db.watch([oid(1)]);
    for _ in 0..3 {
        for _ in 0..5 {
            within(changes.next()).await.expect("goes on");
        }
        world.restart().await;
    }
    within(changes.next()).await.expect("goes on");
    done.store(true, Ordering::Release);
    let count = within(worker).await.expect("no panic");
    assert_eq!(read(&db.now(), 1).await.expect("reads"), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_down_in_order_is_left_at_once() {
    let (mut first, second) = (World::start().await, World::start().await);
    let line = first.line().await;
    // A pause between two attempts would be longer than this test may take.
    let hour = Duration::from_secs(3600);
    let options = Options::new().backoff_min(hour).backoff_max(hour).request_timeout(hour);
    let db = Db::connect_with(line.url(), options).await.expect("connects");
    let before = db.server().expect("connected").store_id;
    line.point_to(&second);
    first.stop().await;
    let reached = async {
        while db.server().is_none_or(|server| server.store_id == before) {
            // Nobody asks: who does would end the pause.
            tokio::task::yield_now().await;
        }
    };
    within(reached).await;
    within(db.run(async |tx| add_one(&tx, 1).await)).await.expect("commits there");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_does_not_wait_for_the_end_of_a_long_pause() {
    let world = World::start().await;
    let line = world.line().await;
    let hour = Duration::from_secs(3600);
    let options = Options::new().backoff_min(hour).backoff_max(hour).request_timeout(hour);
    let db = Db::connect_with(line.url(), options).await.expect("connects");
    for n in 1..=2 {
        line.cut();
        // Once to find out, in a pause that nobody needs ended, and once from within one.
        while db.server().is_some() {
            tokio::task::yield_now().await;
        }
        within(db.run(async |tx| add_one(&tx, n).await)).await.expect("comes through");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_the_server_does_not_know_has_the_same_shape() {
    let disk = SimDisk::new();
    let world = World::start_of(|_| {}, Registry::built_in(), Some(disk.clone())).await;
    let db = world.db().await;
    let tx = db.begin().await.expect("begins");
    add_one(&tx, 1).await.expect("adds");
    disk.fail(SimOp::Sync, "log/", 0, std::io::ErrorKind::Other);
    let (key, since) = (db.new_commit_key(), db.position());
    let error = tx.commit_as(key, since).await.expect_err("its batch may be on the disk");
    assert!(matches!(&error, Error::OutcomeUnknown { key: named, .. } if *named == key), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_store_behind_the_address_is_not_mixed_with_the_first() {
    let mut world = World::start().await;
    let db = world.db_with(hasty(30_000)).await;
    db.run(async |tx| tx.put(object(1), &number(1))).await.expect("puts");
    let old = db.begin().await.expect("begins");
    assert_eq!(read(&old, 1).await.expect("reads"), 1);
    let first = db.server().expect("connected").store_id;
    let mut changes = db.watch_all();
    world.replace().await;
    assert!(matches!(within(changes.next()).await, Some(Change::Missed { .. })));
    within(db.newest()).await.expect("reconnects");
    assert_ne!(db.server().expect("connected").store_id, first);
    let error = read(&old, 1).await.expect_err("the store is another one");
    assert_eq!(error.remedy(), Remedy::ReopenSnapshot, "{error}");
    old.put(object(1), &number(2)).expect("puts");
    assert_eq!(old.commit().await.expect_err("another store").remedy(), Remedy::ReopenSnapshot);
    assert_eq!(read(&db.now(), 1).await.expect("reads"), 0);
    db.run(async |tx| add_one(&tx, 1).await).await.expect("works with the new one");
    db.run(async |tx| tx.create(&Nothing {}).await).await.expect("with its oids");
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Nothing {}

impl zeolite_client::Persistent for Nothing {
    const CLASS: &str = "Nothing";
}

#[tokio::test]
async fn an_address_without_a_port_asks_no_other_server() {
    for address in ["nowhere", "127.0.0.1", "127.0.0.1:99999", "http://127.0.0.1", "[::1]"] {
        let refused = Db::connect(address).await.expect_err("names no port");
        assert_eq!(refused.kind(), Some(FaultKind::Invalid), "{refused}");
        assert!(refused.to_string().contains("names no port"), "{refused}");
    }
}
