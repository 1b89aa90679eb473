//! Owns the measurement of followers: what a copy costs its primary, what a commit waits for one, and how far one is behind under load.
//!
//! ```text
//!   alone                     a server that nobody follows
//!   a follower elsewhere      another one, and this process takes what a follower is sent, says that it has it, and drops it
//!   a follower here           a third one, and a process that follows it as fast as it can
//!   with sync = 1             a fourth one, whose commits wait until its follower has them on its disk
//! ```
//! They take turns, with the same clients and objects, on one machine. A follower that is a process here takes of the processors and of the disk
//! what it would take of its own machine's, so what its primary pays does not show in the commits a second. *Elsewhere* leaves that out, and keeps
//! all that the primary does for a follower, with the other end of the connection: so it is what is lost at the primary, seen from above.

use super::Setting;
use super::TURNS;
use super::child::Server;
use super::commits::{disjoint, own_objects};
use super::report::{Aim, Report, Row};
use super::traffic::{Seen, connect};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use zeolite_client::{Admin, Db, FollowHello, Options, Replication};
use zeolite_proto::{Oid, Tid};

/// Between two looks at how far a follower is behind.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who follows.
enum Follower {
    Nobody,
    Elsewhere(JoinHandle<Result<()>>),
    Here(Box<Server>),
}

/// A primary, and whoever follows it.
struct Side {
    name: &'static str,
    primary: Server,
    follower: Follower,
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
    let mut dirs = Vec::new();
    let mut scratch = || -> Result<PathBuf> {
        dirs.push(setting.scratch()?);
        Ok(dirs.last().context("it was made")?.path().to_owned())
    };
    let mut sides = Vec::new();
    for (name, sync) in [("alone", 0), ("a follower elsewhere", 0), ("a follower here", 0), ("sync = 1", 1)] {
        let primary = Server::start_with(setting, &scratch()?, &[&format!("replication.sync={sync}")]).await?;
        let follower = match name {
            "alone" => Follower::Nobody,
            "a follower elsewhere" => Follower::Elsewhere(tokio::spawn(take(primary.url.clone()))),
            _ => Follower::Here(Box::new(Server::follow(setting, &scratch()?, &primary.url).await?)),
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
        match side.follower {
            Follower::Nobody => {}
            Follower::Elsewhere(taking) => {
                anyhow::ensure!(
                    !taking.is_finished(),
                    "the follower elsewhere was sent nothing more: {:?}",
                    taking.await
                );
                taking.abort();
            }
            Follower::Here(follower) => follower.kill().await?,
        }
        side.primary.kill().await?;
    }
    Ok(())
}

impl Side {
    async fn turn(&mut self, time: Duration) -> Result<()> {
        let (primary, follower) = (self.primary.processor_time()?, self.follower_time()?);
        let here = if let Follower::Here(follower) = &self.follower { Some(&follower.url) } else { None };
        let watching = here.map(|url| (url, tokio::spawn(watch(url.clone()))));
        self.many.take_in(&disjoint(&self.clients, time, &self.oids).await?);
        if let Some((url, watching)) = watching {
            watching.abort();
            // How far it is when the traffic stops counts as well.
            let now = look(url).await?;
            self.behind.push(now.behind.transactions);
            self.behind_ms.push(now.behind_ms);
        }
        self.primary_time += self.primary.processor_time()? - primary;
        self.follower_time += self.follower_time()? - follower;
        self.one.take_in(&disjoint(&self.clients[..1], time, &self.oids).await?);
        Ok(())
    }

    fn follower_time(&self) -> Result<Duration> {
        match &self.follower {
            Follower::Here(follower) => follower.processor_time(),
            Follower::Nobody | Follower::Elsewhere(_) => Ok(Duration::ZERO),
        }
    }

    fn us_per_commit(&self, of: Duration) -> f64 {
        of.as_secs_f64() * 1e6 / self.many.done.max(1) as f64
    }
}

/// Follows as a copy that is as fast as its line.
async fn take(primary: String) -> Result<()> {
    let hello = FollowHello {
        follower: *b"elsewhere, bench",
        name: "elsewhere".to_owned(),
        store_id: 0,
        timeline: 0,
        have: Tid::NONE,
        term: 0,
        packed_said: Tid::NONE,
        life: 0,
    };
    let mut followed = Admin::connect(&primary, &Options::default()).await?.follow(&hello).await?.followed;
    let words = followed.words();
    while let Some(page) = followed.page().await? {
        if !page.log.is_empty() && !words.have(page.newest).await {
            break;
        }
    }
    Ok(())
}

async fn look(url: &str) -> Result<Replication> {
    Ok(Admin::connect(url, &Options::default()).await?.status().await?.replication)
}

/// Looks now and then, as a monitoring system would.
async fn watch(url: String) -> Result<()> {
    let admin = Admin::connect(&url, &Options::default()).await?;
    loop {
        admin.status().await?;
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
        let is_elsewhere = matches!(side.follower, Follower::Elsewhere(_));
        report.add(if is_elsewhere { row.aim(Aim::RatioAtLeast(0.95)) } else { row });
        let (p50, least) = (side.many.latency.p50_us(), alone.many.latency.p50_us());
        report.add(Row::new(name(side, "p50"), p50, "µs").against("alone", least));
        let (p99, least) = (side.many.latency.p99_us(), alone.many.latency.p99_us());
        report.add(Row::new(name(side, "p99"), p99, "µs").against("alone", least));
        let (time, least) = (side.us_per_commit(side.primary_time), alone.us_per_commit(alone.primary_time));
        let row = Row::new(name(side, "primary's CPU a commit"), time, "µs").against("alone", least);
        report.add(if is_elsewhere { row.aim(Aim::RatioAtMost(1.05)) } else { row });
        let (p50, least_p50) = (side.one.latency.p50_us(), alone.one.latency.p50_us());
        let row = Row::new(setting.name(&format!("1 client, {}: p50", side.name)), p50, "µs");
        report.add(row.against("alone", least_p50));
        if is_elsewhere {
            continue;
        }
        let row = Row::new(name(side, "follower's CPU a commit"), side.us_per_commit(side.follower_time), "µs");
        report.add(row.against("alone, primary", least));
        let most = side.behind.iter().max().copied().unwrap_or(0);
        report.add(Row::new(name(side, "behind when the traffic stops, at most"), most as f64, "commits"));
        let most = side.behind_ms.iter().max().copied().unwrap_or(0);
        report.add(Row::new(name(side, "for so long, at most"), most as f64, "ms"));
    }
}
