//! Bulk beside a follower that nobody waits for: it keeps up or is behind by a bounded amount, goes on where it was, and neither side keeps in
//! memory what the other has not taken.

use super::copies::client;
use super::fleet::{GUARD, Node};
use crate::backups::scene::noise;
use std::time::Instant;
use zeolite_client::{Cell, Db, Record};

/// `ZEOLITE_BULK=300000` for as many objects in the large commit, and with that as many in small ones.
fn objects() -> usize {
    std::env::var("ZEOLITE_BULK").ok().and_then(|count| count.parse().ok()).unwrap_or(12_000)
}

async fn commit(db: &Db, count: usize) {
    let first = db.new_oid().await.expect("an oid");
    let mut cells = vec![Cell::object(first)];
    while cells.len() < count {
        cells.push(Cell::object(db.new_oid().await.expect("an oid")));
    }
    let data = noise(200, count as u64);
    let tx = db.begin().await.expect("begins");
    for cell in cells {
        tx.put(cell, &Record::new("Page", 1, data.clone())).expect("encodes");
    }
    tx.commit().await.expect("commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_stays_near_bulk_and_memory_stays_small() {
    let primary = Node::primary(&["store.segment_bytes_max=64MiB"]);
    let follower = Node::follower(&[primary.address], &["store.segment_bytes_max=64MiB"]);
    follower.until_follows(primary.address).await;
    let db = client(&primary).await;
    let (begun, all) = (Instant::now(), objects());
    let mut furthest = 0;
    for _ in 0..all / 2000 {
        commit(&db, 2000).await;
        let behind = primary.status().await.replication.followers[0].behind;
        furthest = furthest.max(behind.bytes);
    }
    println!("{all} objects in commits of 2,000: {} ms, at most {furthest} bytes behind", begun.elapsed().as_millis());
    let begun = Instant::now();
    follower.until_whole().await;
    println!("the follower has them {} ms later", begun.elapsed().as_millis());
    let begun = Instant::now();
    commit(&db, all).await;
    println!("{all} objects in one commit: {} ms", begun.elapsed().as_millis());
    let begun = Instant::now();
    follower.until_whole().await;
    println!("the follower has it {} ms later", begun.elapsed().as_millis());
    assert!(begun.elapsed() < GUARD);
    let (ours, theirs) = (primary.status().await, follower.status().await);
    assert_eq!(ours.visible, theirs.visible);
    assert!(
        furthest < 64 << 20,
        "{furthest} bytes behind: what is sent from memory holds no more (replication.tail_bytes_max)"
    );
    // Some copies of the largest commit, one of them the tail's, and what a server has anyway.
    let bound = (256 << 20) + 1500 * all as u64;
    for (name, node) in [("primary", &primary), ("follower", &follower)] {
        println!("{name}: {} MiB at most", node.most_memory() >> 20);
        assert!(node.most_memory() < bound, "{name}: {} bytes", node.most_memory());
    }
}
