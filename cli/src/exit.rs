//! Owns the exit codes: what each means, and which error becomes which.

use anyhow::{Context, Result};
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeolite_proto::Fault;

/// Shown at the end of `zeolite --help`; the table is the promise, [`code`] keeps it.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done, nothing wrong
  1    a problem was found (verify, backup verify, backup drill, config check,
       an invariant of the demo; evolve ensure, run, watch: the job is not done;
       evolve plan --dry-run: the step fails on objects; evolve undo: something
       could not be taken back)
  2    wrong usage: arguments, environment or settings file
  3    the server cannot be reached
  4    the server refused: the message begins with the kind of the fault; or a
       restore is not to be, since the database is not empty
  5    something on this machine failed: data directory, file, terminal
  130  interrupted (Ctrl-C)
  143  ended by SIGTERM
`zeolite check` and `zeolite doctor` have those of monitoring plugins instead:
0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.";

/// Something on this machine failed.
pub(crate) const OF_THIS_MACHINE: u8 = 5;

/// A command did its work and found something wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ProblemFound(pub(crate) String);

/// The arguments, the environment or the settings file do not make sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Nobody answers at the address.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach a server at {address}: {reason}; start one with `zeolite serve`, or name another with --server")]
pub(crate) struct CannotConnect {
    pub(crate) address: String,
    pub(crate) reason: String,
}

/// The user pressed Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error("interrupted{0}")]
pub(crate) struct Interrupted(pub(crate) &'static str);

/// Somebody asked the process to end.
#[derive(Debug, thiserror::Error)]
#[error("ended by SIGTERM{0}")]
pub(crate) struct Terminated(pub(crate) &'static str);

/// Ctrl-C and SIGTERM, from when this is made.
pub(crate) struct Ends {
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    pub(crate) fn new() -> Result<Ends> {
        let listen = |kind| signal(kind).context("signals");
        Ok(Ends { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The next of them, as the error that the command ends with, which says this as well.
    pub(crate) async fn next(&mut self, more: &'static str) -> anyhow::Error {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupted(more).into(),
            _ = self.terminate.recv() => Terminated(more).into(),
        }
    }
}

/// The code of an error: that of the first cause in its chain that has one.
pub(crate) fn number(error: &anyhow::Error) -> u8 {
    let of = |cause: &(dyn std::error::Error + 'static)| -> Option<u8> {
        if cause.is::<ProblemFound>() {
            Some(1)
        } else if cause.is::<Usage>() {
            Some(2)
        } else if cause.is::<CannotConnect>() {
            Some(3)
        } else if cause.is::<Fault>() {
            Some(4)
        } else if let Some(error) = cause.downcast_ref::<zeolite_client::Error>() {
            of_client(error)
        } else if let Some(error) = cause.downcast_ref::<zeolite_backup::Error>() {
            of_backup(error)
        } else if cause.is::<Interrupted>() {
            Some(130)
        } else if cause.is::<Terminated>() {
            Some(143)
        } else {
            None
        }
    };
    error.chain().find_map(of).unwrap_or(OF_THIS_MACHINE)
}

/// The same for what the client library says.
fn of_client(error: &zeolite_client::Error) -> Option<u8> {
    match error {
        zeolite_client::Error::Fault(_) | zeolite_client::Error::NotFound { .. } => Some(4),
        zeolite_client::Error::Disconnected { .. }
        | zeolite_client::Error::NoAnswer { .. }
        | zeolite_client::Error::TimeLimit { .. }
        | zeolite_client::Error::OutcomeUnknown { .. } => Some(3),
        _ => None,
    }
}

/// The same for what the backup library says.
fn of_backup(error: &zeolite_backup::Error) -> Option<u8> {
    match error {
        zeolite_backup::Error::Damaged { .. } => Some(1),
        zeolite_backup::Error::Usage(_) | zeolite_backup::Error::Key(_) => Some(2),
        zeolite_backup::Error::Client(error) => of_client(error),
        zeolite_backup::Error::Refused(_) => Some(4),
        zeolite_backup::Error::Place { .. } => None,
    }
}

/// The process's answer for an error.
pub(crate) fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(number(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_keeps_its_code_under_context() {
        let refused: anyhow::Result<()> = Err(Fault::invalid("no").into());
        let refused = refused.context("loading a cell").expect_err("is an error");
        assert_eq!(number(&refused), 4);
        assert_eq!(number(&ProblemFound("p".into()).into()), 1);
        assert_eq!(number(&Usage("u".into()).into()), 2);
        let gone = CannotConnect { address: "a".into(), reason: "r".into() };
        assert_eq!(number(&anyhow::Error::from(gone).context("status")), 3);
        assert_eq!((number(&Interrupted("").into()), number(&Terminated("").into())), (130, 143));
        assert_eq!(number(&anyhow::anyhow!("disk")), 5);
    }
}
