//! Owns the `Replayer` trait: what a draft would have written, had it begun with the newest records.
//!
//! A resolver sees one cell, and cannot merge what several cells say together: which entry is in which page of an index, say. Who knows the
//! structure can take from the writes what the draft *did*, and do it again on the newest records.
//!
//! ```text
//!   draft     page 2: a b ──> a b c          c was added
//!   newest    page 2: a     page 7: b        another has split the page
//!   replayed                page 7: b c
//! ```
//!
//! What comes out has other writes and reads than the draft that was sent, so whoever sent it must be told. A replayer is a pure function of
//! the draft and of the records that it asks for.

use crate::resolver::Unresolved;
use crate::{Cell, Draft, Records};
use bytes::Bytes;
use std::collections::BTreeSet;

/// What takes the place of parts of a draft.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replayed {
    /// Encoded records, made of the newest ones.
    pub writes: Vec<(Cell, Bytes)>,
    /// Cells whose newest records say that this is where it belongs.
    pub reads: Vec<Cell>,
    /// Writes of the draft that are not made as they were sent: others, or none.
    pub left_out_writes: BTreeSet<Cell>,
    /// Its reads that count no more.
    pub left_out_reads: BTreeSet<Cell>,
}

/// Replays drafts on the newest records.
pub trait Replayer: Send + Sync + 'static {
    /// Whether it may have anything to say of a draft: quickly.
    fn may_replay(&self, draft: &Draft) -> bool;

    /// What the draft becomes as far as these conflicts are concerned, or why they stay what they are.
    fn replay(&self, draft: &Draft, conflicts: &[Cell], records: &mut dyn Records) -> Result<Replayed, Unresolved>;
}
