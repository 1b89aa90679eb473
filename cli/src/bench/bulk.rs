//! Owns the measurement of live traffic beside bulk work: what four paced clients feel while another one writes as fast as it can.
//!
//! ```text
//!   the writer alone                commits of 2,000 objects, nobody else
//!   the clients alone               50 commits a second each
//!   the clients beside the writer   and beside one commit of three tenths of all objects
//! ```
//! The writer has a thread of its own, as a program of its own would have. A probe beside all of it writes and syncs 4 KiB a hundred
//! times a second: the longest of that is what the disk alone would have made anybody wait.

use super::child::Server;
use super::latency::Latency;
use super::report::{Aim, Report, Row};
use super::{Setting, commits, disk, traffic};
use anyhow::{Context, Result};
use bytes::Bytes;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use zeolite_client::{Db, Error, Options};
use zeolite_proto::{Cell, Oid, Record};

const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_millis(20);
const PROBE_EVERY: Duration = Duration::from_millis(10);
const OBJECT_BYTES: usize = 200;
const WRITES_PER_COMMIT: u64 = 2000;
/// Of all objects, what one commit has.
const WHOLE_SHARE: f64 = 0.3;
/// How much longer live commits may take beside bulk work, at the 99th percentile.
const LIVE_RATIO_MAX: f64 = 2.0;
/// How much longer than the disk the longest may take.
const LONGEST_US_MAX: f64 = 100_000.0;
const RATE_RATIO_MIN: f64 = 0.98;

/// What the clients felt, and the disk.
pub(super) struct Felt {
    live: Latency,
    time: Duration,
    disk: Latency,
}

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let dir = setting.scratch()?;
    let server = Server::start(setting, dir.path()).await?;
    let clients = traffic::connect(&server.url, CLIENTS).await?;
    let oids = commits::own_objects(&clients[0], CLIENTS).await?;
    let time = setting.time.max(Duration::from_secs(5));
    let beside = |work| beside(dir.path(), &clients, &oids, work);
    let url = server.url.clone();
    let write = |objects: u64, each: u64| writer(url.clone(), objects, each);

    let doing = setting.doing("a bulk writer alone");
    let alone = write(setting.objects, WRITES_PER_COMMIT).await?;
    drop(doing);
    let doing = setting.doing("live clients alone");
    let pause = async {
        tokio::time::sleep(time).await;
        Ok(time)
    };
    let quiet = beside(Box::pin(pause)).await?.0;
    report.add(Row::new(setting.name("live p50 without bulk work"), quiet.live.p50_us(), "µs"));
    drop(doing);
    let doing = setting.doing("live clients beside a bulk writer");
    let (felt, took) = beside(Box::pin(write(setting.objects, WRITES_PER_COMMIT))).await?;
    tell(setting, "commits of 2,000", &quiet, &felt, report);
    let rate = |took: Duration| setting.objects as f64 / took.as_secs_f64();
    let row = Row::new(setting.name("commits of 2,000: bulk rate"), rate(took), "objects/s");
    report.add(row.against("alone", rate(alone)));
    drop(doing);
    let _doing = setting.doing("live clients beside one large commit");
    let whole = (setting.objects as f64 * WHOLE_SHARE) as u64;
    let (felt, took) = beside(Box::pin(write(whole, whole))).await?;
    tell(setting, &format!("one commit of {whole}"), &quiet, &felt, report);
    report.add(Row::new(setting.name(&format!("one commit of {whole}: time")), took.as_secs_f64(), "s"));
    drop(clients);
    server.kill().await
}

fn tell(setting: &Setting<'_>, what: &str, quiet: &Felt, felt: &Felt, report: &mut Report) {
    let row = |name: &str, value, unit| Row::new(setting.name(&format!("{what}: {name}")), value, unit);
    told_beside(setting, what, LIVE_RATIO_MAX, (quiet, felt), report);
    let longest = row("longest live commit", felt.live.max_us(), "µs").against("the disk's", felt.disk.max_us());
    report.add(longest.aim(Aim::AtMost(felt.disk.max_us() + LONGEST_US_MAX)));
    let rate = row("live rate", felt.live.count() as f64 / felt.time.as_secs_f64(), "commits/s");
    let pace = CLIENTS as f64 / PACE.as_secs_f64();
    report.add(rate.against("its pace", pace).aim(Aim::RatioAtLeast(RATE_RATIO_MIN)));
}

/// What the clients felt beside something, against what they feel without it.
pub(super) fn told_beside(
    setting: &Setting<'_>,
    what: &str,
    ratio_max: f64,
    (quiet, felt): (&Felt, &Felt),
    report: &mut Report,
) {
    let row = |name: &str, value, unit| Row::new(setting.name(&format!("{what}: {name}")), value, unit);
    let p99 = row("live p99", felt.live.p99_us(), "µs").against("without", quiet.live.p99_us());
    report.add(p99.aim(Aim::RatioAtMost(ratio_max)));
    report.add(row("live p50", felt.live.p50_us(), "µs").against("without", quiet.live.p50_us()));
    report.add(row("the disk's own p99", felt.disk.p99_us(), "µs").against("without", quiet.disk.p99_us()));
}

pub(super) type Work<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Duration>> + 'a>>;

/// Lets the clients commit at their pace, and the probe, while there is work.
pub(super) async fn beside(
    dir: &Path,
    clients: &[Db],
    oids: &Arc<Vec<Oid>>,
    work: Work<'_>,
) -> Result<(Felt, Duration)> {
    let over = Arc::new(AtomicBool::new(false));
    let probe = {
        let (file, over) = (tempfile::tempfile_in(dir)?, over.clone());
        tokio::task::spawn_blocking(move || probe(&file, &over))
    };
    let mut tasks: JoinSet<Result<Latency, Error>> = JoinSet::new();
    let record = Record::new("Live", 1, disk::noise(OBJECT_BYTES, 8)).encode()?;
    let begun = Instant::now();
    for (number, db) in clients.iter().enumerate() {
        let own = oids.len() / clients.len();
        let mine = oids[number * own..(number + 1) * own].to_vec();
        // Evenly apart, so that one stall of the disk is not felt by all of them.
        let first = tokio::time::Instant::now() + PACE * number as u32 / clients.len() as u32;
        tasks.spawn(client(db.clone(), mine, record.clone(), first, over.clone()));
    }
    let took = work.await;
    let time = begun.elapsed();
    over.store(true, Ordering::Release);
    let mut live = Latency::new();
    while let Some(ended) = tasks.join_next().await {
        live.merge(&ended.context("a client")?.context("a client")?);
    }
    let disk = probe.await.context("the probe of the disk")??;
    Ok((Felt { live, time, disk }, took?))
}

/// One object after the other, at the pace; a tick that was missed is left out.
async fn client(
    db: Db,
    oids: Vec<Oid>,
    record: Bytes,
    first: tokio::time::Instant,
    over: Arc<AtomicBool>,
) -> Result<Latency, Error> {
    let mut ticks = tokio::time::interval_at(first, PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut latency = Latency::new();
    for oid in oids.iter().cycle() {
        ticks.tick().await;
        if over.load(Ordering::Acquire) {
            break;
        }
        let begun = Instant::now();
        let tx = db.begin().await?;
        tx.put_encoded(Cell::object(*oid), record.clone())?;
        tx.commit().await?;
        latency.add(begun.elapsed());
    }
    Ok(latency)
}

fn probe(file: &std::fs::File, over: &AtomicBool) -> Result<Latency> {
    let (data, mut offset, mut latency) = (disk::noise(4096, 9), 0, Latency::new());
    while !over.load(Ordering::Acquire) {
        let begun = Instant::now();
        file.write_all_at(&data, offset)?;
        file.sync_data()?;
        latency.add(begun.elapsed());
        offset += data.len() as u64;
        // A pace, not a wait: another sync right away would be a load of its own.
        std::thread::park_timeout(PROBE_EVERY);
    }
    Ok(latency)
}

/// Makes so many objects in commits of `each`, on a thread of its own; gives how long the commits took.
pub(super) async fn writer(url: String, objects: u64, each: u64) -> Result<Duration> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let db = Db::connect_with(&*url, Options::new().name("bench-bulk")).await?;
            let mut oids = Vec::with_capacity(objects as usize);
            for _ in 0..objects {
                oids.push(db.new_oid().await?);
            }
            let record = Record::new("Bulk", 1, disk::noise(OBJECT_BYTES, 6)).encode()?;
            let begun = Instant::now();
            for part in oids.chunks(each.max(1) as usize) {
                let tx = db.begin().await?;
                for oid in part {
                    tx.put_encoded(Cell::object(*oid), record.clone())?;
                }
                tx.commit().await?;
            }
            Ok(begun.elapsed())
        })
    })
    .await
    .context("the bulk writer")?
}
