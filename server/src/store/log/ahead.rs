//! Owns a large transaction that is written before its turn: to a file of its own, which becomes the next segment of the log when its turn comes.
//!
//! ```text
//!   caller's thread   ......................| all that it writes, encoded, synced in slices     log/ahead-7.part
//!   appender          header | batch | tid  |                                                   log/0000000012.0000.seg
//! ```
//! What only its turn tells are the first hundred bytes: number and base of the segment, the tid, the batch's checksum (of which the part that
//! covers the rest is known). So whoever waits behind it waits for these, not for the rest; and on the disk it is what it would have been:
//! a segment that begins with a batch.
//!
//! A file that has no segment's name is no part of the log: one that is not needed is removed, here or at the next start. When it cannot be made,
//! for want of room or because [`FILES_MAX`] are there, the transaction is written in its turn like others.

use crate::store::disk::{Disk, DiskFile};
use crate::store::frame::{BATCH_HEADER_LEN, SEGMENT_HEADER_LEN, SegmentHeader, complete, encode_ahead};
use crate::store::log::segments::{LOG_DIR, PART};
use crate::store::state::State;
use crate::store::{StoreError, Txn, TxnWrite, Writes};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use zeolite_proto::{CommitKey, Tid};

/// So many are there at once; each takes its room on the disk twice if it is given up.
const FILES_MAX: usize = 4;
/// After so many bytes they are synced: a live commit's fdatasync never waits for more of ours.
const SYNC_BYTES: usize = if cfg!(test) { 512 } else { 512 << 10 };
/// So much is left for other commits: more than that below which a database is made read-only.
const ROOM_LEFT_BYTES: u64 = 512 << 20;

/// Makes large transactions ready; from any thread.
pub struct Ahead {
    state: Arc<State>,
    files: Arc<Files>,
}

#[derive(Default)]
struct Files {
    there: AtomicUsize,
    made: AtomicU64,
}

/// What is known of a transaction before it has a tid.
#[derive(Clone, Debug)]
pub struct Unsealed {
    /// The committer's key.
    pub key: CommitKey,
    /// Of the draft.
    pub digest: u64,
    /// Encoded.
    pub note: Bytes,
}

/// A transaction on the disk, but for its beginning. Removed with this, unless it has become a segment.
pub(crate) struct AheadFile {
    disk: Arc<dyn Disk>,
    path: String,
    pub(crate) file: Arc<dyn DiskFile>,
    body: crc32fast::Hasher,
    of: Unsealed,
    is_named: bool,
    _place: Place,
}

/// One of the few.
struct Place(Arc<Files>);

impl Place {
    fn taken(files: &Arc<Files>) -> Option<Place> {
        let place = Place(files.clone());
        (files.there.fetch_add(1, Ordering::Relaxed) < FILES_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.there.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ahead {
    pub(crate) fn new(state: Arc<State>) -> Ahead {
        Ahead { state, files: Arc::default() }
    }

    /// Sorts a large transaction's writes, and writes them if they are worth it. Refuses what the log cannot hold.
    pub fn large(&self, writes: Vec<TxnWrite>, of: Unsealed) -> Result<Writes, StoreError> {
        let mut writes = Writes::large(writes, of.note.len())?;
        let len = writes.run().map_or(0, |run| run.batch_len());
        if len < self.state.settings.ahead_bytes_min || !self.has_room(len) {
            return Ok(writes);
        }
        match self.write(&writes, of) {
            Ok(Some(file)) => writes.set_ahead(file),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "a large transaction is written in its turn"),
        }
        Ok(writes)
    }

    fn has_room(&self, len: u64) -> bool {
        let State { poison, disk, .. } = self.state.as_ref();
        let free = || disk.free_bytes().unwrap_or(u64::MAX);
        let left = disk.size_bytes().map_or(ROOM_LEFT_BYTES, |size| ROOM_LEFT_BYTES.min(size / 16));
        // Others as large may look at the same room right now.
        let all = len.saturating_mul(FILES_MAX as u64).saturating_add(left);
        poison.get().is_none() && self.files.there.load(Ordering::Relaxed) < FILES_MAX && free() >= all
    }

    fn write(&self, writes: &Writes, of: Unsealed) -> io::Result<Option<AheadFile>> {
        let Some(place) = Place::taken(&self.files) else { return Ok(None) };
        let files = &self.files;
        let path = format!("{LOG_DIR}/ahead-{}{PART}", files.made.fetch_add(1, Ordering::Relaxed));
        let file = self.state.handles.open(&path, true)?;
        let (disk, body) = (self.state.disk.clone(), crc32fast::Hasher::new());
        let mut ahead = AheadFile { disk, path, file, body, of, is_named: false, _place: place };
        ahead.fill(writes)?;
        Ok(Some(ahead))
    }
}

impl AheadFile {
    fn fill(&mut self, writes: &Writes) -> io::Result<()> {
        let Unsealed { key, digest, note } = self.of.clone();
        let txn = Txn { tid: Tid::NONE, key, digest, own: false, note, writes: writes.clone() };
        self.file.set_len(0)?;
        let put = |at: u64, bytes: &[u8]| {
            self.file.write_all_at(bytes, SEGMENT_HEADER_LEN as u64 + at)?;
            self.file.sync_data()
        };
        self.body = encode_ahead((&mut Vec::new(), SYNC_BYTES), &txn, put)?;
        Ok(())
    }

    /// Whether it has this transaction.
    pub(crate) fn is_of(&self, txn: &Txn) -> bool {
        let Unsealed { key, digest, note } = &self.of;
        !txn.own && (key, digest, note) == (&txn.key, &txn.digest, &txn.note)
    }

    /// Writes the beginning, and makes the whole durable. On an error it is as it was: no part of the log.
    pub(crate) fn complete(&self, header: &SegmentHeader, txn: &Txn) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LEN + BATCH_HEADER_LEN + 8);
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&complete(&self.body, header.salt(), txn));
        self.file.write_all_at(&bytes, 0)?;
        self.file.sync_data()
    }

    /// Gives it its name in the log. It stays whatever comes of that.
    pub(crate) fn name(&mut self, path: &str) -> io::Result<()> {
        self.disk.rename(&self.path, path)?;
        self.is_named = true;
        self.disk.sync_dir(LOG_DIR)
    }
}

impl Drop for AheadFile {
    fn drop(&mut self) {
        if !self.is_named
            && let Err(error) = self.disk.remove(&self.path)
        {
            tracing::warn!(path = self.path, %error, "a file that was written ahead is left over; the next start removes it");
        }
    }
}
