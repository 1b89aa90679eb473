//! Steering: pausing, resuming, cancelling and changing settings while it runs; the quarantine; old writers that are caught up.

use crate::site::{OldPage, Page, Site, Upgrade, job};
use crate::support::{GUARD, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use zeolite_client::evolve::{self, Job, NewJob, Phase, Step, Stepped, Worker};
use zeolite_client::{Cell, Change, Error, FaultKind, Persistent, Record, Ref, Tx};

/// An upgrade that goes as far as a test lets it.
#[derive(Clone)]
struct Gated {
    steps: Arc<Semaphore>,
    begun: Arc<AtomicU64>,
}

impl Gated {
    fn new(steps: usize) -> Gated {
        Gated { steps: Arc::new(Semaphore::new(steps)), begun: Arc::default() }
    }
}

impl Step for Gated {
    fn name(&self) -> String {
        "one by one".into()
    }

    async fn step(&self, _: &Tx, cell: &Cell, old: Record) -> Result<Stepped, Error> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.steps.acquire().await.expect("open").forget();
        let page = Page::upgrade(old.version, &old.data)?;
        let record = zeolite_client::registry::encode_record(&page)?;
        let _ = cell;
        Ok(Stepped::Replace(Record::decode(&record).expect("a record")))
    }
}

async fn until(job: &Job, reached: impl Fn(&evolve::Progress) -> bool) -> evolve::Progress {
    let mut watch = job.watch();
    loop {
        let progress = within(watch.next(Duration::ZERO)).await.expect("tells").expect("is open");
        if reached(&progress) {
            return progress;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_paused_changed_resumed_and_cancelled_while_it_runs() {
    let site = Site::with_pages(400).await;
    let db = site.worker_db().await;
    let mut new = job("pages");
    new.settings.chunk_objects_max = 10;
    new.settings.chunk_objects_start = 10;
    let planned = evolve::plan(&db, new).await.expect("plans");
    let step = Gated::new(35);
    let running = tokio::spawn(Worker::new(&planned).named("the worker").run(step.clone()));
    let progress = until(&planned, |progress| progress.done == 30).await;
    assert_eq!((progress.state().as_str(), &progress.workers[..]), ("running", &["the worker".to_owned()][..]));
    // Held in the middle of a chunk: the chunk is dropped or finished, and then nothing moves.
    planned.pause("the auditors are here", 0).await.expect("pauses");
    step.steps.add_permits(20);
    let progress = until(&planned, |progress| progress.workers.is_empty()).await;
    assert_eq!(progress.state(), "paused (the auditors are here)");
    assert!(progress.is_paused() && progress.done <= 40, "{progress:?}");
    let begun = step.begun.load(Ordering::Relaxed);
    planned.set("chunk_objects_max", "3").await.expect("sets");
    assert!(planned.set("chunk_objects_max", "many").await.is_err());
    assert_eq!(step.begun.load(Ordering::Relaxed), begun, "held");
    step.steps.add_permits(1000);
    planned.resume().await.expect("resumes");
    let before = progress.counts.chunks;
    let after = until(&planned, |now| now.done >= progress.done + 30).await;
    assert!(after.counts.chunks >= before + 10, "in small chunks now: {after:?}");
    planned.cancel("enough").await.expect("cancels");
    let report = within(running).await.expect("no panic").expect("runs");
    assert_eq!(
        (report.phase, planned.show().await.expect("shows").state().as_str()),
        (Phase::Cancelled, "cancelled (enough)")
    );
    assert!(planned.resume().await.is_err() && planned.pause("", 0).await.is_err());
    assert!(planned.ensure_done().await.expect_err("not done").to_string().contains("cancelled (enough)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_by_itself_and_a_worker_by_its_handle() {
    let site = Site::with_pages(100).await;
    let planned = evolve::plan(&site.worker_db().await, job("pages")).await.expect("plans");
    let soon = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64 + 300;
    planned.pause("for a moment", soon).await.expect("pauses");
    assert!(planned.show().await.expect("shows").state().starts_with("paused until"));
    let step = Gated::new(50);
    let worker = Worker::new(&planned);
    let stop = worker.stop_handle();
    let running = tokio::spawn(worker.run(step.clone()));
    until(&planned, |progress| progress.done >= 20).await;
    stop.stop();
    step.steps.add_permits(1000);
    let report = within(running).await.expect("no panic").expect("runs");
    assert!(report.phase == Phase::Running && report.counts.done < 100, "{report:?}");
    assert!(planned.show().await.expect("shows").workers.is_empty(), "the range was given back");
    let report = within(Worker::new(&planned).run(step)).await.expect("runs");
    assert_eq!(report.phase, Phase::Done);
    site.check().await;
}

/// Fails on every tenth page until it is mended.
struct Fragile {
    mended: Arc<AtomicBool>,
    site: Upgrade,
}

impl Step for Fragile {
    fn name(&self) -> String {
        "fragile".into()
    }

    async fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Stepped, Error> {
        if !self.mended.load(Ordering::Acquire) {
            let page = Page::upgrade(old.version, &old.data)?;
            let number: u64 = page.text.trim_start_matches("page ").parse().map_err(Error::app)?;
            match number % 20 {
                0 => return Err(Error::app(format!("page {} is cursed", number % 40))),
                10 => panic!("cannot stand {number}"),
                _ => {}
            }
        }
        self.site.step(tx, cell, old).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_goes_to_the_quarantine_and_is_tried_again_on_request() {
    let site = Site::with_pages(200).await;
    let planned = evolve::plan(&site.worker_db().await, job("pages")).await.expect("plans");
    let mended = Arc::new(AtomicBool::new(false));
    let step = || Fragile { mended: mended.clone(), site: Upgrade { counter: site.counter } };
    let report = within(Worker::new(&planned).tasks(2).run(step())).await.expect("runs");
    assert_eq!((report.phase, report.counts.bad), (Phase::Failed, 20));
    let progress = planned.show().await.expect("shows");
    assert_eq!(progress.state(), "failed (20 objects are in the quarantine)");
    assert_eq!((progress.counts.changed, progress.old), (180, Some(20)));
    let bad = planned.quarantine(100).await.expect("lists");
    assert_eq!(bad.len(), 20);
    assert_eq!(bad.iter().filter(|bad| bad.error.contains("cursed")).count(), 10);
    assert_eq!(bad.iter().filter(|bad| bad.error.contains("panicked: cannot stand")).count(), 10, "{bad:?}");
    assert!(bad.iter().all(|bad| bad.class == "Page" && bad.version == 1));
    // Nothing has been mended: the same list again, and nobody is stepped twice.
    planned.resume().await.expect("resumes");
    let report = within(Worker::new(&planned).run(step())).await.expect("runs");
    assert_eq!((report.phase, report.counts.changed), (Phase::Failed, 0));
    assert_eq!(planned.quarantine(100).await.expect("lists").len(), 20);
    mended.store(true, Ordering::Release);
    planned.resume().await.expect("resumes");
    let report = within(Worker::new(&planned).run(step())).await.expect("runs");
    assert_eq!((report.phase, report.counts.changed), (Phase::Done, 20), "{:?}", planned.show().await);
    assert!(planned.quarantine(100).await.expect("lists").is_empty());
    assert_eq!((site.stepped().await, site.check().await), (200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_failures_end_the_job() {
    let site = Site::with_pages(400).await;
    let mut new = job("pages");
    new.settings.bad_max = 5;
    let planned = evolve::plan(&site.worker_db().await, new).await.expect("plans");
    let step = evolve::map("never", |_| Err(Error::app("no")));
    let report = within(Worker::new(&planned).run(step)).await.expect("runs");
    assert_eq!(report.phase, Phase::Failed);
    let progress = planned.show().await.expect("shows");
    assert!(progress.job.reason.contains("over the limit 5") && progress.counts.bad < 100, "{progress:?}");
}

/// The gate closes in the end, is told to old code, and opens for an undo.
#[tokio::test(flavor = "multi_thread")]
async fn the_gate_closes_behind_the_last_old_page() {
    let site = Site::with_pages(300).await;
    let db = site.worker_db().await;
    let planned = evolve::plan(&db, NewJob { gate: true, ..job("pages") }).await.expect("plans");
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
    let step = Gated::new(0);
    let running = tokio::spawn(Worker::new(&planned).run(step.clone()));
    // A page at a time, until the worker has looked.
    let mut watch = planned.watch();
    while planned.record().await.expect("reads").snapshot == first {
        step.steps.add_permits(1);
        within(watch.next(Duration::from_millis(50))).await.expect("tells");
    }
    step.steps.add_permits(1000);
    let report = within(running).await.expect("no panic").expect("runs");
    assert_eq!((report.phase, report.counts.changed), (Phase::Done, 300));
    site.check().await;
}

/// Old code goes on writing the old shape while the job runs: it is caught up until nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn old_writers_are_caught_up() {
    let site = Site::with_pages(600).await;
    let planned = evolve::plan(&site.worker_db().await, job("pages")).await.expect("plans");
    let old_code = site.world.db().await;
    let running = tokio::spawn(Worker::new(&planned).run(Upgrade { counter: site.counter }));
    until(&planned, |progress| progress.done >= 300).await;
    for (rewritten, page) in site.pages.iter().take(50).enumerate() {
        let old: Ref<OldPage> = Ref::new(page.oid());
        // New objects in the old shape as well.
        let text = format!("made by old code {rewritten}");
        old_code.run(async |tx| tx.set(old, &OldPage { text: text.clone(), edits: 0 })).await.expect("writes");
        old_code.run(async |tx| tx.create(&OldPage { text: text.clone(), edits: 0 }).await).await.expect("writes");
    }
    let report = within(running).await.expect("no panic").expect("runs");
    if report.phase == Phase::Done {
        // It may have ended before the last ones: then they are the next job's.
        let again = evolve::plan(&site.worker_db().await, job("the rest")).await.expect("plans");
        within(Worker::new(&again).run(Upgrade { counter: site.counter })).await.expect("runs");
    }
    let kinds = old_code.admin().kinds().await.expect("answers");
    let count =
        |version| kinds.iter().filter(|k| k.class == "Page" && k.version == version).map(|k| k.objects).sum::<u64>();
    assert_eq!((count(1), count(2)), (0, 650));
    assert!(site.stepped().await >= 650);
    assert!(old_code.wait_for(old_code.newest().await.expect("answers"), GUARD).await);
}
