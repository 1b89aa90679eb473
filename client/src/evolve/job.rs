//! Owns the job: an ordinary object that says what is to be done and how far it is, and the handle that operators hold.
//!
//! ```text
//!   root "zeolite.evolves"  name -> job
//!   job                     plan, target, settings, phase          this file; written seldom
//!     range/0000 ..         a part of the plan and its cursor      ledger; written by every chunk's own commit
//!     list/0000 ..          oids that a plan names one by one      plan
//!     bad/..                what a step failed on                  ledger
//! ```
//!
//! So progress is as durable and as conflict-checked as any other write, and everybody who looks reads the same thing.

use super::plan::Plan;
use super::settings::Settings;
use crate::collections::Map;
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::registry::{Persistent, Ref};
use crate::session::{Tx, View};
use serde::{Deserialize, Serialize};
use zeolite_proto::{Oid, Tid};

/// The name in the root under which all jobs are.
pub const ROOT_NAME: &str = "zeolite.evolves";

/// How far a job is.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Waits for a worker.
    Planned,
    /// Workers go through the ranges.
    Running,
    /// The ranges are done; what live writers have left behind is stepped.
    CatchingUp,
    /// The result is looked at.
    Verifying,
    /// Over; the certificate says so.
    Done,
    /// Stopped by what `reason` says; can be resumed.
    Failed,
    /// Stopped by an operator, for good.
    Cancelled,
    /// Its commits are taken back.
    Undoing,
    /// They are.
    Undone,
}

impl Phase {
    /// Whether workers have nothing more to do.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Done | Phase::Failed | Phase::Cancelled | Phase::Undone)
    }

    /// The phase in words.
    pub fn text(self) -> &'static str {
        match self {
            Phase::Planned => "planned",
            Phase::Running => "running",
            Phase::CatchingUp => "catching-up",
            Phase::Verifying => "verifying",
            Phase::Done => "done",
            Phase::Failed => "failed",
            Phase::Cancelled => "cancelled",
            Phase::Undoing => "undoing",
            Phase::Undone => "undone",
        }
    }
}

/// Every object of the class is to have this schema version at least.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The class.
    pub class: String,
    /// The schema version.
    pub version: u32,
    /// Refuse older ones for good when all are there.
    pub gate: bool,
}

/// An operator's pause.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Why.
    pub reason: String,
    /// Ends by itself then, in milliseconds since 1970; 0: does not.
    pub until_unix_ms: u64,
}

/// What was found when the job was over.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// A snapshot at which it was so.
    pub tid: u64,
    /// The commit that closed the gate; 0: there is none.
    pub gate_tid: u64,
    /// Objects of the target class; without a target, objects of the plan.
    pub objects: u64,
    /// Objects that steps have changed.
    pub changed: u64,
    /// Objects that were looked at.
    pub verified: u64,
    /// From the start to the end.
    pub duration_ms: u64,
}

/// The job's own record.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct JobRecord {
    /// Its name.
    pub name: String,
    /// What it covers.
    pub plan: Plan,
    /// The shape that all are to have.
    pub target: Option<Target>,
    /// How it is run.
    pub settings: Settings,
    /// How far it is.
    pub phase: Phase,
    /// Set while an operator holds it.
    pub hold: Option<Hold>,
    /// Why it failed, or was cancelled.
    pub reason: String,
    /// The snapshot that the plan is of.
    pub snapshot: u64,
    /// The newest tid when it was planned, started and ended; 0: not yet.
    pub planned: u64,
    /// See `planned`.
    pub started: u64,
    /// See `planned`.
    pub ended: u64,
    /// Objects in the plan.
    pub total: u64,
    /// Ranges of the plan; the one after them is for the end of the job.
    pub ranges: u32,
    /// Made when it is done.
    pub certificate: Option<Certificate>,
}

impl Persistent for JobRecord {
    const CLASS: &str = "zeolite.evolve.Job";
}

impl JobRecord {
    /// Whether an operator holds it now.
    pub fn is_held(&self, now_unix_ms: u64) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.until_unix_ms == 0 || now_unix_ms < hold.until_unix_ms)
    }
}

/// A job, to be looked at and steered.
#[derive(Clone, Debug)]
pub struct Job {
    pub(crate) db: Db,
    pub(crate) reference: Ref<JobRecord>,
    name: String,
}

type Jobs = Map<String, Ref<JobRecord>>;

/// All jobs, by name.
pub async fn list(db: &Db) -> Result<Vec<Job>> {
    let view = fresh(db).await?;
    let Some(jobs) = view.root::<Jobs>(ROOT_NAME).await? else { return Ok(Vec::new()) };
    let all = jobs.iter(&view).collect().await?;
    Ok(all.into_iter().map(|(name, reference)| Job { db: db.clone(), reference, name }).collect())
}

/// The job of a name.
pub async fn find(db: &Db, name: &str) -> Result<Job> {
    let view = fresh(db).await?;
    let found = match view.root::<Jobs>(ROOT_NAME).await? {
        Some(jobs) => jobs.get(&view, name).await?,
        None => None,
    };
    let reference =
        found.ok_or_else(|| Error::invalid(format!("there is no evolve {name:?}; plan it, or list them")))?;
    Ok(Job { db: db.clone(), reference, name: name.to_owned() })
}

/// Forgets a job that is over, with its ledger. What it did stays.
pub async fn forget(db: &Db, name: &str) -> Result<()> {
    let work = db.transaction().fresh().run(async |tx| {
        let jobs: Jobs = tx.root_or_create(ROOT_NAME).await?;
        let Some(reference) = jobs.get(&tx, name).await? else { return Ok(()) };
        let record = tx.load(reference).await?;
        if !record.phase.is_over() && record.phase != Phase::Planned {
            return Err(Error::invalid(format!("evolve {name:?} is {}; cancel it first", record.phase.text())));
        }
        jobs.remove(&tx, name)
    });
    work.await
}

/// Gives a new job its name; refused if another has it.
pub(crate) async fn enlist(tx: &Tx, name: &str, reference: Ref<JobRecord>) -> Result<()> {
    let jobs: Jobs = tx.root_or_create(ROOT_NAME).await?;
    if jobs.contains(tx, name).await? {
        return Err(Error::invalid(format!(
            "there is an evolve {name:?} already; take another name, or forget that one"
        )));
    }
    jobs.insert(tx, name, &reference)
}

/// A view that sees whatever anybody's receipt has been sent for.
pub(crate) async fn fresh(db: &Db) -> Result<View> {
    db.newest().await?;
    Ok(db.now())
}

/// The operator's clock: pauses end by it, and nothing else depends on it.
#[expect(clippy::disallowed_methods, reason = "only the end of an operator's pause depends on it")]
pub(crate) fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Job {
    pub(crate) fn new(db: &Db, reference: Ref<JobRecord>, name: &str) -> Job {
        Job { db: db.clone(), reference, name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its object.
    pub fn oid(&self) -> Oid {
        self.reference.oid()
    }

    /// Its record, as of now.
    pub async fn record(&self) -> Result<JobRecord> {
        fresh(&self.db).await?.load(self.reference).await
    }

    /// Changes the record, whoever else changes it at the same time.
    pub(crate) async fn change<R: Send>(
        &self,
        change: impl Fn(&mut JobRecord) -> Result<R> + Send + Sync,
    ) -> Result<R> {
        let transaction = self.db.transaction().fresh().note("evolve", format!("job {}", self.name));
        let change = &change;
        transaction
            .run(async |tx| {
                let mut record = tx.load(self.reference).await?;
                let before = record.clone();
                let result = change(&mut record)?;
                if record != before {
                    tx.set(self.reference, &record)?;
                }
                Ok(result)
            })
            .await
    }

    /// Holds it: workers finish their chunk and wait. `until_unix_ms` 0: until it is resumed.
    pub async fn pause(&self, reason: &str, until_unix_ms: u64) -> Result<()> {
        self.change(|record| {
            self.must_not_be_over(record)?;
            record.hold = Some(Hold { reason: reason.to_owned(), until_unix_ms });
            Ok(())
        })
        .await
    }

    /// Stops it for good. What it did stays, and can be undone.
    pub async fn cancel(&self, reason: &str) -> Result<()> {
        self.change(|record| {
            if record.phase != Phase::Failed {
                self.must_not_be_over(record)?;
            }
            record.phase = Phase::Cancelled;
            record.reason = reason.to_owned();
            record.hold = None;
            Ok(())
        })
        .await
    }

    /// Changes a setting, by its name.
    pub async fn set(&self, name: &str, value: &str) -> Result<()> {
        self.change(|record| record.settings.set(name, value)).await
    }

    fn must_not_be_over(&self, record: &JobRecord) -> Result<()> {
        if record.phase.is_over() {
            return Err(Error::invalid(format!("evolve {:?} is {}; plan a new one", self.name, record.phase.text())));
        }
        Ok(())
    }

    /// An error unless it is done: for a deployment that must not begin before.
    pub async fn ensure_done(&self) -> Result<Certificate> {
        let record = self.record().await?;
        match (record.phase, record.certificate) {
            (Phase::Done, Some(certificate)) => Ok(certificate),
            (phase, _) => {
                let why = if record.reason.is_empty() { String::new() } else { format!(" ({})", record.reason) };
                Err(Error::invalid(format!("evolve {:?} is {}{why}, not done", self.name, phase.text())))
            }
        }
    }

    pub(crate) fn snapshot_of(record: &JobRecord) -> Tid {
        Tid(record.snapshot)
    }
}
