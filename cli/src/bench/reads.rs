//! Owns the measurements of reading: loads one at a time and in lists, scans. The server is warm, the client's cache is not used.

use super::commits::round_trips;
use super::report::{Aim, Report, Row};
use super::{Setting, fill};
use crate::bench::latency::Latency;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use zeolite_client::{Db, Options, Range};
use zeolite_proto::{Cell, Oid};

/// Cells of one batched load.
const LIST: usize = 4000;

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("filling for reads");
    let dir = setting.scratch()?;
    let host = setting.host(dir.path()).await?;
    // A cache this small holds nothing for long.
    let options = Options::new().name("bench").cache_bytes(1);
    let db = Db::connect_with(host.url(), options).await?;
    let oids = fill::objects(&db, setting.objects, |_| ()).await?;
    let collection = fill::entries(&db, setting.objects.max(200_000)).await?;
    drop(doing);

    let doing = setting.doing("reads");
    let round_trip = round_trips(&db, setting.time / 2).await?;
    let single = one_by_one(&db, &oids, setting.time).await?;
    report.add(
        Row::new(setting.name("load of 1 KiB, one at a time, p50"), single.p50_us(), "µs")
            .against("round trip", round_trip.p50_us())
            .aim(Aim::AtMost(100.0)),
    );
    report.add(Row::new(setting.name("load of 1 KiB, one at a time, p99"), single.p99_us(), "µs"));
    let rate = in_lists(&db, &oids, setting).await?;
    let name = format!("loads in lists of {LIST}, one client");
    report.add(Row::new(setting.name(&name), rate, "objects/s").aim(Aim::AtLeast(300_000.0)));
    let rate = scans(&db, collection, setting, false).await?;
    report.add(Row::new(setting.name("scan of entries of 32 bytes"), rate, "entries/s").aim(Aim::AtLeast(1_000_000.0)));
    let rate = scans(&db, collection, setting, true).await?;
    report.add(Row::new(setting.name("scan of keys"), rate, "entries/s"));
    drop((doing, db));
    host.stop().await
}

/// Loads of random objects, each waited for.
pub(super) async fn one_by_one(db: &Db, oids: &[Oid], time: Duration) -> Result<Latency> {
    let mut random = fastrand::Rng::with_seed(8);
    let mut latency = Latency::new();
    let view = db.begin().await?;
    let start = Instant::now();
    while start.elapsed() < time {
        let cell = Cell::object(oids[random.usize(0..oids.len())]);
        let one = Instant::now();
        let record = view.get_encoded(&cell).await?;
        latency.add(one.elapsed());
        ensure!(record.is_some(), "object {cell} is gone");
    }
    Ok(latency)
}

async fn in_lists(db: &Db, oids: &[Oid], setting: &Setting<'_>) -> Result<f64> {
    let view = db.begin().await?;
    let cells: Vec<Cell> = oids.iter().map(|oid| Cell::object(*oid)).collect();
    // Once over all, so that the server is warm.
    for list in cells.chunks(LIST) {
        view.get_many(list).await?;
    }
    let start = Instant::now();
    let mut loaded = 0;
    for list in cells.chunks(LIST).cycle() {
        if start.elapsed() >= setting.time {
            break;
        }
        loaded += view.get_many(list).await?.iter().flatten().count();
    }
    Ok(loaded as f64 / start.elapsed().as_secs_f64())
}

async fn scans(db: &Db, collection: Oid, setting: &Setting<'_>, keys_only: bool) -> Result<f64> {
    let view = db.begin().await?;
    let start = Instant::now();
    let mut seen = 0;
    while start.elapsed() < setting.time {
        let range = if keys_only { Range::all().keys_only() } else { Range::all() };
        let mut scan = view.scan(collection, range);
        while let Some(page) = scan.next_page().await? {
            seen += page.len();
        }
    }
    Ok(seen as f64 / start.elapsed().as_secs_f64())
}
