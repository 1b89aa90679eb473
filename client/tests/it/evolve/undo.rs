//! Undo: a whole job is taken back as a set, beside and after live edits; what cannot be is left whole, and listed.

use crate::site::{OldPage, Page, Site, job};
use crate::support::within;
use zeolite_client::collections::Index;
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
            Ok(Stepped::Replace(Record::decode(&zeolite_client::typed::encode_record(&page)?).expect("a record")))
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
