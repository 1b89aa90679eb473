//! Owns the measurement of evolves beside clients that think between reading and committing, and of which no class has a resolver:
//! over so few objects that chunks and live writes meet all the time. A live writer must never lose.
//!
//! ```text
//!   live      reads one of its own objects, thinks, writes it in the shape that it has found
//!   evolve    raises the version of all, enters each in a collection under what is in it, counts it; one after the other
//! ```
//! Who finds an object in a shape keeps the collection of that shape right, as a site does. At the end the newest collection and the
//! newest counter have to be exact, and every edit there.

use super::super::disk::noise;
use super::super::fill::OBJECT_BYTES;
use super::site::CLIENTS;
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use zeolite_client::evolve::{self, Phase, Plan, Settings, Stepped};
use zeolite_client::{Db, Error, Options, Range, Tx};
use zeolite_proto::resolvers::{class, collection, counter, entry};
use zeolite_proto::{Cell, Oid, Record, Remedy};

const CLASS: &str = "Thinking";
const OBJECTS: usize = 200;
const EVOLVES: u32 = 4;
const THINK: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Default)]
pub(super) struct Met {
    pub(super) commits: u64,
    pub(super) conflicts: u64,
    /// Edits that are not there at the end.
    pub(super) lost: u64,
    /// Entries of the newest collection that are missing or should not be there, and what the newest counter is off by.
    pub(super) wrong: u64,
    /// Steps that were made anew behind a live write.
    pub(super) again: u64,
}

/// The collection and the counter of a schema version.
#[derive(Clone)]
struct Shapes(Arc<[(Oid, Oid)]>);

impl Shapes {
    async fn make(db: &Db) -> Result<Shapes> {
        let mut shapes = Vec::new();
        for _ in 0..=EVOLVES {
            let (entries, count) = (db.new_oid().await?, db.new_oid().await?);
            let tx = db.begin().await?;
            tx.put(Cell::object(entries), &collection::record(class::MAP))?;
            tx.put(Cell::object(count), &counter::record(0))?;
            tx.commit().await?;
            shapes.push((entries, count));
        }
        Ok(Shapes(shapes.into()))
    }

    fn of(&self, version: u32) -> Option<(Oid, Oid)> {
        self.0.get(version as usize - 1).copied().filter(|_| version > 1)
    }

    fn entry(&self, version: u32, of: Oid, record: &Record) -> Option<Cell> {
        let (entries, _) = self.of(version)?;
        Some(Cell::entry(entries, [&of.0.to_be_bytes()[..], &record.data[..4]].concat()))
    }

    fn enter(&self, tx: &Tx, version: u32, of: Oid, record: &Record) -> Result<(), Error> {
        match self.entry(version, of, record) {
            Some(cell) => tx.put(cell, &entry::record(b"", vec![of])),
            None => Ok(()),
        }
    }

    /// One more edit of the object, in the shape that it has.
    async fn edit(&self, db: &Db, oid: Oid) -> Result<(), Error> {
        let tx = db.begin().await?;
        let Some(old) = tx.get(&Cell::object(oid)).await? else {
            return Err(Error::NotFound { cell: Cell::object(oid) });
        };
        let mut new = old.clone();
        let mut data = new.data.to_vec();
        data[..4].copy_from_slice(&(edits(&old) + 1).to_be_bytes());
        new.data = data.into();
        if let Some(cell) = self.entry(old.version, oid, &old) {
            tx.delete(cell)?;
        }
        self.enter(&tx, new.version, oid, &new)?;
        tx.put(Cell::object(oid), &new)?;
        tokio::time::sleep(THINK).await;
        tx.commit().await.map(drop)
    }
}

/// How often an object was edited stands at its beginning.
fn edits(record: &Record) -> u32 {
    record.data.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

pub(super) async fn measure(url: &str) -> Result<Met> {
    let db = Db::connect_with(url, Options::new().name("bench-worker").role("evolve"));
    let db = db.await?;
    let oids = fill(&db).await?;
    let shapes = Shapes::make(&db).await?;
    let before = sum(&db, &oids).await?;
    let over = Arc::new(AtomicBool::new(false));
    let mut clients: JoinSet<Result<(u64, u64), Error>> = JoinSet::new();
    for number in 0..CLIENTS {
        let db = Db::connect_with(url, Options::new().name(format!("thinking-{number}"))).await?;
        clients.spawn(client(db, number, oids.clone(), shapes.clone(), over.clone()));
    }
    let mut met = Met::default();
    let mut jobs = Vec::new();
    for version in 2..2 + EVOLVES {
        jobs.push(run(&db, &shapes, version).await?);
    }
    over.store(true, Ordering::Release);
    while let Some(ended) = clients.join_next().await {
        let (commits, conflicts) = ended.context("a client")?.context("a client")?;
        (met.commits, met.conflicts) = (met.commits + commits, met.conflicts + conflicts);
    }
    // What live clients that began before the last end went over is paid by whoever works on the job next.
    let last = jobs.pop().context("no evolve ran")?;
    work(&db, &last, &shapes, 1 + EVOLVES).await?;
    jobs.push(last);
    for job in &jobs {
        met.again += job.show().await?.counts.stepped_again;
    }
    met.lost = met.commits.saturating_sub(sum(&db, &oids).await? - before);
    met.wrong = wrong(&db, &oids, &shapes).await?;
    Ok(met)
}

async fn fill(db: &Db) -> Result<Arc<[Oid]>> {
    let (tx, mut oids) = (db.begin().await?, Vec::with_capacity(OBJECTS));
    for _ in 0..OBJECTS {
        oids.push(db.new_oid().await?);
    }
    for oid in &oids {
        tx.put(Cell::object(*oid), &Record::new(CLASS, 1, noise(OBJECT_BYTES, oid.0)))?;
    }
    tx.commit().await?;
    Ok(oids.into())
}

async fn client(
    db: Db,
    number: usize,
    oids: Arc<[Oid]>,
    shapes: Shapes,
    over: Arc<AtomicBool>,
) -> Result<(u64, u64), Error> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let (mut commits, mut conflicts) = (0, 0);
    while !over.load(Ordering::Acquire) {
        let mine = random.usize(0..oids.len() / CLIENTS) * CLIENTS + number;
        match shapes.edit(&db, oids[mine]).await {
            Ok(()) => commits += 1,
            Err(error) if error.remedy() == Remedy::Retry => conflicts += 1,
            Err(error) => return Err(error),
        }
    }
    Ok((commits, conflicts))
}

/// Plans the evolve to the version, and runs it to its end.
async fn run(db: &Db, shapes: &Shapes, version: u32) -> Result<evolve::Job> {
    let mut job = evolve::NewJob::new(format!("thinking-{version}"), Plan::below(CLASS, version));
    job.settings = Settings::default().disk_pause_percent(0.0).disk_stop_percent(0.0).chunk_objects_max(20);
    let job = evolve::plan(db, job).await?;
    work(db, &job, shapes, version).await?;
    Ok(job)
}

async fn work(db: &Db, job: &evolve::Job, shapes: &Shapes, version: u32) -> Result<()> {
    let shapes = shapes.clone();
    let step = evolve::with("enters and counts", move |tx, cell, old| {
        let shapes = shapes.clone();
        Box::pin(async move {
            let new = Record { version, ..old };
            shapes.enter(tx, version, cell.oid, &new)?;
            if let Some((_, count)) = shapes.of(version) {
                tx.apply(Cell::object(count), class::COUNTER, counter::add(1))?;
            }
            Ok(Stepped::Replace(new))
        })
    });
    let report = evolve::Worker::new(job).run(step).await?;
    let reason = job.record().await?.reason;
    ensure!(report.phase == Phase::Done, "the evolve to {version} ended as {} ({reason})", report.phase.text());
    db.newest().await?;
    Ok(())
}

async fn sum(db: &Db, oids: &[Oid]) -> Result<u64> {
    db.newest().await?;
    let cells: Vec<Cell> = oids.iter().copied().map(Cell::object).collect();
    let mut sum = 0;
    for cell in &cells {
        sum += db.now().get(cell).await?.map_or(0, |record| u64::from(edits(&record)));
    }
    Ok(sum)
}

async fn wrong(db: &Db, oids: &[Oid], shapes: &Shapes) -> Result<u64> {
    db.newest().await?;
    let (view, version) = (db.now(), 1 + EVOLVES);
    let (entries, count) = shapes.of(version).context("no such version")?;
    let mut expected = std::collections::BTreeSet::new();
    for oid in oids {
        let record = view.get(&Cell::object(*oid)).await?.context("an object is gone")?;
        expected.extend(shapes.entry(version, *oid, &record).map(|cell| cell.key));
    }
    let found: std::collections::BTreeSet<_> =
        view.entries(entries, Range::all()).await?.into_iter().map(|entry| entry.key).collect();
    let counted = view.get(&Cell::object(count)).await?.context("no counter")?;
    let off = counter::value(&counted).map_err(anyhow::Error::from)?.abs_diff(oids.len() as i64);
    Ok(expected.symmetric_difference(&found).count() as u64 + off)
}
