//! Owns the measurement of growth: commits, loads and opening as one database gets larger.

use super::child::Server;
use super::report::{Aim, Report, Row};
use super::{Setting, commits, fill, reads};
use crate::output::count;
use anyhow::{Result, ensure};
use std::sync::Arc;
use zeolite_client::{Db, Options};
use zeolite_proto::Oid;

/// What each size is held against: the smallest.
const RATIO_MAX: f64 = 1.5;

struct Point {
    objects: u64,
    commit_us: f64,
    load_us: f64,
    open_s: f64,
}

pub(super) async fn measure(setting: &Setting<'_>, sizes: &[u64], report: &mut Report) -> Result<()> {
    ensure!(sizes.is_sorted(), crate::exit::Usage("give the sizes of --growth in ascending order".into()));
    let dir = setting.scratch()?;
    let mut oids: Vec<Oid> = Vec::new();
    let mut points: Vec<Point> = Vec::new();
    for size in sizes {
        let doing = setting.doing(&format!("growing to {} objects", count(*size)));
        let server = Server::start(setting, dir.path()).await?;
        let options = Options::new().name("bench").cache_bytes(1);
        let db = Db::connect_with(&*server.url, options).await?;
        oids.extend(fill::objects(&db, size.saturating_sub(oids.len() as u64), |_| ()).await?);
        drop(doing);
        let _doing = setting.doing(&format!("measuring at {} objects", count(*size)));
        let own = Arc::new(spread(&oids));
        let commit_us = commits::disjoint(std::slice::from_ref(&db), setting.time, &own).await?.latency.p50_us();
        let load_us = reads::one_by_one(&db, &oids, setting.time).await?.p50_us();
        drop(db);
        server.kill().await?;
        let server = Server::start(setting, dir.path()).await?;
        let open_s = server.opened_in.as_secs_f64();
        server.kill().await?;
        points.push(Point { objects: *size, commit_us, load_us, open_s });
    }
    tell(setting, &points, report);
    Ok(())
}

/// Some of the objects, from everywhere.
fn spread(oids: &[Oid]) -> Vec<Oid> {
    let wanted = 64;
    oids.iter().copied().step_by((oids.len() / wanted).max(1)).take(wanted).collect()
}

fn tell(setting: &Setting<'_>, points: &[Point], report: &mut Report) {
    let Some(first) = points.first() else { return };
    let number: fn(&Point) -> [f64; 3] = |point| [point.commit_us, point.load_us, point.open_s];
    for (at, (what, unit)) in
        [("commit p50", "µs"), ("load p50", "µs"), ("open after kill -9", "s")].into_iter().enumerate()
    {
        for point in points {
            let name = setting.name(&format!("{what} at {} objects", count(point.objects)));
            let row = Row::new(name, number(point)[at], unit);
            let of_first = format!("at {}", count(first.objects));
            let larger = point.objects != first.objects;
            report.add(if larger {
                row.against(of_first, number(first)[at]).aim(Aim::RatioAtMost(RATIO_MAX))
            } else {
                row
            });
        }
    }
}
