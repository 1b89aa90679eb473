//! Owns the choice of a step on the command line: a program, or one of the few that need not know the application's types.

use super::args::{EvolveCommand, StepArgs};
use super::exec::{Asking, Exec};
use crate::exit::{ProblemFound, Usage};
use crate::output::Out;
use anyhow::Result;
use clap::Subcommand;
use std::sync::Arc;
use std::time::Duration;
use zeolite_client::evolve::{self, AnyStep, Step, Stepped};
use zeolite_client::{Cell, Error, Record, Tx};

/// The chosen step.
pub(super) struct Chosen {
    pub(super) step: Arc<dyn AnyStep>,
    /// The same, if it is a program: its processes have to be ended.
    exec: Option<Arc<Exec>>,
}

impl Chosen {
    /// Lets the processes of a program end.
    pub(super) async fn end(&self) {
        if let Some(exec) = &self.exec {
            exec.end().await;
        }
    }
}

/// An error of a worker, or of a dry run, as this program tells it: a step that does not work here is no server's refusal.
pub(super) fn told(error: Error) -> anyhow::Error {
    match error {
        Error::Worker { .. } => ProblemFound(error.to_string()).into(),
        error => error.into(),
    }
}

/// Refuses a step that cannot bring an object to the version that the job is planned for.
pub(super) fn fits(args: &StepArgs, version: Option<u32>) -> Result<(), Usage> {
    match (version, args.bump) {
        (Some(version), Some(bump)) if bump < version => {
            Err(Usage(format!("the job brings objects to version {version}, and --bump {bump} leaves them below it")))
        }
        (Some(version), _) if args.delete => {
            let how = "to delete objects, plan them without --below";
            Err(Usage(format!(
                "the job brings objects to version {version}, and --delete would leave none of them; {how}"
            )))
        }
        _ => Ok(()),
    }
}

/// Makes the step of the arguments; a program is started once, to see that it can be.
pub(super) fn chosen(out: &Out, args: &StepArgs, job: &str, tasks: usize) -> Result<Chosen> {
    if let Some(version) = args.bump {
        return Ok(Chosen { step: Arc::new(bump(version)), exec: None });
    }
    if args.delete {
        return Ok(Chosen { step: Arc::new(Delete), exec: None });
    }
    if args.exec.is_empty() {
        return Err(Usage("say what to make of each object: --exec PROGRAM, --bump VERSION, or --delete".into()).into());
    }
    let within = Duration::try_from(args.answer_within)
        .ok()
        .filter(|within| !within.is_zero())
        .ok_or_else(|| Usage("--answer-within needs a span like 30s".into()))?;
    if let Some(own) = args.exec.iter().skip(1).find(|argument| is_own(argument)) {
        out.remark(format_args!(
            "{own} stands behind --exec, so it is the program's; if it is meant for zeolite, write it before --exec"
        ));
    }
    let asking = Asking { within, batch: args.batch.map(usize::from), tasks };
    let exec = Exec::start(out, &args.exec, job, asking);
    let exec = Arc::new(exec.map_err(|error| Usage(format!("{} cannot be started: {error}", args.exec[0])))?);
    Ok(Chosen { step: exec.clone(), exec: Some(exec) })
}

/// Whether an argument of the program is also one of `evolve run` or `evolve plan`.
fn is_own(argument: &str) -> bool {
    let Some(name) = argument.strip_prefix("--").map(|rest| rest.split('=').next().unwrap_or(rest)) else {
        return false;
    };
    let evolve = EvolveCommand::augment_subcommands(clap::Command::new("evolve"));
    let mut arguments =
        ["run", "plan"].into_iter().filter_map(|it| evolve.find_subcommand(it)).flat_map(|it| it.get_arguments());
    ["server", "database", "timeout", "json"].contains(&name)
        || arguments.any(|argument| argument.get_long() == Some(name))
}

/// Raises the schema version.
fn bump(version: u32) -> impl Step {
    evolve::map(format!("to version {version}"), move |mut old: Record| {
        old.version = old.version.max(version);
        Ok(old)
    })
}

struct Delete;

impl Step for Delete {
    fn name(&self) -> String {
        "delete".to_owned()
    }

    async fn step(&self, _: &Tx, _: &Cell, _: Record) -> Result<Stepped, Error> {
        Ok(Stepped::Delete)
    }
}
