//! Owns `promote`: a follower becomes the primary, for every database that it has, or the one that is named.

use crate::output::Out;
use crate::server::Server;
use anyhow::Result;
use clap::Args;
use serde_json::json;
use zeolite_client::{Promoted, Seat};

#[derive(Args)]
#[command(after_help = "\
Ask the follower that is to be the primary: zeolite --server THAT promote. Whether the old primary is lost is yours to know: with --hand-over \
it gives all that it has and steps back, without it is told of the new one as soon as it can be reached, and until then may take writes of \
clients that know of no other.")]
pub(crate) struct PromoteArgs {
    /// The primary is there, finishes what it has and gives it over: nothing is lost, and no client is refused
    #[arg(long)]
    hand_over: bool,
    /// Also where the primary is there, or another copy has more: what this one has not is lost
    #[arg(long, conflicts_with = "hand_over")]
    anyway: bool,
}

/// `zeolite promote`.
///
/// `named`: one database is named, be it `main`.
pub(crate) async fn promote(out: &Out, server: &Server, args: &PromoteArgs, named: bool) -> Result<()> {
    let databases = match named {
        true => vec![server.database.clone()],
        false => server.admin().await?.status().await?.databases,
    };
    let (count, mut refused) = (databases.len(), Vec::new());
    for database in databases {
        if let Err(error) = promote_one(out, &server.of(&database), args).await {
            if count > 1 {
                out.complain(format_args!("{database}: was not promoted: {error:#}"));
            }
            refused.push((database, error));
        }
    }
    let failed = refused.len();
    match refused.into_iter().next() {
        None => Ok(()),
        Some((_, error)) if count == 1 => Err(error),
        Some((database, error)) => {
            Err(error.context(format!("{failed} of {count} databases were not promoted; {database}")))
        }
    }
}

async fn promote_one(out: &Out, server: &Server, args: &PromoteArgs) -> Result<()> {
    let (admin, database) = (server.admin().await?, &server.database);
    let now = admin.status().await?.replication;
    if now.seat == Seat::Primary {
        if out.is_json() {
            let (term, tid) = (now.term, now.newest);
            return out.json(&json!({ "database": database, "term": term, "tid": tid, "told": [], "not_told": [], "was_primary": true }));
        }
        out.line(format_args!("{database}: is the primary of term {} already", now.term));
        return Ok(());
    }
    let Promoted { term, tid, told, not_told } = admin.promote(args.anyway, args.hand_over).await?;
    if out.is_json() {
        return out.json(
            &json!({ "database": database, "term": term, "tid": tid, "told": told, "not_told": not_told, "was_primary": false }),
        );
    }
    out.line(format_args!("{database}: the primary of term {term}, from {tid} on"));
    told.iter().for_each(|other| out.line(format_args!("  {other} was told")));
    not_told.iter().for_each(|other| out.line(format_args!("  could not be told, and is tried again: {other}")));
    Ok(())
}
