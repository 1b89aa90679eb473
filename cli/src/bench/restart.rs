//! Owns the measurement of what kill -9 costs: opening, the first read and the first commit, once more right after, and in the middle of a
//! fill; and of the memory that a filled server takes.

use super::child::Server;
use super::report::{Aim, Report, Row};
use super::{Setting, fill, traffic};
use anyhow::{Result, ensure};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use zeolite_client::Db;
use zeolite_proto::{Cell, Oid};

/// Beside the memory of its caches.
const RESIDENT_MIB_MAX: f64 = 300.0;
/// From the start of the process until the first of each was answered.
const FIRST_READ_MS_MAX: f64 = 100.0;
const FIRST_COMMIT_MS_MAX: f64 = 300.0;

/// A start, and what the first client saw.
struct First {
    server: Server,
    db: Db,
    read: Duration,
    commit: Duration,
}

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("filling for kill -9");
    let dir = setting.scratch()?;
    // With pages of the index enough for no size, so that what is resident beside them can be told.
    let sets = ["store.index_cache_bytes=67108864"];
    let server = Server::start_with(setting, dir.path(), &sets).await?;
    let empty_s = server.opened_in.as_secs_f64();
    let db = Db::connect(&*server.url).await?;
    let oids = fill::objects_of(&db, setting.objects, setting.bytes, |_| ()).await?;
    drop(doing);
    let doing = setting.doing("kill -9 under traffic");
    write_few(setting, &server, &oids).await?;
    let cache_mib = db.admin().status().await?.cache_bytes as f64 / f64::from(1 << 20);
    let resident_mib = server.resident_bytes()? as f64 / f64::from(1 << 20);
    drop(db);
    server.kill().await?;
    let last = oids.last().copied().unwrap_or_default();
    let once = first(setting, dir.path(), last).await?;
    let opened_s = once.server.opened_in.as_secs_f64();
    let name = format!("open after kill -9, {} objects", setting.objects);
    report.add(Row::new(setting.name(&name), opened_s, "s").against("an empty one", empty_s).aim(Aim::AtMost(1.0)));
    let beside = (resident_mib - cache_mib).max(0.0);
    let row = Row::new(setting.name("resident memory beside the cache"), beside, "MiB");
    report.add(row.aim(Aim::AtMost(RESIDENT_MIB_MAX)));
    tell(setting, report, "after kill -9", &once);
    once.server.kill().await?;

    let again = first(setting, dir.path(), last).await?;
    tell(setting, report, "after another right then", &again);
    drop(doing);
    let _doing = setting.doing("kill -9 in the middle of a fill");
    let filling = again.db.clone();
    let (count, bytes) = (setting.objects.max(100_000_000), setting.bytes);
    let filled = Arc::new(AtomicU64::new(0));
    let fill = tokio::spawn({
        let filled = filled.clone();
        let told = move |more| {
            filled.fetch_add(more, Relaxed);
        };
        async move { fill::objects_of(&filling, count, bytes, told).await }
    });
    tokio::time::sleep(setting.time).await;
    again.server.kill().await?;
    fill.abort();
    ensure!(filled.load(Relaxed) > 0, "the fill had not begun when it was cut off; give more --seconds");
    let amid = first(setting, dir.path(), last).await?;
    tell(setting, report, "after one in the middle of a fill", &amid);
    amid.server.kill().await
}

/// Eight clients that write eight objects for a while.
async fn write_few(setting: &Setting<'_>, server: &Server, oids: &[Oid]) -> Result<()> {
    let clients = traffic::connect(&server.url, 8).await?;
    let record = fill::record_of(setting.bytes).encode()?;
    let few: Vec<_> = oids.iter().copied().take(8).collect();
    let work = move |db: Db, number: usize| {
        let (cell, record) = (Cell::object(few[number % few.len()]), record.clone());
        async move {
            let tx = db.begin().await?;
            tx.put_encoded(cell, record)?;
            tx.commit().await.map(drop)
        }
    };
    traffic::run(&clients, setting.time, work).await.map(drop)
}

/// Starts, reads an object and writes it.
async fn first(setting: &Setting<'_>, dir: &Path, oid: Oid) -> Result<First> {
    let server = Server::start(setting, dir).await?;
    let db = Db::connect(&*server.url).await?;
    let cell = Cell::object(oid);
    let there = db.begin().await?.get(&cell).await?.is_some();
    ensure!(there, "object {oid} was lost by kill -9");
    let read = server.begun.elapsed();
    let tx = db.begin().await?;
    tx.put_encoded(cell, fill::record_of(setting.bytes).encode()?)?;
    tx.commit().await?;
    let commit = server.begun.elapsed();
    Ok(First { server, db, read, commit })
}

fn tell(setting: &Setting<'_>, report: &mut Report, when: &str, first: &First) {
    let times = [("read", first.read, FIRST_READ_MS_MAX), ("commit", first.commit, FIRST_COMMIT_MS_MAX)];
    for (what, took, max) in times {
        let name = setting.name(&format!("first {what} answered {when}"));
        report.add(Row::new(name, took.as_secs_f64() * 1e3, "ms").aim(Aim::AtMost(max)));
    }
}
