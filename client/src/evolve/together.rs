//! Owns what a job is bound to when it is first run: one step, and no other job over the same objects at once.
//!
//! ```text
//!   first run    the step's name is written into the job; from then on a worker with another one is refused, unless it says that
//!                the step was changed: half of the objects bumped and half of them rewritten is nobody's wish
//!   run again    a job that is done and owes steps (a live transaction that began before its end came behind it) goes on
//!   two jobs     over one class, or one collection: each would step what the other has made. Refused when the second is planned,
//!                run or resumed while the first is at work, unless it was planned to be beside another
//! ```
//! Which objects a list or a walk by references shares with another job is not looked at.

use super::job::{Job, JobRecord, Phase, others};
use crate::errors::{Error, Result};
use crate::tx::Tx;
use zeolite_proto::evolve::Plan;

/// A step's name in the job.
const NAME_CHARS_MAX: usize = 500;

/// Whether workers are, or may be, at work on it.
fn is_at_work(job: &JobRecord) -> bool {
    match job.phase {
        Phase::Running | Phase::CatchingUp | Phase::Verifying | Phase::Undoing => true,
        Phase::Planned => !job.step.is_empty(),
        _ => false,
    }
}

fn share(one: &Plan, other: &Plan) -> bool {
    match (one, other) {
        (Plan::Objects { class, .. }, Plan::Objects { class: other, .. }) => class == other,
        (Plan::Collection { oid, .. }, Plan::Collection { oid: other, .. }) => oid == other,
        _ => false,
    }
}

/// Refuses a job over what another one is at work on. The transaction must be serializable: of two that begin at once one is refused.
pub(super) async fn check(tx: &Tx, job: &JobRecord) -> Result<()> {
    if job.beside {
        return Ok(());
    }
    for other in others(tx, &job.name).await? {
        if is_at_work(&other) && share(&job.plan, &other.plan) {
            let (name, phase, what) = (&other.name, other.phase.text(), other.plan.text());
            let how = "wait for its end, cancel it, or plan this one to run beside it (--beside)";
            return Err(Error::invalid(format!("evolve {name:?} over {what} is {phase}; {how}")));
        }
    }
    Ok(())
}

impl Job {
    /// Binds it to a step, before a worker does anything. One that is done and owes something goes on until it is paid.
    pub(crate) async fn bind(&self, step: &str, is_changed: bool) -> Result<()> {
        let step: String = step.chars().take(NAME_CHARS_MAX).collect();
        let owes = self.owes().await?;
        let transaction = self.db.transaction().fresh().serializable().note("evolve", format!("run {}", self.name()));
        let bind = transaction.run(async |tx| {
            let mut record = tx.load(self.reference).await?;
            let goes_on = record.phase == Phase::Done && owes;
            let is_over = record.phase.is_over() || record.phase == Phase::Undoing;
            if !goes_on && (is_over || record.step == step) {
                return Ok(());
            }
            if goes_on {
                (record.phase, record.ended, record.certificate) = (Phase::CatchingUp, 0, None);
            }
            if record.step.is_empty() {
                check(&tx, &record).await?;
            } else if !is_changed && record.step != step {
                let (name, first) = (self.name(), &record.step);
                let how = "go on with that one, or say that the step has changed (--step-changed)";
                let why = format!("evolve {name:?} was begun with the step {first:?}, not with {step:?}; {how}");
                return Err(Error::invalid(why));
            }
            record.step.clone_from(&step);
            tx.set(self.reference, &record)
        });
        bind.await
    }
}
