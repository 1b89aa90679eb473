//! Owns `user`: the file of users, who may come in, in which role, by which tokens.
//!
//! It works on the file and asks no server: the first user is there before the first start, and nobody makes users over the network. A running
//! server takes a change in within a second or two. A token is shown once, on standard output alone, so that it can be
//! put into a file: `zeolite user token shop > token`.

use crate::exit::Usage;
use crate::moment;
use crate::output::{Out, Table};
use anyhow::{Context, Result, ensure};
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeolite_proto::Role;
use zeolite_server::auth::token::Token;
use zeolite_server::auth::users::{EVERY_DATABASE, KeptToken, Limits, User, Users};

const EXAMPLE: &str = "\
From nothing:
  zeolite user --file /etc/zeolite/users.toml add shop --role write > shop.token
  zeolite serve --set auth.users_file=/etc/zeolite/users.toml
  zeolite --token-file shop.token status

A new token for one that may be known: `token NAME`, then `revoke ID`; connections that use the old one are cut within seconds.
A client certificate counts for the user whose name it has (common name, or a DNS, URI or mail name): `add NAME --no-token`.";

#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct UserArgs {
    /// The file of users [default: auth.users_file of the settings]
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The settings file that names it [default: zeolite.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "ZEOLITE_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Subcommand)]
enum UserCommand {
    /// A new user with a first token
    Add {
        /// What he is called, in the roles, the audit and the log
        name: String,
        #[command(flatten)]
        rights: Rights,
        #[command(flatten)]
        life: Life,
        /// Make no token: the user comes with a client certificate
        #[arg(long, conflicts_with = "expires")]
        no_token: bool,
    },
    /// Another role for a user, on some databases or on all that are not named
    Grant {
        /// Who is in the file
        name: String,
        #[command(flatten)]
        rights: Rights,
    },
    /// Take a user's role on some databases away
    Withdraw {
        /// Who is in the file
        name: String,
        /// On which database
        #[arg(long = "on", value_name = "DATABASE", required = true)]
        databases: Vec<String>,
    },
    /// Bound what a user may have at once, and write in a second, over all connections
    Limit {
        /// Who is in the file
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Who there is, with the short ids of their tokens, and their limits
    List,
    /// Remove a user with all tokens
    Remove {
        /// Who is in the file
        name: String,
    },
    /// One more token for a user; it is shown once
    Token {
        /// Who is in the file
        name: String,
        #[command(flatten)]
        life: Life,
    },
    /// End a token, by its short id
    Revoke { id: String },
}

#[derive(Args)]
struct Rights {
    /// read, write, evolve, replicate or admin
    #[arg(long)]
    role: Role,
    /// On this database; several times for several. Without it: on every one
    #[arg(long = "on", value_name = "DATABASE")]
    databases: Vec<String>,
}

/// A number, or `none` to lift a limit.
#[derive(Clone, Copy)]
struct Most(Option<u64>);

impl std::str::FromStr for Most {
    type Err = String;

    fn from_str(text: &str) -> Result<Most, String> {
        match text {
            "none" => Ok(Most(None)),
            text => text.parse().map(|most| Most(Some(most))).map_err(|_| "write a number, or none".to_owned()),
        }
    }
}

/// The same of bytes, which may have a unit, as in settings.
fn most_bytes(text: &str) -> Result<Most, String> {
    if text == "none" {
        return Ok(Most(None));
    }
    let size = text.parse::<ByteSize>();
    size.map(|size| Most(Some(size.as_u64())))
        .map_err(|_| "write a number of bytes, a size like 10MiB, or none".to_owned())
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct LimitArgs {
    /// Open sessions
    #[arg(long, value_name = "NUMBER|none")]
    sessions: Option<Most>,
    /// Pinned snapshots
    #[arg(long, value_name = "NUMBER|none")]
    pins: Option<Most>,
    /// Prepared drafts
    #[arg(long, value_name = "NUMBER|none")]
    prepared_drafts: Option<Most>,
    /// Bytes of prepared drafts
    #[arg(long, value_name = "SIZE|none", value_parser = most_bytes)]
    prepared_bytes: Option<Most>,
    /// Blobs on their way up or down
    #[arg(long, value_name = "NUMBER|none")]
    open_blobs: Option<Most>,
    /// Streams of the log: backups, copies, followers
    #[arg(long, value_name = "NUMBER|none")]
    log_streams: Option<Most>,
    /// Commits in a second; as many may come at once
    #[arg(long, value_name = "NUMBER|none")]
    commits_per_s: Option<Most>,
    /// Bytes written in a second, in drafts and blobs
    #[arg(long, value_name = "SIZE|none", value_parser = most_bytes)]
    written_bytes_per_s: Option<Most>,
}

impl LimitArgs {
    fn change(&self, limits: &mut Limits) {
        let pairs = [
            (&mut limits.sessions, self.sessions),
            (&mut limits.pins, self.pins),
            (&mut limits.prepared_drafts, self.prepared_drafts),
            (&mut limits.prepared_bytes, self.prepared_bytes),
            (&mut limits.open_blobs, self.open_blobs),
            (&mut limits.log_streams, self.log_streams),
            (&mut limits.commits_per_s, self.commits_per_s),
            (&mut limits.written_bytes_per_s, self.written_bytes_per_s),
        ];
        for (limit, said) in pairs {
            *limit = said.map_or(*limit, |Most(most)| most);
        }
    }
}

#[derive(Args)]
struct Life {
    /// After how long the token ends, as in 30d or 12h; without it, never
    #[arg(long, value_name = "TIME", value_parser = crate::moment::span)]
    expires: Option<Duration>,
}

/// Runs the command.
pub(crate) fn user(out: &Out, args: &UserArgs, database: &str) -> Result<()> {
    if database != crate::server::DATABASE {
        let said = format!(
            "{database}: -d and ZEOLITE_DATABASE mean nothing here, the file is of all databases; --on {database} gives a role on that one"
        );
        return Err(Usage(said).into());
    }
    let file = match &args.file {
        Some(file) => file.clone(),
        None => crate::serve::users_file(args.config.as_deref())?.ok_or_else(|| {
            Usage("no file of users is named: give --file FILE, or set auth.users_file in zeolite.toml".into())
        })?,
    };
    let change = |what: &dyn Fn(&mut Users) -> Result<(), String>| Users::change(&file, what).map_err(Usage);
    match &args.command {
        UserCommand::Add { name, rights: Rights { role, databases }, life, no_token } => {
            let token = if *no_token { None } else { Some(new_token()?) };
            let (now, ends) = life.begun();
            change(&|users| {
                users.add(name, *role, databases)?;
                token.iter().try_for_each(|token| users.keep(name, token, now, ends))
            })?;
            token.iter().try_for_each(|token| show(out, name, token, ends))
        }
        UserCommand::Grant { name, rights: Rights { role, databases } } => {
            Ok(change(&|users| users.grant(name, *role, databases))?)
        }
        UserCommand::Withdraw { name, databases } => Ok(change(&|users| users.withdraw(name, databases))?),
        UserCommand::Limit { name, limits } => Ok(change(&|users| users.limit(name, |kept| limits.change(kept)))?),
        UserCommand::List => list(out, &Users::read(&file).map_err(Usage)?),
        UserCommand::Remove { name } => Ok(change(&|users| users.remove(name))?),
        UserCommand::Token { name, life } => {
            let token = new_token()?;
            let (now, ends) = life.begun();
            change(&|users| users.keep(name, &token, now, ends))?;
            show(out, name, &token, ends)
        }
        UserCommand::Revoke { id } => Ok(change(&|users| users.revoke(id).map(drop))?),
    }
}

impl Life {
    /// Now, and when what is made now ends, in seconds since 1970.
    fn begun(&self) -> (u64, Option<u64>) {
        let now = unix_s();
        (now, self.expires.map(|life| now.saturating_add(life.as_secs())))
    }
}

fn new_token() -> Result<Token> {
    Token::new().context("the operating system has no randomness")
}

#[expect(clippy::disallowed_methods, reason = "the life of a token begins at the time of this machine")]
fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn show(out: &Out, name: &str, token: &Token, ends: Option<u64>) -> Result<()> {
    if out.is_json() {
        out.json(&json!({ "user": name, "id": token.id(), "token": token.secret(), "expires_unix_s": ends }))?;
    } else {
        out.line(token.secret());
    }
    let id = token.id();
    ensure!(
        !out.is_closed(),
        "the token cannot be written there and is shown once: zeolite user revoke {id}, then zeolite user token {name}"
    );
    Ok(())
}

fn list(out: &Out, users: &Users) -> Result<()> {
    let now = unix_s();
    if out.is_json() {
        return users.users.iter().try_for_each(|(name, user)| out.json(&as_json(name, user, now)));
    }
    let mut table = Table::new(&["user", "roles", "tokens", "limits"]);
    for (name, user) in &users.users {
        let roles: Vec<String> = user.roles.iter().map(|(database, role)| on(database, *role)).collect();
        let tokens: Vec<String> =
            user.tokens.iter().map(|(id, token)| format!("{id} ({})", life(token, now))).collect();
        let limits: Vec<String> = limits(&user.limits).map(|(limit, most)| format!("{limit} {most}")).collect();
        table.add([name.clone(), roles.join(", "), tokens.join(", "), limits.join(", ")]);
    }
    out.table(&table);
    Ok(())
}

/// Those that there are.
fn limits(limits: &Limits) -> impl Iterator<Item = (&'static str, u64)> {
    limits.named().into_iter().filter_map(|(name, most)| Some((name, most?)))
}

fn on(database: &str, role: Role) -> String {
    if database == EVERY_DATABASE { role.to_string() } else { format!("{role} on {database}") }
}

fn life(token: &KeptToken, now: u64) -> String {
    match token.expires_unix_s {
        None => "does not end".into(),
        Some(_) if !token.is_valid(now) => "has expired".into(),
        Some(ends) => format!("ends in {}", moment::duration((ends - now) * 1000)),
    }
}

/// Without the sums of the tokens: nobody needs them.
fn as_json(name: &str, user: &User, now: u64) -> serde_json::Value {
    let token = |(id, token): (&String, &KeptToken)| {
        json!({ "id": id, "made_unix_s": token.made_unix_s, "expires_unix_s": token.expires_unix_s,
                "valid": token.is_valid(now) })
    };
    json!({ "user": name, "roles": user.roles, "tokens": user.tokens.iter().map(token).collect::<Vec<_>>(),
            "limits": limits(&user.limits).collect::<std::collections::BTreeMap<_, _>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_said_as_in_settings() {
        let of = |text| most_bytes(text).ok().map(|Most(most)| most);
        let said = ["10MiB", "1.5 kB", "7", "none", "many", "-1"].map(of);
        assert_eq!(said, [Some(Some(10 << 20)), Some(Some(1500)), Some(Some(7)), Some(None), None, None]);
    }
}
