//! Owns the migration: the job that brings every synset to version 2 and builds the gloss-word index, and its worker.
//!
//! The step is all that an application writes; plan, chunks, ledger, throttle, catching up, the gate and the certificate
//! are `zeolite_client::evolve`'s.
//!
//! ```text
//!   step    the synset with its new field · its entries in the gloss-word index · one more on the counter of migrated
//! ```
//!
//! A step's reads are checked, so that it never commits what it computed from a gloss that is gone: the live writer always
//! wins, and the synset is stepped again.

use super::dictionary::Dictionary;
use super::synset::{self, Synset, VERSION_NEW, WordEntry};
use super::words::words;
use crate::evolve::Line;
use crate::exit::ProblemFound;
use anyhow::Result;
use std::time::{Duration, Instant};
use zeolite_client::evolve::{self, DryRun, DryRunOptions, Job, NewJob, Phase, Plan, Progress, Step, Stepped};
use zeolite_client::typed::encode_record;
use zeolite_client::{Cell, Db, Error, Persistent, Record, Ref, Tx};

/// The job's name.
pub(crate) const NAME: &str = "synsets-2";
/// Synsets that the dry run steps.
const DRY_RUN_OBJECTS: u64 = 2000;
/// A worker that was killed is followed after this.
const LEASE_MS: u64 = 2000;

/// What the migration makes of a synset.
pub(crate) struct ToVersion2 {
    pub(crate) dictionary: Dictionary,
}

impl Step for ToVersion2 {
    fn name(&self) -> String {
        format!("synsets to version {VERSION_NEW}")
    }

    async fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Stepped, Error> {
        // Reading upgrades: the new field is counted from the gloss.
        let synset: Ref<Synset> = Ref::new(cell.oid);
        let (_, value) = synset::read(synset, &old.encode().map_err(Error::app)?)?;
        for word in words(&value.gloss) {
            WordEntry::make(tx, self.dictionary.words, &word, synset)?;
        }
        self.dictionary.migrated.add(tx, 1)?;
        tx.put_encoded(cell.clone(), encode_record(&value)?)?;
        Ok(Stepped::Keep)
    }
}

/// The migration as a job to be planned.
fn new_job(workers: u32) -> NewJob {
    let mut new = NewJob::new(NAME, Plan::below(Synset::CLASS, VERSION_NEW));
    new.gate = true;
    new.settings.lease_ms = LEASE_MS;
    new.settings.workers = workers;
    // A demo on a fairly full disk is to run all the same: it needs little.
    (new.settings.disk_pause_percent, new.settings.disk_stop_percent) = (2.0, 1.0);
    new
}

/// The job of an earlier run.
pub(crate) async fn earlier(db: &Db) -> Result<Option<Job>> {
    Ok(evolve::list(db).await?.into_iter().find(|job| job.name() == NAME))
}

/// Whether the migration is over.
pub(crate) async fn is_done(db: &Db) -> Result<bool> {
    match earlier(db).await? {
        Some(job) => Ok(job.record().await?.phase == Phase::Done),
        None => Ok(false),
    }
}

/// What the step would do with some of the synsets.
pub(crate) async fn try_out(db: &Db, step: &ToVersion2) -> Result<DryRun> {
    let options = DryRunOptions::new().objects_max(DRY_RUN_OBJECTS).samples(1);
    Ok(evolve::dry_run(db, &new_job(1), step, &options).await?)
}

/// The job of an earlier run that was stopped, or a new one.
pub(crate) async fn job(db: &Db, workers: u32) -> Result<Job> {
    let Some(job) = earlier(db).await? else { return Ok(evolve::plan(db, new_job(workers)).await?) };
    let record = job.record().await?;
    if record.phase == Phase::Failed || record.pause.is_some() {
        job.resume().await?;
    } else if record.phase.is_over() {
        let state = record.phase.text();
        let wrong =
            format!("the migration of this directory is {state}; --fresh begins anew, or name another with --data");
        return Err(ProblemFound(wrong).into());
    }
    Ok(job)
}

/// What the throttle did, as the job told it.
#[derive(Clone, Default)]
pub(crate) struct Throttled {
    /// How long it held the worker back.
    pub(crate) time: Duration,
    /// The last reason.
    pub(crate) why: String,
    since: Option<Instant>,
}

impl Throttled {
    /// The job as it is now.
    pub(crate) fn see(&mut self, progress: &Progress) {
        let now = Instant::now();
        if let Some(since) = self.since.take() {
            self.time += now - since;
        }
        let line = Line::of(progress);
        if line.word == "throttled" {
            self.since = Some(now);
            self.why = line.why;
        }
    }
}
