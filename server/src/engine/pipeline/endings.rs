//! Owns the prepared drafts that are being ended: the end is sealed, and whether it becomes durable is not known yet.
//!
//! ```text
//!   prepared ── end, sealed at t ──> being ended ── visible at t ──> over
//!      ^                                  └─── epoch refused ───┐
//!      └────────────────────────────────────────────────────────┘
//! ```
//! What such a draft held is free: whoever waited is decided on top of what was sealed. All of that is refused with it when
//! the disk has no room, and nobody is promised a cell of it before its end is visible ([`Endings::newest_reader`]; what it writes has a head), so
//! nothing can have taken its cells: it is prepared again as it was. Until then it counts as what was promised, for bounds, gates and garbage.

use crate::engine::pipeline::holds::Prepared;
use std::collections::VecDeque;
use zeolite_proto::{Cell, CommitKey, Tid, hash};

/// More are not looked at.
const FEW_READS: usize = 256;

/// A prepared draft whose end is sealed.
pub(crate) struct Ending {
    /// Of what ends it.
    pub(crate) tid: Tid,
    /// Its id while it was prepared, and again if the end is refused.
    pub(crate) id: u64,
    pub(crate) prepared: Prepared,
}

/// All of them, in the order of their ends.
#[derive(Default)]
pub(crate) struct Endings(VecDeque<Ending>);

impl Endings {
    /// The end of a draft is sealed; it is newer than all others.
    pub(crate) fn begin(&mut self, ending: Ending) {
        self.0.push_back(ending);
    }

    /// Those whose end is visible are over.
    pub(crate) fn settle(&mut self, visible: Tid) {
        while self.0.front().is_some_and(|ending| ending.tid <= visible) {
            self.0.pop_front();
        }
    }

    /// What is not visible was refused: gives it back, in order.
    pub(crate) fn refused(&mut self, visible: Tid) -> VecDeque<Ending> {
        self.settle(visible);
        std::mem::take(&mut self.0)
    }

    /// At which tid a draft ends, by its id or its key.
    pub(crate) fn end_of(&self, id: u64, key: Option<CommitKey>) -> Option<Tid> {
        let named = |ending: &&Ending| ending.id == id || Some(ending.prepared.key) == key;
        self.0.iter().find(named).map(|ending| ending.tid)
    }

    /// The newest end of a draft that had read one of these cells; of one that had read very much, whatever that was.
    pub(crate) fn newest_reader(&self, written: &hash::Set<&Cell>) -> Option<Tid> {
        let has_read = |prepared: &Prepared| {
            prepared.wide.is_some()
                || prepared.read_cells.len().max(prepared.read_ranges.len()) > FEW_READS
                || prepared.read_cells.iter().any(|cell| written.contains(cell))
                || prepared.read_ranges.iter().any(|range| written.iter().any(|cell| range.covers(cell)))
        };
        self.0.iter().rev().find(|ending| has_read(&ending.prepared)).map(|ending| ending.tid)
    }

    pub(crate) fn prepared(&self) -> impl Iterator<Item = &Prepared> {
        self.0.iter().map(|ending| &ending.prepared)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The size of all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.prepared().map(|prepared| prepared.bytes).sum()
    }
}
