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

use crate::store::disk::{Disk, DiskFile, SLICE_BYTES};
use crate::store::frame::{BATCH_HEADER_LEN, SEGMENT_HEADER_LEN, SegmentHeader, complete, encode_ahead};
use crate::store::log::segments::{LOG_DIR, PART};
use crate::store::pack::give_back;
use crate::store::state::State;
use crate::store::{StoreError, Txn, TxnWrite, Writes};
use bytes::Bytes;
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use zeolite_proto::{CommitKey, Tid};

/// So many are there at once; each takes its room on the disk twice if it is given up.
const FILES_MAX: usize = 4;
/// So much is left for other commits: more than that below which a database is made read-only.
const ROOM_LEFT_BYTES: u64 = 512 << 20;

/// Makes large transactions ready; from any thread.
pub struct Ahead {
    state: Arc<State>,
}

/// The files that are there.
#[derive(Default)]
pub(crate) struct Files {
    there: AtomicUsize,
    made: AtomicU64,
    /// Not needed any more. Who finds that out has no time to remove a large file.
    gone: Mutex<Vec<Made>>,
}

/// A file, and its place among the few.
struct Made {
    path: String,
    file: Arc<dyn DiskFile>,
    _place: Place,
}

impl Files {
    /// Removes what is not needed, in slices.
    pub(crate) fn remove_gone(&self, disk: &dyn Disk) {
        let gone = std::mem::take(&mut *self.gone.lock());
        for Made { path, file, .. } in &gone {
            match disk.remove(path) {
                Ok(()) => give_back::shorten(file.as_ref(), &mut |_| Ok(())).unwrap_or(()),
                Err(error) => {
                    tracing::warn!(path, %error, "a file that was written ahead is left over; the next start removes it");
                }
            }
        }
    }
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

/// A transaction on the disk, but for its beginning. With this the file is not needed any more, unless it has become a segment.
pub(crate) struct AheadFile {
    state: Arc<State>,
    /// None: it is a segment.
    made: Option<Made>,
    pub(crate) file: Arc<dyn DiskFile>,
    body: crc32fast::Hasher,
    of: Unsealed,
}

/// One of the few.
struct Place(Weak<Files>);

impl Place {
    fn taken(files: &Arc<Files>) -> Option<Place> {
        let place = Place(Arc::downgrade(files));
        (files.there.fetch_add(1, Ordering::Relaxed) < FILES_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(files) = self.0.upgrade() {
            files.there.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Ahead {
    pub(crate) fn new(state: Arc<State>) -> Ahead {
        Ahead { state }
    }

    /// Sorts a large transaction's writes, and writes them if they are worth it. Refuses what the log cannot hold.
    pub fn large(&self, writes: Vec<TxnWrite>, of: Unsealed) -> Result<Writes, StoreError> {
        self.state.ahead.remove_gone(self.state.disk.as_ref());
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
        let State { poison, disk, ahead, .. } = self.state.as_ref();
        let free = || disk.free_bytes().unwrap_or(u64::MAX);
        let left = disk.size_bytes().map_or(ROOM_LEFT_BYTES, |size| ROOM_LEFT_BYTES.min(size / 16));
        // Others as large may look at the same room right now.
        let all = len.saturating_mul(FILES_MAX as u64).saturating_add(left);
        poison.get().is_none() && ahead.there.load(Ordering::Relaxed) < FILES_MAX && free() >= all
    }

    fn write(&self, writes: &Writes, of: Unsealed) -> io::Result<Option<AheadFile>> {
        let files = &self.state.ahead;
        let Some(place) = Place::taken(files) else { return Ok(None) };
        let path = format!("{LOG_DIR}/ahead-{}{PART}", files.made.fetch_add(1, Ordering::Relaxed));
        let file = self.state.handles.open(&path, true)?;
        let made = Some(Made { path, file: file.clone(), _place: place });
        let mut ahead = AheadFile { state: self.state.clone(), made, file, body: crc32fast::Hasher::new(), of };
        ahead.fill(writes)?;
        Ok(Some(ahead))
    }
}

impl AheadFile {
    fn fill(&mut self, writes: &Writes) -> io::Result<()> {
        let Unsealed { key, digest, note } = self.of.clone();
        let txn = Txn { tid: Tid::NONE, key, digest, own: false, note, writes: writes.clone() };
        self.file.set_len(0)?;
        let mut end = 0;
        let put = |at: u64, bytes: &[u8]| {
            end = at + bytes.len() as u64;
            // In slices, as large as a live commit's fdatasync may find before it.
            for (n, slice) in bytes.chunks(SLICE_BYTES).enumerate() {
                self.file.write_all_at(slice, SEGMENT_HEADER_LEN as u64 + at + (n * SLICE_BYTES) as u64)?;
                self.file.sync_data()?;
            }
            Ok::<_, io::Error>(())
        };
        self.body = encode_ahead((&mut Vec::new(), SLICE_BYTES), &txn, put)?;
        match writes.run().is_some_and(|run| run.batch_len() == end) {
            true => Ok(()),
            false => Err(io::Error::other("a batch has another length than was counted; report this")),
        }
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
        let disk = &self.state.disk;
        if let Some(made) = &self.made {
            disk.rename(&made.path, path)?;
        }
        self.made = None;
        disk.sync_dir(LOG_DIR)
    }
}

impl Drop for AheadFile {
    fn drop(&mut self) {
        self.state.ahead.gone.lock().extend(self.made.take());
    }
}
