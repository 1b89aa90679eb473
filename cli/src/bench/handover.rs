//! Owns the measurement of restarts that nobody should notice: clients that commit all the time, while the process of their server becomes
//! another one.
//!
//! ```text
//!   a moment of traffic ── another process: handed over │ stopped and started │ kill -9 and started ──> traffic again
//!        └── each client: a transaction that fails counts, and the longest that one took is the stall that somebody saw
//! ```
//! A stopped or killed server gives up its socket as well: who connects meanwhile is refused and tries again.

use super::child::Server;
use super::latency::Latency;
use super::report::{Aim, Report, Row};
use super::{Setting, fill, traffic};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;
use tokio::task::JoinSet;
use zeolite_client::Db;
use zeolite_proto::{Cell, Oid};

/// The longest that a transaction may take over a restart.
const STALL_MS_MAX: f64 = 500.0;
/// Of each kind.
const TIMES: usize = 3;

/// How a process is followed by the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    HandOver,
    StopAndStart,
    KillAndStart,
}

impl Change {
    const ALL: [(Change, &str); 3] = [
        (Change::HandOver, "handed over"),
        (Change::StopAndStart, "stopped and started"),
        (Change::KillAndStart, "kill -9 and started"),
    ];
}

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("filling for restarts");
    let dir = setting.scratch()?;
    let mut server = Server::start(setting, dir.path()).await?;
    let filler = Db::connect(&*server.url).await?;
    let oids = fill::objects_of(&filler, setting.objects, setting.bytes, |_| ()).await?;
    drop((filler, doing));
    for (change, words) in Change::ALL {
        let _doing = setting.doing(words);
        let begun = begin(setting, &server, &oids).await?;
        for _ in 0..TIMES {
            tokio::time::sleep(setting.time).await;
            match change {
                Change::HandOver => server.hand_over().await?,
                Change::StopAndStart => server = server.stop_and_start(setting, dir.path()).await?,
                Change::KillAndStart => server = server.kill_and_start(setting, dir.path()).await?,
            }
        }
        tokio::time::sleep(setting.time).await;
        let seen = begun.end().await?;
        tell(setting, report, (change, words), &seen);
    }
    server.kill().await
}

/// What clients saw.
struct Seen {
    latency: Latency,
    failed: u64,
    why: Option<String>,
}

struct Begun {
    clients: JoinSet<Seen>,
    done: Arc<AtomicBool>,
}

/// Each client writes an object of its own, again and again.
async fn begin(setting: &Setting<'_>, server: &Server, oids: &[Oid]) -> Result<Begun> {
    let record = fill::record_of(setting.bytes).encode()?;
    let (mut clients, done) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    for (db, oid) in traffic::connect(&server.url, setting.clients).await?.into_iter().zip(oids.iter().copied()) {
        let (record, done) = (record.clone(), done.clone());
        clients.spawn(async move {
            let mut seen = Seen { latency: Latency::new(), failed: 0, why: None };
            while !done.load(Relaxed) {
                let begun = Instant::now();
                let committed = async {
                    let tx = db.begin().await?;
                    tx.put_encoded(Cell::object(oid), record.clone())?;
                    tx.commit().await
                };
                if let Err(error) = committed.await {
                    seen.failed += 1;
                    seen.why = Some(error.to_string());
                }
                seen.latency.add(begun.elapsed());
            }
            seen
        });
    }
    Ok(Begun { clients, done })
}

impl Begun {
    async fn end(mut self) -> Result<Seen> {
        self.done.store(true, Relaxed);
        let mut all = Seen { latency: Latency::new(), failed: 0, why: None };
        while let Some(one) = self.clients.join_next().await {
            let one = one.context("a client")?;
            all.latency.merge(&one.latency);
            all.failed += one.failed;
            all.why = all.why.or(one.why);
        }
        Ok(all)
    }
}

fn tell(setting: &Setting<'_>, report: &mut Report, (change, words): (Change, &str), seen: &Seen) {
    let row = |what: &str, value: f64, unit| Row::new(setting.name(&format!("{words}: {what}")), value, unit);
    report.add(row("transactions that failed", seen.failed as f64, "").aim(Aim::AtMost(0.0)));
    let stall = row("longest transaction", seen.latency.max_us() / 1e3, "ms");
    report.add(if change == Change::HandOver { stall.aim(Aim::AtMost(STALL_MS_MAX)) } else { stall });
    let histogram: Vec<String> = [0.5, 0.99, 0.999, 0.9999]
        .map(|quantile| format!("{:.1}", seen.latency.us(quantile) / 1e3))
        .into_iter()
        .collect();
    let count = seen.latency.count();
    report.remark(format!(
        "{words}, {TIMES} times under {} clients, {count} transactions: p50, p99, p99.9, p99.99 are {} ms",
        setting.clients,
        histogram.join(", ")
    ));
    if let Some(why) = &seen.why {
        report.remark(format!("{words}: one has failed: {why}"));
    }
}
