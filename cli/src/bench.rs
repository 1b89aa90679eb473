//! Owns `bench`: what this machine can do at best, and what Zeolite makes of it, in one run, as ratios.
//!
//! ```text
//!   disk       fsync, random reads                  no Zeolite
//!   engine     commits without a network            against the raw log of the same bytes
//!   commits    commits over TCP, 1 and 64 clients   against fdatasync + a round trip
//!   counter    64 clients add to one counter        against the same clients on objects of their own
//!   listeners  commits beside sessions that only listen   against the same commits without them
//!   reads      loads one at a time and in lists, scans
//!   restart    opening after kill -9
//!   handover   clients that commit while the process of the server becomes another one
//!   pack       live traffic beside a pack           against the same traffic alone
//!   evolve     live traffic beside an evolve          against the same traffic alone
//!   bulk       live traffic beside a bulk writer     against the same traffic alone
//!   follower   commits beside a copy elsewhere and one here, and with those that wait for it; how far it is behind
//!   backup     live traffic beside a backup          against the same traffic alone; its restore
//!   tls        commits and loads over TLS           against the same without it
//!   size       many small objects: lists of loads, a plan, packs with nothing to do, what they take on the disk
//!   against    commits beside PostgreSQL or Redis, with their own clients
//!   growth     what a database does at several sizes, each against the first
//!   site       250 sessions while a bulk import, a pack, an evolve and a crash come over them: a picture over time
//!   zodb       ZODB on Zeolite, ZEO and RelStorage        a Python program
//! ```
//! Every part is bounded in time; the data goes into directories of its own that are deleted at the end, also when a signal cuts it
//! (a part that blocks, disk or engine, comes to its own end first).

mod against;
mod backup;
mod bulk;
mod child;
mod commits;
mod disk;
mod engine;
mod evolve;
mod fill;
mod follower;
mod growth;
mod handover;
pub(crate) mod latency;
mod listeners;
mod machine;
mod packing;
mod reads;
mod report;
mod restart;
mod site;
mod size;
mod stages;
mod tls;
mod traffic;
mod zodb;

use crate::exit::{self, Ends};
use crate::host::Host;
use crate::output::Out;
use crate::progress::Progress;
use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use machine::Machine;
use report::Report;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use zeolite_proto::Registry;

/// What is compared takes turns, this often, so that a machine that is slower for a while is so for both.
const TURNS: u32 = 6;

/// A measurement that hears of its end has come to it by then.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// For so long a directory that is left is deleted again.
const REMOVES_FOR: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// fsync and random reads of the data directory; says SSD or spinning disk
    Disk,
    /// Commits of the engine without a network, against the raw log
    Engine,
    /// Commits over TCP: one client, 64 clients
    Commits,
    /// 64 clients add to one counter
    Counter,
    /// Commits beside sessions that only listen, and of sessions that do both
    Listeners,
    /// Loads one at a time and in lists, scans
    Reads,
    /// Opening after kill -9, and the first answers
    Restart,
    /// Clients that commit while the server's process is replaced: handed over, stopped, killed
    Handover,
    /// Live traffic beside a pack
    Pack,
    /// Live traffic beside an evolve of all objects; see `--cases`
    Evolve,
    /// Live traffic beside a bulk writer
    Bulk,
    /// Live traffic beside a backup; how fast that is, and its restore
    Backup,
    /// Commits beside a follower elsewhere (this process takes what it is sent) and one that is a process here, and with one that is waited for
    Follower,
    /// Commits and loads over TLS, and without it
    Tls,
    /// What grows with the number of objects: a plan, packs with nothing to do, lists of loads, the disk; see `--bytes`
    Size,
    /// A site of 250 sessions while a bulk import, a pack, an evolve and a crash come over it: a picture over time; see `--picture`
    Site,
}

#[derive(Subcommand)]
enum Other {
    /// ZODB on Zeolite, beside ZEO over FileStorage and RelStorage on PostgreSQL where they are installed: speeds, and an evolve beside a live site
    Zodb(zodb::ZodbArgs),
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    other: Option<Other>,
    /// What to measure [default: disk engine commits counter reads]
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Where to put the data; it matters which disk that is [default: the current directory]
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    data: PathBuf,
    /// How long each measurement takes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Clients of the measurements with many
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// Objects to fill the database with, for reads, restart, pack, evolve, backup and size; those that bulk writes
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    objects: u64,
    /// The data of an object, for restart, backup, size and growth
    #[arg(long, default_value_t = fill::OBJECT_BYTES, value_parser = bytes)]
    bytes: usize,
    /// Another zeolite program, of a release before: its servers are measured by the parts that start some (listeners, restart, handover, evolve, bulk, follower, size, site)
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Of the part evolve, only these [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    cases: Vec<evolve::Case>,
    /// Only: commits beside another database, with its own client, where it is installed
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PEER", conflicts_with = "parts")]
    against: Vec<against::Peer>,
    /// Where the part site draws its picture (SVG)
    #[arg(long, value_name = "FILE", default_value = "zeolite-bench-site.svg")]
    picture: PathBuf,
    /// Only: where the time of a commit goes, stage by stage, and which is the bottleneck
    #[arg(long, conflicts_with_all = ["parts", "disk", "compare", "growth"])]
    stages: bool,
    /// Only: the disk (the same as the part `disk`)
    #[arg(long, conflicts_with_all = ["parts", "compare", "growth"])]
    disk: bool,
    /// Only: the same work on two directories side by side
    #[arg(long, num_args = 2, value_names = ["DIR_A", "DIR_B"], conflicts_with_all = ["parts", "growth"])]
    compare: Vec<PathBuf>,
    /// Only: what a database does at these numbers of objects, and what it takes; see `--bytes`
    #[arg(long, value_delimiter = ',', value_name = "N,N,...", conflicts_with = "parts")]
    growth: Vec<u64>,
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "write a number of bytes".to_owned())?;
    if (1..=1 << 20).contains(&bytes) { Ok(bytes) } else { Err("from 1 to 1048576".into()) }
}

/// The directories that were made here. A server inside of this process that was cut writes for a moment after its directory was deleted, and
/// so keeps it: what is left is deleted when nothing runs any more.
#[derive(Default)]
pub(crate) struct Scratch(Mutex<Vec<PathBuf>>);

impl Scratch {
    fn make(&self, within: &Path) -> Result<TempDir> {
        let dir = tempfile::Builder::new().prefix("zeolite-bench-").tempdir_in(within);
        let dir = dir.with_context(|| format!("no directory can be made in {}", within.display()))?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(dir.path().to_owned());
        Ok(dir)
    }

    /// Deletes what is left of them.
    pub(crate) fn remove(&self) {
        for dir in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A thread that has not heard of the end may make one more file, when its sync comes back.
            let until = Instant::now() + REMOVES_FOR;
            let is_gone = || std::fs::remove_dir_all(&dir).is_ok() || !dir.exists();
            let is_gone = std::iter::repeat_with(is_gone).find(|is_gone| *is_gone || Instant::now() > until);
            if is_gone != Some(true) {
                tracing::warn!(dir = %dir.display(), "could not be deleted; delete it yourself");
            }
        }
    }
}

/// The measurements of a disk and of an engine hear of nothing before they are done: when they do not end by themselves, the process does.
pub(crate) async fn end_by_force(out: Out, scratch: Arc<Scratch>) {
    let Ok(mut ends) = Ends::new() else { return };
    let why = ends.next("").await;
    // Where the work does hear of it this task is dropped in the meantime.
    tokio::time::sleep(ENDS_WITHIN).await;
    out.error(&why);
    scratch.remove();
    std::process::exit(exit::number(&why).into());
}

/// What every measurement needs to know.
struct Setting<'a> {
    out: &'a Out,
    scratch: &'a Scratch,
    dir: &'a Path,
    time: Duration,
    clients: usize,
    objects: u64,
    /// The data of one.
    bytes: usize,
    /// Another program's servers are measured.
    program: Option<&'a Path>,
    /// Before the names of rows, where several directories are measured.
    label: String,
    /// Of the part evolve; empty: all.
    cases: &'a [evolve::Case],
    /// Of the part site.
    picture: &'a Path,
}

impl Setting<'_> {
    /// A row's name.
    fn name(&self, what: &str) -> String {
        if self.label.is_empty() { what.to_owned() } else { format!("{}: {what}", self.label) }
    }

    /// A directory for one measurement, deleted with the guard.
    fn scratch(&self) -> Result<TempDir> {
        self.scratch.make(self.dir)
    }

    /// A server in this process on a directory.
    async fn host(&self, dir: &Path) -> Result<Host> {
        Host::start(dir, Registry::built_in(), |_| ()).await
    }

    /// A line that says what is being done, until it is dropped or cleared.
    fn doing(&self, what: &str) -> Doing {
        let bar = Progress::new(self.out).bar("bench", "", 0);
        bar.remark(self.name(what));
        bar.set(0, 0);
        Doing { bar }
    }
}

/// Clears its line when it is dropped.
struct Doing {
    bar: crate::progress::Bar,
}

impl Drop for Doing {
    fn drop(&mut self) {
        self.bar.clear();
    }
}

/// Runs what was asked for.
pub(crate) async fn bench(out: &Out, args: &BenchArgs, scratch: &Scratch) -> Result<()> {
    if let Some(Other::Zodb(args)) = &args.other {
        return tokio::task::block_in_place(|| zodb::measure(args));
    }
    if args.against == [against::Peer::Zeo] {
        return tokio::task::block_in_place(|| zodb::measure(&zodb::ZodbArgs::speeds()));
    }
    let setting = |dir, label: &str| Setting {
        out,
        scratch,
        dir,
        time: Duration::from_secs(args.seconds),
        clients: usize::from(args.clients),
        objects: args.objects,
        bytes: args.bytes,
        program: args.program.as_deref(),
        label: label.to_owned(),
        cases: &args.cases,
        picture: &args.picture,
    };
    let mut report = Report::new(Machine::of(args.compare.first().unwrap_or(&args.data)));
    if let [a, b] = &args.compare[..] {
        for (dir, label) in [(a, "A"), (b, "B")] {
            report.remark(format!("{label} is {}: {}", dir.display(), Machine::of(dir).line()));
            compared(&setting(dir.as_path(), label), &mut report).await?;
        }
        report.pair_up("A: ", "B: ");
    } else if !args.growth.is_empty() {
        growth::measure(&setting(&args.data, ""), &args.growth, &mut report).await?;
    } else if !args.against.is_empty() {
        for peer in &args.against {
            against::measure(&setting(&args.data, ""), *peer, &mut report).await?;
        }
    } else if args.stages {
        return stages::measure(out, &setting(&args.data, "")).await;
    } else {
        let setting = setting(&args.data, "");
        for part in chosen(args) {
            one(&setting, part, &mut report).await?;
        }
    }
    report.tell(out)
}

fn chosen(args: &BenchArgs) -> Vec<Part> {
    if args.disk {
        vec![Part::Disk]
    } else if args.parts.is_empty() {
        vec![Part::Disk, Part::Engine, Part::Commits, Part::Counter, Part::Reads]
    } else {
        args.parts.clone()
    }
}

async fn one(setting: &Setting<'_>, part: Part, report: &mut Report) -> Result<()> {
    match part {
        Part::Disk => tokio::task::block_in_place(|| disk::measure(setting, report)),
        Part::Engine => tokio::task::block_in_place(|| engine::measure(setting, report)),
        Part::Commits => commits::measure(setting, report).await,
        Part::Counter => commits::counter(setting, report).await,
        Part::Listeners => listeners::measure(setting, report).await,
        Part::Reads => reads::measure(setting, report).await,
        Part::Restart => restart::measure(setting, report).await,
        Part::Handover => handover::measure(setting, report).await,
        Part::Pack => packing::measure(setting, report).await,
        Part::Evolve => evolve::measure(setting, report).await,
        Part::Bulk => bulk::measure(setting, report).await,
        Part::Backup => backup::measure(setting, report).await,
        Part::Follower => follower::measure(setting, report).await,
        Part::Tls => tls::measure(setting, report).await,
        Part::Size => size::measure(setting, report).await,
        Part::Site => site::measure(setting, setting.picture, report).await,
    }
}

/// What is worth comparing between two disks.
async fn compared(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    for part in [Part::Disk, Part::Engine, Part::Commits, Part::Restart] {
        one(setting, part, report).await?;
    }
    Ok(())
}
