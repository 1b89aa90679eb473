//! Owns the measurements of commits over TCP: one client, many clients, one hot counter.

use super::Setting;
use super::TURNS;
use super::disk::syncs;
use super::report::{Aim, Report, Row};
use super::traffic::{self, Seen};
use crate::bench::{fill, latency::Latency};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeolite_client::Db;
use zeolite_proto::resolvers::{class, counter as number};
use zeolite_proto::{Cell, Oid};

/// Objects of its own that each client goes over.
pub(super) const OBJECTS_PER_CLIENT: usize = 64;

/// One client against what a commit cannot do without; many clients.
pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("commits over TCP");
    let dir = setting.scratch()?;
    let host = setting.host(dir.path()).await?;
    let clients = traffic::connect(&host.url(), setting.clients).await?;
    let oids = own_objects(&clients[0], setting.clients).await?;

    let (mut sync, mut trip, mut one) = (Latency::new(), Latency::new(), Latency::new());
    let turn = setting.time / TURNS;
    for _ in 0..TURNS {
        sync.merge(&tokio::task::block_in_place(|| syncs(dir.path(), turn, fill::OBJECT_BYTES + 128))?);
        trip.merge(&round_trips(&clients[0], turn).await?);
        one.merge(&disjoint(&clients[..1], turn, &oids).await?.latency);
    }
    let least = sync.p50_us() + trip.p50_us();
    report.add(Row::new(setting.name("stream round trip, p50"), trip.p50_us(), "µs"));
    report.add(
        Row::new(setting.name("commit of 1 KiB, 1 client, p50"), one.p50_us(), "µs")
            .against("fdatasync + round trip", least)
            .aim(Aim::RatioAtMost(1.3)),
    );
    report.add(Row::new(setting.name("commit of 1 KiB, 1 client, p99"), one.p99_us(), "µs"));

    let many = disjoint(&clients, setting.time, &oids).await?;
    let name = format!("commits of 1 KiB, {} clients", clients.len());
    report.add(Row::new(setting.name(&name), many.per_second(), "commits/s").aim(Aim::AtLeast(15_000.0)));
    report.add(Row::new(setting.name(&format!("{name}, p50")), many.latency.p50_us(), "µs"));
    report.add(Row::new(setting.name(&format!("{name}, p99")), many.latency.p99_us(), "µs"));
    let shared = vec![clients[0].clone(); clients.len()];
    drop(clients);
    let one_session = disjoint(&shared, setting.time, &oids).await?;
    let name = format!("commits of 1 KiB, {} tasks of one client", shared.len());
    report.add(Row::new(setting.name(&name), one_session.per_second(), "commits/s"));
    drop((doing, shared));
    host.stop().await
}

/// Many clients add to one counter, against the same clients on objects of their own.
pub(super) async fn counter(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("one hot counter");
    let dir = setting.scratch()?;
    let host = setting.host(dir.path()).await?;
    let clients = traffic::connect(&host.url(), setting.clients).await?;
    let oids = own_objects(&clients[0], setting.clients).await?;

    let hot = Cell::object(clients[0].new_oid().await?);
    let tx = clients[0].begin().await?;
    tx.put(hot.clone(), &number::record(0))?;
    tx.commit().await?;
    let (mut apart, mut together) = (Seen::new(), Seen::new());
    for _ in 0..TURNS {
        apart.take_in(&disjoint(&clients, setting.time / TURNS, &oids).await?);
        together.take_in(&adds(&clients, setting.time / TURNS, &hot).await?);
    }
    let record = clients[0].transaction().fresh().begin().await?.get(&hot).await?.context("the counter is gone")?;
    let sum = number::value(&record)?;

    let name = format!("adds to one counter, {} clients", clients.len());
    report.add(
        Row::new(setting.name(&name), together.per_second(), "commits/s")
            .against("own objects", apart.per_second())
            .aim(Aim::RatioAtLeast(0.6)),
    );
    report.add(Row::new(setting.name("adds to one counter, p99"), together.latency.p99_us(), "µs"));
    report.add(
        Row::new(setting.name("adds to one counter, conflicts"), together.conflicts as f64, "").aim(Aim::AtMost(0.0)),
    );
    let missing = (together.done as i64 - sum).unsigned_abs();
    report.add(
        Row::new(setting.name("adds to one counter, sum beside the receipts"), missing as f64, "")
            .aim(Aim::AtMost(0.0)),
    );
    drop((doing, clients));
    host.stop().await
}

/// Each client adds one to the same counter.
async fn adds(clients: &[Db], time: Duration, hot: &Cell) -> Result<Seen> {
    let cell = hot.clone();
    traffic::run(clients, time, move |db: Db, _| {
        let cell = cell.clone();
        async move {
            let tx = db.begin().await?;
            tx.apply(cell, class::COUNTER, number::add(1))?;
            tx.commit().await.map(drop)
        }
    })
    .await
}

/// The time of a question and its answer on the session.
pub(super) async fn round_trips(db: &Db, time: Duration) -> Result<Latency> {
    let mut latency = Latency::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let one = Instant::now();
        db.newest().await?;
        latency.add(one.elapsed());
    }
    Ok(latency)
}

/// Objects for each client.
pub(super) async fn own_objects(db: &Db, clients: usize) -> Result<Arc<Vec<Oid>>> {
    Ok(Arc::new(fill::objects(db, (clients * OBJECTS_PER_CLIENT) as u64, |_| ()).await?))
}

/// Each client writes its own objects, one per commit.
pub(super) async fn disjoint(clients: &[Db], time: Duration, oids: &Arc<Vec<Oid>>) -> Result<Seen> {
    disjoint_as(clients, time, oids, false).await
}

/// The same; `fresh`: each begins with a round trip.
pub(super) async fn disjoint_as(clients: &[Db], time: Duration, oids: &Arc<Vec<Oid>>, fresh: bool) -> Result<Seen> {
    let oids = oids.clone();
    let record = fill::record().encode()?;
    let turns: Arc<Vec<std::sync::atomic::AtomicUsize>> = Arc::new(clients.iter().map(|_| 0.into()).collect());
    traffic::run(clients, time, move |db: Db, client| {
        let turn = turns[client].fetch_add(1, std::sync::atomic::Ordering::Relaxed) % OBJECTS_PER_CLIENT;
        let (cell, record) = (Cell::object(oids[client * OBJECTS_PER_CLIENT + turn]), record.clone());
        async move {
            let asked = db.transaction();
            let tx = if fresh { asked.fresh() } else { asked }.begin().await?;
            tx.put_encoded(cell, record)?;
            tx.commit().await.map(drop)
        }
    })
    .await
    .map_err(|error: anyhow::Error| error.context("clients on objects of their own"))
}
