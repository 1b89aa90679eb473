//! Owns the measurement of commits beside another database, on the same disk in the same run, with that one's own client.
//!
//! ```text
//!   one client, then many:   Zeolite │ the other │ Zeolite │ the other │ …     in turns, so that a slow moment of the disk is felt by both
//!   a commit                 1 KiB over an object, a row, a value of the client's own, durable when it is acknowledged (fsync)
//! ```
//! A peer is started for it in a directory of its own and ended with it; what is not installed is an error that says what to install. Zeolite's
//! clients come over TCP, as ever; PostgreSQL and Redis listen on a Unix socket only, so that nobody else meets them, which is quicker.
//! Not here: ZEO, which is measured with ZODB on top of both (`zodb`).

mod postgres;
mod redis;

use super::latency::Latency;
use super::report::{Report, Row};
use super::{Setting, commits, traffic};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of each measurement.
const ROUNDS: u32 = 3;
/// How long a peer may take to start.
const START: Duration = Duration::from_secs(30);
/// Rows or values that each client goes over, as [`commits::OBJECTS_PER_CLIENT`].
const OF_A_CLIENT: usize = commits::OBJECTS_PER_CLIENT;
const VALUE_BYTES: usize = 1024;

/// Another database.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Peer {
    /// ZEO, as `bench zodb speeds` measures it
    Zeo,
    /// PostgreSQL by pgbench
    Postgres,
    /// Redis that syncs its log for every commit, by redis-benchmark
    Redis,
}

/// What its clients saw.
struct Told {
    latency: Latency,
    done: u64,
    time: Duration,
}

/// A peer that runs.
trait Running {
    const NAME: &'static str;
    /// Lets so many clients commit for a time.
    fn commits(&self, clients: usize, time: Duration) -> Result<Told>;
}

pub(super) async fn measure(setting: &Setting<'_>, peer: Peer, report: &mut Report) -> Result<()> {
    let scratch = setting.scratch()?;
    // Peers have working directories of their own.
    let dir = scratch.path().canonicalize().context("the directory of the peer")?;
    match peer {
        Peer::Zeo => bail!("ZEO is measured with ZODB on top of it, so alone: zeolite bench zodb speeds"),
        Peer::Postgres => beside(setting, postgres::Postgres::start(&dir, setting.clients)?, report).await,
        Peer::Redis => beside(setting, redis::Redis::start(&dir)?, report).await,
    }
}

async fn beside<R: Running>(setting: &Setting<'_>, peer: R, report: &mut Report) -> Result<()> {
    let _doing = setting.doing(&format!("commits beside {}", R::NAME));
    let dir = setting.scratch()?;
    let host = setting.host(dir.path()).await?;
    let clients = traffic::connect(&host.url(), setting.clients).await?;
    let oids = commits::own_objects(&clients[0], setting.clients).await?;
    let turn = setting.time.div_f64(f64::from(ROUNDS)).max(Duration::from_secs(1));
    for count in [1, setting.clients] {
        let mut ours = traffic::Seen::new();
        let mut theirs = Told { latency: Latency::new(), done: 0, time: Duration::ZERO };
        for _ in 0..ROUNDS {
            ours.take_in(&commits::disjoint(&clients[..count], turn, &oids).await?);
            let told = tokio::task::block_in_place(|| peer.commits(count, turn))?;
            theirs.latency.merge(&told.latency);
            theirs.done += told.done;
            theirs.time += told.time;
        }
        let what = if count == 1 { "1 client".to_owned() } else { format!("{count} clients") };
        let row =
            |name: &str, value, unit| Row::new(setting.name(&format!("commit of 1 KiB, {what}{name}")), value, unit);
        report.add(row(", p50", ours.latency.p50_us(), "µs").against(R::NAME, theirs.latency.p50_us()));
        report.add(row(", p99", ours.latency.p99_us(), "µs").against(R::NAME, theirs.latency.p99_us()));
        let rate = theirs.done as f64 / theirs.time.as_secs_f64().max(1e-9);
        report.add(row(", rate", ours.per_second(), "commits/s").against(R::NAME, rate));
    }
    drop(clients);
    host.stop().await
}

/// A child process that ends with its guard.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // As Ctrl-C does: at once, with what it has started.
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::INT);
        }
        drop(self.0.wait());
    }
}

/// Asks again and again until a peer that was just started answers.
fn wait_until(what: &str, child: &mut Ends, mut answers: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + START;
    while !answers() {
        if let Some(status) = child.0.try_wait()? {
            bail!("{what} ended with {status} before it answered; its messages are above");
        }
        if Instant::now() > end {
            bail!("{what} does not answer within {} s", START.as_secs());
        }
        // Another program's server has nothing to wait on.
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// A program on the PATH, or in one of these directories.
fn program(name: &str, more: &[PathBuf], package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).chain(more.iter().cloned()).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.with_context(|| {
        format!("{name} is not installed here: install the package {package}, or leave it out of --against")
    })
}

/// Runs to its end; gives its standard output.
fn run(command: &mut Command) -> Result<String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{shown} does not start"))?;
    if !output.status.success() {
        bail!("{shown} failed with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes a directory below another.
fn below(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
    Ok(path)
}
