//! Owns the words of the log: where a batch and a record lie. Its parts: `segments` (the files), `batches` (reading one in
//! order), `walk` (reading on from one to the next), `appender` (the one writer), `room` (the zeros behind the end), `handles` (how many files
//! are open).
//!
//! ```text
//!   log/0000000001.0000.seg   number 1, generation 0: appended to until it is full, then never again
//!   log/0000000002.0000.seg   the last one is the only one that grows
//!   log/0000000001.0001.seg   number 1 as pack rewrote it; both generations can be read while readers change over
//!   log/0000000007.0001.seg   3 to 7 as pack wrote them as one: its header says that it stands for all of them
//! ```
//! Each number from 1 on is stood for by one current segment, so a missing file is noticed.

pub(super) mod ahead;
pub(super) mod ahead_file;
pub(super) mod appender;
pub(super) mod batches;
pub(super) mod handles;
pub(super) mod room;
pub(super) mod segments;
pub(super) mod walk;

use super::frame::RecordAt;

/// Where a record lies in the log. The crc makes a read of it checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) generation: u16,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

impl Place {
    /// The place of a record of a batch that begins at a position.
    pub(crate) fn of(batch: Position, record: RecordAt) -> Place {
        Place {
            segment: batch.segment,
            generation: batch.generation,
            // A segment is smaller than 4 GiB: `frame::batch_len` and the appender see to it.
            offset: (batch.offset + u64::from(record.offset)) as u32,
            len: record.len,
            crc: record.crc,
        }
    }
}

/// A point in the log: the first byte of a batch, or the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Position {
    pub(crate) segment: u32,
    pub(crate) generation: u16,
    pub(crate) offset: u64,
}
