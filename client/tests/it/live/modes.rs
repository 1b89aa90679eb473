//! Modes: switched while everything runs, told to every client at once.

use crate::support::{GUARD, World};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::timeout;
use zeolite_client::collections::Counter;
use zeolite_client::{Db, Error, FaultKind, Mode, ModeEnd, ModeKind, Options};

async fn add(db: &Db) -> Result<(), Error> {
    db.run(async |tx| {
        let hits: Counter = tx.root_or_create("hits").await?;
        hits.add(&tx, 1)
    })
    .await
}

fn refused(result: Result<(), Error>) -> (FaultKind, String) {
    match result {
        Err(Error::Fault(fault)) => (fault.kind, fault.message),
        other => panic!("a fault was expected, not {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_hears_of_a_mode_at_once_and_also_one_that_connects_later_or_again() {
    let mut world = World::start().await;
    let (operator, site) = (world.db().await, world.db().await);
    add(&site).await.expect("normal");
    assert_eq!(site.mode(), Mode::default());
    let mut changes = site.on_mode_change();
    let set = operator.admin().set_mode(ModeKind::ReadOnly, "back at five", ModeEnd::Never).await.expect("switches");
    assert_eq!((set.kind, set.banner.as_str()), (ModeKind::ReadOnly, "back at five"));
    let told = timeout(GUARD, changes.next()).await.expect("is told").expect("connected");
    assert_eq!(told, set);
    assert_eq!(site.mode(), set);
    let (kind, message) = refused(add(&site).await);
    assert!(kind == FaultKind::ReadOnly && message.contains("back at five"), "{kind:?} {message}");
    let root = site.now().get(&zeolite_client::Cell::object(zeolite_client::Oid::ROOT)).await;
    assert!(root.expect("reading goes on").is_some());

    assert_eq!(world.db().await.mode(), set, "by the hello");
    world.restart().await;
    world.network.cut();
    site.newest().await.expect("connects again");
    assert_eq!(site.mode(), set, "it outlives the server");
    operator.admin().set_mode(ModeKind::Normal, "", ModeEnd::Never).await.expect("switches back");
    while site.mode().kind != ModeKind::Normal {
        timeout(GUARD, changes.next()).await.expect("is told").expect("connected");
    }
    add(&site).await.expect("normal again");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_evolve_only_the_workers_write_and_are_told_the_pressure() {
    let world = World::start().await;
    let site = world.db().await;
    add(&site).await.expect("normal");
    let worker = world.db_with(Options::new().role("evolve")).await;
    site.admin().set_mode(ModeKind::EvolveOnly, "", ModeEnd::Never).await.expect("switches");
    assert_eq!(refused(add(&site).await).0, FaultKind::ReadOnly);
    add(&worker).await.expect("a worker may");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_with_an_end_ends_by_itself() {
    let world = World::start().await;
    let site = world.db().await;
    add(&site).await.expect("normal");
    let mut changes = site.on_mode_change();
    // The server's time is in its tids.
    let now = UNIX_EPOCH + Duration::from_nanos(site.newest().await.expect("asks").unix_nanos() as u64);
    let soon = now + Duration::from_secs(2);
    let set = site.admin().set_mode(ModeKind::ReadOnly, "a moment", ModeEnd::at(soon)).await.expect("switches");
    assert!(set.until_unix_ms.is_some());
    while site.mode().kind != ModeKind::ReadOnly {
        timeout(GUARD, changes.next()).await.expect("is told").expect("connected");
    }
    while site.mode().kind != ModeKind::Normal {
        timeout(GUARD, changes.next()).await.expect("is told").expect("connected");
    }
    add(&site).await.expect("normal again");
    let past = now - Duration::from_secs(60);
    let wrong = site.admin().set_mode(ModeKind::ReadOnly, "", ModeEnd::at(past)).await.map(|_| ());
    assert_eq!(refused(wrong).0, FaultKind::Invalid);
}
