//! What a job covers is fixed by its plan, whatever is pinned anew, made meanwhile, or made by the step itself; and what it is bound
//! to by its first run.

use crate::site::{OldPage, Page, Site, Upgrade, job};
use crate::support::{World, within};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use zeolite_client::collections::Map;
use zeolite_client::evolve::{self, Job, NewJob, Part, Phase, Plan, RangeRecord, Step, Stepped, Worker};
use zeolite_client::typed::encode_record;
use zeolite_client::{Cell, Error, FaultKind, Handle, Oid, PackOptions, Persistent, Range, Record, Ref, Tid};
use zeolite_server::settings::Settings;

fn plan_of(name: &str, plan: Plan) -> NewJob {
    let mut new = job(name).plan(plan);
    (new.settings.chunk_objects_start, new.settings.chunk_objects_max) = (5, 5);
    new
}

/// Adds one to a page's edits, as far as a test lets it.
fn touch(permits: Arc<Semaphore>) -> impl Step {
    evolve::with("touch", move |tx, cell, _: Record| {
        let permits = permits.clone();
        Box::pin(async move {
            permits.acquire().await.expect("open").forget();
            tx.update(Ref::<OldPage>::new(cell.oid), |page| page.edits += 1).await?;
            Ok(Stepped::Keep)
        })
    })
}

/// Lets pages be stepped until the job has pinned a newer snapshot, and packs what was before it.
async fn until_pinned_anew(site: &Site, planned: &Job, permits: &Semaphore) {
    let first = Tid(planned.record().await.expect("reads").snapshot);
    let mut watch = planned.watch();
    while planned.record().await.expect("reads").snapshot == first.0 {
        permits.add_permits(1);
        within(watch.next(Duration::from_millis(50))).await.expect("tells");
    }
    // The former pin is given up behind the job's back: until the server knows, it holds a pack back.
    let admin = site.world.db().await.admin();
    let packed = async || {
        let mut pack = admin.pack(PackOptions::new().keep_garbage(true)).await.expect("answers");
        let mut held_back = false;
        while let Some(progress) = pack.next().await.expect("packs") {
            held_back |= progress.held_back.is_some();
        }
        !held_back
    };
    within(async { while !packed().await {} }).await;
    let gone = site.world.db().await.at(first).get(&Cell::object(Oid::ROOT)).await.expect_err("is packed away");
    assert_eq!(gone.kind(), Some(FaultKind::SnapshotPacked), "{gone}");
}

/// History is packed away up to the oldest pin.
fn packs_at_once(settings: &mut Settings) {
    (settings.engine.history_min_s, settings.engine.pin_grace_s) = (0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_were_made_since_the_plan_are_not_stepped_whatever_is_pinned() {
    let site = Site::on(World::start_with(packs_at_once).await, 0).await;
    let (live, db) = (site.world.db().await, site.worker_db().await);
    let (mut planned_pages, mut later) = (Vec::new(), Vec::new());
    for number in 0..100 {
        // Side by side in every range.
        let pages = if number % 5 < 3 { &mut planned_pages } else { &mut later };
        pages.push(Ref::<OldPage>::new(live.new_oid().await.expect("an oid")));
    }
    let page = OldPage { text: "page".into(), edits: 0 };
    live.run(async |tx| planned_pages.iter().try_for_each(|at| tx.set(*at, &page))).await.expect("makes");
    let mut new = plan_of("touch", Plan::class("Page"));
    new.settings.pin_bytes_max = 1;
    let planned = evolve::plan(&db, new).await.expect("plans");
    let permits = Arc::new(Semaphore::new(0));
    let running = tokio::spawn(Worker::new(&planned).run(touch(permits.clone())));
    live.run(async |tx| later.iter().try_for_each(|at| tx.set(*at, &page))).await.expect("makes");
    until_pinned_anew(&site, &planned, &permits).await;
    permits.add_permits(1000);
    let report = within(running).await.expect("no panic").expect("runs");
    let record = planned.record().await.expect("reads");
    assert_eq!((report.phase, report.counts.changed, record.total), (Phase::Done, 60, 60));
    assert!(record.snapshot > record.planned, "a newer one is pinned, and the plan is what it was");
    db.newest().await.expect("answers");
    let view = db.now();
    for page in later {
        assert_eq!(view.load(page).await.expect("loads").edits, 0);
    }
    for page in planned_pages {
        assert_eq!(view.load(page).await.expect("loads").edits, 1);
    }
    let certificate = planned.ensure_done().await.expect("done");
    assert_eq!((certificate.objects, certificate.changed), (60, 60));
}

/// It re-keys entries: each is made again under another key of the same collection, behind its own and before others.
#[tokio::test(flavor = "multi_thread")]
async fn entries_that_the_step_makes_itself_are_not_stepped() {
    let site = Site::on(World::start_with(packs_at_once).await, 0).await;
    let db = site.worker_db().await;
    let map: Map<String, u64> = db.run(async |tx| tx.root_or_create("numbers").await).await.expect("makes");
    let fill = db.run(async |tx| (0..50).try_for_each(|n| map.insert(&tx, &format!("{n:03}"), &n)));
    fill.await.expect("fills");
    let mut new = plan_of("rekey", Plan::entries(map.oid()));
    new.settings.pin_bytes_max = 1;
    let planned = evolve::plan(&db, new).await.expect("plans");
    let permits = Arc::new(Semaphore::new(0));
    let step = {
        let permits = permits.clone();
        evolve::with("rekey", move |tx, cell, _: Record| {
            let permits = permits.clone();
            Box::pin(async move {
                permits.acquire().await.expect("open").forget();
                let key = String::from_utf8_lossy(&cell.key).into_owned();
                let value = map.get(tx, &key).await?.expect("is there");
                map.insert(tx, &format!("{key}'"), &(value + 100))?;
                Ok(Stepped::Delete)
            })
        })
    };
    let running = tokio::spawn(Worker::new(&planned).run(step));
    // Bytes that only the pin keeps: otherwise it costs nothing.
    db.run(async |tx| map.insert(&tx, "zzz", &7)).await.expect("inserts");
    until_pinned_anew(&site, &planned, &permits).await;
    permits.add_permits(1000);
    let report = within(running).await.expect("no panic").expect("runs");
    assert_eq!((report.phase, report.counts.changed), (Phase::Done, 50));
    db.newest().await.expect("answers");
    let all = map.iter(&db.now()).collect().await.expect("reads");
    let mut expected: Vec<(String, u64)> = (0..50).map(|n| (format!("{n:03}'"), n + 100)).collect();
    expected.push(("zzz".into(), 7));
    assert_eq!(all, expected);
}

/// Code that still writes the old version, in a step that is to bring all to the new one: no job for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_makes_more_of_what_is_to_be_stepped_is_refused() {
    let site = Site::with_pages(10).await;
    let planned = evolve::plan(&site.worker_db().await, job("split")).await.expect("plans");
    let (first, second) = (site.pages[0], site.pages[1]);
    let step = evolve::with("split", move |tx, cell, old: Record| {
        Box::pin(async move {
            let page = Page::upgrade(old.version, &old.data)?;
            tx.set(Ref::new(cell.oid), &page)?;
            if cell.oid == first.oid() {
                // One that is in the old shape is no more of it.
                tx.set(Ref::new(second.oid()), &OldPage { text: "from the first".into(), edits: 0 })?;
            } else if page.text != "page 5" {
                tx.create(&OldPage { text: "half".into(), edits: 0 }).await?;
            }
            Ok(Stepped::Keep)
        })
    });
    let report = within(Worker::new(&planned).run(step)).await.expect("ends in order");
    let counts = (report.counts.changed, report.counts.bad);
    assert_eq!((report.phase, counts), (Phase::Failed, (2, 8)), "{:?}", planned.quarantine(100).await);
    let bad = planned.quarantine(100).await.expect("reads");
    assert!(bad.iter().all(|bad| bad.error.contains("would go on for ever")), "{}", bad[0].error);
    assert_eq!(site.world.db().await.admin().kinds().await.expect("tells").of("Page"), 10, "none was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn zeolites_own_records_are_in_no_plan() {
    let site = Site::with_pages(5).await;
    let db = site.worker_db().await;
    let first = evolve::plan(&db, job("first")).await.expect("plans");
    db.newest().await.expect("answers");
    let jobs: Option<Map<String, u64>> = db.now().root("zeolite.evolves").await.expect("reads");
    let jobs = jobs.expect("is there").oid();
    let delete = || evolve::with("delete", |_, _, _| Box::pin(async { Ok(Stepped::Delete) }));
    for (number, plan) in (0..).zip([
        Plan::entries(jobs),
        Plan::entries(first.oid()),
        Plan::entries(Oid(1)),
        Plan::reachable(first.oid()),
        Plan::reachable(jobs),
        Plan::class("zeolite.evolve.Range"),
        Plan::below("zeolite.Map", 2),
    ]) {
        let refused = evolve::plan(&db, plan_of(&format!("own {number}"), plan.clone())).await.expect_err("refused");
        assert!(refused.to_string().contains("Zeolite's own"), "{plan:?}: {refused}");
    }
    for (name, plan, changed) in [
        ("root", Plan::entries(Oid::ROOT), 1),
        ("reachable", Plan::reachable(Oid::ROOT), 0),
        ("listed", Plan::oids([Oid::ROOT, Oid(1), jobs, first.oid(), site.pages[0].oid()]), 1),
        ("maps", Plan::class("zeolite.Map"), 0),
    ] {
        let mut new = plan_of(name, plan);
        new.allow_empty = true;
        let planned = evolve::plan(&db, new).await.expect("plans");
        let report = within(Worker::new(&planned).run(delete())).await.expect("runs");
        assert_eq!((report.phase, report.counts.changed), (Phase::Done, changed), "{name}");
    }
    let all: Vec<String> = evolve::list(&db).await.expect("lists").iter().map(|job| job.name().to_owned()).collect();
    assert_eq!(all, ["first", "listed", "maps", "reachable", "root"]);
    assert_eq!(first.record().await.expect("reads").phase, Phase::Planned);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_with_the_step_that_it_was_begun_with() {
    let site = Site::with_pages(10).await;
    let planned = evolve::plan(&site.worker_db().await, job("pages")).await.expect("plans");
    // It does nothing: a page that it had come through would be in the quarantine.
    let none = Arc::new(Semaphore::new(0));
    let begun = tokio::spawn(Worker::new(&planned).run(touch(none)));
    let mut watch = planned.watch();
    while planned.record().await.expect("reads").step.is_empty() {
        within(watch.next(Duration::ZERO)).await.expect("tells");
    }
    begun.abort();
    let other = within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect_err("refused");
    assert!(other.to_string().contains("begun with the step \"touch\""), "{other}");
    assert!(!planned.record().await.expect("reads").phase.is_over(), "it is not at fault");
    let worker = Worker::new(&planned).step_changed(true);
    let report = within(worker.run(Upgrade { counter: site.counter })).await.expect("runs");
    assert_eq!(
        (report.phase, planned.record().await.expect("reads").step.as_str()),
        (Phase::Done, "pages to version 2"),
        "{:?}",
        planned.quarantine(10).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_over_one_class_are_not_run_at_once_unless_told() {
    let site = Site::with_pages(10).await;
    let db = site.worker_db().await;
    let (one, two) = (job("one"), plan_of("two", Plan::class("Page")));
    let one = evolve::plan(&db, one).await.expect("plans");
    let waits = evolve::plan(&db, two).await.expect("plans: the first does not run yet");
    let permits = Arc::new(Semaphore::new(0));
    let running = tokio::spawn(Worker::new(&one).run(touch(permits.clone())));
    let mut watch = one.watch();
    while one.record().await.expect("reads").phase != Phase::Running {
        within(watch.next(Duration::ZERO)).await.expect("tells");
    }
    let refused = |error: Error| assert!(error.to_string().contains("evolve \"one\" over"), "{error}");
    refused(within(Worker::new(&waits).run(touch(permits.clone()))).await.expect_err("refused"));
    assert_eq!(waits.record().await.expect("reads").phase, Phase::Planned);
    refused(evolve::plan(&db, plan_of("three", Plan::class("Page"))).await.expect_err("refused"));
    let other = evolve::plan(&db, plan_of("other", Plan::oids([site.pages[0].oid()]))).await.expect("plans");
    assert_eq!(other.record().await.expect("reads").total, 1);

    let beside = evolve::plan(&db, plan_of("beside", Plan::class("Page")).beside(true)).await;
    permits.add_permits(1000);
    let report = within(Worker::new(&beside.expect("plans")).run(touch(permits.clone()))).await.expect("runs");
    assert_eq!(report.phase, Phase::Done);
    // Its step leaves the pages where they were: in the quarantine.
    assert_eq!(within(running).await.expect("no panic").expect("runs").phase, Phase::Failed);
    within(Worker::new(&waits).run(touch(permits))).await.expect("now it may");
    one.resume().await.expect("nobody else is at work");
}

/// Two that begin at the same moment: one of them does.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_jobs_that_begin_at_once_one_is_refused() {
    for _ in 0..5 {
        let site = Site::with_pages(4).await;
        let mut planned = Vec::new();
        for name in ["one", "two"] {
            planned.push(evolve::plan(&site.worker_db().await, job(name)).await.expect("plans"));
        }
        let mut running = Vec::new();
        for job in planned {
            let never = touch(Arc::new(Semaphore::new(0)));
            running.push((job.clone(), tokio::spawn(Worker::new(&job).run(never))));
        }
        let began = async |job: &Job| {
            let mut watch = job.watch();
            while job.record().await.expect("reads").step.is_empty() {
                within(watch.next(Duration::ZERO)).await.expect("tells");
            }
        };
        let (one, two) = (&running[0].0, &running[1].0);
        tokio::select! {
            () = began(one) => {}
            () = began(two) => {}
        }
        let (first, second) = running.split_at_mut(1);
        let refused = within(async {
            tokio::select! {
                ended = &mut first[0].1 => ended,
                ended = &mut second[0].1 => ended,
            }
        });
        let refused = refused.await.expect("no panic").expect_err("one is refused");
        assert!(refused.to_string().contains("over objects of class Page"), "{refused}");
        running.iter().for_each(|(_, worker)| worker.abort());
    }
}

/// Steps that never end, or whose worker has not what they need.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_without_end_is_given_up_and_one_that_cannot_work_ends_its_worker_alone() {
    let site = Site::with_pages(6).await;
    let db = site.worker_db().await;
    let mut new = job("slow");
    new.settings.step_timeout_ms = 50;
    let planned = evolve::plan(&db, new).await.expect("plans");
    let (slow, counter) = (site.pages[2].oid(), site.counter);
    let step = evolve::with("pages to version 2", move |tx, cell, old: Record| {
        Box::pin(async move {
            if cell.oid == slow {
                std::future::pending::<()>().await;
            }
            Upgrade { counter }.step(tx, cell, old).await
        })
    });
    let report = within(Worker::new(&planned).run(step)).await.expect("ends in order");
    assert_eq!((report.phase, report.counts.changed, report.counts.bad), (Phase::Failed, 5, 1));
    let bad = planned.quarantine(10).await.expect("reads");
    assert!(bad[0].error.contains("took longer than 50ms") && bad[0].oid == slow.0, "{}", bad[0].error);

    planned.resume().await.expect("resumes");
    let broken = evolve::with("pages to version 2", |_, _, _| {
        Box::pin(async { Err::<Stepped, _>(Error::worker("there is no dictionary at /nowhere")) })
    });
    let ended = within(Worker::new(&planned).named("far away").tasks(2).run(broken)).await.expect_err("ends");
    assert!(ended.to_string().contains("does not work here: there is no dictionary"), "{ended}");
    let shown = planned.show().await.expect("shows");
    assert_eq!((shown.job.phase, shown.counts.bad_now(), shown.workers.len()), (Phase::Running, 1, 0));
    assert!(shown.job.reason.contains("the worker far away/") && shown.job.reason.contains("no dictionary"));
    let report = within(Worker::new(&planned).run(Upgrade { counter })).await.expect("runs");
    assert_eq!((report.phase, site.stepped().await), (Phase::Done, 6));
    assert_eq!(planned.record().await.expect("reads").reason, "");
}

/// As a program wrote it that listed no objects and knew of no step: it goes on, is bound from then on, and covers what it covered.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_the_first_version_goes_on() {
    let site = Site::with_pages(40).await;
    let db = site.worker_db().await;
    let mut new = plan_of("touch", Plan::class("Page"));
    (new.settings.ranges, new.settings.step_timeout_ms) = (1, 30_000);
    let planned = evolve::plan(&db, new).await.expect("plans");
    let job = Cell::object(planned.oid());
    db.newest().await.expect("answers");
    let now = db.now().get(&job).await.expect("reads").expect("is there");
    let mut data = now.data.to_vec();
    // What the second version has more: the last setting before the phase, and two fields at the end.
    let timeout = [4, 0xb0, 0xea, 0x01, 0];
    let at = data.windows(timeout.len()).position(|bytes| bytes == timeout).expect("heat_max, step_timeout_ms, phase");
    data.drain(at + 1..at + 4);
    assert_eq!(data.split_off(data.len() - 2), [0, 0], "no step, and not beside another");
    let old = Record { version: 1, data: data.into(), ..now };
    let range = RangeRecord::new(Part::Objects { after: 0, last: u64::MAX >> 1 }, 40);
    let write = db.run(async |tx| {
        tx.put(job.clone(), &old)?;
        let range = Record::decode(&encode_record(&range)?).expect("a record");
        tx.put(Cell::entry(job.oid, "range/0000"), &range)
    });
    write.await.expect("writes");
    let record = planned.record().await.expect("is read");
    assert_eq!((record.step.as_str(), record.beside, record.settings.step_timeout_ms), ("", true, 30_000));
    let later = site.world.db().await;
    let made =
        later.run(async |tx| tx.create(&OldPage { text: "later".into(), edits: 0 }).await).await.expect("creates");
    let report = within(Worker::new(&planned).run(touch(Arc::new(Semaphore::new(1000))))).await.expect("runs");
    assert_eq!((report.phase, report.counts.changed, report.counts.found_done), (Phase::Done, 40, 1));
    later.newest().await.expect("answers");
    assert_eq!(later.now().load(made).await.expect("loads").edits, 0);
    assert_eq!(planned.record().await.expect("reads").step, "touch");
}

/// Objects that are made while the plan lists its own are not in it, and what a plan has listed before it was refused is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_beside_live_writers_has_what_was_there_at_its_snapshot() {
    let site = Site::with_pages(300).await;
    let (db, live) = (site.worker_db().await, site.world.db().await);
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writing = tokio::spawn({
        let over = over.clone();
        async move {
            while !over.load(std::sync::atomic::Ordering::Acquire) {
                let page = OldPage { text: "later".into(), edits: 0 };
                live.run(async |tx| tx.create(&page).await).await.expect("creates");
            }
        }
    });
    for number in 0..20 {
        let planned = evolve::plan(&db, plan_of(&format!("p{number}"), Plan::class("Page"))).await.expect("plans");
        let record = planned.record().await.expect("reads");
        let (mut listed, view) = (Vec::new(), db.at(Tid(record.planned)));
        for entry in db.now().entries(planned.oid(), Range::prefix("list/")).await.expect("reads") {
            let record = Record::decode(&entry.record).expect("a record");
            listed.extend(postcard::from_bytes::<Vec<u64>>(&record.data).expect("oids"));
        }
        let cells: Vec<Cell> = listed.iter().map(|oid| Cell::object(Oid(*oid))).collect();
        let there = view.get_many(&cells).await.expect("reads");
        assert!(there.iter().all(Option::is_some), "each was there");
        assert_eq!((listed.len() as u64, listed.len() >= 300), (record.total, true));
    }
    over.store(true, std::sync::atomic::Ordering::Release);
    within(writing).await.expect("no panic");
    let taken = evolve::plan(&db, plan_of("p0", Plan::class("Page"))).await.expect_err("the name is taken");
    assert!(taken.to_string().contains("already"), "{taken}");
}
