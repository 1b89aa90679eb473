//! What nobody takes goes to the quarantine, object by object: no worker ends without the ledger saying why.

use crate::site::{Page, Site, job};
use crate::support::within;
use zeolite_client::collections::{Bounded, BoundedCounter};
use zeolite_client::evolve::{self, Phase, Stepped, Worker};
use zeolite_client::typed::encode_record;
use zeolite_client::{Persistent, Record};

/// Steps that add to one counter are folded in a chunk: what does not fit between its bounds is refused before anything is sent,
/// for a chunk of two, and by the server for a chunk of one.
#[tokio::test(flavor = "multi_thread")]
async fn operations_that_are_refused_end_in_the_quarantine_and_not_the_worker() {
    let site = Site::with_pages(12).await;
    let db = site.world.db().await;
    let room = db.run(async |tx| BoundedCounter::create(&tx, Bounded { value: 0, low: 0, high: 5 }).await);
    let room = room.await.expect("creates");
    let planned = evolve::plan(&site.worker_db().await, job("pages")).await.expect("plans");
    let step = evolve::with("takes room", move |tx, _, old: Record| {
        Box::pin(async move {
            room.add(tx, 1)?;
            let page = Page::upgrade(old.version, &old.data)?;
            Ok(Stepped::Replace(Record::decode(&encode_record(&page)?).expect("a record")))
        })
    });
    let report = within(Worker::new(&planned).run(step)).await.expect("the worker ends in order");
    assert_eq!((report.phase, report.counts.done, report.counts.bad), (Phase::Failed, 12, 7));
    let bad = planned.quarantine(100).await.expect("reads");
    assert_eq!(bad.len(), 7);
    assert!(bad.iter().all(|bad| bad.error.contains("outside 0..=5")), "{}", bad[0].error);
    let record = planned.record().await.expect("reads");
    assert!(record.reason.contains("7 objects are in the quarantine"), "{}", record.reason);
    db.newest().await.expect("answers");
    assert_eq!(room.get(&db.now()).await.expect("reads").value, 5);
}
