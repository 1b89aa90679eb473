//! Owns the prepared drafts of two-phase commits, and who waits for them.
//!
//! A prepared draft has been checked and merged; until it is finished, aborted or out of time its cells are *held*: nobody
//! else may write what it writes or has read, or its promise ("finish will succeed") would break. A draft in the way is
//! parked and looked at again when the holder is gone; it is not refused, so that a merge never loses to contention.
//! This is the only lock held for a client between its calls, and its time limit ends that draft alone.

use super::job::{DraftJob, SealedWrite};
use rustc_hash::FxHashMap;
use std::time::Duration;
use zeolite_proto::{Cell, CommitKey, Draft, Note, Priority, ReadRange, Tid, Write};

/// A draft whose promise is given.
pub(crate) struct Prepared {
    pub(crate) key: CommitKey,
    pub(crate) priority: Priority,
    pub(crate) note: Note,
    pub(crate) writes: Vec<SealedWrite>,
    pub(crate) read_cells: Vec<Cell>,
    pub(crate) read_ranges: Vec<ReadRange>,
    pub(crate) deadline: Duration,
    /// The newest tid sealed before it: what its check and its merges may have seen.
    pub(crate) rests_on: Tid,
}

impl Prepared {
    fn writes_into_reads_of(&self, draft: &Draft) -> bool {
        self.writes.iter().any(|write| {
            draft.read_cells.iter().any(|read| read.cell == write.cell)
                || draft.read_ranges.iter().any(|range| match write.stamped {
                    true => range.oid == write.cell.oid,
                    false => range.covers(&write.cell),
                })
        })
    }
}

/// A draft that waits for a holder.
pub(crate) struct Parked {
    pub(crate) behind: u64,
    pub(crate) draft: DraftJob,
}

/// All prepared and parked drafts.
#[derive(Default)]
pub(crate) struct Holds {
    prepared: FxHashMap<u64, Prepared>,
    /// Cells that may not be written, by whom they are held.
    cells: FxHashMap<Cell, u64>,
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

    /// The prepared draft that is in the way of this one: it holds a cell that this one writes, or, if this one is to be
    /// prepared (and so gets its tid later than now), will write what this one has read.
    pub(crate) fn holder(&self, draft: &Draft, to_prepare: bool) -> Option<u64> {
        if self.prepared.is_empty() {
            return None;
        }
        let by_write = || draft.writes.iter().find_map(|write| self.holds_against(write));
        let by_read = || self.prepared.iter().find(|(_, held)| held.writes_into_reads_of(draft)).map(|(id, _)| *id);
        by_write().or_else(|| if to_prepare { by_read() } else { None })
    }

    fn holds_against(&self, write: &Write) -> Option<u64> {
        if !write.stamped
            && let Some(id) = self.cells.get(&write.cell)
        {
            return Some(*id);
        }
        // A stamped key is not known yet: any range of its collection may come to cover it.
        let in_the_way = |range: &ReadRange| match write.stamped {
            true => range.oid == write.cell.oid,
            false => range.covers(&write.cell),
        };
        self.prepared.iter().find(|(_, held)| held.read_ranges.iter().any(in_the_way)).map(|(id, _)| *id)
    }

    /// Holds the cells of a prepared draft. A cell that it shares with an earlier one (both only read it) stays with both.
    pub(crate) fn hold(&mut self, id: u64, prepared: Prepared) {
        let written = prepared.writes.iter().map(|write| &write.cell);
        for cell in written.chain(&prepared.read_cells) {
            self.cells.insert(cell.clone(), id);
        }
        self.prepared.insert(id, prepared);
    }

    /// Ends a hold: gives the prepared draft and those that were parked behind it, in their order.
    pub(crate) fn release(&mut self, id: u64) -> Option<(Prepared, Vec<DraftJob>)> {
        let prepared = self.prepared.remove(&id)?;
        self.cells.retain(|_, holder| *holder != id);
        // A cell read by several prepared drafts is held by each: give it to one that is left.
        for (other, held) in &self.prepared {
            for cell in held.writes.iter().map(|write| &write.cell).chain(&held.read_cells) {
                self.cells.entry(cell.clone()).or_insert(*other);
            }
        }
        let (freed, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parked).into_iter().partition(|p| p.behind == id);
        self.parked = still;
        Some((prepared, freed.into_iter().map(|parked| parked.draft).collect()))
    }

    pub(crate) fn park(&mut self, behind: u64, draft: DraftJob) {
        self.parked.push(Parked { behind, draft });
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

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.prepared.values().map(|prepared| prepared.deadline).min()
    }

    /// Everything prepared and parked, for the end of the server.
    pub(crate) fn drain(&mut self) -> (Vec<Prepared>, Vec<DraftJob>) {
        self.cells.clear();
        let prepared = self.prepared.drain().map(|(_, prepared)| prepared).collect();
        (prepared, self.parked.drain(..).map(|parked| parked.draft).collect())
    }
}
