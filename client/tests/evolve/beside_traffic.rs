//! Beside live writers: no conflict at any of them, no edit lost, every page stepped once, a certificate at the end.

use crate::site::{Site, Upgrade, job};
use crate::support::within;
use zeolite_client::evolve::{self, Phase, Worker};

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_site_is_migrated() {
    let site = Site::with_pages(1200).await;
    let db = site.worker_db().await;
    let planned = evolve::plan(&db, job("pages")).await.expect("plans");
    let progress = planned.show().await.expect("shows");
    assert_eq!((progress.total, progress.done, progress.state().as_str()), (1200, 0, "planned"));
    assert!(planned.ensure_done().await.is_err());
    let report = within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect("runs");
    assert_eq!((report.phase, report.counts.changed, report.counts.done), (Phase::Done, 1200, 1200));
    assert_eq!((site.stepped().await, site.check().await), (1200, 0));
    let certificate = planned.ensure_done().await.expect("done");
    assert_eq!((certificate.objects, certificate.changed), (1200, 1200));
    let progress = planned.show().await.expect("shows");
    assert_eq!((progress.total, progress.done, progress.state().as_str()), (1200, 1200, "done"));
    assert_eq!((progress.old, progress.workers.len()), (Some(0), 0));
    // Nothing is left to do for whoever comes late.
    let report = within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect("runs");
    assert_eq!((report.phase, report.counts.done), (Phase::Done, 0));
}

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
    let counts = planned.show().await.expect("shows").counts;
    assert_eq!(counts.changed as i64, site.stepped().await, "{counts:?}");
    let total = planned.record().await.expect("reads").total;
    // What live writers had changed before it was even listed is not counted.
    assert!(counts.changed + counts.found_done <= total && total <= 3000, "{counts:?} {total}");
}
