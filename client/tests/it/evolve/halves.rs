//! Faults between two commits of one operation: what is there is half of it, and harms nobody.

use crate::site::{Site, Upgrade, job};
use crate::support::within;
use zeolite_client::evolve::{self, JobRecord, Phase, Plan, Worker};
use zeolite_client::{Cell, FaultKind, ModeEnd, ModeKind, PackOptions, Ref};

/// A plan writes down what it covers before its job is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_was_cut_off_behind_its_lists_leaves_nothing_that_anybody_sees() {
    let site = Site::with_pages(20).await;
    let db = site.worker_db().await;
    let whole = evolve::plan(&db, job("whole").plan(Plan::class("Page"))).await.expect("plans");
    db.newest().await.expect("answers");
    let list = db.now().get(&Cell::entry(whole.oid(), "list/000000")).await.expect("reads").expect("is there");
    let half = db.new_oid().await.expect("an oid");
    let cells: Vec<Cell> = (0..3).map(|number| Cell::entry(half, format!("list/{number:06}"))).collect();
    db.run(async |tx| cells.iter().try_for_each(|cell| tx.put(cell.clone(), &list))).await.expect("writes");
    let admin = site.world.db().await.admin();
    let mut verify = admin.verify().await.expect("answers");
    while let Some(progress) = within(verify.next()).await.expect("verifies") {
        assert!(progress.problems.is_empty(), "{progress:?}");
    }
    let names: Vec<String> = evolve::list(&db).await.expect("lists").iter().map(|job| job.name().to_owned()).collect();
    assert_eq!(names, ["whole"]);
    let other = evolve::plan(&db, job("half").plan(Plan::class("Page"))).await.expect("plans again");
    assert_eq!(other.record().await.expect("reads").total, 20);
    let mut pack = admin.pack(PackOptions::default()).await.expect("answers");
    while within(pack.next()).await.expect("packs").is_some() {}
}

/// A worker binds its job to the step, and then starts it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_bound_and_not_begun_is_its_steps_and_nobody_elses() {
    let site = Site::with_pages(10).await;
    let db = site.worker_db().await;
    let bound = evolve::plan(&db, job("bound")).await.expect("plans");
    let waits = evolve::plan(&db, job("waits")).await.expect("plans");
    let reference = Ref::<JobRecord>::new(bound.oid());
    let bind = db
        .transaction()
        .fresh()
        .run(async |tx| tx.update(reference, |job| job.step = "pages to version 2".into()).await);
    bind.await.expect("writes");
    let step = || Upgrade { counter: site.counter };
    let refused = within(Worker::new(&waits).run(step())).await.expect_err("somebody may be at work");
    assert!(
        refused.to_string().contains("\"bound\" over objects of class Page below version 2 is planned"),
        "{refused}"
    );
    let report = within(Worker::new(&bound).run(step())).await.expect("goes on");
    assert_eq!((report.phase, report.counts.changed), (Phase::Done, 10));
    assert_eq!(within(Worker::new(&waits).run(step())).await.expect("now it may").phase, Phase::Done);
    assert_eq!(site.stepped().await, 10);
}

/// The first that a worker does is a write.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_begun_while_nobody_may_write_waits() {
    let site = Site::with_pages(10).await;
    let db = site.worker_db().await;
    let planned = evolve::plan(&db, job("pages")).await.expect("plans");
    let operator = site.world.db().await;
    operator.admin().set_mode(ModeKind::ReadOnly, "backup", ModeEnd::Never).await.expect("sets");
    let running = tokio::spawn(Worker::new(&planned).run(Upgrade { counter: site.counter }));
    for _ in 0..50 {
        let refused = db.run(async |tx| site.counter.add(&tx, 1)).await.expect_err("nobody may write");
        assert_eq!(refused.kind(), Some(FaultKind::ReadOnly), "{refused}");
    }
    assert!(!running.is_finished());
    operator.admin().set_mode(ModeKind::Normal, "", ModeEnd::Never).await.expect("sets");
    let report = within(running).await.expect("no panic").expect("waits");
    assert_eq!((report.phase, site.stepped().await), (Phase::Done, 10));
}
