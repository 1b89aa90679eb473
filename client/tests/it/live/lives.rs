//! The lives of a database: what was read in one is not written into another, and what goes on in one goes on.

use crate::support::{World, add_one, number, object, read, within};
use futures_util::stream;
use std::time::Duration;
use zeolite_client::{Change, Error, Remedy};

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
    let (_, last) = operator.admin().restore(stream::iter(log)).await.expect("restores");
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
