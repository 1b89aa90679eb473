//! The real binary, killed in a loop under load: nothing acknowledged is lost, nothing is torn, nothing happens twice.
//!
//! ```text
//!   clients ── read lists, append, add ── gRPC ──> zeolite serve     kill -9, or TERM, and again on the same port
//!      └── what they saw and were told ──> history ──> checkers of snapshot isolation, serializability, sums, sets
//! ```
//! The clients never hear of the kills: the library connects again and sends again under the old commit keys. Only the hasty
//! one gives up early and asks what became of its commits; where nobody knew, the checkers allow for either, but not for both.
//! Beside them one packs all the time. `ZEOLITE_RUNS=100` runs each test so many times.

mod blobs;
mod server;
pub(crate) mod work;

use server::{End, Served};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use work::{COUNTERS, Kind, LISTS, Objects, Shared};
use zeolite_client::{Db, Options, Remedy};
use zeolite_tests::checker::{History, Recorder, Rules, counter, outside, serial, sets, snapshot};

const CLIENTS: usize = 4;

/// Nothing here takes this long: a test that hangs fails instead.
const GUARD: Duration = Duration::from_secs(180);

/// A run: which transactions, and how the server's lives end.
struct Plan {
    kind: Kind,
    /// All of these, so many times.
    ends: &'static [End],
    times: usize,
    /// So many commits are acknowledged in a life, at most.
    commits_per_life: usize,
}

/// What is left of a run.
struct Ran {
    served: Served,
    recorder: Recorder,
    objects: Objects,
    shared: Arc<Shared>,
}

fn patient(name: &str) -> Options {
    Options::new()
        .name(name)
        .request_timeout(GUARD)
        .backoff_min(Duration::from_millis(1))
        .backoff_max(Duration::from_millis(20))
}

fn hasty(name: &str) -> Options {
    patient(name).request_timeout(Duration::from_millis(4))
}

/// Connects, also who gives up early.
async fn connect(served: &Served, options: Options) -> Db {
    let connected = async {
        loop {
            match Db::connect_with(served.url(), options.clone()).await {
                Ok(db) => return db,
                Err(error) => assert_eq!(error.remedy(), Remedy::Wait, "{error}"),
            }
        }
    };
    tokio::time::timeout(GUARD, connected).await.expect("connects")
}

async fn run(plan: &Plan) -> Ran {
    let mut served = Served::start();
    let (recorder, shared) = (Recorder::new(), Arc::new(Shared::default()));
    let maker = connect(&served, patient("maker")).await;
    let objects = Objects::make(&maker, plan.kind).await;
    let mut tasks = vec![tokio::spawn(work::pack(connect(&served, patient("packer")).await, shared.clone()))];
    for n in 0..CLIENTS {
        let name = format!("client {n}");
        let db = connect(&served, if n == 0 { hasty(&name) } else { patient(&name) }).await;
        let (log, recorder, objects) = (recorder.client(&name), recorder.clone(), objects.clone());
        let client = work::Client { db, log, recorder, objects };
        tasks.push(tokio::spawn(client.work(plan.kind, n as u64, shared.clone())));
    }
    let mut dice = fastrand::Rng::with_seed(1);
    let mut watch = maker.watch_all();
    let ends = plan.ends.iter().cycle().take(plan.ends.len() * plan.times);
    for end in ends.map(Some).chain([None]) {
        let wanted = shared.acknowledged.load(Ordering::SeqCst) + dice.usize(1..=plan.commits_per_life);
        while shared.acknowledged.load(Ordering::SeqCst) < wanted {
            // Each commit wakes this up; the limit is for a server that has died by itself.
            tokio::time::timeout(GUARD, watch.next()).await.expect("commits go on").expect("the watch goes on");
        }
        if let Some(end) = end {
            served = served.end_and_start_again(*end);
        }
    }
    shared.done.store(true, Ordering::SeqCst);
    for task in tasks {
        tokio::time::timeout(GUARD, task).await.expect("clients end").expect("no client panics");
    }
    Ran { served, recorder, objects, shared }
}

/// A client that comes new reads everything, and the server verifies itself.
async fn last_look(ran: &Ran, kind: Kind) -> BTreeMap<u64, i64> {
    let Ran { served, recorder, objects, .. } = ran;
    let db = connect(served, patient("last")).await;
    let last = work::Client { db, log: recorder.client("last"), recorder: recorder.clone(), objects: objects.clone() };
    let counters = last.read_everything(kind).await.expect("reads");
    let problems = work::verify(&last.db).await;
    assert!(problems.is_empty(), "the log and the index: {problems:?}");
    counters
}

fn count(of: &AtomicUsize) -> usize {
    of.load(Ordering::SeqCst)
}

/// How often each test runs, with new data each time.
fn runs() -> usize {
    std::env::var("ZEOLITE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merging_clients_lose_nothing_to_kills() {
    let ends = &[End::Kill, End::HandOver, End::KillTwice, End::HandOver, End::HandOver, End::Term];
    let plan = Plan { kind: Kind::Merging, ends, times: 4, commits_per_life: 80 };
    for _ in 0..runs() {
        merged(&plan, &run(&plan).await).await;
    }
}

#[expect(clippy::print_stdout, reason = "a test tells what it has done")]
async fn merged(plan: &Plan, ran: &Ran) {
    let counters = last_look(ran, plan.kind).await;
    let history = ran.recorder.history();
    let rules = Rules { lists_merge: true, ..Rules::default() };
    let summary = snapshot::check(&history, &rules).unwrap_or_else(|violations| panic!("{violations}"));
    let sums = counter::check(&history, &counters).unwrap_or_else(|violations| panic!("{violations}"));
    let of_sets = sets::check(&history).unwrap_or_else(|violations| panic!("{violations}"));
    assert!(of_sets.reads >= summary.committed, "{of_sets:?}");
    let (asked, packs) = (count(&ran.shared.asked), count(&ran.shared.packs));
    println!("{summary:?}, {asked} asked for, {packs} packs");
    assert!(summary.committed >= 400 && summary.appends_seen >= 400 && summary.reads >= 1000, "{summary:?}");
    assert!(packs > 0, "packs come through");
    assert_eq!(sums.committed, summary.committed);
    assert_eq!(counters.len() as u64, COUNTERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serializable_clients_stay_serializable_across_kills() {
    let plan =
        Plan { kind: Kind::Serializable, ends: &[End::Kill, End::HandOver, End::Term], times: 4, commits_per_life: 60 };
    for _ in 0..runs() {
        let ran = run(&plan).await;
        let (history, rules) = judged_alone(&plan, &ran).await;
        let edges = serial::check(&history, &rules).unwrap_or_else(|violations| panic!("{violations}")).edges;
        serial::check_commit_order(&history).unwrap_or_else(|violations| panic!("{violations}"));
        outside::check(&history, "strict-serializable").unwrap_or_else(|found| panic!("{found}"));
        println!("{edges} edges");
        assert!(edges > 300, "{edges}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_stay_snapshots_across_kills() {
    let plan = Plan { kind: Kind::Snapshot, ends: &[End::Kill, End::Term], times: 4, commits_per_life: 60 };
    for _ in 0..runs() {
        let ran = run(&plan).await;
        let (history, _) = judged_alone(&plan, &ran).await;
        outside::check(&history, "strong-snapshot-isolation").unwrap_or_else(|found| panic!("{found}"));
    }
}

/// What holds for whoever reads and puts.
#[expect(clippy::print_stdout, reason = "a test tells what it has done")]
async fn judged_alone(plan: &Plan, ran: &Ran) -> (History, Rules) {
    last_look(ran, plan.kind).await;
    let history = ran.recorder.history();
    let rules = Rules { counters_conflict: true, real_time: true, ..Rules::default() };
    let summary = snapshot::check(&history, &rules).unwrap_or_else(|violations| panic!("{violations}"));
    let (asked, packs) = (count(&ran.shared.asked), count(&ran.shared.packs));
    println!("{:?}: {summary:?}, {LISTS} lists, {asked} asked for, {packs} packs", plan.kind);
    assert!(summary.committed >= 100 && summary.aborted > 0, "{summary:?}");
    (history, rules)
}
