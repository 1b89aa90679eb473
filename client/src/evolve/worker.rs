//! Owns the worker: takes ranges of a job and goes through them, chunk by chunk, as fast as the site lets it.
//!
//! ```text
//!   job planned      start it
//!   job running      claim a free range (or one whose holder is gone) ─> chunks until it ends ─> the next
//!   no range free    wait for the feed to tell a change of the job, or for a lease to run out
//!   all ranges done  whoever claims the last range ends the job: catching up, gate, certificate   finish.rs
//! ```
//!
//! A worker keeps nothing that matters: it can be killed at any moment, and another one goes on behind its last chunk.

use super::finish::Finished;
use super::job::{Hold, Job, JobRecord, Phase, fresh, now_unix_ms};
use super::lease::{Held, Stale};
use super::ledger::{Counts, Kept, RangeRecord, kept, range_cell};
use super::pace::Pace;
use super::range_work::{Left, RangeWork};
use super::step::{AnyStep, Step};
use super::undo::Undo;
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::session::Pin;
use crate::watch::{Change, Watch};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use zeolite_proto::{Cell, FaultKind, Remedy};

/// How long an idle worker sleeps at most, should the feed be away.
const IDLE: Duration = Duration::from_secs(10);
/// Between two looks at what the pin costs.
const LOOK_AT_PIN: Duration = Duration::from_secs(2);
/// After the server could not be reached, or did not take writes.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs a job's steps; see [`Worker::run`].
#[derive(Debug)]
pub struct Worker {
    job: Job,
    name: String,
    tasks: usize,
    stop: watch::Sender<bool>,
}

/// Ends a worker in order: it finishes its chunk and gives its range back.
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
#[derive(Clone, Debug)]
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
        let mut tasks = JoinSet::new();
        for number in 0..self.tasks {
            let name = if self.tasks == 1 { self.name.clone() } else { format!("{}/{number}", self.name) };
            tasks.spawn(Task::new(&self.job, name, step.clone(), self.stop.subscribe()).run());
        }
        let mut counts = Counts::default();
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(done) => counts = counts.plus(done?),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        Ok(Report { phase: self.job.record().await?.phase, counts })
    }
}

impl Worker {
    /// Takes the job back, once [`Job::begin_undo`] has asked for it, until all is or the worker is stopped. `changed` in the
    /// report counts groups of steps that were taken back, `bad` those that were left.
    pub async fn undo(self) -> Result<Report> {
        let undo = Undo::new(&self.job, self.stop.subscribe());
        let counts = undo.run((&self.name, nonce(&self.job.db))).await?;
        Ok(Report { phase: self.job.record().await?.phase, counts })
    }
}

/// Tells one holding from any other.
fn nonce(db: &Db) -> u64 {
    u64::from_be_bytes(db.new_commit_key().0.last_chunk::<8>().copied().unwrap_or_default())
}

/// One task of a worker: holds one range at most.
pub(crate) struct Task {
    pub(crate) db: Db,
    pub(crate) job: Job,
    pub(crate) name: String,
    nonce: u64,
    pub(crate) step: Arc<dyn AnyStep>,
    stop: watch::Receiver<bool>,
    stale: Stale,
    pub(crate) pace: Pace,
    /// Of the job's snapshot, so that pack leaves alone what the plan covers.
    pin: Option<Pin>,
    /// While it waits; one that nobody reads would pile up what the worker itself writes.
    changes: Option<Watch>,
    pub(crate) counts: Counts,
    /// When the cost of the pin was looked at.
    looked: Instant,
}

impl Task {
    fn new(job: &Job, name: String, step: Arc<dyn AnyStep>, stop: watch::Receiver<bool>) -> Task {
        let db = job.db.clone();
        Task {
            nonce: nonce(&db),
            job: job.clone(),
            name,
            step,
            stop,
            stale: Stale::default(),
            pace: Pace::default(),
            pin: None,
            changes: None,
            counts: Counts::default(),
            looked: Instant::now(),
            db,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// The job's record as this client knows it.
    pub(crate) async fn job_now(&self) -> Result<Kept<JobRecord>> {
        let cell = Cell::object(self.job.oid());
        kept(&self.db.now(), &cell).await?.ok_or(Error::NotFound { cell })
    }

    async fn run(mut self) -> Result<Counts> {
        self.see_the_newest().await;
        loop {
            if self.is_stopped() {
                return Ok(self.counts);
            }
            match self.turn().await {
                Ok(true) => return Ok(self.counts),
                Ok(false) => {}
                Err(error) if is_passing(&error) => self.pause(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Sees whatever was committed before the worker was begun, however long the server is away.
    async fn see_the_newest(&mut self) {
        while let Err(error) = fresh(&self.db).await {
            if self.is_stopped() || !is_passing(&error) {
                return;
            }
            self.pause(PAUSE).await;
        }
    }

    /// One decision; true: the job is over.
    async fn turn(&mut self) -> Result<bool> {
        // Whatever changes from here on ends the waiting below.
        self.changes = Some(self.db.watch([self.job.oid()]));
        let job = self.job_now().await?;
        match job.record.phase {
            phase if phase.is_over() || phase == Phase::Undoing => return Ok(true),
            _ if job.record.is_held(now_unix_ms()) => {
                self.wait(hold_ends(job.record.hold.as_ref())).await;
                return Ok(false);
            }
            Phase::Planned => {
                self.start().await?;
                return Ok(false);
            }
            _ => {}
        }
        match self.claim(&job.record).await? {
            Ok(mut held) => {
                self.changes = None;
                let ended = self.hold(&mut held, &job.record).await;
                if !matches!(ended, Ok(Left::Finished | Left::Lost)) {
                    // Others need not wait for the lease, if the server can be told.
                    let released = held.release().await;
                    tracing::debug!(job = self.job.name(), ok = released.is_ok(), "gave a range back");
                }
                ended.map(|_| false)
            }
            Err(free_at) => {
                self.wait(free_at).await;
                Ok(false)
            }
        }
    }

    async fn hold(&mut self, held: &mut Held, job: &JobRecord) -> Result<Left> {
        self.finished().begin(held, job).await?;
        let before = held.record.counts;
        let ended = RangeWork::new(self, held).run().await;
        self.counts = self.counts.plus(since(held.record.counts, before));
        ended
    }

    async fn start(&self) -> Result<()> {
        let newest = self.db.newest().await?.0;
        let begin = |record: &mut JobRecord| {
            if record.phase == Phase::Planned {
                (record.phase, record.started) = (Phase::Running, newest);
            }
            Ok(())
        };
        self.job.change(begin).await?;
        fresh(&self.db).await.map(|_| ())
    }

    /// Takes a free range; if there is none, tells when one may become free without a change of the ledger.
    async fn claim(&mut self, job: &JobRecord) -> Result<Result<Held, Option<Instant>>> {
        // A whole plan in one draft is long on its way, and nothing else can be written in the range meanwhile.
        let leases = if job.settings.atomic { 6 } else { 1 };
        let lease = Duration::from_millis(job.settings.lease_ms) * leases;
        let view = self.db.now();
        let cells: Vec<Cell> = (0..=job.ranges).map(|number| range_cell(self.job.oid(), number)).collect();
        view.prefetch(&cells).await?;
        let (mut free_at, mut others_finished) = (None::<Instant>, true);
        for (number, cell) in (0..).zip(&cells) {
            let Some(range) = kept::<RangeRecord>(&view, cell).await? else { continue };
            if range.record.finished || (number == job.ranges && !others_finished) {
                continue;
            }
            others_finished = false;
            match self.stale.is_free(number, &range.record, lease) {
                Ok(()) => {
                    let who = (self.name.as_str(), self.nonce);
                    if let Some(held) = Held::claim(&self.db, self.job.oid(), number, range, who).await? {
                        return Ok(Ok(held));
                    }
                }
                Err(at) => free_at = Some(free_at.map_or(at, |free_at| free_at.min(at))),
            }
        }
        Ok(Err(free_at))
    }

    /// Waits for a change of the job, a moment, or the end.
    pub(crate) async fn wait(&mut self, until: Option<Instant>) {
        let idle = Instant::now() + IDLE;
        let until = until.map_or(idle, |until| until.min(idle));
        let mut changes = self.changes.take().unwrap_or_else(|| self.db.watch([self.job.oid()]));
        let change = tokio::select! {
            change = changes.next() => change,
            () = tokio::time::sleep_until(until) => None,
            _ = self.stop.changed() => None,
        };
        // A change is told just before it can be read.
        if let Some(Change::Written { tid, .. } | Change::Missed { tid }) = change {
            self.db.wait_for(tid, PAUSE).await;
        }
    }

    /// Waits for a time, or the end.
    pub(crate) async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = self.stop.changed() => {}
        }
    }

    /// Pins the job's snapshot; where pack was faster, the job takes a newer one and keeps its place.
    pub(crate) async fn pin(&mut self, job: &JobRecord) -> Result<()> {
        let snapshot = Job::snapshot_of(job);
        if self.pin.as_ref().is_some_and(|pin| pin.snapshot() == snapshot && !pin.is_lost()) {
            return if self.costs_too_much(job).await? { self.pin_anew(job.snapshot).await } else { Ok(()) };
        }
        self.pin = None;
        match self.db.pin_at(snapshot).await {
            Ok(pin) => self.pin = Some(pin),
            Err(error) if error.remedy() == Remedy::ReopenSnapshot => self.pin_anew(job.snapshot).await?,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether the job's own pin is the oldest, and keeps more from pack than it may.
    async fn costs_too_much(&mut self, job: &JobRecord) -> Result<bool> {
        let most = job.settings.pin_bytes_max;
        if most == 0 || self.looked.elapsed() < LOOK_AT_PIN {
            return Ok(false);
        }
        self.looked = Instant::now();
        let status = self.db.admin().status().await?;
        Ok(status.pinned_bytes > most && status.oldest_pin.0 == job.snapshot)
    }

    /// The job goes on from the newest snapshot instead of this one.
    pub(crate) async fn pin_anew(&mut self, old: u64) -> Result<()> {
        let newest = self.db.newest().await?.0;
        let take = |record: &mut JobRecord| {
            if record.snapshot == old {
                record.snapshot = newest;
            }
            Ok(())
        };
        self.job.change(take).await?;
        self.pin = None;
        fresh(&self.db).await.map(|_| ())
    }

    /// Ends the job with a reason, if it still runs.
    pub(crate) async fn fail(&self, reason: &str) -> Result<()> {
        let newest = self.db.newest().await?.0;
        let end = |record: &mut JobRecord| {
            if !record.phase.is_over() && record.phase != Phase::Undoing {
                (record.phase, record.reason, record.ended) = (Phase::Failed, reason.to_owned(), newest);
            }
            Ok(())
        };
        self.job.change(end).await?;
        fresh(&self.db).await.map(|_| ())
    }

    pub(crate) fn finished(&self) -> Finished<'_> {
        Finished { db: &self.db, job: &self.job }
    }
}

/// Whether it is worth trying again by itself.
pub(crate) fn is_passing(error: &Error) -> bool {
    matches!(error.remedy(), Remedy::Wait | Remedy::ReopenSnapshot | Remedy::Retry | Remedy::AskOutcome)
        && error.kind() != Some(FaultKind::UndoBlocked)
}

fn hold_ends(hold: Option<&Hold>) -> Option<Instant> {
    let until = hold.map(|hold| hold.until_unix_ms).filter(|until| *until > 0)?;
    Some(Instant::now() + Duration::from_millis(until.saturating_sub(now_unix_ms()) + 1))
}

fn since(now: Counts, before: Counts) -> Counts {
    Counts {
        done: now.done - before.done.min(now.done),
        changed: now.changed - before.changed.min(now.changed),
        kept: now.kept - before.kept.min(now.kept),
        found_done: now.found_done - before.found_done.min(now.found_done),
        bad: now.bad - before.bad.min(now.bad),
        healed: now.healed - before.healed.min(now.healed),
        put_off: now.put_off - before.put_off.min(now.put_off),
        stepped_again: now.stepped_again - before.stepped_again.min(now.stepped_again),
        chunks: now.chunks - before.chunks.min(now.chunks),
    }
}
