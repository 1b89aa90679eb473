//! Owns reading the log in order across its segments: a segment that ends before the next one begins is damage, named, and never
//! stepped over.

use super::batches::{Batch, Batches};
use super::segments::{Segment, Segments};
use crate::store::StoreError;
use crate::store::frame::SEGMENT_HEADER_LEN;
use std::sync::Arc;
use zeolite_proto::Tid;

/// Batches in order, from segment to segment, up to what is published.
pub(crate) struct Walk {
    segment: Arc<Segment>,
    batches: Batches,
    // What was given already and may come again, in a segment that took the place of several.
    given: Tid,
}

impl Walk {
    /// From a place where a batch begins, whose tids are greater than `last`.
    pub(crate) fn new(segment: Arc<Segment>, offset: u64, last: Tid) -> Walk {
        let last = if offset == SEGMENT_HEADER_LEN as u64 { last.max(segment.header.base) } else { last };
        Walk { batches: Batches::new(segment.clone(), offset, last), segment, given: Tid::NONE }
    }

    /// Goes over what holds nothing from a tid on in this segment, without reading it.
    pub(crate) fn skip_before(&mut self, tid: Tid) -> Result<(), StoreError> {
        self.batches.skip_before(tid).map_err(|stop| stop.damage(&self.segment))
    }

    /// The next batch; `None`: that was the last one.
    pub(crate) fn next(&mut self, segments: &Segments) -> Result<Option<Batch>, StoreError> {
        loop {
            if let Some(mut batch) = self.batches.next().map_err(|stop| stop.damage(&self.segment))? {
                batch.txns.retain(|parsed| parsed.txn.tid > self.given);
                if batch.txns.is_empty() {
                    continue;
                }
                return Ok(Some(batch));
            }
            let number = self.segment.header.number;
            let next = segments.current_from(number.saturating_add(1)).filter(|next| next.header.number > number);
            let Some(next) = next else { return Ok(None) };
            // What was appended to this one while it was read; with a next one it has its end.
            if self.segment.end() > self.batches.at() {
                self.batches = Batches::new(self.segment.clone(), self.batches.at(), self.batches.last());
                continue;
            }
            let given = self.batches.last();
            if next.header.numbers().contains(&number) {
                // Pack has written the one that was read and those behind it as one meanwhile.
                *self = Walk { given, ..Walk::new(next, SEGMENT_HEADER_LEN as u64, Tid::NONE) };
                self.skip_before(given.next())?;
                continue;
            }
            let last = follows(&self.segment, &self.batches, &next)?;
            *self = Walk::new(next, SEGMENT_HEADER_LEN as u64, last);
        }
    }
}

/// The last tid before a segment that comes behind one that was read to its end. A segment that ends before is damaged; pack may
/// have taken its last transactions.
pub(crate) fn follows(segment: &Segment, read: &Batches, next: &Segment) -> Result<Tid, StoreError> {
    let (last, base) = (read.last(), next.header.base);
    let packed = segment.header.packed_to > Tid::NONE;
    if base < last || (base > last && !packed) {
        let what = format!("the segment ends with {last}, but the next one says that {base} was before it");
        return Err(segment.damaged(read.at(), what));
    }
    Ok(base)
}
