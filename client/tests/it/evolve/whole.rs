//! The whole plan as one commit: beside live writers of the same objects, and taken back as one.

use crate::site::{OldPage, Page, Site, Upgrade, job};
use crate::support::within;
use zeolite_client::evolve::{self, Phase, Stepped, Worker};
use zeolite_client::{Error, Persistent, Record, Ref};

#[tokio::test(flavor = "multi_thread")]
async fn it_is_one_commit_beside_writers_of_the_same_objects() {
    let site = Site::with_pages(2000).await;
    let db = site.worker_db().await;
    let mut new = job("pages");
    new.settings.atomic = true;
    let planned = evolve::plan(&db, new.clone()).await.expect("plans");
    let broken = evolve::with("broken", |_, _, old: Record| {
        Box::pin(async move {
            let page = Page::upgrade(old.version, &old.data)?;
            match page.text.as_str() {
                "page 1500" => Err(Error::app("not this one")),
                _ => Ok(Stepped::Delete),
            }
        })
    });
    let report = within(Worker::new(&planned).run(broken)).await.expect("runs");
    assert_eq!(report.phase, Phase::Failed);
    assert!(planned.record().await.expect("reads").reason.contains("not this one"));
    let live = site.live(3).await;
    new.name = "again".into();
    let planned = evolve::plan(&db, new).await.expect("plans");
    let report = within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect("runs");
    let (edits, conflicts) = live.stop().await;
    assert_eq!((report.phase, conflicts), (Phase::Done, 0), "{:?}", planned.record().await);
    let progress = planned.show().await.expect("shows");
    assert_eq!(progress.ranges[0].counts.chunks, 1, "{:?}", progress.ranges[0]);
    assert_eq!(progress.counts.changed as i64, site.stepped().await);
    assert_eq!(site.check().await, edits, "no edit is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_taken_back_as_one() {
    let site = Site::merging(300).await;
    let db = site.worker_db().await;
    let mut new = job("pages");
    new.settings.atomic = true;
    let planned = evolve::plan(&db, new).await.expect("plans");
    let report = within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect("runs");
    assert_eq!((report.phase, report.counts.changed), (Phase::Done, 300));
    planned.begin_undo().await.expect("begins");
    let report = within(Worker::new(&planned).undo()).await.expect("undoes");
    assert_eq!((report.phase, report.counts.changed, report.counts.bad), (Phase::Undone, 1, 0));
    assert_eq!(site.stepped().await, 0, "the counter too");
    db.newest().await.expect("answers");
    for page in &site.pages {
        let old: OldPage = db.now().load(Ref::new(page.oid())).await.expect("loads");
        assert!(old.text.starts_with("page "));
    }
    let kinds = db.admin().kinds().await.expect("tells");
    assert_eq!((kinds.below(Page::CLASS, 2), kinds.of(Page::CLASS)), (300, 300));
}
