//! Owns `demo`: WordNet as an object database, and a migration of all of it beside live traffic.
//!
//! ```text
//!   host ─> load ─> live (before) ─> dry run ─> live + evolve (during) ─> check ─> table
//! ```
//! The server is the real one, in this process; the clients reach it over TCP. Every stage goes on where an earlier run
//! was stopped: the load keeps a ledger in the commits of its own work, and so does the evolve.

mod check;
mod dictionary;
mod live;
mod load;
mod migration;
mod synset;
mod table;
mod wordnet;
mod words;

use crate::evolve::{Line, left};
use crate::exit::{Ends, ProblemFound, Usage};
use crate::host::Host;
use crate::output::{Out, count};
use crate::progress::Progress;
use anyhow::{Context, Result};
use clap::Args;
use dictionary::{Dictionary, Ledger};
use live::{Live, Window};
use migration::{Throttled, ToVersion2};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeolite_client::evolve::{DryRun, JobRecord, Phase, Report, Stop, Worker};
use zeolite_client::{Db, Options, Persistent};
use zeolite_proto::Registry;

/// Where the demo's database is unless told otherwise.
const DIRECTORY: &str = "zeolite-demo";

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// The demo's data directory; a demo that was stopped goes on there
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    data: PathBuf,
    /// Live clients
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// How long to measure the clients before the migration begins
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Ranges that the migration works on at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Load about so many synsets, evenly chosen; 0 for all 117,659
    #[arg(long, default_value_t = 0)]
    synsets: usize,
    /// Delete what an earlier demo has left in the directory, and begin anew
    #[arg(long)]
    fresh: bool,
    /// At the end keep the server running until Ctrl-C, for a look around with status, get, scan, history, log
    #[arg(long)]
    keep: bool,
}

/// The resolvers of an application's own, registered natively with the server that the demo starts.
fn registry() -> Registry {
    let mut registry = Registry::built_in();
    registry.register(synset::Synset::CLASS, Arc::new(synset::MergeSynsets));
    registry.register(synset::WORD_CLASS, Arc::new(synset::WordEntry));
    registry
}

/// A client of the demo's server.
async fn connect(url: &str, name: &str, role: &str) -> Result<Db> {
    let options = Options::new().name(name).role(role).resolvers(registry());
    Ok(Db::connect_with(url, options).await?)
}

/// Runs the demo.
pub(crate) async fn demo(out: &Out, args: &DemoArgs) -> Result<()> {
    if args.fresh {
        remove(&args.data)?;
    }
    let host = Host::start(&args.data, registry(), |_| ()).await?;
    out.remark(format_args!("server on {}, data in {}", host.address(), args.data.display()));
    let url = host.url();
    let (stop, mut ends) = (Stopping::default(), Ends::new()?);
    let result = {
        let work = run(out, args, &url, &stop);
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => result,
            why = ends.next("; the database is good, run the demo again to go on where it was stopped") => {
                stop.stop(out, work, &mut ends).await;
                Err(why)
            }
        }
    };
    if args.keep && result.is_ok() {
        let server = host.address();
        out.remark(format_args!("still serving: try `zeolite evolve list --server {server}`; Ctrl-C ends it"));
        let _ = ends.next("").await;
    }
    host.stop().await?;
    result
}

/// The worker, while it runs: Ctrl-C lets it finish its chunk.
#[derive(Default)]
struct Stopping {
    worker: Mutex<Option<Stop>>,
}

impl Stopping {
    fn set(&self, worker: Option<Stop>) {
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = worker;
    }

    /// Stops the worker, if it runs; a second Ctrl-C does not wait for it.
    async fn stop(&self, out: &Out, work: impl Future<Output = Result<()>>, ends: &mut Ends) {
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(worker) = worker else { return };
        worker.stop();
        out.remark("finishing the chunk; Ctrl-C again ends at once");
        tokio::select! {
            _ = work => {}
            _ = ends.next("") => {}
        }
    }
}

async fn run(out: &Out, args: &DemoArgs, url: &str, stop: &Stopping) -> Result<()> {
    let db = connect(url, "demo", "").await?;
    let (dictionary, ledger) = loaded(out, args, &db).await?;
    let synsets = Arc::new(ledger.synsets());
    let mut live = Live::start(url, &dictionary, &synsets, usize::from(args.clients)).await?;
    let before = measure(out, args, &mut live).await?;
    let migration = match migration::is_done(&db).await? {
        true => None,
        false => match migrate(out, args, url, &dictionary, &mut live, stop).await? {
            Some(migration) => Some(migration),
            // Stopped; whoever did it says so.
            None => return live.stop().await,
        },
    };
    live.stop().await?;
    let findings = checked(out, &db, &dictionary, &ledger).await?;
    let broken = findings.iter().filter(|finding| !finding.holds()).count();
    table::tell(out, args, &before, migration.as_ref(), &findings)?;
    let conflicts = before.conflicts + migration.as_ref().map_or(0, |migration| migration.during.conflicts);
    match (broken, conflicts) {
        (0, 0) => Ok(()),
        (0, _) => {
            Err(ProblemFound(format!("live clients saw {} conflicts; there must be none", count(conflicts))).into())
        }
        (_, _) => Err(ProblemFound(format!("{broken} invariants are broken")).into()),
    }
}

/// The dictionary, loaded to the end.
async fn loaded(out: &Out, args: &DemoArgs, db: &Db) -> Result<(Dictionary, Ledger)> {
    let view = db.begin().await?;
    let found = match Dictionary::find(&view).await? {
        Some(dictionary) => {
            let ledger = view.load(dictionary.ledger).await?;
            Some((dictionary, ledger))
        }
        None => None,
    };
    drop(view);
    if let Some((dictionary, ledger)) = &found
        && ledger.is_loaded()
    {
        let done = if migration::is_done(db).await? { ", migrated already (--fresh begins anew)" } else { "" };
        out.remark(format_args!("found {} synsets of an earlier run{done}", count(ledger.total())));
        return Ok((dictionary.clone(), ledger.clone()));
    }
    let source = tokio::task::spawn_blocking(wordnet::load).await??;
    let (dictionary, mut ledger) = match found {
        Some(found) => found,
        None => load::begin(db, &source, args.synsets).await?,
    };
    let progress = Progress::new(out);
    let bars = (progress.bar("load", "synsets", ledger.total()), progress.bar("relate", "synsets", ledger.total()));
    load::load(db, &dictionary, &source, &mut ledger, (&bars.0, &bars.1)).await?;
    Ok((dictionary, ledger))
}

/// The live clients alone.
async fn measure(out: &Out, args: &DemoArgs, live: &mut Live) -> Result<Window> {
    let progress = Progress::new(out);
    let bar = progress.bar("before", "seconds", args.seconds);
    live.cut();
    for second in 0..args.seconds {
        bar.set(second, args.seconds);
        bar.remark(rate(live));
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            error = live.failed() => return Err(error),
        }
    }
    bar.set(args.seconds, args.seconds);
    bar.finish();
    Ok(live.cut())
}

/// What the migration was like.
struct Migration {
    dry_run: Option<DryRun>,
    /// What the live clients saw.
    during: Window,
    report: Report,
    job: JobRecord,
    throttled: Throttled,
}

/// The live clients beside the worker; none: it was stopped.
async fn migrate(
    out: &Out,
    args: &DemoArgs,
    url: &str,
    dictionary: &Dictionary,
    live: &mut Live,
    stop: &Stopping,
) -> Result<Option<Migration>> {
    let db = connect(url, "worker", "evolve").await?;
    let step = ToVersion2 { dictionary: dictionary.clone() };
    let dry_run = match migration::earlier(&db).await? {
        Some(_) => None,
        None => Some(migration::try_out(&db, &step).await?),
    };
    dry_run.iter().for_each(|found| table::tell_dry_run(out, found));
    let job = migration::job(&db, u32::from(args.workers)).await?;
    let progress = Progress::new(out);
    let (bar, traffic) = (progress.bar("migrate", "synsets", 0).without_forecast(), progress.bar("live", "commits", 0));
    let worker = Worker::new(&job).named("demo").tasks(usize::from(args.workers));
    stop.set(Some(worker.stop_handle()));
    live.cut();
    let (work, mut watch, mut throttled) = (worker.run(step), job.watch(), Throttled::default());
    tokio::pin!(work);
    let report = loop {
        tokio::select! {
            report = &mut work => break report.context("the worker")?,
            progress = watch.next(Duration::from_millis(250)) => {
                let Some(now) = progress? else { continue };
                throttled.see(&now);
                bar.remark(format!("{} · {} left", Line::of(&now).text(), left(now.left)));
                bar.set(now.done, now.total);
                traffic.set(live.so_far().0, 0);
                traffic.remark(rate(live));
            }
            error = live.failed() => return Err(error),
        }
    };
    let during = live.cut();
    stop.set(None);
    let now = job.show().await?;
    throttled.see(&now);
    bar.set(now.done, now.total);
    bar.finish();
    traffic.finish();
    match now.job.phase {
        Phase::Done => Ok(Some(Migration { dry_run, during, report, job: now.job, throttled })),
        phase if phase.is_over() => Err(ProblemFound(format!("the migration ended: {}", now.state())).into()),
        _ => Ok(None),
    }
}

fn rate(live: &Live) -> String {
    let (commits, time) = live.so_far();
    // Of a moment nothing can be said.
    if time < Duration::from_millis(200) {
        return String::new();
    }
    format!("{} commits/s", count((commits as f64 / time.as_secs_f64()) as u64))
}

async fn checked(out: &Out, db: &Db, dictionary: &Dictionary, ledger: &Ledger) -> Result<Vec<check::Finding>> {
    let progress = Progress::new(out);
    let bar = progress.bar("check", "synsets", ledger.total());
    check::check(db, dictionary, ledger, &bar).await
}

/// Deletes a demo's directory; anything that does not look like one stays.
fn remove(dir: &std::path::Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    if !dir.join("log").is_dir() {
        return Err(Usage(format!("{} does not look like a demo's directory; delete it by hand", dir.display())).into());
    }
    std::fs::remove_dir_all(dir).with_context(|| format!("{} cannot be deleted", dir.display()))
}
