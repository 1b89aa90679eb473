//! Owns the tests of a server that is in a list by mistake: it has another store, and a greater term than anybody.

use super::copies::{client, fill};
use super::fleet::{GUARD, Node, free};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use zeolite_client::{Cell, Db, Oid, Options, Record, Replication, Seat};

/// A primary of a store of its own that was promoted once.
async fn stray() -> Node {
    let mut before = Node::primary(&[]);
    fill(&client(&before).await, 3, 100).await;
    let stray = Node::follower(&[before.address], &[]);
    stray.until_whole().await;
    before.kill();
    let promoted = stray.admin().await.expect("connects").promote(true, false).await.expect("by a word");
    assert!(promoted.term > 0);
    stray
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_of_another_store_is_neither_followed_nor_told_anything_whatever_its_term() {
    let (stray, mut old) = (stray().await, Node::primary(&[]));
    let mut new = Node::follower(&[old.address], &[]);
    fill(&client(&old).await, 3, 100).await;
    new.until_whole().await;
    new.stop();
    new.follow(&[stray.address, old.address], &[]);
    new.until_follows(old.address).await;
    fill(&client(&old).await, 1, 100).await;
    new.until_whole().await;
    // It is no reason against a promotion, and hears nothing of it.
    let before = stray.status().await.replication;
    old.kill();
    let promoted = new.admin().await.expect("connects").promote(false, false).await.expect("promotes");
    assert_eq!(promoted.told, Vec::<String>::new());
    assert!(promoted.not_told.iter().all(|other| !other.contains(&stray.address.to_string())), "{promoted:?}");
    let after = stray.status().await.replication;
    assert_eq!((after.seat, after.term), (Seat::Primary, before.term));
    // With nobody else there it says why it follows nobody.
    old.follow(&[stray.address], &[]);
    let says = |now: &Replication| now.problem.as_ref().is_some_and(|why| why.contains("another store"));
    assert_eq!(old.until("told", says).await.seat, Seat::Follower);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_has_nothing_yet_is_not_fenced_by_a_term_of_another_store() {
    let (stray, new) = (stray().await, Node::primary(&[]));
    let of = stray.status().await.replication;
    let refused = new.admin().await.expect("connects").fence(of.store_id, of.term, "somebody").await;
    let refused = refused.expect_err("it is of another store").to_string();
    assert!(refused.contains(&format!("{:016x}", of.store_id)), "{refused}");
    fill(&client(&new).await, 1, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_has_nothing_does_not_choose_between_two_stores() {
    let (mut stray, primary) = (stray().await, Node::primary(&[]));
    fill(&client(&primary).await, 3, 100).await;
    let mut copy = Node::idle(&[]);
    copy.begin(&["follow", &super::fleet::list(&[primary.address, stray.address])]);
    let id = async |node: &Node| format!("{:016x}", node.status().await.replication.store_id);
    let told = [id(&primary).await, id(&stray).await];
    let waits = async {
        loop {
            let Err(error) = async { copy.admin().await?.status().await }.await else { continue };
            let why = error.to_string();
            if told.iter().all(|id| why.contains(id)) {
                return why;
            }
            tokio::task::yield_now().await;
        }
    };
    let why = tokio::time::timeout(GUARD, waits).await.expect("it waits, and says why");
    assert!(why.contains("follow.primary"), "{why}");
    stray.kill();
    let whole = copy.until_whole().await;
    assert_eq!(format!("{:016x}", whole.store_id), told[0]);
}

/// A way to a server that counts who comes by it.
async fn counted(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let (between, came) = (TcpListener::bind("127.0.0.1:0").await.expect("a port"), Arc::<AtomicUsize>::default());
    let (at, count) = (between.local_addr().expect("an address"), came.clone());
    tokio::spawn(async move {
        loop {
            let (mut inside, _) = between.accept().await.expect("accepts");
            count.fetch_add(1, Ordering::SeqCst);
            let mut outside = TcpStream::connect(to).await.expect("connects");
            // Either side may hang up.
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inside, &mut outside).await.ok() });
        }
    });
    (at, came)
}

async fn stays_away(role: &str) {
    let (stray, mut primary) = (stray().await, Node::primary(&[]));
    let (at, came) = counted(stray.address).await;
    let written = fill(&client(&primary).await, 1, 10).await[0];
    // Nobody is at the first one.
    let options = Options::new().role(role).request_timeout(GUARD).cache_bytes(0);
    let options = options.other_addresses(vec![primary.address.to_string(), at.to_string()]);
    let db = Db::connect_with(free().to_string(), options).await.expect("connects");
    db.run(async |tx| tx.get(&Cell::object(written)).await).await.expect("reads").expect("it is there");
    let before = came.load(Ordering::SeqCst);
    primary.kill();
    let asked = tokio::spawn({
        let db = db.clone();
        async move { db.run(async |tx| tx.get(&Cell::object(written)).await).await }
    });
    // By the third time it has decided twice, at least once after the primary was gone.
    let looks = async {
        while came.load(Ordering::SeqCst) < before + 3 && !asked.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, looks).await.expect("it looks there");
    primary.start_as(&["serve"]);
    let found = asked.await.expect("no panic").expect("reads");
    assert!(found.is_some(), "it was read where it was written");
    assert_eq!(db.server().expect("connected").store_id, primary.status().await.replication.store_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_writes_waits_for_its_store_beside_one_that_is_another() {
    stays_away("write").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_waits_for_its_store_beside_one_that_is_another() {
    stays_away("read").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_an_address_that_says_nothing_a_restored_store_is_not_taken_and_who_waits_is_told_what_to_do() {
    let (mut lost, silent) = (Node::primary(&[]), TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    let silent = silent.local_addr().expect("an address");
    let limits = Options::new().request_timeout(Duration::from_secs(3)).connect_timeout(Duration::from_millis(500));
    let options = limits.cache_bytes(0).other_addresses(vec![lost.address.to_string()]);
    let db = Db::connect_with(silent.to_string(), options).await.expect("connects");
    db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &Record::new("X", 1, "lost"))).await.expect("commits");
    // Another store comes up where it was.
    lost.kill();
    let mut restored = Node::idle(&[]);
    restored.address = lost.address;
    restored.start_as(&["serve"]);
    let told = db.run(async |tx| tx.get(&Cell::object(Oid::ROOT)).await).await;
    let told = told.expect_err("nobody knows which of the two is meant").to_string();
    for word in
        [&restored.address.to_string(), &silent.to_string(), "of another store", "was restored, restart this program"]
    {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_every_address_has_another_store_the_client_begins_anew() {
    let (mut one, mut other) = (Node::primary(&[]), Node::idle(&[]));
    let options = Options::new().request_timeout(GUARD).cache_bytes(0).other_addresses(vec![one.address.to_string()]);
    let db = Db::connect_with(other.address.to_string(), options).await.expect("connects");
    let tid = db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &Record::new("X", 1, "y"))).await;
    tid.expect("commits");
    one.kill();
    // Made anew: a primary at the one address, its follower at the other.
    other.start_as(&["serve"]);
    fill(&client(&other).await, 1, 10).await;
    let mut anew = Node::idle(&[]);
    anew.address = one.address;
    anew.follow(&[other.address], &[]);
    anew.until_whole().await;
    let root = db.run(async |tx| tx.get(&Cell::object(Oid::ROOT)).await).await.expect("reads");
    assert!(root.is_none(), "nobody has written it there");
}
