//! Owns the index on redb: its file behind the `Disk` trait, its tables, its commits.
//!
//! Commits are `Durability::None` until a checkpoint, which is one durable commit with quick repair: redb then stores its
//! allocator state, so that opening after a crash need not walk the file. After a crash redb is at its last checkpoint.
//!
//! redb trusts its pages, so they have checksums of ours (`sums`). As the index can be thrown away, a panic in it is caught here
//! and becomes an error; it never takes the server down. After one read or write that fails redb refuses everything: then the
//! index is opened again, or made anew, by whoever settles.
//!
//! A rebuild leaves many free pages in the file: so a new index is compacted before it is used. One that is used keeps its
//! free pages, and fills them again. redb doubles the file as it grows, so it is longer than what it occupies.
//!
//! The pages of a durable commit, and of all before it, go to the disk in slices (`file`), so that commits of the log need not wait for all of them.
//!
//! A write that finds the disk full is kept in memory (`file`), where reads find it, and is written as soon as there is room:
//! nothing is settled and no checkpoint is made before that.

mod file;
mod spill;
mod sums;

use self::file::{Backend, IndexFile};
use super::files::REDB_FILE;
use super::{Change, Failure, Index, Table, View, Visitor, guarded, is_empty};
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::log::appender::is_full;
use redb::{
    Builder, Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition, TableError,
};
use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

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
    file: Arc<IndexFile>,
    disk: Arc<dyn Disk>,
}

impl RedbIndex {
    /// Opens the file, or makes it.
    pub(crate) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<RedbIndex, StoreError> {
        let file = Arc::new(IndexFile::open(disk.as_ref())?);
        let backend = Backend(file.clone());
        let opened = guarded("redb", || {
            let builder = &mut Builder::new();
            builder.set_cache_size(cache_bytes).create_with_backend(backend).map_err(|error| told(&file, error))
        });
        match opened {
            Ok(database) => Ok(RedbIndex { database, file, disk }),
            // The index is not to blame, and must not be dropped.
            Err(_) if file.has_spilled() => Err(StoreError::DiskFull),
            Err(error) => Err(error),
        }
    }
}

impl Index for RedbIndex {
    fn view(self: Arc<Self>) -> Result<Box<dyn View>, StoreError> {
        let transaction = guarded("redb", || self.database.begin_read().map_err(|error| told(&self.file, error)))?;
        Ok(Box::new(RedbView { transaction, tables: Default::default(), file: self.file.clone() }))
    }

    fn commit(&self, changes: &[Change], durable: bool) -> Result<(), StoreError> {
        let text = |error: redb::Error| told(&self.file, error);
        self.file.begin(durable);
        let done = guarded("redb", || {
            let mut transaction = self.database.begin_write().map_err(|error| text(error.into()))?;
            if durable {
                transaction.set_quick_repair(true);
            } else {
                transaction.set_durability(Durability::None).map_err(|error| text(error.into()))?;
            }
            for of in Table::ALL {
                let mut table = transaction.open_table(definition(of)).map_err(|error| text(error.into()))?;
                for (_, key, value) in changes.iter().filter(|(table, ..)| *table == of) {
                    match value {
                        Some(value) => table.insert(key.as_slice(), value.as_slice()).map(drop),
                        None => table.remove(key.as_slice()).map(drop),
                    }
                    .map_err(|error| text(error.into()))?;
                }
            }
            transaction.commit().map_err(|error| text(error.into()))
        });
        self.file.end();
        done
    }

    fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        match self.file.unspill() {
            Ok(()) => {}
            Err(error) if is_full(&error) => return Err(StoreError::DiskFull),
            Err(error) => return Err(StoreError::Io { what: format!("writing {REDB_FILE}"), error }),
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
        guarded("redb", || self.database.compact().map(drop).map_err(|error| told(&self.file, error)))?;
        // So that opening after a crash does not have to walk what was moved.
        self.commit(&[], true)?;
        tracing::info!(before_bytes = size, after_bytes = self.size_bytes(), "the new index is compacted");
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.file.occupied_bytes()
    }

    fn failure(&self) -> Option<Failure> {
        self.file.failure().cloned()
    }

    fn abandon(&self) {
        self.file.abandon();
    }
}

struct RedbView {
    transaction: ReadTransaction,
    tables: [OnceCell<Option<Rows>>; Table::ALL.len()],
    file: Arc<IndexFile>,
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
            Err(error) => return Err(told(&self.file, error)),
        };
        Ok(cell.get_or_init(|| opened).as_ref())
    }
}

impl View for RedbView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        guarded("redb", || {
            let Some(table) = self.table(table)? else { return Ok(None) };
            let found = table.get(key).map_err(|error| told(&self.file, error))?;
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
            let text = |error| told(&self.file, error);
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

// What is wrong: with the disk, which is no reason to give the index up, or with what the file says.
fn told(file: &IndexFile, error: impl fmt::Display) -> StoreError {
    match file.failure() {
        Some(Failure { what, kind, is_damaged: false }) => {
            StoreError::Io { what: REDB_FILE.to_owned(), error: io::Error::new(*kind, what.clone()) }
        }
        Some(Failure { what, .. }) => StoreError::Index(what.clone()),
        None => StoreError::Index(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
