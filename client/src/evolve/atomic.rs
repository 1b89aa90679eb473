//! Owns the whole plan as one commit: all of it becomes visible at one tid, or nothing.
//!
//! ```text
//!   step       all objects, at one snapshot                               live writers go on
//!   catch up   what they have changed meanwhile is stepped again          live writers go on, until little is left
//!   hold       the server takes the draft and says which cells are stale  who writes a cell of the plan waits from here
//!   amend      these few are stepped again
//!   finish     one commit                                                 to here
//! ```
//! A draft of a hundred thousand objects takes a second to send, and meanwhile some of the objects have always moved on: without
//! the hold it would never be committed. The hold has a time limit, and ends with this client's connection; should it
//! be too short, everything is tried again with a longer one. The live writers that waited find a newer revision, which
//! their classes' resolvers merge, or for which they repeat their work: as behind any other commit.
//!
//! Steps that are made together (`joint`) are one piece of work; what of it is made again for what has changed, `joined` says.
//!
//! Not here: less memory than the whole draft takes, on both sides.

mod joined;

use self::joined::Joined;
use super::amendment::Sent;
use super::assembly::{Assembly, assemble};
use super::chunk::{Chunk, VISIBLE_WITHIN};
use super::dependents::Dependents;
use super::job::newest_view;
use super::joint::Joint;
use super::lease::Lease;
use super::ledger::RangeRecord;
use super::outcome::{Outcome, Verdict, judge};
use super::source::Item;
use super::step::JointStep;
use super::stepping::{StepResult, SteppedCell, Wanted};
use crate::errors::{Error, Result};
use crate::tx::{Place, Prefetched, Prepared};
use futures_util::StreamExt;
use std::pin::pin;
use std::time::Duration;
use zeolite_proto::evolve::ChunkNote;
use zeolite_proto::{Cell, CommitKey, Draft, Priority, ReadCell, Remedy, Tid, hash};

/// Objects that are loaded at once.
const SLICE: usize = 500;
/// Catching up ends when no more than this many steps had to be made again, or after so many rounds.
const FEW: usize = 100;
const CATCH_UP_ROUNDS_MAX: usize = 20;
/// The first hold's time limit; after each that was too short it is twice as long, up to the last.
const HOLD_FIRST: Duration = Duration::from_secs(3);
const HOLD_LAST: Duration = Duration::from_secs(48);
/// Holds of one plan.
const HOLDS_MAX: usize = 20;
/// Amendments of one hold.
const AMENDMENTS_MAX: usize = 100;

/// The whole plan, made with what a chunk is made with.
pub(crate) struct AtomicPlan<'c, 'a> {
    pub(crate) chunk: &'c Chunk<'a>,
}

/// All steps of the plan.
struct Steps {
    tries: Vec<SteppedCell>,
    dependents: Dependents,
    /// Made together: what they have read beside their own objects.
    read: hash::Set<Cell>,
    /// They are right as of this snapshot.
    place: Place,
}

impl AtomicPlan<'_, '_> {
    /// Steps the items and commits them. What is refused is refused as a whole, and fails the job.
    pub(crate) async fn run(&self, held: &mut Lease, items: Vec<Item>) -> Result<Outcome> {
        let why = match self.commit(held, items).await {
            Err(error) if judge(&error) == Verdict::Refused => error.to_string(),
            Ok(Outcome::Refused(why)) => why,
            outcome => return outcome,
        };
        Ok(Outcome::Failed(format!("it cannot be one commit: {why}")))
    }

    async fn commit(&self, held: &mut Lease, items: Vec<Item>) -> Result<Outcome> {
        let Some(mut steps) = self.step_all(held, items).await? else { return Ok(Outcome::Lost) };
        let mut limit = HOLD_FIRST;
        for _ in 0..HOLDS_MAX {
            if !self.catch_up(held, &mut steps).await? {
                return Ok(Outcome::Lost);
            }
            match self.hold(held, &mut steps, limit).await {
                // Too much had changed, or it took too long.
                Err(error) if error.remedy() == Remedy::Retry => limit = (2 * limit).min(HOLD_LAST),
                outcome => return outcome,
            }
            tracing::debug!(?limit, "the whole plan is tried again");
            newest_view(self.chunk.db()).await?;
        }
        let why = format!("{HOLDS_MAX} holds were too short, or too much had changed; plan it without `atomic`");
        Ok(Outcome::Refused(why))
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(self.chunk.record().settings.lease_ms)
    }

    /// None: the range was lost.
    async fn step_all(&self, held: &mut Lease, items: Vec<Item>) -> Result<Option<Steps>> {
        let place = Place::newest(self.chunk.db());
        let (tries, dependents, read) = (Vec::with_capacity(items.len()), Dependents::default(), hash::Set::default());
        let mut steps = Steps { tries, dependents, read, place };
        if let Some(step) = self.chunk.stepping.step.joint() {
            let made = self.step_together(step, &mut steps.read, &items, place);
            let made = self.chunk.steadily(held, self.lease(), made).await?;
            return made.map(|made| made.map(|tries| Steps { tries, ..steps })).transpose();
        }
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let slice: Vec<Item> = items.by_ref().take(SLICE).collect();
            let cells: Vec<Cell> = slice.iter().map(|item| item.cell.clone()).collect();
            let ahead = Prefetched::read(self.chunk.db(), place, &cells).await?;
            let mut made = pin!(self.chunk.stepping.all(slice.into_iter().map(Wanted::new), &ahead, place.snapshot));
            loop {
                let made = match self.chunk.steadily(held, self.lease(), made.next()).await? {
                    None => return Ok(None),
                    Some(None) => break,
                    Some(Some(made)) => made?,
                };
                steps.dependents.add(steps.tries.len(), &made);
                steps.tries.push(made);
            }
            if !held.beat(self.lease(), self.chunk.waits_for).await? {
                return Ok(None);
            }
        }
        Ok(Some(steps))
    }

    /// Steps again what live writers have changed, until it is little. False: the range was lost.
    async fn catch_up(&self, held: &mut Lease, steps: &mut Steps) -> Result<bool> {
        for _ in 0..CATCH_UP_ROUNDS_MAX {
            let newest = Place::newest(self.chunk.db());
            let changed = self.changed(steps.place.snapshot, newest.snapshot).await?;
            let again = self.again(steps, &changed, false);
            let made = self.chunk.steadily(held, self.lease(), self.step_again(steps, &again, newest)).await?;
            let Some(()) = made.transpose()? else { return Ok(false) };
            if !held.beat(self.lease(), self.chunk.waits_for).await? {
                return Ok(false);
            }
            if again.len() <= FEW {
                break;
            }
        }
        Ok(true)
    }

    /// The cells that were written after one snapshot and up to another.
    async fn changed(&self, after: Tid, to: Tid) -> Result<hash::Set<Cell>> {
        let mut cells = hash::Set::default();
        if after >= to {
            return Ok(cells);
        }
        let mut pages = self.chunk.db().admin().log(Some(after.next()), Some(to), None, false).await?;
        while let Some(page) = pages.next().await? {
            cells.extend(page.into_iter().flat_map(|transaction| transaction.writes).map(|write| write.cell));
        }
        Ok(cells)
    }

    /// The steps that have to be made again for cells that have changed; what the server may still merge does not count before it has
    /// said that it cannot.
    fn again(&self, steps: &Steps, changed: &hash::Set<Cell>, is_told: bool) -> Vec<usize> {
        match (self.chunk.stepping.step.joint(), is_told) {
            (None, _) => steps.dependents.on(changed),
            (Some(_), true) => Joined::new(&steps.tries, &steps.read).on(changed),
            (Some(_), false) => Joined::new(&steps.tries, &steps.read).on_objects(changed),
        }
    }

    /// Steps these objects together; what they have read is added.
    async fn step_together(
        &self,
        step: &dyn JointStep,
        read: &mut hash::Set<Cell>,
        items: &[Item],
        place: Place,
    ) -> Result<Vec<SteppedCell>> {
        let cells: Vec<Cell> = items.iter().map(|item| item.cell.clone()).collect();
        let ahead = Prefetched::read(self.chunk.db(), place, &cells).await?;
        let joint = Joint { stepping: &self.chunk.stepping, step, ahead: &ahead, place };
        let (made, others) = joint.all_and_read(items.iter().cloned().map(Wanted::new).collect()).await?;
        read.extend(others);
        Ok(joined::parted(made))
    }

    /// Makes some of them again; all, where what comes out has to do with the others.
    async fn step_together_again(
        &self,
        step: &dyn JointStep,
        steps: &mut Steps,
        again: &[usize],
        place: Place,
    ) -> Result<()> {
        let items: Vec<Item> = again.iter().map(|at| steps.tries[*at].item.clone()).collect();
        let made = self.step_together(step, &mut steps.read, &items, place).await?;
        for (at, made) in again.iter().zip(made) {
            steps.tries[*at] = SteppedCell { again: steps.tries[*at].again + 1, ..made };
        }
        if Joined::new(&steps.tries, &steps.read).is_apart(again) {
            return Ok(());
        }
        let items: Vec<Item> = steps.tries.iter().map(|made| made.item.clone()).collect();
        steps.read.clear();
        steps.tries = self.step_together(step, &mut steps.read, &items, place).await?;
        Ok(())
    }

    /// Makes these steps again at a newer place, as of which all are right then.
    async fn step_again(&self, steps: &mut Steps, again: &[usize], place: Place) -> Result<()> {
        if let (Some(step), false) = (self.chunk.stepping.step.joint(), again.is_empty()) {
            self.step_together_again(step, steps, again, place).await?;
            steps.place = place;
            return Ok(());
        }
        for slice in again.chunks(SLICE) {
            let cells: Vec<Cell> = slice.iter().map(|at| steps.tries[*at].item.cell.clone()).collect();
            let ahead = Prefetched::read(self.chunk.db(), place, &cells).await?;
            for at in slice {
                let made = &mut steps.tries[*at];
                made.made = self.chunk.stepping.make(&made.item, &ahead, None).await?;
                (made.base, made.again) = (place.snapshot, made.again + 1);
                steps.dependents.add(*at, made);
            }
        }
        steps.place = place;
        Ok(())
    }

    /// All steps as one; why that cannot be, otherwise.
    fn assembled(&self, steps: &Steps) -> Result<Assembly, String> {
        let bad = steps.tries.iter().find_map(|made| match &made.made {
            StepResult::Bad(bad) => Some(format!("the step of {} fails: {}", made.item.cell, bad.error)),
            _ => None,
        });
        if let Some(why) = bad {
            return Err(why);
        }
        if self.chunk.stepping.step.joint().is_some() {
            return Ok(joined::assemble(&steps.tries));
        }
        let assembly = assemble(steps.tries.iter().map(|made| match &made.made {
            StepResult::Work { work, .. } => Some(work),
            _ => None,
        }));
        match steps.tries.get(assembly.taken) {
            None => Ok(assembly),
            Some(made) => {
                let cell = &made.item.cell;
                Err(format!("the step of {cell} must see what another step writes; plan it without `atomic`"))
            }
        }
    }

    /// The frame of a draft: the note, and the ledger in it.
    fn draft(&self, held: &Lease, steps: &Steps, key: CommitKey) -> Result<(Draft, RangeRecord)> {
        let next = self.chunk.next(held, &steps.tries, steps.tries.len());
        let groups = ChunkNote::of_everything(self.chunk.job, held.number);
        let note = groups.note(&self.chunk.record().name, &format!("all {} objects", steps.tries.len()));
        let draft = Draft {
            key,
            key_since: steps.place.snapshot,
            priority: Priority::Batch,
            read_cells: vec![ReadCell { cell: Cell::object(self.chunk.job), base: self.chunk.job_tid }],
            read_ranges: Vec::new(),
            writes: vec![held.write(&next)?],
            note,
        };
        Ok((draft, next))
    }

    async fn hold(&self, held: &mut Lease, steps: &mut Steps, limit: Duration) -> Result<Outcome> {
        let assembly = match self.assembled(steps) {
            Ok(assembly) => assembly,
            Err(why) => return Ok(Outcome::Refused(why)),
        };
        let key = self.chunk.db().new_commit_key();
        let (mut draft, mut next) = self.draft(held, steps, key)?;
        let mut sent = Sent::all(&assembly);
        draft.writes.extend(self.chunk.writes(assembly.slots, steps.place).await?);
        draft.read_cells.extend(assembly.read_cells);
        draft.read_ranges.extend(assembly.read_ranges);
        let at = self.at(held, steps);
        let mut prepared = Prepared::hold(self.chunk.db(), at, draft, limit, false).await?;
        for _ in 0..AMENDMENTS_MAX {
            if prepared.stale().is_empty() {
                return self.finish(held, steps, prepared, next).await;
            }
            if let Some(outcome) = self.look_at_the_ledger(held, &prepared).await? {
                return Ok(outcome);
            }
            match self.amend(held, steps, &mut prepared, &mut sent).await? {
                Ok(after) => next = after,
                Err(why) => return Ok(Outcome::Refused(why)),
            }
        }
        Ok(Outcome::Refused(format!("a cell is still stale after {AMENDMENTS_MAX} amendments")))
    }

    /// Whether the range was lost, or an operator has changed something.
    async fn look_at_the_ledger(&self, held: &mut Lease, prepared: &Prepared) -> Result<Option<Outcome>> {
        let is_stale = |cell: &Cell| prepared.stale().iter().any(|stale| stale.cell == *cell);
        if is_stale(&Cell::object(self.chunk.job)) {
            newest_view(self.chunk.db()).await?;
            return Ok(Some(Outcome::AGAIN));
        }
        if !is_stale(&held.cell()) {
            return Ok(None);
        }
        Ok(Some(Outcome::of_range(held.is_still_mine().await?)))
    }

    /// Steps again what rests on stale cells, and sends what came out differently. Inside: why the plan cannot be one commit.
    async fn amend(
        &self,
        held: &Lease,
        steps: &mut Steps,
        prepared: &mut Prepared,
        sent: &mut Sent,
    ) -> Result<Result<RangeRecord, String>> {
        let stale: hash::Set<Cell> = prepared.stale().iter().map(|stale| stale.cell.clone()).collect();
        let newest = prepared.stale().iter().map(|stale| stale.newest).max().unwrap_or(Tid::NONE);
        if !self.chunk.db().wait_for(newest, VISIBLE_WITHIN).await {
            newest_view(self.chunk.db()).await?;
        }
        let again = self.again(steps, &stale, true);
        self.step_again(steps, &again, Place::newest(self.chunk.db())).await?;
        let assembly = match self.assembled(steps) {
            Ok(assembly) => assembly,
            Err(why) => return Ok(Err(why)),
        };
        let amendment = sent.amend(&assembly, &stale);
        let (mut draft, next) = self.draft(held, steps, prepared.commit_key())?;
        draft.writes.extend(self.chunk.writes(amendment.slots, steps.place).await?);
        draft.read_cells.extend(amendment.read_cells);
        draft.read_ranges.extend(amendment.read_ranges);
        prepared.amend(self.at(held, steps), &draft, &amendment.withdrawn).await?;
        Ok(Ok(next))
    }

    async fn finish(&self, held: &mut Lease, steps: &Steps, prepared: Prepared, next: RangeRecord) -> Result<Outcome> {
        match prepared.finish().await {
            Ok(receipt) => {
                held.written(next, receipt.tid);
                Ok(Outcome::Go { done: steps.tries.len() })
            }
            // The range's cell is part of the commit: it tells whether the commit happened.
            Err(Error::OutcomeUnknown { .. }) => Ok(Outcome::of_range(held.is_still_mine().await?)),
            Err(error) => Err(error),
        }
    }

    /// As of here everything in the draft is known.
    fn at(&self, held: &Lease, steps: &Steps) -> Place {
        steps.place.at(steps.place.snapshot.max(held.tid).max(self.chunk.job_tid))
    }
}
