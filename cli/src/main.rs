//! `zeolite`, the one binary: server, administration, demo and measurements.
//!
//! ```text
//!   args ──> main ──> show, status, upkeep   (through link: a server's unary calls)
//!                 └──> demo                  (WordNet, and a migration beside live traffic)
//!   every line goes out through output and progress; every error leaves through exit
//! ```

mod args;
mod demo;
mod exit;
mod link;
mod moment;
mod output;
mod place;
mod progress;
mod show;
mod status;
mod upkeep;

use anyhow::{Context, Result};
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use link::Link;
use output::Out;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Out::new(cli.json);
    match run(&out, cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            exit::code(&error)
        }
    }
}

fn run(out: &Out, cli: Cli) -> Result<()> {
    match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "zeolite", &mut script);
            out.bytes(&script);
            Ok(())
        }
        command => runtime()?.block_on(interruptible(remote(out, &cli.server, command))),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime does not start")
}

/// Ctrl-C drops the work: what the server has begun for it (a pack, a verify) it stops or finishes by itself.
async fn interruptible(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Err(exit::Interrupted("").into()),
    }
}

/// The commands that ask a server.
async fn remote(out: &Out, server: &str, command: Command) -> Result<()> {
    let mut link = Link::connect(server).await?;
    match command {
        Command::Status(args) => status::status(out, &mut link, &args).await,
        Command::Get(args) => show::get(out, &mut link, &args).await,
        Command::Scan(args) => show::scan(out, &mut link, &args).await,
        Command::History(args) => show::history(out, &mut link, &args).await,
        Command::Log(args) => show::log(out, &mut link, &args).await,
        Command::Undo(args) => upkeep::undo(out, &mut link, &args).await,
        Command::Pack(args) => upkeep::pack(out, &mut link, &args).await,
        Command::Verify => upkeep::verify(out, &mut link).await,
        Command::Completions { .. } => Ok(()),
    }
}
