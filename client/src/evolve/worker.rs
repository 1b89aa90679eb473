//! Owns the worker: its tasks take ranges of a job and go through them, chunk by chunk, as fast as the site lets them.
//!
//! A worker keeps nothing that matters: it can be killed at any moment, and another one goes on behind its last chunk.

use super::job::{Job, Phase};
use super::lease::nonce;
use super::ledger::Counts;
use super::outcome::{LOOK_AGAIN, Verdict, judge};
use super::step::{AnyStep, Step};
use super::task::Task;
use super::undo::Undo;
use crate::errors::Result;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Runs a job's steps; see [`Worker::run`].
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
/// let job = evolve::plan(&db, new).await?;
/// let report = evolve::Worker::new(&job).tasks(2).run(evolve::upgrade::<Page>()).await?;
/// assert_eq!(report.phase, evolve::Phase::Done);
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct Worker {
    job: Job,
    name: String,
    tasks: usize,
    step_changed: bool,
    stop: watch::Sender<bool>,
}

/// Ends a worker in order: it finishes its chunk and gives its range back.
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
/// let job = evolve::plan(&db, new).await?;
/// let worker = evolve::Worker::new(&job);
/// let stop = worker.stop_handle(); // for the handler of a signal
/// stop.stop();
/// worker.run(evolve::upgrade::<Page>()).await?;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Stop {
    stop: watch::Sender<bool>,
}

impl Stop {
    /// From now on no new chunk is begun.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// What a worker has done.
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
/// let job = evolve::plan(&db, new).await?;
/// let report = evolve::Worker::new(&job).run(evolve::upgrade::<Page>()).await?;
/// println!("{} after {} objects", report.phase.text(), report.counts.done);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// How far the job was when the worker ended.
    pub phase: Phase,
    /// What this worker did.
    pub counts: Counts,
}

impl Worker {
    /// A worker of one task. The client should have been connected with the role `evolve`: only then does the server tell
    /// what live traffic feels.
    pub fn new(job: &Job) -> Worker {
        Worker {
            job: job.clone(),
            name: format!("pid {}", std::process::id()),
            tasks: 1,
            step_changed: false,
            stop: watch::Sender::new(false),
        }
    }

    /// Shown in the ledger.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Worker {
        self.name = name.into();
        self
    }

    /// How many ranges it works on at once.
    #[must_use]
    pub fn tasks(mut self, tasks: usize) -> Worker {
        self.tasks = tasks.clamp(1, 256);
        self
    }

    /// It may go on with another step than the job was begun with: what was stepped so far stays as it is.
    #[must_use]
    pub fn step_changed(mut self, changed: bool) -> Worker {
        self.step_changed = changed;
        self
    }

    /// Ends it from elsewhere.
    pub fn stop_handle(&self) -> Stop {
        Stop { stop: self.stop.clone() }
    }

    /// Works until the job ends, or the worker is stopped. Dropping the future ends it at once, which does no harm.
    pub async fn run(self, step: impl Step) -> Result<Report> {
        self.run_any(Arc::new(step)).await
    }

    /// The same with a step of any type.
    pub async fn run_any(self, step: Arc<dyn AnyStep>) -> Result<Report> {
        self.bind(&step.name()).await?;
        let mut tasks = JoinSet::new();
        for number in 0..self.tasks {
            let name = if self.tasks == 1 { self.name.clone() } else { format!("{}/{number}", self.name) };
            tasks.spawn(Task::new(&self.job, name, step.clone(), self.stop.subscribe()).run());
        }
        let (mut counts, mut failed) = (Counts::default(), None);
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(Ok(done)) => counts = counts.plus(done),
                // The others give their ranges back.
                Ok(Err(error)) => {
                    self.stop.send_replace(true);
                    failed.get_or_insert(error);
                }
                Err(error) if error.is_panic() => {
                    // A fault of this program: the job says at least that there was one.
                    let told = self.job.worker_ended(&format!("the worker {} ended: it panicked", self.name)).await;
                    tracing::debug!(job = self.job.name(), ok = told.is_ok(), "a task panicked");
                    std::panic::resume_unwind(error.into_panic())
                }
                Err(_) => {}
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Report { phase: self.job.record().await?.phase, counts }),
        }
    }

    /// Before anything else; however long the server is away, or takes no writes.
    async fn bind(&self, step: &str) -> Result<()> {
        let mut stop = self.stop.subscribe();
        loop {
            match self.job.bind(step, self.step_changed).await {
                Err(error) if judge(&error) == Verdict::Waits && !*stop.borrow_and_update() => tokio::select! {
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    _ = stop.changed() => {}
                },
                bound => return bound,
            }
        }
    }

    /// Takes the job back, once [`Job::begin_undo`] has asked for it, until all is or the worker is stopped. `changed` in the
    /// report counts groups of steps that were taken back, `bad` those that were left, `kept` objects that are in another shape than before.
    pub async fn undo(self) -> Result<Report> {
        let undo = Undo::new(&self.job, self.stop.subscribe());
        let counts = undo.run((&self.name, nonce())).await?;
        Ok(Report { phase: self.job.record().await?.phase, counts })
    }
}
