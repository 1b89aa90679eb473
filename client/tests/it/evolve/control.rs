//! The end of a job and its pin, against what never stops by itself: an old writer that always comes back, a pin that costs too much.
//! What can be shown step by step is in the golden scripts.

use crate::site::{OldPage, Page, Site, Upgrade, job};
use crate::support::{GUARD, within};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use zeolite_client::evolve::{self, Phase, Step, Worker};
use zeolite_client::{Change, FaultKind, Ref};

/// The gate closes in the end, is told to old code, and opens for an undo.
#[tokio::test(flavor = "multi_thread")]
async fn the_gate_closes_behind_the_last_old_page() {
    let site = Site::with_pages(300).await;
    let db = site.worker_db().await;
    let planned = evolve::plan(&db, job("pages").gate(true)).await.expect("plans");
    let old_code = site.world.db().await;
    let write_old = async |page: Ref<Page>| {
        let old: Ref<OldPage> = Ref::new(page.oid());
        old_code.run(async |tx| tx.set(old, &OldPage { text: "old".into(), edits: 0 })).await
    };
    let running = tokio::spawn(Worker::new(&planned).run(Upgrade { counter: site.counter }));
    let mut refused = None;
    // Whenever old code's last page was caught up, it writes another one: until the gate was faster.
    for page in site.pages.iter().cycle() {
        let mut changes = old_code.watch([page.oid()]);
        if let Err(error) = write_old(*page).await {
            refused = Some(error);
            break;
        }
        let version = async || old_code.now().get(&page.cell()).await.expect("reads").expect("is there").version;
        while version().await == 1 {
            // A change is told just before it can be read.
            if let Some(Change::Written { tid, .. }) = within(changes.next()).await {
                assert!(old_code.wait_for(tid, GUARD).await);
            }
        }
    }
    let report = within(running).await.expect("no panic").expect("runs");
    assert_eq!(report.phase, Phase::Done);
    let refused = refused.expect("refused in the end");
    assert_eq!(refused.kind(), Some(FaultKind::Gated), "{refused}");
    assert!(refused.to_string().contains("pages"), "names the job: {refused}");
    let certificate = planned.ensure_done().await.expect("done");
    let gates = db.admin().gates().await.expect("answers");
    assert_eq!((gates.len(), gates[0].min_version, gates[0].tid.0), (1, 2, certificate.gate_tid));
    assert_eq!((certificate.objects, planned.verify(&[]).await.expect("looks").problems_total), (300, 0));
    planned.begin_undo().await.expect("begins");
    assert!(db.admin().gates().await.expect("answers").is_empty());
    let report = within(Worker::new(&planned).undo()).await.expect("undoes");
    assert_eq!(report.phase, Phase::Undone);
    write_old(site.pages[0]).await.expect("old code may write again");
}

/// A job takes a newer snapshot when the old one keeps too much from pack, and goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_costs_too_much_is_renewed() {
    let site = Site::with_pages(300).await;
    let db = site.worker_db().await;
    let mut new = job("pages");
    new.settings.pin_bytes_max = 1;
    let planned = evolve::plan(&db, new).await.expect("plans");
    let first = planned.record().await.expect("reads").snapshot;
    let permits = Arc::new(Semaphore::new(0));
    let (upgrade, gate) = (Arc::new(Upgrade { counter: site.counter }), permits.clone());
    let step = evolve::with("one by one", move |tx, cell, old| {
        let (upgrade, gate) = (upgrade.clone(), gate.clone());
        Box::pin(async move {
            gate.acquire().await.expect("open").forget();
            upgrade.step(tx, cell, old).await
        })
    });
    let running = tokio::spawn(Worker::new(&planned).run(step));
    // A page at a time, until the worker has looked.
    let mut watch = planned.watch();
    while planned.record().await.expect("reads").snapshot == first {
        permits.add_permits(1);
        within(watch.next(Duration::from_millis(50))).await.expect("tells");
    }
    permits.add_permits(1000);
    let report = within(running).await.expect("no panic").expect("runs");
    assert_eq!((report.phase, report.counts.changed), (Phase::Done, 300));
    site.check().await;
}
