//! Owns the copying of one segment, or of several neighbours as one, into the next generation of the last of them, without what
//! goes.
//!
//! ```text
//!   0000000003.0000.seg ──┐
//!   0000000004.0002.seg ──┼── kept writes, with their transactions ────> 0000000005.0001.seg.part: stands for 3 to 5
//!   0000000005.0000.seg ──┘                written and synced in slices; complete: renamed to 0000000005.0001.seg
//! ```
//! A file has a segment's name only when it is complete and on the disk, so opening may trust the newest generation it
//! finds even when there is no index. Every transaction keeps its tid, commit key and note; one of which nothing is left
//! goes too, unless its commit key may still be asked for.

use super::keep::{Rule, Verdict};
use super::{Stage, Stepper};
use crate::store::disk::{DiskFile, SLICE_BYTES};
use crate::store::frame::{LOG_FORMAT, SEGMENT_HEADER_LEN, SegmentHeader, batch_len, encode_batch};
use crate::store::index::rows::Revision;
use crate::store::index::{Table, View, bad_row, keys};
use crate::store::log::appender::is_full;
use crate::store::log::batches::{Batch, Batches};
use crate::store::log::handles;
use crate::store::log::segments::{LOG_DIR, PART, Segment, segment_path};
use crate::store::state::State;
use crate::store::{StoreError, Txn, TxnWrite};
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use zeolite_proto::Tid;

// Transactions are gathered into batches of about this size; smaller in tests, so that they see the seams.
const BATCH_BYTES: u64 = if cfg!(test) { 1024 } else { 256 << 10 };
const BATCH_TXNS: usize = 1024;
// Room that must be left for commits while what stays of a segment is on the disk twice.
const ROOM_LEFT_BYTES: u64 = 64 << 20;

/// What goes.
pub(crate) struct Cut<'a> {
    /// History before this.
    pub(crate) to: Tid,
    /// Objects that nothing refers to.
    pub(crate) garbage: &'a RoaringTreemap,
    /// How many bytes of records go from which segment: so much less room is needed for what stays.
    pub(crate) goes: BTreeMap<u32, u64>,
    /// A transaction newer than this is kept even when nothing of it is left, for its commit key.
    pub(crate) keys_after: Tid,
}

/// Writes the next generation of the last of these neighbours, which stands for all of them; `None`: it is one only and nothing
/// goes from it, so it stays as it is.
pub(crate) fn copy(
    state: &State,
    olds: &[Arc<Segment>],
    cut: &Cut<'_>,
    step: &mut Stepper<'_>,
) -> Result<Option<Arc<Segment>>, StoreError> {
    let (Some(first), Some(last)) = (olds.first(), olds.last()) else { return Ok(None) };
    let number = last.header.number;
    let Some(generation) = last.header.generation.checked_add(1) else {
        return Err(StoreError::Refused { what: format!("segment {number} was packed 65,535 times; copy the store") });
    };
    let goes = |old: &Arc<Segment>| cut.goes.get(&old.header.number).copied().unwrap_or(0);
    leaves_room(state, olds.iter().map(|old| old.end().saturating_sub(goes(old))).sum())?;
    let packed_to = olds.iter().map(|old| old.header.packed_to).fold(cut.to, Tid::max);
    // What is written anew is written in the format of today, and begins where the first of them begins.
    let header = SegmentHeader { format: LOG_FORMAT, number, generation, packed_to, len: 0, ..first.header };
    let path = format!("{}{PART}", segment_path(number, generation));
    let copied = Writer::begin(state, header, &path).and_then(|writer| fill(state, olds, cut, writer, step));
    match copied {
        Ok(Some((header, end))) => finish(state, &path, header, end).map(Some).inspect_err(|_| {
            remove(state, &path);
            remove(state, &segment_path(number, generation));
        }),
        Ok(None) => {
            remove(state, &path);
            Ok(None)
        }
        Err(error) => {
            remove(state, &path);
            Err(error)
        }
    }
}

fn leaves_room(state: &State, bytes: u64) -> Result<(), StoreError> {
    let free = state.disk.free_bytes().unwrap_or(u64::MAX);
    // On a small disk a sixteenth of it.
    let left = state.disk.size_bytes().map_or(ROOM_LEFT_BYTES, |size| ROOM_LEFT_BYTES.min(size / 16));
    if free < bytes.saturating_add(left) { Err(StoreError::DiskFull) } else { Ok(()) }
}

// Copies what stays; the header and the end of the file, or `None` when the file would say nothing new.
fn fill(
    state: &State,
    olds: &[Arc<Segment>],
    cut: &Cut<'_>,
    mut writer: Writer<'_>,
    step: &mut Stepper<'_>,
) -> Result<Option<(SegmentHeader, u64)>, StoreError> {
    let all = olds.iter().map(|old| old.end()).sum();
    let (mut went, mut before) = (olds.len() > 1, 0);
    let base = writer.header.base;
    for old in olds {
        let mut batches = Batches::new(old.clone(), SEGMENT_HEADER_LEN as u64, old.header.base);
        while let Some(batch) = batches.next().map_err(|stop| stop.damage(old))? {
            went |= keep(state, (cut, base), batch, &mut writer)?;
            if writer.is_full() {
                writer.write()?;
                leaves_room(state, 0)?;
                step(Stage::Copy, before + batches.at(), all)?;
            }
        }
        before += old.end();
    }
    writer.write()?;
    writer.seal()?;
    Ok(went.then_some(writer.header).zip(Some(writer.end)))
}

// Gives the writer what stays of a batch; whether anything went.
fn keep(
    state: &State,
    (cut, base): (&Cut<'_>, Tid),
    batch: Batch,
    writer: &mut Writer<'_>,
) -> Result<bool, StoreError> {
    let mut went = false;
    let view = state.index.view()?;
    for parsed in batch.txns {
        let mut txn = parsed.txn;
        let mut writes = Vec::with_capacity(txn.writes.len());
        for write in txn.writes {
            if stays(view.as_ref(), (cut, base), txn.tid, &write)? {
                writes.push(write);
            } else {
                went = true;
            }
        }
        txn.writes = writes;
        if txn.writes.is_empty() && txn.tid <= cut.keys_after {
            went = true;
        } else {
            writer.push(txn);
        }
    }
    Ok(went)
}

// Whether a write stays of what was written behind a base: older revisions are in the index only if they stay.
fn stays(view: &dyn View, (cut, base): (&Cut<'_>, Tid), tid: Tid, write: &TxnWrite) -> Result<bool, StoreError> {
    if tid > cut.to {
        return Ok(true);
    }
    if cut.garbage.contains(write.cell.oid.0) {
        return Ok(false);
    }
    // The newest revision that a snapshot at the cut sees. One that is not in the index went in an earlier pack.
    let (from, end) = (keys::revision(&write.cell, cut.to), keys::after_cell(write.cell.oid, &write.cell.key));
    let mut rule = Rule::new(cut.to);
    let (mut newest, mut bad) = (None, false);
    view.range(Table::Revisions, Bound::Included(&from), Bound::Excluded(&end), false, &mut |key, row| {
        newest = rule.judge(key, Revision::is_deleted(row));
        bad = newest.is_none();
        false
    })?;
    match newest.filter(|(seen, _)| *seen == tid) {
        _ if bad => Err(bad_row(Table::Revisions)),
        None => Ok(false),
        Some((_, Verdict::Seen | Verdict::Young)) => Ok(true),
        // A deletion: it waits for what it deletes.
        Some((_, Verdict::Past)) => {
            let (from, mut waits) = (keys::revision(&write.cell, base), false);
            view.range(Table::Revisions, Bound::Included(&from), Bound::Excluded(&end), false, &mut |_, _| {
                waits = true;
                false
            })?;
            Ok(waits)
        }
    }
}

// Gives the complete file its name.
fn finish(state: &State, path: &str, header: SegmentHeader, end: u64) -> Result<Arc<Segment>, StoreError> {
    let disk = state.disk.as_ref();
    let named = segment_path(header.number, header.generation);
    let io = |error| StoreError::Io { what: format!("naming {named}"), error };
    disk.rename(path, &named).and_then(|()| disk.sync_dir(LOG_DIR)).map_err(io)?;
    Ok(Arc::new(Segment::new(header, state.handles.lazy(named), end)))
}

/// Removes a file that is not to count.
pub(crate) fn remove(state: &State, path: &str) {
    if let Err(error) = state.disk.remove(path).and_then(|()| state.disk.sync_dir(LOG_DIR)) {
        tracing::warn!(path, %error, "an unfinished file of pack is left over; the next start removes it");
    }
}

/// The file that is being written.
struct Writer<'a> {
    path: &'a str,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    txns: Vec<Txn>,
    waiting_bytes: u64,
    buffer: Vec<u8>,
    end: u64,
    unsynced_bytes: usize,
}

impl Writer<'_> {
    fn begin<'a>(state: &State, header: SegmentHeader, path: &'a str) -> Result<Writer<'a>, StoreError> {
        let file = state.handles.open(path, true).and_then(|file| {
            file.set_len(0)?;
            file.write_all_at(&header.encode(), 0)?;
            Ok(file)
        });
        let (file, end) = (file.map_err(|error| failed(path, error))?, SEGMENT_HEADER_LEN as u64);
        let (txns, buffer) = (Vec::new(), Vec::new());
        Ok(Writer { path, file, header, txns, waiting_bytes: 0, buffer, end, unsynced_bytes: 0 })
    }

    fn push(&mut self, txn: Txn) {
        let size = |write: &TxnWrite| 32 + (write.cell.key.len() + write.record.as_ref().map_or(0, |r| r.len())) as u64;
        self.waiting_bytes += 40 + txn.note.len() as u64 + txn.writes.iter().map(size).sum::<u64>();
        self.txns.push(txn);
    }

    fn is_full(&self) -> bool {
        self.waiting_bytes >= BATCH_BYTES || self.txns.len() >= BATCH_TXNS
    }

    fn write(&mut self) -> Result<(), StoreError> {
        if self.txns.is_empty() {
            return Ok(());
        }
        let len = batch_len(&self.txns)?;
        encode_batch(&mut self.buffer, (self.header.salt(), len), &self.txns, &mut Vec::new());
        let (buffer, mut at) = (std::mem::take(&mut self.buffer), self.end);
        for piece in buffer.chunks(SLICE_BYTES) {
            self.file.write_all_at(piece, at).map_err(|error| failed(self.path, error))?;
            at += piece.len() as u64;
            self.unsynced_bytes += piece.len();
            if self.unsynced_bytes >= SLICE_BYTES {
                self.sync()?;
            }
        }
        self.buffer = buffer;
        self.txns.clear();
        self.waiting_bytes = 0;
        self.end += len;
        Ok(())
    }

    // Says in the header how long the file is, and makes it durable.
    fn seal(&mut self) -> Result<(), StoreError> {
        self.header.len = u32::try_from(self.end).unwrap_or(0);
        let header = self.header.encode();
        self.file.write_all_at(&header, 0).map_err(|error| failed(self.path, error))?;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.unsynced_bytes = 0;
        self.file.sync_data().map_err(|error| failed(self.path, error))
    }
}

// A failure here poisons nothing: the log itself was not touched.
fn failed(path: &str, error: io::Error) -> StoreError {
    if is_full(&error) { StoreError::DiskFull } else { handles::failed(format!("writing {path}"), error) }
}
