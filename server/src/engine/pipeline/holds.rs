//! Owns the prepared drafts of two-phase commits, and who waits for them.
//!
//! A prepared draft has been checked and merged; until it is finished, aborted or out of time its cells are *held*: nobody
//! else may write what it writes or has read, or its promise ("finish will succeed") would break. A draft in the way is
//! parked and looked at again when the holder is gone; it is not refused, so that a merge never loses to contention.
//! What a draft costs here is what it has itself, whatever others hold: see `held`.
//! This is the only lock held for a client between its calls, and its time limit ends that draft alone. A durable one may have no
//! time limit; so nobody is parked behind it for long.
//!
//! A draft of a hundred thousand cells would never be prepared beside live writers: one of the cells has always moved on. It can
//! ask to be held all the same. From then on nothing moves any more, and the few stale cells are amended:
//! ```text
//!   prepare, hold ──> held, 500 stale ──> amend these 500 ──> 0 stale ──> finish
//! ```

mod held;
mod prepared;
mod spans;
#[cfg(test)]
mod tests;

use crate::engine::caller::Whose;
use crate::engine::pipeline::ask::DraftAsk;
use crate::engine::pipeline::wide::WideReads;
use crate::storage::Writes;
use held::Held;
use std::collections::BTreeMap;
use std::time::Duration;
use zeolite_proto::{Cell, CommitKey, Draft, Tid};

pub(crate) use prepared::{Amendment, Durable, Prepared, merged};

/// A draft that waits for a holder.
pub(crate) struct Parked {
    pub(crate) behind: u64,
    pub(crate) draft: DraftAsk,
}

/// All prepared and parked drafts.
#[derive(Default)]
pub(crate) struct Holds {
    prepared: BTreeMap<u64, Prepared>,
    held: Held,
    parked: Vec<Parked>,
}

impl Holds {
    pub(crate) fn len(&self) -> usize {
        self.prepared.len()
    }

    pub(crate) fn prepared(&self) -> impl Iterator<Item = &Prepared> {
        self.prepared.values()
    }

    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// The size of all that is prepared.
    pub(crate) fn bytes(&self) -> usize {
        self.prepared.values().map(|prepared| prepared.bytes).sum()
    }

    /// The prepared draft of a commit key.
    pub(crate) fn by_key(&self, key: CommitKey) -> Option<(u64, &Prepared)> {
        self.prepared.iter().find(|(_, prepared)| prepared.key == key).map(|(id, prepared)| (*id, prepared))
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Prepared> {
        self.prepared.get(&id)
    }

    /// The prepared draft that is in the way of this one: it holds a cell that this one writes, or, if this one is to be
    /// prepared (and so gets its tid later than now), will write what this one has read.
    pub(crate) fn holder(&self, draft: &Draft, wide: Option<&WideReads>, to_prepare: bool) -> Option<u64> {
        match wide.filter(|wide| to_prepare && self.held.writes() < wide.len()) {
            None => self.other_holder(draft, to_prepare, None),
            Some(wide) => self.other_holder(draft, false, None).or_else(|| self.held.against_wide(wide)),
        }
    }

    /// The same for the writes of a large draft, which are sorted.
    pub(crate) fn holder_of_large(&self, writes: &Writes) -> Option<u64> {
        if self.prepared.is_empty() { None } else { self.held.against_large(writes) }
    }

    /// How many have read very much.
    pub(crate) fn wide(&self) -> usize {
        self.held.wide.len()
    }

    /// The same for a part of the prepared draft `own`, which is not in its own way.
    pub(crate) fn other_holder(&self, draft: &Draft, to_prepare: bool, own: Option<u64>) -> Option<u64> {
        if self.prepared.is_empty() || (own.is_some() && self.prepared.len() == 1) {
            return None;
        }
        let mut writes = draft.writes.iter();
        let by_write = writes.find_map(|write| self.held.against_write(&write.cell, write.stamped, own));
        by_write
            .or_else(|| {
                let mut reads = draft.read_cells.iter().filter(|_| to_prepare);
                reads.find_map(|read| self.held.against_read(&read.cell, own))
            })
            .or_else(|| if to_prepare { self.held.against_ranges(&draft.read_ranges, own) } else { None })
    }

    /// Whether a prepared draft other than `own` is in the way of a write of this cell.
    pub(crate) fn is_held(&self, cell: &Cell, own: Option<u64>) -> bool {
        !self.prepared.is_empty() && self.held.against_write(cell, false, own).is_some()
    }

    /// Holds the cells of a prepared draft. A cell that it shares with an earlier one (both only read it) stays with both.
    pub(crate) fn hold(&mut self, id: u64, prepared: Prepared) {
        prepared.writes.iter().for_each(|write| self.held.write(id, &write.cell, write.stamped));
        let (cells, ranges) = if prepared.wide.is_some() { prepared.wide_len } else { (0, 0) };
        self.held.wide.extend(prepared.wide.iter().map(|wide| (id, wide.clone())));
        prepared.read_cells.iter().skip(cells).for_each(|cell| self.held.read(id, cell));
        prepared.read_ranges.iter().skip(ranges).for_each(|range| self.held.range(id, range));
        // Of a stale cell nothing is decided yet: it may come to be written.
        prepared.stale.keys().for_each(|cell| self.held.write(id, cell, false));
        self.prepared.insert(id, prepared);
    }

    /// Makes parts of a prepared draft anew. What it held before stays held.
    pub(crate) fn amend(&mut self, id: u64, amendment: Amendment) -> Option<&Prepared> {
        let prepared = self.prepared.get_mut(&id)?;
        amendment.writes.iter().for_each(|write| self.held.write(id, &write.cell, write.stamped));
        amendment.stale.iter().for_each(|stale| self.held.write(id, &stale.cell, false));
        amendment.draft.read_cells.iter().for_each(|read| self.held.read(id, &read.cell));
        amendment.draft.read_ranges.iter().for_each(|range| self.held.range(id, range));
        prepared.amend(amendment);
        Some(prepared)
    }

    /// Ends a hold: gives the prepared draft and those that were parked behind it, in their order.
    pub(crate) fn release(&mut self, id: u64) -> Option<(Prepared, Vec<DraftAsk>)> {
        let prepared = self.prepared.remove(&id)?;
        self.held.end(id);
        let (freed, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parked).into_iter().partition(|p| p.behind == id);
        self.parked = still;
        Some((prepared, freed.into_iter().map(|parked| parked.draft).collect()))
    }

    pub(crate) fn park(&mut self, behind: u64, draft: DraftAsk) {
        self.parked.push(Parked { behind, draft });
    }

    /// The draft of this key that is to be prepared, if it is parked: nobody waits for its answer any more.
    pub(crate) fn take_parked(&mut self, key: CommitKey, whose: &Whose) -> Option<DraftAsk> {
        let is_it = |parked: &Parked| {
            let admitted = parked.draft.admitted();
            let prepares = matches!(parked.draft, DraftAsk::Prepare(_));
            prepares && admitted.draft.key == key && whose.includes(&admitted.caller.owner)
        };
        let at = self.parked.iter().position(is_it)?;
        Some(self.parked.remove(at).draft)
    }

    /// Those that have waited long enough for a durable one.
    pub(crate) fn waited_enough(&mut self, now: Duration) -> Vec<Parked> {
        let prepared = &self.prepared;
        let until = |id: &u64| prepared.get(id).and_then(|prepared| prepared.durable).map(|it| it.waited_until);
        self.parked.extract_if(.., |parked| until(&parked.behind).is_some_and(|until| until <= now)).collect()
    }

    /// The holds whose time is over.
    pub(crate) fn expired(&self, now: Duration) -> Vec<u64> {
        let mut ids: Vec<u64> = self.prepared.iter().filter(|(_, p)| p.deadline <= now).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Those that may depend on something newer than this.
    pub(crate) fn resting_above(&self, tid: Tid) -> Vec<u64> {
        let mut ids: Vec<u64> = self.prepared.iter().filter(|(_, p)| p.rests_on > tid).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// When there is something to end: a prepared draft, or a wait for one.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let behind = self.parked.iter().filter_map(|parked| self.prepared.get(&parked.behind));
        let waits = behind.filter_map(|prepared| prepared.durable).map(|it| it.waited_until);
        self.prepared.values().map(|prepared| prepared.deadline).chain(waits).min()
    }

    /// One that the store does not keep and nothing keeps from being finished.
    pub(crate) fn one_to_keep(&self, now: Duration) -> Option<u64> {
        // What was left out of a replayed one has no place in what is kept.
        let is_whole = |prepared: &Prepared| prepared.stale.is_empty() && prepared.left_out.is_empty();
        let to_keep = |prepared: &Prepared| prepared.durable.is_none() && is_whole(prepared) && prepared.deadline > now;
        self.prepared.iter().find(|(_, prepared)| to_keep(prepared)).map(|(id, _)| *id)
    }

    /// The store keeps it from now on.
    pub(crate) fn is_kept(&mut self, id: u64, durable: Durable) {
        if let Some(prepared) = self.prepared.get_mut(&id) {
            prepared.durable = Some(durable);
        }
    }

    /// Everything prepared and parked, for the end of the server.
    pub(crate) fn drain(&mut self) -> (Vec<Prepared>, Vec<DraftAsk>) {
        self.held = Held::default();
        let prepared = std::mem::take(&mut self.prepared).into_values().collect();
        (prepared, self.parked.drain(..).map(|parked| parked.draft).collect())
    }
}
