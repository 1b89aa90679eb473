//! Owns the index on sled: its directory, its trees, and the mark that says that they can be used again.
//!
//! sled 0.34 lacks two things that an index engine must have, and both are put around it here.
//!
//! *It does not survive a crash*: what it calls flushed may still be on its way to the disk. So it never has to. A clean
//! close writes the mark, a file that names each file of sled's with its length and checksum; opening compares them and
//! removes the mark, durably, before sled may write. No mark, or one that does not fit: the index is dropped and rebuilt.
//!
//! ```text
//!   open ── mark fits? ── yes ─> mark removed, synced ─> sled opens ... commits ... ─> close: flush, sync, mark
//!                └─ no ──> everything dropped, rebuilt from the log
//! ```
//!
//! *It has no views of one moment*: that is made of `Moments`, which keeps what commits replace as long as somebody reads
//! an older moment.
//!
//! *Once it has failed it fails for good*: after one write or read that went wrong, or a panic in it, nothing more is asked of it,
//! and it is made anew from the log beside the traffic, like redb's index when that is damaged (`settle/remake`). What is left of the one
//! that failed touches no file any more: not even to flush when it is dropped, since sled names files by number, and by then
//! another one has these names. So it is leaked; its views are told that it is gone.
//!
//! No write of sled's goes through the `Disk`, so a simulated disk has no sled index.

mod mark;
mod moments;

use self::mark::Mark;
use self::moments::{Moments, Row};
use super::files::SLED_DIR;
use super::{Change, Failure, Index, Table, View, Visitor, guarded, is_empty};
use crate::store::StoreError;
use crate::store::disk::Disk;
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

// Room that must be free beside what a commit needs: sled writes several times what it is given, in segments of its own.
const RESERVE_BYTES: u64 = 64 << 20;
// Rows read at once by a range: few at first, as most ranges look for one row.
const ROWS_MIN: usize = 4;
const ROWS_MAX: usize = 256;

/// The index on sled.
pub(crate) struct SledIndex {
    // Taken out when it is dropped alone.
    parts: Option<Parts>,
    failed: OnceLock<Failure>,
    // Another one has its files.
    is_gone: AtomicBool,
    moments: Moments,
    // Locked by whoever changes the mark or what it stands for: a commit, a close.
    mark: Mutex<Mark>,
    disk: Arc<dyn Disk>,
}

struct Parts {
    database: sled::Db,
    trees: [sled::Tree; Table::ALL.len()],
}

impl SledIndex {
    /// Opens what a clean close has left, or makes it new.
    pub(crate) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<SledIndex, StoreError> {
        let Some(path) = disk.real_path(SLED_DIR) else {
            let what = "the sled index needs a directory of a real file system; set index = \"redb\"".to_owned();
            return Err(StoreError::Refused { what });
        };
        disk.make_dir(SLED_DIR).map_err(|error| StoreError::Io { what: format!("making {SLED_DIR}"), error })?;
        let mark = Mark::take(disk.as_ref())?;
        let opened = guarded("sled", || {
            let config = sled::Config::new().path(path).cache_capacity(cache_bytes as u64).flush_every_ms(None);
            let database = config.open().map_err(text)?;
            let mut trees = Vec::with_capacity(Table::ALL.len());
            for table in Table::ALL {
                trees.push(database.open_tree(format!("{table:?}")).map_err(text)?);
            }
            let trees = trees.try_into().map_err(|_| StoreError::Index("sled has not all tables".to_owned()))?;
            Ok(Parts { database, trees })
        });
        Ok(SledIndex {
            parts: Some(opened?),
            failed: OnceLock::new(),
            is_gone: AtomicBool::new(false),
            moments: Moments::default(),
            mark: Mutex::new(mark),
            disk,
        })
    }

    // Does something with sled. The first time that it fails is the last: what it would say later nobody knows.
    fn with<T>(&self, work: impl FnOnce(&Parts) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let down = |failure: &Failure| Err(StoreError::IndexDown { why: failure.what.clone() });
        if let Some(failure) = self.failed.get() {
            return down(failure);
        }
        let Some(parts) = &self.parts else { return Err(text("it is closed")) };
        let done = guarded("sled", || {
            #[cfg(test)]
            tests::breaks(self.disk.as_ref())?;
            work(parts)
        });
        if let Err(error) = &done {
            let failure = Failure { what: error.to_string(), kind: io::ErrorKind::Other, is_damaged: true };
            self.failed.get_or_init(|| failure);
        }
        // Asked behind the work: until then its files were its own.
        match self.failed.get().filter(|_| self.is_gone.load(Ordering::SeqCst)) {
            Some(failure) => down(failure),
            None => done,
        }
    }
}

impl Drop for SledIndex {
    fn drop(&mut self) {
        if self.is_gone.load(Ordering::SeqCst) {
            std::mem::forget(self.parts.take());
        }
    }
}

impl Parts {
    fn tree(&self, table: Table) -> &sled::Tree {
        &self.trees[table as usize]
    }
}

impl Index for SledIndex {
    fn view(self: Arc<Self>) -> Result<Box<dyn View>, StoreError> {
        let moment = self.moments.enter();
        Ok(Box::new(SledView { index: self, moment }))
    }

    fn commit(&self, changes: &[Change], durable: bool) -> Result<(), StoreError> {
        let mut mark = self.mark.lock();
        if !changes.is_empty() {
            mark.remove(self.disk.as_ref())?;
        }
        self.with(|sled| {
            // Every view from before the end of this commit must find what it replaces before sled has it no more.
            let now = |table: Table, key: &[u8]| Ok(sled.tree(table).get(key).map_err(text)?.map(|row| row.to_vec()));
            self.moments.keep(changes, now)?;
            for (table, key, value) in changes {
                match value {
                    Some(value) => sled.tree(*table).insert(key, value.as_slice()),
                    None => sled.tree(*table).remove(key),
                }
                .map_err(text)?;
            }
            // Not for what a crash leaves: it bounds what a close has to write.
            if durable { sled.database.flush().map(drop).map_err(text) } else { Ok(()) }
        })?;
        self.moments.advance();
        Ok(())
    }

    fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        // A disk that cannot tell its room is taken as having it.
        let free = self.disk.free_bytes().unwrap_or(u64::MAX);
        if free < bytes.saturating_add(RESERVE_BYTES) { Err(StoreError::DiskFull) } else { Ok(()) }
    }

    fn size_bytes(&self) -> u64 {
        self.parts.as_ref().map_or(0, |parts| parts.database.size_on_disk().unwrap_or(0))
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut mark = self.mark.lock();
        self.with(|sled| sled.database.flush().map(drop).map_err(text))?;
        mark.put(self.disk.as_ref())
    }

    fn failure(&self) -> Option<Failure> {
        self.failed.get().cloned()
    }

    fn abandon(&self) {
        let what = "another one takes its place".to_owned();
        self.failed.get_or_init(|| Failure { what, kind: io::ErrorKind::Other, is_damaged: true });
        self.is_gone.store(true, Ordering::SeqCst);
    }
}

struct SledView {
    index: Arc<SledIndex>,
    moment: u64,
}

impl Drop for SledView {
    fn drop(&mut self) {
        self.index.moments.leave(self.moment);
    }
}

impl View for SledView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        // In this order: what a commit replaces in between is kept before it is replaced.
        let row = self.index.with(|sled| sled.tree(table).get(key).map_err(text))?;
        let kept = self.index.moments.kept(self.moment, table, key);
        Ok(kept.unwrap_or_else(|| row.map(|row| row.to_vec())))
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: Visitor<'_>,
    ) -> Result<(), StoreError> {
        let (mut from, mut to, mut rows_max) = (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec), ROWS_MIN);
        loop {
            let (low, high) = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
            if is_empty(low, high) {
                return Ok(());
            }
            let mut rows = self.read(table, low, high, reverse, rows_max)?;
            // Up to here sled has been read; beyond, nothing is known yet.
            let end = (rows.len() == rows_max).then(|| rows.last().map(|(key, _)| key.clone())).flatten();
            let reached = end.as_deref();
            let (low, high) = match reached {
                Some(key) if reverse => (Bound::Included(key), high),
                Some(key) => (low, Bound::Included(key)),
                None => (low, high),
            };
            self.index.moments.restore(self.moment, table, (low, high), reverse, &mut rows);
            for (key, row) in &rows {
                if !visit(key, row) {
                    return Ok(());
                }
            }
            match end {
                None => return Ok(()),
                Some(key) if reverse => to = Bound::Excluded(key),
                Some(key) => from = Bound::Excluded(key),
            }
            rows_max = (rows_max * 4).min(ROWS_MAX);
        }
    }
}

impl SledView {
    fn read(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        rows_max: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.index.with(|sled| {
            let mut found = sled.tree(table).range::<&[u8], _>((from, to));
            let mut rows = Vec::new();
            while rows.len() < rows_max {
                let Some(row) = (if reverse { found.next_back() } else { found.next() }) else { break };
                let (key, value) = row.map_err(text)?;
                rows.push((key.to_vec(), value.to_vec()));
            }
            Ok(rows)
        })
    }
}

fn text(error: impl fmt::Display) -> StoreError {
    StoreError::Index(error.to_string())
}

#[cfg(test)]
mod tests;
