//! Owns the end of a job: passes over what is still in the old shape, the gate, the look at the result, the certificate.
//!
//! ```text
//!   count of the old shape > 0   another pass: old code still writes it, or live traffic was always faster
//!   count = 0, gate wanted       close it: the server counts again and closes in one commit, or says how many came between
//!   a live draft came over what was stepped (owed)   another pass: taken back, and stepped anew
//!   only the quarantine is left  what live writers have changed since is tried again; otherwise the job fails with that list, and
//!                                can be resumed
//!   live traffic                 a moment's wait first: what has read before the last chunk may still commit
//!   the gate is closed           the step's last look (`Step::sweep`): entries that older code has left go
//!   otherwise                    done: a snapshot at which nothing of the old shape is there
//! ```

use super::chunk::DEFERRED_MAX;
use super::earlier::{only_taken_back, owed_left};
use super::job::{Certificate, Job, JobRecord, Phase, newest_view};
use super::lease::Lease;
use super::ledger::{self, Bad, Cursor, Part};
use super::outcome::Outcome;
use super::step::AnyStep;
use super::throttle::is_live;
use crate::connect::Db;
use crate::errors::Result;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::{Cell, CloseAttempt, Tid};

/// What live transactions may take between reading and committing, for the end of a job to wait for them. One that takes longer goes
/// over what it has read as well, and the job owes it, although it is done.
const LIVE_WITHIN: Duration = Duration::from_secs(1);
/// Before another pass, when the last one has found nothing that it could do.
const PASS_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Finisher<'a> {
    pub(crate) db: &'a Db,
    pub(crate) job: &'a Job,
    pub(crate) step: &'a dyn AnyStep,
}

impl Finisher<'_> {
    /// The last range was claimed: says so, if there is anything to catch up with.
    pub(crate) async fn begin(&self, held: &Lease, job: &JobRecord) -> Result<()> {
        let (Part::Finish, Some(target)) = (&held.record.part, &job.target) else { return Ok(()) };
        if job.phase == Phase::Running && self.old(&target.class, target.version).await? > 0 {
            self.enter(Phase::CatchingUp).await?;
        }
        Ok(())
    }

    /// After a pass over what was left behind (the first one is empty: nothing has been listed yet).
    pub(crate) async fn pass(&self, held: &mut Lease, job: &JobRecord) -> Result<Outcome> {
        let ranges = ledger::ranges(&newest_view(self.db).await?, self.job.oid(), job.ranges + 1).await?;
        let bad = ledger::counts(&ranges).bad_now();
        // Old code may write again at any moment: after a pass that has found something the gate is tried at once.
        let mut gate_tid = self.try_the_gate(held, job).await?;
        if let Some(target) = job.target.as_ref().filter(|_| gate_tid == 0) {
            let left = self.old(&target.class, target.version).await?;
            if left > 0 && (bad == 0 || left > bad || held.record.pass == 0) {
                if held.record.pass == 0 {
                    self.enter(Phase::CatchingUp).await?;
                } else if held.record.cursor == Cursor::Start {
                    tokio::time::sleep(PASS_PAUSE).await;
                }
                return Ok(again(held));
            }
        }
        let owed = owed_left(self.db, self.job.oid()).await?;
        if owed > 0 {
            if held.record.pass == 0 {
                self.enter(Phase::CatchingUp).await?;
            }
            return Ok(again(held));
        }
        if bad > 0 && self.tries_again(held, job).await? {
            return Ok(again(held));
        }
        if bad > 0 {
            return self.fail(held, &format!("{bad} objects are in the quarantine")).await;
        }
        self.enter(Phase::Verifying).await?;
        if gate_tid == 0 && job.target.as_ref().is_some_and(|target| target.gate) {
            gate_tid = self.close_the_gate(job).await?;
            if gate_tid == 0 {
                // What counts is not there yet: a draft on its way, or one that is prepared and may stay so for long.
                tokio::time::sleep(PASS_PAUSE).await;
                let mine = held.beat(Duration::from_millis(job.settings.lease_ms), "").await?;
                return Ok(if mine { again(held) } else { Outcome::Lost });
            }
        }
        if !self.live_ones_are_over(held, job).await? {
            return Ok(Outcome::Lost);
        }
        if owed_left(self.db, self.job.oid()).await? > 0 {
            return Ok(again(held));
        }
        if gate_tid != 0 && !self.sweep(held, job).await? {
            return Ok(Outcome::Lost);
        }
        match self.certificate(job, gate_tid).await? {
            Some(certificate) => self.done(held, certificate).await,
            None => Ok(again(held)),
        }
    }

    /// The step's last look; false: the range was lost.
    async fn sweep(&self, held: &mut Lease, job: &JobRecord) -> Result<bool> {
        newest_view(self.db).await?;
        let beat_every = Duration::from_millis(job.settings.lease_ms) / 4;
        let mut sweep = self.step.sweep(self.db);
        loop {
            tokio::select! {
                swept = &mut sweep => {
                    let gone = swept?;
                    tracing::debug!(job = self.job.name(), gone, "the last look is over");
                    return Ok(true);
                }
                () = tokio::time::sleep(beat_every) => {
                    if !held.beat(Duration::from_millis(job.settings.lease_ms), "the last look at what belongs to it").await? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Waits until live transactions that have read before the last chunk have committed; false: the range was lost.
    async fn live_ones_are_over(&self, held: &mut Lease, job: &JobRecord) -> Result<bool> {
        self.db.newest().await?;
        if !self.db.pressure().is_some_and(|pressure| is_live(&pressure)) {
            return Ok(true);
        }
        let (lease, until) = (Duration::from_millis(job.settings.lease_ms), Instant::now() + LIVE_WITHIN);
        while Instant::now() < until {
            tokio::time::sleep((until - Instant::now()).min(lease / 4)).await;
            if !held.beat(lease, "live transactions that began before the last chunk").await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether something in the quarantine is not any more what its step has failed on: a live writer may have mended it.
    async fn tries_again(&self, held: &mut Lease, job: &JobRecord) -> Result<bool> {
        // One that is written all the time, and always badly, does not keep the job for ever.
        if held.record.pass >= job.settings.rounds_max {
            return Ok(false);
        }
        let view = newest_view(self.db).await?;
        let bad = ledger::quarantine(&view, self.job.oid(), DEFERRED_MAX as u64).await?;
        let cells: Vec<Cell> = bad.iter().map(Bad::cell).collect();
        let now = view.revisions(&cells).await?;
        let changed = bad.into_iter().zip(now).filter(|(bad, now)| now.tid.0 != bad.tid);
        held.record.deferred = changed.map(|(bad, _)| (bad.oid, bad.key)).collect();
        Ok(!held.record.deferred.is_empty())
    }

    /// The commit that closed the gate; 0: not now.
    async fn try_the_gate(&self, held: &Lease, job: &JobRecord) -> Result<u64> {
        let found_something = held.record.pass > 0 && held.record.cursor != Cursor::Start;
        if found_something { self.close_the_gate(job).await } else { Ok(0) }
    }

    async fn close_the_gate(&self, job: &JobRecord) -> Result<u64> {
        let Some(target) = job.target.as_ref().filter(|target| target.gate) else { return Ok(0) };
        match self.db.admin().close_gate(&target.class, target.version, &job.name).await? {
            CloseAttempt::Closed(tid) => Ok(tid.0),
            CloseAttempt::Left(_) => Ok(0),
        }
    }

    /// Objects below a version, by the newest.
    async fn old(&self, class: &str, version: u32) -> Result<u64> {
        Ok(self.db.admin().kinds().await?.below(class, version))
    }

    async fn enter(&self, phase: Phase) -> Result<()> {
        let enter = |record: &mut JobRecord| {
            if matches!(record.phase, Phase::Running | Phase::CatchingUp | Phase::Verifying) {
                record.phase = phase;
            }
            Ok(())
        };
        self.job.change(enter).await?;
        newest_view(self.db).await.map(|_| ())
    }

    /// None: something of the old shape came between.
    async fn certificate(&self, job: &JobRecord, gate_tid: u64) -> Result<Option<Certificate>> {
        let view = newest_view(self.db).await?;
        let ranges = ledger::ranges(&view, self.job.oid(), job.ranges + 1).await?;
        let counts = ledger::counts(&ranges);
        let (tid, objects, verified) = match &job.target {
            None => (view.snapshot(), job.total, counts.done),
            Some(target) => {
                let kinds = self.db.admin().kinds().await?;
                if kinds.below(&target.class, target.version) > 0 {
                    return Ok(None);
                }
                (kinds.tid, kinds.of(&target.class), 0)
            }
        };
        Ok(Some(Certificate {
            tid: tid.0,
            gate_tid,
            objects,
            changed: counts.changed.saturating_sub(only_taken_back(&view, self.job.oid()).await?),
            verified,
            duration_ms: between_ms(Tid(job.started), tid),
        }))
    }

    async fn done(&self, held: &mut Lease, certificate: Certificate) -> Result<Outcome> {
        let close = |record: &mut JobRecord| {
            if matches!(record.phase, Phase::Running | Phase::CatchingUp | Phase::Verifying) {
                (record.phase, record.ended) = (Phase::Done, certificate.tid);
                record.certificate = Some(certificate.clone());
                record.reason.clear();
            }
            Ok(())
        };
        self.close(held, close).await
    }

    async fn fail(&self, held: &mut Lease, reason: &str) -> Result<Outcome> {
        let newest = self.db.newest().await?.0;
        let close = |record: &mut JobRecord| {
            if !record.phase.is_over() && record.phase != Phase::Undoing {
                (record.phase, record.reason, record.ended) = (Phase::Failed, reason.to_owned(), newest);
            }
            Ok(())
        };
        self.close(held, close).await
    }

    /// The range first: it is the fence. Whoever loses it does not end the job.
    async fn close(
        &self,
        held: &mut Lease,
        close: impl Fn(&mut JobRecord) -> Result<()> + Send + Sync,
    ) -> Result<Outcome> {
        if !held.put(|next| next.waits_for.clear()).await? {
            return Ok(Outcome::Lost);
        }
        self.job.change(close).await?;
        // It failed, or somebody has cancelled it since the gate was closed.
        if self.job.record().await?.phase != Phase::Done {
            self.job.open_gate().await?;
        }
        let given_back = held.put(|next| (next.holder, next.rate) = (String::new(), 0.0)).await;
        tracing::debug!(job = self.job.name(), ok = given_back.is_ok(), "the job is over");
        newest_view(self.db).await.map(|_| Outcome::Over)
    }
}

/// Begins another pass. It is written down with its first chunk; another worker would begin a pass as well.
fn again(held: &mut Lease) -> Outcome {
    (held.record.cursor, held.record.pass) = (Cursor::Start, held.record.pass + 1);
    Outcome::AGAIN
}

/// The time between two commits.
pub(crate) fn between_ms(from: Tid, to: Tid) -> u64 {
    u64::try_from((to.unix_nanos() - from.unix_nanos()).max(0) / 1_000_000).unwrap_or(u64::MAX)
}
