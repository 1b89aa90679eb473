//! Exactly once: workers that are dropped in the middle, a server that is restarted in the middle, two workers on one range.

use crate::site::{Site, Upgrade, job};
use crate::support::within;
use zeolite_client::evolve::{self, Job, Phase, Worker};

/// Waits until so many pages are done.
async fn until_done(job: &Job, pages: u64) {
    let mut watch = job.watch();
    while let Some(progress) = watch.next(std::time::Duration::ZERO).await.expect("tells") {
        if progress.done >= pages {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dropped_worker_left_is_taken_over_and_nothing_is_done_twice() {
    let site = Site::with_pages(2000).await;
    let db = site.worker_db().await;
    let planned = evolve::plan(&db, job("pages")).await.expect("plans");
    for part in 1..=4 {
        // A worker with a client of its own, which goes with it in the middle of whatever it does.
        let own = evolve::find(&site.worker_db().await, "pages").await.expect("is there");
        let worker = Worker::new(&own).named(format!("worker {part}")).tasks(2);
        let running = tokio::spawn(worker.run(Upgrade { counter: site.counter }));
        within(until_done(&planned, part * 300)).await;
        running.abort();
    }
    // And one that hangs in the middle of a chunk.
    let own = evolve::find(&site.worker_db().await, "pages").await.expect("is there");
    let hanging = evolve::with("hangs", |_, _, _| Box::pin(std::future::pending()));
    let running = tokio::spawn(Worker::new(&own).named("hangs").run(hanging));
    let mut watch = planned.watch();
    while !planned.show().await.expect("shows").workers.contains(&"hangs".to_owned()) {
        within(watch.next(std::time::Duration::ZERO)).await.expect("tells");
    }
    running.abort();
    let holders = planned.show().await.expect("shows").workers;
    let report = within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect("runs");
    assert_eq!(report.phase, Phase::Done);
    assert!(holders.contains(&"hangs".to_owned()), "{holders:?}");
    assert!(report.counts.changed < 2000, "{:?}", report.counts);
    assert_eq!((site.stepped().await, site.check().await), (2000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_in_the_middle_changes_nothing() {
    let mut site = Site::with_pages(2000).await;
    let db = site.worker_db().await;
    let planned = evolve::plan(&db, job("pages")).await.expect("plans");
    let running = tokio::spawn(Worker::new(&planned).tasks(2).run(Upgrade { counter: site.counter }));
    for part in 1..=3 {
        within(until_done(&planned, part * 400)).await;
        site.world.restart().await;
    }
    let report = within(running).await.expect("no panic").expect("runs");
    assert_eq!(report.phase, Phase::Done);
    assert_eq!((site.stepped().await, site.check().await), (2000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_share_the_ranges() {
    let site = Site::with_pages(2000).await;
    let planned = evolve::plan(&site.worker_db().await, job("pages")).await.expect("plans");
    let mut running = Vec::new();
    for number in 0..4 {
        let own = evolve::find(&site.worker_db().await, "pages").await.expect("is there");
        let worker = Worker::new(&own).named(format!("worker {number}"));
        running.push(tokio::spawn(worker.run(Upgrade { counter: site.counter })));
    }
    let mut done = 0;
    for worker in running {
        done += within(worker).await.expect("no panic").expect("runs").counts.done;
    }
    assert_eq!(done, 2000, "what one counts no other counts");
    assert_eq!(planned.record().await.expect("reads").phase, Phase::Done);
    assert_eq!((site.stepped().await, site.check().await), (2000, 0));
}
