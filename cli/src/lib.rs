//! Owns `zeolite`, the one program: server, administration, demo and measurements. It is a library with one function, and a program that
//! calls it, since a compiler works on libraries that need each other side by side, and on a program last.
//!
//! ```text
//!   args ──> lib  ─┬─> show, status, upkeep   (through server: a client of the library, with a time limit on each answer)
//!                  ├─> check, top             (the same; for monitoring systems, and for a person's eyes)
//!                  ├─> doctor                 (the machine, the settings and the files, before or while a server runs)
//!                  ├─> serve, restart         (a server: settings, signals; a process that takes its place)
//!                  ├─> user                   (the file of users, on this machine)
//!                  ├─> offline                (a data directory without a server)
//!                  ├─> backup, restore        (through zeolite-backup: a client on one side, a directory or an object store on the other)
//!                  ├─> evolve                 (through the client library: jobs that change all the data)
//!                  ├─> demo                   (WordNet, and a migration beside live traffic; a server inside: host)
//!                  └─> bench                  (measurements; servers inside, or in processes that are killed)
//!   every line goes out through output and progress; every error leaves through exit
//! ```

mod args;
mod backup;
mod bench;
mod chart;
mod check;
mod copies;
mod credentials;
mod demo;
mod doctor;
mod evolve;
mod examples;
mod exit;
mod gate;
mod helps;
mod host;
mod man;
mod mode;
mod moment;
mod offline;
mod output;
mod place;
mod prepared;
mod progress;
mod promote;
mod restart;
mod restore;
mod serve;
mod server;
mod sessions;
mod settings_page;
mod show;
mod status;
mod tame;
mod top;
mod upkeep;
mod user;
mod values;

use anyhow::{Context, Result};
use args::{Cli, Command, ConfigCommand, VerifyArgs};
use clap::{CommandFactory, FromArgMatches};
use output::Out;
use server::Server;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What still runs when a server has ended has so long.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// Does what the command line says.
pub fn main() -> ExitCode {
    let parsed = examples::command().try_get_matches().and_then(|given| Cli::from_arg_matches(&given));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && args::has_codes_of_plugins(std::env::args()) => {
            return check::usage(&Out::new(false), &error);
        }
        Err(error) => error.exit(),
    };
    let out = Out::new(cli.json);
    let server = Server::new(&cli.server, &cli.database, cli.timeout, &cli.credentials);
    if let Command::Check(_) | Command::Doctor(_) = &cli.command {
        let server = server.within(cli.timeout.is_none().then_some(check::TIMEOUT));
        let look = async {
            match &cli.command {
                Command::Doctor(args) => doctor::doctor(&out, &server, args).await,
                Command::Check(args) => check::check(&out, &server, args).await,
                _ => unreachable!("these two have codes of their own"),
            }
        };
        let code = match runtime() {
            Ok(runtime) => runtime.block_on(look),
            Err(error) => check::broken(&out, &error),
        };
        return if out.has_failed() { check::unsaid() } else { code };
    }
    match run(&out, &server, cli.command, cli.timeout.map(Duration::from_secs)) {
        // It has been told.
        Ok(()) if out.has_failed() => exit::OF_THIS_MACHINE.into(),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            exit::code(&error)
        }
    }
}

fn run(out: &Out, server: &Server, command: Command, timeout: Option<Duration>) -> Result<()> {
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "zeolite", &mut script);
            out.bytes(&script);
            Ok(())
        }
        Command::Man { dir } => man::man(&dir),
        Command::Restart(args) => runtime()?.block_on(interruptible(restart::restart(out, &args, timeout))),
        Command::User(args) => user::user(out, &args, &server.database),
        Command::Config(ConfigCommand::Check(args)) => serve::check(out, &args),
        Command::Config(ConfigCommand::Explain { word }) => settings_page::explain(out, word.as_deref()),
        Command::Reindex(args) => offline::reindex(out, &args),
        Command::Verify(VerifyArgs { data: Some(dir), strict }) => offline::verify(out, &dir, strict),
        Command::Serve(args) => {
            let runtime = runtime()?;
            let served = runtime.block_on(serve::serve(out, &args));
            // A call that does not come to its end would keep the process, and by it the store, for ever.
            runtime.shutdown_timeout(LAST_CALLS);
            served
        }
        Command::Follow(args) => {
            let runtime = runtime()?;
            let served = runtime.block_on(serve::follow(out, &args));
            runtime.shutdown_timeout(LAST_CALLS);
            served
        }
        Command::Evolve(command) => {
            evolve::give_way(&command);
            runtime()?.block_on(evolve::evolve(out, server, &command))
        }
        Command::Demo(args) => runtime()?.block_on(demo::demo(out, &args)),
        Command::Backup(args) => {
            backup::give_way(&args);
            let runtime = runtime()?;
            let taken = runtime.block_on(interruptible(backup::backup(out, server, &args)));
            runtime.shutdown_timeout(LAST_CALLS);
            taken
        }
        Command::Restore(args) => runtime()?.block_on(interruptible(restore::restore(out, server, &args))),
        Command::Top(args) => runtime()?.block_on(top::top(out, server, &args)),
        Command::Bench(args) => {
            let (runtime, scratch) = (runtime()?, Arc::<bench::Scratch>::default());
            runtime.spawn(bench::end_by_force(Out::new(out.is_json()), scratch.clone()));
            let measured = runtime.block_on(interruptible(bench::bench(out, &args, &scratch)));
            runtime.shutdown_timeout(LAST_CALLS);
            scratch.remove();
            measured
        }
        command => runtime()?.block_on(interruptible(remote(out, server, command))),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime does not start")
}

/// Ctrl-C and SIGTERM drop the work: what the server has begun for it (a pack, a verify) it stops or finishes by itself.
pub(crate) async fn interruptible(work: impl Future<Output = Result<()>>) -> Result<()> {
    // Before the work begins: what it makes is to be removed again.
    let mut ends = exit::Ends::new()?;
    tokio::select! {
        result = work => result,
        why = ends.next("") => Err(why),
    }
}

/// The commands that ask a server.
async fn remote(out: &Out, server: &Server, command: Command) -> Result<()> {
    match command {
        Command::Status(args) => status::status(out, &server.admin().await?, &args).await,
        Command::Get(args) => show::get(out, &server.reader().await?, &args).await,
        Command::Scan(args) => show::scan(out, &server.reader().await?, &args).await,
        Command::History(args) => show::history(out, &server.reader().await?, &args).await,
        Command::Log(args) => show::log(out, &server.admin().await?, &args).await,
        Command::Undo(args) => upkeep::undo(out, &server.reader().await?, &args).await,
        Command::Mode(args) => mode::mode(out, &server.admin().await?, &args).await,
        Command::Prepared(command) => prepared::prepared(out, &server.admin().await?, &command).await,
        Command::Sessions(command) => sessions::sessions(out, &server.admin().await?, &command).await,
        Command::Gate(command) => gate::gate(out, &server.admin().await?, &command).await,
        Command::Pack(args) => upkeep::pack(out, &server.admin().await?, &args).await,
        Command::Verify(VerifyArgs { strict, .. }) => upkeep::verify(out, &server.admin().await?, strict).await,
        Command::Promote(args) => promote::promote(out, server, &args, args::is_database_named()).await,
        Command::Serve(_)
        | Command::Follow(_)
        | Command::Restart(_)
        | Command::User(_)
        | Command::Check(_)
        | Command::Doctor(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Top(_)
        | Command::Config(_)
        | Command::Reindex(_)
        | Command::Evolve(_)
        | Command::Demo(_)
        | Command::Bench(_)
        | Command::Completions { .. }
        | Command::Man { .. } => {
            unreachable!("these do not ask a server")
        }
    }
}
