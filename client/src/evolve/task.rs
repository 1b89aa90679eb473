//! Owns one task of a worker: which range it takes, what it waits for, and its pin.
//!
//! ```text
//!   job planned      start it
//!   job running      claim a free range (or one whose holder is gone) ─> chunks until it ends ─> the next
//!   no range free    wait for the feed to tell a change of the job, or for a lease to run out
//!   all ranges done  whoever claims the last range ends the job: catching up, gate, certificate   finisher.rs
//! ```
//!

mod range_work;

use super::course::Recorder;
use super::earlier::oldest_owed;
use super::finisher::Finisher;
use super::job::{Job, JobRecord, Pause, Phase, newest_view, now_unix_ms};
use super::lease::{Lease, Stale, nonce};
use super::ledger::{Counts, Kept, RangeRecord, kept, range_cell};
use super::outcome::{Claim, Outcome, Verdict, judge};
use super::pace::Pace;
use super::step::AnyStep;
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::tx::Pin;
use crate::watch::{Change, Watch};
use range_work::RangeWork;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use zeolite_proto::{Cell, Remedy, Tid};

/// How long an idle worker sleeps at most, should the feed be away.
const IDLE: Duration = Duration::from_secs(10);
/// Between two looks at what the pin costs.
const LOOK_AT_PIN: Duration = Duration::from_secs(2);
/// After the server could not be reached, or did not take writes.
const PAUSE: Duration = Duration::from_millis(500);

/// One task of a worker: holds one range at most.
pub(crate) struct Task {
    db: Db,
    job: Job,
    name: String,
    nonce: u64,
    step: Arc<dyn AnyStep>,
    stop: watch::Receiver<bool>,
    stale: Stale,
    pace: Pace,
    recorder: Recorder,
    /// Of the job's snapshot, so that pack leaves alone what the plan covers.
    pin: Option<Pin>,
    /// While it waits; one that nobody reads would pile up what the worker itself writes.
    changes: Option<Watch>,
    counts: Counts,
    /// When the cost of the pin was looked at.
    looked: Instant,
}

impl Task {
    pub(crate) fn new(job: &Job, name: String, step: Arc<dyn AnyStep>, stop: watch::Receiver<bool>) -> Task {
        let db = job.db.clone();
        Task {
            nonce: nonce(),
            job: job.clone(),
            name,
            step,
            stop,
            stale: Stale::default(),
            pace: Pace::default(),
            recorder: Recorder::default(),
            pin: None,
            changes: None,
            counts: Counts::default(),
            looked: Instant::now(),
            db,
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// The job's record as this client knows it.
    async fn job_now(&self) -> Result<Kept<JobRecord>> {
        let cell = Cell::object(self.job.oid());
        kept(&self.db.now(), &cell).await?.ok_or(Error::NotFound { cell })
    }

    /// Works until the job is over, or the worker is stopped. An error that does not pass ends the job as well, with the reason:
    /// the next worker would meet it as this one did.
    pub(crate) async fn run(mut self) -> Result<Counts> {
        self.see_the_newest().await;
        loop {
            if self.is_stopped() {
                return Ok(self.counts);
            }
            let error = match self.turn().await {
                Ok(Outcome::Over) => return Ok(self.counts),
                Ok(_) => continue,
                Err(error) => error,
            };
            match judge(&error) {
                Verdict::Waits => self.pause(PAUSE).await,
                verdict => {
                    self.tell_the_end(verdict, &error).await;
                    return Err(error);
                }
            }
        }
    }

    /// Writes down why this worker ends, however long the server is away meanwhile.
    async fn tell_the_end(&mut self, verdict: Verdict, error: &Error) {
        loop {
            let told = match verdict {
                Verdict::Ends => self.job.worker_ended(&format!("the worker {} ended: {error}", self.name)).await,
                _ => self.fail(&error.to_string()).await,
            };
            match told {
                Err(away) if judge(&away) == Verdict::Waits && !self.is_stopped() => self.pause(PAUSE).await,
                told => {
                    tracing::debug!(job = self.job.name(), ok = told.is_ok(), %error, "the worker ends");
                    return;
                }
            }
        }
    }

    /// Sees whatever was committed before the worker was begun, however long the server is away.
    async fn see_the_newest(&mut self) {
        while let Err(error) = newest_view(&self.db).await {
            if self.is_stopped() || judge(&error) != Verdict::Waits {
                return;
            }
            self.pause(PAUSE).await;
        }
    }

    /// One decision; over: the whole job is.
    async fn turn(&mut self) -> Result<Outcome> {
        // Whatever changes from here on ends the waiting below.
        self.changes = Some(self.db.watch([self.job.oid()]));
        let job = self.job_now().await?;
        match job.record.phase {
            phase if phase.is_over() || phase == Phase::Undoing => return Ok(Outcome::Over),
            _ if job.record.is_paused(now_unix_ms()) => {
                self.wait(pause_ends(job.record.pause.as_ref())).await;
                return Ok(Outcome::AGAIN);
            }
            Phase::Planned => {
                self.start().await?;
                return Ok(Outcome::AGAIN);
            }
            _ => {}
        }
        match self.claim(&job.record).await? {
            Claim::Taken(mut held) => {
                self.changes = None;
                if !job.record.reason.is_empty() {
                    self.job.worker_ended("").await?;
                }
                let outcome = self.work_on(&mut held, &job.record).await;
                if !matches!(outcome, Ok(Outcome::Over | Outcome::Lost)) {
                    // Others need not wait for the lease, if the server can be told.
                    let released = held.release().await;
                    tracing::debug!(job = self.job.name(), ok = released.is_ok(), "gave a range back");
                }
                outcome.map(|_| Outcome::AGAIN)
            }
            Claim::Later(at) => {
                self.wait(at).await;
                Ok(Outcome::AGAIN)
            }
            Claim::Nothing => {
                self.wait(None).await;
                Ok(Outcome::AGAIN)
            }
        }
    }

    async fn work_on(&mut self, held: &mut Lease, job: &JobRecord) -> Result<Outcome> {
        self.finisher().begin(held, job).await?;
        let before = held.record.counts;
        let outcome = RangeWork::new(self, held).run().await;
        self.counts = self.counts.plus(since(held.record.counts, before));
        outcome
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
        newest_view(&self.db).await.map(|_| ())
    }

    /// Takes a free range; if there is none, tells when one may become free without a change of the ledger.
    async fn claim(&mut self, job: &JobRecord) -> Result<Claim<Lease>> {
        let lease = job.lease();
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
                    if let Some(held) = Lease::claim(&self.db, self.job.oid(), number, range, who).await? {
                        return Ok(Claim::Taken(held));
                    }
                }
                Err(at) => free_at = Some(free_at.map_or(at, |free_at| free_at.min(at))),
            }
        }
        Ok(free_at.map_or(Claim::Nothing, |at| Claim::Later(Some(at))))
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
    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = self.stop.changed() => {}
        }
    }

    /// Pins the job's snapshot; where pack was faster, the job takes a newer one and keeps its place.
    async fn pin(&mut self, job: &JobRecord) -> Result<()> {
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
        let is_ours = status.pinned_bytes > most && status.oldest_pin == Some(Tid(job.snapshot));
        Ok(is_ours && oldest_owed(&self.db, self.job.oid()).await?.is_none_or(|needed| needed.0 > job.snapshot))
    }

    /// The job goes on from the newest snapshot instead of this one; from one that shows what it owes, if it owes anything: what was
    /// there before a step must not be packed before that is taken back.
    async fn pin_anew(&mut self, old: u64) -> Result<()> {
        let newest = self.db.newest().await?;
        let needed = oldest_owed(&self.db, self.job.oid()).await?.filter(|needed| needed.0 > old);
        let to = needed.map_or(newest, |needed| needed.min(newest)).0;
        let take = |record: &mut JobRecord| {
            if record.snapshot == old {
                record.snapshot = to;
            }
            Ok(())
        };
        self.job.change(take).await?;
        self.pin = None;
        newest_view(&self.db).await.map(|_| ())
    }

    /// Ends the job with a reason, if it still runs.
    async fn fail(&self, reason: &str) -> Result<()> {
        let newest = self.db.newest().await?.0;
        let end = |record: &mut JobRecord| {
            if !record.phase.is_over() && record.phase != Phase::Undoing {
                (record.phase, record.reason, record.ended) = (Phase::Failed, reason.to_owned(), newest);
            }
            Ok(())
        };
        self.job.change(end).await?;
        if self.job.record().await?.phase != Phase::Done {
            self.job.open_gate().await?;
        }
        newest_view(&self.db).await.map(|_| ())
    }

    fn finisher(&self) -> Finisher<'_> {
        Finisher { db: &self.db, job: &self.job, step: &*self.step }
    }
}

fn pause_ends(pause: Option<&Pause>) -> Option<Instant> {
    let until = pause.map(|pause| pause.until_unix_ms).filter(|until| *until > 0)?;
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
