//! Interest: what a client is not told of never makes it read anything stale, over old snapshots, restarts and lost connections, and
//! whoever watches is told everything.

use crate::support::{World, number, object, oid, read, within};
use std::time::Duration;
use zeolite_client::collections::Counter;
use zeolite_client::{Cell, Change, Db, Oid, Options, Tid};
use zeolite_server::settings::Settings;

const LIMIT: Duration = Duration::from_secs(20);

async fn put(db: &Db, n: u64, with: u64) -> Tid {
    db.transaction().run_for_receipt(async |tx| tx.put(object(n), &number(with))).await.expect("commits").1.tid
}

fn followed() -> Options {
    Options::new().changed_oids_max(1000)
}

/// How many reads the server had to be asked for.
async fn misses(db: &Db, numbers: impl Iterator<Item = u64>) -> u64 {
    let before = db.cache_stats().misses;
    for n in numbers {
        read(&db.now(), n).await.expect("reads");
    }
    db.cache_stats().misses - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_stays_warm_and_right_over_restarts_and_cuts() {
    let mut world = World::start().await;
    let line = world.line().await;
    let (reader, writer) = (Db::connect(line.url()).await.expect("connects"), world.db().await);
    for n in 1..=50 {
        put(&writer, n, n).await;
    }
    assert!(reader.wait_for(writer.position(), LIMIT).await);
    assert_eq!(misses(&reader, 1..=50).await, 50);
    for round in 1..6 {
        match round % 2 {
            0 => world.restart().await,
            _ => line.cut(),
        }
        // One while it may be away, one when it is back for certain.
        put(&writer, round, 100 + round).await;
        within(reader.newest()).await.expect("is back");
        let last = put(&writer, 10 + round, 100 + round).await;
        assert!(reader.wait_for(last, LIMIT).await, "round {round}");
        assert_eq!(misses(&reader, 20..=50).await, 0, "round {round}: it starts warm");
        for n in [round, 10 + round] {
            assert_eq!(read(&reader.now(), n).await.expect("reads"), 100 + round, "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_first_read_at_an_old_snapshot_is_not_taken_for_new() {
    let world = World::start().await;
    let (reader, writer) = (world.db_with(followed()).await, world.db().await);
    put(&writer, 1, 1).await;
    let old = put(&writer, 2, 1).await;
    assert!(reader.wait_for(old, LIMIT).await);
    let place = reader.place();
    // Nobody has told the reader of any of these.
    put(&writer, 1, 2).await;
    put(&writer, 3, 2).await;
    let last = put(&writer, 4, 2).await;
    assert!(reader.wait_for(last, LIMIT).await);
    let view = reader.at(old);
    let then = [1, 2, 3].map(|n| (n, if n == 3 { 0 } else { 1 }));
    for (n, with) in then {
        assert_eq!(read(&view, n).await.expect("reads"), with);
    }
    for (n, with) in [(1, 2), (2, 1), (3, 2)] {
        assert_eq!(read(&reader.now(), n).await.expect("reads"), with, "{n} has moved on");
    }
    // Whoever has copies as of that place learns what of them is old.
    let changes = reader.changes(place, reader.place()).expect("is remembered");
    let mut told: Vec<_> = changes.iter().flat_map(|changed| changed.oids.to_vec()).collect();
    told.sort_unstable();
    assert_eq!(told, [oid(1), oid(3)], "4 it does not hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_keeps_what_he_has_walked_over_is_told_of_what_comes() {
    let mut world = World::start().await;
    let (reader, writer) = (world.db_with(followed()).await, world.db().await);
    let name = async |name: &str| {
        writer.run(async |tx| tx.root_or_create::<Counter>(name).await.map(drop)).await.expect("makes");
    };
    name("before").await;
    assert!(reader.wait_for(writer.position(), LIMIT).await);
    let at = reader.place();
    let view = at.view(&reader);
    view.note_entries(Oid::ROOT).await.expect("asks");
    assert_eq!(view.roots().collect().await.expect("walks").len(), 1);
    for round in ["again", "after a restart"] {
        let at = reader.place();
        name(round).await;
        assert!(reader.wait_for(writer.position(), LIMIT).await);
        let changes = reader.changes(at, reader.place()).expect("is remembered");
        assert!(changes.iter().any(|changed| changed.oids.contains(&Oid::ROOT)), "{round}: {changes:?}");
        world.restart().await;
        within(reader.newest()).await.expect("is back");
        within(writer.newest()).await.expect("is back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_written_it_is_told_of() {
    let world = World::start().await;
    let (one, other) = (world.db().await, world.db().await);
    let written = put(&one, 1, 1).await;
    assert!(other.wait_for(written, LIMIT).await);
    let tx = other.begin().await.expect("begins");
    tx.put(object(1), &number(2)).expect("stages");
    let receipt = tx.commit().await.expect("commits");
    assert!(one.wait_for(receipt.tid, LIMIT).await);
    assert_eq!(read(&one.now(), 1).await.expect("reads"), 2);
    assert_eq!(one.cache_stats().hits + one.cache_stats().misses, 1, "one read, and no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_begins_late_says_so_and_one_that_has_begun_hears_all_over_lost_connections() {
    let world = World::start().await;
    let line = world.line().await;
    let (watcher, writer) = (Db::connect(line.url()).await.expect("connects"), world.db().await);
    line.deafen();
    let mut changes = watcher.watch_all();
    let missed = put(&writer, 1, 1).await;
    line.cut();
    let change = within(changes.next()).await;
    assert_eq!(change, Some(Change::Missed { tid: missed }), "it was committed before anybody heard of the watch");
    for n in 2..6 {
        let tid = put(&writer, n, n).await;
        assert_eq!(within(changes.next()).await, Some(Change::Written { tid, cells: vec![object(n)] }));
        line.cut();
    }
    let mut second = watcher.watch([oid(9)]);
    assert!(within(second.begun()).await);
    put(&writer, 8, 1).await;
    let tid = put(&writer, 9, 1).await;
    assert_eq!(within(second.next()).await, Some(Change::Written { tid, cells: vec![object(9)] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_more_than_a_message_can_say_is_told_everything() {
    let small = |settings: &mut Settings| {
        (settings.limits.message_bytes_max, settings.limits.record_bytes_max) = (64 << 10, 32 << 10);
    };
    let world = World::start_with(small).await;
    let line = world.line().await;
    let (reader, writer) = (Db::connect(line.url()).await.expect("connects"), world.db().await);
    let place = put(&writer, 1, 1).await;
    assert!(reader.wait_for(place, LIMIT).await);
    // The filter has 128 KiB then.
    let cells: Vec<_> = (0..17_000).map(|n| Cell::entry(oid(2), format!("{n}"))).collect();
    for some in cells.chunks(500) {
        reader.now().get_many(some).await.expect("reads");
    }
    assert_eq!(read(&reader.now(), 1).await.expect("reads"), 1);
    let connections = line.connections();
    line.cut();
    within(line.accepted(connections + 1)).await;
    within(reader.newest()).await.expect("it comes back");
    let last = put(&writer, 1, 2).await;
    assert!(reader.wait_for(last, LIMIT).await);
    assert_eq!(read(&reader.now(), 1).await.expect("reads"), 2);
}
