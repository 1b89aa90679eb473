//! Owns a worker's way through one range: chunk after chunk, until the range ends, is lost, or somebody wants something else.

use super::Task;
use crate::errors::{Error, Result};
use crate::evolve::atomic::AtomicPlan;
use crate::evolve::chunk::Chunk;
use crate::evolve::job::{JobRecord, Phase, newest_view, now_unix_ms};
use crate::evolve::lease::Lease;
use crate::evolve::ledger::{self, Kept, Part};
use crate::evolve::outcome::{LOOK_AGAIN, Outcome, Verdict, judge};
use crate::evolve::pace::Before;
use crate::evolve::source::{Item, Source};
use crate::evolve::stepping::Stepping;
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::Remedy;

pub(crate) struct RangeWork<'t> {
    task: &'t mut Task,
    held: &'t mut Lease,
    source: Source,
    /// The snapshot that the source is of.
    snapshot: u64,
}

impl<'t> RangeWork<'t> {
    pub(crate) fn new(task: &'t mut Task, held: &'t mut Lease) -> RangeWork<'t> {
        let source = Source::new(task.job.oid(), &held.record);
        RangeWork { task, held, source, snapshot: 0 }
    }

    /// Works until nothing is left, the range is lost, or somebody wants something else.
    pub(crate) async fn run(mut self) -> Result<Outcome> {
        loop {
            let error = match self.turn().await {
                Ok(Outcome::Go { .. }) => continue,
                Ok(Outcome::Failed(why) | Outcome::Refused(why)) => {
                    self.task.fail(&why).await?;
                    return Ok(Outcome::Stopped);
                }
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            if judge(&error) != Verdict::Waits {
                return Err(error);
            }
            if !self.wait_out(&error).await? {
                return Ok(Outcome::Lost);
            }
            if self.task.is_stopped() {
                return Ok(Outcome::Stopped);
            }
        }
    }

    /// After an error that passes by itself: a newer snapshot, or a while for the server. False: the range was lost.
    async fn wait_out(&mut self, error: &Error) -> Result<bool> {
        tracing::debug!(job = self.task.job.name(), %error, "the worker waits");
        self.source = Source::new(self.task.job.oid(), &self.held.record);
        if error.remedy() == Remedy::ReopenSnapshot {
            self.snapshot = 0;
        }
        self.task.pause(LOOK_AGAIN).await;
        let job = match newest_view(&self.task.db).await {
            Ok(_) => self.task.job_now().await?,
            // Still away: nobody else gets anything done either.
            Err(_) => return Ok(true),
        };
        match self.held.beat(lease_of(&job.record), &error.to_string()).await {
            Ok(mine) => Ok(mine),
            Err(error) if judge(&error) == Verdict::Waits => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// One chunk, or what comes instead of it.
    async fn turn(&mut self) -> Result<Outcome> {
        let job = self.task.job_now().await?;
        let runs = matches!(job.record.phase, Phase::Running | Phase::CatchingUp | Phase::Verifying);
        if self.task.is_stopped() || !runs || job.record.is_paused(now_unix_ms()) {
            return Ok(Outcome::Stopped);
        }
        self.look_at_the_snapshot(&job.record).await?;
        let objects = match self.task.pace.next(&self.task.db, &job.record.settings) {
            Before::Chunk { objects, pause } if pause.is_zero() => objects,
            Before::Chunk { objects, pause } => {
                let why = self.task.pace.why.clone();
                if let ControlFlow::Break(outcome) = self.sleep(&job.record, pause, &why).await? {
                    return Ok(outcome);
                }
                objects
            }
            Before::Wait(why) => {
                // The answer to a ping tells the newest pressure.
                self.task.db.newest().await?;
                let slept = self.sleep(&job.record, LOOK_AGAIN, &why).await?;
                return Ok(slept.break_value().unwrap_or(Outcome::AGAIN));
            }
            Before::Fail(why) => return Ok(Outcome::Failed(why)),
        };
        let atomic = job.record.settings.atomic && self.held.record.part != Part::Finish;
        let objects = if atomic { usize::MAX } else { objects };
        let items = match self.source.peek(&self.task.db, &job.record, &self.held.record, objects).await {
            Ok(items) => items,
            Err(error) if error.remedy() == Remedy::ReopenSnapshot => {
                self.task.pin_anew(job.record.snapshot).await?;
                return Ok(Outcome::AGAIN);
            }
            Err(error) => return Err(error),
        };
        if items.is_empty() {
            return self.end(&job).await;
        }
        self.chunk(&job, items, atomic).await
    }

    async fn look_at_the_snapshot(&mut self, job: &JobRecord) -> Result<()> {
        self.task.pin(job).await?;
        if self.snapshot != job.snapshot {
            self.snapshot = job.snapshot;
            self.source = Source::new(self.task.job.oid(), &self.held.record);
        }
        Ok(())
    }

    /// Sleeps, and shows that it is alive; breaks off when there is something else to do.
    async fn sleep(&mut self, job: &JobRecord, time: Duration, why: &str) -> Result<ControlFlow<Outcome>> {
        let (until, lease) = (Instant::now() + time, lease_of(job));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(ControlFlow::Continue(()));
            }
            self.task.pause(left.min(lease / 4).max(Duration::from_millis(1))).await;
            if self.task.is_stopped() {
                return Ok(ControlFlow::Break(Outcome::Stopped));
            }
            // The reason is written with the next chunk, or with the beat; never just for itself.
            let shown = if time > lease / 3 || !why.is_empty() && time >= LOOK_AGAIN {
                why.to_owned()
            } else {
                self.held.record.waits_for.clone()
            };
            if !self.held.beat(lease, &shown).await? {
                return Ok(ControlFlow::Break(Outcome::Lost));
            }
            if self.task.job_now().await?.record != *job {
                return Ok(ControlFlow::Break(Outcome::AGAIN));
            }
        }
    }

    async fn chunk(&mut self, job: &Kept<JobRecord>, items: Vec<Item>, atomic: bool) -> Result<Outcome> {
        let (began, offered, first) = (Instant::now(), items.len(), items.first().cloned());
        let bad_before = self.held.record.counts.bad_now();
        // A whole plan in one commit has no course.
        let course = match atomic {
            true => None,
            false => {
                let Task { recorder, db, job, pace, .. } = &mut *self.task;
                recorder.first(db, job.oid(), self.held, pace).await
            }
        };
        let chunk = Chunk {
            stepping: Stepping {
                db: &self.task.db,
                job_oid: self.task.job.oid(),
                job: &job.record,
                step: &*self.task.step,
            },
            job: self.task.job.oid(),
            job_tid: job.tid,
            waits_for: &self.task.pace.why,
            rate: self.task.pace.rate,
            is_last: self.source.ends_after(offered),
            course,
        };
        let mut outcome = match atomic {
            true => AtomicPlan { chunk: &chunk }.run(self.held, items).await?,
            false => chunk.run(self.held, items).await?,
        };
        if let (Outcome::Refused(why), 1, Some(item)) = (&outcome, offered, first) {
            outcome = chunk.give_up(self.held, item, why).await?;
        }
        if let (Outcome::Go { done: 1.. }, Some(first)) = (&outcome, chunk.course) {
            self.task.recorder.carried(&first, self.held);
        }
        match outcome {
            Outcome::Go { done: 0 } => {
                self.source = Source::new(self.task.job.oid(), &self.held.record);
                Ok(Outcome::AGAIN)
            }
            Outcome::Go { done } => {
                self.source.passed(done);
                // A whole plan at once says nothing about chunks, and at their rate what comes after it would wait for an hour.
                if !atomic {
                    self.task.pace.done(&job.record.settings, began, done);
                    self.task.recorder.note(&self.task.db, self.task.job.oid(), self.held, &self.task.pace).await;
                }
                if self.held.record.counts.bad_now() > bad_before
                    && let Some(why) = self.too_many_bad(&job.record).await?
                {
                    return Ok(Outcome::Failed(why));
                }
                Ok(if self.held.record.finished { Outcome::Over } else { Outcome::Go { done } })
            }
            Outcome::Refused(why) => {
                tracing::debug!(job = self.task.job.name(), why, offered, "the chunk was refused; a smaller one");
                self.task.pace.too_large(offered);
                Ok(Outcome::AGAIN)
            }
            outcome => Ok(outcome),
        }
    }

    /// Why the job fails, if too many objects are in the quarantine.
    async fn too_many_bad(&self, job: &JobRecord) -> Result<Option<String>> {
        let ranges = ledger::ranges(&self.task.db.now(), self.task.job.oid(), job.ranges + 1).await?;
        let (bad, limit) = (ledger::counts(&ranges).bad_now(), job.settings.bad_max);
        Ok((bad > limit).then(|| format!("{bad} objects are in the quarantine, over the limit {limit}")))
    }

    /// Nothing is left in the range.
    async fn end(&mut self, job: &Kept<JobRecord>) -> Result<Outcome> {
        if self.held.record.part != Part::Finish {
            let mine =
                self.held.put(|next| (next.finished, next.holder, next.rate) = (true, String::new(), 0.0)).await?;
            return Ok(if mine { Outcome::Over } else { Outcome::Lost });
        }
        let outcome = self.task.finisher().pass(self.held, &job.record).await?;
        if outcome == Outcome::AGAIN {
            self.source = Source::new(self.task.job.oid(), &self.held.record);
        }
        Ok(outcome)
    }
}

fn lease_of(job: &JobRecord) -> Duration {
    Duration::from_millis(job.settings.lease_ms)
}
