//! Owns `backup` and what is done with backups where they lie: `list`, `verify`, `drill`, `key`.

mod drill;
mod looking;
mod scratch;

use crate::exit::Usage;
use crate::moment;
use crate::output::{Out, count, size};
use crate::progress::Progress;
use crate::server::Server;
use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use zeolite_backup::{Course, Extent, How, Keep, Key, OBJECT_BYTES, Place, Reach, Taken, Tidied, take, tidy};
use zeolite_client::Options;

/// How much others of the machine go before one that is taken.
const NICE: i32 = 10;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    command: Option<BackupCommand>,
    #[command(flatten)]
    taking: TakingArgs,
}

#[derive(Args)]
struct TakingArgs {
    /// Where to: a directory, or s3://BUCKET/PREFIX
    #[arg(required = true)]
    to: Option<String>,
    #[command(flatten)]
    reach: ReachArgs,
    /// Remove what is older: 7d, 36h, 4w; or a number of backups; what these need and the newest one always stay
    #[arg(long, value_name = "TIME|COUNT", default_value = "all")]
    keep: Keep,
    /// Every database of the server that one has a role on
    #[arg(long)]
    all: bool,
    /// A full one, not only what is new
    #[arg(long)]
    full: bool,
    /// A full one when the last full one is older
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = moment::span)]
    full_every: Duration,
    /// Live commits may take this many times what they take without the backup (99th percentile)
    #[arg(long, value_name = "TIMES", default_value_t = 1.2, value_parser = ratio)]
    live_ratio_max: f64,
    /// Bytes of one stored object, about, before they are compressed
    #[arg(long, value_name = "BYTES", default_value_t = OBJECT_BYTES as u64, value_parser = clap::value_parser!(u64).range(4096..=1 << 30))]
    object_bytes: u64,
}

/// How a place of backups is reached.
#[derive(Args, Clone)]
pub(crate) struct ReachArgs {
    /// The file with the key that backups are encrypted with; `zeolite backup key FILE` makes one
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The URL of a server that speaks S3; without it AWS, or AWS_ENDPOINT_URL
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Its region; without it AWS_REGION, or us-east-1
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
}

#[derive(Subcommand)]
enum BackupCommand {
    /// What there is: since when, how much
    List {
        /// Where: a directory, or s3://BUCKET/PREFIX
        from: String,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Read everything and check it, without restoring it
    Verify {
        /// Where: a directory, or s3://BUCKET/PREFIX
        from: String,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Prove the newest backup: restore it into a temporary directory, open it, verify it, compare it
    Drill {
        /// Where: a directory, or s3://BUCKET/PREFIX
        from: String,
        #[command(flatten)]
        reach: ReachArgs,
        /// Where there is room for the database [default: the directory for temporary files]
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
    },
    /// Make a key, in a file that is not there yet
    Key {
        /// The file
        file: PathBuf,
    },
}

/// Lets the taking of one give way to the other processes of its machine: a server and a site, mostly. Before any thread is begun, for all of them.
pub(crate) fn give_way(args: &BackupArgs) {
    if args.command.is_none()
        && let Err(error) = rustix::process::nice(NICE)
    {
        tracing::debug!(%error, "this process does not give way");
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|ratio| *ratio >= 1.0).ok_or_else(|| "write a number from 1 on, as in 1.2".to_owned())
}

impl ReachArgs {
    pub(crate) fn reach(&self) -> Result<Reach> {
        let key = self.key_file.as_deref().map(Key::read).transpose()?;
        Ok(Reach { endpoint: self.endpoint.clone(), region: self.region.clone(), key })
    }
}

/// This machine's clock, in milliseconds since 1970.
pub(crate) fn now_unix_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// `zeolite backup`.
pub(crate) async fn backup(out: &Out, server: &Server, args: &BackupArgs) -> Result<()> {
    match &args.command {
        None => taking(out, server, &args.taking).await,
        Some(BackupCommand::List { from, reach }) => looking::list(out, &Place::look(from, reach.reach()?)?).await,
        Some(BackupCommand::Verify { from, reach }) => {
            looking::verify(out, &Place::look(from, reach.reach()?)?, &server.database).await
        }
        Some(BackupCommand::Drill { from, reach, scratch }) => {
            let place = Place::look(from, reach.reach()?)?;
            drill::drill(out, &place, &server.database, scratch.as_deref()).await
        }
        Some(BackupCommand::Key { file }) => {
            Key::make(file)?;
            out.line(format_args!(
                "{} holds a new key; without it the backups are lost, so keep a copy of it elsewhere",
                file.display()
            ));
            Ok(())
        }
    }
}

async fn taking(out: &Out, server: &Server, args: &TakingArgs) -> Result<()> {
    let to = args.to.as_deref().ok_or_else(|| Usage("name a directory, or s3://BUCKET/PREFIX".to_owned()))?;
    let place = Place::open(to, args.reach.reach()?)?;
    if args.all {
        let databases = server.admin().await?.status().await?.databases;
        for database in databases {
            taking_one(out, &server.of(&database), &place, args).await?;
        }
        return Ok(());
    }
    taking_one(out, server, &place, args).await
}

async fn taking_one(out: &Out, server: &Server, place: &Place, args: &TakingArgs) -> Result<()> {
    let options = Options::new().name("zeolite backup").role("replicate").feed(false).cache_bytes(0);
    let db = server.client(options).await?;
    let how = How {
        full: args.full,
        full_every: args.full_every,
        live_ratio_max: args.live_ratio_max,
        object_bytes: args.object_bytes as usize,
        now_unix_ms,
    };
    let progress = Progress::new(out);
    let bar = progress.bar("backup", "bytes", 0);
    let mut tell = |course: &Course| {
        bar.set(course.bytes, 0);
        bar.remark(course.slowed.clone());
    };
    let taken = take(&db, place, &server.database, &how, &mut tell).await?;
    bar.clear();
    let tidied = tidy(place, &server.database, args.keep, now_unix_ms()).await?;
    tell_taken(out, &taken, &tidied)
}

fn tell_taken(out: &Out, taken: &Taken, tidied: &Tidied) -> Result<()> {
    let manifest = &taken.manifest;
    if out.is_json() {
        return out.json(&json!({
            "backup": format!("{}/{:04}", taken.chain, manifest.number),
            "full": manifest.extent == Extent::Full,
            "why": manifest.why,
            "newest": manifest.to,
            "transactions": manifest.transactions,
            "blobs": manifest.blobs,
            "stored_bytes": manifest.stored_bytes,
            "resumed": taken.resumed,
            "removed_backups": tidied.backups,
            "removed_bytes": tidied.bytes,
            "leavings": tidied.left,
        }));
    }
    let kind = match manifest.extent {
        Extent::Full => format!("full, since {}", manifest.why),
        Extent::Incremental => "incremental".to_owned(),
    };
    out.facts(&[
        ("backup", format!("{}/{:04}: {kind}", taken.chain, manifest.number)),
        ("newest", format!("{} {}", manifest.to, moment::shown(manifest.to))),
        (
            "has",
            format!(
                "{} transactions, {} blobs, in {}",
                count(manifest.transactions),
                count(manifest.blobs),
                size(manifest.stored_bytes)
            ),
        ),
    ]);
    if let Some(behind) = taken.resumed {
        out.line(format_args!("a backup that was cut was gone on with, behind {behind}"));
    }
    if tidied.backups > 0 || !tidied.runs.is_empty() {
        let (backups, runs, bytes) = (count(tidied.backups), tidied.runs.len(), size(tidied.bytes));
        out.line(format_args!("removed: {backups} backups that are too old, {runs} leavings of cut ones, {bytes}"));
    }
    for left in &tidied.left {
        out.remark(format_args!("{left} is of a backup that is not whole; it goes with one of the next"));
    }
    Ok(())
}
