//! Owns transactions: a snapshot to read at, the transaction's own writes on top of it, and the commit.
//!
//! ```text
//!   View   reads: own writes, then the shared cache, then the server; all at one snapshot
//!   Tx     a View whose own writes can grow, and be committed
//!   run    begin, work, commit; again on a new snapshot when another commit was in the way
//!   Savepoint   what was written so far, to go back to
//!   Pin    keeps a snapshot from being packed while somebody reads at it
//! ```
//!
//! Nothing is sent before the commit, and the commit is one draft: a transaction that is dropped never happened.
//! [`Tx`] derefs to [`View`], so that whatever reads takes a `&View` and works in both. Reads and writes take `&self`, so
//! that a transaction can be lent to any number of futures at once, and `run` can take plain closures and async ones.
//!
//! Not here: typed values (`typed`, `collections`).

mod begin;
mod commit;
mod kept;
mod own;
mod pin;
mod prefetched;
mod prepared;
mod raw;
mod reads;
mod run;
mod savepoint;
mod transaction;
mod view;
mod work;

pub use kept::KeptIndex;
pub(crate) use kept::same;
pub(crate) use kept::{IndexKey, KeptClass, KeptObject, RecordKeys};
pub(crate) use own::Own;
pub(crate) use own::{Staged, fold};
pub use pin::Pin;
pub(crate) use prefetched::Prefetched;
pub use prepared::Prepared;
pub use raw::RawDraft;
pub use savepoint::Savepoint;
pub use transaction::{Isolation, Transaction};
pub(crate) use view::damaged;
pub use view::{Scan, View};
pub(crate) use work::Work;
pub use work::{Changed, Place, Share};

use crate::errors::{Error, Result};
use bytes::Bytes;
use std::ops::Deref;
use std::sync::Arc;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Note, Oid, Priority, Record};

/// A transaction. Reads are those of [`View`]; dropping it without a commit gives everything up.
///
/// ```
/// use zeolite_client::collections::Counter;
///
/// # zeolite_testing::with_db(async |db| {
/// let tx = db.begin().await?;
/// let hits: Counter = tx.root_or_create("hits").await?;
/// hits.add(&tx, 1)?;
/// assert_eq!(hits.get(&tx).await?, 1, "its own writes are there");
/// tx.commit().await?; // dropped before this, it never happened
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct Tx {
    /// Shared with nobody but `run`, which commits after the work has let go of its half.
    view: Arc<View>,
    priority: Priority,
    /// Lent by `run`, which alone commits it.
    lent: bool,
}

impl Deref for Tx {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Tx {
    fn new(view: View, priority: Priority, note: Note) -> Tx {
        view.own.lock().note = note;
        Tx { view: Arc::new(view), priority, lent: false }
    }

    /// Another handle on this transaction, which reads and writes in it and cannot commit it: for bindings, whose callers keep what they are
    /// given. Once the transaction is over, every write by the handle is refused.
    pub fn lend(&self) -> Tx {
        Tx { view: self.view.clone(), priority: self.priority, lent: true }
    }

    /// Takes the own writes out, for a commit. Refused to the work of `run`: its receipt would be nobody's, and what it wrote
    /// afterwards would be lost.
    fn close(&self) -> Result<Own> {
        if self.lent {
            return Err(Error::invalid(
                "whoever lent this transaction commits it (`run`, when its work returns); return instead of committing",
            ));
        }
        Ok(self.view.own.lock().close())
    }

    /// Writes a record.
    pub fn put(&self, cell: Cell, record: &Record) -> Result<()> {
        let encoded = record.encode().map_err(|bad| Error::invalid(format!("cell {cell}: {bad}")))?;
        self.view.own.lock().put(cell, encoded)
    }

    /// Writes a record that is encoded already.
    pub fn put_encoded(&self, cell: Cell, record: Bytes) -> Result<()> {
        Header::parse(&record).map_err(|bad| Error::invalid(format!("cell {cell}: {bad}")))?;
        self.view.own.lock().put(cell, record)
    }

    /// For records that were encoded here.
    pub(crate) fn put_unchecked(&self, cell: Cell, record: Bytes) -> Result<()> {
        self.view.own.lock().put(cell, record)
    }

    /// Lets the resolver of a class apply an operation to whatever is in the cell when the commit is put in order: never
    /// conflicts by itself.
    ///
    /// Two operations on one cell in one transaction are applied here, and sent as a record to be merged; this needs the
    /// class's resolver among [`crate::Options::resolvers`].
    pub fn apply(&self, cell: Cell, class: &str, operation: Bytes) -> Result<()> {
        self.view.own.lock().apply(cell, class, operation, self.view.resolvers())
    }

    /// Deletes a cell.
    pub fn delete(&self, cell: Cell) -> Result<()> {
        self.view.own.lock().delete(cell)
    }

    /// Adds an entry under a key that the server completes with the commit's tid and the write's position, so that keys
    /// of many producers never collide and follow the commit order. The entry cannot be read in this transaction.
    pub fn put_stamped(&self, oid: Oid, prefix: Bytes, record: Bytes) -> Result<()> {
        let cell = Cell::entry(oid, prefix);
        Header::parse(&record).map_err(|bad| Error::invalid(format!("cell {cell}: {bad}")))?;
        self.view.own.lock().put_stamped(cell, record)
    }

    /// The commit is refused when somebody has changed what is in a cell since the snapshot, also where what was read is not checked: for who
    /// writes because of what it said. A serializable transaction rests on all that it has read without this.
    pub fn rests_on(&self, cell: Cell) {
        if let Some(reads) = self.view.reads() {
            reads.cell(&cell);
        }
        self.view.own.lock().kept.checks.insert(cell);
    }

    /// What the log says about this transaction.
    pub fn set_note(&self, note: Note) {
        self.view.own.lock().note = note;
    }

    /// Whether there is anything to commit.
    pub fn is_empty(&self) -> bool {
        self.view.own.lock().is_empty()
    }

    /// The number of writes so far.
    pub fn writes(&self) -> usize {
        self.view.own.lock().len()
    }
}
