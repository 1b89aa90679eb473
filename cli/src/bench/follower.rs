//! Owns the measurement of followers: what a copy costs its primary, what a commit waits for one, and how far one is behind under load.
//!
//! ```text
//!   alone                     a server that nobody follows
//!   beside a follower         another one, and a process that follows it as fast as it can
//!   with sync = 1             a third one, whose commits wait until its follower has them on its disk
//! ```
//! They take turns, with the same clients and objects. All are processes of this machine, and share its processors and its disk: a follower
//! on a machine of its own takes nothing of either, so the primary's processor time is told apart.

use super::Setting;
use super::TURNS;
use super::child::Server;
use super::commits::{disjoint, own_objects};
use super::report::{Aim, Report, Row};
use super::traffic::{Seen, connect};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;
use zeolite_client::{Admin, Db, Options, Replication};
use zeolite_proto::Oid;

/// Between two looks at how far a follower is behind.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A primary, and whoever follows it.
struct Side {
    name: &'static str,
    primary: Server,
    follower: Option<Server>,
    clients: Vec<Db>,
    oids: Arc<Vec<Oid>>,
    many: Seen,
    one: Seen,
    primary_time: Duration,
    follower_time: Duration,
    behind: Vec<u64>,
    behind_ms: Vec<u64>,
}

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("followers");
    let dirs = [setting.scratch()?, setting.scratch()?, setting.scratch()?, setting.scratch()?, setting.scratch()?];
    let mut sides = Vec::new();
    for (at, (name, sync)) in
        [("alone", None), ("beside a follower", Some(0)), ("sync = 1", Some(1))].into_iter().enumerate()
    {
        let sets = format!("replication.sync={}", sync.unwrap_or(0));
        let primary = Server::start_with(setting, dirs[at].path(), &[&sets]).await?;
        let follower = match sync {
            Some(_) => Some(Server::follow(setting, dirs[at + 2].path(), &primary.url).await?),
            None => None,
        };
        let clients = connect(&primary.url, setting.clients).await?;
        let oids = own_objects(&clients[0], setting.clients).await?;
        sides.push(Side {
            name,
            primary,
            follower,
            clients,
            oids,
            many: Seen::new(),
            one: Seen::new(),
            primary_time: Duration::ZERO,
            follower_time: Duration::ZERO,
            behind: Vec::new(),
            behind_ms: Vec::new(),
        });
    }
    for _ in 0..TURNS {
        for side in &mut sides {
            side.turn(setting.time / TURNS).await?;
        }
    }
    drop(doing);
    tell(setting, report, &sides);
    for side in sides {
        if let Some(follower) = side.follower {
            follower.kill().await?;
        }
        side.primary.kill().await?;
    }
    Ok(())
}

impl Side {
    async fn turn(&mut self, time: Duration) -> Result<()> {
        let (primary, follower) = (self.primary.processor_time()?, self.follower_time()?);
        let watching = self.follower.as_ref().map(|follower| tokio::spawn(watch(follower.url.clone())));
        self.many.take_in(&disjoint(&self.clients, time, &self.oids).await?);
        if let Some(watching) = watching {
            watching.abort();
            // How far it is when the traffic stops counts as well.
            let now = look(&self.follower.as_ref().context("it is watched")?.url).await?;
            self.behind.push(now.behind.transactions);
            self.behind_ms.push(now.behind_ms);
        }
        self.primary_time += self.primary.processor_time()? - primary;
        self.follower_time += self.follower_time()? - follower;
        self.one.take_in(&disjoint(&self.clients[..1], time, &self.oids).await?);
        Ok(())
    }

    fn follower_time(&self) -> Result<Duration> {
        self.follower.as_ref().map_or(Ok(Duration::ZERO), Server::processor_time)
    }

    fn us_per_commit(&self, of: Duration) -> f64 {
        of.as_secs_f64() * 1e6 / self.many.done.max(1) as f64
    }
}

async fn look(url: &str) -> Result<Replication> {
    Ok(Admin::connect(url, &Options::default()).await?.status().await?.replication)
}

/// Looks now and then, as a monitoring system would.
async fn watch(url: String) {
    while look(&url).await.is_ok() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn tell(setting: &Setting<'_>, report: &mut Report, sides: &[Side]) {
    let Some((alone, others)) = sides.split_first() else { return };
    let clients = setting.clients;
    let name = |side: &Side, what: &str| setting.name(&format!("{clients} clients, {}: {what}", side.name));
    report.add(Row::new(name(alone, "commits"), alone.many.per_second(), "/s"));
    for side in others {
        let row =
            Row::new(name(side, "commits"), side.many.per_second(), "/s").against("alone", alone.many.per_second());
        report.add(if side.name == "sync = 1" { row } else { row.aim(Aim::RatioAtLeast(0.95)) });
        let (p50, least) = (side.many.latency.p50_us(), alone.many.latency.p50_us());
        report.add(Row::new(name(side, "p50"), p50, "µs").against("alone", least));
        let (p99, least) = (side.many.latency.p99_us(), alone.many.latency.p99_us());
        report.add(Row::new(name(side, "p99"), p99, "µs").against("alone", least));
        let (time, least) = (side.us_per_commit(side.primary_time), alone.us_per_commit(alone.primary_time));
        report.add(Row::new(name(side, "primary's CPU a commit"), time, "µs").against("alone", least));
        let row = Row::new(name(side, "follower's CPU a commit"), side.us_per_commit(side.follower_time), "µs");
        report.add(row.against("alone, primary", least));
        let most = side.behind.iter().max().copied().unwrap_or(0);
        report.add(Row::new(name(side, "behind when the traffic stops, at most"), most as f64, "commits"));
        let most = side.behind_ms.iter().max().copied().unwrap_or(0);
        report.add(Row::new(name(side, "for so long, at most"), most as f64, "ms"));
        let (p50, least) = (side.one.latency.p50_us(), alone.one.latency.p50_us());
        let row = Row::new(setting.name(&format!("1 client, {}: p50", side.name)), p50, "µs");
        report.add(row.against("alone", least));
    }
}
