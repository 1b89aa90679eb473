//! Owns the job: an ordinary object that says what is to be done and how far it is, and the handle that operators hold.
//!
//! ```text
//!   root "zeolite.evolves"  name -> job
//!   job                     plan, target, settings, phase          this file; written seldom
//!     range/0000 ..         a part of the plan and its cursor      ledger; written by every chunk's own commit
//!     list/0000 ..          oids or keys that a plan covers        coverage
//!     bad/..                what a step failed on                  ledger
//! ```
//!
//! So progress is as durable and as conflict-checked as any other write, and everybody who looks reads the same thing.

use super::own_gate::{open_own_gate, own_gate};
use crate::collections::Map;
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::tx::{Tx, View};
use crate::typed::{Persistent, Ref};
use zeolite_proto::evolve::Stored;
pub use zeolite_proto::evolve::{Certificate, JobRecord, Pause, Phase, ROOT_NAME, Target};
use zeolite_proto::{Gate, Oid, Tid};

impl Persistent for JobRecord {
    const CLASS: &str = <JobRecord as Stored>::CLASS;
    const VERSION: u32 = <JobRecord as Stored>::VERSION;

    fn upgrade(version: u32, data: &[u8]) -> Result<JobRecord> {
        let class = <JobRecord as Stored>::CLASS.to_owned();
        Stored::upgrade(version, data).map_err(|bad| Error::Decode { class, version, reason: bad.0.to_owned() })
    }
}

/// A job, to be looked at and steered.
///
/// ```
/// use zeolite_client::{Persistent, evolve};
///
/// #[derive(serde::Serialize, serde::Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page", version = 2)]
/// struct Page {
///     title: String,
/// }
///
/// # zeolite_testing::with_db(async |db| {
/// let new = evolve::NewJob::new("pages-2", evolve::Plan::below("wiki.Page", 2)).allow_empty(true);
/// evolve::plan(&db, new).await?;
/// let job = evolve::find(&db, "pages-2").await?;
/// job.pause("until the backup is done", 0).await?;
/// assert!(job.record().await?.pause.is_some());
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Job {
    pub(crate) db: Db,
    pub(crate) reference: Ref<JobRecord>,
    name: String,
}

type Jobs = Map<String, Ref<JobRecord>>;

/// All jobs, by name.
pub async fn list(db: &Db) -> Result<Vec<Job>> {
    let view = newest_view(db).await?;
    let Some(jobs) = view.root::<Jobs>(ROOT_NAME).await? else { return Ok(Vec::new()) };
    let all = jobs.iter(&view).collect().await?;
    Ok(all.into_iter().map(|(name, reference)| Job { db: db.clone(), reference, name }).collect())
}

/// The job of a name.
pub async fn find(db: &Db, name: &str) -> Result<Job> {
    let view = newest_view(db).await?;
    let found = match view.root::<Jobs>(ROOT_NAME).await? {
        Some(jobs) => jobs.get(&view, name).await?,
        None => None,
    };
    let reference =
        found.ok_or_else(|| Error::invalid(format!("there is no evolve {name:?}; plan it, or list them")))?;
    Ok(Job { db: db.clone(), reference, name: name.to_owned() })
}

/// Forgets a job that is over, with its ledger; refused while it owes something, unless it was taken back. What it did stays; so does the gate of a job that is done, which is told: nobody
/// but [`crate::Admin::open_gate`] opens it then. Any other's is opened.
pub async fn forget(db: &Db, name: &str) -> Result<Option<Gate>> {
    let job = find(db, name).await?;
    let record = job.record().await?;
    if !matches!(record.phase, Phase::Planned | Phase::Undone) && job.owes().await? {
        let why =
            "live transactions went over what it had stepped, and what its steps wrote beside that would stay for ever";
        return Err(Error::invalid(format!("evolve {name:?} owes steps: {why}; run its workers again, or undo it")));
    }
    let gate = match record.phase {
        Phase::Done => own_gate(db, &record).await?,
        phase if phase.is_over() || phase == Phase::Planned => open_own_gate(db, &record).await?.and(None),
        _ => None,
    };
    let work = db.transaction().fresh().run(async |tx| {
        let jobs: Jobs = tx.root_or_create(ROOT_NAME).await?;
        let Some(reference) = jobs.get(&tx, name).await? else { return Ok(()) };
        let record = tx.load(reference).await?;
        if !record.phase.is_over() && record.phase != Phase::Planned {
            return Err(Error::invalid(format!("evolve {name:?} is {}; cancel it first", record.phase.text())));
        }
        jobs.remove(&tx, name)
    });
    work.await?;
    Ok(gate)
}

/// Gives a new job its name; refused if another has it.
pub(crate) async fn enlist(tx: &Tx, name: &str, reference: Ref<JobRecord>) -> Result<()> {
    is_free(tx, name).await?;
    let jobs: Jobs = tx.root_or_create(ROOT_NAME).await?;
    jobs.insert(tx, name, &reference)
}

/// Refuses a name that another job has.
pub(crate) async fn is_free(view: &View, name: &str) -> Result<()> {
    match view.root::<Jobs>(ROOT_NAME).await? {
        Some(jobs) if jobs.contains(view, name).await? => {
            Err(Error::invalid(format!("there is an evolve {name:?} already; take another name, or forget that one")))
        }
        _ => Ok(()),
    }
}

/// The records of all jobs but one. What cannot be read, a newer program's, is left out: it would keep everybody from planning.
pub(crate) async fn others(tx: &Tx, name: &str) -> Result<Vec<JobRecord>> {
    let Some(jobs) = tx.root::<Jobs>(ROOT_NAME).await? else { return Ok(Vec::new()) };
    let all = jobs.iter(tx).collect().await?;
    let others = all.into_iter().filter(|(other, _)| other != name);
    let others: Vec<Ref<JobRecord>> = others.map(|(_, reference)| reference).collect();
    tx.prefetch(&others.iter().map(Ref::cell).collect::<Vec<_>>()).await?;
    let mut records = Vec::new();
    for reference in others {
        match tx.find(reference).await {
            Ok(record) => records.extend(record),
            Err(Error::Decode { .. } | Error::WrongClass { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

/// A view that sees whatever anybody's receipt has been sent for.
pub(crate) async fn newest_view(db: &Db) -> Result<View> {
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
        newest_view(&self.db).await?.load(self.reference).await
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

    /// Holds it: workers finish their chunk and wait. `until_unix_ms` 0: until it is resumed. A time that has passed is refused.
    pub async fn pause(&self, reason: &str, until_unix_ms: u64) -> Result<()> {
        if until_unix_ms > 0 && until_unix_ms <= now_unix_ms() {
            return Err(Error::invalid("the pause would end in the past; name a time to come"));
        }
        self.change(|record| {
            self.must_not_be_over(record)?;
            record.pause = Some(Pause { reason: reason.to_owned(), until_unix_ms });
            Ok(())
        })
        .await
    }

    /// Stops it for good. What it did stays, and can be undone. A gate that it has closed already is opened, and told.
    pub async fn cancel(&self, reason: &str) -> Result<Option<Gate>> {
        let cancel = self.change(|record| {
            if record.phase != Phase::Failed {
                self.must_not_be_over(record)?;
            }
            record.phase = Phase::Cancelled;
            record.reason = reason.to_owned();
            record.pause = None;
            Ok(())
        });
        cancel.await?;
        self.open_gate().await
    }

    /// Tells why a worker has ended, although the job is not over: nobody else knows it. The next one that takes a range takes it away.
    pub async fn worker_ended(&self, why: &str) -> Result<()> {
        self.change(|record| {
            if !record.phase.is_over() {
                why.clone_into(&mut record.reason);
            }
            Ok(())
        })
        .await
    }

    /// Changes a setting, by its name.
    pub async fn set(&self, name: &str, value: &str) -> Result<()> {
        self.change(|record| Ok(record.settings.set(name, value)?)).await
    }

    /// Opens the gate that it has closed, if it is closed still.
    pub(crate) async fn open_gate(&self) -> Result<Option<Gate>> {
        open_own_gate(&self.db, &self.record().await?).await
    }

    fn must_not_be_over(&self, record: &JobRecord) -> Result<()> {
        if record.phase.is_over() {
            return Err(Error::invalid(format!("evolve {:?} is {}; plan a new one", self.name, record.phase.text())));
        }
        Ok(())
    }

    pub(crate) fn snapshot_of(record: &JobRecord) -> Tid {
        Tid(record.snapshot)
    }
}
