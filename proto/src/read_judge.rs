//! Owns the `ReadJudge` trait: whether a read still holds although what was read has changed since.
//!
//! A read check guards *something that was concluded* from a record, and mostly that is less than the whole record. Who knows the
//! class can say: had the newest record been read instead, would this draft have written the same? Then the check holds.
//!
//! ```text
//!   node  a b c  at base ──> x, written by this draft, is below b
//!   node  a b c d  newest ──> x is still below b: the draft may be committed behind it
//! ```
//!
//! A judge is a pure function of the draft and of the records that it asks for, so that it may be asked again. Its yes is good for the
//! newest records that it saw, and its no is always right.

use crate::draft::{Draft, ReadCell};
use bytes::Bytes;

/// Gives encoded records to a judge. What cannot be given is told as not there, and the judge's answer is not used then.
pub trait Records {
    /// The newest record of a cell.
    fn newest(&mut self, cell: &crate::Cell) -> Option<Bytes>;

    /// The record of a cell as of a tid.
    fn as_of(&mut self, cell: &crate::Cell, tid: crate::Tid) -> Option<Bytes>;
}

/// Judges read checks of some classes.
pub trait ReadJudge: Send + Sync + 'static {
    /// Whether it may have anything to say of this read: from the draft alone, and quickly.
    fn may_hold(&self, draft: &Draft, read: &ReadCell) -> bool;

    /// Whether what the draft concluded from this read is the same with the newest records.
    fn holds(&self, draft: &Draft, read: &ReadCell, records: &mut dyn Records) -> bool;
}
