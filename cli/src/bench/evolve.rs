//! Owns the measurements of an evolve beside live traffic: what the clients of the site feel, and what the evolve takes.
//!
//! ```text
//!   alone     8 clients unpaced (the capacity), and paced at half of it      the evolve without traffic
//!   paced     the evolve beside the paced clients
//!   unpaced   the evolve beside clients as fast as they can
//!   whole     all objects in one commit beside the paced clients
//!   bare      the evolve beside clients as fast as they can that have no resolver
//!   thinking  four evolves beside clients without any resolver that think between reading and committing, over few objects
//!   programs  a step in Python that keeps each object: the way there and back, a line for each and in lists
//!   tasks     one task and four, with a step that costs processor time
//!   memory    workers in processes of their own, on all objects and on a tenth of them
//! ```

mod site;
mod thinking;
pub(super) mod versions;

use super::child::Server;
use super::report::{Aim, Report, Row};
use super::{Setting, fill};
use anyhow::Result;
use clap::ValueEnum;
use site::{CLIENTS, Felt, Site, connect};
use std::sync::Arc;
use std::time::Duration;
use versions::{How, Versions};
use zeolite_client::evolve::Plan;
use zeolite_client::{Db, Options};
use zeolite_proto::Oid;

/// What one draft may hold (`limits.draft_bytes_max`), with the ledger.
const WHOLE_OBJECTS_MAX: u64 = 120_000;
const CLASS: &str = "Bench";
/// How much longer live commits may take while the evolve runs, at the 99th percentile.
const LIVE_RATIO_MAX: f64 = 1.5;
/// Rounds of a checksum that make a step cost about a third of a millisecond.
const COSTLY_ROUNDS: usize = 400;

/// What of an evolve is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Case {
    /// Beside clients at half of what they can do
    Paced,
    /// Beside clients as fast as they can
    Unpaced,
    /// All objects in one commit, beside the paced clients
    Whole,
    /// Beside clients as fast as they can that have no resolver
    Bare,
    /// Beside clients that have no resolver and think between reading and committing, over few objects
    Thinking,
    /// A program in Python 3 as the step, which keeps each object: with a line for each, and in lists of 500
    Programs,
    /// One task and four, with a step that costs processor time
    Tasks,
    /// The memory of a worker, on all objects and on a tenth of them
    Memory,
}

/// The site without an evolve, and the evolve without a site.
struct Alone {
    free: Felt,
    /// Between two commits of a paced client.
    pace: Duration,
    idle: Duration,
}

pub(super) async fn measure(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let doing = setting.doing("filling for evolves");
    let dir = setting.scratch()?;
    let server = Server::start(setting, dir.path()).await?;
    let clients = connect(&server.url, true).await?;
    let oids: Arc<[Oid]> = fill::objects(&clients[0], setting.objects, |_| ()).await?.into();
    let options = Options::new().name("bench-worker").role("evolve");
    let worker = Db::connect_with(&*server.url, options).await?;
    let site = Site { clients, oids };
    drop(doing);
    let mut versions = Versions::new(&worker, &server.url);
    let wanted = |case| setting.cases.is_empty() || setting.cases.contains(&case);
    if [Case::Paced, Case::Unpaced, Case::Whole].into_iter().any(wanted) {
        let alone = alone(setting, &site, &mut versions, report).await?;
        if wanted(Case::Paced) {
            paced(setting, &site, &mut versions, &alone, report).await?;
        }
        if wanted(Case::Unpaced) {
            unpaced(setting, &site, &mut versions, &alone, report).await?;
        }
        if wanted(Case::Whole) {
            whole(setting, &site, &mut versions, &alone, report).await?;
        }
    }
    if wanted(Case::Bare) {
        bare(setting, &site, &mut versions, &server.url, report).await?;
    }
    if wanted(Case::Thinking) {
        thinking(setting, &server.url, report).await?;
    }
    if wanted(Case::Programs) {
        programs(setting, &mut versions, report).await?;
    }
    if wanted(Case::Tasks) {
        tasks(setting, &mut versions, report).await?;
    }
    if wanted(Case::Memory) {
        memory(setting, &site.oids, &mut versions, report).await?;
    }
    drop((site, worker));
    server.kill().await
}

fn row(setting: &Setting<'_>, name: &str, value: f64, unit: &'static str) -> Row {
    Row::new(setting.name(name), value, unit)
}

async fn alone(setting: &Setting<'_>, site: &Site, versions: &mut Versions<'_>, report: &mut Report) -> Result<Alone> {
    let _doing = setting.doing("live clients alone, the evolve alone");
    let free = site.alone(None, setting.time).await?;
    let pace = Duration::from_secs_f64(2.0 * CLIENTS as f64 / free.per_second());
    let (idle, _) = versions.evolve(How::default()).await?;
    report.add(row(setting, "evolve without traffic", setting.objects as f64 / idle.as_secs_f64(), "objects/s"));
    Ok(Alone { free, pace, idle })
}

async fn paced(
    setting: &Setting<'_>,
    site: &Site,
    versions: &mut Versions<'_>,
    alone: &Alone,
    report: &mut Report,
) -> Result<()> {
    let _doing = setting.doing("the evolve beside paced clients");
    let without = site.alone(Some(alone.pace), setting.time.max(Duration::from_secs(5))).await?;
    let (felt, (took, again)) = site.live(Some(alone.pace), versions.evolve(How::default())).await?;
    report.add(row(setting, "paced: conflicts of live clients", felt.conflicts as f64, "").aim(Aim::AtMost(0.0)));
    let p99 = row(setting, "paced: live p99 during the evolve", felt.latency.p99_us(), "µs");
    report.add(p99.against("without", without.latency.p99_us()).aim(Aim::RatioAtMost(LIVE_RATIO_MAX)));
    let p50 = row(setting, "paced: live p50 during the evolve", felt.latency.p50_us(), "µs");
    report.add(p50.against("without", without.latency.p50_us()));
    let rate = row(setting, "paced: live commits", felt.per_second(), "commits/s");
    report.add(rate.against("without", without.per_second()));
    let time = row(setting, "paced: time of the evolve", took.as_secs_f64(), "s");
    report.add(time.against("without traffic", alone.idle.as_secs_f64()).aim(Aim::RatioAtMost(3.0)));
    report.add(row(setting, "paced: objects stepped again", again as f64, ""));
    Ok(())
}

async fn unpaced(
    setting: &Setting<'_>,
    site: &Site,
    versions: &mut Versions<'_>,
    alone: &Alone,
    report: &mut Report,
) -> Result<()> {
    let _doing = setting.doing("the evolve beside unpaced clients");
    let (felt, (took, again)) = site.live(None, versions.evolve(How::default())).await?;
    report.add(row(setting, "unpaced: conflicts of live clients", felt.conflicts as f64, "").aim(Aim::AtMost(0.0)));
    let rate = row(setting, "unpaced: live commits", felt.per_second(), "commits/s");
    report.add(rate.against("without", alone.free.per_second()).aim(Aim::RatioAtLeast(0.8)));
    let time = row(setting, "unpaced: time of the evolve", took.as_secs_f64(), "s");
    report.add(time.against("without traffic", alone.idle.as_secs_f64()));
    report.add(row(setting, "unpaced: objects stepped again", again as f64, ""));
    Ok(())
}

async fn whole(
    setting: &Setting<'_>,
    site: &Site,
    versions: &mut Versions<'_>,
    alone: &Alone,
    report: &mut Report,
) -> Result<()> {
    if setting.objects > WHOLE_OBJECTS_MAX {
        report.remark(format!("one commit takes at most {WHOLE_OBJECTS_MAX} of these objects: left out"));
        return Ok(());
    }
    let _doing = setting.doing("all objects in one commit, beside paced clients");
    let how = How { whole: true, ..How::default() };
    let (felt, (took, again)) = site.live(Some(alone.pace), versions.evolve(how)).await?;
    let time = row(setting, "one commit: finished after", took.as_secs_f64(), "s");
    report.add(time.against("in chunks without traffic", alone.idle.as_secs_f64()));
    report.add(row(setting, "one commit: conflicts of live clients", felt.conflicts as f64, "").aim(Aim::AtMost(0.0)));
    report.add(row(setting, "one commit: longest live commit", felt.latency.max_us(), "µs"));
    report.add(row(setting, "one commit: objects stepped again", again as f64, ""));
    Ok(())
}

async fn bare(
    setting: &Setting<'_>,
    site: &Site,
    versions: &mut Versions<'_>,
    url: &str,
    report: &mut Report,
) -> Result<()> {
    let _doing = setting.doing("the evolve beside unpaced clients without a resolver");
    let site = Site { clients: connect(url, false).await?, oids: site.oids.clone() };
    let (felt, (took, again)) = site.live(None, versions.evolve(How::default())).await?;
    report.add(row(setting, "no resolver: conflicts of live clients", felt.conflicts as f64, "").aim(Aim::AtMost(0.0)));
    report.add(row(setting, "no resolver: live commits", felt.per_second(), "commits/s"));
    report.add(row(setting, "no resolver: time of the evolve", took.as_secs_f64(), "s"));
    report.add(row(setting, "no resolver: objects stepped again", again as f64, ""));
    Ok(())
}

async fn thinking(setting: &Setting<'_>, url: &str, report: &mut Report) -> Result<()> {
    let _doing = setting.doing("evolves beside clients that think and have no resolver");
    let met = thinking::measure(url).await?;
    report.add(row(setting, "thinking: conflicts of live clients", met.conflicts as f64, "").aim(Aim::AtMost(0.0)));
    report.add(row(setting, "thinking: live commits", met.commits as f64, ""));
    report.add(row(setting, "thinking: edits lost", met.lost as f64, "").aim(Aim::AtMost(0.0)));
    report.add(row(setting, "thinking: entries and counts that are wrong", met.wrong as f64, "").aim(Aim::AtMost(0.0)));
    report.add(row(setting, "thinking: objects stepped again", met.again as f64, ""));
    Ok(())
}

async fn programs(setting: &Setting<'_>, versions: &mut Versions<'_>, report: &mut Report) -> Result<()> {
    let _doing = setting.doing("a step in Python");
    if !versions::has_python().await {
        report.remark("there is no python3 here: steps in Python are left out".to_owned());
        return Ok(());
    }
    let rate = |took: Duration| setting.objects as f64 / took.as_secs_f64();
    let lines = rate(versions.keep(None).await?);
    let lists = rate(versions.keep(Some(500)).await?);
    let row = row(setting, "empty step in Python, in lists of 500", lists, "objects/s");
    report.add(row.against("a line for each", lines).aim(Aim::AtLeast(20_000.0)));
    Ok(())
}

async fn tasks(setting: &Setting<'_>, versions: &mut Versions<'_>, report: &mut Report) -> Result<()> {
    let _doing = setting.doing("one task and four, with a step that costs processor time");
    let how = How { rounds: COSTLY_ROUNDS, ..How::default() };
    let (one, _) = versions.evolve(how).await?;
    let (four, _) = versions.evolve(How { tasks: 4, ..how }).await?;
    let rate = |took: Duration| setting.objects as f64 / took.as_secs_f64();
    let row = row(setting, "costly step, 4 tasks", rate(four), "objects/s");
    report.add(row.against("1 task", rate(one)).aim(Aim::RatioAtLeast(1.5)));
    Ok(())
}

async fn memory(setting: &Setting<'_>, oids: &[Oid], versions: &mut Versions<'_>, report: &mut Report) -> Result<()> {
    let _doing = setting.doing("memory of a worker");
    let tenth = versions.memory(|_| Plan::oids(oids.iter().copied().step_by(10))).await?;
    let all = versions.memory(|version| Plan::below(CLASS, version)).await?;
    let row = row(setting, "memory of a worker", all / 1e6, "MB");
    report.add(row.against("with a tenth of the objects", tenth / 1e6).aim(Aim::RatioAtMost(1.25)));
    Ok(())
}
