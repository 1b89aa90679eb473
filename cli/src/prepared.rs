//! Owns `prepared`: the transactions that wait for their second phase, and their end where the coordinator does not come back.

use crate::moment;
use crate::output::{Out, Table, count, size};
use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use zeolite_client::{Admin, CommitKey, PreparedDraft};

#[derive(Subcommand)]
pub(crate) enum PreparedCommand {
    /// List them, the oldest first
    List,
    /// Commit one, as its coordinator would: look first what the other systems have done
    Finish {
        /// Its commit key, as listed
        key: CommitKey,
    },
    /// Give one up: nothing of it is committed
    Abort {
        /// Its commit key, as listed
        key: CommitKey,
    },
}

pub(crate) async fn prepared(out: &Out, admin: &Admin, command: &PreparedCommand) -> Result<()> {
    match command {
        PreparedCommand::List => list(out, &admin.prepared().await?)?,
        PreparedCommand::Finish { key } => {
            let tid = admin.finish_prepared(*key).await?.tid;
            match out.is_json() {
                true => out.line(json!({ "key": key, "tid": tid })),
                false => out.line(format_args!("finished {key}: committed {tid}")),
            }
        }
        PreparedCommand::Abort { key } => {
            admin.abort_prepared(*key).await?;
            match out.is_json() {
                true => out.line(json!({ "key": key, "aborted": true })),
                false => out.line(format_args!("aborted {key}")),
            }
        }
    }
    Ok(())
}

fn list(out: &Out, all: &[PreparedDraft]) -> Result<()> {
    if out.is_json() {
        return all.iter().try_for_each(|prepared| out.json(prepared));
    }
    let mut table = Table::new(&["commit key", "owner", "since", ">cells", ">size", "kept"]);
    for prepared in all {
        table.add([
            prepared.key.to_string(),
            prepared.owner.clone().unwrap_or_else(|| "anonymous".into()),
            moment::shown_unix_ms(prepared.since_unix_ms),
            count(prepared.cells),
            size(prepared.bytes),
            if prepared.durable { "on disk" } else { "in memory" }.to_owned(),
        ]);
    }
    out.table(&table);
    Ok(())
}
