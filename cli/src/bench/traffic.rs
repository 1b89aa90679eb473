//! Owns traffic: a number of clients that do one thing over and over for a time, and what they saw.

use super::latency::Latency;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use zeolite_client::{Db, Error, Options};
use zeolite_proto::Remedy;

/// What the clients saw.
pub(super) struct Seen {
    pub(super) done: u64,
    /// Refused because of another commit.
    pub(super) conflicts: u64,
    pub(super) latency: Latency,
    pub(super) time: Duration,
}

impl Seen {
    pub(super) fn new() -> Seen {
        Seen { done: 0, conflicts: 0, latency: Latency::new(), time: Duration::ZERO }
    }

    /// Adds a later stretch of the same traffic.
    pub(super) fn take_in(&mut self, later: &Seen) {
        self.done += later.done;
        self.conflicts += later.conflicts;
        self.latency.merge(&later.latency);
        self.time += later.time;
    }

    pub(super) fn per_second(&self) -> f64 {
        self.done as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Connections, one per client.
pub(super) async fn connect(url: &str, clients: usize) -> Result<Vec<Db>> {
    connect_with(url, clients, true).await
}

/// The same with or without feed.
pub(super) async fn connect_with(url: &str, clients: usize, feed: bool) -> Result<Vec<Db>> {
    let mut all = Vec::with_capacity(clients);
    for number in 0..clients {
        let options = Options::new().name(format!("bench-{number}")).cache_bytes(4 << 20).feed(feed);
        all.push(Db::connect_with(url, options).await?);
    }
    Ok(all)
}

/// Lets each client do its work, again and again, until the time is over. The work gets the client's number.
pub(super) async fn run<F>(
    clients: &[Db],
    time: Duration,
    work: impl Fn(Db, usize) -> F + Clone + Send + 'static,
) -> Result<Seen>
where
    F: Future<Output = Result<(), Error>> + Send,
{
    let mut tasks: JoinSet<Result<(u64, u64, Latency), Error>> = JoinSet::new();
    let start = Instant::now();
    for (number, db) in clients.iter().cloned().enumerate() {
        let work = work.clone();
        tasks.spawn(async move {
            let (mut done, mut conflicts, mut latency) = (0, 0, Latency::new());
            while start.elapsed() < time {
                let one = Instant::now();
                match work(db.clone(), number).await {
                    Ok(()) => done += 1,
                    Err(error) if error.remedy() == Remedy::Retry => conflicts += 1,
                    Err(error) => return Err(error),
                }
                latency.add(one.elapsed());
            }
            Ok((done, conflicts, latency))
        });
    }
    let mut seen = Seen::new();
    while let Some(ended) = tasks.join_next().await {
        let (done, conflicts, latency) = ended.context("a client")?.context("a client")?;
        seen.done += done;
        seen.conflicts += conflicts;
        seen.latency.merge(&latency);
    }
    seen.time = start.elapsed();
    Ok(seen)
}
