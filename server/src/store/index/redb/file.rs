//! Owns the file of the redb index: what redb reads is checked, what does not fit on a full disk waits in memory, and what fails
//! first is remembered.
//!
//! ```text
//!   redb, durable commit   write page, page, page ... (tens of MB)   sync                              write header   sync
//!   spill                  all of them wait, and reads find them     │                                 │              │
//!   disk                                                             256 KiB, sync, 256 KiB, sync ...  ·              · ─> durable
//! ```
//! redb keeps the pages of commits that need not be durable in its memory, and writes all of them in the next one that is. These go to the disk in
//! slices, so that a commit of the log waits for one of them and not for all: while redb waits for its sync, which holds none of its locks. So readers
//! wait for nothing, and a sync ends when all of it is on the disk, as any does. Nothing reaches what is written before the first sync of a durable
//! commit: it may come to the disk in any order and at any time.

use super::spill::Spill;
use super::sums::Sums;
use crate::store::StoreError;
use crate::store::disk::{Disk, DiskFile, SLICE_BYTES};
use crate::store::index::Failure;
use crate::store::index::files::REDB_FILE;
use crate::store::log::appender::is_full;
use parking_lot::Mutex;
use redb::StorageBackend;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

// More than this is not kept in memory: for a full disk the write fails then, and the index with it; for slices it is written at once.
const SPILL_BYTES_MAX: usize = 64 << 20;

/// The file, its checksums, and what did not fit on the disk yet.
pub(super) struct IndexFile {
    file: Arc<dyn DiskFile>,
    sums: Sums,
    // After this redb refuses everything.
    failure: OnceLock<Failure>,
    // Another one has taken its place: it touches the disk no more.
    abandoned: AtomicBool,
    spill: Mutex<Spill>,
    // Whether there is any: readers look here first and so never wait for a write.
    spilled: AtomicBool,
    // Set during a commit that need not be durable: a sync then is only about the file's length, which redb makes durable
    // whenever it grows the file.
    tentative: AtomicBool,
    // Set during one that is durable: what is written waits for its sync.
    gathers: AtomicBool,
}

impl IndexFile {
    /// Opens the file, or makes it.
    pub(super) fn open(disk: &dyn Disk) -> Result<IndexFile, StoreError> {
        let io = |error| StoreError::Io { what: format!("opening {REDB_FILE}"), error };
        let file = disk.open(REDB_FILE, true).map_err(io)?;
        let sums = Sums::open(disk, file.as_ref())?;
        disk.sync_dir("").map_err(io)?;
        Ok(IndexFile {
            file,
            sums,
            failure: OnceLock::new(),
            abandoned: AtomicBool::new(false),
            spill: Mutex::default(),
            spilled: AtomicBool::new(false),
            tentative: AtomicBool::new(false),
            gathers: AtomicBool::new(false),
        })
    }

    /// What follows is a commit's.
    pub(super) fn begin(&self, durable: bool) {
        self.tentative.store(!durable, Ordering::Release);
        self.gathers.store(durable, Ordering::Release);
    }

    /// The end of it.
    pub(super) fn end(&self) {
        self.tentative.store(false, Ordering::Release);
        self.gathers.store(false, Ordering::Release);
    }

    /// Whether something waits, for room or for its turn.
    pub(super) fn has_spilled(&self) -> bool {
        self.spilled.load(Ordering::Acquire)
    }

    /// What failed first.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// Lets it touch the disk no more.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// What it occupies on the disk.
    pub(super) fn occupied_bytes(&self) -> u64 {
        self.file.occupied_bytes().unwrap_or(0)
    }

    /// Writes what waits.
    pub(super) fn unspill(&self) -> io::Result<()> {
        while self.unspill_next()?.is_some() {}
        Ok(())
    }

    // The next piece, and how long it was.
    fn unspill_next(&self) -> io::Result<Option<usize>> {
        let mut spill = self.spill.lock();
        let Some((at, piece)) = spill.pieces.pop_first() else {
            self.spilled.store(false, Ordering::Release);
            return Ok(None);
        };
        if let Err(error) = self.file.write_all_at(&piece, at) {
            spill.pieces.insert(at, piece);
            return Err(error);
        }
        spill.bytes -= piece.len();
        Ok(Some(piece.len()))
    }

    // The same in slices, each but the last one synced.
    fn unspill_in_slices(&self) -> io::Result<()> {
        let mut bytes = 0;
        while let Some(len) = self.unspill_next()? {
            bytes += len;
            if bytes >= SLICE_BYTES {
                self.file.sync_data()?;
                bytes = 0;
            }
        }
        Ok(())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if !self.has_spilled() {
            self.file.read_exact_at(out, offset)?;
            return self.sums.check(offset, out);
        }
        let spill = self.spill.lock();
        if !spill.has(offset, out.len()) {
            drop(spill);
            self.file.read_exact_at(out, offset)?;
            return self.sums.check(offset, out);
        }
        // What was never written may lie beyond the end: as far as the file goes, then what is kept.
        let there = self.file.len()?.saturating_sub(offset).min(out.len() as u64) as usize;
        out[there..].fill(0);
        self.file.read_exact_at(&mut out[..there], offset)?;
        spill.overlay(offset, out);
        drop(spill);
        self.sums.check(offset, out)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut spill = self.spill.lock();
        if !spill.pieces.is_empty() {
            spill.cut(offset, offset + data.len() as u64);
        }
        let fits = spill.bytes + data.len() <= SPILL_BYTES_MAX;
        let gathers = fits && self.gathers.load(Ordering::Acquire);
        let written = if gathers { None } else { Some(self.file.write_all_at(data, offset)) };
        match written {
            Some(Err(error)) if !(fits && is_full(&error)) => return Err(error),
            Some(Ok(())) => {}
            Some(Err(_)) | None => {
                spill.put(offset, data);
                self.spilled.store(true, Ordering::Release);
            }
        }
        self.sums.wrote(offset, data)
    }

    fn sync(&self) -> io::Result<()> {
        let tentative = self.tentative.load(Ordering::Acquire);
        match self.unspill_in_slices() {
            Err(error) if is_full(&error) && tentative => {}
            other => other?,
        }
        if !tentative {
            self.sums.save()?;
        }
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut spill = self.spill.lock();
        spill.cut(len, u64::MAX);
        self.file.set_len(len)?;
        self.sums.cut(len);
        Ok(())
    }

    // Makes a call, unless the file is given up, and remembers the first that fails.
    fn kept<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.abandoned.load(Ordering::Acquire) {
            return Err(io::Error::other("another index has taken the place of this one"));
        }
        call().inspect_err(|error| {
            let is_damaged = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
            let failure = Failure { what: error.to_string(), kind: error.kind(), is_damaged };
            drop(self.failure.set(failure));
        })
    }
}

/// What redb is given.
pub(super) struct Backend(pub(super) Arc<IndexFile>);

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDB_FILE)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.kept(|| self.0.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.kept(|| self.0.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.kept(|| self.0.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.kept(|| self.0.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.kept(|| self.0.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        match self.0.failure() {
            None if !self.0.has_spilled() => self.0.kept(|| self.0.sums.seal(self.0.file.as_ref())),
            _ => Ok(()),
        }
    }
}
