//! Owns `promote`: a follower becomes the primary, for every database that it has.

use crate::output::Out;
use crate::server::Server;
use anyhow::Result;
use clap::Args;
use serde_json::json;
use zeolite_client::Promoted;

#[derive(Args)]
#[command(after_help = "\
Ask the follower that is to be the primary: zeolite --server THAT promote. Whether the old primary is lost is yours to know: with --hand-over
it gives all that it has and steps back, without it is told of the new one as soon as it can be reached, and until then may take writes of
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
pub(crate) async fn promote(out: &Out, server: &Server, args: &PromoteArgs) -> Result<()> {
    let databases = server.admin().await?.status().await?.databases;
    for database in databases {
        let promoted = server.of(&database).admin().await?.promote(args.anyway, args.hand_over).await?;
        let Promoted { term, tid, told, not_told } = promoted;
        if out.is_json() {
            out.json(&json!({ "database": database, "term": term, "tid": tid, "told": told, "not_told": not_told }))?;
            continue;
        }
        out.line(format_args!("{database}: the primary of term {term}, from {tid} on"));
        told.iter().for_each(|other| out.line(format_args!("  {other} was told")));
        not_told.iter().for_each(|other| out.line(format_args!("  could not be told, and is tried again: {other}")));
    }
    Ok(())
}
