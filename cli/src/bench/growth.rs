//! Owns the measurement of growth: what a database does, as it gets larger.
//!
//! Each size is filled on top of the one before and measured once; the first is what the others are held against. What is done to a share of
//! the objects is told for each of them.

use super::child::Server;
use super::report::{Aim, Report, Row};
use super::{Setting, commits, fill, reads, size};
use crate::output::count;
use anyhow::{Result, ensure};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use zeolite_client::{Db, Options, evolve};
use zeolite_proto::{Cell, Oid};

/// What each size is held against: the smallest.
const RATIO_MAX: f64 = 1.5;
/// One of so many objects is written again before a pack.
const REWRITTEN: usize = 100;
const STATUSES: u32 = 20;

/// What grows, and whether it is to stay as it is.
#[derive(Clone, Copy)]
struct What {
    name: &'static str,
    unit: &'static str,
    flat: bool,
}

const fn flat(name: &'static str, unit: &'static str) -> What {
    What { name, unit, flat: true }
}

/// In the order in which [`point`] gives them.
const ALL: [What; 9] = [
    flat("fill", "µs/object"),
    flat("commit p50", "µs"),
    flat("load p50", "µs"),
    flat("status", "ms"),
    flat("plan of an evolve of all", "ms"),
    flat("pack of 1 % garbage", "µs/revision"),
    flat("open files", ""),
    What { name: "resident memory", unit: "MiB", flat: false },
    flat("open after kill -9", "s"),
];

type Point = [f64; ALL.len()];

pub(super) async fn measure(setting: &Setting<'_>, sizes: &[u64], report: &mut Report) -> Result<()> {
    ensure!(sizes.is_sorted(), crate::exit::Usage("give the sizes of --growth in ascending order".into()));
    let dir = setting.scratch()?;
    let mut oids: Vec<Oid> = Vec::new();
    let mut points = Vec::new();
    for size in sizes {
        points.push((*size, point(setting, dir.path(), *size, &mut oids).await?));
    }
    tell(setting, &points, report);
    Ok(())
}

async fn point(setting: &Setting<'_>, dir: &Path, size: u64, oids: &mut Vec<Oid>) -> Result<Point> {
    let doing = setting.doing(&format!("growing to {} objects", count(size)));
    // All history but the newest may go, at once.
    let server = Server::start_with(setting, dir, &["engine.history_min_s=0", "engine.pin_grace_s=0"]).await?;
    let db = Db::connect_with(&*server.url, Options::new().name("bench").cache_bytes(1)).await?;
    let (begun, more) = (Instant::now(), size.saturating_sub(oids.len() as u64));
    oids.extend(fill::objects_of(&db, more, setting.bytes, |_| ()).await?);
    let fill_us = begun.elapsed().as_secs_f64() * 1e6 / more.max(1) as f64;
    // What was filled is gone over before it counts.
    size::pack(db.clone()).await?;
    drop(doing);
    let _doing = setting.doing(&format!("measuring at {} objects", count(size)));
    let own = Arc::new(spread(oids));
    let commit_us = commits::disjoint(std::slice::from_ref(&db), setting.time, &own).await?.latency.p50_us();
    let load_us = reads::one_by_one(&db, oids, setting.time).await?.p50_us();
    let status_ms = statuses(&db).await?;
    let pack_us = pack_us(setting, &db, oids).await?;
    let plan_ms = plan_ms(&db, size).await?;
    let (files, resident_mib) = (server.open_files()?, server.resident_bytes()? as f64 / f64::from(1 << 20));
    drop(db);
    server.kill().await?;
    let server = Server::start(setting, dir).await?;
    let open_s = server.opened_in.as_secs_f64();
    server.kill().await?;
    Ok([fill_us, commit_us, load_us, status_ms, plan_ms, pack_us, files as f64, resident_mib, open_s])
}

/// Some of the objects, from everywhere.
fn spread(oids: &[Oid]) -> Vec<Oid> {
    let wanted = 64;
    oids.iter().copied().step_by((oids.len() / wanted).max(1)).take(wanted).collect()
}

async fn statuses(db: &Db) -> Result<f64> {
    let begun = Instant::now();
    for _ in 0..STATUSES {
        db.admin().status().await?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3 / f64::from(STATUSES))
}

async fn plan_ms(db: &Db, size: u64) -> Result<f64> {
    let begun = Instant::now();
    let new = evolve::NewJob::new(format!("growth-{size}"), evolve::Plan::below("Bench", 2));
    let job = evolve::plan(db, new).await?;
    let took = begun.elapsed();
    // It would keep from the packs to come what it was planned on.
    job.cancel("measured").await?;
    Ok(took.as_secs_f64() * 1e3)
}

/// What a pack takes for each revision that is garbage, if these are everywhere.
async fn pack_us(setting: &Setting<'_>, db: &Db, oids: &[Oid]) -> Result<f64> {
    let record = fill::record_of(setting.bytes).encode()?;
    let rewritten: Vec<Oid> = oids.iter().copied().step_by(REWRITTEN).collect();
    for part in rewritten.chunks(1000) {
        let tx = db.begin().await?;
        for oid in part {
            tx.put_encoded(Cell::object(*oid), record.clone())?;
        }
        tx.commit().await?;
    }
    Ok(size::pack(db.clone()).await?.as_secs_f64() * 1e6 / rewritten.len().max(1) as f64)
}

fn tell(setting: &Setting<'_>, points: &[(u64, Point)], report: &mut Report) {
    let Some((first, of_first)) = points.first() else { return };
    for (at, what) in ALL.iter().enumerate() {
        for (objects, point) in points {
            let name = setting.name(&format!("{} at {} objects", what.name, count(*objects)));
            let row = Row::new(name, point[at], what.unit);
            let row = if objects == first { row } else { row.against(format!("at {}", count(*first)), of_first[at]) };
            let has_aim = objects != first && what.flat;
            report.add(if has_aim { row.aim(Aim::RatioAtMost(RATIO_MAX)) } else { row });
        }
    }
}
