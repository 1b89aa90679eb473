//! Owns `evolve`: jobs that change all the data of a live site, planned, run, steered and looked at from a shell.
//!
//! ```text
//!   args ──> evolve ─┬─> planning   plan, dry run                 step ──> exec   a program that steps objects
//!                    ├─> working    run, undo: a worker in this process, and how Ctrl-C ends it
//!                    ├─> watching   watch                                  board   a job that is drawn while it runs
//!                    ├─> looking    list, show, ensure, verify             shown   a job in words, and as JSON
//!                    ├─> report     report: how a job went, as a page with charts
//!                    └─> steering   pause, resume, cancel, set, forget
//! ```
//! `glance` is for `check` and `top`: which jobs there are, beside all else that a server does.
//!
//! Everything goes through `zeolite_client::evolve`, like the application's own workers: these commands and those may work on
//! the same job at once.

mod args;
mod board;
mod exec;
mod glance;
mod left;
mod looking;
mod planning;
mod report;
mod shown;
mod steering;
mod step;
mod watching;
mod working;

pub(crate) use args::EvolveCommand;
pub(crate) use glance::{Glance, JobCounts, JobLine, Jobs};
pub(crate) use shown::{Line, certificate_facts, certificate_json, counted, counts_json, left};

use crate::output::Out;
use crate::server::Server;
use anyhow::Result;
use zeolite_client::{Db, Options};

/// A worker looks at every object once: what it keeps of them is of no use to it.
const CACHE_BYTES: u64 = 8 << 20;

/// Lets a worker give way to the other processes of its machine: a site's, mostly. Before any thread is begun, for all of them.
pub(crate) fn give_way(command: &EvolveCommand) {
    if let EvolveCommand::Run(args) = command
        && let Err(error) = rustix::process::nice(args.nice)
    {
        tracing::debug!(%error, "this process does not give way");
    }
}

/// Runs a command.
pub(crate) async fn evolve(out: &Out, server: &Server, command: &EvolveCommand) -> Result<()> {
    let db = connect(server).await?;
    let work = async {
        match command {
            EvolveCommand::List => looking::list(out, &db).await,
            EvolveCommand::Show(args) => looking::show(out, &db, args).await,
            EvolveCommand::Plan(args) => planning::plan(out, &db, args).await,
            EvolveCommand::Pause(args) => steering::pause(out, &db, args).await,
            EvolveCommand::Resume(args) => steering::resume(out, &db, args).await,
            EvolveCommand::Cancel(args) => steering::cancel(out, &db, args).await,
            EvolveCommand::Set(args) => steering::set(out, &db, args).await,
            EvolveCommand::Verify(args) => looking::verify(out, &db, args).await,
            EvolveCommand::Watch(args) => watching::watch(out, &db, &args.name).await,
            EvolveCommand::Report(args) => report::report(out, &db, args).await,
            EvolveCommand::Ensure(args) => looking::ensure(out, &db, args).await,
            EvolveCommand::Forget(args) => steering::forget(out, &db, args).await,
            EvolveCommand::Run(_) | EvolveCommand::Undo(_) => unreachable!("they end by themselves"),
        }
    };
    match command {
        EvolveCommand::Run(args) => working::run(out, &db, args).await,
        EvolveCommand::Undo(args) => working::undo(out, &db, args).await,
        _ => crate::interruptible(work).await,
    }
}

/// A client with the role `evolve`.
async fn connect(server: &Server) -> Result<Db> {
    let (name, role) = (format!("evolve {}", here()), "evolve".to_owned());
    server.client(Options::new().name(name).role(role).cache_bytes(CACHE_BYTES)).await
}

/// This process, for whoever looks at the ledger.
fn here() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", std::process::id())
}
