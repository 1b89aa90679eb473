//! Owns the measurement of the feed: what sessions that only listen cost those that commit, and what listening costs those that do both.
//!
//! The server is a process of its own, so that its processor time can be told from that of the clients. A client without feed begins
//! each transaction with a round trip; here those with feed do so too, so that nothing but the feed differs.

use super::Setting;
use super::TURNS;
use super::child::Server;
use super::commits::{disjoint_as, own_objects};
use super::report::{Aim, Report, Row};
use super::traffic::{Seen, connect_with};
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use zeolite_client::Db;
use zeolite_proto::Oid;

/// Who commits while others listen.
const COMMITTERS: usize = 8;
const LISTENERS: usize = 248;
/// Sessions that commit and listen.
const BOTH: [usize; 2] = [64, 256];
/// Traffic, and the processor time of the server meanwhile.
struct Cost {
    seen: Seen,
    server: Duration,
}

impl Cost {
    fn new() -> Cost {
        Cost { seen: Seen::new(), server: Duration::ZERO }
    }

    fn us_per_commit(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / self.seen.done.max(1) as f64
    }
}

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let dir = setting.scratch()?;
    let server = Server::start(setting, dir.path()).await?;
    only_listening(setting, &server, report).await?;
    for sessions in BOTH {
        committing_and_listening(setting, &server, sessions, report).await?;
    }
    server.kill().await
}

async fn only_listening(setting: &Setting<'_>, server: &Server, report: &mut Report) -> Result<()> {
    let doing = setting.doing("sessions that only listen");
    let committers = connect_with(&server.url, COMMITTERS, true).await?;
    let oids = own_objects(&committers[0], COMMITTERS).await?;
    let (mut alone, mut beside) = (Cost::new(), Cost::new());
    for _ in 0..TURNS {
        commits(setting, server, &committers, &oids, &mut alone).await?;
        let listeners = connect_with(&server.url, LISTENERS, true).await?;
        commits(setting, server, &committers, &oids, &mut beside).await?;
        drop(listeners);
    }
    let name = |what: &str| setting.name(&format!("{COMMITTERS} clients beside {LISTENERS} that listen, {what}"));
    let (with, without) = (&beside.seen, &alone.seen);
    let row = Row::new(name("commits"), with.per_second(), "/s").against("without them", without.per_second());
    report.add(row.aim(Aim::RatioAtLeast(0.8)));
    let row = Row::new(name("p50"), with.latency.p50_us(), "µs").against("without them", without.latency.p50_us());
    report.add(row.aim(Aim::RatioAtMost(1.5)));
    report.add(Row::new(name("p99"), with.latency.p99_us(), "µs").against("without them", without.latency.p99_us()));
    let (more, less) = (beside.us_per_commit(), alone.us_per_commit());
    report.add(Row::new(name("server CPU a commit"), more, "µs").against("without them", less));
    let row = Row::new(name("a listener adds"), (more - less) / LISTENERS as f64, "µs");
    report.add(row.aim(Aim::AtMost(0.3)));
    drop(doing);
    Ok(())
}

async fn committing_and_listening(
    setting: &Setting<'_>,
    server: &Server,
    sessions: usize,
    report: &mut Report,
) -> Result<()> {
    let _doing = setting.doing(&format!("{sessions} sessions that commit and listen"));
    let (mut with, mut without) = (Cost::new(), Cost::new());
    let mut oids = None;
    for _ in 0..TURNS {
        for (feed, cost) in [(false, &mut without), (true, &mut with)] {
            let clients = connect_with(&server.url, sessions, feed).await?;
            if oids.is_none() {
                oids = Some(own_objects(&clients[0], sessions).await?);
            }
            let oids = oids.as_ref().expect("just made");
            commits(setting, server, &clients, oids, cost).await?;
        }
    }
    let name = |what: &str| setting.name(&format!("{sessions} sessions that commit and listen, {what}"));
    let row = Row::new(name("commits"), with.seen.per_second(), "/s").against("no feed", without.seen.per_second());
    report.add(row.aim(Aim::RatioAtLeast(0.9)));
    report
        .add(Row::new(name("p50"), with.seen.latency.p50_us(), "µs").against("no feed", without.seen.latency.p50_us()));
    report.add(
        Row::new(name("server CPU a commit"), with.us_per_commit(), "µs").against("no feed", without.us_per_commit()),
    );
    Ok(())
}

/// One turn: each client writes its own objects, and begins with a round trip.
async fn commits(
    setting: &Setting<'_>,
    server: &Server,
    clients: &[Db],
    oids: &Arc<Vec<Oid>>,
    cost: &mut Cost,
) -> Result<()> {
    let before = server.processor_time()?;
    let seen = disjoint_as(clients, setting.time / TURNS, oids, true).await?;
    cost.server += server.processor_time()? - before;
    cost.seen.take_in(&seen);
    Ok(())
}
