//! How a job went is written with it: the first sample of a range in the commit of its first chunk.

use crate::site::{Site, Upgrade, job};
use crate::support::within;
use std::sync::Arc;
use tokio::sync::Notify;
use zeolite_client::evolve::{self, CourseSample, Phase, Step, Stepped, Worker};
use zeolite_client::{Cell, Record, Result, Tx};
use zeolite_proto::evolve::CourseRecord;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_chunk_of_a_range_carries_its_course() {
    let site = Site::with_pages(100).await;
    let db = site.worker_db().await;
    let mut new = job("pages");
    new.settings.ranges = 4;
    let planned = evolve::plan(&db, new).await.expect("plans");
    let ended = within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect("runs");
    assert_eq!(ended.phase, Phase::Done);
    db.newest().await.expect("answers");
    let log = db.admin().log(None, None, None, false).await.expect("answers").collect().await.expect("reads");
    let mut carried = 0;
    for range in 0..4 {
        let key = |what: &str| Cell::entry(planned.oid(), format!("{what}/{range:04}"));
        let Some(first) = log.iter().find(|of| of.writes.iter().any(|write| write.cell == key("course"))) else {
            continue;
        };
        let wrote = |cell: &Cell| first.writes.iter().any(|write| write.cell == *cell);
        assert!(wrote(&key("range")), "range {range}: a commit for its course alone");
        assert!(site.pages.iter().any(|page| wrote(&page.cell())), "range {range}: with what it stepped");
        carried += 1;
    }
    assert!(carried > 0);
    let course = planned.course().await.expect("reads").work;
    let done: Vec<u64> = course.iter().map(|sample| sample.counts.done).collect();
    assert!(done.is_sorted() && *done.last().expect("some") > 0, "{done:?}");
    assert_eq!((site.stepped().await, site.check().await), (100, 0));
}

/// Waits in its first step.
struct Held {
    upgrade: Upgrade,
    steps: Arc<Notify>,
    goes_on: Arc<Notify>,
}

impl Step for Held {
    fn name(&self) -> String {
        self.upgrade.name()
    }

    async fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Stepped> {
        self.steps.notify_one();
        self.goes_on.notified().await;
        self.goes_on.notify_one();
        self.upgrade.step(tx, cell, old).await
    }
}

/// A sample of whoever held the range before comes late.
#[tokio::test(flavor = "multi_thread")]
async fn a_course_that_somebody_else_has_begun_is_gone_on_with() {
    let site = Site::with_pages(30).await;
    let db = site.worker_db().await;
    let mut new = job("pages");
    (new.settings.ranges, new.settings.lease_ms) = (1, 600_000);
    let planned = evolve::plan(&db, new).await.expect("plans");
    let (steps, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let step = Held { upgrade: Upgrade { counter: site.counter }, steps: steps.clone(), goes_on: goes_on.clone() };
    let running = tokio::spawn(Worker::new(&planned).run(step));
    within(steps.notified()).await;
    let late = CourseSample { tid: db.position().0, live_p99_us: 4711, ..CourseSample::default() };
    let late = CourseRecord { samples: vec![late], ..CourseRecord::default() };
    let late = Record::decode(&zeolite_client::typed::encode_record(&late).expect("encodes")).expect("decodes");
    let cell = Cell::entry(planned.oid(), "course/0000");
    let other = site.world.db().await;
    other.run(async |tx| tx.put(cell.clone(), &late)).await.expect("commits");
    goes_on.notify_one();
    let ended = within(running).await.expect("no panic").expect("runs");
    assert_eq!((ended.phase, ended.counts.changed), (Phase::Done, 30));
    assert_eq!((site.stepped().await, site.check().await), (30, 0));
    let course = planned.course().await.expect("reads").work;
    assert_eq!(course[0].live_p99_us, 4711, "{course:?}");
}
