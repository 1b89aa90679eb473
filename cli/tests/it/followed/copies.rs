//! Owns the tests of a copy that is kept, left and come back to: kills of the follower, packs and blobs at the primary, cut connections.

use super::fleet::{GUARD, Node, free};
use crate::program::program;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zeolite_client::{Cell, Db, FaultKind, Oid, Options, PackOptions, Record, Replication, Seat, Tid};

pub(super) async fn client(node: &Node) -> Db {
    Db::connect_with(node.address.to_string(), Options::new().request_timeout(GUARD)).await.expect("connects")
}

/// Puts so many objects, each in a commit of its own.
pub(super) async fn fill(db: &Db, count: usize, bytes: usize) -> Vec<Oid> {
    let mut oids = Vec::new();
    for n in 0..count {
        let oid = db.new_oid().await.expect("an oid");
        let record = Record::new("Page", 1, vec![n as u8; bytes]);
        db.run(async |tx| tx.put(Cell::object(oid), &record)).await.expect("commits");
        oids.push(oid);
    }
    oids
}

/// The same transactions are in both, word for word.
async fn same(one: &Node, other: &Node) {
    let log = async |node: &Node| {
        let mut pages = node.admin().await.expect("connects").log_pieces(Tid::NONE).await.expect("asks");
        let mut all = Vec::new();
        while let Some(page) = pages.next().await.expect("reads") {
            all.extend(page);
        }
        all
    };
    let (ours, theirs) = (log(one).await, log(other).await);
    assert!(
        !ours.is_empty() && zeolite_client::LogPiece::tell_the_same(&ours, &theirs),
        "{} {}",
        ours.len(),
        theirs.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_killed_again_and_again_becomes_the_same() {
    let primary = Node::primary(&[]);
    let mut follower = Node::follower(&[primary.address], &[]);
    let db = client(&primary).await;
    let mut dice = fastrand::Rng::with_seed(3);
    for _ in 0..6 {
        fill(&db, dice.usize(1..20), dice.usize(1..20_000)).await;
        follower.kill();
        fill(&db, dice.usize(1..5), 100).await;
        follower.follow(&[primary.address], &[]);
    }
    follower.until_whole().await;
    assert_eq!(follower.status().await.visible, primary.status().await.visible);
    assert_eq!(follower.status().await.timeline, primary.status().await.timeline);
    same(&primary, &follower).await;
    let copy = client(&follower).await;
    let refused = copy.run(async |tx| tx.put(Cell::object(Oid::ROOT), &Record::new("X", 1, "y"))).await;
    let refused = refused.expect_err("a follower takes no writes");
    assert_eq!(refused.kind(), Some(FaultKind::NotPrimary));
    assert!(refused.to_string().contains(&primary.address.to_string()), "{refused}");
    assert_eq!(copy.new_oid().await.expect_err("no oids either").kind(), Some(FaultKind::NotPrimary));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_a_packed_primary_begins_properly_and_packs_as_it_does() {
    let mut primary = Node::primary(&[]);
    let db = client(&primary).await;
    let oids = fill(&db, 20, 100).await;
    let blob = db.put_blob(&[7_u8; 300_000][..]).await.expect("a blob");
    let with_blob = Record { blobs: vec![blob], ..Record::new("File", 1, "f") };
    let root = Record { refs: oids.clone(), ..Record::new("Root", 1, "r") };
    db.run(async |tx| {
        tx.put(Cell::object(Oid::ROOT), &root)?;
        tx.put(Cell::object(oids[0]), &with_blob)
    })
    .await
    .expect("commits");
    pack(&db).await;
    let mut follower = Node::follower(&[primary.address], &[]);
    follower.until_whole().await;
    same(&primary, &follower).await;
    let copy = client(&follower).await;
    assert_eq!(copy.blob(blob).bytes(0..300_000).await.expect("it was brought"), vec![7; 300_000]);
    assert_eq!(follower.status().await.packed_to, primary.status().await.packed_to);
    // Another pack, while the follower is away: what it needs stays.
    let had = follower.status().await.visible;
    follower.kill();
    until_known(&primary).await;
    primary.kill();
    // Who follows it a primary knows after a restart, too.
    primary.start_as(&["serve"]);
    for oid in &oids[1..] {
        db.run(async |tx| tx.put(Cell::object(*oid), &Record::new("Page", 1, "new"))).await.expect("commits");
    }
    pack(&db).await;
    assert!(primary.status().await.packed_to <= had, "a follower needs it");
    follower.follow(&[primary.address], &[]);
    follower.until_whole().await;
    same(&primary, &follower).await;
    pack(&db).await;
    let packed_to = primary.status().await.packed_to;
    assert!(packed_to > had, "now it is gone");
    let waited = async {
        while follower.status().await.packed_to < packed_to {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, waited).await.expect("the follower takes the same history away");
}

/// Waits until a primary has kept who follows it.
async fn until_known(primary: &Node) {
    let known = async {
        let is_known =
            || std::fs::read_to_string(primary.dir().join("seat")).is_ok_and(|seat| seat.contains("[[followers]]"));
        while !is_known() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, known).await.expect("it is kept");
}

async fn pack(db: &Db) {
    let mut pages = db.admin().pack(PackOptions::default()).await.expect("packs");
    while pages.next().await.expect("packs").is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_follower_is_restored_and_is_the_same() {
    let primary = Node::primary(&[]);
    let db = client(&primary).await;
    fill(&db, 5, 1000).await;
    let blob = db.put_blob(&[7_u8; 300_000][..]).await.expect("a blob");
    let with_blob = Record { blobs: vec![blob], ..Record::new("File", 1, "f") };
    db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &with_blob)).await.expect("commits");
    let follower = Node::follower(&[primary.address], &[]);
    follower.until_whole().await;
    let place = tempfile::tempdir().expect("a directory");
    let to = place.path().join("backup");
    let at = follower.address.to_string();
    let taken = program().args(["--server", &at, "backup"]).arg(&to).output().expect("runs");
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let mut restored = Node::idle(&[]);
    let made = program().arg("restore").arg(&to).arg("--into").arg(restored.dir()).output().expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    restored.start_as(&["serve"]);
    same(&primary, &restored).await;
    let copy = client(&restored).await;
    assert_eq!(copy.blob(blob).bytes(0..300_000).await.expect("it was kept"), vec![7; 300_000]);
    fill(&copy, 1, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_are_there_after_a_fail_over_and_new_ones_are_taken() {
    let mut old = Node::primary(&["replication.sync=1"]);
    let new = Node::follower(&[old.address], &[]);
    let options = Options::new().request_timeout(GUARD).other_addresses(vec![new.address.to_string()]);
    let db = Db::connect_with(old.address.to_string(), options).await.expect("connects");
    let put = async |byte: u8| {
        let blob = db.put_blob(&vec![byte; 400_000][..]).await.expect("a blob");
        let oid = db.new_oid().await.expect("an oid");
        let record = Record { blobs: vec![blob], ..Record::new("File", 1, "f") };
        db.run(async |tx| tx.put(Cell::object(oid), &record)).await.expect("commits");
        blob
    };
    let before = [put(1).await, put(2).await];
    old.kill();
    new.admin().await.expect("connects").promote(false, false).await.expect("promotes");
    let after = put(3).await;
    let copy = client(&new).await;
    for (byte, blob) in (1_u8..).zip(before.into_iter().chain([after])) {
        assert_eq!(copy.blob(blob).bytes(0..400_000).await.expect("it is there"), vec![byte; 400_000]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_is_not_followed_and_says_whom_to_follow() {
    let primary = Node::primary(&[]);
    fill(&client(&primary).await, 3, 100).await;
    let follower = Node::follower(&[primary.address], &[]);
    follower.until_whole().await;
    let mut second = Node::follower(&[primary.address], &[]);
    second.until_whole().await;
    second.kill();
    second.begin(&["follow", &follower.address.to_string()]);
    let refused = |now: &Replication| now.problem.as_ref().is_some_and(|why| why.contains("is a follower of"));
    let told = second.until("told", refused).await;
    assert!(!told.connected && told.problem.expect("a reason").contains(&primary.address.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_waits_for_its_first_primary_says_so() {
    let mut primary = Node::idle(&[]);
    let numbers = free();
    let mut follower = Node::idle(&[&format!("metrics.listen={numbers}")]);
    follower.begin(&["follow", &primary.address.to_string()]);
    let waits = "is waiting for its first primary";
    let health = async {
        loop {
            let mut told = String::new();
            if let Ok(mut stream) = TcpStream::connect(numbers).await {
                let ask = format!("GET /healthz HTTP/1.1\r\nhost: {numbers}\r\nconnection: close\r\n\r\n");
                stream.write_all(ask.as_bytes()).await.expect("is sent");
                stream.read_to_string(&mut told).await.expect("is read");
            }
            if told.contains(waits) {
                return told;
            }
            tokio::task::yield_now().await;
        }
    };
    let told = tokio::time::timeout(GUARD, health).await.expect("it says so");
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    let status = program().args(["--server", &follower.address.to_string(), "--timeout", "2", "status"]).output();
    let status = status.expect("runs");
    let told = String::from_utf8_lossy(&status.stderr);
    assert!(!status.status.success() && told.contains(waits) && told.contains(&primary.address.to_string()), "{told}");
    primary.start_as(&["serve"]);
    fill(&client(&primary).await, 1, 10).await;
    follower.until_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_history_was_taken_from_says_how_it_begins_anew() {
    let mut primary = Node::primary(&["replication.keep_s=0"]);
    let mut follower = Node::follower(&[primary.address], &[]);
    let db = client(&primary).await;
    let oids = fill(&db, 5, 100).await;
    follower.until_whole().await;
    follower.kill();
    let root = Record { refs: oids, ..Record::new("Root", 1, "r") };
    db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &root)).await.expect("commits");
    primary.until("alone", |now| now.followers.iter().all(|one| !one.connected)).await;
    pack(&db).await;
    follower.follow(&[primary.address], &[]);
    let lost = |now: &Replication| now.problem.as_ref().is_some_and(|why| why.contains("--discard-own"));
    follower.until("refused", lost).await;
    follower.stop();
    follower.follow(&[primary.address], &["--discard-own"]);
    follower.until_whole().await;
    same(&primary, &follower).await;
    primary.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_in_the_middle_of_a_page_is_gone_on_with() {
    let primary = Node::primary(&[]);
    let db = client(&primary).await;
    fill(&db, 30, 50_000).await;
    let between = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = between.local_addr().expect("an address");
    let to = primary.address;
    // Each connection may bring a little more than the one before it.
    let cutting = tokio::spawn(async move {
        let mut bytes = 20_000;
        loop {
            let (mut inside, _) = between.accept().await.expect("accepts");
            let mut outside = TcpStream::connect(to).await.expect("connects");
            let limit = bytes;
            bytes += bytes / 4;
            tokio::spawn(async move {
                let (mut from_follower, mut to_follower) = inside.split();
                let (from_primary, mut to_primary) = outside.split();
                let mut some = tokio::io::AsyncReadExt::take(from_primary, limit);
                tokio::select! {
                    _ = tokio::io::copy(&mut from_follower, &mut to_primary) => {}
                    _ = tokio::io::copy(&mut some, &mut to_follower) => {}
                }
            });
        }
    });
    let follower = Node::follower(&[at], &[]);
    follower.until_whole().await;
    same(&primary, &follower).await;
    cutting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_with_commits_of_its_own_is_fenced_and_says_which() {
    let mut old = Node::primary(&[]);
    let new = Node::follower(&[old.address], &[]);
    let db = client(&old).await;
    fill(&db, 3, 100).await;
    new.until_whole().await;
    let refused = new.admin().await.expect("connects").promote(false, false).await.expect_err("the primary is there");
    assert!(refused.to_string().contains("--hand-over"), "{refused}");
    // The primary cannot be reached, and goes on taking writes.
    old.kill();
    let promoted = new.admin().await.expect("connects").promote(false, false).await.expect("promotes");
    assert!(promoted.term > 0 && promoted.not_told.len() == 1, "{promoted:?}");
    old.start_as(&["serve", "--sync", "0"]);
    let fenced = old.until("fenced", |now| now.seat == Seat::Fenced).await;
    assert!(fenced.problem.expect("a remedy").contains("zeolite follow"));
    old.stop();
    old.start_as(&["serve"]);
    assert_eq!(old.status().await.replication.seat, Seat::Fenced, "after a restart too");
    let refused = client(&old).await.run(async |tx| tx.put(Cell::object(Oid::ROOT), &Record::new("X", 1, "y"))).await;
    assert_eq!(refused.expect_err("fenced").kind(), Some(FaultKind::NotPrimary));
    old.stop();
    old.follow(&[new.address], &[]);
    old.until_whole().await;
    same(&new, &old).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_met_the_newer_term_fences_the_old_primary() {
    let mut old = Node::primary(&[]);
    let mut new = Node::follower(&[old.address], &[]);
    let options = Options::new()
        .request_timeout(GUARD)
        .other_addresses(vec![old.address.to_string()])
        .backoff_min(Duration::from_millis(1))
        .backoff_max(Duration::from_millis(20));
    let db = Db::connect_with(new.address.to_string(), options).await.expect("connects");
    fill(&db, 1, 10).await;
    new.until_whole().await;
    old.kill();
    new.admin().await.expect("connects").promote(false, false).await.expect("promotes");
    // The client is with the new one, and has met its term.
    fill(&db, 1, 10).await;
    // Nobody is left who could tell the old one, but the client.
    new.kill();
    old.start_as(&["serve"]);
    old.until("fenced", |now| now.seat == Seat::Fenced).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_switch_loses_nothing_and_refuses_nobody() {
    let mut nodes = vec![Node::primary(&[])];
    nodes.push(Node::follower(&[nodes[0].address], &[]));
    let options = super::options(&nodes, "switch", GUARD).request_timeout(GUARD);
    let db = Db::connect_with(nodes[0].address.to_string(), options).await.expect("connects");
    let oid = db.new_oid().await.expect("an oid");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (db, stopped) = (db.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut done = 0_i64;
                while !*stopped.borrow() {
                    let add = zeolite_proto::resolvers::counter::add(1);
                    let class = zeolite_proto::resolvers::class::COUNTER;
                    db.run(async |tx| tx.apply(Cell::object(oid), class, add.clone()))
                        .await
                        .expect("nobody is refused");
                    done += 1;
                }
                done
            })
        })
        .collect();
    let (mut primary, mut follower) = (0, 1);
    for _ in 0..3 {
        nodes[follower].until_whole().await;
        let promoted = nodes[follower].admin().await.expect("connects").promote(false, true).await;
        promoted.expect("hands over");
        nodes[primary].stop();
        let of = nodes[follower].address;
        nodes[primary].follow(&[of], &[]);
        nodes[primary].until("a follower", |now| now.seat == Seat::Follower && now.connected).await;
        (primary, follower) = (follower, primary);
        // The next one is asked about whom it can reach.
        nodes[follower].until_whole().await;
    }
    for node in &nodes {
        let known = node.status().await.replication.followers;
        assert!(known.len() <= 1, "there is one other copy, whatever it was: {known:?}");
    }
    stop.send(true).expect("they listen");
    let mut done = 0;
    for writer in writers {
        done += writer.await.expect("no writer panics");
    }
    let sum = db.run(async |tx| tx.get(&Cell::object(oid)).await).await.expect("reads").expect("it is there");
    assert_eq!(zeolite_proto::resolvers::counter::value(&sum).expect("a counter"), done);
}

/// What a cache's file has seen in another process is nothing that this one has shown to anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_begins_takes_a_copy_that_has_less_than_its_cache() {
    let mut primary = Node::primary(&[]);
    let mut follower = Node::follower(&[primary.address], &[]);
    let db = client(&primary).await;
    let before = fill(&db, 3, 100).await;
    follower.until_whole().await;
    follower.kill();
    let behind = fill(&db, 3, 100).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let reads = Options::new().role("read").cache_dir(dir.path().to_owned()).cache_file_bytes(1 << 20);
    let there = async |node: &Node, options: Options| {
        let db = Db::connect_with(node.address.to_string(), options.request_timeout(GUARD)).await.expect("connects");
        let mut there = Vec::new();
        for oid in before.iter().chain(&behind) {
            there.push(db.now().get(&Cell::object(*oid)).await.expect("reads").is_some());
        }
        (there, db.cache_stats().file_hits)
    };
    assert_eq!(there(&primary, reads.clone()).await, (vec![true; 6], 0));
    assert_eq!(there(&primary, reads.clone()).await, (vec![true; 6], 6));
    primary.kill();
    follower.follow(&[primary.address], &[]);
    let both = reads.other_addresses(vec![primary.address.to_string()]);
    assert_eq!(there(&follower, both).await, (vec![true, true, true, false, false, false], 0));
}
