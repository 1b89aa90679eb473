//! Owns reading at one snapshot.
//!
//! A read is answered by the first that knows: the transaction's own writes, the shared cache, the server. A list of cells
//! costs one frame for all that the cache does not have (long lists: a few frames at once).

mod scan;

pub use scan::Scan;

use super::own::{Own, Staged, fold};
use super::pin::Pin;
use super::reads::Reads;
use crate::answer::Terms;
use crate::cache::Known;
use crate::connect::{Attached, Db, Life, Resend};
use crate::errors::{Error, Result};
use crate::revision::{Entry, Page, Range, Revision};
use crate::wire::Failure;
use bytes::Bytes;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use std::sync::Arc;
use zeolite_proto::{Cell, Fault, FaultKind, Oid, Record, Registry, Tid, hash};

/// Cells in one frame, and frames of one call in flight: a reply of small records stays below the size where it is cut,
/// and the server reads the next list while the last reply is on its way.
const LOAD_CELLS: usize = 1000;
const LOAD_FRAMES: usize = 4;

/// Whether what the server says goes into the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// The database as of one snapshot. Reads take `&self`, so that several may run at once.
///
/// ```
/// use zeolite_client::collections::Counter;
///
/// # zeolite_testing::with_db(async |db| {
/// let before = db.now();
/// let hits: Counter = db.run(async |tx| tx.root_or_create("hits").await).await?;
/// assert_eq!(before.root::<Counter>("hits").await?, None, "a view stays where it is");
/// assert_eq!(db.now().root("hits").await?, Some(hits));
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct View {
    db: Db,
    snapshot: Tid,
    life: Life,
    /// Never locked across an await.
    pub(crate) own: Mutex<Own>,
    /// Kept only for a serializable transaction.
    reads: Option<Reads>,
    /// Keeps the snapshot from being packed, where somebody asked for that.
    pin: Option<Pin>,
    /// What a worker has read ahead at this snapshot.
    ahead: Option<Arc<hash::Map<Cell, Revision>>>,
}

impl View {
    pub(crate) fn new(db: Db, snapshot: Tid, life: Life) -> View {
        View { db, snapshot, life, own: Mutex::new(Own::default()), reads: None, pin: None, ahead: None }
    }

    pub(super) fn pinned(mut self, pin: Option<Pin>) -> View {
        self.pin = pin;
        self
    }

    pub(super) fn with_ahead(mut self, ahead: Arc<hash::Map<Cell, Revision>>) -> View {
        self.ahead = Some(ahead);
        self
    }

    pub(super) fn serializable(mut self) -> View {
        self.reads = Some(Reads::default());
        self
    }

    /// The tid that it reads at.
    pub fn snapshot(&self) -> Tid {
        self.snapshot
    }

    /// The database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    pub(super) fn resolvers(&self) -> &Registry {
        &self.db.core().options.resolvers
    }

    pub(super) fn reads(&self) -> Option<&Reads> {
        self.reads.as_ref()
    }

    /// Whether what is in a cell is checked at the commit.
    pub(crate) fn has_read(&self, cell: &Cell) -> bool {
        self.reads.as_ref().is_some_and(|reads| reads.has(cell))
    }

    /// Whatever happens to a cell that was read is no conflict.
    pub(crate) fn forget_read(&self, cell: &Cell) {
        if let Some(reads) = &self.reads {
            reads.forget(cell);
        }
    }

    /// The record in a cell.
    pub async fn get(&self, cell: &Cell) -> Result<Option<Record>> {
        let encoded = self.get_encoded(cell).await?;
        encoded.as_ref().map(Record::decode).transpose().map_err(|bad| damaged(cell, &bad))
    }

    /// The record in a cell as it is stored: header and data, see `Record`.
    pub async fn get_encoded(&self, cell: &Cell) -> Result<Option<Bytes>> {
        let staged = self.own.lock().get(cell).cloned();
        match staged {
            Some(Staged::Put(record)) => Ok(Some(record)),
            Some(Staged::Delete) => Ok(None),
            Some(Staged::Apply { class, operations }) => {
                let current = self.stored(cell).await?.record;
                fold(cell, &class, current, &operations, self.resolvers())
            }
            None => Ok(self.stored(cell).await?.record),
        }
    }

    /// The records in cells, in their order.
    pub async fn get_many(&self, cells: &[Cell]) -> Result<Vec<Option<Bytes>>> {
        let stored = self.stored_many(cells).await?;
        let own = self.own.lock();
        if own.is_empty() {
            return Ok(stored.into_iter().map(|revision| revision.record).collect());
        }
        let merge = |(cell, revision): (&Cell, Revision)| match own.get(cell) {
            Some(staged) => self.staged(cell, staged, revision.record),
            None => Ok(revision.record),
        };
        cells.iter().zip(stored).map(merge).collect()
    }

    /// The cell's committed revision at the snapshot, without this transaction's own writes.
    pub async fn revision(&self, cell: &Cell) -> Result<Revision> {
        self.stored(cell).await
    }

    /// The same of many cells.
    pub(crate) async fn revisions(&self, cells: &[Cell]) -> Result<Vec<Revision>> {
        self.stored_many(cells).await
    }

    /// Brings cells into the cache with as few frames as possible.
    pub async fn prefetch(&self, cells: &[Cell]) -> Result<()> {
        self.db.core().here()?;
        let missing: Vec<&Cell> = cells.iter().filter(|cell| self.cached(cell).is_none()).collect();
        let in_file = self.in_file(&missing).await;
        let missing: Vec<Cell> = (missing.into_iter().zip(in_file))
            .filter(|(_, found)| found.is_none())
            .map(|(cell, _)| cell.clone())
            .collect();
        if missing.is_empty() { Ok(()) } else { self.fetch(&missing, Keep::Yes).await.map(|_| ()) }
    }

    /// Walks over the entries of a collection, own writes included, in the order of keys or against it.
    pub fn scan(&self, oid: Oid, range: Range) -> Scan<'_> {
        Scan::new(self, oid, range)
    }

    /// All entries of a range at once; for ranges whose size the caller knows to be small.
    pub async fn entries(&self, oid: Oid, range: Range) -> Result<Vec<Entry>> {
        let mut scan = self.scan(oid, range);
        let mut all = Vec::new();
        while let Some(page) = scan.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }

    /// What an own change makes of a stored record.
    fn staged(&self, cell: &Cell, staged: &Staged, stored: Option<Bytes>) -> Result<Option<Bytes>> {
        match staged {
            Staged::Put(record) => Ok(Some(record.clone())),
            Staged::Delete => Ok(None),
            Staged::Apply { class, operations } => fold(cell, class, stored, operations, self.resolvers()),
        }
    }

    async fn stored(&self, cell: &Cell) -> Result<Revision> {
        self.db.core().here()?;
        if let Some(reads) = &self.reads {
            reads.cell(cell);
        }
        if let Some(revision) = self.cached(cell) {
            stay_fair().await;
            return Ok(revision);
        }
        if let Some(revision) = self.in_file(&[cell]).await.into_iter().flatten().next() {
            stay_fair().await;
            return Ok(revision);
        }
        let fetched = self.fetch(std::slice::from_ref(cell), Keep::Yes).await?;
        fetched.into_iter().next().ok_or_else(short)
    }

    async fn stored_many(&self, cells: &[Cell]) -> Result<Vec<Revision>> {
        if let Some(reads) = &self.reads {
            cells.iter().for_each(|cell| reads.cell(cell));
        }
        self.stored_list(cells, Keep::Yes).await
    }

    /// Revisions of many cells, which the cache need not keep.
    pub(super) async fn read_ahead(&self, cells: &[Cell]) -> Result<Vec<Revision>> {
        self.stored_list(cells, Keep::No).await
    }

    async fn stored_list(&self, cells: &[Cell], keep: Keep) -> Result<Vec<Revision>> {
        self.db.core().here()?;
        stay_fair().await;
        let mut found: Vec<Option<Revision>> = cells.iter().map(|cell| self.cached(cell)).collect();
        let missing: Vec<usize> = (0..cells.len()).filter(|place| found[*place].is_none()).collect();
        let of_missing: Vec<&Cell> = missing.iter().map(|place| &cells[*place]).collect();
        for (place, revision) in missing.into_iter().zip(self.in_file(&of_missing).await) {
            found[place] = revision;
        }
        if found.iter().all(Option::is_none) {
            return self.fetch(cells, keep).await;
        }
        let places: Vec<usize> = (0..cells.len()).filter(|place| found[*place].is_none()).collect();
        if !places.is_empty() {
            let missing: Vec<Cell> = places.iter().map(|place| cells[*place].clone()).collect();
            for (place, revision) in places.into_iter().zip(self.fetch(&missing, keep).await?) {
                found[place] = Some(revision);
            }
        }
        found.into_iter().map(|revision| revision.ok_or_else(short)).collect()
    }

    fn cached(&self, cell: &Cell) -> Option<Revision> {
        if let Some(revision) = self.ahead.as_ref().and_then(|ahead| ahead.get(cell)) {
            return Some(revision.clone());
        }
        let core = self.db.core();
        // What is open in the cache is right up to the feed's position; beyond it only the server knows.
        if self.snapshot > core.position.get() {
            return None;
        }
        core.cache.find(cell, self.snapshot, self.life.generation).map(revision)
    }

    /// What the cache's file has of cells that are not in memory.
    async fn in_file(&self, cells: &[&Cell]) -> Vec<Option<Revision>> {
        let core = self.db.core();
        if cells.is_empty() || self.snapshot > core.position.get() {
            return vec![None; cells.len()];
        }
        let known = core.cache.find_in_file(cells, self.snapshot, self.life.generation).await;
        known.into_iter().map(|known| known.map(revision)).collect()
    }

    /// The record in a cell, own writes included, if it is known here without asking.
    pub(crate) fn known(&self, cell: &Cell) -> Option<Bytes> {
        match self.own.lock().get(cell) {
            Some(Staged::Put(record)) => return Some(record.clone()),
            Some(_) => return None,
            None => {}
        }
        if let Some(revision) = self.ahead.as_ref().and_then(|ahead| ahead.get(cell)) {
            return revision.record.clone();
        }
        let core = self.db.core();
        let is_told = self.snapshot <= core.position.get();
        is_told.then(|| core.cache.peek(cell, self.snapshot, self.life.generation)?.record).flatten()
    }

    /// Asks the server.
    async fn fetch(&self, cells: &[Cell], keep: Keep) -> Result<Vec<Revision>> {
        if self.snapshot == Tid::NONE {
            // Nothing had been written then; on the wire a snapshot of 0 would mean the newest.
            let nothing = Revision { tid: Tid::NONE, end: None, record: None };
            return Ok(vec![nothing; cells.len()]);
        }
        let frame = LOAD_CELLS.min(self.db.core().load_cells_max());
        if cells.len() <= frame {
            return self.fetch_list(cells, keep).await;
        }
        let mut all = Vec::with_capacity(cells.len());
        for group in cells.chunks(frame * LOAD_FRAMES) {
            for list in try_join_all(group.chunks(frame).map(|list| self.fetch_list(list, keep))).await? {
                all.extend(list);
            }
        }
        Ok(all)
    }

    /// One frame's list; a reply that was cut at its size limit is continued.
    async fn fetch_list(&self, cells: &[Cell], keep: Keep) -> Result<Vec<Revision>> {
        let core = self.db.core();
        let mut all = Vec::with_capacity(cells.len());
        while all.len() < cells.len() {
            let from = all.len();
            let load = |attached: Arc<Attached>| async move {
                attached.is_of(self.life)?;
                attached.link.load((self.snapshot, self.life.timeline), &cells[from..]).await
            };
            let got = core.call_at(Resend::Always, self.snapshot, load).await?;
            if got.is_empty() || got.len() > cells.len() - from {
                return Err(short());
            }
            for (cell, revision) in cells[from..].iter().zip(&got) {
                core.loaded(cell, revision, (self.snapshot, self.life.generation), keep == Keep::Yes);
            }
            all.extend(got);
        }
        Ok(all)
    }

    /// One page of the stored entries.
    async fn page(db: &Db, at: (Tid, Life), oid: Oid, range: &Range, limit: u32) -> Result<Page> {
        if at.0 == Tid::NONE {
            return Ok(Page::default());
        }
        let scan = |attached: Arc<Attached>| async move {
            attached.is_of(at.1)?;
            attached.link.scan((at.0, at.1.timeline), oid, range, limit).await
        };
        db.core().call_at(Resend::Always, at.0, scan).await
    }

    /// The snapshot and its life.
    fn place(&self) -> (Tid, Life) {
        (self.snapshot, self.life)
    }

    /// For a draft whose bases were read here.
    pub(super) fn terms(&self) -> Terms {
        Terms { timeline: self.life.timeline, take_oids: false }
    }

    pub(super) fn same_store(&self, attached: &Attached) -> Result<(), Failure> {
        attached.is_of(self.life)
    }
}

fn revision(known: Known) -> Revision {
    Revision { tid: known.tid, end: (known.to != Tid::MAX).then(|| known.to.next()), record: known.record }
}

/// An answer from the cache waits for nothing: a loop of such reads would never give its thread to another task.
async fn stay_fair() {
    tokio::task::coop::consume_budget().await;
}

fn short() -> Error {
    let message = "the server answered another number of cells than was asked for; report this with both versions";
    Fault::new(FaultKind::Internal, message).into()
}

pub(crate) fn damaged(cell: &Cell, bad: &zeolite_proto::BadRecord) -> Error {
    Fault::new(FaultKind::Damaged, format!("cell {cell}: {bad}; verify the database")).into()
}
