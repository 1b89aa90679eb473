//! Owns what becomes of the log that the index does not cover when a store is opened.
//!
//! ```text
//!   log    ... covered by the index | the rest
//!   new index                         goes into it, in commits of many thousands of revisions, with checkpoints
//!   else                              stays in memory, as if it had just been published: the settler takes it beside the traffic;
//!                                     of a rest that is too large for that, the oldest part goes into the index first
//! ```
//! What stays in memory costs a start a microsecond a revision instead of eight, and needs no room on the disk: so a full disk does not keep a store
//! from being read either. An interrupted rebuild goes on where its last checkpoint was.

use super::disk::Disk;
use super::index::live::LiveIndex;
use super::index::writer::{Draft, IndexWriter};
use super::kinds::Kinds;
use super::log::batches::Batch;
use super::log::segments::Segment;
use super::overlay::{Prepared, Slots};
use super::recover::{LogEnd, replay};
use super::settings::StoreSettings;
use super::{Progress, StoreError};
use std::collections::VecDeque;
use std::sync::Arc;

// So many revisions or so much log make a commit: some 40 MiB of memory. Rows of one commit share pages, so larger ones
// write less.
const COMMIT_REVISIONS: usize = 200_000;
const COMMIT_BYTES: u64 = 32 << 20;

// So much log between two words of how far it is.
const SAID_BYTES: u64 = 1 << 20;

// This part of what may wait in memory is left to the first commits.
const FREE_PART: u64 = 8;

/// What the replay found and what it did not put into the index.
pub(super) struct Filled {
    pub(super) end: LogEnd,
    pub(super) replayed_bytes: u64,
    /// For the overlay, in order.
    pub(super) waiting: VecDeque<Prepared>,
}

/// What is needed to read batches and to put them into the index.
pub(super) struct Filler<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) index: &'a LiveIndex,
    pub(super) writer: &'a mut IndexWriter,
    pub(super) kinds: &'a Kinds,
    pub(super) settings: &'a StoreSettings,
    pub(super) chosen: &'a [Arc<Segment>],
}

// What stays in memory so far.
#[derive(Default)]
struct Tail {
    batches: VecDeque<Prepared>,
    bytes: u64,
    // There is no room for the index.
    full: bool,
}

impl Filler<'_> {
    /// Reads what the index lacks, and cuts a torn tail. `anew`: it lacks everything.
    pub(super) fn fill(mut self, anew: bool, progress: &mut dyn FnMut(Progress)) -> Result<Filled, StoreError> {
        let from = *self.writer.covered();
        let rest = self.rest();
        let all_bytes = rest.iter().map(|segment| segment.end()).sum::<u64>().saturating_sub(from.position.offset);
        let told = |done_bytes| Progress { done_bytes, all_bytes, anew };
        progress(told(0));
        let (mut replayed_bytes, mut said_bytes) = (0, 0);
        let mut tail = Tail::default();
        let mut draft = self.writer.draft();
        let end = replay(self.disk, &rest, from.position.offset, from.last, &mut |batch: Batch| {
            replayed_bytes += batch.len;
            if replayed_bytes - said_bytes >= SAID_BYTES {
                said_bytes = replayed_bytes;
                progress(told(replayed_bytes));
            }
            match anew {
                true if tail.full => Ok(()),
                true => self.take(&mut draft, &batch, &mut tail.full),
                false => self.keep(&mut tail, batch),
            }
        })?;
        if anew {
            tail.full = tail.full || !self.commit(draft)?;
        }
        progress(told(replayed_bytes));
        if anew && tail.full {
            // What is not in the index is read again.
            let from = *self.writer.covered();
            replay(self.disk, &self.rest(), from.position.offset, from.last, &mut |batch| self.keep(&mut tail, batch))?;
        }
        if tail.full {
            tracing::warn!(tail.bytes, "the disk is full: the end of the log stays in memory until the index has room");
        }
        Ok(Filled { end, replayed_bytes, waiting: tail.batches })
    }

    // Into the index. Nothing is committed while a draft lasts, so each view sees what the first one did.
    fn take(&mut self, draft: &mut Draft, batch: &Batch, full: &mut bool) -> Result<(), StoreError> {
        let view = self.index.view()?;
        let slots = Slots { kinds: self.kinds, settings: self.settings };
        self.writer.add_batch(draft, view.as_ref(), batch, &slots)?;
        drop(view);
        if draft.len() >= COMMIT_REVISIONS || draft.log_bytes() >= COMMIT_BYTES {
            let done = std::mem::replace(draft, self.writer.draft());
            *full = !self.commit(done)?;
            *draft = self.writer.draft();
        }
        Ok(())
    }

    // Into memory; when that is too much, the oldest into the index.
    fn keep(&mut self, tail: &mut Tail, batch: Batch) -> Result<(), StoreError> {
        let records: Vec<_> = batch.txns.iter().flat_map(|parsed| parsed.records.iter().copied()).collect();
        let txns: Vec<_> = batch.txns.into_iter().map(|parsed| parsed.txn).collect();
        let slots = Slots { kinds: self.kinds, settings: self.settings };
        let prepared = Prepared::new(batch.position, batch.len, &txns, &records, &slots);
        tail.bytes += prepared.bytes();
        tail.batches.push_back(prepared);
        let bytes_max = self.settings.overlay_bytes_max;
        if !tail.full && tail.bytes > bytes_max - bytes_max / FREE_PART {
            tail.full = !self.settle_oldest(tail)?;
        }
        if tail.full && tail.bytes > bytes_max { Err(StoreError::DiskFull) } else { Ok(()) }
    }

    // A commit's worth of what is in memory, or half of it; whether there was room.
    fn settle_oldest(&mut self, tail: &mut Tail) -> Result<bool, StoreError> {
        let (mut draft, view) = (self.writer.draft(), self.index.view()?);
        let (mut count, mut bytes) = (0, 0);
        for prepared in &tail.batches {
            self.writer.add_waiting(&mut draft, view.as_ref(), prepared.unsettled())?;
            count += 1;
            bytes += prepared.bytes();
            if draft.len() >= COMMIT_REVISIONS || draft.log_bytes() >= COMMIT_BYTES || bytes >= tail.bytes / 2 {
                break;
            }
        }
        drop(view);
        if !self.commit(draft)? {
            return Ok(false);
        }
        tail.batches.drain(..count);
        tail.bytes -= bytes;
        Ok(true)
    }

    // Whether there was room.
    fn commit(&mut self, draft: Draft) -> Result<bool, StoreError> {
        let durable = self.writer.is_checkpoint_due(draft.log_bytes(), draft.len());
        match self.writer.commit(self.index, self.kinds, draft, durable) {
            Ok(()) => Ok(true),
            Err(StoreError::DiskFull) => Ok(false),
            Err(error) => Err(error),
        }
    }

    // The segments from where the index ends.
    fn rest(&self) -> Vec<Arc<Segment>> {
        let from = self.writer.covered().position.segment;
        self.chosen.iter().filter(|segment| segment.header.number >= from).cloned().collect()
    }
}
