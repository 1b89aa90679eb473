//! Owns `restore`: a database made of a backup, in a directory or in an empty database of a server.

use crate::backup::ReachArgs;
use crate::exit::Usage;
use crate::host::Host;
use crate::moment::{self, At};
use crate::output::{Out, count, size};
use crate::progress::Progress;
use crate::server::Server;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use zeolite_backup::{Chosen, Error, Place, Restored, Shelf, choose, real_path, restore as restore_all};
use zeolite_client::{Db, Options};
use zeolite_proto::{Registry, Tid};

#[derive(Args)]
#[command(group(clap::ArgGroup::new("target").required(true)))]
pub(crate) struct RestoreArgs {
    /// Where the backups are: a directory, or s3://BUCKET/PREFIX
    from: String,
    #[command(flatten)]
    reach: ReachArgs,
    /// Make a data directory, for `serve --data`
    #[arg(long, value_name = "DIR", group = "target")]
    into: Option<PathBuf>,
    /// Into the empty database of a running server (--server, -d)
    #[arg(long, group = "target")]
    into_server: bool,
    /// As of this tid or time, inclusive; without it the newest. A time without a zone is of this machine's (write 2026-11-29T03:00Z for UTC)
    #[arg(long, value_name = "TID|TIME")]
    to: Option<At>,
    /// Of which database the backup is, when it is not the one that -d names
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// From this chain of backups, as `backup list` names it; without it the newest that has the moment
    #[arg(long, value_name = "NAME")]
    chain: Option<String>,
    /// Go on with a restore that was cut
    #[arg(long)]
    resume: bool,
    /// Without --to: the newest that is whole, although something newer is damaged
    #[arg(long, conflicts_with = "to")]
    despite_damage: bool,
}

/// `zeolite restore`.
pub(crate) async fn restore(out: &Out, server: &Server, args: &RestoreArgs) -> Result<()> {
    let place = Place::look(&args.from, args.reach.reach()?)?;
    let of = args.of.as_deref().unwrap_or(&server.database);
    let shelf = Shelf::look(&place, of).await?;
    let shelf = if let Some(chain) = &args.chain { shelf.only(chain)? } else { shelf };
    let chosen = choose(&shelf, args.to.map(|at| at.0))?;
    if !chosen.others.is_empty() {
        let (chain, others) = (&chosen.chain.name, chosen.others.join(", "));
        out.complain(format_args!(
            "{chain} is taken; other lives of {of} have that moment as well ({others}): name one with --chain"
        ));
    }
    refuse_older(&chosen, args.despite_damage)?;
    let begun = Instant::now();
    let restored = match &args.into {
        Some(dir) => {
            let there = std::fs::read_dir(dir).map(|mut entries| entries.next().is_some()).unwrap_or(false);
            if there && !args.resume {
                return Err(Usage(format!(
                    "{} is not empty; name a new directory, or say --resume to go on with a restore that was cut",
                    dir.display()
                ))
                .into());
            }
            apart(place.dir(), dir)?;
            into_dir(out, &place, &chosen, dir, args.resume).await?
        }
        None => {
            let db = server.client(options()).await?;
            into_db(out, &place, &chosen, &db, args.resume).await?
        }
    };
    if args.to.is_some() && restored.newest == Tid::NONE {
        out.complain(
            "nothing had been committed then, and the database is empty: is the time of this machine's zone meant?",
        );
    }
    tell(out, &chosen, &restored, begun.elapsed().as_secs_f64())
}

/// A database in the place of its backups, or around it, would take them for its own.
fn apart(place: Option<&Path>, dir: &Path) -> Result<()> {
    let real = real_path(dir);
    match place {
        Some(place) if real.starts_with(place) || place.starts_with(&real) => Err(Usage(format!(
            "{} and the backups in {} lie in one another; name a directory elsewhere",
            dir.display(),
            place.display()
        ))
        .into()),
        _ => Ok(()),
    }
}

/// Nobody gets an older state who asks for the newest one, unless they say so.
fn refuse_older(chosen: &Chosen, despite_damage: bool) -> Result<()> {
    if chosen.damage.is_empty() || despite_damage {
        return Ok(());
    }
    let (damage, covers) = (chosen.damage.join("; "), chosen.chain.covers());
    Err(Error::Refused(format!(
        "the newest backup is damaged: {damage}. What is whole goes up to {covers} ({}): name a moment (--to), or say --despite-damage to restore that",
        covers.utc()
    ))
    .into())
}

fn options() -> Options {
    Options::new().name("zeolite restore").role("replicate").feed(false).cache_bytes(0)
}

/// Restores into a data directory, by a server inside of this process.
pub(crate) async fn into_dir(out: &Out, place: &Place, chosen: &Chosen, dir: &Path, resume: bool) -> Result<Restored> {
    let settings = crate::serve::offline(dir)?;
    let (store, engine, limits, sessions) = (settings.store, settings.engine, settings.limits, settings.sessions);
    let host = Host::start(dir, Registry::built_in(), |own| {
        (own.store, own.engine, own.limits, own.sessions) = (store, engine, limits, sessions);
    })
    .await
    .with_context(|| format!("a database in {}", dir.display()))?;
    let db = Db::connect_with(host.url(), options()).await?;
    let restored = into_db(out, place, chosen, &db, resume).await;
    drop(db);
    // Also when it failed: what came is closed well, and can be gone on with.
    let stopped = host.stop().await;
    let restored = restored?;
    stopped?;
    Ok(restored)
}

async fn into_db(out: &Out, place: &Place, chosen: &Chosen, db: &Db, resume: bool) -> Result<Restored> {
    let progress = Progress::new(out);
    let bar = Arc::new(progress.bar("restore", "bytes", 0));
    let told = bar.clone();
    let restored = restore_all(place, chosen, db, resume, Arc::new(move |bytes| told.set(bytes, 0))).await;
    bar.clear();
    Ok(restored?)
}

fn tell(out: &Out, chosen: &Chosen, restored: &Restored, seconds: f64) -> Result<()> {
    if out.is_json() {
        return out.json(&json!({
            "chain": chosen.chain.name,
            "transactions": restored.transactions,
            "newest": restored.newest,
            "bytes": restored.bytes,
            "resumed": restored.resumed,
            "time_s": seconds,
        }));
    }
    let (transactions, newest) = (count(restored.transactions), restored.newest);
    out.line(format_args!(
        "{transactions} transactions up to {newest} {}, {} in {seconds:.1} s, from {}",
        moment::shown(newest),
        size(restored.bytes),
        chosen.chain.name
    ));
    Ok(())
}
