//! The real binary as primary and followers: fail-overs under load, kills of followers, the way back of an old primary.
//!
//! ```text
//!   clients ──> primary (sync = 1) ──> follower, follower        kill -9 the primary, promote the follower that has most, go on
//!      └── what they saw and were told ──> history ──> checkers of snapshot isolation, sums, sets (as in `killed`)
//! ```
//! The same with a primary that stays alive and is pushed aside, or hands over. No acknowledged commit is lost, and none is done twice. `ZEOLITE_FAILOVERS=200` for more of them.

mod bulk;
mod copies;
mod fleet;
mod promotions;
mod strangers;

use crate::killed::work::{self, Kind, Objects, Shared};
use fleet::{GUARD, Node, others};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use zeolite_client::{Db, Options, Seat};
use zeolite_tests::checker::{Recorder, Rules, counter, sets, snapshot};

const CLIENTS: usize = 4;
/// So many commits are acknowledged between two fail-overs, at most.
const COMMITS_MAX: usize = 60;

fn options(nodes: &[Node], name: &str, request_timeout: Duration) -> Options {
    Options::new()
        .name(name)
        .request_timeout(request_timeout)
        .connect_timeout(Duration::from_secs(5))
        .backoff_min(Duration::from_millis(1))
        .backoff_max(Duration::from_millis(20))
        .other_addresses(nodes[1..].iter().map(|node| node.address.to_string()).collect::<Vec<_>>())
}

async fn connect(nodes: &[Node], name: &str) -> Db {
    let options = options(nodes, name, GUARD).wait_for_server(true);
    Db::connect_with(nodes[0].address.to_string(), options).await.expect("connects")
}

fn fail_overs() -> usize {
    std::env::var("ZEOLITE_FAILOVERS").ok().and_then(|count| count.parse().ok()).unwrap_or(8)
}

/// So many servers, the first of them the primary; each knows the others.
async fn fleet(count: usize) -> Vec<Node> {
    let settings = ["replication.sync=1", "replication.wait_ms=60000"];
    let mut nodes = vec![Node::primary(&settings)];
    while nodes.len() < count {
        let known: Vec<_> = nodes.iter().map(|node| node.address).collect();
        nodes.push(Node::follower(&known, &settings));
    }
    for at in 1..count {
        nodes[at].kill();
        let peers = others(&nodes, at);
        nodes[at].follow(&peers, &[]);
    }
    nodes
}

/// Kills the primary, makes the follower that has most the next one, and brings the old one back. Gives the new one.
async fn fail_over(nodes: &mut [Node], primary: usize, discarded: &mut usize) -> usize {
    nodes[primary].kill();
    let mut best: Option<(usize, _)> = None;
    for at in (0..nodes.len()).filter(|at| *at != primary) {
        let newest = nodes[at].status().await.replication.newest;
        if best.is_none_or(|(_, most)| newest > most) {
            best = Some((at, newest));
        }
    }
    let (next, _) = best.expect("there is a follower");
    let promoted = nodes[next].admin().await.expect("connects").promote(false, false).await;
    assert!(promoted.expect("promoted").term > 0);
    let peers = others(nodes, primary);
    nodes[primary].follow(&peers, &[]);
    comes_back(nodes, primary, discarded).await;
    next
}

/// Makes a follower the next primary while the old one lives and has commits on their way: by a word, or the old one hands over. Gives the
/// new one.
async fn push_aside(nodes: &mut [Node], primary: usize, hand_over: bool, discarded: &mut usize) -> usize {
    let next = (primary + 1) % nodes.len();
    nodes[next].until_follows(nodes[primary].address).await;
    let promoted = nodes[next].admin().await.expect("connects").promote(!hand_over, hand_over).await;
    assert!(promoted.expect("promoted").term > 0);
    comes_back(nodes, primary, discarded).await;
    next
}

/// Waits until an old primary follows the new one; if it has commits of its own, begins it anew.
async fn comes_back(nodes: &mut [Node], primary: usize, discarded: &mut usize) {
    let peers = others(nodes, primary);
    let stands = |now: &zeolite_client::Replication| {
        now.connected && now.seat == Seat::Follower
            || now.problem.as_ref().is_some_and(|why| why.contains("--discard-own"))
    };
    let back = nodes[primary].until("back", stands).await;
    if !back.connected {
        // What no follower had was never acknowledged; it is kept aside.
        nodes[primary].kill();
        nodes[primary].follow(&peers, &["--discard-own"]);
        let aside = std::fs::read_dir(nodes[primary].dir()).expect("there").flatten();
        let aside: Vec<_> = aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("aside-")).collect();
        assert!(!aside.is_empty(), "it is kept");
        aside.iter().for_each(|entry| std::fs::remove_dir_all(entry.path()).expect("this test's own"));
        *discarded += 1;
    }
}

/// What becomes of the primary.
#[derive(Clone, Copy, PartialEq, Debug)]
enum How {
    Killed,
    PushedAside,
    HandsOver,
}

#[expect(clippy::print_stdout, reason = "a test tells what it has done")]
async fn fails_over(servers: usize, times: usize, how: How) {
    let mut nodes = fleet(servers).await;
    let (recorder, shared) = (Recorder::new(), Arc::new(Shared::default()));
    let maker = connect(&nodes, "maker").await;
    let objects = Objects::make(&maker, Kind::Merging).await;
    let mut tasks = Vec::new();
    for n in 0..CLIENTS {
        let name = format!("client {n}");
        let db = connect(&nodes, &name).await;
        let (log, recorder, objects) = (recorder.client(&name), recorder.clone(), objects.clone());
        let client = work::Client { db, log, recorder, objects };
        tasks.push(tokio::spawn(client.work(Kind::Merging, n as u64, shared.clone())));
    }
    let seed = std::env::var("ZEOLITE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut watch = maker.watch_all();
    let (mut primary, mut discarded) = (0, 0);
    for time in 0..=times {
        let wanted = shared.acknowledged.load(Ordering::SeqCst) + dice.usize(1..=COMMITS_MAX);
        while shared.acknowledged.load(Ordering::SeqCst) < wanted {
            // Each commit wakes this up; the limit is for a fleet that has died by itself.
            tokio::time::timeout(GUARD, watch.next()).await.expect("commits go on").expect("the watch goes on");
        }
        if time < times {
            // The first one was started to follow nobody.
            primary = match if time == 0 { How::Killed } else { how } {
                How::Killed => fail_over(&mut nodes, primary, &mut discarded).await,
                how => push_aside(&mut nodes, primary, how == How::HandsOver, &mut discarded).await,
            };
        }
    }
    shared.done.store(true, Ordering::SeqCst);
    for task in tasks {
        tokio::time::timeout(GUARD, task).await.expect("clients end").expect("no client panics");
    }
    let db = connect(&nodes, "last").await;
    let last = work::Client { db, log: recorder.client("last"), recorder: recorder.clone(), objects };
    let counters = last.read_everything(Kind::Merging).await.expect("reads");
    let history = recorder.history();
    let rules = Rules { lists_merge: true, ..Rules::default() };
    let summary = snapshot::check(&history, &rules).unwrap_or_else(|violations| panic!("{violations}"));
    let sums = counter::check(&history, &counters).unwrap_or_else(|violations| panic!("{violations}"));
    sets::check(&history).unwrap_or_else(|violations| panic!("{violations}"));
    let asked = shared.asked.load(Ordering::SeqCst);
    println!(
        "seed {seed}, {servers} servers, {times} fail-overs ({how:?}): {summary:?}, {asked} asked for, {discarded} old primaries had more"
    );
    assert_eq!(sums.committed, summary.committed);
    for node in nodes.iter().filter(|node| node.runs()) {
        let db = Db::connect(node.address.to_string()).await.expect("connects");
        let problems = work::verify(&db).await;
        assert!(problems.is_empty(), "{}: {problems:?}", node.address);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_over_fail_overs_of_two_servers() {
    fails_over(2, fail_overs(), How::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_over_fail_overs_of_three_servers() {
    fails_over(3, fail_overs(), How::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_a_living_primary_is_pushed_aside() {
    fails_over(2, fail_overs(), How::PushedAside).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_primary_hands_over_under_load() {
    fails_over(3, fail_overs(), How::HandsOver).await;
}
