//! Owns reading transactions back from the log, by tid and in order: the feed's replay, receipts after a restart, `log`.

use super::Reader;
use crate::store::frame::SEGMENT_HEADER_LEN;
use crate::store::index::{Table, rows};
use crate::store::log::segments::Segment;
use crate::store::log::walk::Walk;
use crate::store::{StoreError, Txn};
use bytes::Bytes;
use std::ops::Bound;
use std::sync::Arc;
use zeolite_proto::Tid;

impl Reader {
    /// The transactions from `from` up to `to`, in order, as many as fit in a number of bytes of log but at least one;
    /// empty: there is none. Only what is published. Where history was packed, the log tells only what pack has kept: who
    /// must not miss anything compares `from` with [`Reader::packed_to`].
    pub fn txns(&self, from: Tid, to: Tid, bytes_max: u64) -> Result<Vec<Txn>, StoreError> {
        let to = to.min(self.state.published());
        let mut out = Vec::new();
        let mut bytes = 0;
        if from > to {
            return Ok(out);
        }
        let Some((segment, offset)) = self.position_of(from)? else { return Ok(out) };
        let mut walk = Walk::new(segment, offset, Tid::NONE);
        walk.skip_before(from)?;
        while let Some(batch) = walk.next(&self.state.segments)? {
            let (mut wanted, count) = (0, batch.txns.len() as u64);
            for parsed in batch.txns {
                if parsed.txn.tid > to {
                    return Ok(out);
                }
                if parsed.txn.tid >= from {
                    wanted += 1;
                    out.push(parsed.txn);
                }
            }
            bytes += batch.len * wanted / count.max(1);
            if bytes >= bytes_max && !out.is_empty() {
                break;
            }
        }
        Ok(out)
    }

    /// The transactions up to `to` that lie together with the newest of them, down to `from`, the newest first; empty: there
    /// is none. So many as some 64 KiB of log hold, at least one batch.
    pub fn txns_back(&self, from: Tid, to: Tid) -> Result<Vec<Txn>, StoreError> {
        let mut to = to.min(self.state.published());
        while from <= to && to > Tid::NONE {
            let begin = self.place_before(to)?;
            let mut txns = self.txns(begin.max(from), to, u64::MAX)?;
            if !txns.is_empty() {
                txns.reverse();
                return Ok(txns);
            }
            // Pack has taken all of them: further back.
            to = begin.prev();
        }
        Ok(Vec::new())
    }

    // The first tid of a batch not behind a tid: of the last one that waits, or that the index knows the place of.
    fn place_before(&self, tid: Tid) -> Result<Tid, StoreError> {
        if let Some(first) = self.state.overlay.first_of(tid) {
            return Ok(first);
        }
        let mut first = Tid(1);
        let to = rows::tid_key(tid);
        let view = self.state.index.view()?;
        view.range(Table::Places, Bound::Unbounded, Bound::Included(&to), true, &mut |key, _| {
            first = rows::tid_of_key(key).unwrap_or(first);
            false
        })?;
        Ok(first)
    }

    /// One transaction; `None`: there is none with this tid, or pack has taken it.
    pub fn txn(&self, tid: Tid) -> Result<Option<Txn>, StoreError> {
        Ok(self.txns(tid, tid, 1)?.into_iter().find(|txn| txn.tid == tid))
    }

    /// The notes of transactions, in the order asked; none for one that there is not. A batch is read once for those of its
    /// transactions that are asked for in a row.
    pub fn notes(&self, tids: &[Tid]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut batch: Vec<(Tid, Bytes)> = Vec::new();
        let mut notes = Vec::with_capacity(tids.len());
        for tid in tids {
            let within = batch.first().is_some_and(|(first, _)| first <= tid)
                && batch.last().is_some_and(|(last, _)| tid <= last);
            if !within {
                batch = self.notes_beside(*tid)?;
            }
            notes.push(batch.iter().find(|(of, _)| of == tid).map(|(_, note)| note.clone()));
        }
        Ok(notes)
    }

    // The notes of the batch that a transaction is in.
    fn notes_beside(&self, tid: Tid) -> Result<Vec<(Tid, Bytes)>, StoreError> {
        if tid > self.state.published() {
            return Ok(Vec::new());
        }
        let Some((segment, offset)) = self.position_of(tid)? else { return Ok(Vec::new()) };
        let mut walk = Walk::new(segment, offset, Tid::NONE);
        walk.skip_before(tid)?;
        #[cfg(test)]
        self.state.batches_read.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // A note alone: the batch that it is a piece of is not kept for it.
        let note = |txn: Txn| (txn.tid, Bytes::copy_from_slice(&txn.note));
        let batch = walk.next(&self.state.segments)?;
        Ok(batch.into_iter().flat_map(|batch| batch.txns).map(|parsed| note(parsed.txn)).collect())
    }

    /// How much log lies from a tid on: what replaying it would cost, within 64 KiB and a batch.
    pub fn log_bytes_since(&self, tid: Tid) -> Result<u64, StoreError> {
        let Some((from, offset)) = self.position_of(tid)? else { return Ok(0) };
        if tid > self.state.published() {
            return Ok(0);
        }
        let segments = self.state.segments.current();
        let after = segments.iter().filter(|segment| segment.header.number > from.header.number);
        Ok(after.map(|segment| segment.end()).sum::<u64>() + from.end().saturating_sub(offset))
    }

    // Where a batch begins that is not behind a tid.
    fn position_of(&self, tid: Tid) -> Result<Option<(Arc<Segment>, u64)>, StoreError> {
        let mut position = self.state.overlay.position_of(tid);
        if position.is_none() {
            let to = rows::tid_key(tid);
            let view = self.state.index.view()?;
            view.range(Table::Places, Bound::Unbounded, Bound::Included(&to), true, &mut |_, row| {
                position = rows::parse_position(row);
                false
            })?;
        }
        let start = SEGMENT_HEADER_LEN as u64;
        let Some(position) = position else {
            return Ok(self.state.segments.current_from(1).map(|segment| (segment, start)));
        };
        // A generation that pack has replaced: its offsets mean nothing any more, so from the segment's beginning.
        Ok(match self.state.segments.find(position.segment, position.generation) {
            Some(segment) if position.offset >= segment.end() => {
                let what = format!("the segment ends here, and a batch was written at {}", position.offset);
                return Err(segment.damaged(segment.end(), what));
            }
            Some(segment) => Some((segment, position.offset)),
            None => self.state.segments.current_from(position.segment).map(|segment| (segment, start)),
        })
    }
}
