//! Owns the index on redb: its file behind the `Disk` trait, its tables, its commits.
//!
//! Commits are `Durability::None` until a checkpoint, which is one durable commit with quick repair: redb then stores its
//! allocator state, so that opening after a crash need not walk the file. After a crash redb is at its last checkpoint.
//!
//! redb trusts its pages after a clean checkpoint and may panic on a file that something else has changed. As the index can
//! be thrown away, a panic in it is caught here and becomes an error; it never takes the server down.
//!
//! A rebuild leaves many free pages in the file: so a new index is compacted before it is used. One that is used keeps its
//! free pages, and fills them again. redb doubles the file as it grows, so it is longer than what it occupies.
//!
//! A failed write would make redb refuse every later read that misses its cache. So a write that finds the disk full is
//! kept in memory (`spill`), where reads find it, and is written as soon as there is room: nothing is settled and no
//! checkpoint is made before that.

use super::files::REDB_FILE;
use super::{Change, Index, Table, View, Visitor, guarded, is_empty};
use crate::store::StoreError;
use crate::store::disk::{Disk, DiskFile};
use crate::store::log::appender::is_full;
use parking_lot::Mutex;
use redb::{
    Builder, Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, StorageBackend, TableDefinition,
    TableError,
};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

// More than this is not kept in memory for a full disk; then the write fails and the index with it, until a restart.
const SPILL_BYTES_MAX: usize = 64 << 20;
// A smaller file is not worth compacting; in tests each is.
const COMPACT_BYTES_MIN: u64 = if cfg!(test) { 1 } else { 32 << 20 };
// Room that must be free beside what a commit needs.
const RESERVE_BYTES: u64 = 1 << 20;

type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(table: Table) -> Definition {
    TableDefinition::new(match table {
        Table::Revisions => "revisions",
        Table::Kinds => "kinds",
        Table::Objects => "objects",
        Table::Places => "places",
        Table::Keys => "keys",
        Table::Meta => "meta",
    })
}

/// The index on redb.
pub(crate) struct RedbIndex {
    database: Database,
    file: Arc<SpillFile>,
    disk: Arc<dyn Disk>,
}

impl RedbIndex {
    /// Opens the file, or makes it.
    pub(crate) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<RedbIndex, StoreError> {
        let io = |error| StoreError::Io { what: format!("opening {REDB_FILE}"), error };
        let file = disk.open(REDB_FILE, true).map_err(io)?;
        disk.sync_dir("").map_err(io)?;
        let file = Arc::new(SpillFile {
            file,
            spill: Mutex::new(Spill::default()),
            spilled: AtomicBool::new(false),
            tentative: AtomicBool::new(false),
        });
        let backend = Backend(file.clone());
        let opened =
            guarded("redb", || Builder::new().set_cache_size(cache_bytes).create_with_backend(backend).map_err(text));
        match opened {
            Ok(database) => Ok(RedbIndex { database, file, disk }),
            // The index is not to blame, and must not be dropped.
            Err(_) if file.spilled.load(Ordering::Acquire) => Err(StoreError::DiskFull),
            Err(error) => Err(error),
        }
    }
}

impl Index for RedbIndex {
    fn view(&self) -> Result<Box<dyn View + '_>, StoreError> {
        let transaction = guarded("redb", || self.database.begin_read().map_err(text))?;
        Ok(Box::new(RedbView { transaction, tables: Default::default() }))
    }

    fn commit(&self, changes: &[Change], durable: bool) -> Result<(), StoreError> {
        self.file.tentative.store(!durable, Ordering::Release);
        let done = guarded("redb", || {
            let mut transaction = self.database.begin_write().map_err(text)?;
            if durable {
                transaction.set_quick_repair(true);
            } else {
                transaction.set_durability(Durability::None).map_err(text)?;
            }
            for of in Table::ALL {
                let mut table = transaction.open_table(definition(of)).map_err(text)?;
                for (_, key, value) in changes.iter().filter(|(table, ..)| *table == of) {
                    match value {
                        Some(value) => table.insert(key.as_slice(), value.as_slice()).map(drop),
                        None => table.remove(key.as_slice()).map(drop),
                    }
                    .map_err(text)?;
                }
            }
            transaction.commit().map_err(text)
        });
        self.file.tentative.store(false, Ordering::Release);
        done
    }

    fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        match self.file.unspill() {
            Ok(()) => {}
            Err(error) if is_full(&error) => return Err(StoreError::DiskFull),
            Err(error) => return Err(StoreError::Index(format!("writing {REDB_FILE}: {error}"))),
        }
        // A disk that cannot tell its room is taken as having it.
        let free = self.disk.free_bytes().unwrap_or(u64::MAX);
        if free < bytes.saturating_add(RESERVE_BYTES) { Err(StoreError::DiskFull) } else { Ok(()) }
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        let size = self.size_bytes();
        if size < COMPACT_BYTES_MIN || self.make_room(size).is_err() {
            return Ok(());
        }
        guarded("redb", || self.database.compact().map(drop).map_err(text))?;
        // So that opening after a crash does not have to walk what was moved.
        self.commit(&[], true)?;
        tracing::info!(before_bytes = size, after_bytes = self.size_bytes(), "the new index is compacted");
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.file.file.occupied_bytes().unwrap_or(0)
    }
}

struct RedbView {
    transaction: ReadTransaction,
    tables: [OnceCell<Option<Rows>>; Table::ALL.len()],
}

impl RedbView {
    // `None`: nothing was ever committed.
    fn table(&self, table: Table) -> Result<Option<&Rows>, StoreError> {
        let cell = &self.tables[table as usize];
        if let Some(open) = cell.get() {
            return Ok(open.as_ref());
        }
        let opened = match self.transaction.open_table(definition(table)) {
            Ok(open) => Some(open),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(text(error)),
        };
        Ok(cell.get_or_init(|| opened).as_ref())
    }
}

impl View for RedbView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        guarded("redb", || {
            let Some(table) = self.table(table)? else { return Ok(None) };
            let found = table.get(key).map_err(text)?;
            Ok(found.map(|value| value.value().to_vec()))
        })
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: Visitor<'_>,
    ) -> Result<(), StoreError> {
        if is_empty(from, to) {
            return Ok(());
        }
        guarded("redb", || {
            let Some(table) = self.table(table)? else { return Ok(()) };
            let mut rows = table.range::<&[u8]>((from, to)).map_err(text)?;
            loop {
                let row = if reverse { rows.next_back() } else { rows.next() };
                let Some(row) = row else { return Ok(()) };
                let (key, value) = row.map_err(text)?;
                if !visit(key.value(), value.value()) {
                    return Ok(());
                }
            }
        })
    }
}

fn text(error: impl fmt::Display) -> StoreError {
    StoreError::Index(error.to_string())
}

/// The file, and what did not fit on the disk yet.
struct SpillFile {
    file: Arc<dyn DiskFile>,
    spill: Mutex<Spill>,
    // Whether there is any: readers look here first and so never wait for a write.
    spilled: AtomicBool,
    // Set during a commit that need not be durable: a sync then is only about the file's length, which redb makes durable
    // whenever it grows the file.
    tentative: AtomicBool,
}

// The pieces never overlap, so that one is found by where it begins; redb writes whole pages at the same offsets.
#[derive(Default)]
struct Spill {
    pieces: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
}

impl Spill {
    // Puts a piece over whatever it covers.
    fn put(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        self.cut(offset, end);
        self.bytes += data.len();
        self.pieces.insert(offset, data.to_vec());
    }

    // Takes a range out; what sticks out at either side stays.
    fn cut(&mut self, from: u64, to: u64) {
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

    fn overlay(&self, offset: u64, out: &mut [u8]) {
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

impl SpillFile {
    fn unspill(&self) -> io::Result<()> {
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
}

struct Backend(Arc<SpillFile>);

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDB_FILE)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if !self.0.spilled.load(Ordering::Acquire) {
            return self.0.file.read_exact_at(out, offset);
        }
        let spill = self.0.spill.lock();
        // What was never written may lie beyond the end: as far as the file goes, then what is kept.
        let there = self.0.file.len()?.saturating_sub(offset).min(out.len() as u64) as usize;
        out[there..].fill(0);
        self.0.file.read_exact_at(&mut out[..there], offset)?;
        spill.overlay(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut spill = self.0.spill.lock();
        spill.cut(len, u64::MAX);
        self.0.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.0.unspill() {
            Err(error) if is_full(&error) && self.0.tentative.load(Ordering::Acquire) => {}
            other => other?,
        }
        self.0.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut spill = self.0.spill.lock();
        if !spill.pieces.is_empty() {
            spill.cut(offset, offset + data.len() as u64);
        }
        match self.0.file.write_all_at(data, offset) {
            Err(error) if is_full(&error) && spill.bytes + data.len() <= SPILL_BYTES_MAX => {
                spill.put(offset, data);
                self.0.spilled.store(true, Ordering::Release);
                Ok(())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
