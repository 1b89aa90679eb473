//! Owns the command line: every command, option and help text.

use crate::credentials::{Credentials, EVERYWHERE};
use crate::exit;
use crate::moment::At;
use crate::place::Place;
use clap::parser::ValueSource;
use clap::{Arg, Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use zeolite_proto::Tid;

/// Zeolite, a transactional object database server.
#[derive(Parser)]
#[command(name = "zeolite", version, after_help = exit::HELP, max_term_width = 110)]
pub(crate) struct Cli {
    /// One JSON value per line instead of text for people
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,

    /// The server to talk to
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "HOST[:PORT]", env = "ZEOLITE_SERVER", default_value = crate::server::ADDRESS,
          value_parser = crate::server::address)]
    pub(crate) server: String,

    /// Which of the server's databases
    #[arg(long, short = 'd', global = true, help_heading = EVERYWHERE, value_name = "NAME", env = "ZEOLITE_DATABASE", default_value = crate::server::DATABASE)]
    pub(crate) database: String,

    /// After so many seconds without an answer the server counts as not there (30 unless told otherwise; check: 10)
    #[arg(long, short = 't', global = true, help_heading = EVERYWHERE, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,

    #[command(flatten)]
    pub(crate) credentials: Credentials,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Whether a database is named, on the command line or in the environment, be it `main`.
pub(crate) fn is_database_named() -> bool {
    let given = Cli::command().try_get_matches();
    given.is_ok_and(|given| given.value_source("database") != Some(ValueSource::DefaultValue))
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a server on a data directory
    Serve(crate::serve::ServeArgs),
    /// Run a server that keeps a warm, read-only copy of another one
    Follow(crate::serve::FollowArgs),
    /// Make a follower the primary: it stops following and takes writes
    Promote(crate::promote::PromoteArgs),
    /// Let a new process take the place of a running server, which clients hardly notice: for an upgrade, or new settings
    Restart(crate::restart::RestartArgs),
    /// Who may come in: users, their roles and tokens, in a file of this machine
    User(crate::user::UserArgs),
    /// Look at the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// How the server is: health, sizes, counts, where the time of commits goes
    Status(StatusArgs),
    /// Look once, for a monitoring system: Nagios, Zenoss and others that read the monitoring plugins' format
    Check(crate::check::CheckArgs),
    /// Look at the machine, the settings and the files that a server has or is to have: what is wrong, and what to do
    #[command(after_help = crate::doctor::HELP)]
    Doctor(crate::serve::ServeArgs),
    /// Watch a server: rates, latencies, queues, conflicts, every second
    Top(crate::top::TopArgs),
    /// Show one cell: an object, or one entry of a collection
    Get(GetArgs),
    /// List the entries of a collection in key order
    Scan(ScanArgs),
    /// List the revisions of a cell, newest first
    History(HistoryArgs),
    /// List transactions, the newest first
    Log(LogArgs),
    /// Undo one transaction by a new one
    Undo(UndoArgs),
    /// Who may write: show it, or switch it while everything runs, with a banner and an end
    Mode(crate::mode::ModeArgs),
    /// Transactions that are prepared and wait for their second phase: list them, or end one
    #[command(subcommand)]
    Prepared(crate::prepared::PreparedCommand),
    /// Who works with the database now: list the sessions, or cut one
    #[command(subcommand)]
    Sessions(crate::sessions::SessionsCommand),
    /// The gates of classes: schema versions below which nothing is taken any more
    #[command(subcommand)]
    Gate(crate::gate::GateCommand),
    /// Remove old revisions and unreachable objects, beside full traffic
    Pack(PackArgs),
    /// Read everything and check it: every checksum, every reference, index against log
    Verify(VerifyArgs),
    /// Back up a running database: all of it, or what is new; list, verify and try backups
    Backup(crate::backup::BackupArgs),
    /// Make a database of a backup, as of any moment that it has
    Restore(crate::restore::RestoreArgs),
    /// Delete the index of a data directory and build it again from the log
    Reindex(ReindexArgs),
    /// Change all the data of a live site: plan, run, steer, look at, undo
    #[command(subcommand)]
    Evolve(crate::evolve::EvolveCommand),
    /// Load WordNet, then migrate all of it while eight clients go on writing
    Demo(crate::demo::DemoArgs),
    /// Measure this machine, and Zeolite on it
    Bench(crate::bench::BenchArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the pages of the manual into a directory
    #[command(hide = true)]
    Man {
        /// The directory
        dir: PathBuf,
    },
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read settings file, environment and flags as `serve` would, and show what comes out
    Check(crate::serve::ConfigCheckArgs),
    /// What each setting means, with its default and its bounds
    Explain {
        /// Only settings whose name or meaning has this in it
        word: Option<String>,
    },
}

#[derive(Args)]
pub(crate) struct StatusArgs {
    /// Also show how many objects there are by class and schema version, and the resolvers
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args)]
pub(crate) struct GetArgs {
    /// OID for an object, OID/KEY for an entry; the oid in hexadecimal or a name in the root, the key as `scan` prints it
    pub(crate) cell: Place,
    /// As of this tid or time: hexadecimal tid, `2026-05-01T12:00:00Z`, or `90s`, `2h`, `3days` (ago)
    #[arg(long, value_name = "TID|TIME")]
    pub(crate) at: Option<At>,
    /// Write only the record's data, byte by byte as stored
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
}

#[derive(Args)]
pub(crate) struct ScanArgs {
    /// The collection: its oid in hexadecimal, or its name in the root; 0 is the root
    #[arg(value_name = "COLLECTION")]
    pub(crate) collection: Place,
    /// First key, inclusive
    #[arg(long, value_name = "KEY", value_parser = crate::place::key)]
    pub(crate) from: Option<bytes::Bytes>,
    /// End, exclusive
    #[arg(long, value_name = "KEY", value_parser = crate::place::key)]
    pub(crate) to: Option<bytes::Bytes>,
    /// Only keys that begin so
    #[arg(long, value_name = "KEY", value_parser = crate::place::key, conflicts_with_all = ["from", "to"])]
    pub(crate) prefix: Option<bytes::Bytes>,
    /// From the end to the beginning
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most so many entries; 0 for all
    #[arg(long, short = 'n', default_value_t = 100)]
    pub(crate) limit: u32,
    /// Keys without records
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// As of this tid or time (as for `get`)
    #[arg(long, value_name = "TID|TIME")]
    pub(crate) at: Option<At>,
}

#[derive(Args)]
pub(crate) struct HistoryArgs {
    /// OID, or OID/KEY (as for `get`)
    pub(crate) cell: Place,
    /// Only revisions before this tid or time
    #[arg(long, value_name = "TID|TIME")]
    pub(crate) before: Option<At>,
    /// At most so many revisions
    #[arg(long, short = 'n', default_value_t = 100)]
    pub(crate) limit: u32,
    /// Also show the records
    #[arg(long)]
    pub(crate) records: bool,
}

#[derive(Args)]
pub(crate) struct LogArgs {
    /// From this tid or time on
    #[arg(long, value_name = "TID|TIME")]
    pub(crate) from: Option<At>,
    /// Up to this tid or time, inclusive
    #[arg(long, value_name = "TID|TIME")]
    pub(crate) to: Option<At>,
    /// At most so many transactions; 0 for all. 100 unless told otherwise; with --follow: so many of the past, 10, or all since --from
    #[arg(long, short = 'n')]
    pub(crate) limit: Option<u32>,
    /// The oldest first
    #[arg(long)]
    pub(crate) oldest_first: bool,
    /// Then go on with each transaction as it is committed, until Ctrl-C; the newest comes last
    #[arg(long, short = 'f', conflicts_with_all = ["to", "oldest_first"])]
    pub(crate) follow: bool,
    /// Also list the cells that each transaction wrote
    #[arg(long)]
    pub(crate) cells: bool,
}

#[derive(Args)]
pub(crate) struct UndoArgs {
    /// The transaction, as `log` and `history` print it
    pub(crate) tid: Tid,
    /// Kept in the log as the reason
    #[arg(long, short = 'm', default_value = "")]
    pub(crate) message: String,
    /// Kept in the log as the author
    #[arg(long, env = "USER", default_value = "")]
    pub(crate) user: String,
}

#[derive(Args)]
pub(crate) struct PackArgs {
    /// Keep what is visible at this tid or time and later; without it, now
    #[arg(long, value_name = "TID|TIME")]
    pub(crate) to: Option<At>,
    /// Keep objects that cannot be reached from the root
    #[arg(long)]
    pub(crate) keep_garbage: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Verify this data directory, on which no server may be running, instead of a server's
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// References to objects that do not exist are a problem too, not a note
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Args)]
pub(crate) struct ReindexArgs {
    /// The data directory; no server may be running on it
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

/// Whether arguments that could not be read were meant for `check` or `doctor`, which have the exit codes of monitoring plugins.
pub(crate) fn has_codes_of_plugins(arguments: impl IntoIterator<Item = String>) -> bool {
    let command = Cli::command();
    let takes_value = |said: &str| {
        let is = |option: &&Arg| {
            let long = option.get_long().is_some_and(|long| said.strip_prefix("--") == Some(long));
            long || option.get_short().is_some_and(|short| said.strip_prefix('-') == Some(short.to_string().as_str()))
        };
        command.get_arguments().find(is).is_some_and(|option| option.get_action().takes_values())
    };
    let mut arguments = arguments.into_iter().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            option if takes_value(option) => drop(arguments.next()),
            option if option.starts_with('-') => {}
            command => return matches!(command, "check" | "doctor"),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn check_is_told_from_other_commands() {
        let is = |line: &str| has_codes_of_plugins(line.split(' ').map(str::to_owned));
        assert!(
            is("zeolite check --no-such") && is("zeolite --json --server x check -w") && is("zeolite --server=x check")
        );
        assert!(is("zeolite -d shop check") && is("zeolite --database shop --ca ca.pem check"));
        assert!(is("zeolite -t 5 check") && is("zeolite --timeout 5 check") && !is("zeolite --timeout check"));
        assert!(is("zeolite doctor --no-such"));
        assert!(!is("zeolite config check --no-such") && !is("zeolite --server check") && !is("zeolite get check"));
    }

    #[test]
    fn cells_times_and_keys_are_read() {
        let cli = Cli::try_parse_from(["zeolite", "get", "0x2a/k\\x00y", "--at", "2h", "--json"]).expect("parses");
        let Command::Get(args) = cli.command else { panic!("not get") };
        assert!(cli.json && args.at.is_some());
        assert_eq!(Ok(args.cell), "0x2a/k\\0y".parse());
        assert!(Cli::try_parse_from(["zeolite", "get", "1", "--at", "yesterday-ish"]).is_err());
    }
}
