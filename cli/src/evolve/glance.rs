//! Owns a glance at the jobs, for commands that watch a server as a whole: `check` counts them, `top` shows those that go on.
//!
//! Jobs are objects that clients write and the server does not read, so a glance needs a session of its own. It goes without
//! the feed: reading a few records anew costs the server less than telling one more client about every commit. Whoever glances
//! must do as well without an answer: a full server may refuse the session, and a database may be too new for this program.

use super::shown::{self, Line};
use crate::server::Server;
use anyhow::{Context, Result};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use zeolite_client::evolve::{self, Job, JobRecord, Phase, Progress};
use zeolite_client::{Db, Error, Options, Ref};

/// A glance that takes longer has failed.
const WITHIN: Duration = Duration::from_secs(2);
/// Jobs that are looked at at once.
const AT_ONCE: usize = 16;
/// Jobs that are told in full; of those after them only the number.
const TOLD_MAX: usize = 16;

/// A session for glances.
pub(crate) struct Glance(Db);

/// How many jobs there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct JobCounts {
    pub(crate) failed: u64,
    /// Begun and not over; those that are paused too.
    pub(crate) running: u64,
    /// Of those, jobs of which no worker has given a sign for longer than its lease, or on which nobody works.
    pub(crate) silent: u64,
    /// Jobs that are done and owe steps since.
    pub(crate) owing: u64,
}

/// The jobs that are not over.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Jobs {
    pub(crate) told: Vec<JobLine>,
    /// Further ones, which are not told.
    pub(crate) more: u64,
}

/// One job that is not over.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct JobLine {
    pub(crate) job: String,
    /// One word.
    pub(crate) state: String,
    /// Why it is in that state; empty: nothing to say.
    pub(crate) reason: String,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) done_percent: f64,
    /// Objects a second, as the workers tell it.
    pub(crate) rate: f64,
    /// None: nobody can say.
    pub(crate) left_ms: Option<u64>,
    pub(crate) workers: u64,
}

impl Glance {
    /// Opens the session; `name` is what the server shows it as.
    pub(crate) async fn connect(server: &Server, name: &str) -> Result<Glance> {
        let options = Options::new().name(name).feed(false);
        let connected = timeout(WITHIN, server.client(options)).await;
        Ok(Glance(connected.context("no session for a look at the evolves")??))
    }

    /// Counts the jobs.
    pub(crate) async fn counts(&self) -> Result<JobCounts> {
        timeout(WITHIN, self.counted()).await.context("the evolves took too long to list")?
    }

    async fn counted(&self) -> Result<JobCounts> {
        let all = self.records().await?;
        let (mut counts, mut running, mut done) = (JobCounts::default(), Vec::new(), Vec::new());
        for (job, record) in all {
            match record.phase {
                Phase::Failed => counts.failed += 1,
                Phase::Running | Phase::CatchingUp | Phase::Verifying | Phase::Undoing => running.push(job),
                Phase::Done => done.push(job),
                _ => {}
            }
        }
        counts.running = running.len() as u64;
        let mut shown = stream::iter(running).map(|job| async move { job.show().await }).buffer_unordered(AT_ONCE);
        while let Some(shown) = shown.next().await {
            match shown {
                Ok(progress) => counts.silent += u64::from(progress.silent.is_some()),
                // One that was forgotten just now is none.
                Err(Error::NotFound { .. }) => counts.running -= 1,
                Err(error) => return Err(error.into()),
            }
        }
        let mut owing = stream::iter(done).map(|job| async move { job.owes().await }).buffer_unordered(AT_ONCE);
        while let Some(owes) = owing.next().await {
            counts.owing += u64::from(owes?);
        }
        Ok(counts)
    }

    /// The jobs that are not over, by name.
    pub(crate) async fn jobs(&self) -> Result<Jobs> {
        timeout(WITHIN, self.not_over()).await.context("the evolves took too long to show")?
    }

    async fn not_over(&self) -> Result<Jobs> {
        let mut jobs = Jobs::default();
        for (job, record) in self.records().await? {
            if record.phase.is_over() {
                continue;
            }
            if jobs.told.len() == TOLD_MAX {
                jobs.more += 1;
            } else {
                jobs.told.push(JobLine::of(&job.show().await?));
            }
        }
        Ok(jobs)
    }

    /// All jobs with their records, in one view: most of them are over long since, and are not asked for one by one.
    async fn records(&self) -> Result<Vec<(Job, JobRecord)>> {
        let jobs = evolve::list(&self.0).await?;
        let (view, references) = (self.0.now(), jobs.iter().map(|job| Ref::<JobRecord>::new(job.oid())));
        let references: Vec<Ref<JobRecord>> = references.collect();
        view.prefetch(&references.iter().map(Ref::cell).collect::<Vec<_>>()).await?;
        let mut records = Vec::with_capacity(jobs.len());
        for (job, reference) in jobs.into_iter().zip(references) {
            match view.find(reference).await {
                // One that was forgotten just now is none.
                Ok(record) => records.extend(record.map(|record| (job, record))),
                // Of a program to come.
                Err(Error::Decode { .. } | Error::WrongClass { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(records)
    }
}

impl JobLine {
    fn of(progress: &Progress) -> JobLine {
        let line = Line::of(progress);
        let (done, total) = (progress.done, progress.total);
        JobLine {
            job: progress.job.name.clone(),
            state: line.word.to_owned(),
            reason: line.why,
            done,
            total,
            done_percent: if total == 0 { 100.0 } else { done as f64 * 100.0 / total as f64 },
            rate: progress.rate,
            left_ms: progress.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            workers: progress.workers.len() as u64,
        }
    }

    /// The rate for people.
    pub(crate) fn rate_text(&self) -> String {
        shown::rate(self.rate)
    }

    /// What is left for people.
    pub(crate) fn left_text(&self) -> String {
        shown::left(self.left_ms.map(Duration::from_millis))
    }
}
