//! Owns reading a segment in order, batch after batch, each checked: recovery, the feed's replay, pack and verify use it.

use crate::store::StoreError;
use crate::store::frame::{BATCH_HEADER_LEN, BadFrame, BatchHeader, ParsedTxn, parse_batch};
use crate::store::log::Position;
use crate::store::log::segments::Segment;
use bytes::Bytes;
use std::sync::Arc;
use zeolite_proto::Tid;

// One read of the disk serves many small batches; the first is small, because many callers want one transaction only.
const WINDOW_BYTES_MIN: u64 = 64 << 10;
const WINDOW_BYTES_MAX: u64 = 1 << 20;

/// A batch as it lies in the log.
pub(crate) struct Batch {
    pub(crate) position: Position,
    pub(crate) len: u64,
    pub(crate) last: Tid,
    pub(crate) txns: Vec<ParsedTxn>,
}

impl Batch {
    /// Its first tid.
    pub(crate) fn first(&self) -> Tid {
        self.txns.first().map_or(self.last, |parsed| parsed.txn.tid)
    }
}

/// Why reading in order stops before the end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// From this offset on the bytes are no batch.
    Bad { offset: u64, bad: BadFrame },
    /// The disk failed.
    Store(StoreError),
}

/// The batches of one segment from an offset to an end, in order. After an error it ends.
pub(crate) struct Batches {
    segment: Arc<Segment>,
    at: u64,
    end: u64,
    // Every tid must be greater than the one before: it begins with the segment's base or with where the caller was.
    last: Tid,
    window: Bytes,
    window_at: u64,
    window_next: u64,
}

impl Batches {
    /// Reads from an offset, which is the start of a batch whose tids are greater than `last`.
    pub(crate) fn new(segment: Arc<Segment>, from: u64, last: Tid) -> Batches {
        let end = segment.end();
        Batches { segment, at: from, end, last, window: Bytes::new(), window_at: from, window_next: WINDOW_BYTES_MIN }
    }

    /// Where the next batch begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The last tid that was read.
    pub(crate) fn last(&self) -> Tid {
        self.last
    }

    /// The next batch; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Batch>, Stop> {
        let Some(header) = self.header()? else { return Ok(None) };
        let offset = self.at;
        let payload = self.bytes(offset + BATCH_HEADER_LEN as u64, u64::from(header.payload_len))?;
        if !header.fits(self.segment.salt, &payload) {
            return Err(self.bad(BadFrame::Torn("a batch whose checksum does not fit")));
        }
        if header.first <= self.last {
            return Err(self.bad(BadFrame::Wrong("a batch that is not newer than the one before it")));
        }
        let txns = parse_batch(self.segment.header.format, &header, &payload).map_err(|bad| self.bad(bad))?;
        self.at += header.len();
        self.last = header.last;
        let position =
            Position { segment: self.segment.header.number, generation: self.segment.header.generation, offset };
        Ok(Some(Batch { position, len: header.len(), last: header.last, txns }))
    }

    /// Goes over batches that hold nothing from `tid` on, without reading their payloads.
    pub(crate) fn skip_before(&mut self, tid: Tid) -> Result<(), Stop> {
        while let Some(header) = self.header()? {
            if header.last >= tid {
                break;
            }
            self.at += header.len();
            self.last = header.last;
        }
        Ok(())
    }

    // The header of the next batch, its length within the end.
    fn header(&mut self) -> Result<Option<BatchHeader>, Stop> {
        if self.at >= self.end {
            return Ok(None);
        }
        let left = self.end - self.at;
        let bytes = self.bytes(self.at, left.min(BATCH_HEADER_LEN as u64))?;
        let header = BatchHeader::parse(&bytes).map_err(|bad| self.bad(bad))?;
        if header.len() > left {
            return Err(self.bad(BadFrame::Torn("a batch that does not fit before the end")));
        }
        Ok(Some(header))
    }

    fn bad(&self, bad: BadFrame) -> Stop {
        Stop::Bad { offset: self.at, bad }
    }

    // Bytes of the file through the window; the caller keeps them within the end.
    fn bytes(&mut self, at: u64, len: u64) -> Result<Bytes, Stop> {
        if at < self.window_at || at + len > self.window_at + self.window.len() as u64 {
            let wanted = len.max(self.window_next).min(self.end - at);
            self.window_next = (self.window_next * 2).min(WINDOW_BYTES_MAX);
            let mut buffer = vec![0; wanted as usize];
            self.segment.read(&mut buffer, at).map_err(Stop::Store)?;
            self.window = Bytes::from(buffer);
            self.window_at = at;
        }
        let from = (at - self.window_at) as usize;
        Ok(self.window.slice(from..from + len as usize))
    }
}

impl Stop {
    /// The error where a bad batch can only be damage.
    pub(crate) fn damage(self, segment: &Segment) -> StoreError {
        match self {
            Stop::Bad { offset, bad } => segment.damaged(offset, bad.what()),
            Stop::Store(error) => error,
        }
    }
}
