//! The lives of a database: what was read in one is not written into another, and what goes on in one goes on.

use crate::support::{World, add_one, number, object, read, within};
use futures_util::stream;
use std::time::Duration;
use zeolite_client::collections::Counter;
use zeolite_client::{Change, Error, Handle, Options, Outcome, Remedy};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_copy_was_put_back_is_not_written_after_it() {
    let mut world = World::start().await;
    let db = world.db().await;
    db.run(async |tx| tx.put(object(1), &number(10))).await.expect("puts");
    let copy = world.copy_log().await;
    within(db.newest()).await.expect("reconnects");
    db.run(async |tx| tx.put(object(1), &number(99))).await.expect("puts");
    let (commits, prepares) = (db.begin().await.expect("begins"), db.begin().await.expect("begins"));
    for tx in [&commits, &prepares] {
        let price = read(tx, 1).await.expect("reads");
        tx.put(object(1), &number(price + 1)).expect("stages");
    }
    world.put_back(&copy).await;
    // Others go on in the life of the copy, beyond every tid of the lost one.
    let other = world.db().await;
    other.run(async |tx| tx.put(object(2), &number(1))).await.expect("commits");
    assert!(other.position() > db.position());
    let reopen = |error: Error| assert_eq!(error.remedy(), Remedy::ReopenSnapshot, "{error}");
    reopen(within(prepares.prepare(Duration::from_secs(9))).await.expect_err("made in the lost life"));
    reopen(within(commits.commit()).await.expect_err("made in the lost life"));
    assert_eq!(within(db.run(async |tx| add_one(&tx, 1).await)).await.expect("reads anew"), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_of_a_lost_life_is_lost_and_pins_nothing_of_the_next() {
    let mut world = World::start().await;
    let db = world.db().await;
    db.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    let copy = world.copy_log().await;
    within(db.newest()).await.expect("reconnects");
    db.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    let kept = db.pin().await.expect("pins");
    assert!(!kept.is_lost());
    world.put_back(&copy).await;
    within(db.newest()).await.expect("reconnects");
    assert!(kept.is_lost(), "its owner is told");
    assert_eq!(db.admin().status().await.expect("answers").pins, 0);
}

/// Which of two other stores is meant nobody can know; the one that was met is taken when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_other_stores_none_is_taken_and_the_first_is_when_it_is_back() {
    let (own, one, other) = (World::start().await, World::start().await, World::start().await);
    let (first, second) = (own.line().await, own.line().await);
    let options = Options::new().other_addresses(vec![second.url()]);
    let db = zeolite_client::Db::connect_with(first.url(), options).await.expect("connects");
    db.run(async |tx| tx.put(object(1), &number(10))).await.expect("puts");
    for (line, stranger) in [(&first, &one), (&second, &other)] {
        line.point_to(stranger);
    }
    let began = (first.connections(), second.connections());
    first.cut();
    second.cut();
    let reader = db.clone();
    let waiting = tokio::spawn(async move { reader.newest().await });
    // Each has answered, and was asked again after its answer.
    within(first.accepted(began.0 + 3)).await;
    within(second.accepted(began.1 + 3)).await;
    assert!(!waiting.is_finished(), "neither is taken");
    second.point_to(&own);
    within(waiting).await.expect("no panic").expect("reconnects");
    assert_eq!(within(db.run(async |tx| add_one(&tx, 1).await)).await.expect("commits"), 11);
    for stranger in [one, other] {
        assert_eq!(stranger.db().await.now().get(&object(1)).await.expect("reads"), None);
    }
}

/// A restore begins a new life of its store, in which whoever is connected lives on.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_while_its_store_is_restored_into() {
    let (source, target) = (World::start().await, World::start().await);
    let line = target.line().await;
    let reader = zeolite_client::Db::connect(line.url()).await.expect("connects");
    let (source, operator) = (source.db().await, target.db().await);
    assert_eq!(reader.now().get(&object(1)).await.expect("reads"), None);
    let begun = reader.begin().await.expect("begins");
    source.run(async |tx| tx.put(object(1), &number(7))).await.expect("puts");
    let log = source.admin().log(None, None, None, true).await.expect("answers").collect().await.expect("reads");
    let last = operator.admin().restore(stream::iter(log)).await.expect("restores").last;
    assert!(reader.wait_for(last, crate::support::GUARD).await, "it is told what was restored");
    assert_eq!(read(&reader.now(), 1).await.expect("reads"), 7);
    let added = reader.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    assert_eq!((added, read(&operator.at(last), 1).await.expect("reads")), (8, 7));
    begun.put(object(3), &number(3)).expect("stages");
    begun.commit().await.expect("the new life has all of the old one");
    // And comes back as one of the new life: nothing that it knows is lost.
    let mut changes = reader.watch_all();
    assert!(within(changes.begun()).await);
    line.cut();
    operator.run(async |tx| add_one(&tx, 1).await).await.expect("commits");
    let change = within(changes.next()).await;
    assert!(matches!(&change, Some(Change::Written { cells, .. }) if *cells == [object(1)]), "{change:?}");
}

/// Another store takes the address over, and nothing in it is as new as what was known of the first one.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_store_that_is_gone_nothing_is_said_to_the_next() {
    let older = World::start().await;
    let first = older.db().await.run(async |tx| tx.put(object(1), &number(1))).await;
    first.expect("puts");
    let world = World::start().await;
    let line = world.line().await;
    let options = Options::new().changed_oids_max(100).watch_backlog(1);
    let db = zeolite_client::Db::connect_with(line.url(), options).await.expect("connects");
    db.run(async |tx| tx.put(object(1), &number(5))).await.expect("puts");
    let (pin, place, position) = (db.pin().await.expect("pins"), db.place(), db.position());
    let (key, since) = (db.new_commit_key(), db.position());
    let mut changes = db.watch_all();

    line.point_to(&older);
    line.cut();
    assert!(matches!(within(changes.next()).await, Some(Change::Missed { tid }) if tid < position));
    assert!(within(db.newest()).await.expect("reconnects") < position && db.position() < position);
    assert_eq!(read(&db.now(), 1).await.expect("reads"), 1);
    assert!(pin.is_lost() && db.changes(place, db.place()).is_none());
    // The key is as new to this store as the store is to this client.
    let under_key = db.transaction().attempts(3).key(key, since).run(async |tx| add_one(&tx, 1).await);
    assert_eq!(within(under_key).await.expect("commits"), 2);
    assert!(matches!(db.outcome(key, db.position()).await.expect("answers"), Outcome::Committed(_)));
    assert_eq!(read(&db.now(), 1).await.expect("reads"), 2);
    // Whoever falls behind is told a commit of this store.
    for _ in 0..4 {
        db.run(async |tx| add_one(&tx, 2).await).await.expect("commits");
    }
    assert!(matches!(within(changes.next()).await, Some(Change::Missed { tid }) if tid <= db.position()));
}

/// What was to be undone was in the store that is gone: in the next one the same tid is somebody else's commit, or nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_the_next_store_is_refused_there() {
    let (older, world) = (World::start().await, World::start().await);
    let line = world.line().await;
    let db = zeolite_client::Db::connect(line.url()).await.expect("connects");
    let receipt = db.transaction().run_for_receipt(async |tx| tx.put(object(1), &number(5))).await.expect("puts").1;
    line.point_to(&older);
    line.deafen();
    let undone = db.undo(receipt.tid, zeolite_client::Note::default());
    let cut = async {
        assert!(line.is_deaf());
        line.cut();
    };
    let (undone, ()) = within(async { tokio::join!(undone, cut) }).await;
    let error = undone.expect_err("another store");
    assert!(matches!(error.remedy(), Remedy::ReopenSnapshot | Remedy::AskOutcome), "{error}");
    assert!(error.to_string().contains("is not the one"), "{error}");
}

/// A commit was sent, and before its answer came another store took the place of the first: it has happened where nobody can ask any more, and
/// is not made again here as if it had not.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_on_its_way_into_a_store_that_is_gone_is_in_doubt() {
    let (older, world) = (World::start().await, World::start().await);
    let line = world.line().await;
    let (db, other) = (zeolite_client::Db::connect(line.url()).await.expect("connects"), world.db().await);
    let visits: Counter = db.run(async |tx| tx.root_or_create("visits").await).await.expect("makes");
    within(other.newest()).await.expect("answers");
    let mut told = other.watch([visits.oid()]);
    line.deafen();
    let adding = tokio::spawn({
        let db = db.clone();
        async move { db.run(async |tx| visits.add(&tx, 1)).await }
    });
    within(told.next()).await.expect("it has happened");
    line.point_to(&older);
    line.cut();
    let error = within(adding).await.expect("does not panic").expect_err("nobody can know");
    assert_eq!(error.remedy(), Remedy::AskOutcome, "{error}");
    assert_eq!(visits.get(&other.now()).await.expect("reads"), 1);
}
