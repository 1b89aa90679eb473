//! Owns the choice of a step on the command line: a program, or one of the few that need not know the application's types.

use super::args::StepArgs;
use super::exec::Exec;
use crate::exit::Usage;
use crate::output::Out;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use zeolite_client::evolve::{self, AnyStep, Step, Stepped};
use zeolite_client::{Cell, Error, Record, Tx};

/// The chosen step.
pub(super) struct Chosen {
    pub(super) step: Arc<dyn AnyStep>,
    /// The same, if it is a program: it may turn out not to work at all.
    pub(super) exec: Option<Arc<Exec>>,
}

/// Makes the step of the arguments; a program is started once, to see that it can be.
pub(super) async fn chosen(out: &Out, args: &StepArgs, job: &str) -> Result<Chosen> {
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
    let exec = Arc::new(Exec::new(out, &args.exec, job, within));
    exec.try_out().map_err(|error| Usage(format!("{} cannot be started: {error}", args.exec[0])))?;
    Ok(Chosen { step: exec.clone(), exec: Some(exec) })
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
