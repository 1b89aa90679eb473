//! Owns the gate that a job closes behind itself. It is closed where the job is done, and nowhere else.
//!
//! ```text
//!   done                          closed; one commit before the certificate, so a worker may die between them
//!   failed, cancelled, undoing    opened: the phase first, then the gate. Whoever dies between the two leaves it closed, and
//!                                 the next one looks again: the worker of an undo, `cancel`, `forget`
//! ```
//! What is asked is the gates, never the certificate: they know who closed them. Of two jobs that had one name it was the one that
//! was planned before. A gate that somebody else has closed is left alone, and an undo refuses to begin behind it.

use crate::connect::Db;
use crate::errors::{Error, Result};
use zeolite_proto::Gate;
use zeolite_proto::evolve::{JobRecord, Target};

/// Whether this job has closed it.
fn is_own(job: &JobRecord, gate: &Gate) -> bool {
    let fits = |target: &Target| target.class == gate.class && target.version == gate.min_version;
    gate.job == job.name && gate.tid.0 > job.planned && job.target.as_ref().is_some_and(fits)
}

/// The gate that a job has closed, if it is closed still.
pub(crate) async fn own_gate(db: &Db, job: &JobRecord) -> Result<Option<Gate>> {
    if !job.target.as_ref().is_some_and(|target| target.gate) {
        return Ok(None);
    }
    Ok(db.admin().gates().await?.into_iter().find(|gate| is_own(job, gate)))
}

/// Opens the gate that a job has closed; tells which one that was.
pub(crate) async fn open_own_gate(db: &Db, job: &JobRecord) -> Result<Option<Gate>> {
    let gate = own_gate(db, job).await?;
    if let Some(gate) = &gate {
        db.admin().open_gate(&gate.class).await?;
    }
    Ok(gate)
}

/// Refuses if a gate stands in the way of what the job has found, which it may not open itself.
pub(crate) async fn is_free_to_go_back(db: &Db, job: &JobRecord) -> Result<()> {
    let Some(target) = &job.target else { return Ok(()) };
    let gates = db.admin().gates().await?;
    let stands = |gate: &&Gate| gate.class == target.class && gate.min_version >= target.version;
    match gates.iter().find(stands).filter(|gate| !is_own(job, gate)) {
        None => Ok(()),
        Some(Gate { class, min_version, job: other, .. }) => Err(Error::invalid(format!(
            "evolve {:?} cannot be taken back: the gate of class {class:?} is closed below version {min_version} (by {other:?}); \
             undo that evolve first, or open the gate: zeolite gate open",
            job.name
        ))),
    }
}
