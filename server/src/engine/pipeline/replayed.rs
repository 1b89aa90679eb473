//! Owns what is remembered of a draft's replays; who replays it is `replays`.

use std::collections::BTreeSet;
use zeolite_proto::{Cell, Draft, Merged};

/// So many times a draft is replayed.
pub(super) const REPLAYS_MAX: u8 = 3;

/// What was replayed of a draft.
#[derive(Default)]
pub(crate) struct Replays {
    pub(super) count: u8,
    /// As it was sent, once it was replayed.
    pub(super) sent: Option<Box<Draft>>,
    /// The conflicts that it was replayed for.
    pub(super) asked: BTreeSet<Cell>,
    /// Why they stay conflicts, if they do.
    pub(super) why_not: Option<String>,
    /// What came of it: these are written anew,
    pub(super) written: BTreeSet<Cell>,
    /// these decide where that is,
    pub(super) read: BTreeSet<Cell>,
    /// and these are written no more.
    pub(crate) left_out: Vec<Merged>,
}

impl Replays {
    /// Whether anything was replayed.
    pub(super) fn any(&self) -> bool {
        self.count > 0
    }

    /// Whether a cell is in what came of it.
    pub(super) fn is_of(&self, cell: &Cell) -> bool {
        self.written.contains(cell) || self.read.contains(cell)
    }
}
