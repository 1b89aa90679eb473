//! Owns bringing the index up to the end of the log at open: from where it ends, or from the beginning when it is new.
//!
//! It goes through the same [`IndexWriter`] as settling does, in commits of many thousands of revisions, with checkpoints,
//! so that an interrupted rebuild goes on where it was. When the disk has no room for the index, what is missing stays in
//! memory instead, as if it had just been published: a full disk does not keep the store from being read.

use super::disk::Disk;
use super::index::live::LiveIndex;
use super::index::writer::IndexWriter;
use super::kinds::Kinds;
use super::log::appender::slot;
use super::log::batches::Batch;
use super::log::segments::Segment;
use super::overlay::Prepared;
use super::recover::{LogEnd, replay};
use super::settings::StoreSettings;
use super::{Progress, StoreError, TxnWrite};
use std::sync::Arc;

// So many revisions or so much log make a commit: some 40 MiB of memory. Rows of one commit share pages, so larger ones
// write less.
const COMMIT_REVISIONS: usize = 200_000;
const COMMIT_BYTES: u64 = 32 << 20;

// So much log between two words of how far it is.
const SAID_BYTES: u64 = 1 << 20;

/// What the replay found and what it could not put into the index.
pub(super) struct Filled {
    pub(super) end: LogEnd,
    pub(super) replayed_bytes: u64,
    /// For the overlay: batches for which there was no room, in order.
    pub(super) waiting: Vec<Prepared>,
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

impl Filler<'_> {
    /// Replays what the index lacks, and cuts a torn tail. `anew`: it lacks everything.
    pub(super) fn fill(mut self, anew: bool, progress: &mut dyn FnMut(Progress)) -> Result<Filled, StoreError> {
        let from = *self.writer.covered();
        let rest = self.rest();
        let all_bytes = rest.iter().map(|segment| segment.end()).sum::<u64>().saturating_sub(from.position.offset);
        let told = |done_bytes| Progress { done_bytes, all_bytes, anew };
        progress(told(0));
        let (mut replayed_bytes, mut said_bytes) = (0, 0);
        let mut full = false;
        let mut draft = self.writer.draft();
        let end = replay(self.disk, &rest, from.position.offset, from.last, &mut |batch: Batch| {
            replayed_bytes += batch.len;
            if replayed_bytes - said_bytes >= SAID_BYTES {
                said_bytes = replayed_bytes;
                progress(told(replayed_bytes));
            }
            if full {
                return Ok(());
            }
            // Nothing is committed while a draft lasts, so each view sees what the first one did.
            let view = self.index.view()?;
            let slot = |write: &TxnWrite, place| slot(self.kinds, self.settings, write, place);
            self.writer.add_batch(&mut draft, view.as_ref(), &batch, slot)?;
            drop(view);
            if draft.len() >= COMMIT_REVISIONS || draft.log_bytes() >= COMMIT_BYTES {
                let done = std::mem::replace(&mut draft, self.writer.draft());
                full = !self.commit(done)?;
                draft = self.writer.draft();
            }
            Ok(())
        })?;
        full = full || !self.commit(draft)?;
        progress(told(replayed_bytes));
        let waiting = if full { self.waiting()? } else { Vec::new() };
        Ok(Filled { end, replayed_bytes, waiting })
    }

    // Whether there was room.
    fn commit(&mut self, draft: super::index::writer::Draft) -> Result<bool, StoreError> {
        let durable = self.writer.unsaved_bytes() + draft.log_bytes() >= self.settings.checkpoint_log_bytes;
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

    // Reads again what is not in the index, to be kept in memory, if it is not too much for that.
    fn waiting(&self) -> Result<Vec<Prepared>, StoreError> {
        let from = self.writer.covered();
        let (mut waiting, mut bytes) = (Vec::new(), 0);
        replay(self.disk, &self.rest(), from.position.offset, from.last, &mut |batch: Batch| {
            let records: Vec<_> = batch.txns.iter().flat_map(|parsed| parsed.records.iter().copied()).collect();
            let txns: Vec<_> = batch.txns.into_iter().map(|parsed| parsed.txn).collect();
            let prepared = Prepared::new(batch.position, batch.len, &txns, &records, |write, place| {
                slot(self.kinds, self.settings, write, place)
            });
            bytes += prepared.bytes();
            waiting.push(prepared);
            if bytes > self.settings.overlay_bytes_max { Err(StoreError::DiskFull) } else { Ok(()) }
        })?;
        tracing::warn!(bytes, "the disk is full: the end of the log stays in memory until the index has room");
        Ok(waiting)
    }
}
