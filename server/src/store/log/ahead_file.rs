//! Owns the file of a transaction that is written before its turn (`ahead`): made, completed and named; or not needed, and removed by who has the time.

use crate::store::disk::{Disk, DiskFile, SLICE_BYTES, shorten};
use crate::store::frame::{BATCH_HEADER_LEN, SEGMENT_HEADER_LEN, SegmentHeader, complete, encode_ahead};
use crate::store::log::segments::{LOG_DIR, PART};
use crate::store::{Txn, Writes};
use bytes::Bytes;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use zeolite_proto::{CommitKey, Tid};

/// So many are there at once; each takes its room on the disk twice if it is given up.
pub(super) const FILES_MAX: usize = 4;

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
    /// Whether one more may be.
    pub(super) fn has_place(&self) -> bool {
        self.there.load(Ordering::Relaxed) < FILES_MAX
    }

    /// Removes what is not needed, in slices.
    pub(crate) fn remove_gone(&self, disk: &dyn Disk) {
        let gone = std::mem::take(&mut *self.gone.lock());
        for Made { path, file, .. } in &gone {
            match disk.remove(path) {
                Ok(()) => {
                    let Ok(()) = shorten(file.as_ref(), |_| Ok::<_, Infallible>(()));
                }
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
    files: Arc<Files>,
    disk: Arc<dyn Disk>,
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

impl AheadFile {
    /// Makes a file; `None`: there are as many as may be.
    pub(super) fn begin(
        files: &Arc<Files>,
        disk: &Arc<dyn Disk>,
        of: Unsealed,
        open: &dyn Fn(&str) -> io::Result<Arc<dyn DiskFile>>,
    ) -> io::Result<Option<AheadFile>> {
        let Some(place) = Place::taken(files) else { return Ok(None) };
        let path = format!("{LOG_DIR}/ahead-{}{PART}", files.made.fetch_add(1, Ordering::Relaxed));
        let file = open(&path)?;
        let made = Some(Made { path, file: file.clone(), _place: place });
        let (files, disk, body) = (files.clone(), disk.clone(), crc32fast::Hasher::new());
        Ok(Some(AheadFile { files, disk, made, file, body, of }))
    }

    pub(super) fn fill(&mut self, writes: &Writes) -> io::Result<()> {
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
        let Some(made) = self.made.take() else { return Ok(()) };
        if let Err(error) = self.disk.rename(&made.path, path) {
            // It may have its name all the same: so what is in it is left alone.
            self.disk.remove(&made.path).ok();
            return Err(error);
        }
        self.disk.sync_dir(LOG_DIR)
    }
}

impl Drop for AheadFile {
    fn drop(&mut self) {
        self.files.gone.lock().extend(self.made.take());
    }
}
