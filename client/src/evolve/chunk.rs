//! Owns the chunk: the objects that one commit covers, with the ledger in the same commit.
//!
//! ```text
//!   step each at the newest snapshot ─> put together ─> one draft: objects, entries, quarantine, the range's cell
//!   refused: a live write came between ─> only the steps that rest on that cell are made again, the draft goes once more
//!   refused at the range's cell        ─> the range was lost: everything is dropped
//!   refused at the job's cell          ─> an operator has changed something: everything is dropped, the job is read again
//! ```
//!
//! The live writer always wins, and the rest of the chunk never pays for it. Steps on which live writes always come between are
//! left for later.

mod draft;

use super::course::First;
use super::earlier::{last_step_before_a_write, owed_steps};
use super::job::{JobRecord, newest_view};
use super::joint::Joint;
use super::lease::Lease;
use super::ledger::{Bad, Part, bad_cell};
use super::outcome::{Outcome, Verdict, judge};
use super::source::Item;
use super::stepping::{StepResult, SteppedCell, Stepping, Wanted};
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::tx::{Place, Prefetched};
use crate::typed::decode_record;
use futures_util::{StreamExt, TryStreamExt};
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::{Cell, Fault, FaultKind, Oid, Tid};

/// How long to wait for a commit that was in the way to become visible, before the server is asked.
pub(crate) const VISIBLE_WITHIN: Duration = Duration::from_secs(1);
/// Cells that one range keeps for its end; beyond it they are tried on the spot.
pub(crate) const DEFERRED_MAX: usize = 1000;
/// Objects whose former steps are looked for at once.
const LOOKS_AT_ONCE: usize = 16;

/// What a chunk is made with.
pub(crate) struct Chunk<'a> {
    pub(crate) stepping: Stepping<'a>,
    pub(crate) job: Oid,
    pub(crate) job_tid: Tid,
    /// What the worker is slowed down by, and how fast it is: for whoever looks.
    pub(crate) waits_for: &'a str,
    pub(crate) rate: f64,
    /// Nothing is left in the range after these items.
    pub(crate) is_last: bool,
    /// The first sample of the range's course.
    pub(crate) course: Option<First>,
}

enum Resolved {
    /// What rests on the changed cell (if anything does: `founded`) was made again at this place.
    Again {
        at: Place,
        founded: bool,
        fault: Fault,
    },
    End(Outcome),
}

impl<'a> Chunk<'a> {
    pub(crate) fn db(&self) -> &'a Db {
        self.stepping.db
    }

    pub(crate) fn record(&self) -> &'a JobRecord {
        self.stepping.job
    }

    /// Steps the items and commits them.
    pub(crate) async fn run(&self, held: &mut Lease, items: Vec<Item>) -> Result<Outcome> {
        match self.commit(held, items).await {
            // A record that is damaged, operations that make nothing together: of which object, fewer at once will tell.
            Err(error) if judge(&error) == Verdict::Refused => Ok(Outcome::Refused(error.to_string())),
            outcome => outcome,
        }
    }

    async fn commit(&self, held: &mut Lease, items: Vec<Item>) -> Result<Outcome> {
        let mut place = Place::newest(self.db());
        let (offered, mut tries) = match self.step_all(held, items, place).await? {
            Some(stepped) => stepped,
            None => return Ok(Outcome::Lost),
        };
        let mut unfounded = 0;
        loop {
            let (draft, next, taken) = self.draft(held, &tries, offered, place).await?;
            let error = match place.at(place.snapshot.max(held.tid).max(self.job_tid)).send(self.db(), &draft).await {
                Ok(receipt) => {
                    held.written(next, receipt.tid);
                    return Ok(Outcome::Go { done: taken });
                }
                Err(error) => error,
            };
            // What was left out comes in the next chunk, from its own newest snapshot.
            tries.truncate(taken);
            match self.resolve(held, &mut tries, error).await? {
                Resolved::Again { at, founded: true, .. } => place = at,
                Resolved::Again { at, fault, .. } => {
                    // The resolver of a cell that no step has read refuses: perhaps for good (a bound was reached).
                    unfounded += 1;
                    if unfounded > self.record().settings.rounds_max {
                        return Ok(Outcome::Refused(fault.message));
                    }
                    place = at;
                }
                Resolved::End(outcome) => return Ok(outcome),
            }
        }
    }

    /// How many items there were, and those that were stepped; none: the range was lost meanwhile.
    async fn step_all(
        &self,
        held: &mut Lease,
        items: Vec<Item>,
        place: Place,
    ) -> Result<Option<(usize, Vec<SteppedCell>)>> {
        let settings = &self.record().settings;
        let (offered, lease) = (items.len(), Duration::from_millis(settings.lease_ms));
        let begun = Instant::now();
        let cells: Vec<Cell> = items.iter().map(|item| item.cell.clone()).collect();
        let ahead = Prefetched::read(self.db(), place, &cells).await?;
        let bad = self.known_bad(held, &cells, place).await?;
        let items = self.with_former_steps(held, items, &ahead).await?;
        let wanted: Vec<Wanted> =
            items.into_iter().zip(bad).map(|(item, bad)| self.wanted(held, item, bad.as_ref())).collect();
        if let Some(step) = self.stepping.step.joint() {
            let joint = Joint { stepping: &self.stepping, step, ahead: &ahead, place };
            let wanted = self.within(wanted, &ahead).await?;
            let made = self.steadily(held, lease, joint.all(wanted)).await?;
            return made.map(|made| Ok((offered, made?))).transpose();
        }
        let (mut tries, mut bytes) = (Vec::with_capacity(offered), 0);
        let mut steps = pin!(self.stepping.all(wanted, &ahead, place.snapshot));
        loop {
            let made = match self.steadily(held, lease, steps.next()).await? {
                None => return Ok(None),
                Some(None) => break,
                Some(Some(made)) => made?,
            };
            bytes += made.bytes();
            tries.push(made);
            if !held.beat(lease, self.waits_for).await? {
                return Ok(None);
            }
            if bytes >= settings.chunk_bytes_max as usize || begun.elapsed().as_millis() >= settings.chunk_ms_max.into()
            {
                break;
            }
        }
        Ok(Some((offered, tries)))
    }

    /// As many of the first ones as have the bytes of a chunk: what is stepped together is committed together.
    async fn within(&self, mut wanted: Vec<Wanted>, ahead: &Prefetched) -> Result<Vec<Wanted>> {
        let (most, view) = (self.record().settings.chunk_bytes_max as usize, ahead.view(self.db()));
        let (mut bytes, mut count) = (0, 0);
        for wanted in &wanted {
            bytes += view.get_encoded(&wanted.item.cell).await?.map_or(0, |record| record.len());
            if count > 0 && bytes > most {
                break;
            }
            count += 1;
        }
        wanted.truncate(count);
        Ok(wanted)
    }

    fn wanted(&self, held: &Lease, item: Item, bad: Option<&Bad>) -> Wanted {
        // At the end of a job what failed on the same revision need not be tried again; a list of such is there for that.
        let bad_at = bad.filter(|_| held.record.part == Part::Finish).map(|bad| Tid(bad.tid));
        Wanted { was_bad: bad.is_some(), bad_at, for_later: self.left_for_later(held, &item), item }
    }

    /// Waits for a step, and lets nobody think meanwhile that this worker is gone. None: the range was lost.
    pub(crate) async fn steadily<T>(
        &self,
        held: &mut Lease,
        lease: Duration,
        step: impl Future<Output = T>,
    ) -> Result<Option<T>> {
        let mut step = pin!(step);
        loop {
            tokio::select! {
                biased;
                made = &mut step => return Ok(Some(made)),
                () = tokio::time::sleep(lease / 3) => if !held.beat(lease, self.waits_for).await? {
                    return Ok(None);
                },
            }
        }
    }

    fn left_for_later(&self, held: &Lease, item: &Item) -> bool {
        item.hot && item.after.is_some() && held.record.part != Part::Finish && self.has_room(held)
    }

    /// Whether a cell can be put off: the index lists it again, or the range has room for it.
    fn has_room(&self, held: &Lease) -> bool {
        self.record().target.is_some() || held.record.deferred.len() < DEFERRED_MAX
    }

    /// At the end of a job old code may have written again what was stepped before: what that step wrote elsewhere is still there.
    async fn with_former_steps(&self, held: &Lease, items: Vec<Item>, ahead: &Prefetched) -> Result<Vec<Item>> {
        // What comes a second time may have been stepped before.
        let again = |item: &Item| held.record.part == Part::Finish || item.after.is_none();
        if !items.iter().any(again) {
            return Ok(items);
        }
        // The end's own list has told what is owed.
        let untold = items.iter().any(|item| item.after.is_none() && item.former.is_none());
        let owed = if untold { owed_steps(self.db(), self.job).await? } else { Vec::new() };
        let (owed, again) = (&owed, &again);
        let planned = Tid(self.record().planned);
        let look = items.into_iter().map(|mut item| async move {
            let owed = owed.iter().find(|(cell, _)| *cell == item.cell);
            item.former = item.former.or(owed.map(|(_, chunk)| *chunk));
            let changed = ahead.tid(&item.cell).is_some_and(|tid| tid > planned);
            if item.former.is_none() && again(&item) && changed {
                item.former = last_step_before_a_write(self.db(), self.job, &item.cell).await?;
            }
            Ok(item)
        });
        futures_util::stream::iter(look).buffered(LOOKS_AT_ONCE).try_collect().await
    }

    /// What is in the quarantine of these cells. Only where cells come a second time.
    async fn known_bad(&self, held: &Lease, cells: &[Cell], place: Place) -> Result<Vec<Option<Bad>>> {
        let comes_again = match held.record.part {
            Part::Finish => true,
            // The quarantine, tried again.
            Part::Lists { first, end } => first == end,
            _ => false,
        };
        if !comes_again {
            return Ok(vec![None; cells.len()]);
        }
        let keys: Vec<Cell> = cells.iter().map(|cell| bad_cell(self.job, cell)).collect();
        let records = place.view(self.db()).get_many(&keys).await?;
        let decode = |(cell, record): (&Cell, Option<bytes::Bytes>)| {
            record.map(|record| decode_record(cell, &record)).transpose()
        };
        keys.iter().zip(records).map(decode).collect()
    }

    async fn resolve(&self, held: &mut Lease, tries: &mut [SteppedCell], error: Error) -> Result<Resolved> {
        if matches!(error, Error::OutcomeUnknown { .. }) {
            // The range's cell was part of the commit: it tells whether the commit happened.
            return Ok(Resolved::End(Outcome::of_range(held.is_still_mine().await?)));
        }
        let Error::Fault(fault) = error else { return Err(error) };
        let conflict = match (fault.kind, &fault.conflict) {
            (FaultKind::Conflict | FaultKind::ReadConflict, Some(detail)) => (**detail).clone(),
            _ => return Err(fault.into()),
        };
        if conflict.cell == held.cell() {
            // An earlier chunk may have got through late.
            return Ok(Resolved::End(Outcome::of_range(held.is_still_mine().await?)));
        }
        if self.course.as_ref().is_some_and(|first| *first.cell() == conflict.cell) {
            // Somebody else has held the range, and may do so again; or a sample of his came late.
            newest_view(self.db()).await?;
            return Ok(Resolved::End(Outcome::of_range(held.is_still_mine().await?)));
        }
        if conflict.cell == Cell::object(self.job) {
            newest_view(self.db()).await?;
            return Ok(Resolved::End(Outcome::AGAIN));
        }
        if !self.db().wait_for(conflict.newest, VISIBLE_WITHIN).await {
            newest_view(self.db()).await?;
        }
        let newer = Place::newest(self.db());
        let room = self.has_room(held);
        let founded = self.step_again(tries, newer, (&conflict.cell, conflict.newest), room).await?;
        Ok(Resolved::Again { at: newer, founded, fault })
    }

    /// Makes again what rests on a cell that has changed: the one that was told, and any other stepped cell of which this
    /// client has heard meanwhile. False: nothing rests on the cell that was told, and everything was made again.
    async fn step_again(
        &self,
        tries: &mut [SteppedCell],
        newer: Place,
        told: (&Cell, Tid),
        room: bool,
    ) -> Result<bool> {
        let cells: Vec<Cell> = tries.iter().map(|made| made.item.cell.clone()).collect();
        let ahead = Prefetched::read(self.db(), newer, &cells).await?;
        let mut found = false;
        let mut stale = Vec::with_capacity(tries.len());
        for made in tries.iter() {
            let hit = made.base < told.1 && made.rests_on(told.0);
            let changed = !matches!(made.made, StepResult::PutOff) && ahead.tid(&made.item.cell) > Some(made.base);
            found |= hit;
            stale.push(hit || changed);
        }
        let rounds_max = self.record().settings.rounds_max;
        if let Some(step) = self.stepping.step.joint() {
            let wanted = tries.iter().zip(&stale).map(|(made, stale)| {
                let for_later = made.again + u32::from(*stale) > rounds_max && made.item.after.is_some() && room;
                Wanted { item: made.item.clone(), was_bad: made.was_bad, bad_at: None, for_later }
            });
            let joint = Joint { stepping: &self.stepping, step, ahead: &ahead, place: newer };
            let anew = joint.all(wanted.collect()).await?;
            for ((made, anew), stale) in tries.iter_mut().zip(anew).zip(stale) {
                *made = SteppedCell { again: made.again + u32::from(stale), ..anew };
            }
            return Ok(found);
        }
        for (made, stale) in tries.iter_mut().zip(stale) {
            // A cell that no step rests on (a folded one, of a class that does not merge): everything is made anew.
            if !stale && found {
                continue;
            }
            made.again += 1;
            made.base = newer.snapshot;
            let for_later = made.again > rounds_max && made.item.after.is_some() && room;
            made.made =
                if for_later { StepResult::PutOff } else { self.stepping.make(&made.item, &ahead, None).await? };
        }
        Ok(found)
    }

    /// The one object of a chunk goes to the quarantine, since nobody takes what its step made.
    pub(crate) async fn give_up(&self, held: &mut Lease, item: Item, why: &str) -> Result<Outcome> {
        let place = Place::newest(self.db());
        let revision = place.view(self.db()).revision(&item.cell).await?;
        let record = revision.record.as_ref().and_then(|record| zeolite_proto::Record::decode(record).ok());
        let (class, version) = record.map_or((String::new(), 0), |record| (record.class, record.version));
        let bad = Bad {
            oid: item.cell.oid.0,
            key: item.cell.key.to_vec(),
            class,
            version,
            tid: revision.tid.0,
            error: format!("refused what the step made of it: {why}"),
        };
        let was_bad = self.known_bad(held, std::slice::from_ref(&item.cell), place).await?[0].is_some();
        let tries = [SteppedCell { item, made: StepResult::Bad(bad), base: place.snapshot, again: 0, was_bad }];
        let (draft, next, taken) = self.draft(held, &tries, 1, place).await?;
        match place.at(place.snapshot.max(held.tid).max(self.job_tid)).send(self.db(), &draft).await {
            Ok(receipt) => {
                held.written(next, receipt.tid);
                Ok(Outcome::Go { done: taken })
            }
            Err(error) if error.is_conflict() || matches!(error, Error::OutcomeUnknown { .. }) => {
                newest_view(self.db()).await?;
                Ok(Outcome::of_range(held.is_still_mine().await?))
            }
            Err(error) => Err(error),
        }
    }
}
