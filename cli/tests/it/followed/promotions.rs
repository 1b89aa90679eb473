//! Owns the tests of promotions that would lose something: a stream of a term that is over, a fenced server, a copy that lacks data, a store
//! that is another one.

use super::copies::{client, fill};
use super::fleet::{GUARD, Node, copied};
use crate::program::program;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zeolite_client::{Cell, Db, Oid, Options, Record, Replication, Seat, Tid};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_has_met_a_newer_term_confirms_nothing_to_the_old_primary() {
    let old = Node::primary(&["replication.sync=1", "replication.wait_ms=500"]);
    let follower = Node::follower(&[old.address], &[]);
    let db = client(&old).await;
    fill(&db, 3, 100).await;
    let store_id = follower.until_whole().await.store_id;
    // As the one that was promoted tells it; the old one cannot be reached by that.
    let told = follower.admin().await.expect("connects").fence(store_id, 1_000_000, "db9").await.expect("is told");
    assert_eq!(told.seat, Seat::Fenced);
    let lost = db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &Record::new("X", 1, "y"))).await;
    lost.expect_err("nobody of the new term has it");
    old.until("fenced", |now| now.seat == Seat::Fenced).await;
    assert!(!follower.status().await.replication.connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_server_that_follows_nobody_is_promoted_by_a_word_only() {
    let mut old = Node::primary(&[]);
    let new = Node::follower(&[old.address], &[]);
    fill(&client(&old).await, 3, 100).await;
    new.until_whole().await;
    old.kill();
    new.admin().await.expect("connects").promote(false, false).await.expect("promotes");
    old.start_as(&["serve"]);
    old.until("fenced", |now| now.seat == Seat::Fenced).await;
    let admin = old.admin().await.expect("connects");
    let refused = admin.promote(false, false).await.expect_err("it is fenced").to_string();
    assert!(refused.contains(&new.address.to_string()) && refused.contains("--anyway"), "{refused}");
    let refused = admin.promote(false, true).await.expect_err("nobody can hand over").to_string();
    assert!(refused.contains("zeolite follow"), "{refused}");
    assert_eq!(old.status().await.replication.seat, Seat::Fenced);
    assert!(admin.promote(true, false).await.expect("by a word").term > new.status().await.replication.term);
    // A server that is the primary has nothing to do, and says so.
    let address = old.address.to_string();
    let again = program().args(["--server", &address, "promote"]).output().expect("runs");
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("already"), "{again:?}");
}

/// A machine that has lost its power refuses nobody: whoever connects waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_finds_the_new_primary_past_an_address_that_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut old = Node::primary(&[]);
    let new = Node::follower(&[old.address], &[]);
    fill(&client(&old).await, 3, 100).await;
    new.until_whole().await;
    let options = Options::new()
        .other_addresses(vec![old.address.to_string(), new.address.to_string()])
        .connect_timeout(GUARD)
        .request_timeout(Duration::from_secs(15));
    let at = silent.local_addr().expect("an address").to_string();
    let db = Db::connect_with(at, options).await.expect("connects");
    fill(&db, 1, 10).await;
    new.until_whole().await;
    old.kill();
    // It reads from the copy, and goes on looking for a primary.
    db.run(async |tx| tx.get(&Cell::object(Oid::ROOT)).await).await.expect("reads");
    new.admin().await.expect("connects").promote(false, false).await.expect("promotes");
    fill(&db, 1, 10).await;
}

/// One that cannot be taken yet is asked again, and not only when the one that says nothing has had its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_asks_again_while_an_address_says_nothing() {
    let (silent, came) = (TcpListener::bind("127.0.0.1:0").await.expect("a port"), Arc::<AtomicUsize>::default());
    let (silent_at, count) = (silent.local_addr().expect("an address").to_string(), came.clone());
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(silent.accept().await.expect("accepts"));
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let server = Node::primary(&[]);
    let (door, to) = (TcpListener::bind("127.0.0.1:0").await.expect("a port"), server.address);
    let at = door.local_addr().expect("an address");
    tokio::spawn(async move {
        // The first that comes is sent away.
        drop(door.accept().await.expect("accepts"));
        loop {
            let (mut inside, _) = door.accept().await.expect("accepts");
            let mut outside = TcpStream::connect(to).await.expect("connects");
            // Either side may hang up.
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inside, &mut outside).await.ok() });
        }
    });
    let options = Options::new()
        .other_addresses(vec![at.to_string()])
        .wait_for_server(true)
        .connect_timeout(GUARD * 2)
        .request_timeout(GUARD * 2);
    let connected = tokio::time::timeout(GUARD, Db::connect_with(silent_at, options)).await;
    let _db = connected.expect("it does not wait for the other one").expect("connects");
    assert_eq!(came.load(Ordering::SeqCst), 1, "nobody had to give up with the silent one");
}

/// A primary that knows other copies looks at them every two seconds: once more is not once more a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_keeps_its_connections_to_the_copies_that_it_looks_at() {
    let (connections, pieces) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut old = Node::primary(&[]);
    let other = Node::follower(&[old.address], &[]);
    let between = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (at, to) = (between.local_addr().expect("an address"), other.address);
    let counts = (connections.clone(), pieces.clone());
    tokio::spawn(async move {
        loop {
            let (mut inside, _) = between.accept().await.expect("accepts");
            counts.0.fetch_add(1, Ordering::SeqCst);
            let (mut outside, pieces) = (TcpStream::connect(to).await.expect("connects"), counts.1.clone());
            tokio::spawn(async move {
                let (mut from_primary, mut to_primary) = inside.split();
                let (mut from_copy, mut to_copy) = outside.split();
                let asked = async {
                    let mut page = vec![0; 16 << 10];
                    while let Ok(count @ 1..) = from_primary.read(&mut page).await {
                        pieces.fetch_add(1, Ordering::SeqCst);
                        if to_copy.write_all(&page[..count]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy(&mut from_copy, &mut to_primary) => {}
                    () = asked => {}
                }
            });
        }
    });
    let new = Node::follower(&[old.address, at], &[]);
    fill(&client(&old).await, 3, 100).await;
    new.until_whole().await;
    old.kill();
    new.admin().await.expect("connects").promote(true, false).await.expect("promotes");
    let before = (connections.load(Ordering::SeqCst), pieces.load(Ordering::SeqCst));
    let looks = async {
        while pieces.load(Ordering::SeqCst) < before.1 + 12 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, looks).await.expect("it looks at them");
    let more = connections.load(Ordering::SeqCst) - before.0;
    assert!(more <= 1, "{more} connections");
}

/// Lets so many bytes through to whoever connects, and nothing behind them.
async fn leaky(to: std::net::SocketAddr, bytes: usize) -> std::net::SocketAddr {
    let between = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (at, left) = (between.local_addr().expect("an address"), Arc::new(AtomicUsize::new(bytes)));
    tokio::spawn(async move {
        while left.load(Ordering::SeqCst) > 0 {
            let (mut inside, _) = between.accept().await.expect("accepts");
            let (mut outside, left) = (TcpStream::connect(to).await.expect("connects"), left.clone());
            tokio::spawn(async move {
                let (mut from_follower, mut to_follower) = inside.split();
                let (mut from_primary, mut to_primary) = outside.split();
                let some = async {
                    let mut page = vec![0; 16 << 10];
                    while let Ok(count @ 1..) = from_primary.read(&mut page).await {
                        let before =
                            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| Some(it.saturating_sub(count)));
                        if before.unwrap_or(0) == 0 || to_follower.write_all(&page[..count]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy(&mut from_follower, &mut to_primary) => {}
                    () = some => {}
                }
            });
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_not_whole_is_promoted_by_a_word_only() {
    let mut primary = Node::primary(&[]);
    fill(&client(&primary).await, 120, 100_000).await;
    let mut follower = Node::follower(&[leaky(primary.address, 6_000_000).await], &[]);
    let cut = |now: &Replication| !now.connected && now.newest != Tid::NONE && now.behind.transactions > 0;
    let has = follower.until("cut off", cut).await;
    assert!(has.newest < primary.status().await.replication.newest, "{has:?}");
    primary.kill();
    let refused = follower.admin().await.expect("connects").promote(false, false).await.expect_err("it is not whole");
    assert!(refused.to_string().contains("it lacks at least"), "{refused}");
    // What it has heard it knows after a restart, too.
    follower.kill();
    follower.follow(&[primary.address], &[]);
    let admin = follower.admin().await.expect("connects");
    let refused = admin.promote(false, false).await.expect_err("it is not whole").to_string();
    assert!(refused.contains("it lacks at least") && refused.contains("--anyway"), "{refused}");
    assert!(admin.promote(true, false).await.expect("by a word").term > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_not_stopped_for_a_copy_that_cannot_take_over() {
    let mut old = Node::primary(&[]);
    let mut new = Node::follower(&[old.address], &[]);
    let db = client(&old).await;
    fill(&db, 3, 100).await;
    new.until_whole().await;
    new.kill();
    fill(&db, 1, 100).await;
    old.kill();
    new.follow(&[old.address], &[]);
    new.admin().await.expect("connects").promote(false, false).await.expect("promotes");
    old.follow(&[new.address], &[]);
    old.until("apart", |now| now.problem.as_ref().is_some_and(|why| why.contains("--discard-own"))).await;
    let refused =
        old.admin().await.expect("connects").promote(false, true).await.expect_err("it lacks much").to_string();
    assert!(refused.contains("goes on as the primary"), "{refused}");
    assert_eq!(new.status().await.replication.seat, Seat::Primary);
    fill(&client(&new).await, 1, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_started_to_follow_nobody_is_promoted_by_a_word_only() {
    let mut primary = Node::primary(&[]);
    let mut follower = Node::follower(&[primary.address], &[]);
    fill(&client(&primary).await, 3, 100).await;
    follower.until_whole().await;
    primary.stop();
    follower.stop();
    follower.start_as(&["serve"]);
    let admin = follower.admin().await.expect("connects");
    let refused = admin.promote(false, false).await.expect_err("nobody can be asked").to_string();
    assert!(refused.contains("zeolite follow PRIMARY") && refused.contains("--anyway"), "{refused}");
    assert_eq!(follower.status().await.replication.seat, Seat::Follower);
    assert!(admin.promote(true, false).await.expect("by a word").term > 0);
}

/// A follower that the new primary does not have in its list would go on confirming to the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_follows_a_primary_that_is_pushed_aside_is_told() {
    let old = Node::primary(&["replication.sync=1"]);
    let (new, other) = (Node::follower(&[old.address], &[]), Node::follower(&[old.address], &[]));
    fill(&client(&old).await, 3, 100).await;
    new.until_whole().await;
    other.until_whole().await;
    old.until("followed by both", |now| now.followers.len() == 2).await;
    let promoted = new.admin().await.expect("connects").promote(true, false).await.expect("promotes");
    assert!(promoted.told.contains(&other.address.to_string()), "{promoted:?}");
    other.until("fenced", |now| now.seat == Seat::Fenced).await;
}

/// Two primaries, of which neither knows the other: whoever has both in its list tells the older one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_primary_is_told_by_a_follower_that_comes_back_and_finds_both() {
    let old = Node::primary(&[]);
    let (mut new, mut other) = (Node::follower(&[old.address], &[]), Node::follower(&[old.address], &[]));
    fill(&client(&old).await, 3, 100).await;
    new.until_whole().await;
    other.until_whole().await;
    new.stop();
    other.stop();
    new.start_as(&["serve"]);
    let promoted = new.admin().await.expect("connects").promote(true, false).await.expect("by a word");
    assert_eq!(old.status().await.replication.seat, Seat::Primary, "nobody has told it");
    other.follow(&[old.address, new.address], &[]);
    other.until_follows(new.address).await;
    let fenced = old.until("fenced", |now| now.seat == Seat::Fenced).await;
    assert!(fenced.problem.is_some_and(|why| why.contains(&new.address.to_string())), "it says by whom");
    assert_eq!(new.status().await.replication.term, promoted.term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_data_directory_is_a_copy_of_its_own() {
    let primary = Node::primary(&[]);
    let mut one = Node::follower(&[primary.address], &[]);
    fill(&client(&primary).await, 3, 100).await;
    one.until_whole().await;
    one.stop();
    let another = Node::follower_in(copied(&one), &[primary.address]);
    one.follow(&[primary.address], &[]);
    let two = |now: &Replication| now.followers.iter().filter(|it| it.connected).count() == 2;
    primary.until("followed by both", two).await;
    fill(&client(&primary).await, 1, 100).await;
    one.until_whole().await;
    another.until_whole().await;
}

/// As somebody does it who wants a follower without copying the log over the network.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copied_directory_of_a_promoted_primary_makes_no_second_primary() {
    let mut old = Node::primary(&[]);
    let mut new = Node::follower(&[old.address], &[]);
    fill(&client(&old).await, 3, 100).await;
    new.until_whole().await;
    old.kill();
    let promoted = new.admin().await.expect("connects").promote(false, false).await.expect("promotes");
    new.stop();
    let copy = copied(&new);
    new.follow(&[old.address], &[]);
    new.until("the primary", |now| now.seat == Seat::Primary).await;
    let copy = Node::follower_in(copy, &[new.address]);
    copy.until_whole().await;
    let now = new.status().await.replication;
    assert_eq!((now.seat, now.term), (Seat::Primary, promoted.term));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_moved_aside_for_a_primary_of_another_store() {
    let (one, another) = (Node::primary(&[]), Node::primary(&[]));
    fill(&client(&one).await, 3, 100).await;
    fill(&client(&another).await, 3, 100).await;
    let mut follower = Node::follower(&[one.address], &[]);
    follower.until_whole().await;
    follower.stop();
    let of_another = another.address.to_string();
    follower.fails(&["follow", &of_another, "--discard-own"]);
    let names: Vec<_> = std::fs::read_dir(follower.dir()).expect("there").flatten().map(|it| it.file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with("aside-")), "{names:?}");
    follower.follow(&[one.address], &[]);
    follower.until_whole().await;
}
