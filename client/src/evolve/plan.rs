//! Owns the plan of a job: what is to be covered and how it is to be run, checked, counted and written down. What exactly that
//! covers is `coverage`'s.

use super::coverage::{self, Covered, Listed};
use super::job::{self, Job, Target};
use super::job_name::NAME_BYTES_MAX;
use super::known;
use super::ledger::{self, Part, RangeRecord};
use super::own_records::OwnRecords;
use super::together;
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::tx::Tx;
use crate::typed::Ref;
use zeolite_proto::Oid;
pub use zeolite_proto::evolve::{Plan, Settings};

/// Lists are written before the job, so many bytes at once: a job of ten million keys is no draft that a server takes.
const LIST_BYTES_AT_ONCE: usize = 4 << 20;

/// No class has a longer name: its length is one byte of a record.
const CLASS_BYTES_MAX: usize = 255;

/// A job to be planned.
///
/// ```
/// use zeolite_client::evolve::{NewJob, Plan, Settings};
///
/// let new = NewJob::new("pages-2", Plan::below("wiki.Page", 2)).gate(true).settings(Settings::default().workers(4));
/// assert!(new.gate && !new.allow_empty);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewJob {
    /// Its name: unique.
    pub name: String,
    /// What it covers.
    pub plan: Plan,
    /// Close the class's gate at the end; only for objects below a version.
    pub gate: bool,
    /// How it is to be run.
    pub settings: Settings,
    /// Also if there is nothing of the kind at all, which is mostly a name that is mistyped.
    pub allow_empty: bool,
    /// Also if another job works on the same class or collection: then each of them meets what the other one has made.
    pub beside: bool,
}

zeolite_proto::setters! { NewJob {
    name: impl Into<String>,
    plan: Plan,
    gate: bool,
    settings: Settings,
    allow_empty: bool,
    beside: bool,
} }

impl NewJob {
    /// With the default settings and without a gate.
    pub fn new(name: impl Into<String>, plan: Plan) -> NewJob {
        let settings = Settings::default();
        NewJob { name: name.into(), plan, gate: false, settings, allow_empty: false, beside: false }
    }

    pub(crate) fn target(&self) -> Option<Target> {
        match &self.plan {
            Plan::Objects { class, below_version: version @ 1.. } => {
                Some(Target { class: class.clone(), version: *version, gate: self.gate })
            }
            _ => None,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.settings.check()?;
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return Err(Error::invalid("the name of an evolve has 1 to 200 bytes; choose another"));
        }
        if let Plan::Objects { class, .. } = &self.plan
            && (class.is_empty() || class.len() > CLASS_BYTES_MAX)
        {
            return Err(Error::invalid(format!(
                "the name of a class has 1 to {CLASS_BYTES_MAX} bytes; name one that objects can have"
            )));
        }
        if self.gate && self.target().is_none() {
            return Err(Error::invalid("a gate needs a plan by class and version; plan objects below a version"));
        }
        Ok(())
    }
}

/// Counts what a job covers, cuts it into ranges and writes it down. Nothing runs yet.
pub async fn plan(db: &Db, new: NewJob) -> Result<Job> {
    new.check()?;
    db.newest().await?;
    let pin = db.pin().await?;
    let view = pin.view();
    // Before anything is listed; looked at once more when it is written.
    job::is_free(&view, &new.name).await?;
    let own = OwnRecords::of(&view).await?;
    own.check(&view, &new.plan).await?;
    let wanted = if new.settings.atomic { 1 } else { new.settings.ranges_wanted() };
    let Covered { mut ranges, lists } = coverage::covered(&view, &new.plan, &own, wanted).await?;
    let record = new.record(pin.snapshot(), &ranges);
    if !new.allow_empty {
        known::check(&view, &new.plan, record.total).await?;
    }
    ranges.push(RangeRecord::new(Part::Finish, 0));
    let reference = Ref::new(db.new_oid().await?);
    write_lists(db, reference.oid(), &record.name, &lists).await?;
    let write = async |tx: &Tx| {
        job::enlist(tx, &record.name, reference).await?;
        together::check(tx, &record).await?;
        tx.set(reference, &record)?;
        for (number, range) in (0..).zip(&ranges) {
            tx.put_unchecked(ledger::range_cell(reference.oid(), number), ledger::encoded(range)?)?;
        }
        Ok(())
    };
    let transaction = db.transaction().fresh().serializable().batch().note("evolve", format!("plan {}", record.name));
    transaction.run(async |tx| write(&tx).await).await?;
    Ok(Job::new(db, reference, &record.name))
}

/// Nobody refers to them before the job is there: should it never be, they are removed like anything that cannot be reached.
async fn write_lists(db: &Db, job: Oid, name: &str, lists: &[Listed]) -> Result<()> {
    let mut numbered = (0..).zip(lists).peekable();
    while numbered.peek().is_some() {
        let (mut cells, mut bytes) = (Vec::new(), 0);
        while bytes < LIST_BYTES_AT_ONCE
            && let Some((number, list)) = numbered.next()
        {
            let record = list.encoded()?;
            bytes += record.len();
            cells.push((ledger::list_cell(job, number), record));
        }
        let transaction = db.transaction().batch().note("evolve", format!("plan {name}: what it covers"));
        let write = transaction
            .run(async |tx| cells.iter().try_for_each(|(cell, record)| tx.put_unchecked(cell.clone(), record.clone())));
        write.await?;
    }
    Ok(())
}
