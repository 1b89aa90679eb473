//! Owns the measurement of what grows with the number of objects: lists of loads, the plan of an evolve, packs that have nothing to do, and what it all
//! takes on the disk.

use super::child::Server;
use super::report::{Aim, Report, Row};
use super::{Setting, commits, fill, traffic};
use crate::bench::latency::Latency;
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use zeolite_client::{Db, Options, PackOptions, evolve};
use zeolite_proto::resolvers::entry;
use zeolite_proto::{Cell, Oid};

/// Cells of one list.
const LIST: usize = 1000;
const LIST_RATE_MIN: f64 = 250_000.0;
const PLAN_MS_MAX: f64 = 100.0;
const PACK_S_MAX: f64 = 1.0;
const PACK_P99_RATIO_MAX: f64 = 1.3;
const DISK_RATIO_MAX: f64 = 1.6;
/// Clients beside a pack, each with a pause between two commits.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);
/// Packs that go over everything, at most.
const ROUNDS_MAX: usize = 40;
/// Objects that each client makes between two packs.
const MADE: usize = 5;

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("filling");
    let dir = setting.scratch()?;
    // All history but the newest may go, at once.
    let server = Server::start_with(setting, dir.path(), &["engine.history_min_s=0", "engine.pin_grace_s=0"]).await?;
    // A cache this small holds nothing for long.
    let options = Options::new().name("bench").cache_bytes(1);
    let db = Db::connect_with(&*server.url, options).await?;
    let begun = Instant::now();
    let oids = fill::objects_of(&db, setting.objects, setting.bytes, |_| ()).await?;
    let row =
        Row::new(setting.name("fill, one client"), oids.len() as f64 / begun.elapsed().as_secs_f64(), "objects/s");
    report.add(row);
    drop(doing);

    let _doing = setting.doing("lists, plans and packs");
    let rate = in_lists(&db, &oids, setting).await?;
    let name = format!("random loads in lists of {LIST}, one client");
    report.add(Row::new(setting.name(&name), rate, "objects/s").aim(Aim::AtLeast(LIST_RATE_MIN)));
    let data = (setting.objects * fill::record_of(setting.bytes).encode()?.len() as u64) as f64 / 1e6;
    let row = Row::new(setting.name("log and index on the disk"), occupied(dir.path())? / 1e6, "MB");
    report.add(row.against("records", data).aim(Aim::RatioAtMost(DISK_RATIO_MAX)));
    plans(&db, setting, report).await?;
    packs(&db, &server, setting, report).await?;
    server.kill().await
}

/// Objects from everywhere, in no order.
async fn in_lists(db: &Db, oids: &[Oid], setting: &Setting<'_>) -> Result<f64> {
    let mut random = fastrand::Rng::with_seed(9);
    let view = db.begin().await?;
    let mut list = || -> Vec<Cell> { (0..LIST).map(|_| Cell::object(oids[random.usize(0..oids.len())])).collect() };
    // As long before it counts, so that the server is warm.
    let (begun, mut counted, mut loaded) = (Instant::now(), None, 0);
    while begun.elapsed() < 2 * setting.time {
        let found = view.get_many(&list()).await?.iter().flatten().count();
        match counted {
            Some(_) => loaded += found,
            None => counted = (begun.elapsed() >= setting.time).then(Instant::now),
        }
    }
    Ok(loaded as f64 / counted.map_or(1.0, |at| at.elapsed().as_secs_f64()))
}

async fn plans(db: &Db, setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let begun = Instant::now();
    evolve::plan(db, evolve::NewJob::new("size", evolve::Plan::below("Bench", 2))).await?;
    let row = Row::new(setting.name("plan of an evolve of all objects"), begun.elapsed().as_secs_f64() * 1e3, "ms");
    report.add(row.aim(Aim::AtMost(PLAN_MS_MAX)));
    Ok(())
}

/// One over everything that was filled and one that finds nothing new; then in turns one behind objects that all clients have made, and one that goes
/// over everything again, because these are let go of: live traffic beside it, and alone for as long.
async fn packs(db: &Db, server: &Server, setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let clients = traffic::connect(&server.url, CLIENTS).await?;
    let own = commits::own_objects(&clients[0], CLIENTS).await?;
    for (name, aim) in [("the first pack", None), ("a pack with nothing to do", Some(PACK_S_MAX))] {
        let took = pack(db.clone()).await?.as_secs_f64();
        let row = Row::new(setting.name(&format!("{name}, time")), took, "s");
        report.add(Row { aim: aim.map(Aim::AtMost), ..row });
    }
    let (mut beside, mut alone, mut since, mut whole) = (Latency::new(), Latency::new(), Vec::new(), Vec::new());
    while whole.iter().sum::<f64>() < setting.time.as_secs_f64() && whole.len() < ROUNDS_MAX {
        let entries = made_by_all(&clients).await?;
        since.push(pack(db.clone()).await?.as_secs_f64());
        let tx = db.begin().await?;
        entries.into_iter().try_for_each(|cell| tx.delete(cell).map(drop))?;
        tx.commit().await?;
        let ended = Arc::new(AtomicBool::new(false));
        let packing = tokio::spawn({
            let (ended, db) = (ended.clone(), db.clone());
            async move {
                let took = pack(db).await;
                ended.store(true, Ordering::Release);
                took
            }
        });
        beside.merge(&paced(&clients, Duration::MAX, ended, &own).await?);
        let took = packing.await??;
        whole.push(took.as_secs_f64());
        alone.merge(&paced(&clients, took, Arc::default(), &own).await?);
    }
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len().max(1) as f64;
    let row = Row::new(setting.name("a pack behind objects made by 4 clients, time"), mean(&since), "s");
    report.add(row.aim(Aim::AtMost(PACK_S_MAX)));
    report.add(Row::new(setting.name("a pack over everything, time"), mean(&whole), "s"));
    let row = Row::new(setting.name("commit p99 beside it"), beside.p99_us(), "µs");
    report.add(row.against("alone", alone.p99_us()).aim(Aim::RatioAtMost(PACK_P99_RATIO_MAX)));
    let row = Row::new(setting.name("longest commit beside it"), beside.max_us(), "µs");
    report.add(row.against("alone", alone.max_us()));
    Ok(())
}

/// How long a pack takes.
pub(super) async fn pack(db: Db) -> Result<Duration> {
    let begun = Instant::now();
    let mut messages = db.admin().pack(PackOptions::default()).await?;
    while messages.next().await?.is_some() {}
    Ok(begun.elapsed())
}

/// Each client makes objects, with oids of its own block, and enters them at the root; gives the entries.
async fn made_by_all(clients: &[Db]) -> Result<Vec<Cell>> {
    let mut entries = Vec::new();
    for db in clients {
        let tx = db.begin().await?;
        for _ in 0..MADE {
            let oid = db.new_oid().await?;
            let cell = Cell::entry(Oid::ROOT, format!("made-{oid}"));
            tx.put(Cell::object(oid), &fill::record())?;
            tx.put(cell.clone(), &entry::record(b"", vec![oid]))?;
            entries.push(cell);
        }
        tx.commit().await?;
    }
    Ok(entries)
}

/// Commits of one object, with a pause between two that is not counted, for a time or until something has ended.
async fn paced(clients: &[Db], time: Duration, ended: Arc<AtomicBool>, own: &Arc<Vec<Oid>>) -> Result<Latency> {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (client, db) in clients.iter().cloned().enumerate() {
        let (own, ended, record) = (own.clone(), ended.clone(), fill::record().encode()?);
        tasks.spawn(async move {
            let mut latency = Latency::new();
            // Another client has made its objects.
            db.newest().await?;
            for cell in own.iter().skip(client * commits::OBJECTS_PER_CLIENT).take(commits::OBJECTS_PER_CLIENT).cycle()
            {
                if begun.elapsed() >= time || ended.load(Ordering::Acquire) {
                    break;
                }
                let one = Instant::now();
                let tx = db.begin().await?;
                tx.put_encoded(Cell::object(*cell), record.clone())?;
                tx.commit().await?;
                latency.add(one.elapsed());
                tokio::time::sleep(PAUSE).await;
            }
            Ok::<_, zeolite_client::Error>(latency)
        });
    }
    let mut all = Latency::new();
    while let Some(one) = tasks.join_next().await {
        all.merge(&one.context("a client")??);
    }
    Ok(all)
}

/// What the files of a directory take, holes left out.
fn occupied(dir: &Path) -> Result<f64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { occupied(&entry.path())? } else { meta.blocks() as f64 * 512.0 };
    }
    Ok(bytes)
}
