//! Owns the raw draft: work whose author keeps his own copies of what he read, and says for each write as of when he knew the cell.
//!
//! ```text
//!   RawDraft    put, delete, check: each with its base
//!     hold ───> Prepared    everything is held; `stale` tells what others wrote meanwhile
//!                 replace       those parts again, made from what is there now; one round trip
//!                 finish        cannot be refused any more
//! ```
//!
//! For bindings that bring a transaction manager with two phases and a way of their own to resolve conflicts. Whoever writes Rust
//! takes [`crate::Tx`], which knows its bases by itself.

use super::{Place, Prepared};
use crate::connect::Db;
use crate::errors::{Error, Result};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Change, CommitKey, Draft, Note, Priority, ReadCell, StaleCell, Tid, Write};

/// How long to wait for a base to become visible here.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);

/// A draft with a base for each write; see [`Db::draft`].
///
/// ```
/// use std::time::Duration;
/// use zeolite_client::{Cell, Record, Tid};
///
/// # zeolite_testing::with_db(async |db| {
/// let cell = Cell::object(db.new_oid().await?);
/// let mut draft = db.draft(db.place());
/// draft.put(cell.clone(), Tid::NONE, Record::new("Text", 1, "hello").encode().expect("is small"))?;
/// draft.hold(Duration::from_secs(5)).await?.finish().await?;
/// assert!(db.now().get(&cell).await?.is_some());
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct RawDraft {
    db: Db,
    at: Place,
    writes: BTreeMap<Cell, Write>,
    checks: BTreeMap<Cell, Tid>,
    note: Note,
    take_oids: bool,
}

impl Db {
    /// A draft whose bases are of this place or older ones ([`Db::place`] of the moment when it was begun).
    pub fn draft(&self, at: Place) -> RawDraft {
        let (writes, checks, note) = Default::default();
        RawDraft { db: self.clone(), at, writes, checks, note, take_oids: false }
    }
}

impl RawDraft {
    /// Writes an encoded record into a cell that is known as of `base` ([`Tid::NONE`]: it must never have existed). Written twice,
    /// the last record counts, with the first base.
    pub fn put(&mut self, cell: Cell, base: Tid, record: Bytes) -> Result<()> {
        Header::parse(&record).map_err(|bad| Error::invalid(format!("cell {cell}: {bad}")))?;
        self.write(cell, base, Change::Put(record));
        Ok(())
    }

    /// Deletes a cell that is known as of `base`.
    pub fn delete(&mut self, cell: Cell, base: Tid) {
        self.write(cell, base, Change::Delete);
    }

    /// Demands that a cell has not changed since `base`.
    pub fn check(&mut self, cell: Cell, base: Tid) {
        self.checks.entry(cell).or_insert(base);
    }

    /// What the log says about it.
    pub fn set_note(&mut self, note: Note) {
        self.note = note;
    }

    /// Oids that nobody handed out are taken.
    pub fn take_oids(&mut self) {
        self.take_oids = true;
    }

    /// What it writes into a cell so far: a record, or that it is deleted.
    pub fn written(&self, cell: &Cell) -> Option<Option<&Bytes>> {
        self.writes.get(cell).map(|write| match &write.change {
            Change::Put(record) => Some(record),
            _ => None,
        })
    }

    /// The number of writes.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether it neither writes nor checks anything.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.checks.is_empty()
    }

    /// The first phase: the server holds all of its cells from now on, for `limit` at most, whatever has moved on; what has is told
    /// by [`Prepared::stale`], and has to be replaced before the second phase. Never sent twice. Whoever drops the future gives the draft
    /// up.
    pub async fn hold(self, limit: Duration) -> Result<Prepared> {
        let key = self.db.new_commit_key();
        self.visible().await;
        let draft = self.draft(key);
        Prepared::hold(&self.db, self.at, draft, limit, self.take_oids).await
    }

    fn write(&mut self, cell: Cell, base: Tid, change: Change) {
        match self.writes.get_mut(&cell) {
            Some(write) => write.change = change,
            None => drop(self.writes.insert(cell.clone(), Write { cell, base, change, stamped: false })),
        }
    }

    /// Waits until the bases have been told here: the server would refuse what is newer than it shows.
    async fn visible(&self) {
        let bases = self.writes.values().map(|write| write.base).chain(self.checks.values().copied());
        if let Some(newest) = bases.max() {
            self.db.core().position.wait_for(newest, Instant::now() + VISIBLE_WITHIN).await;
        }
    }

    fn draft(&self, key: CommitKey) -> Draft {
        let check = |(cell, base): (&Cell, &Tid)| ReadCell { cell: cell.clone(), base: *base };
        Draft {
            key,
            key_since: self.at.snapshot(),
            priority: Priority::Live,
            read_cells: self.checks.iter().map(check).collect(),
            read_ranges: Vec::new(),
            writes: self.writes.values().cloned().collect(),
            note: self.note.clone(),
        }
    }
}

impl Prepared {
    /// The cells that others have written since the bases of a held draft, and their newest revisions.
    pub fn stale(&self) -> &[StaleCell] {
        &self.stale
    }

    /// Replaces writes and checks of a held draft, most often of its stale cells; the note is the new one's. What is stale then is
    /// told by [`Prepared::stale`].
    pub async fn replace(&mut self, parts: &RawDraft) -> Result<()> {
        parts.visible().await;
        self.amend(parts.at, &parts.draft(self.commit_key()), &[]).await
    }
}
