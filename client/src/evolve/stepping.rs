//! Owns the stepping of one cell: a transaction, the application's step in it, and what came out.

use super::earlier::{Repaid, Stuck, TakeBack};
use super::job::JobRecord;
use super::ledger::{Bad, Counts, Cursor};
use super::outcome::{Verdict, judge_step};
use super::own_records::OwnRecords;
use super::source::{Item, NOT_TOLD};
use super::step::{AnyStep, Stepped};
use crate::connect::Db;
use crate::errors::Result;
use crate::tx::{Prefetched, Staged, Tx, View, Work, damaged};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Oid, Record, Remedy, Tid};

/// An error's text in the quarantine.
const ERROR_CHARS_MAX: usize = 2000;

/// What became of one cell.
#[derive(Clone, Debug)]
pub(crate) enum StepResult {
    /// Worked on; `stepped`: the application's step has run, `changed`: the cell itself is written, `repaid`: what its former step
    /// had written was taken back before.
    Work { work: Work, stepped: bool, changed: bool, repaid: Option<Repaid> },
    /// It needs nothing: it was brought to the target, or deleted, by somebody else.
    FoundDone,
    /// The step failed.
    Bad(Bad),
    /// The step has failed on this very revision before.
    StillBad,
    /// For later.
    PutOff,
}

/// A cell of a chunk.
#[derive(Clone, Debug)]
pub(crate) struct SteppedCell {
    pub(crate) item: Item,
    pub(crate) made: StepResult,
    /// The snapshot that it was made at.
    pub(crate) base: Tid,
    /// How often it was made again.
    pub(crate) again: u32,
    /// It was in the quarantine before.
    pub(crate) was_bad: bool,
}

/// A cell that is to be stepped.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) item: Item,
    /// It is in the quarantine.
    pub(crate) was_bad: bool,
    /// The revision that need not be tried again: its step has failed on it.
    pub(crate) bad_at: Option<Tid>,
    /// Not now.
    pub(crate) for_later: bool,
}

impl Wanted {
    /// One of which nothing is known.
    pub(crate) fn new(item: Item) -> Wanted {
        Wanted { item, was_bad: false, bad_at: None, for_later: false }
    }
}

/// Steps cells of one job.
pub(crate) struct Stepping<'a> {
    pub(crate) db: &'a Db,
    pub(crate) job_oid: Oid,
    pub(crate) job: &'a JobRecord,
    pub(crate) step: &'a dyn AnyStep,
}

impl<'a> Stepping<'a> {
    /// Steps cells at a snapshot, as many at once as the step wants; they come in their order.
    pub(crate) fn all<'s>(
        &'s self,
        wanted: impl IntoIterator<Item = Wanted> + 's,
        at: &'s Prefetched,
        base: Tid,
    ) -> impl Stream<Item = Result<SteppedCell>> + 's {
        let step = move |wanted| self.one(wanted, at, base);
        stream::iter(wanted.into_iter().map(step)).buffered(self.step.at_once().max(1))
    }

    async fn one(&self, wanted: Wanted, at: &Prefetched, base: Tid) -> Result<SteppedCell> {
        let Wanted { item, was_bad, bad_at, for_later } = wanted;
        let made = if for_later { StepResult::PutOff } else { self.make(&item, at, bad_at).await? };
        Ok(SteppedCell { item, made, base, again: 0, was_bad })
    }

    /// Steps one cell at a snapshot. An error is not the step's: the chunk has to wait.
    pub(crate) async fn make(&self, item: &Item, at: &Prefetched, bad_at: Option<Tid>) -> Result<StepResult> {
        let tx = at.transaction(self.db);
        // A dry run, which has no job, leaves nothing behind.
        tx.own.lock().kept.makes_none = self.job_oid == Oid::ROOT;
        let cell = &item.cell;
        let repaid = match item.former {
            None => None,
            Some(chunk) => {
                let revision = tx.revision(cell).await?;
                if bad_at == Some(revision.tid) {
                    return Ok(StepResult::StillBad);
                }
                match (TakeBack { db: self.db, job: self.job_oid, cell }).stage(&tx, chunk).await {
                    Ok(repaid) => Some(repaid),
                    Err(Stuck::Cannot(why)) => return Ok(bad(cell, revision.record.as_ref(), revision.tid, &why)),
                    Err(Stuck::Error(error)) => return Err(error),
                }
            }
        };
        match (self.work_in(&tx, item, bad_at).await?, repaid) {
            (Ok(None), None) => Ok(StepResult::FoundDone),
            (Ok(None), Some(repaid)) => Ok(work_of(tx, cell, false, Some(repaid))),
            (Ok(Some(version)), repaid) => {
                let made = work_of(tx, cell, true, repaid);
                let before = at.view(self.db);
                let StepResult::Work { work, .. } = &made else { return Ok(made) };
                let mut judged = self.reaches_the_target(work, cell, version);
                if judged.is_ok() {
                    judged = self.leaves_the_plan_alone(work, cell, &before).await?;
                }
                match judged {
                    Ok(()) => Ok(made),
                    Err(why) => {
                        let revision = before.revision(cell).await?;
                        Ok(bad(cell, revision.record.as_ref(), revision.tid, &why))
                    }
                }
            }
            (Err(result), _) => Ok(result),
        }
    }

    /// Lets the step do its work in the transaction; gives the version that it found, none if the cell needs nothing, or what
    /// became of it otherwise. An error is not the step's.
    async fn work_in(&self, tx: &Tx, item: &Item, bad_at: Option<Tid>) -> Result<Result<Option<u32>, StepResult>> {
        let cell = &item.cell;
        let revision = tx.revision(cell).await?;
        let Some(encoded) = tx.get_encoded(cell).await? else { return Ok(Ok(None)) };
        let header = Header::parse(&encoded).map_err(|bad| damaged(cell, &bad))?;
        if self.needs_nothing(&header) || OwnRecords::is_class(header.class) {
            return Ok(Ok(None));
        }
        if bad_at == Some(revision.tid) {
            return Ok(Err(StepResult::StillBad));
        }
        let version = header.version;
        let outcome = match self.was_planned(item, revision.tid).await? {
            Ok(false) => return Ok(Ok(None)),
            Err(why) => Err(why),
            Ok(true) => {
                let old = Record::decode(&encoded).map_err(|bad| damaged(cell, &bad))?;
                let stepped = self.stepped(tx, cell, old).await?;
                match stepped.and_then(|stepped| self.staged(tx, cell, stepped, &encoded)) {
                    Ok(()) => self.settled(tx).await?,
                    Err(why) => Err(why),
                }
            }
        };
        Ok(match outcome {
            Ok(()) => Ok(Some(version)),
            Err(why) => Err(bad(cell, Some(&encoded), revision.tid, &why)),
        })
    }

    /// What the application's step wants. Inside: why the object goes to the quarantine; outside: the chunk has to wait.
    async fn stepped(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Result<Stepped, String>> {
        let limit = Duration::from_millis(self.job.settings.step_timeout_ms);
        let step = AssertUnwindSafe(self.step.step(tx, cell, old)).catch_unwind();
        let stepped = match self.step.limits_itself() {
            true => Ok(step.await),
            false => tokio::time::timeout(limit, step).await,
        };
        Ok(match stepped {
            Ok(Ok(Ok(stepped))) => Ok(stepped),
            Ok(Ok(Err(error))) if judge_step(&error) != Verdict::Refused => return Err(error),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(panic)) => Err(format!("the step panicked: {}", said(&*panic))),
            Err(_) => Err(format!("the step took longer than {limit:?}, which is its limit (step_timeout_ms)")),
        })
    }

    /// The indexes of the objects that were written.
    async fn settled(&self, tx: &Tx) -> Result<Result<(), String>> {
        match tx.settle().await {
            Err(error) if judge_step(&error) != Verdict::Refused => Err(error),
            settled => Ok(settled.map_err(|error| error.to_string())),
        }
    }

    /// Of jobs that were planned when what a class has was not listed: the index tells it as it is now. Inside: nobody knows.
    pub(crate) async fn was_planned(&self, item: &Item, newest: Tid) -> Result<Result<bool, String>> {
        let planned = Tid(self.job.planned);
        let listed_by_the_index = matches!(item.after, Some(Cursor::Oid(_))) && self.job.target.is_none();
        if newest <= planned || !listed_by_the_index {
            return Ok(Ok(true));
        }
        match self.db.at(planned).revision(&item.cell).await {
            Ok(then) => Ok(Ok(then.record.is_some())),
            Err(error) if error.remedy() == Remedy::ReopenSnapshot => Ok(Err(NOT_TOLD.to_owned())),
            Err(error) => Err(error),
        }
    }

    /// What is made below the version that all are to reach is listed again, and with it what its step makes.
    pub(crate) async fn leaves_the_plan_alone(
        &self,
        work: &Work,
        own: &Cell,
        before: &View,
    ) -> Result<Result<(), String>> {
        let Some(target) = &self.job.target else { return Ok(Ok(())) };
        let is_old = |record: &bytes::Bytes| {
            Header::parse(record).is_ok_and(|header| header.class == target.class && header.version < target.version)
        };
        for (cell, staged) in work.cells.iter().filter(|(cell, _)| cell.is_object() && *cell != own) {
            let Staged::Put(record) = staged else { continue };
            if is_old(record) && !before.get_encoded(cell).await?.as_ref().is_some_and(is_old) {
                let (class, version) = (&target.class, target.version);
                let why = "the job would go on for ever with what it makes itself";
                return Ok(Err(format!("the step makes {cell} of class {class:?} below version {version}: {why}")));
            }
        }
        Ok(Ok(()))
    }

    pub(crate) fn needs_nothing(&self, header: &Header<'_>) -> bool {
        let of_another_class = match &self.job.plan {
            super::Plan::Objects { class, .. } => header.class != class,
            _ => false,
        };
        let there = self.job.target.as_ref().is_some_and(|target| header.version >= target.version);
        of_another_class || there
    }

    fn staged(&self, tx: &Tx, cell: &Cell, stepped: Stepped, old: &bytes::Bytes) -> Result<(), String> {
        let staged = match stepped {
            Stepped::Keep => Ok(()),
            Stepped::Delete => tx.delete(cell.clone()),
            Stepped::Replace(record) => match record.encode() {
                Ok(new) if new == *old => Ok(()),
                Ok(new) => tx.put_unchecked(cell.clone(), new),
                Err(bad) => return Err(bad.to_string()),
            },
        };
        staged.map_err(|error| error.to_string())
    }

    /// An object that is still below the target's version after its step would be listed again for ever.
    pub(crate) fn reaches_the_target(&self, work: &Work, cell: &Cell, old_version: u32) -> Result<(), String> {
        let Some(target) = &self.job.target else { return Ok(()) };
        let version = match work.cells.get(cell) {
            None => old_version,
            Some(Staged::Delete | Staged::Apply { .. }) => return Ok(()),
            Some(Staged::Put(record)) => match Header::parse(record) {
                Ok(header) if header.class == target.class => header.version,
                Ok(_) => return Ok(()),
                Err(bad) => return Err(bad.to_string()),
            },
        };
        if version >= target.version {
            return Ok(());
        }
        Err(format!("the step leaves it at version {version}, the plan wants version {}", target.version))
    }
}

/// What the transaction has come to.
fn work_of(tx: Tx, cell: &Cell, stepped: bool, repaid: Option<Repaid>) -> StepResult {
    let mut work = tx.into_work();
    work.sums = repaid.as_ref().is_some_and(|repaid| sums(&work, &repaid.staged));
    StepResult::Work { changed: work.cells.contains_key(cell), stepped, work, repaid }
}

/// What two puts of the same bytes mean is one put, unless both were made of what was there.
fn sums(work: &Work, staged: &BTreeMap<Cell, Staged>) -> bool {
    let is_put = |cell: &Cell| matches!(work.cells.get(cell), Some(Staged::Put(_) | Staged::Delete));
    staged.keys().any(is_put)
}

/// For the quarantine.
pub(crate) fn bad(cell: &Cell, record: Option<&bytes::Bytes>, tid: Tid, why: &str) -> StepResult {
    let header = record.and_then(|record| Header::parse(record).ok());
    let (class, version) = header.map_or((String::new(), 0), |header| (header.class.to_owned(), header.version));
    let error = why.chars().take(ERROR_CHARS_MAX).collect();
    StepResult::Bad(Bad { oid: cell.oid.0, key: cell.key.to_vec(), class, version, tid: tid.0, error })
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

impl SteppedCell {
    /// What it adds to its range's counts.
    pub(crate) fn count(&self, counts: &mut Counts) {
        counts.stepped_again += u64::from(self.again);
        match &self.made {
            StepResult::PutOff => {
                counts.put_off += 1;
                return;
            }
            StepResult::StillBad => return,
            // It was counted when it was stepped first.
            StepResult::Work { repaid: Some(repaid), stepped, changed, .. } if repaid.chunk.is_some() || !stepped => {
                counts.stepped_again += u64::from(*stepped);
                counts.changed += u64::from(*changed && !repaid.changed);
                counts.healed += u64::from(self.was_bad);
                return;
            }
            StepResult::Work { changed: true, .. } => counts.changed += 1,
            StepResult::Work { changed: false, .. } => counts.kept += 1,
            StepResult::FoundDone => counts.found_done += 1,
            StepResult::Bad(_) => counts.bad += u64::from(!self.was_bad),
        }
        // What was in the quarantine has been counted when it went there.
        counts.done += u64::from(!self.was_bad);
        if self.was_bad && !matches!(self.made, StepResult::Bad(_)) {
            counts.healed += 1;
        }
    }

    /// The bytes that it writes.
    pub(crate) fn bytes(&self) -> usize {
        let StepResult::Work { work, .. } = &self.made else { return 0 };
        let staged = |staged: &Staged| match staged {
            Staged::Put(record) => record.len(),
            Staged::Apply { operations, .. } => operations.iter().map(bytes::Bytes::len).sum(),
            Staged::Delete => 0,
        };
        let cells: usize = work.cells.iter().map(|(cell, change)| cell.key.len() + staged(change)).sum();
        cells + work.stamped.iter().map(|(cell, record)| cell.key.len() + record.len()).sum::<usize>()
    }

    /// Whether a newer revision of a cell makes it wrong.
    pub(crate) fn rests_on(&self, cell: &Cell) -> bool {
        let StepResult::Work { work, .. } = &self.made else { return false };
        work.cells.get(cell).is_some_and(|staged| !matches!(staged, Staged::Apply { .. }))
            || work.read_cells.iter().any(|check| check.cell == *cell)
            || work.read_ranges.iter().any(|check| check.covers(cell))
    }
}
