//! Owns the measurement of a whole site: many sessions, some of which write at a pace, while everything that an operator does to a
//! database comes over it, one after the other, as one picture over time.
//!
//! ```text
//!   sessions   250: 20 write an object five times a second each, 230 read one every two seconds and hear of all commits
//!   phases     quiet ─> bulk import ─> quiet ─> pack ─> quiet ─> evolve ─> quiet ─> kill -9 and start
//!   picture    transactions a second · how long writes and reads took (the longest and the median of each second)
//! ```
//! Each of a session's transactions is repeated until it is done, and its time counts from its turn: what a stall makes wait is in it. The
//! server, the bulk writer's thread and the evolve's process share the machine with all sessions, as everywhere in `bench`.

use super::child::Server;
use super::evolve::versions::{How, Versions};
use super::latency::Latency;
use super::report::{Aim, Report, Row};
use super::{Setting, bulk, fill, traffic};
use crate::chart::{Chart, Line, Mark, is_own, picture, write_over_own};
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use zeolite_client::{Db, Error, Options, PackOptions};
use zeolite_proto::{Cell, Oid, Record, Remedy};

const SESSIONS: usize = 250;
const WRITERS: usize = 20;
const WRITES_EVERY: Duration = Duration::from_millis(200);
const READS_EVERY: Duration = Duration::from_secs(2);
const BULK_WRITES_PER_COMMIT: u64 = 2000;
/// A column of the picture.
const COLUMN: Duration = Duration::from_secs(1);
/// How much longer writes may take in a phase than in the first, at the 99th percentile.
const RATIO_MAX: f64 = 2.0;
/// What the picture begins with, so that the next run may write over it.
const PICTURE_MARK: &str = "<!-- zeolite bench site -->\n";

/// One transaction of a session.
struct Done {
    writes: bool,
    /// Its turn, from the beginning of the measurement.
    at: Duration,
    took: Duration,
    /// How often it was refused for another commit.
    conflicts: u32,
}

/// What a session has seen.
#[derive(Default)]
struct Seen {
    done: Vec<Done>,
    failed: u64,
    why: Option<String>,
}

struct Phase {
    name: &'static str,
    from: Duration,
    to: Duration,
}

pub(super) async fn measure(setting: &Setting<'_>, picture_to: &Path, report: &mut Report) -> Result<()> {
    is_own(picture_to, PICTURE_MARK)?;
    let doing = setting.doing("filling for a site");
    let dir = setting.scratch()?;
    // All history but the newest may go: so the pack has something to do.
    let sets = ["engine.history_min_s=0"];
    let server = Server::start_with(setting, dir.path(), &sets).await?;
    let filler = Db::connect(&*server.url).await?;
    let oids: Arc<[Oid]> = fill::objects(&filler, setting.objects, |_| ()).await?.into();
    rewrite_some(&filler, &oids).await?;
    drop((filler, doing));
    let site = Site::begin(&server.url, oids).await?;
    let (server, phases) = phases(setting, server, dir.path(), site.begun).await?;
    let all = site.end().await?;
    server.kill().await?;
    tell(setting, report, &phases, &all);
    let charts = charts(&phases, &all);
    write_over_own(picture_to, PICTURE_MARK, &picture(&charts)?)?;
    report.remark(format!("the picture is in {}", picture_to.display()));
    Ok(())
}

/// A third of the objects a second time: what the pack removes.
async fn rewrite_some(db: &Db, oids: &[Oid]) -> Result<()> {
    let record = fill::record().encode()?;
    for part in oids.chunks(3000) {
        let tx = db.begin().await?;
        for oid in part.iter().step_by(3) {
            tx.put_encoded(Cell::object(*oid), record.clone())?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// What comes over the site, one after the other.
async fn phases(setting: &Setting<'_>, server: Server, dir: &Path, begun: Instant) -> Result<(Server, Vec<Phase>)> {
    let mut phases = Vec::new();
    let (url, quiet) = (server.url.clone(), setting.time.max(Duration::from_secs(3)));
    let mut phase = async |name, work: bulk::Work<'_>| -> Result<()> {
        let _doing = setting.doing(name);
        let from = begun.elapsed();
        work.await.with_context(|| format!("{name}, beside a site"))?;
        phases.push(Phase { name, from, to: begun.elapsed() });
        Ok(())
    };
    let rest = || -> bulk::Work<'_> {
        Box::pin(async move {
            tokio::time::sleep(quiet).await;
            Ok(quiet)
        })
    };
    phase("quiet", rest()).await?;
    phase("bulk import", Box::pin(bulk::writer(url.clone(), setting.objects, BULK_WRITES_PER_COMMIT))).await?;
    phase("quiet", rest()).await?;
    phase("pack", Box::pin(pack(&url))).await?;
    phase("quiet", rest()).await?;
    let options = Options::new().name("bench-worker").role("evolve");
    let worker = Db::connect_with(&*url, options).await?;
    let mut versions = Versions::new(&worker, &url);
    phase("evolve", Box::pin(async { Ok(versions.evolve(How::default()).await?.0) })).await?;
    phase("quiet", rest()).await?;
    let mut server = Some(server);
    let crash = async {
        let running = server.take().context("the server")?;
        server = Some(running.kill_and_start(setting, dir).await?);
        tokio::time::sleep(quiet).await;
        Ok(quiet)
    };
    phase("kill -9", Box::pin(crash)).await?;
    Ok((server.context("the server")?, phases))
}

async fn pack(url: &str) -> Result<Duration> {
    let begun = Instant::now();
    let mut messages = Db::connect(url).await?.admin().pack(PackOptions::default()).await?;
    while messages.next().await?.is_some() {}
    Ok(begun.elapsed())
}

/// The sessions.
struct Site {
    sessions: JoinSet<Seen>,
    over: Arc<AtomicBool>,
    begun: Instant,
}

impl Site {
    async fn begin(url: &str, oids: Arc<[Oid]>) -> Result<Site> {
        let clients = traffic::connect(url, SESSIONS).await?;
        let (over, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let record = fill::record();
        let mut sessions = JoinSet::new();
        for (number, db) in clients.into_iter().enumerate() {
            let writes = number < WRITERS;
            let every = if writes { WRITES_EVERY } else { READS_EVERY };
            let session = Session {
                db,
                number,
                dice: fastrand::Rng::with_seed(number as u64),
                oids: oids.clone(),
                record: writes.then(|| record.clone()),
                begun,
            };
            sessions.spawn(session.run(every, over.clone()));
        }
        Ok(Site { sessions, over, begun })
    }

    async fn end(mut self) -> Result<Seen> {
        self.over.store(true, Relaxed);
        let mut all = Seen::default();
        while let Some(one) = self.sessions.join_next().await {
            let one = one.context("a session")?;
            all.done.extend(one.done);
            all.failed += one.failed;
            all.why = all.why.or(one.why);
        }
        all.done.sort_by_key(|done| done.at);
        Ok(all)
    }
}

struct Session {
    db: Db,
    number: usize,
    oids: Arc<[Oid]>,
    /// Which objects come next.
    dice: fastrand::Rng,
    /// What it writes; none: it only reads.
    record: Option<Record>,
    begun: Instant,
}

impl Session {
    async fn run(mut self, every: Duration, over: Arc<AtomicBool>) -> Seen {
        let mut seen = Seen::default();
        // Evenly apart, so that not all of them come at once.
        let first = tokio::time::Instant::now() + every.mul_f64(self.number as f64 / SESSIONS as f64);
        let mut ticks = tokio::time::interval_at(first, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !over.load(Relaxed) {
            let turn = ticks.tick().await.into_std();
            let mut conflicts = 0;
            let result = loop {
                match self.once().await {
                    Err(error) if error.remedy() == Remedy::Retry => conflicts += 1,
                    result => break result,
                }
            };
            if let Err(error) = result {
                seen.failed += 1;
                seen.why = Some(error.to_string());
            }
            let at = turn.saturating_duration_since(self.begun);
            seen.done.push(Done { writes: self.record.is_some(), at, took: turn.elapsed(), conflicts });
        }
        seen
    }

    async fn once(&mut self) -> Result<(), Error> {
        let cell = Cell::object(self.oids[self.dice.usize(..self.oids.len())]);
        let tx = self.db.begin().await?;
        let old = tx.get(&cell).await?;
        let (Some(new), Some(old)) = (&self.record, old) else { return Ok(()) };
        // In the version that it has: the evolve has been there, or comes.
        tx.put(cell, &Record { version: old.version, ..new.clone() })?;
        tx.commit().await.map(drop)
    }
}

fn tell(setting: &Setting<'_>, report: &mut Report, phases: &[Phase], all: &Seen) {
    let row = |phase: &str, what: &str, value, unit| Row::new(setting.name(&format!("{phase}: {what}")), value, unit);
    let mut quiet: Option<f64> = None;
    // The first is what the others are compared with; in the quiet ones after it what came before may still be felt.
    for (number, phase) in phases.iter().enumerate() {
        let name = match phase.name {
            "quiet" if number > 0 => format!("after {}", phases[number - 1].name),
            name => name.to_owned(),
        };
        let of = |writes| {
            let mut latency = Latency::new();
            let within = |done: &&Done| done.writes == writes && done.at >= phase.from && done.at < phase.to;
            all.done.iter().filter(within).for_each(|done| latency.add(done.took));
            latency
        };
        let (writes, reads) = (of(true), of(false));
        let p99 = row(&name, "writes, p99", writes.p99_us() / 1e3, "ms");
        report.add(match quiet {
            Some(quiet) => p99.against("quiet", quiet).aim(Aim::RatioAtMost(RATIO_MAX)),
            None => p99,
        });
        quiet = quiet.or(Some(writes.p99_us() / 1e3));
        report.add(row(&name, "longest write", writes.max_us() / 1e3, "ms"));
        report.add(row(&name, "reads, p99", reads.p99_us() / 1e3, "ms"));
        let rate = writes.count() as f64 / (phase.to - phase.from).as_secs_f64();
        let pace = WRITERS as f64 / WRITES_EVERY.as_secs_f64();
        report.add(row(&name, "writes", rate, "commits/s").against("their pace", pace));
    }
    let conflicts: u32 = all.done.iter().map(|done| done.conflicts).sum();
    report.add(row("all", "conflicts", f64::from(conflicts), ""));
    report.add(row("all", "transactions that failed", all.failed as f64, "").aim(Aim::AtMost(0.0)));
    if let Some(why) = &all.why {
        report.remark(format!("one has failed: {why}"));
    }
}

fn charts<'a>(phases: &[Phase], all: &Seen) -> [Chart<'a>; 3] {
    let end = all.done.last().map_or(Duration::ZERO, |done| done.at + done.took);
    let shaded = |phase: &Phase| phase.name != "quiet";
    let mark =
        |phase: &Phase| Mark { from: phase.from.as_secs_f64(), to: phase.to.as_secs_f64(), name: phase.name.into() };
    let marked: Vec<Mark> = phases.iter().filter(|phase| shaded(phase)).map(mark).collect();
    let columns = (end.as_secs_f64() / COLUMN.as_secs_f64()).floor() as usize;
    let mut of: Vec<[Latency; 2]> = (0..columns.max(1)).map(|_| [Latency::new(), Latency::new()]).collect();
    for done in &all.done {
        let column = ((done.at.as_secs_f64() / COLUMN.as_secs_f64()) as usize).min(of.len() - 1);
        of[column][usize::from(done.writes)].add(done.took);
    }
    let line = |name, writes: usize, value: fn(&Latency) -> f64| {
        let middle = |column: usize| (column as f64 + 0.5) * COLUMN.as_secs_f64();
        let point = |(column, of): (usize, &[Latency; 2])| {
            let latency = &of[writes];
            (middle(column), if latency.count() > 0 { value(latency) } else { f64::NAN })
        };
        Line { name, points: of.iter().enumerate().map(point).collect() }
    };
    let chart = |title, from, lines, value| Chart {
        title,
        seconds: end.as_secs_f64(),
        lines,
        marked: marked.clone(),
        from,
        value,
    };
    // By tens: what is quick and what is a stall are in one picture.
    let took = |name: [&'static str; 2], writes| {
        vec![line(name[0], writes, |of| of.max_us().log10()), line(name[1], writes, |of| of.p50_us().log10())]
    };
    let time = |power: f64| match 10_f64.powf(power) {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.0} s", us / 1e6),
    };
    let per_second = |of: &Latency| of.count() as f64 / COLUMN.as_secs_f64();
    [
        chart(
            "Transactions a second",
            0.0,
            vec![line("writes", 1, per_second), line("reads", 0, per_second)],
            |rate| format!("{rate:.0}/s"),
        ),
        chart("How long a write took", 2.0, took(["longest", "median"], 1), time),
        chart("How long a read took", 1.0, took(["longest", "median"], 0), time),
    ]
}
