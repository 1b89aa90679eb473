//! Owns pack: history and unreachable objects go, by rewriting segments beside the running server.
//!
//! ```text
//!   survey   what goes, from which segments; which objects there are: of what was written since the last pack, or one pass over the index
//!   sieve    from the root along references: what is not reached is garbage
//!   plan     which segments are written anew, and which small neighbours together as one
//!   for each of these, the oldest first:
//!     copy   what stays ──> next generation of the segment, complete and on the disk before it has a name
//!     shift  the index changes over in small commits, the last one durable; then the old files are removed, and their room given back
//! ```
//! [`Packer`] has these steps; whoever runs them (the engine, a test) calls them in order and may do anything between two
//! calls of its `step`: no lock is held and no view of the index is open then. The store has no threads of its own.
//!
//! **What stays.** Packed to a tid F, a store answers every question about F and later as before: of each cell the
//! revisions newer than F and the one that F sees (see `keep`), and every object that is reached (see `sieve`). Older
//! snapshots are refused, durably, before the first revision goes; a read that was under way looks again at its end.
//!
//! **Oldest segment first.** A deletion may go only after what it deletes: else the cell would come back, at the latest in an
//! index that is rebuilt from a half-packed log. As revisions of a cell lie in the log in their order, the order of the
//! segments is enough; a deletion of what lies in a segment that is left as it is stays too.
//!
//! **Why nothing that is committed meanwhile is lost.** F stands still, so commits only add to what stays. They can make
//! garbage reachable again: by writing to an object, or a reference to it. What was committed up to the end of the
//! survey is in the index and followed there; what comes later is read from the log and touched ([`Packer::catch_up`]).
//! Between the last catching up and the removal nothing may slip in: so the engine first tells its sequencer, the one
//! place that all commits pass in order, to refuse what writes to or refers to the garbage; then waits until everything
//! sealed before that is published; then catches up once more. After it the garbage is settled, and removing it takes as
//! long as it takes. What it rescues in between is taken off the list with everything reached from there.
//!
//! **A crash at any point.** The index names the generations that it points to. A file that it does not name is removed
//! at opening; two of one number that it names are a change-over to be done again (see `shift`). Without an index the newest generation
//! counts; it is complete. Opening ends a change-over that was begun before anything is appended, because by then nobody
//! knows what the garbage was. A part of the garbage may be left, and go with the next pack; `verify` asks only for
//! references from what is reached.
//!
//! Not done: a large segment is rewritten for one unreachable object as for a million.

pub(crate) mod copy;
mod give_back;
pub(crate) mod keep;
pub(crate) mod plan;
pub(crate) mod shift;
pub(crate) mod sieve;
pub(crate) mod since;
pub(crate) mod survey;

use super::StoreError;
use super::index::Table;
use super::index::surveyed::{LeftThere, SURVEYED, Surveyed};
use super::log::segments::Segment;
use super::reader::Reader;
use super::settle::Settler;
use super::state::State;
use copy::Cut;
use parking_lot::Mutex;
use plan::Plan;
use roaring::RoaringTreemap;
use shift::Shift;
use sieve::Sieve;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use survey::{Drops, Survey, WRITE_BYTES};
use zeolite_proto::{Oid, Tid};

// Log read at once when catching up with commits.
const CATCH_UP_BYTES: u64 = 1 << 20;
// Transactions settled at once when pack needs them in the index.
const SETTLE_TXNS: usize = 4096;

/// What a pack is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Going over the index; units: oids.
    Survey,
    /// Following references; units: objects.
    Mark,
    /// Counting what is garbage; units: objects.
    Garbage,
    /// Reading what was committed meanwhile; units: transactions.
    CatchUp,
    /// Waiting for the index to have what is published; units: transactions.
    Settle,
    /// Writing segments anew; units: bytes of log.
    Copy,
    /// Changing the index over; units: bytes of log.
    Shift,
    /// Giving the room of what was replaced back to the disk; units: bytes of log.
    GiveBack,
}

impl Stage {
    /// The stage in words.
    pub fn text(self) -> &'static str {
        match self {
            Stage::Survey => "looking for old revisions",
            Stage::Mark => "following references",
            Stage::Garbage => "counting unreachable objects",
            Stage::CatchUp => "catching up with commits",
            Stage::Settle => "waiting for the index",
            Stage::Copy => "rewriting segments",
            Stage::Shift => "changing the index over",
            Stage::GiveBack => "giving room back to the disk",
        }
    }
}

/// Is told how far a stage has come: done, of how many. May pause; an error ends the pack there.
pub type Stepper<'a> = dyn FnMut(Stage, u64, u64) -> Result<(), StoreError> + 'a;

/// What a pack took, or would take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Packed {
    /// Revisions.
    pub revisions: u64,
    /// Unreachable objects.
    pub objects: u64,
    /// Log before.
    pub bytes_before: u64,
    /// Log after; of a forecast about.
    pub bytes_after: u64,
    /// Blobs that no revision names any more; of a forecast none.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
}

/// One pack on its way. There is at most one at a time.
pub struct Packer {
    state: Arc<State>,
    settler: Arc<Mutex<Settler>>,
    to: Tid,
    survey: Survey,
    sieve: Option<Sieve>,
    // What the roots do not reach at the snapshot that it packs to, and what is referred to in it and not there.
    unreached: RoaringTreemap,
    dangling: RoaringTreemap,
    seen_to: Tid,
}

impl Packer {
    /// Looks over the store, to be packed to a tid that is not newer than what is published.
    pub fn new(
        reader: &Reader,
        settler: Arc<Mutex<Settler>>,
        to: Tid,
        step: &mut Stepper<'_>,
    ) -> Result<Packer, StoreError> {
        let state = reader.state.clone();
        let to = to.min(state.published()).max(state.packed_to());
        // A snapshot at `to` must be in the index whole.
        settle(&state, &settler, to, step)?;
        let last = state.index.view()?.get(Table::Meta, SURVEYED)?.and_then(|row| Surveyed::parse(&row));
        let since = match &last {
            Some(last) => since::survey(&state, last, to, step)?,
            None => None,
        };
        let survey = match since {
            Some(survey) => survey,
            None => Survey::new(&state, to, step)?,
        };
        Ok(Packer::with(state, settler, to, survey))
    }

    /// The same, over everything.
    #[cfg(test)]
    pub(crate) fn whole(reader: &Reader, settler: Arc<Mutex<Settler>>, to: Tid) -> Result<Packer, StoreError> {
        let survey = Survey::new(&reader.state, to, &mut |_, _, _| Ok(()))?;
        Ok(Packer::with(reader.state.clone(), settler, to, survey))
    }

    /// Whether it looked only at what was written since the last one.
    #[cfg(test)]
    pub(crate) fn is_since(&self) -> bool {
        self.survey.beginning.is_some()
    }

    fn with(state: Arc<State>, settler: Arc<Mutex<Settler>>, to: Tid, survey: Survey) -> Packer {
        let (seen_to, unreached, dangling) = (survey.seen_to, RoaringTreemap::new(), RoaringTreemap::new());
        Packer { state, settler, to, survey, sieve: None, unreached, dangling, seen_to }
    }

    /// The tid to which history goes.
    pub fn to(&self) -> Tid {
        self.to
    }

    /// Looks for what cannot be reached from these objects. `false`: the first of them was never written, so that nothing
    /// could be reached from it; then nothing is garbage.
    pub fn find_garbage(&mut self, roots: &[Oid], step: &mut Stepper<'_>) -> Result<bool, StoreError> {
        let survey = &self.survey;
        // Since the last pack: the new ones, of which the young are reached in any case.
        let objects = if survey.beginning.is_some() { survey.seen.clone() } else { survey.objects() };
        if survey.beginning.is_none() && !roots.first().is_some_and(|root| objects.contains(root.0)) {
            return Ok(false);
        }
        let young = &survey.young & &objects;
        let mut sieve = Sieve::seen_first(survey, objects, self.to);
        roots.iter().for_each(|oid| sieve.touch(*oid));
        survey.beginning.iter().flat_map(|beginning| &beginning.seen).for_each(|oid| sieve.touch(Oid(oid)));
        sieve.drain(&self.state, step)?;
        self.unreached = sieve.left() & &survey.seen;
        self.dangling = match &survey.beginning {
            Some(beginning) => {
                let named = (&beginning.named | sieve.unseen()) - &survey.seen;
                since::absent(&self.state, &named, self.to)? | &beginning.dangling
            }
            None => sieve.unseen().clone(),
        };
        sieve.follow_young(&young);
        survey.beginning.iter().flat_map(|beginning| &beginning.young).for_each(|oid| sieve.touch(Oid(oid)));
        sieve.drain(&self.state, step)?;
        self.sieve = Some(sieve);
        Ok(true)
    }

    /// Takes off the garbage what was committed since the last time has reached; how many transactions that were.
    pub fn catch_up(&mut self, step: &mut Stepper<'_>) -> Result<u64, StoreError> {
        let Some(sieve) = &mut self.sieve else { return Ok(0) };
        let reader = Reader::new(self.state.clone());
        let (published, mut count) = (self.state.published(), 0);
        while self.seen_to < published {
            let txns = reader.txns(self.seen_to.next(), published, CATCH_UP_BYTES)?;
            let Some(last) = txns.last() else { break };
            self.seen_to = last.tid;
            count += txns.len() as u64;
            txns.iter().for_each(|txn| sieve.touch_txn(txn));
            step(Stage::CatchUp, count, count)?;
        }
        self.seen_to = self.seen_to.max(published);
        sieve.drain(&self.state, step)?;
        Ok(count)
    }

    /// Takes objects off the garbage, with everything that they refer to.
    pub fn rescue(&mut self, oids: impl IntoIterator<Item = Oid>, step: &mut Stepper<'_>) -> Result<(), StoreError> {
        let Some(sieve) = &mut self.sieve else { return Ok(()) };
        oids.into_iter().for_each(|oid| sieve.touch(oid));
        sieve.drain(&self.state, step)
    }

    /// The objects that would go, as it stands.
    pub fn garbage(&self) -> RoaringTreemap {
        self.sieve.as_ref().map(|sieve| sieve.left().clone()).unwrap_or_default()
    }

    /// What would go; the garbage is counted in and must not grow any more.
    pub fn forecast(&mut self, step: &mut Stepper<'_>) -> Result<Packed, StoreError> {
        let garbage = self.garbage();
        self.survey.add_garbage(&self.state, &garbage, step)?;
        let segments = self.state.segments.current();
        let written: BTreeSet<_> =
            self.plan().groups(&segments).iter().flatten().map(|segment| segment.header.number).collect();
        let drops = self.survey.drops.iter().filter(|(number, _)| written.contains(number));
        let (revisions, bytes) = drops.fold((0, 0), |sum, (_, drops)| (sum.0 + drops.revisions, sum.1 + drops.bytes));
        let bytes_before = self.log_bytes();
        let bytes_after = bytes_before.saturating_sub(bytes);
        Ok(Packed { revisions, objects: garbage.len(), bytes_before, bytes_after, ..Packed::default() })
    }

    /// Whether enough goes from the segment that is appended to: it must be ended before (`Appender::roll`).
    pub fn needs_roll(&self) -> bool {
        self.state.segments.current().last().is_some_and(|last| self.plan().is_worth(last))
    }

    /// Does it, after the forecast. The transactions behind `keys_after` keep their commit keys. On an error what was
    /// done stays done, and another pack goes on.
    pub fn run(&mut self, keys_after: Tid, step: &mut Stepper<'_>) -> Result<Packed, StoreError> {
        finish_begun(&self.state, &self.settler, step)?;
        let segments = self.state.segments.current();
        // All but the last one are never appended to any more.
        let closed = segments.len().saturating_sub(1);
        let plan = self.plan().groups(&segments[..closed]);
        if let Some(last) = segments.last() {
            settle(&self.state, &self.settler, last.header.base, step)?;
        }
        // Who keeps one that was replaced keeps its room.
        drop(segments);
        let garbage = self.garbage();
        let bytes_before = self.log_bytes();
        self.settler.lock().pack_to(self.to)?;
        self.state.set_packed_to(self.to);
        let bytes = |olds: &[Arc<Segment>]| olds.iter().map(|old| old.end()).sum::<u64>();
        let all: u64 = plan.iter().map(|olds| bytes(olds)).sum();
        let goes = self.survey.drops.iter().map(|(number, drops)| (*number, drops.bytes)).collect();
        let cut = Cut { to: self.to, garbage: &garbage, goes, keys_after };
        let (mut before, mut revisions) = (0, 0);
        let mut left = self.survey.drops.clone();
        for olds in plan {
            let mut within = |stage, done, _: u64| step(stage, before + done, all);
            let len = bytes(&olds);
            if let Some(new) = copy::copy(&self.state, &olds, &cut, &mut within)?
                && let Some(shift) = Shift::new(olds, new.clone())
            {
                let shifted = shift.run(&self.state, &self.settler, &mut within);
                let gone = shifted.inspect_err(|_| self.withdraw(&new))?;
                revisions += gone;
                left_behind(&mut left, &new, gone);
            }
            before += len;
        }
        // The pack is done; this is for the next one.
        if let Err(error) = self.leave(&garbage, &left) {
            tracing::warn!(%error, "the next pack goes over everything: what this one has seen cannot be noted");
        }
        let bytes_after = self.log_bytes();
        Ok(Packed { revisions, objects: garbage.len(), bytes_before, bytes_after, ..Packed::default() })
    }

    // Tells the next pack what it need not look at again.
    fn leave(&self, garbage: &RoaringTreemap, left: &BTreeMap<u32, Drops>) -> Result<(), StoreError> {
        let all_went = !left.values().any(|drops| drops.unreachable) && self.unreached.is_subset(garbage);
        if self.sieve.is_none() || !all_went {
            return Ok(());
        }
        let current = self.state.segments.current();
        let there = |segment: &Arc<Segment>| {
            let Drops { revisions, bytes, .. } = *left.get(&segment.header.number)?;
            let (segment, generation) = (segment.header.number, segment.header.generation);
            Some(LeftThere { segment, generation, revisions, bytes })
        };
        let left = current.iter().filter_map(there).collect();
        let named_from = self.survey.beginning.as_ref().map_or(0, |beginning| beginning.named_from);
        self.settler.lock().say_surveyed(&Surveyed::new(self.to, named_from, &self.dangling, left))
    }

    fn plan(&self) -> Plan<'_> {
        Plan { drops: &self.survey.drops, settings: &self.state.settings }
    }

    // Removes a new generation that the index does not name: without an index it would count, and what is committed
    // from now on may name what it lacks.
    fn withdraw(&self, new: &Segment) {
        let (number, generation) = (new.header.number, new.header.generation);
        if !self.settler.lock().names(number, generation) {
            drop(self.state.segments.retire(self.state.disk.as_ref(), number, generation));
        }
    }

    fn log_bytes(&self) -> u64 {
        self.state.segments.current().iter().map(|segment| segment.end()).sum()
    }
}

// What was to go from these segments and stays, now in the one that stands for all of them: deletions of what lies elsewhere yet.
fn left_behind(left: &mut BTreeMap<u32, Drops>, new: &Segment, gone: u64) {
    let numbers: Vec<u32> = left.range(new.header.numbers()).map(|(number, _)| *number).collect();
    let planned: u64 = numbers.into_iter().filter_map(|number| left.remove(&number)).map(|drops| drops.revisions).sum();
    let revisions = planned.saturating_sub(gone);
    if revisions > 0 {
        left.insert(new.header.number, Drops { revisions, bytes: revisions * WRITE_BYTES, unreachable: false });
    }
}

/// Ends the change-overs that a failure or a crash has left half-way.
pub(crate) fn finish_begun(state: &State, settler: &Mutex<Settler>, step: &mut Stepper<'_>) -> Result<(), StoreError> {
    let begun = settler.lock().begun_shifts();
    for (number, _, generation) in begun {
        let missing = || StoreError::Index(format!("segment {number} has lost a generation that the index names"));
        let find = |(number, generation)| state.segments.find(number, generation).ok_or_else(missing);
        let new = find((number, generation))?;
        let olds = settler.lock().shifted_from(&new.header);
        let olds: Vec<_> = olds.into_iter().map(find).collect::<Result<_, _>>()?;
        Shift::new(olds, new).ok_or_else(missing)?.run(state, settler, step)?;
    }
    state.set_half_packed(false);
    Ok(())
}

/// Ends the change-overs that an error has left half-way, when there is room again. Not beside a pack or a verify.
pub fn resume_pack(reader: &Reader, settler: &Mutex<Settler>) -> Result<(), StoreError> {
    finish_begun(&reader.state, settler, &mut |_, _, _| Ok(()))
}

// Lets the index take everything up to a tid.
fn settle(state: &State, settler: &Mutex<Settler>, to: Tid, step: &mut Stepper<'_>) -> Result<(), StoreError> {
    while state.overlay.settled() < to {
        let left = settler.lock().settle(SETTLE_TXNS)?;
        if left.txns == 0 {
            break;
        }
        step(Stage::Settle, 0, left.txns as u64)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
