//! Owns a prepared draft: what was promised of it, and what an amendment changes.

use crate::engine::caller::Caller;
use crate::engine::pipeline::wide::WideReads;
use crate::engine::pipeline::yields::Passed;
use crate::engine::sealed_write::SealedWrite;
use crate::engine::share::{Counted, Place, Share};
use crate::storage::BlobHold;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Cell, CommitKey, Draft, Merged, Note, Priority, ReadRange, StaleCell, Tid, hash};

/// A draft whose promise is given.
pub(crate) struct Prepared {
    pub(crate) key: CommitKey,
    pub(crate) priority: Priority,
    pub(crate) note: Note,
    pub(crate) caller: Caller,
    /// What it writes, and behind that what is owed for what it passes over.
    pub(crate) writes: Vec<SealedWrite>,
    pub(crate) passed: Passed,
    pub(crate) read_cells: Vec<Cell>,
    pub(crate) read_ranges: Vec<ReadRange>,
    /// What it had read when it was prepared, if that is very much; it is the beginning of the two lists.
    pub(crate) wide: Option<Arc<WideReads>>,
    pub(crate) wide_len: (usize, usize),
    /// When it is aborted, by the steady clock; [`Duration::MAX`]: never.
    pub(crate) deadline: Duration,
    /// When it was prepared, by the clock on the wall.
    pub(crate) since_unix_ms: u64,
    /// The same by the steady clock, which nobody sets: before the server's start it is below 0.
    pub(crate) since_steady_ms: i64,
    /// It outlives the server.
    pub(crate) durable: Option<Durable>,
    /// The newest tid sealed before it: what its check and its merges may have seen.
    pub(crate) rests_on: Tid,
    /// Cells that it has not seen the newest revision of; it cannot be finished before they are amended.
    pub(crate) stale: BTreeMap<Cell, StaleCell>,
    /// The size of all drafts that it was made of.
    pub(crate) bytes: usize,
    /// What it takes of its connection's share: one draft, and these bytes.
    pub(crate) places: (Place, Place),
    /// Keeps the blobs that it names. One that is taken up again has none: the cells that keep it name them.
    pub(crate) blobs: Vec<Arc<BlobHold>>,
    /// Cells that it was sent with and does not write, since it was replayed, and what they are.
    pub(crate) left_out: Vec<Merged>,
}

/// What is known of a prepared draft that is kept in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Durable {
    /// So many cells of the server's own keep it.
    pub(crate) pieces: usize,
    /// Until then whoever needs its cells is parked, and refused from then on.
    pub(crate) waited_until: Duration,
    /// Nobody asked for that: it was prepared in the usual strength when the server was restarted.
    pub(crate) for_restart: bool,
}

/// What takes the place of parts of a prepared draft.
pub(crate) struct Amendment {
    pub(crate) draft: Draft,
    pub(crate) writes: Vec<SealedWrite>,
    pub(crate) withdrawn: Vec<Cell>,
    pub(crate) stale: Vec<StaleCell>,
    pub(crate) rests_on: Tid,
    pub(crate) bytes: usize,
    pub(crate) blobs: Option<Arc<BlobHold>>,
}

/// What resolvers decided.
pub(crate) fn merged(writes: &[SealedWrite]) -> impl Iterator<Item = Merged> {
    let by_resolver = writes.iter().filter(|write| write.merged);
    by_resolver.map(|write| Merged { cell: write.cell.clone(), record: write.record.clone() })
}

impl Prepared {
    /// What one of these bytes takes of a share.
    pub(crate) fn places(share: &Share, bytes: usize) -> (Place, Place) {
        (share.have(Counted::PreparedDrafts, 1), share.have(Counted::PreparedBytes, bytes))
    }

    /// Whether whoever prepared it wants it to outlive the server.
    pub(crate) fn is_asked_durable(&self) -> bool {
        self.durable.is_some_and(|durable| !durable.for_restart)
    }

    /// The cells that are not as they were sent.
    pub(crate) fn merged(&self) -> Vec<Merged> {
        merged(&self.writes).chain(self.left_out.iter().cloned()).collect()
    }

    /// All stale cells, in order.
    pub(crate) fn stale(&self) -> Vec<StaleCell> {
        self.stale.values().cloned().collect()
    }

    pub(super) fn amend(&mut self, amendment: Amendment) {
        let withdrawn: hash::Set<&Cell> = amendment.withdrawn.iter().collect();
        let written = amendment.draft.writes.iter().filter(|write| !write.stamped).map(|write| &write.cell);
        let anew: hash::Set<&Cell> = written.chain(withdrawn.iter().copied()).collect();
        // What is looked at anew passes over nothing.
        let (reads, ranges) = (&amendment.draft.read_cells, &amendment.draft.read_ranges);
        let read =
            |cell: &Cell| reads.iter().any(|read| read.cell == *cell) || ranges.iter().any(|range| range.covers(cell));
        self.passed.take_owed(&mut self.writes, |cell| anew.contains(cell) || read(cell));
        self.writes.retain(|write| match write.stamped {
            true => !withdrawn.contains(&write.cell),
            false => !anew.contains(&write.cell),
        });
        for cell in anew.into_iter().chain(amendment.draft.read_cells.iter().map(|read| &read.cell)) {
            self.stale.remove(cell);
        }
        self.writes.extend(amendment.writes);
        self.passed.add_owed(&mut self.writes);
        self.read_cells.extend(amendment.draft.read_cells.into_iter().map(|read| read.cell));
        self.read_ranges.extend(amendment.draft.read_ranges);
        self.blobs.extend(amendment.blobs);
        self.stale.extend(amendment.stale.into_iter().map(|stale| (stale.cell.clone(), stale)));
        self.places.1.grow(amendment.bytes.saturating_sub(self.bytes));
        (self.note, self.rests_on, self.bytes) = (amendment.draft.note, amendment.rests_on, amendment.bytes);
    }
}
