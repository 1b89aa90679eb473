//! Owns the draft (a client's uncommitted work as it arrives) and the receipt (what the committer gets).
//!
//! The one rule of conflict: a write or a read check names the tid *as of which* its author knows the cell (`base`). It is
//! clean when the cell has no revision newer than that. A base may be the tid of the revision that was read, or any later
//! snapshot at which that revision was still the newest; both give the same answer.

use crate::ids::{Cell, CommitKey, Oid, Tid};
use bytes::Bytes;

/// Which of the two admission queues a draft waits in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Priority {
    /// The site's own traffic.
    #[default]
    Live,
    /// Evolve workers, imports: never delays a live draft by more than one batch.
    Batch,
}

/// Who did it and why; kept in the log with the transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Note {
    /// The user, as the application names it.
    pub user: String,
    /// What the transaction was for.
    pub description: String,
    /// The application's own bytes.
    pub extension: Bytes,
}

/// A client's uncommitted work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// Exactly-once key.
    pub key: CommitKey,
    /// The queue it waits in.
    pub priority: Priority,
    /// Cells that must not have changed.
    pub read_cells: Vec<ReadCell>,
    /// Key ranges in which nothing must have changed.
    pub read_ranges: Vec<ReadRange>,
    /// The changes, at most one per cell.
    pub writes: Vec<Write>,
    /// Kept in the log.
    pub note: Note,
}

/// A cell that must have no revision newer than `base`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadCell {
    /// The cell that was read.
    pub cell: Cell,
    /// The tid as of which it was read.
    pub base: Tid,
}

/// A key range of a collection in which no entry may have a revision newer than `base`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReadRange {
    /// The collection.
    pub oid: Oid,
    /// The first key, inclusive.
    pub from: Bytes,
    /// The end, exclusive; empty: no end.
    pub to: Bytes,
    /// The tid as of which it was read.
    pub base: Tid,
}

impl ReadRange {
    /// Whether the range covers the cell. A collection's own record (the empty key) is never part of a range.
    pub fn covers(&self, cell: &Cell) -> bool {
        cell.oid == self.oid
            && !cell.key.is_empty()
            && cell.key >= self.from
            && (self.to.is_empty() || cell.key < self.to)
    }
}

/// One change of one cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The cell.
    pub cell: Cell,
    /// The tid as of which the writer knows the cell; not used by an apply.
    pub base: Tid,
    /// What to do.
    pub change: Change,
    /// Append tid and position to the key when the order is fixed; see the wire's `Write.stamped`.
    pub stamped: bool,
}

/// What a write does to its cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Writes this encoded record.
    Put(Bytes),
    /// Lets the class's resolver apply an operation to whatever is there: never conflicts by itself.
    Apply {
        /// Whose resolver; also the class of a cell that does not exist yet.
        class: String,
        /// In the resolver's format.
        operation: Bytes,
    },
    /// Deletes the cell.
    Delete,
}

/// What the committer gets: durable, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The commit.
    pub tid: Tid,
    /// The cells whose stored record is what a resolver made.
    pub merged: Vec<Merged>,
}

/// A cell with a revision that a held draft has not seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaleCell {
    /// The cell.
    pub cell: Cell,
    /// Its newest revision.
    pub newest: Tid,
}

/// A cell that a resolver decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merged {
    /// The cell.
    pub cell: Cell,
    /// Its encoded record now; none: deleted.
    pub record: Option<Bytes>,
}
