//! Very many sessions, and those of clients that do not read.

use super::proxy::{Proxy, Way};
use super::scene::{Scene, put};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::{Duration, Instant};
use zeolite_client::{Cell, Change, Db, Options};

/// Of the server, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux tells");
    let behind_name = stat.rsplit_once(") ").expect("a name").1;
    behind_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("told");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn idle() -> Options {
    Options::new().cache_bytes(0).request_timeout(Duration::from_secs(60))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_sessions_cost_little_and_two_hundred_busy_ones_work_beside_them() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    let scene = Scene::start(&["sessions.sessions_max=2000", "sessions.connections_max=2000"]).await;
    let (address, pid) = (scene.served().address.clone(), scene.served().pid());
    let before_kib = resident_kib(pid);
    let mut sessions = Vec::new();
    for _ in 0..1000 {
        sessions.push(Db::connect_with(&address, idle()).await.expect("connects"));
    }
    let each_kib = (resident_kib(pid).saturating_sub(before_kib)) as f64 / 1000.0;
    assert_eq!(scene.status()["sessions"], 1001);
    let busy = (0..200_u8).map(|n| {
        let address = address.clone();
        tokio::spawn(async move {
            let db = Db::connect_with(&address, idle()).await.expect("connects");
            let cell = Cell::object(db.new_oid().await.expect("an oid"));
            for _ in 0..5 {
                put(&db, &cell, &[n; 100]).await.expect("commits");
            }
        })
    });
    for busy in busy.collect::<Vec<_>>() {
        busy.await.expect("all of them");
    }
    assert_eq!(scene.status()["commits"].as_u64().map(|commits| commits >= 1000), Some(true));
    // Nobody does anything any more: a client that waits for news for three seconds hears none.
    scene.until(|status| status["sessions"] == 1001 && status["unsettled_bytes"] == 0);
    let mut news = sessions[0].watch_all();
    while tokio::time::timeout(Duration::from_secs(1), news.next()).await.is_ok() {}
    let (since, begun) = (Instant::now(), ticks(pid));
    drop(tokio::time::timeout(Duration::from_secs(3), news.next()).await);
    let percent =
        (ticks(pid) - begun) as f64 / rustix::param::clock_ticks_per_second() as f64 / since.elapsed().as_secs_f64()
            * 100.0;
    println!("1,000 idle sessions: {percent:.2} % of a core, {each_kib:.0} KiB each; in all {} KiB", resident_kib(pid));
    assert!(percent < 10.0 && each_kib < 200.0, "{percent} % of a core, {each_kib} KiB each");
    // All of them hear.
    let cell = scene.cell().await;
    put(&scene.db, &cell, b"news").await.expect("commits");
    let told = scene.db.newest().await.expect("told");
    for db in &sessions {
        assert!(db.newest().await.expect("answers") >= told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_its_feed_is_cut_and_nobody_waits_for_it() {
    // Several commits wait before it is cut: their queue is seen.
    let scene = Scene::start(&["sessions.feed_queue_bytes_max=1MiB", "sessions.cut_linger_ms=200"]).await;
    let proxy = Proxy::to(&scene.served().address).await;
    // Nothing has ever been committed when it begins to listen.
    let deaf = Db::connect_with(&proxy.address, idle()).await.expect("connects");
    let mut news = deaf.watch_all();
    assert!(news.begun().await);
    let cell = scene.cell().await;
    proxy.hold(&[Way::ToClient]);
    let mut longest = 0.0_f64;
    let mut commits = 0;
    while scene.status()["sessions"] != 1 {
        let tx = scene.db.begin().await.expect("begins");
        // Keys that the feed has to name.
        for n in 0..400 {
            let key = format!("{n:0200}");
            tx.put(Cell::entry(cell.oid, key), &zeolite_client::Record::new("Thing", 1, "x")).expect("encodes");
        }
        tx.commit().await.expect("nobody waits");
        commits += 1;
        longest = longest.max(scene.number("zeolite_session_feed_queue_longest_bytes"));
    }
    println!("cut after {commits} commits; the longest queue was {longest} bytes");
    assert!(longest > 0.0 && longest < 2e6, "{longest}");
    // What it has missed it is told when it hears again: that it has, or what it was.
    let newest = scene.db.newest().await.expect("told");
    proxy.cut();
    let caught_up = async {
        loop {
            match news.next().await.expect("goes on") {
                Change::Missed { tid } | Change::Written { tid, .. } if tid >= newest => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), caught_up).await.expect("it hears of the newest");
    let record = deaf.now().get(&Cell::entry(cell.oid, format!("{:0200}", 7))).await.expect("reads");
    assert!(record.is_some());
}
