//! Owns what an attempt at a part of a job comes to, and the one judgement of errors: it says who has to do something about
//! one. So no error ends a worker without the ledger saying why.
//!
//! ```text
//!   waits     the server, the network or another commit was in the way         the worker waits, and goes on where it was
//!   refused   what was made of these objects is taken by nobody                fewer at once; the last one goes to the quarantine
//!   fails     waiting does not help, and no single object is to blame          the job says so, and an operator decides
//!   ends      the step cannot work here: its program is not there, or broken   this worker ends, and the job says why; others go on
//! ```

use crate::errors::Error;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::{FaultKind, Remedy};

/// Before something that was in the way is looked at again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What an attempt at a chunk, a whole plan, a pass or an undo has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Outcome {
    /// The worker goes on. So many items, from the first on, are done; none: something has changed, and is looked at again.
    Go { done: usize },
    /// Another worker has the range.
    Lost,
    /// Somebody wants something else: the job is paused or over, or the worker is to stop.
    Stopped,
    /// What was made is not taken, for this reason.
    Refused(String),
    /// The job cannot go on, for this reason.
    Failed(String),
    /// Nothing is left to do.
    Over,
}

impl Outcome {
    /// Nothing was done: look again.
    pub(crate) const AGAIN: Outcome = Outcome::Go { done: 0 };

    /// After a conflict at the range's record, or an outcome that is unknown: whose the range is decides.
    pub(crate) fn of_range(mine: bool) -> Outcome {
        if mine { Outcome::AGAIN } else { Outcome::Lost }
    }
}

/// Whether a range could be had.
pub(crate) enum Claim<L> {
    /// It is this worker's.
    Taken(L),
    /// Not now; perhaps at this moment, if nothing is told before.
    Later(Option<Instant>),
    /// There is nothing to be had any more.
    Nothing,
}

/// Who has to do something about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nobody: it passes.
    Waits,
    /// Whoever makes something of the objects.
    Refused,
    /// An operator.
    Fails,
    /// Whoever has started this worker.
    Ends,
}

/// Judges an error that did not come from an application's step.
pub(crate) fn judge(error: &Error) -> Verdict {
    let of_the_objects = match error {
        Error::Fault(fault) => match fault.kind {
            FaultKind::Damaged => true,
            kind => match kind.remedy() {
                Remedy::Wait | Remedy::ReopenSnapshot | Remedy::Retry | Remedy::AskOutcome => return Verdict::Waits,
                Remedy::FixRequest => true,
                Remedy::GiveUp => false,
            },
        },
        Error::Disconnected { .. } | Error::NoAnswer { .. } | Error::OutcomeUnknown { .. } => return Verdict::Waits,
        Error::Worker { .. } => return Verdict::Ends,
        _ => true,
    };
    if of_the_objects { Verdict::Refused } else { Verdict::Fails }
}

/// Judges an error of an application's step. One that meets a conflict has made it: its own transaction is committed by the worker.
pub(crate) fn judge_step(error: &Error) -> Verdict {
    if error.remedy() == Remedy::Retry { Verdict::Refused } else { judge(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::{CommitKey, Fault};

    #[test]
    fn every_fault_has_somebody_who_does_something_about_it() {
        let fails = [FaultKind::Poisoned, FaultKind::Internal, FaultKind::Denied, FaultKind::Unauthenticated];
        for kind in FaultKind::ALL {
            let verdict = judge(&Fault::new(*kind, "m").into());
            let waits =
                matches!(kind.remedy(), Remedy::Wait | Remedy::ReopenSnapshot | Remedy::Retry | Remedy::AskOutcome);
            assert_eq!(verdict == Verdict::Waits, waits, "{kind:?}");
            assert_eq!(verdict == Verdict::Fails, fails.contains(kind), "{kind:?}");
            let of_a_step = judge_step(&Fault::new(*kind, "m").into());
            let its_own = kind.remedy() == Remedy::Retry;
            assert_eq!(of_a_step, if its_own { Verdict::Refused } else { verdict }, "{kind:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_the_objects_fault_and_what_cannot_be_reached_nobodys() {
        let bad = Error::Decode { class: "C".into(), version: 1, reason: "short".into() };
        assert_eq!(judge(&bad), Verdict::Refused);
        let gone = Error::Disconnected { url: "a".into(), reason: "r".into() };
        let unknown = Error::OutcomeUnknown { key: CommitKey([1; 16]), reason: "r".into() };
        assert_eq!((judge(&gone), judge(&unknown)), (Verdict::Waits, Verdict::Waits));
        assert_eq!(judge(&Error::worker("no program")), Verdict::Ends);
    }
}
