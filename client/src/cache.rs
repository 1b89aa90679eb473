//! Owns the cache of revisions that all transactions of one `Db` share, kept right by the feed.
//!
//! Each cell has a few revisions, each with the interval of snapshots for which it is right ([`slot`]); the feed closes
//! intervals, replies open them under one rule ([`shard`]). A read at snapshot S is answered from here if some interval
//! holds S; so the newest state and a pinned old snapshot live side by side, and a commit of somebody else takes nothing
//! away from a transaction that reads at an older tid.
//!
//! Who may do what: the reader of the session alone calls `invalidate` and `reset`; any task calls `find` and `insert`.
//! Shards have a lock each, held for one cell and never across an await. Records are copied in: a slice of a reply would
//! keep the whole reply alive, and the byte budget would mean nothing.
//!
//! Below the memory there may be a file, which is kept over restarts ([`file`]). What memory does not have is looked for there, and the server
//! asked after that. `Cache` is the door to both.
//!
//! Not kept: scans (a walk over a collection would push everything else out), uncommitted writes.

mod file;
mod places;
mod recent;
mod shard;
mod slot;

#[cfg(test)]
mod schedule;

use crate::revision::Revision;
use file::{CacheFile, Looked, Pending, Writer};
pub(crate) use file::{Kept, Of, Seen};
use shard::{Shards, hash};
pub(crate) use slot::Known;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_proto::interest::Held;
use zeolite_proto::{Cell, Tid};

/// A power of two; more than the threads that are likely to be there.
const SHARDS: usize = 32;

/// The shared cache.
#[derive(Debug)]
pub(crate) struct Cache {
    shards: Arc<Shards>,
    file: Option<Arc<CacheFile>>,
    hits: AtomicU64,
    file_hits: AtomicU64,
    misses: AtomicU64,
}

/// A cache that was opened over a file, and is not in use yet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) cache: Cache,
    /// What the file can be gone on with.
    pub(crate) kept: Option<Kept>,
    /// The cells that it may have.
    pub(crate) held: Held,
    writer: Option<(Arc<CacheFile>, file::Scanned)>,
}

/// How the cache has done.
///
/// ```
/// use zeolite_client::{Cell, Oid};
///
/// # zeolite_testing::with_db(async |db| {
/// let cell = Cell::object(Oid(1));
/// let view = db.now();
/// for _ in 0..3 {
///     view.get(&cell).await?;
/// }
/// let stats = db.cache_stats();
/// assert!(stats.hits <= 2 && stats.bytes < 1 << 20);
/// # Ok(()) });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Bytes held in memory.
    pub bytes: u64,
    /// Bytes in use in the file, what has ended since it was written included.
    pub file_bytes: u64,
    /// Reads that were answered from the cache.
    pub hits: u64,
    /// Those of them that were answered from the file.
    pub file_hits: u64,
    /// Reads that had to ask the server.
    pub misses: u64,
}

impl Cache {
    /// An empty cache with a budget, in memory alone.
    pub(crate) fn new(bytes_max: u64) -> Cache {
        Cache::over(bytes_max, None)
    }

    fn over(bytes_max: u64, file: Option<Arc<CacheFile>>) -> Cache {
        Cache {
            shards: Arc::new(Shards::new(SHARDS, bytes_max, file.as_ref().map(|file| file.shape().bytes))),
            file,
            hits: AtomicU64::new(0),
            file_hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// A cache over a file of this directory, with what it has, or without one, as the log says; an error is of the options.
    pub(crate) fn open(bytes_max: u64, dir: &Path, database: &str, file_bytes: u64) -> Result<Opened, String> {
        let Some((file, header)) = file::open(dir, database, file_bytes)? else {
            return Ok(Opened::in_memory(bytes_max));
        };
        let path = file.path().display().to_string();
        Ok(Cache::over_file(bytes_max, file, header).unwrap_or_else(|error| {
            tracing::warn!(%path, %error, "the file of the cache cannot be read; the client goes on with its memory");
            Opened::in_memory(bytes_max)
        }))
    }

    /// A cache over a file, with what it has.
    fn over_file(bytes_max: u64, file: CacheFile, header: file::Header) -> io::Result<Opened> {
        let file = Arc::new(file);
        let (cache, mut held) = (Cache::over(bytes_max, Some(file.clone())), Held::default());
        let scanned = file.scan(header, |cell, place| {
            let hash = hash(&cell);
            held.note(&cell);
            if let Some(before) = cache.shards.of(hash).lock().begin_with(hash, place) {
                file.queue.dead(before);
            }
        })?;
        let kept = scanned.kept();
        if let Some(kept) = kept {
            cache.shards.all().for_each(|shard| shard.lock().begin(0, kept.position));
        }
        Ok(Opened { cache, kept, held, writer: Some((file, scanned)) })
    }

    /// The revision that is right at the snapshot, if it is in memory.
    pub(crate) fn find(&self, cell: &Cell, at: Tid, generation: u64) -> Option<Known> {
        let found = self.peek(cell, at, generation);
        if found.is_some() {
            self.hits.fetch_add(1, Ordering::Relaxed);
        } else if self.file.is_none() {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// The same for who only looks: it is not counted.
    pub(crate) fn peek(&self, cell: &Cell, at: Tid, generation: u64) -> Option<Known> {
        self.shards.of(hash(cell)).lock().find(cell, at, generation)
    }

    /// The revisions that are right at the snapshot, of cells that memory does not have: those that are in the file.
    pub(crate) async fn find_in_file(&self, cells: &[&Cell], at: Tid, generation: u64) -> Vec<Option<Known>> {
        let Some(file) = &self.file else { return vec![None; cells.len()] };
        let mut found = vec![None; cells.len()];
        let mut waits = Vec::new();
        for (n, cell) in cells.iter().enumerate() {
            let hash = hash(cell);
            let Some(place) = self.shards.of(hash).lock().place(hash, generation) else { continue };
            match file.look(place, cell, false) {
                Looked::Waits => waits.push((n, (*cell).clone(), (hash, place))),
                looked => found[n] = self.take(file, cell, (hash, place), looked, generation),
            }
        }
        if !waits.is_empty() {
            let reader = file.clone();
            let looks = move || {
                let look = |(n, cell, at): (usize, Cell, (u64, u32))| (n, reader.look(at.1, &cell, true), at);
                waits.into_iter().map(look).collect::<Vec<_>>()
            };
            // A runtime that ends has nobody left who reads.
            for (n, looked, at) in tokio::task::spawn_blocking(looks).await.unwrap_or_default() {
                found[n] = self.take(file, cells[n], at, looked, generation);
            }
        }
        let right = |known: Known| (known.from <= at).then_some(known);
        found.iter_mut().for_each(|known| *known = known.take().and_then(right));
        let hits = found.iter().flatten().count() as u64;
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.file_hits.fetch_add(hits, Ordering::Relaxed);
        self.misses.fetch_add(cells.len() as u64 - hits, Ordering::Relaxed);
        found
    }

    /// What was found at a place goes into memory, if it counts still.
    fn take(&self, file: &CacheFile, cell: &Cell, at: (u64, u32), looked: Looked, generation: u64) -> Option<Known> {
        let mut shard = self.shards.of(at.0).lock();
        match looked {
            Looked::Found(found) if file.is_there(&found, at.1) => {
                shard.found(cell, at, (found.tid, found.record), generation)
            }
            Looked::Bad => {
                if shard.forget_place(at.0, at.1) {
                    file.queue.dead(at.1);
                }
                None
            }
            Looked::Found(_) | Looked::Other | Looked::Waits => None,
        }
    }

    /// Takes in a revision that was read at the snapshot, from a connection of that generation.
    pub(crate) fn insert(&self, cell: &Cell, revision: &Revision, at: Tid, generation: u64) {
        let hash = hash(cell);
        let open = self.shards.of(hash).lock().insert(cell, hash, revision, at, generation);
        if let (Some(file), Some(Known { tid, record: Some(record), .. })) = (&self.file, open) {
            let cell = Cell { oid: cell.oid, key: bytes::Bytes::copy_from_slice(&cell.key) };
            file.queue.keep(Pending { cell, hash, tid, record, at, generation });
        }
    }

    /// A commit wrote these cells.
    pub(crate) fn invalidate(&self, tid: Tid, cells: &[Cell]) {
        for cell in cells {
            let hash = hash(cell);
            let mut shard = self.shards.of(hash).lock();
            let place = shard.invalidate(cell, hash, tid);
            // Under the lock: whoever has gone through the shards then finds it in the queue.
            if let (Some(file), Some(place)) = (&self.file, place) {
                file.queue.dead(place);
            }
        }
    }

    /// Forgets everything: see [`shard::Shard::reset`].
    pub(crate) fn reset(&self, generation: u64, floor: Tid) {
        self.shards.all().for_each(|shard| shard.lock().reset(generation, floor));
        if let Some(file) = &self.file {
            file.queue.empty();
        }
    }

    /// What the position is of, from here on.
    pub(crate) fn is_of(&self, of: Of) {
        if let Some(file) = &self.file {
            file.queue.is_of(of);
        }
    }

    /// Waits until the file is as the next client is to find it.
    pub(crate) fn write_out(&self) {
        if let Some(file) = &self.file {
            file.queue.write_out();
        }
    }

    /// Closes the file, as the next client will find it.
    pub(crate) fn close(&self) {
        if let Some(file) = &self.file {
            file.queue.close();
        }
    }

    /// How it has done.
    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            bytes: self.shards.all().map(|shard| shard.lock().bytes()).sum(),
            file_bytes: self.file.as_ref().map_or(0, |file| file.bytes()),
            hits: self.hits.load(Ordering::Relaxed),
            file_hits: self.file_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

impl Opened {
    /// An empty cache in memory alone.
    pub(crate) fn in_memory(bytes_max: u64) -> Opened {
        Opened { cache: Cache::new(bytes_max), kept: None, held: Held::default(), writer: None }
    }

    /// Begins to write: `seen` says what the client has been told, all of which has been taken from this cache.
    pub(crate) fn begin(self, seen: impl Fn() -> Seen + Send + 'static) -> std::io::Result<Cache> {
        if let Some((file, scanned)) = self.writer {
            let writer = Writer::new(file, self.cache.shards.clone(), &scanned, Box::new(seen));
            std::thread::Builder::new().name("zeolite-cache".to_owned()).spawn(|| writer.run())?;
        }
        Ok(self.cache)
    }
}
