//! Owns the measurements of an evolve beside live traffic: what the clients of the site feel, and what the evolve takes.
//!
//! ```text
//!   alone     8 clients unpaced (the capacity), then paced at half of it        the evolve without traffic
//!   beside    the evolve beside the paced, then beside the unpaced clients      all objects in one commit beside the paced
//!   workers   one task and four, with a step that costs processor time
//! ```
//! Each client rewrites objects of its own eighth of all objects, in whatever shape it finds them; so the only thing that it
//! could ever conflict with is the evolve. Every evolve raises the schema version of all objects by one. As on a site, the clients
//! know how an edit and a raised version go together ([`Shape`]): a commit that comes just behind the worker's is merged.

use super::child::Server;
use super::report::{Aim, Report, Row};
use super::{Setting, fill, latency::Latency};
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use zeolite_client::evolve::{self, Phase};
use zeolite_client::{Db, Error, Options};
use zeolite_proto::resolver::Unresolved;
use zeolite_proto::{Cell, Oid, Record, Registry, Remedy, Resolver};

const CLIENTS: usize = 8;
/// What one draft may hold (`limits.draft_bytes_max`), with the ledger.
const ONE_COMMIT_OBJECTS_MAX: u64 = 120_000;
const CLASS: &str = "Bench";
/// How much longer live commits may take while the evolve runs, at the 99th percentile.
const LIVE_RATIO_MAX: f64 = 1.2;
/// Rounds of a checksum that make a step cost about a third of a millisecond.
const COSTLY_ROUNDS: usize = 400;

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("filling for evolves");
    let dir = setting.scratch()?;
    let server = Server::start(dir.path()).await?;
    let clients = connect(&server.url).await?;
    let oids: Arc<[Oid]> = fill::objects(&clients[0], setting.objects, |_| ()).await?.into();
    let options = Options { name: "bench-worker".into(), role: "evolve".into(), ..Options::default() };
    let worker = Db::connect_with(&*server.url, options).await?;
    let site = Site { clients, oids };
    drop(doing);
    let mut versions = Versions { worker: &worker, next: 2 };
    beside(setting, &site, &mut versions, report).await?;
    tasks(setting, &mut versions, report).await?;
    drop((site, worker));
    server.kill().await
}

/// An edit of the data and a raised version do not touch each other.
struct Shape;

impl Resolver for Shape {
    fn description(&self) -> &str {
        "the newer version, and the data of whoever changed it"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        let (Some(base), Some(theirs), Some(ours)) = (base, theirs, ours) else {
            return Err(Unresolved::because("made or deleted by one of two concurrent commits"));
        };
        let edited = match (theirs.data != base.data, ours.data != base.data) {
            (true, true) => return Err(Unresolved::because("two edits of one object")),
            (true, false) => theirs,
            _ => ours,
        };
        Ok(Some(Record { version: theirs.version.max(ours.version), ..edited.clone() }))
    }
}

async fn connect(url: &str) -> Result<Vec<Db>> {
    let mut resolvers = Registry::built_in();
    resolvers.register(CLASS, Arc::new(Shape));
    let mut clients = Vec::with_capacity(CLIENTS);
    for number in 0..CLIENTS {
        let name = format!("bench-{number}");
        let options = Options { name, cache_bytes: 4 << 20, resolvers: resolvers.clone(), ..Options::default() };
        clients.push(Db::connect_with(url, options).await?);
    }
    Ok(clients)
}

/// The live clients.
struct Site {
    clients: Vec<Db>,
    oids: Arc<[Oid]>,
}

/// What they saw.
struct Felt {
    latency: Latency,
    conflicts: u64,
    time: Duration,
}

impl Felt {
    fn per_second(&self) -> f64 {
        self.latency.count() as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

impl Site {
    /// Lets the clients write while `during` runs; `pace`: how often each of them begins, none: as soon as it can.
    async fn live<T>(&self, pace: Option<Duration>, during: impl Future<Output = Result<T>>) -> Result<(Felt, T)> {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks: JoinSet<Result<(Latency, u64), Error>> = JoinSet::new();
        let begun = Instant::now();
        for (number, db) in self.clients.iter().cloned().enumerate() {
            tasks.spawn(client(db, number, self.oids.clone(), pace, over.clone()));
        }
        let result = during.await;
        over.store(true, Ordering::Release);
        let mut felt = Felt { latency: Latency::new(), conflicts: 0, time: begun.elapsed() };
        while let Some(ended) = tasks.join_next().await {
            let (latency, conflicts) = ended.context("a client")?.context("a client")?;
            felt.latency.merge(&latency);
            felt.conflicts += conflicts;
        }
        Ok((felt, result?))
    }

    async fn alone(&self, pace: Option<Duration>, time: Duration) -> Result<Felt> {
        let pause = async {
            tokio::time::sleep(time).await;
            Ok(())
        };
        Ok(self.live(pace, pause).await?.0)
    }
}

async fn client(
    db: Db,
    number: usize,
    oids: Arc<[Oid]>,
    pace: Option<Duration>,
    over: Arc<AtomicBool>,
) -> Result<(Latency, u64), Error> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let (mut latency, mut conflicts) = (Latency::new(), 0);
    let mut ticks = pace.map(tokio::time::interval);
    if let Some(ticks) = &mut ticks {
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    while !over.load(Ordering::Acquire) {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let mine = random.usize(0..oids.len() / CLIENTS) * CLIENTS + number;
        let begun = Instant::now();
        match edit(&db, Cell::object(oids[mine])).await {
            Ok(()) => {}
            Err(error) if error.remedy() == Remedy::Retry => conflicts += 1,
            Err(error) => return Err(error),
        }
        latency.add(begun.elapsed());
    }
    Ok((latency, conflicts))
}

/// One attempt, as a site makes it: read, change, commit in the shape that was found.
async fn edit(db: &Db, cell: Cell) -> Result<(), Error> {
    let tx = db.begin().await?;
    if let Some(mut record) = tx.get(&cell).await? {
        let mut data = record.data.to_vec();
        if let Some(byte) = data.first_mut() {
            *byte = byte.wrapping_add(1);
        }
        record.data = data.into();
        tx.put(cell, &record)?;
    }
    tx.commit().await.map(drop)
}

/// Evolves, each to the next schema version.
struct Versions<'a> {
    worker: &'a Db,
    next: u32,
}

impl Versions<'_> {
    /// Plans and runs one; gives how long the running took, and the objects that were stepped again.
    async fn evolve(&mut self, tasks: usize, atomic: bool, rounds: usize) -> Result<(Duration, u64)> {
        let version = self.next;
        self.next += 1;
        let settings = evolve::Settings {
            workers: tasks as u32,
            atomic,
            // What is measured is the work, not this disk's fill.
            disk_pause_percent: 0.0,
            disk_stop_percent: 0.0,
            // As tight as the aim below.
            live_ratio_max: LIVE_RATIO_MAX,
            ..evolve::Settings::default()
        };
        let mut job = evolve::NewJob::new(format!("to-{version}"), evolve::Plan::below(CLASS, version));
        job.settings = settings;
        let job = evolve::plan(self.worker, job).await?;
        let begun = Instant::now();
        let step = evolve::map("bench", move |old| Ok(stepped(old, version, rounds)));
        let report = evolve::Worker::new(&job).tasks(tasks).run(step).await?;
        let took = begun.elapsed();
        let why = job.record().await?.reason;
        ensure!(report.phase == Phase::Done, "the evolve ended as {} ({why})", report.phase.text());
        let kinds = self.worker.admin().kinds().await?;
        let old: u64 = kinds.iter().filter(|k| k.class == CLASS && k.version < version).map(|kind| kind.objects).sum();
        ensure!(old == 0, "{old} objects are still of an older version");
        Ok((took, report.counts.stepped_again))
    }
}

fn stepped(mut record: Record, version: u32, rounds: usize) -> Record {
    let mut sum = 0u64;
    for round in 0..rounds {
        sum = record.data.iter().fold(sum ^ round as u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
    }
    // The sum is used, so that it is computed; the data stays.
    record.version = version.max(u32::from(sum == 1));
    record
}

async fn beside(setting: &Setting<'_>, site: &Site, versions: &mut Versions<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("live clients alone, the evolve alone");
    let free = site.alone(None, setting.time).await?;
    let pace = Some(Duration::from_secs_f64(2.0 * CLIENTS as f64 / free.per_second()));
    let paced = site.alone(pace, setting.time.max(Duration::from_secs(5))).await?;
    let (idle, _) = versions.evolve(1, false, 0).await?;
    drop(doing);
    let doing = setting.doing("the evolve beside paced clients");
    let (felt, (took, again)) = site.live(pace, versions.evolve(1, false, 0)).await?;
    let row = |name: &str, value: f64, unit: &'static str| Row::new(setting.name(name), value, unit);
    report.add(row("evolve without traffic", setting.objects as f64 / idle.as_secs_f64(), "objects/s"));
    report.add(row("paced: conflicts of live clients", felt.conflicts as f64, "").aim(Aim::AtMost(0.0)));
    let p99 = row("paced: live p99 during the evolve", felt.latency.p99_us(), "µs");
    report.add(p99.against("without", paced.latency.p99_us()).aim(Aim::RatioAtMost(LIVE_RATIO_MAX)));
    let p50 = row("paced: live p50 during the evolve", felt.latency.p50_us(), "µs");
    report.add(p50.against("without", paced.latency.p50_us()));
    report.add(row("paced: live commits", felt.per_second(), "commits/s").against("without", paced.per_second()));
    let time = row("paced: time of the evolve", took.as_secs_f64(), "s");
    report.add(time.against("without traffic", idle.as_secs_f64()).aim(Aim::RatioAtMost(3.0)));
    report.add(row("paced: objects stepped again", again as f64, ""));
    drop(doing);

    let doing = setting.doing("the evolve beside unpaced clients");
    let (felt, (took, again)) = site.live(None, versions.evolve(1, false, 0)).await?;
    report.add(row("unpaced: conflicts of live clients", felt.conflicts as f64, "").aim(Aim::AtMost(0.0)));
    let rate = row("unpaced: live commits", felt.per_second(), "commits/s");
    report.add(rate.against("without", free.per_second()).aim(Aim::RatioAtLeast(0.8)));
    let time = row("unpaced: time of the evolve", took.as_secs_f64(), "s");
    report.add(time.against("without traffic", idle.as_secs_f64()));
    report.add(row("unpaced: objects stepped again", again as f64, ""));
    drop(doing);

    if setting.objects > ONE_COMMIT_OBJECTS_MAX {
        report.remark(format!("one commit takes at most {ONE_COMMIT_OBJECTS_MAX} of these objects: left out"));
        return Ok(());
    }
    let _doing = setting.doing("all objects in one commit, beside paced clients");
    let (felt, (took, again)) = site.live(pace, versions.evolve(1, true, 0)).await?;
    report.add(row("one commit: finished after", took.as_secs_f64(), "s"));
    report.add(row("one commit: conflicts of live clients", felt.conflicts as f64, "").aim(Aim::AtMost(0.0)));
    report.add(row("one commit: longest live commit", felt.latency.max_us(), "µs"));
    report.add(row("one commit: objects stepped again", again as f64, ""));
    Ok(())
}

async fn tasks(setting: &Setting<'_>, versions: &mut Versions<'_>, report: &mut Report) -> Result<()> {
    let _doing = setting.doing("one task and four, with a step that costs processor time");
    let (one, _) = versions.evolve(1, false, COSTLY_ROUNDS).await?;
    let (four, _) = versions.evolve(4, false, COSTLY_ROUNDS).await?;
    let rate = |took: Duration| setting.objects as f64 / took.as_secs_f64();
    let row = Row::new(setting.name("costly step, 4 tasks"), rate(four), "objects/s");
    report.add(row.against("1 task", rate(one)).aim(Aim::RatioAtLeast(1.5)));
    Ok(())
}
