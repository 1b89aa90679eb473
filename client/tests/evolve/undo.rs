//! Undo: a whole job is taken back as a set, beside and after live edits; what cannot be is left whole, and listed.

use crate::site::{OldPage, Page, Site, Upgrade, job};
use crate::support::within;
use zeolite_client::collections::{Counter, Index};
use zeolite_client::evolve::{self, Job, Phase, Stepped, Worker};
use zeolite_client::{Persistent, Record, Ref};

async fn taken_back(job: &Job) -> evolve::Report {
    job.begin_undo().await.expect("begins");
    within(Worker::new(job).undo()).await.expect("undoes")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_taken_back_as_a_set() {
    let site = Site::with_pages(500).await;
    let db = site.worker_db().await;
    let index: Index<u64, Page> = db.run(async |tx| tx.root_or_create("by length").await).await.expect("makes");
    let planned = evolve::plan(&db, job("pages")).await.expect("plans");
    let step = evolve::with("index", move |tx, cell, old: Record| {
        Box::pin(async move {
            let page = Page::upgrade(old.version, &old.data)?;
            index.insert(tx, &page.length, Ref::new(cell.oid))?;
            Ok(Stepped::Replace(Record::decode(&zeolite_client::registry::encode_record(&page)?).expect("a record")))
        })
    });
    within(Worker::new(&planned).tasks(2).run(step)).await.expect("runs");
    // Live edits since: of one page, and a page that was deleted.
    let (edited, deleted) = (site.pages[10], site.pages[20]);
    db.run(async |tx| {
        tx.update(edited, |page| page.text.push('?')).await?;
        tx.remove(deleted)
    })
    .await
    .expect("edits");
    let report = taken_back(&planned).await;
    assert_eq!((report.phase, report.counts.changed, report.counts.bad), (Phase::Undone, 498, 2));
    let left = planned.not_undone(10).await.expect("lists");
    let mut oids: Vec<u64> =
        left.iter().map(|left| left.cells.iter().find(|cell| cell.1.is_empty()).expect("a page").0).collect();
    oids.sort_unstable();
    let mut expected = [edited.oid().0, deleted.oid().0];
    expected.sort_unstable();
    assert_eq!(oids, expected, "{left:?}");
    db.newest().await.expect("answers");
    let view = db.now();
    for (number, page) in site.pages.iter().enumerate() {
        if number == 20 {
            continue;
        }
        let record = view.get(&page.cell()).await.expect("reads").expect("is there");
        let length = format!("page {number}").len() as u64;
        let indexed = index.contains(&view, &length, *page).await.expect("reads");
        // A group goes back as a whole or stays as a whole.
        assert_eq!((record.version, indexed), if number == 10 { (2, true) } else { (1, false) }, "{number}");
        if number != 10 {
            let old: OldPage = view.load(Ref::new(page.oid())).await.expect("loads");
            assert_eq!(old.text, format!("page {number}"));
        }
    }
    assert!(index.contains(&view, &7, deleted).await.expect("reads"), "the group of the deleted page stays");
    assert_eq!(planned.show().await.expect("shows").state(), "undone (2 groups of steps could not be taken back)");
}

/// Counters are merged with what live writers have added since; a group that shares one is a whole chunk.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_merges_with_later_live_writes_and_survives_its_workers() {
    let site = Site::with_pages(1000).await;
    let db = site.worker_db().await;
    let counter = Counter::new(zeolite_client::Handle::oid(&site.counter));
    db.run(async |tx| counter.add(&tx, 5)).await.expect("adds");
    let planned = evolve::plan(&db, job("pages")).await.expect("plans");
    within(Worker::new(&planned).tasks(2).run(Upgrade { counter })).await.expect("runs");
    assert_eq!(site.stepped().await, 1005);
    db.run(async |tx| counter.add(&tx, 100)).await.expect("adds");
    planned.begin_undo().await.expect("begins");
    let again = evolve::plan(&db, job("again")).await.expect("plans");
    assert_eq!(again.record().await.expect("reads").total, 0, "nothing is taken back yet");
    for _ in 0..3 {
        let own = evolve::find(&site.worker_db().await, "pages").await.expect("is there");
        let running = tokio::spawn(Worker::new(&own).undo());
        let mut watch = planned.watch();
        let before = planned.show().await.expect("shows").undo.expect("begun").counts.chunks;
        while let Some(now) = within(watch.next(std::time::Duration::ZERO)).await.expect("tells") {
            if now.job.phase == Phase::Undone || now.undo.expect("begun").counts.chunks > before {
                break;
            }
        }
        running.abort();
    }
    let report = within(Worker::new(&planned).undo()).await.expect("undoes");
    assert_eq!(report.phase, Phase::Undone);
    assert_eq!(planned.not_undone(10).await.expect("lists"), []);
    assert_eq!(site.stepped().await, 105, "only the job's own additions are gone");
    let kinds = db.admin().kinds().await.expect("answers");
    let count = |version| {
        kinds.iter().filter(|k| k.class == Page::CLASS && k.version == version).map(|k| k.objects).sum::<u64>()
    };
    assert_eq!((count(1), count(2)), (1000, 0));
    assert!(planned.begin_undo().await.is_ok(), "asking twice does no harm");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_must_be_cancelled_first() {
    let site = Site::with_pages(10).await;
    let planned = evolve::plan(&site.worker_db().await, job("pages")).await.expect("plans");
    let step = evolve::map("never", |_| Err(zeolite_client::Error::app("no")));
    within(Worker::new(&planned).run(step)).await.expect("runs");
    planned.resume().await.expect("resumes");
    assert!(planned.begin_undo().await.expect_err("it runs").to_string().contains("cancel it first"));
    planned.cancel("no").await.expect("cancels");
    let report = taken_back(&planned).await;
    assert_eq!((report.phase, report.counts.changed), (Phase::Undone, 0));
}
