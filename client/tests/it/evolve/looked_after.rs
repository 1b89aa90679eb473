//! What an operator sees and need not do: the server's numbers tell the job, a full disk pauses it, the site slows it down.

use crate::site::{Page, Site, Upgrade, job};
use crate::support::{World, within};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use zeolite_client::collections::Counter;
use zeolite_client::evolve::{self, Job, Phase, Progress, Report, Step, Stepped, Worker};
use zeolite_client::{Cell, Db, Error, Persistent, Record, Resolvers, Tx};
use zeolite_server::server::Server;
use zeolite_server::store::disk::sim::SimDisk;

/// What the simulated disk has.
const DISK_BYTES: u64 = 1 << 50;

/// Goes as far as a test lets it; fails on the page that says so.
#[derive(Clone)]
struct Gated(Arc<Semaphore>);

impl Step for Gated {
    fn name(&self) -> String {
        "one by one".into()
    }

    async fn step(&self, _: &Tx, cell: &Cell, old: Record) -> Result<Stepped, Error> {
        self.0.acquire().await.expect("open").forget();
        let page = Page::upgrade(old.version, &old.data)?;
        if page.text == "page 7" {
            return Err(Error::app(format!("{cell} is odd")));
        }
        let record = zeolite_client::typed::encode_record(&page)?;
        Ok(Stepped::Replace(Record::decode(&record).expect("a record")))
    }
}

async fn until(job: &Job, reached: impl Fn(&Progress) -> bool) -> Progress {
    let mut watch = job.watch();
    loop {
        let progress = within(watch.next(Duration::ZERO)).await.expect("tells").expect("is open");
        if reached(&progress) {
            return progress;
        }
        assert!(!progress.job.phase.is_over(), "{}", progress.state());
    }
}

type Running = tokio::task::JoinHandle<Result<Report, Error>>;

async fn ended(running: Running) -> Report {
    within(running).await.expect("no panic").expect("runs")
}

/// The server tells it once a second: until it tells a part of the disk as wanted.
async fn free_percent(db: &Db, wanted: impl Fn(f64) -> bool) {
    let told = async {
        while !db.pressure().and_then(|pressure| pressure.free_percent()).is_some_and(&wanted) {
            db.newest().await.expect("answers");
        }
    };
    within(told).await;
}

async fn with_metrics(disk: Option<SimDisk>) -> World {
    World::start_of(|settings| settings.metrics.listen = "127.0.0.1:0".into(), Resolvers::built_in(), disk).await
}

async fn scrape(site: &Site) -> String {
    let address = site.world.server.as_ref().and_then(Server::metrics_address).expect("metrics are on");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an orderly end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// The value of each number of the job.
fn told(text: &str, name: &str) -> f64 {
    let start = format!("zeolite_evolve_{name}");
    let line = text.lines().find_map(|line| line.strip_prefix(&start)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {start}: {text}")).parse().expect("a number")
}

fn is_in(text: &str, state: &str) -> bool {
    let states = text.lines().filter_map(|line| line.strip_prefix("zeolite_evolve_state{evolve=\"pages\",state=\""));
    let set: Vec<&str> = states.filter_map(|line| line.strip_suffix("\"} 1")).collect();
    assert_eq!(set.len(), 1, "in exactly one state: {set:?}");
    set == [state]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_the_jobs_progress_and_its_end() {
    let world = with_metrics(None).await;
    let site = Site::on(world, 100).await;
    assert!(!scrape(&site).await.contains("zeolite_evolve_state{"), "there is none");
    let db = site.worker_db().await;
    let mut new = job("pages");
    (new.settings.ranges, new.settings.chunk_objects_start, new.settings.chunk_objects_max) = (1, 10, 10);
    // However slow this machine is: the chunks stay as they are, and nobody takes the range.
    (new.settings.chunk_target_ms, new.settings.lease_ms) = (60_000, 600_000);
    let planned = evolve::plan(&db, new).await.expect("plans");
    let text = scrape(&site).await;
    assert!(is_in(&text, "planned"), "{text}");
    let number = |text: &str, name: &str| told(text, &format!("{name}{{evolve=\"pages\"}}"));
    assert_eq!((number(&text, "objects"), number(&text, "objects_done"), number(&text, "workers")), (100.0, 0.0, 0.0));

    let gate = Arc::new(Semaphore::new(35));
    let running = tokio::spawn(Worker::new(&planned).run(Gated(gate.clone())));
    until(&planned, |progress| progress.done == 30).await;
    let text = scrape(&site).await;
    assert!(is_in(&text, "running"), "{text}");
    let names = ["objects", "objects_done", "objects_changed", "objects_bad", "workers"];
    assert_eq!(names.map(|name| number(&text, name)), [100.0, 30.0, 29.0, 1.0, 1.0], "{text}");
    assert!(number(&text, "objects_per_second") > 0.0, "{text}");
    planned.pause("lunch", 0).await.expect("pauses");
    assert!(is_in(&scrape(&site).await, "paused"));
    planned.resume().await.expect("resumes");

    gate.add_permits(1000);
    assert_eq!(ended(running).await.phase, Phase::Failed);
    let text = scrape(&site).await;
    assert!(is_in(&text, "failed") && text.contains("\nzeolite_evolves{state=\"failed\"} 1\n"), "{text}");
    assert_eq!(names.map(|name| number(&text, name)), [100.0, 100.0, 99.0, 1.0, 0.0], "{text}");
    let unreadable = "\nzeolite_evolves_unreadable 0\n";
    assert!(text.contains(unreadable) && text.contains("\nzeolite_evolves_left_out 0\n"), "{text}");
    planned.cancel("enough").await.expect("cancels");
    evolve::forget(&db, "pages").await.expect("forgets");
    let text = scrape(&site).await;
    assert!(!text.contains("zeolite_evolve_state{") && text.contains(unreadable), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_disk_pauses_the_job_until_there_is_room() {
    let disk = SimDisk::new();
    disk.set_room(Some(DISK_BYTES / 10));
    let world = with_metrics(Some(disk.clone())).await;
    let site = Site::on(world, 100).await;
    let db = site.worker_db().await;
    let mut new = job("pages");
    (new.settings.disk_pause_percent, new.settings.disk_stop_percent) = (15.0, 5.0);
    let planned = evolve::plan(&db, new).await.expect("plans");
    free_percent(&db, |free| free < 15.0).await;
    let running = tokio::spawn(Worker::new(&planned).run(Upgrade { counter: site.counter }));
    let paused = until(&planned, Progress::is_paused).await;
    assert_eq!(paused.state(), "paused (low disk: 10.0 % is free, until there is room (15 %))");
    assert_eq!((paused.done, paused.throttled()), (0, None));
    assert!(is_in(&scrape(&site).await, "paused"));
    assert!(paused.job.pause.is_none(), "nobody has to resume it");

    disk.set_room(Some(DISK_BYTES / 2));
    assert_eq!(ended(running).await.phase, Phase::Done);
    assert_eq!((site.stepped().await, site.check().await), (100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_job_and_says_what_to_do() {
    let disk = SimDisk::new();
    disk.set_room(Some(DISK_BYTES / 25));
    let site = Site::on(with_metrics(Some(disk.clone())).await, 100).await;
    let db = site.worker_db().await;
    let mut new = job("pages");
    (new.settings.disk_pause_percent, new.settings.disk_stop_percent) = (15.0, 5.0);
    let planned = evolve::plan(&db, new).await.expect("plans");
    free_percent(&db, |free| free < 5.0).await;
    let report = within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect("runs");
    assert_eq!((report.phase, report.counts.done), (Phase::Failed, 0));
    let failed = planned.show().await.expect("shows");
    let why = "failed (low disk: 4.0 % is free, the job stops below 5 %; make room, then resume it)";
    assert_eq!((failed.state().as_str(), failed.workers.len()), (why, 0));

    disk.set_room(Some(DISK_BYTES / 2));
    free_percent(&db, |free| free > 15.0).await;
    planned.resume().await.expect("resumes");
    let report = within(Worker::new(&planned).run(Upgrade { counter: site.counter })).await.expect("runs");
    assert_eq!(report.phase, Phase::Done);
    assert_eq!((site.stepped().await, site.check().await), (100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_feels_it_slows_the_worker_down() {
    let site = Site::with_pages(2000).await;
    let live = site.world.db().await;
    let traffic = tokio::spawn(async move {
        loop {
            live.run(async |tx| tx.root_or_create::<Counter>("visits").await?.add(&tx, 1)).await.expect("commits");
        }
    });
    let db = site.worker_db().await;
    let mut new = job("pages");
    // Any traffic at all is over this bound.
    new.settings.live_p99_us_max = 1;
    let planned = evolve::plan(&db, new).await.expect("plans");
    let noticed = async {
        while db.pressure().is_none_or(|pressure| pressure.live_commits < 100) {
            db.newest().await.expect("answers");
        }
    };
    within(noticed).await;
    let running = tokio::spawn(Worker::new(&planned).run(Upgrade { counter: site.counter }));
    let throttled = until(&planned, |progress| progress.throttled().is_some()).await;
    let state = throttled.state();
    assert!(state.starts_with("throttled (live p99 ") && state.ends_with(" us is over 1 us, the bound)"), "{state}");
    // Far below what a worker alone makes, and ever slower: a second later at most 0.7 times as fast.
    let told = |progress: &Progress| progress.ranges.iter().map(|range| range.rate).fold(0.0, f64::max);
    let slow = until(&planned, |progress| told(progress) > 0.0 && told(progress) < 400.0).await;
    until(&planned, |progress| told(progress) > 0.0 && told(progress) < told(&slow) * 0.8).await;
    assert!(!traffic.is_finished(), "live traffic all the time");
    traffic.abort();
    assert_eq!(ended(running).await.phase, Phase::Done);
    assert_eq!((site.stepped().await, site.check().await), (2000, 0));
}
