//! Owns the file of the redb index: what redb reads is checked, what does not fit on a full disk waits in memory, and what fails
//! first is remembered.

use super::sums::Sums;
use crate::store::StoreError;
use crate::store::disk::{Disk, DiskFile};
use crate::store::index::Failure;
use crate::store::index::files::REDB_FILE;
use crate::store::log::appender::is_full;
use parking_lot::Mutex;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

// More than this is not kept in memory for a full disk; then the write fails, and the index with it.
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
}

// The pieces never overlap, so that one is found by where it begins; redb writes whole pages at the same offsets.
#[derive(Default)]
pub(super) struct Spill {
    pub(super) pieces: BTreeMap<u64, Vec<u8>>,
    pub(super) bytes: usize,
}

impl Spill {
    // Puts a piece over whatever it covers.
    pub(super) fn put(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        self.cut(offset, end);
        self.bytes += data.len();
        self.pieces.insert(offset, data.to_vec());
    }

    // Takes a range out; what sticks out at either side stays.
    pub(super) fn cut(&mut self, from: u64, to: u64) {
        let mut hit: Vec<u64> = self.pieces.range(from..to).map(|(at, _)| *at).collect();
        if let Some((at, piece)) = self.pieces.range(..from).next_back()
            && at + piece.len() as u64 > from
        {
            hit.push(*at);
        }
        for at in hit {
            let Some(piece) = self.pieces.remove(&at) else { continue };
            self.bytes -= piece.len();
            let end = at + piece.len() as u64;
            if at < from {
                self.put(at, &piece[..(from - at) as usize]);
            }
            if end > to {
                self.put(to, &piece[(to - at) as usize..]);
            }
        }
    }

    pub(super) fn overlay(&self, offset: u64, out: &mut [u8]) {
        let end = offset + out.len() as u64;
        for (at, piece) in self.pieces.range(..end).rev() {
            let (from, to) = (offset.max(*at), end.min(at + piece.len() as u64));
            if to <= from {
                // The pieces before lie further down still.
                break;
            }
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&piece[(from - at) as usize..(to - at) as usize]);
        }
    }
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
        })
    }

    /// What a commit does that need not be durable, or the end of it.
    pub(super) fn set_tentative(&self, tentative: bool) {
        self.tentative.store(tentative, Ordering::Release);
    }

    /// Whether something waits for room.
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

    /// Writes what waits for room.
    pub(super) fn unspill(&self) -> io::Result<()> {
        let mut spill = self.spill.lock();
        while let Some((at, piece)) = spill.pieces.pop_first() {
            if let Err(error) = self.file.write_all_at(&piece, at) {
                spill.pieces.insert(at, piece);
                return Err(error);
            }
            spill.bytes -= piece.len();
        }
        self.spilled.store(false, Ordering::Release);
        Ok(())
    }

    /// Brings what was written to the disk. The system may do so at any time: what the last checkpoint needs is not written over.
    pub(super) fn write_back(&self) -> io::Result<()> {
        self.kept(|| self.file.sync_data())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if !self.has_spilled() {
            self.file.read_exact_at(out, offset)?;
            return self.sums.check(offset, out);
        }
        let spill = self.spill.lock();
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
        match self.file.write_all_at(data, offset) {
            Err(error) if is_full(&error) && spill.bytes + data.len() <= SPILL_BYTES_MAX => {
                spill.put(offset, data);
                self.spilled.store(true, Ordering::Release);
            }
            other => other?,
        }
        self.sums.wrote(offset, data)
    }

    fn sync(&self) -> io::Result<()> {
        let tentative = self.tentative.load(Ordering::Acquire);
        match self.unspill() {
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
