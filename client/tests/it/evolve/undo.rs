//! Undo: a whole job is taken back as a set, beside and after live edits; what cannot be is left whole, and listed.

use crate::site::{OldPage, Page, Site, Upgrade, job};
use crate::support::within;
use zeolite_client::collections::Index;
use zeolite_client::evolve::{self, Job, Phase, Stepped, Worker};
use zeolite_client::typed::{encode_record, value_of};
use zeolite_client::{Cell, Persistent, Range, Record, Ref};

async fn taken_back(job: &Job) -> evolve::Report {
    job.begin_undo().await.expect("begins");
    within(Worker::new(job).undo()).await.expect("undoes")
}

/// On a server that merges, an edit keeps the object in the new shape: that is told, also if whoever took it back died before telling.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_resolver_leaves_in_the_new_shape_is_told_whoever_dies_when() {
    let site = Site::merging(30).await;
    let db = site.worker_db().await;
    let planned = evolve::plan(&db, job("pages")).await.expect("plans");
    within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect("runs");
    let edited = [site.pages[3], site.pages[29]];
    let live = site.live_db().await;
    let edit = live.run(async |tx| {
        for page in edited {
            tx.update(page, |page| page.edits += 1).await?;
        }
        Ok(())
    });
    edit.await.expect("edits");
    let report = taken_back(&planned).await;
    assert_eq!((report.phase, report.counts.bad, report.counts.kept), (Phase::Undone, 0, 2));
    let told = |left: &[evolve::NotUndone]| {
        assert!(left.iter().all(|left| left.reason.contains("version 2 of class \"Page\" is there now")), "{left:?}");
        let mut cells: Vec<u64> = left.iter().flat_map(|left| &left.cells).map(|cell| cell.0).collect();
        cells.sort_unstable();
        cells
    };
    let mut expected = edited.map(|page| page.oid().0);
    expected.sort_unstable();
    let left = planned.not_undone(10).await.expect("lists");
    assert_eq!(told(&left), expected);
    let state = planned.show().await.expect("shows").state();
    assert!(state.contains("2 objects are in another shape than before"), "{state}");

    // As it is when the last commit was taken back, and its worker was gone before it told anything.
    let oldest = left.iter().map(|left| left.tid).min().expect("one");
    let forget = db.transaction().fresh().run(async |tx| {
        for (number, left) in left.iter().enumerate().filter(|(_, left)| left.tid == oldest) {
            let mut entries = tx.scan(planned.oid(), Range::prefix(format!("undo/{:016x}/", left.tid)));
            let entry = entries.next().await?.unwrap_or_else(|| panic!("{number}"));
            tx.delete(Cell::entry(planned.oid(), entry.key))?;
        }
        let cell = Cell::entry(planned.oid(), "range/9999");
        let record = tx.get(&cell).await?.expect("is there");
        let mut range: evolve::RangeRecord = value_of(&cell, &record)?;
        (range.finished, range.counts.kept) = (false, range.counts.kept - 1);
        range.cursor = evolve::Cursor::Before(oldest);
        tx.put(cell, &Record::decode(&encode_record(&range)?).expect("a record"))?;
        let job = Ref::<evolve::JobRecord>::new(planned.oid());
        tx.update(job, |job| (job.phase, job.reason) = (Phase::Undoing, String::new())).await
    });
    forget.await.expect("writes");
    let changed = planned.show().await.expect("shows").undo.expect("begun").counts.changed;
    let report = within(Worker::new(&planned).undo()).await.expect("undoes");
    assert_eq!(report.phase, Phase::Undone);
    assert_eq!(told(&planned.not_undone(10).await.expect("lists")), expected);
    let undo = planned.show().await.expect("shows").undo.expect("begun");
    assert_eq!((undo.counts.kept, undo.counts.changed >= changed), (2, true), "{undo:?}");
}

/// Old code writes every page just when the undo has begun to look at them: whichever comes first, each page is in its old shape then.
#[tokio::test(flavor = "multi_thread")]
async fn what_old_code_writes_while_an_undo_looks_is_no_reason_to_leave_it() {
    for round in 0..6 {
        let site = Site::with_pages(40).await;
        let db = site.worker_db().await;
        let planned = evolve::plan(&db, job("pages")).await.expect("plans");
        within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect("runs");
        planned.begin_undo().await.expect("begins");
        let (go, mut writers) = (tokio::sync::watch::Sender::new(false), tokio::task::JoinSet::new());
        let live = site.world.db().await;
        for page in &site.pages {
            let (live, mut go, page) = (live.clone(), go.subscribe(), Ref::<OldPage>::new(page.oid()));
            writers.spawn(async move {
                go.wait_for(|go| *go).await.expect("the test goes on");
                let edited = OldPage { text: "by old code".into(), edits: 1 };
                live.transaction().fresh().run(async |tx| tx.set(page, &edited)).await.expect("commits");
            });
        }
        let mut changes = live.watch([planned.oid()]);
        let undo = tokio::spawn(Worker::new(&planned).undo());
        // It has taken its range.
        within(changes.next()).await.expect("the watch goes on");
        go.send_replace(true);
        while let Some(written) = within(writers.join_next()).await {
            written.expect("no panic");
        }
        let report = within(undo).await.expect("no panic").expect("undoes");
        let left = planned.not_undone(10).await.expect("lists");
        assert_eq!((report.phase, &left[..]), (Phase::Undone, &[][..]), "round {round}");
        let view = db.transaction().fresh().begin().await.expect("begins");
        for page in &site.pages {
            let old: OldPage = view.load(Ref::new(page.oid())).await.expect("old code can read it");
            assert_eq!(old.text, "by old code");
        }
        assert_eq!(site.stepped().await, 0, "what the steps had written elsewhere is taken back");
    }
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
