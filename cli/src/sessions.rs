//! Owns `sessions`: who works with a database now, and the end of a session that should not.

use crate::moment;
use crate::output::{Out, Table, count, size};
use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use zeolite_client::{Admin, SessionInfo};

#[derive(Subcommand)]
pub(crate) enum SessionsCommand {
    /// List them, the oldest first
    List,
    /// End one; its client comes again by itself, unless its user was removed (`zeolite user`)
    Cut {
        /// Its number, as listed
        #[arg(value_parser = number)]
        id: u64,
    },
}

pub(crate) async fn sessions(out: &Out, admin: &Admin, command: &SessionsCommand) -> Result<()> {
    match command {
        SessionsCommand::List => list(out, &admin.sessions().await?)?,
        SessionsCommand::Cut { id } => {
            admin.cut_session(*id).await?;
            match out.is_json() {
                true => out.line(json!({ "id": id, "cut": true })),
                false => out.line(format_args!("session {id} is cut")),
            }
        }
    }
    Ok(())
}

fn list(out: &Out, all: &[SessionInfo]) -> Result<()> {
    if out.is_json() {
        return all.iter().try_for_each(|session| out.json(session));
    }
    let mut table = Table::new(&[">id", "client", "user", "role", "from", "since", ">in flight", ">unread"]);
    for session in all {
        table.add([
            session.id.to_string(),
            session.client.clone(),
            session.principal.clone().unwrap_or_else(|| "anonymous".into()),
            session.role.map_or_else(|| "?".into(), |role| role.to_string()),
            session.address.clone(),
            moment::shown_unix_ms(session.since_unix_ms),
            count(session.in_flight),
            size(session.reply_bytes + session.feed_bytes),
        ]);
    }
    out.table(&table);
    Ok(())
}

fn number(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "write the number that `zeolite sessions list` shows")
}
