//! Owns the prepared drafts of two-phase commits, and who waits for them.
//!
//! A prepared draft has been checked and merged; until it is finished, aborted or out of time its cells are *held*: nobody
//! else may write what it writes or has read, or its promise ("finish will succeed") would break. A draft in the way is
//! parked and looked at again when the holder is gone; it is not refused, so that a merge never loses to contention.
//! This is the only lock held for a client between its calls, and its time limit ends that draft alone. A durable one may have no
//! time limit; so nobody is parked behind it for long.
//!
//! A draft of a hundred thousand cells would never be prepared beside live writers: one of the cells has always moved on. It can
//! ask to be held all the same. From then on nothing moves any more, and the few stale cells are amended:
//! ```text
//!   prepare, hold ──> held, 500 stale ──> amend these 500 ──> 0 stale ──> finish
//! ```

use crate::engine::caller::Caller;
use crate::engine::pipeline::ask::DraftAsk;
use crate::engine::sealed_write::SealedWrite;
use std::collections::BTreeMap;
use std::time::Duration;
use zeolite_proto::{Cell, CommitKey, Draft, Note, Priority, ReadRange, StaleCell, Tid, hash};

/// A draft whose promise is given.
pub(crate) struct Prepared {
    pub(crate) key: CommitKey,
    pub(crate) priority: Priority,
    pub(crate) note: Note,
    pub(crate) caller: Caller,
    pub(crate) writes: Vec<SealedWrite>,
    pub(crate) read_cells: Vec<Cell>,
    pub(crate) read_ranges: Vec<ReadRange>,
    /// When it is aborted, by the steady clock; [`Duration::MAX`]: never.
    pub(crate) deadline: Duration,
    /// When it was prepared, by the clock on the wall.
    pub(crate) since_unix_ms: u64,
    /// It outlives the server.
    pub(crate) durable: Option<Durable>,
    /// The newest tid sealed before it: what its check and its merges may have seen.
    pub(crate) rests_on: Tid,
    /// Cells that it has not seen the newest revision of; it cannot be finished before they are amended.
    pub(crate) stale: BTreeMap<Cell, Tid>,
    /// The size of all drafts that it was made of.
    pub(crate) bytes: usize,
}

/// What is known of a prepared draft that is kept in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Durable {
    /// So many cells of the server's own keep it.
    pub(crate) pieces: usize,
    /// Until then whoever needs its cells is parked, and refused from then on.
    pub(crate) waited_until: Duration,
}

/// What takes the place of parts of a prepared draft.
pub(crate) struct Amendment {
    pub(crate) draft: Draft,
    pub(crate) writes: Vec<SealedWrite>,
    pub(crate) withdrawn: Vec<Cell>,
    pub(crate) stale: Vec<StaleCell>,
    pub(crate) rests_on: Tid,
    pub(crate) bytes: usize,
}

impl Prepared {
    fn writes_into(&self, ranges: &[ReadRange]) -> bool {
        let into = |write: &SealedWrite| {
            ranges.iter().any(|range| match write.stamped {
                true => range.oid == write.cell.oid,
                false => range.covers(&write.cell),
            })
        };
        !ranges.is_empty() && self.writes.iter().any(into)
    }

    /// All stale cells, in order.
    pub(crate) fn stale(&self) -> Vec<StaleCell> {
        self.stale.iter().map(|(cell, newest)| StaleCell { cell: cell.clone(), newest: *newest }).collect()
    }

    fn amend(&mut self, amendment: Amendment) {
        let withdrawn: hash::Set<&Cell> = amendment.withdrawn.iter().collect();
        let written = amendment.draft.writes.iter().filter(|write| !write.stamped).map(|write| &write.cell);
        let anew: hash::Set<&Cell> = written.chain(withdrawn.iter().copied()).collect();
        self.writes.retain(|write| match write.stamped {
            true => !withdrawn.contains(&write.cell),
            false => !anew.contains(&write.cell),
        });
        for cell in anew.into_iter().chain(amendment.draft.read_cells.iter().map(|read| &read.cell)) {
            self.stale.remove(cell);
        }
        self.writes.extend(amendment.writes);
        self.read_cells.extend(amendment.draft.read_cells.into_iter().map(|read| read.cell));
        self.read_ranges.extend(amendment.draft.read_ranges);
        self.stale.extend(amendment.stale.into_iter().map(|stale| (stale.cell, stale.newest)));
        (self.note, self.rests_on, self.bytes) = (amendment.draft.note, amendment.rests_on, amendment.bytes);
    }
}

/// A draft that waits for a holder.
pub(crate) struct Parked {
    pub(crate) behind: u64,
    pub(crate) draft: DraftAsk,
}

/// By whom a cell is held, and whether that one will write it. What is only read may be held by others too.
struct Hold {
    by: u64,
    writes: bool,
    others: Vec<u64>,
}

/// All prepared and parked drafts.
#[derive(Default)]
pub(crate) struct Holds {
    prepared: BTreeMap<u64, Prepared>,
    /// Cells that may not be written.
    cells: hash::Map<Cell, Hold>,
    /// The same by prepared draft, so that an end costs what that one holds and not what all hold.
    held: BTreeMap<u64, Vec<Cell>>,
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
    pub(crate) fn holder(&self, draft: &Draft, to_prepare: bool) -> Option<u64> {
        self.other_holder(draft, to_prepare, None)
    }

    /// The same for a part of the prepared draft `own`, which is not in its own way.
    pub(crate) fn other_holder(&self, draft: &Draft, to_prepare: bool, own: Option<u64>) -> Option<u64> {
        if self.prepared.is_empty() || (own.is_some() && self.prepared.len() == 1) {
            return None;
        }
        let by_write = || draft.writes.iter().find_map(|write| self.holds_against(&write.cell, write.stamped, own));
        let by_read = || {
            let written = |cell: &Cell| self.cells.get(cell).filter(|hold| hold.writes && Some(hold.by) != own);
            let cell = draft.read_cells.iter().find_map(|read| written(&read.cell)).map(|hold| hold.by);
            let into_range = |(id, held): &(&u64, &Prepared)| Some(**id) != own && held.writes_into(&draft.read_ranges);
            cell.or_else(|| self.prepared.iter().find(into_range).map(|(id, _)| *id))
        };
        by_write().or_else(|| if to_prepare { by_read() } else { None })
    }

    /// Whether a prepared draft other than `own` is in the way of a write of this cell.
    pub(crate) fn is_held(&self, cell: &Cell, own: Option<u64>) -> bool {
        !self.prepared.is_empty() && self.holds_against(cell, false, own).is_some()
    }

    fn holds_against(&self, cell: &Cell, stamped: bool, own: Option<u64>) -> Option<u64> {
        if !stamped && let Some(hold) = self.cells.get(cell) {
            let other = std::iter::once(&hold.by).chain(&hold.others).find(|by| Some(**by) != own);
            if let Some(other) = other {
                return Some(*other);
            }
        }
        // A stamped key is not known yet: any range of its collection may come to cover it.
        let in_the_way = |range: &ReadRange| match stamped {
            true => range.oid == cell.oid,
            false => range.covers(cell),
        };
        let others = self.prepared.iter().filter(|(id, _)| Some(**id) != own);
        others.into_iter().find(|(_, held)| held.read_ranges.iter().any(in_the_way)).map(|(id, _)| *id)
    }

    /// Holds the cells of a prepared draft. A cell that it shares with an earlier one (both only read it) stays with both.
    pub(crate) fn hold(&mut self, id: u64, prepared: Prepared) {
        for write in prepared.writes.iter().filter(|write| !write.stamped) {
            // The key of a stamped write does not exist before its stamp.
            self.take(id, &write.cell, true);
        }
        prepared.read_cells.iter().for_each(|cell| self.take(id, cell, false));
        // Of a stale cell nothing is decided yet: it may come to be written.
        prepared.stale.keys().for_each(|cell| self.take(id, cell, true));
        self.prepared.insert(id, prepared);
    }

    /// Makes parts of a prepared draft anew. What it held before stays held.
    pub(crate) fn amend(&mut self, id: u64, amendment: Amendment) -> Option<&Prepared> {
        self.prepared.get(&id)?;
        let written = amendment.writes.iter().filter(|write| !write.stamped).map(|write| &write.cell);
        let stale = amendment.stale.iter().map(|stale| &stale.cell);
        written.chain(stale).for_each(|cell| self.take(id, cell, true));
        amendment.draft.read_cells.iter().for_each(|read| self.take(id, &read.cell, false));
        let prepared = self.prepared.get_mut(&id)?;
        prepared.amend(amendment);
        Some(prepared)
    }

    fn take(&mut self, id: u64, cell: &Cell, writes: bool) {
        match self.cells.get_mut(cell) {
            Some(hold) if hold.by == id => hold.writes |= writes,
            Some(hold) if hold.others.contains(&id) => {}
            Some(hold) => {
                hold.others.push(id);
                self.held.entry(id).or_default().push(cell.clone());
            }
            None => {
                self.cells.insert(cell.clone(), Hold { by: id, writes, others: Vec::new() });
                self.held.entry(id).or_default().push(cell.clone());
            }
        }
    }

    /// Ends a hold: gives the prepared draft and those that were parked behind it, in their order.
    pub(crate) fn release(&mut self, id: u64) -> Option<(Prepared, Vec<DraftAsk>)> {
        let prepared = self.prepared.remove(&id)?;
        for cell in self.held.remove(&id).unwrap_or_default() {
            let Some(hold) = self.cells.get_mut(&cell) else { continue };
            hold.others.retain(|other| *other != id);
            if hold.by == id {
                // Others have only read it.
                match hold.others.pop() {
                    Some(other) => (hold.by, hold.writes) = (other, false),
                    None => drop(self.cells.remove(&cell)),
                }
            }
        }
        let (freed, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parked).into_iter().partition(|p| p.behind == id);
        self.parked = still;
        Some((prepared, freed.into_iter().map(|parked| parked.draft).collect()))
    }

    pub(crate) fn park(&mut self, behind: u64, draft: DraftAsk) {
        self.parked.push(Parked { behind, draft });
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

    /// Everything prepared and parked, for the end of the server.
    pub(crate) fn drain(&mut self) -> (Vec<Prepared>, Vec<DraftAsk>) {
        self.cells.clear();
        self.held.clear();
        let prepared = std::mem::take(&mut self.prepared).into_values().collect();
        (prepared, self.parked.drain(..).map(|parked| parked.draft).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::Oid;

    fn cell(n: u64) -> Cell {
        Cell::object(Oid(n))
    }

    fn prepared(writes: &[u64], reads: &[u64]) -> Prepared {
        let write = |n: &u64| SealedWrite { cell: cell(*n), stamped: false, record: None, merged: false };
        Prepared {
            key: CommitKey([1; 16]),
            priority: Priority::Live,
            note: Note::default(),
            caller: Caller::default(),
            writes: writes.iter().map(write).collect(),
            read_cells: reads.iter().map(|n| cell(*n)).collect(),
            read_ranges: Vec::new(),
            deadline: Duration::ZERO,
            since_unix_ms: 0,
            durable: None,
            rests_on: Tid::NONE,
            stale: BTreeMap::new(),
            bytes: 0,
        }
    }

    #[test]
    fn a_cell_that_several_have_read_is_held_until_the_last_of_them_ends() {
        let mut holds = Holds::default();
        holds.hold(1, prepared(&[10], &[20]));
        holds.hold(2, prepared(&[11], &[20]));
        holds.hold(3, prepared(&[], &[20]));
        assert_eq!(holds.holds_against(&cell(20), false, Some(1)), Some(2), "own is not in its own way, another is");
        assert!(holds.release(1).is_some() && holds.is_held(&cell(20), None) && !holds.is_held(&cell(10), None));
        assert!(holds.release(2).is_some() && holds.is_held(&cell(20), None) && !holds.is_held(&cell(11), None));
        assert_eq!(holds.holds_against(&cell(20), false, Some(3)), None);
        assert!(holds.release(3).is_some() && !holds.is_held(&cell(20), None));
        assert!(holds.cells.is_empty() && holds.held.is_empty());
    }
}
