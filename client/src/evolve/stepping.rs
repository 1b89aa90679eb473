//! Owns the stepping of one cell: a transaction, the application's step in it, and what came out.

use super::earlier::{Repaid, Stuck, TakeBack};
use super::job::JobRecord;
use super::ledger::{Bad, Counts};
use super::outcome::{Verdict, judge};
use super::source::Item;
use super::step::{AnyStep, Stepped};
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::tx::{Prefetched, Staged, Tx, Work, damaged};
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
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

/// Steps cells of one job.
pub(crate) struct Stepping<'a> {
    pub(crate) db: &'a Db,
    pub(crate) job_oid: Oid,
    pub(crate) job: &'a JobRecord,
    pub(crate) step: &'a dyn AnyStep,
}

impl Stepping<'_> {
    /// Steps one cell at a snapshot. An error is not the step's: the chunk has to wait.
    pub(crate) async fn make(&self, item: &Item, at: &Prefetched, bad_at: Option<Tid>) -> Result<StepResult> {
        let tx = at.transaction(self.db);
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
        match (self.stepped(&tx, cell, bad_at).await?, repaid) {
            (Ok(None), None) => Ok(StepResult::FoundDone),
            (Ok(None), Some(repaid)) => Ok(work_of(tx, cell, false, Some(repaid))),
            (Ok(Some(version)), repaid) => {
                let work = work_of(tx, cell, true, repaid);
                match self.reaches_the_target(&work, cell, version) {
                    Ok(()) => Ok(work),
                    Err(why) => self.is_bad(at, cell, &why).await,
                }
            }
            (Err(result), _) => Ok(result),
        }
    }

    async fn is_bad(&self, at: &Prefetched, cell: &Cell, why: &str) -> Result<StepResult> {
        let revision = at.view(self.db).revision(cell).await?;
        Ok(bad(cell, revision.record.as_ref(), revision.tid, why))
    }

    /// Lets the step do its work in the transaction; gives the version that it found, none if the cell needs nothing, or what
    /// became of it otherwise. An error is not the step's.
    async fn stepped(&self, tx: &Tx, cell: &Cell, bad_at: Option<Tid>) -> Result<Result<Option<u32>, StepResult>> {
        let revision = tx.revision(cell).await?;
        let Some(encoded) = tx.get_encoded(cell).await? else { return Ok(Ok(None)) };
        let header = Header::parse(&encoded).map_err(|bad| damaged(cell, &bad))?;
        if self.needs_nothing(&header) {
            return Ok(Ok(None));
        }
        if bad_at == Some(revision.tid) {
            return Ok(Err(StepResult::StillBad));
        }
        if !self.was_planned(cell, revision.tid).await {
            return Ok(Ok(None));
        }
        let version = header.version;
        let old = Record::decode(&encoded).map_err(|bad| damaged(cell, &bad))?;
        let stepped = AssertUnwindSafe(self.step.step(tx, cell, old)).catch_unwind().await;
        let outcome = match stepped {
            Ok(Ok(stepped)) => self.staged(tx, cell, stepped, &encoded),
            Ok(Err(error)) if is_not_the_steps(&error) => return Err(error),
            Ok(Err(error)) => Err(error.to_string()),
            Err(panic) => Err(format!("the step panicked: {}", said(&*panic))),
        };
        Ok(match outcome {
            Ok(()) => Ok(Some(version)),
            Err(why) => Err(bad(cell, Some(&encoded), revision.tid, &why)),
        })
    }

    /// The index lists a class as it is now: what was made after the plan is left out, unless a shape is to be reached.
    async fn was_planned(&self, cell: &Cell, newest: Tid) -> bool {
        let planned = Tid(self.job.snapshot);
        if newest <= planned || self.job.target.is_some() || !matches!(self.job.plan, super::Plan::Objects { .. }) {
            return true;
        }
        match self.db.at(planned).revision(cell).await {
            Ok(then) => then.record.is_some(),
            // Packed away: nobody can say any more.
            Err(_) => true,
        }
    }

    fn needs_nothing(&self, header: &Header<'_>) -> bool {
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
    fn reaches_the_target(&self, made: &StepResult, cell: &Cell, old_version: u32) -> Result<(), String> {
        let (Some(target), StepResult::Work { work, .. }) = (&self.job.target, made) else { return Ok(()) };
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
fn bad(cell: &Cell, record: Option<&bytes::Bytes>, tid: Tid, why: &str) -> StepResult {
    let header = record.and_then(|record| Header::parse(record).ok());
    let (class, version) = header.map_or((String::new(), 0), |header| (header.class.to_owned(), header.version));
    let error = why.chars().take(ERROR_CHARS_MAX).collect();
    StepResult::Bad(Bad { oid: cell.oid.0, key: cell.key.to_vec(), class, version, tid: tid.0, error })
}

/// Whether the server, the network or the operator has to do something about an error, rather than the step. A step that meets
/// a conflict has made it: its own transaction is committed by the worker.
fn is_not_the_steps(error: &Error) -> bool {
    error.remedy() != Remedy::Retry && judge(error) != Verdict::Refused
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
            StepResult::Work { repaid: Some(_), .. } if !self.was_bad => {
                counts.stepped_again += 1;
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
