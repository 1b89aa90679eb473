//! Owns what a job looks like from outside: its state in words, how much is done, how fast, and when it is over.

use super::earlier::{OWED_MAX, only_taken_back, owed};
use super::eta::Eta;
use super::job::{Job, JobRecord, Phase, newest_view, now_unix_ms};
use super::ledger::{self, Bad, Counts, Cursor, NotUndone, Part, RangeRecord};
use super::together;
use crate::errors::{Error, Result};
use crate::tx::Tx;
use crate::watch::Watch;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::evolve::{Kept, Standing, State, silent};
use zeolite_proto::{Gate, Tid};

/// A job as of one snapshot.
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
/// let progress = job.show().await?;
/// assert_eq!((progress.done, progress.total), (0, 0));
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// Its record.
    pub job: JobRecord,
    /// Its ranges; the last one is for the end of the job. A holder that gives no sign of life has no rate, and waits for that.
    pub ranges: Vec<RangeRecord>,
    /// What became of objects, in all ranges.
    pub counts: Counts,
    /// Objects that were looked at, of `total`. Of a job that is taken back: its commits that were.
    pub done: u64,
    /// Objects in the plan, and what live writers have added to it. Of a job that is taken back: its commits.
    pub total: u64,
    /// Objects a second, as the workers tell it.
    pub rate: f64,
    /// How long it takes at that rate; none: nobody can say.
    pub left: Option<Duration>,
    /// Objects of the target class that are below the target's version.
    pub old: Option<u64>,
    /// Every commit up to this one is in that count; without a target, in the records.
    pub as_of: Tid,
    /// Writes of chunks that live drafts went over: they are stepped anew. Counted up to [`OWED_MAX`].
    pub owed: u64,
    /// Of the objects that steps have changed, those that live drafts have brought to the new shape themselves since: what the steps
    /// had written was taken back.
    pub taken_back: u64,
    /// The closed gate of the target class, whoever has closed it.
    pub gate: Option<Gate>,
    /// Names of the workers that hold a range and give signs of life.
    pub workers: Vec<String>,
    /// For how long none of those that hold one has given a sign, or nobody has held one, if that is longer than the lease.
    pub silent: Option<Duration>,
    /// How far taking it back is, if that was begun: `changed` counts groups of steps, `bad` those that were left, `kept` objects that
    /// are in another shape than before.
    pub undo: Option<RangeRecord>,
    /// Its state in one word.
    pub word: State,
    /// Why it is in that state; empty: nothing to say.
    pub why: String,
    /// When a pause ends by itself, in milliseconds since 1970; 0: it does not, or not by the clock.
    pub until_unix_ms: u64,
}

impl Progress {
    /// The state in words: a phase, `paused` or `throttled`, with the reason.
    pub fn state(&self) -> String {
        let until = if self.until_unix_ms > 0 { format!(" until {}", self.until_unix_ms) } else { String::new() };
        let why = if self.why.is_empty() { String::new() } else { format!(" ({})", self.why) };
        format!("{}{until}{why}", self.word.text())
    }

    /// Whether an operator holds it, or the disk has too little room.
    pub fn is_paused(&self) -> bool {
        self.word == State::Paused
    }

    /// What slows the workers down.
    pub fn throttled(&self) -> Option<&str> {
        (self.word == State::Throttled).then_some(&*self.why)
    }
}

/// A job's progress whenever it changes.
///
/// ```
/// use std::time::Duration;
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
/// let mut watch = job.watch();
/// let now = watch.next(Duration::ZERO).await?; // at once, and then whenever something has changed
/// assert_eq!(now.expect("it is there").done, 0);
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct JobWatch {
    job: Job,
    changes: Watch,
    eta: Eta,
    began: Instant,
    first: bool,
}

impl JobWatch {
    /// The next state; changes that come faster than `least` apart are told together. None: the database is closed.
    pub async fn next(&mut self, least: Duration) -> Result<Option<Progress>> {
        if !self.first {
            tokio::time::sleep(least).await;
            if self.changes.next().await.is_none() {
                return Ok(None);
            }
            self.changes = self.job.db.watch([self.job.oid()]);
        }
        self.first = false;
        let mut progress = self.job.show().await?;
        // From samples of its own: what a worker tells is its own rate only.
        self.eta.sample(self.began.elapsed(), progress.done);
        if progress.silent.is_none() {
            progress.rate = self.eta.rate().unwrap_or(progress.rate);
            progress.left = self.eta.left(progress.total);
        }
        Ok(Some(progress))
    }
}

/// A range as it is to be told, and whether its holder, if it has one, gives signs of life.
fn shown(job: &JobRecord, range: Kept<RangeRecord>, now_unix_ms: u64) -> (RangeRecord, bool) {
    let silent = silent(job, &range, now_unix_ms);
    let mut record = range.record;
    if let Some(silent) = silent {
        (record.rate, record.waits_for) = (0.0, format!("no sign of it for {} s", silent.as_secs()));
    }
    (record, silent.is_none())
}

impl Job {
    /// How far it is.
    pub async fn show(&self) -> Result<Progress> {
        let view = newest_view(&self.db).await?;
        let job: JobRecord = view.load(self.reference).await?;
        let kept = ledger::kept_ranges(&view, self.oid(), job.ranges + 1).await?;
        let undo = ledger::kept::<RangeRecord>(&view, &ledger::range_cell(self.oid(), ledger::UNDO_RANGE)).await?;
        let held = kept.iter().chain(&undo).any(|range| !range.record.holder.is_empty());
        let is_over = job.phase.is_over() || job.phase == Phase::Planned;
        let now_unix_ms = self.clock_unix_ms(held || !is_over).await?;
        let (mut old, mut as_of, mut gate) = (None, view.snapshot(), None);
        if let Some(target) = &job.target {
            let kinds = self.db.admin().kinds().await?;
            (old, as_of) = (Some(kinds.below(&target.class, target.version)), kinds.tid);
            gate = self.db.admin().gates().await?.into_iter().find(|gate| gate.class == target.class);
        }
        let owed = owed(&view, self.oid(), OWED_MAX).await?.len() as u64;
        let taken_back = only_taken_back(&view, self.oid()).await?;
        let standing = Standing::of(&job, &kept, undo.as_ref(), old, now_unix_ms);
        let Standing { state: word, why, until_unix_ms, counts, done, total, rate, workers: _, silent } = standing;
        let shown = |range| shown(&job, range, now_unix_ms);
        let (ranges, alive): (Vec<RangeRecord>, Vec<bool>) = kept.into_iter().map(shown).unzip();
        let undo = undo.map(|range| shown(range).0);
        let (mut done, mut total, mut rate) = (done, total, rate);
        if let Some(undo) = undo.as_ref().filter(|_| matches!(job.phase, Phase::Undoing | Phase::Undone)) {
            // Commits that only passed objects have nothing to take back.
            total = undo.total.max(undo.counts.chunks);
            done = if undo.finished { total } else { undo.counts.chunks };
            rate = undo.rate;
        }
        // The rate of an undo is that of groups.
        let left = (rate > 0.0 && !job.phase.is_over() && job.phase != Phase::Undoing)
            .then(|| Duration::try_from_secs_f64((total - done) as f64 / rate).ok())
            .flatten();
        let holders = ranges.iter().zip(alive).filter(|(range, alive)| *alive && !range.holder.is_empty());
        let workers = holders.map(|(range, _)| range.holder.clone()).collect();
        Ok(Progress {
            job,
            ranges,
            counts,
            done,
            total,
            rate,
            left,
            old,
            as_of,
            owed,
            taken_back,
            gate,
            workers,
            silent,
            undo,
            word,
            why,
            until_unix_ms,
        })
    }

    /// The server's clock: signs of life are told by the tids of commits. One's own, where none is expected: then only the end of a
    /// pause depends on it.
    async fn clock_unix_ms(&self, signs: bool) -> Result<u64> {
        let told = if signs { self.db.admin().status().await?.unix_ms } else { 0 };
        Ok(if told > 0 { told } else { now_unix_ms() })
    }

    /// Tells its progress now, and again whenever the ledger changes.
    pub fn watch(&self) -> JobWatch {
        let changes = self.db.watch([self.oid()]);
        JobWatch { job: self.clone(), changes, eta: Eta::default(), began: Instant::now(), first: true }
    }

    /// The quarantine: on which objects a step has failed, and how.
    pub async fn quarantine(&self, limit: u64) -> Result<Vec<Bad>> {
        ledger::quarantine(&newest_view(&self.db).await?, self.oid(), limit).await
    }

    /// Groups of steps that could not be taken back, and why.
    pub async fn not_undone(&self, limit: u64) -> Result<Vec<NotUndone>> {
        ledger::not_undone(&newest_view(&self.db).await?, self.oid(), limit).await
    }

    /// Whether live drafts went over something that it has stepped, and it is not paid yet.
    pub async fn owes(&self) -> Result<bool> {
        Ok(!owed(&newest_view(&self.db).await?, self.oid(), 1).await?.is_empty())
    }

    /// Goes on: with a job that is paused, or with one that has failed. What is in the quarantine is tried again.
    pub async fn resume(&self) -> Result<()> {
        let note = format!("resume {}", self.name());
        let transaction = self.db.transaction().fresh().serializable().note("evolve", note);
        let work = transaction.run(async |tx| {
            let mut record = tx.load(self.reference).await?;
            match record.phase {
                Phase::Failed => {
                    together::check(&tx, &record).await?;
                    self.retry_the_quarantine(&tx, &mut record).await?;
                }
                phase if phase.is_over() => {
                    let phase = phase.text();
                    return Err(Error::invalid(format!("evolve {:?} is {phase}; plan a new one", self.name())));
                }
                _ => {}
            }
            record.pause = None;
            tx.set(self.reference, &record)
        });
        work.await
    }

    /// What is in the quarantine becomes a range; the one for the end moves behind it.
    async fn retry_the_quarantine(&self, tx: &Tx, record: &mut JobRecord) -> Result<()> {
        let bad = ledger::quarantine(tx, self.oid(), u64::MAX).await?;
        (record.phase, record.ended) = (Phase::Running, 0);
        record.reason.clear();
        let finish = ledger::range_cell(self.oid(), record.ranges);
        let mut end = ledger::kept::<RangeRecord>(tx, &finish).await?.map(|kept| kept.record);
        if let Some(end) = &mut end {
            (end.finished, end.pass, end.cursor) = (false, 0, Cursor::Start);
            end.holder.clear();
        }
        if !bad.is_empty() {
            // Nothing is listed: they are there like cells that were put off.
            let mut retry = RangeRecord::new(Part::Lists { first: 0, end: 0 }, 0);
            retry.deferred = bad.into_iter().map(|bad| (bad.oid, bad.key)).collect();
            tx.put_unchecked(finish, ledger::encoded(&retry)?)?;
            record.ranges += 1;
        }
        let end = end.unwrap_or_else(|| RangeRecord::new(Part::Finish, 0));
        tx.put_unchecked(ledger::range_cell(self.oid(), record.ranges), ledger::encoded(&end)?)
    }
}
