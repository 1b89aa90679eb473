//! Owns the site of the measurements: live clients that rewrite objects, each its own eighth of them.
//!
//! They write in whatever shape they find; so the only thing that they could ever conflict with is the evolve. As on a
//! site, most of them know how an edit and a raised version go together ([`Shape`]): a commit that comes just behind the worker's
//! is merged. Others have no resolver: theirs goes over what the worker wrote.

use super::super::latency::Latency;
use super::CLASS;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use zeolite_client::{Db, Error, Options};
use zeolite_proto::resolver::Unresolved;
use zeolite_proto::{Cell, Oid, Record, Registry, Remedy, Resolver};

pub(super) const CLIENTS: usize = 8;

/// The live clients.
pub(super) struct Site {
    pub(super) clients: Vec<Db>,
    pub(super) oids: Arc<[Oid]>,
}

/// What they saw.
pub(super) struct Felt {
    pub(super) latency: Latency,
    pub(super) conflicts: u64,
    time: Duration,
}

impl Felt {
    pub(super) fn per_second(&self) -> f64 {
        self.latency.count() as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

impl Site {
    /// Lets the clients write while `during` runs; `pace`: how often each of them begins, none: as soon as it can.
    pub(super) async fn live<T>(
        &self,
        pace: Option<Duration>,
        during: impl Future<Output = Result<T>>,
    ) -> Result<(Felt, T)> {
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

    pub(super) async fn alone(&self, pace: Option<Duration>, time: Duration) -> Result<Felt> {
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

pub(super) async fn connect(url: &str, merging: bool) -> Result<Vec<Db>> {
    let mut resolvers = Registry::built_in();
    if merging {
        resolvers.register(CLASS, Arc::new(Shape));
    }
    let mut clients = Vec::with_capacity(CLIENTS);
    for number in 0..CLIENTS {
        let name = format!("bench-{number}");
        let options = Options::new().name(name).cache_bytes(4 << 20).resolvers(resolvers.clone());
        clients.push(Db::connect_with(url, options).await?);
    }
    Ok(clients)
}
