//! Owns the checksums of the index's pages: each page is checked when it is read, so that a bit that rots in the index is noticed
//! and never served.
//!
//! ```text
//!   index.redb   page 0 (header)   page 1   page 2   ...
//!   index.sums   CRC-32            CRC-32   CRC-32   ...    4 bytes each, little endian; 0: not known
//! ```
//! They are in memory while the index is open, and made durable before the sync that ends a commit of the pages. What a crash leaves is right: a page
//! that the last durable commit reaches was not written again since, and neither was its checksum; what was written since is
//! reached by nothing. Page 0 is written in place, so it has a checksum only from a close to the next opening: an odd number, of which
//! the opening takes the lowest byte away.

use crate::store::StoreError;
use crate::store::disk::{Disk, DiskFile};
use crate::store::index::files::{REDB_FILE, SUMS_FILE, list};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// What redb reads and writes at once, or several of these.
pub(super) const PAGE_BYTES: usize = 4096;
const SUM_BYTES: usize = 4;
// Set in that of page 0 after a close.
const SEALED: u32 = 1;
// Sums that are written together.
const BLOCK_SUMS: usize = 1024;

/// The checksums of an open file.
pub(super) struct Sums {
    file: Arc<dyn DiskFile>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    sums: Vec<u32>,
    // Blocks that the file lacks.
    dirty: BTreeSet<usize>,
}

impl Sums {
    /// Reads the checksums of a file, or begins them when it is empty. A file that has none, or another header than it was closed
    /// with, is no index.
    pub(super) fn open(disk: &dyn Disk, of: &dyn DiskFile) -> Result<Sums, StoreError> {
        let io = |error| StoreError::Io { what: format!("reading {SUMS_FILE}"), error };
        let pages_len = of.len().map_err(io)?;
        if pages_len > 0 && !list(disk, "")?.iter().any(|name| name == SUMS_FILE) {
            return Err(StoreError::Index("it has no checksums of its pages, as those of an older format".to_owned()));
        }
        let file = disk.open(SUMS_FILE, true).map_err(io)?;
        if pages_len == 0 {
            file.set_len(0).map_err(io)?;
            return Ok(Sums { file, known: Mutex::default() });
        }
        let mut bytes = vec![0; file.len().map_err(io)? as usize];
        file.read_exact_at(&mut bytes, 0).map_err(io)?;
        let (words, _) = bytes.as_chunks::<SUM_BYTES>();
        let mut sums: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        if let Some(first) = sums.first_mut().filter(|first| **first & SEALED != 0) {
            if *first != sum(&header(of, pages_len).map_err(io)?) | SEALED {
                return Err(StoreError::Index(format!("the header of {REDB_FILE} is not what it was closed with")));
            }
            *first = 0;
            file.write_all_at(&[0], 0).and_then(|()| file.sync_data()).map_err(io)?;
        }
        Ok(Sums { file, known: Mutex::new(Known { sums, dirty: BTreeSet::new() }) })
    }

    /// Pages were written.
    pub(super) fn wrote(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(first) = whole_pages(offset, data.len())? else { return Ok(()) };
        let mut known = self.known.lock();
        let end = first + data.len() / PAGE_BYTES;
        if known.sums.len() < end {
            known.sums.resize(end, 0);
        }
        for (page, bytes) in (first..).zip(data.chunks(PAGE_BYTES)) {
            known.sums[page] = sum(bytes);
            known.dirty.insert(page / BLOCK_SUMS);
        }
        Ok(())
    }

    /// Pages were read: are they what was written?
    pub(super) fn check(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(first) = whole_pages(offset, data.len())? else { return Ok(()) };
        for (page, bytes) in (first..).zip(data.chunks(PAGE_BYTES)) {
            let found = sum(bytes);
            if self.known.lock().sums.get(page) != Some(&found) {
                let what = format!("page {page} of {REDB_FILE} is not what was written");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        Ok(())
    }

    /// The pages end here now.
    pub(super) fn cut(&self, len: u64) {
        self.known.lock().sums.truncate((len as usize).div_ceil(PAGE_BYTES));
    }

    /// Makes them durable: before the pages are.
    pub(super) fn save(&self) -> io::Result<()> {
        let mut known = self.known.lock();
        if known.dirty.is_empty() {
            return Ok(());
        }
        for block in &known.dirty {
            let sums = known.sums.iter().skip(block * BLOCK_SUMS).take(BLOCK_SUMS);
            let bytes: Vec<u8> = sums.flat_map(|sum| sum.to_le_bytes()).collect();
            self.file.write_all_at(&bytes, (block * BLOCK_SUMS * SUM_BYTES) as u64)?;
        }
        self.file.sync_data()?;
        known.dirty.clear();
        Ok(())
    }

    /// Nothing more is written: now the header has a checksum too.
    pub(super) fn seal(&self, of: &dyn DiskFile) -> io::Result<()> {
        self.save()?;
        let len = of.len()?;
        if len == 0 {
            return Ok(());
        }
        let sealed = sum(&header(of, len)?) | SEALED;
        self.file.write_all_at(&sealed.to_le_bytes(), 0)?;
        self.file.sync_data()
    }
}

// The first of the whole pages at an offset; `None`: it is the header, or a part of it.
fn whole_pages(offset: u64, len: usize) -> io::Result<Option<usize>> {
    match (offset as usize, len) {
        (0, len) if len <= PAGE_BYTES => Ok(None),
        (offset, len) if offset % PAGE_BYTES == 0 && len % PAGE_BYTES == 0 && offset > 0 => {
            Ok(Some(offset / PAGE_BYTES))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "a part of a page of the index")),
    }
}

fn header(of: &dyn DiskFile, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; PAGE_BYTES.min(len as usize)];
    of.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

// Never 0.
fn sum(page: &[u8]) -> u32 {
    crc32fast::hash(page).max(1)
}
