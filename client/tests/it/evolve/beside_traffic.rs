//! Beside live writers: no conflict at any of them, no edit lost, every page stepped once; and beside other workers.

use crate::site::{Site, Upgrade, job};
use crate::support::within;
use zeolite_client::evolve::{self, Phase, Worker};

#[tokio::test(flavor = "multi_thread")]
async fn live_writers_never_conflict_and_lose_no_edit() {
    let site = Site::with_pages(3000).await;
    let live = site.live(4).await;
    let db = site.worker_db().await;
    let planned = evolve::plan(&db, job("pages")).await.expect("plans");
    let report = within(Worker::new(&planned).tasks(3).run(Upgrade { counter: site.counter })).await.expect("runs");
    let (edits, conflicts) = live.stop().await;
    assert_eq!(report.phase, Phase::Done, "{:?}", planned.record().await);
    assert!(edits > 50, "{edits} edits only: the evolve ran alone");
    assert_eq!(conflicts, 0, "of {edits} edits");
    assert_eq!(site.check().await, edits, "no edit is lost");
    let show = planned.show().await.expect("shows");
    let counts = show.counts;
    assert_eq!((counts.changed - show.taken_back) as i64, site.stepped().await, "{counts:?}");
    let total = planned.record().await.expect("reads").total;
    // What live writers had changed before it was even listed is not counted.
    assert!(counts.changed + counts.found_done <= total && total <= 3000, "{counts:?} {total}");
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
