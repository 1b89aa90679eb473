//! Owns what reading is asked for and returns in raw form: the range of a scan, a page of entries, a past revision, a transaction of
//! the log.

use bytes::Bytes;
use zeolite_proto::{Cell, Note, Tid};
pub use zeolite_proto::{Entry, Revision};

/// A revision with the note of the transaction that wrote it.
///
/// ```
/// use zeolite_client::{Cell, Record};
///
/// # zeolite_testing::with_db(async |db| {
/// let cell = Cell::object(db.new_oid().await?);
/// let text = Record::new("Text", 1, "hello");
/// db.transaction().note("ada", "greets").run(async |tx| tx.put(cell.clone(), &text)).await?;
/// let past = db.history(&cell, None, 10, false).await?.items;
/// assert_eq!(past[0].note.user_text(), "ada");
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PastRevision {
    /// The revision; its record is empty unless it was asked for.
    pub revision: Revision,
    /// Who wrote it and why.
    pub note: Note,
}

/// The bounds of one scan. Begin with [`Range::all`] or another of its makers. (The server's own range names a collection as well, and
/// bounds as they are on the wire: there an empty end is none.)
///
/// ```
/// use zeolite_client::Range;
///
/// let last_ten = Range::prefix("2026-").reversed().limited(10);
/// assert_eq!((last_ten.reverse, last_ten.limit), (true, Some(10)));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Range {
    /// The first key, inclusive. The empty one is before every entry.
    pub from: Bytes,
    /// The end, exclusive; none: to the last entry.
    pub to: Option<Bytes>,
    /// From the last to the first.
    pub reverse: bool,
    /// Entries at most; none: all.
    pub limit: Option<u64>,
    /// Leave the records out.
    pub keys_only: bool,
}

impl Range {
    /// All entries.
    pub fn all() -> Range {
        Range::default()
    }

    /// The entries from a key on, before another one if it is given.
    pub fn between(from: impl Into<Bytes>, to: Option<Bytes>) -> Range {
        Range { from: from.into(), to, ..Range::default() }
    }

    /// The entries whose key begins so.
    pub fn prefix(prefix: impl Into<Bytes>) -> Range {
        let from: Bytes = prefix.into();
        Range { to: crate::keys::after_prefix(&from), from, ..Range::default() }
    }

    /// No entry.
    pub(crate) fn nothing() -> Range {
        Range { to: Some(Bytes::new()), ..Range::default() }
    }

    /// Whether no key can lie in it.
    pub(crate) fn is_nothing(&self) -> bool {
        self.to.as_ref().is_some_and(|to| self.from >= *to)
    }

    /// From the last to the first.
    #[must_use]
    pub fn reversed(mut self) -> Range {
        self.reverse = !self.reverse;
        self
    }

    /// This many entries at most.
    #[must_use]
    pub fn limited(mut self, limit: u64) -> Range {
        self.limit = Some(limit);
        self
    }

    /// Without the records.
    #[must_use]
    pub fn keys_only(mut self) -> Range {
        self.keys_only = true;
        self
    }
}

/// One page as the server answers it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// Where to go on; none: this was the end.
    pub(crate) next: Option<Bytes>,
}

/// A part of what was asked for, and whether there is more of it.
///
/// ```
/// use zeolite_client::Cell;
///
/// # zeolite_testing::with_db(async |db| {
/// let cell = Cell::object(db.new_oid().await?);
/// let history = db.history(&cell, None, 10, false).await?;
/// assert!(history.items.is_empty() && !history.more);
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Listing<T> {
    /// What was found, in order.
    pub items: Vec<T>,
    /// There is more: ask again, behind the last of these.
    pub more: bool,
}

impl<T> From<(Vec<T>, bool)> for Listing<T> {
    fn from((items, more): (Vec<T>, bool)) -> Listing<T> {
        Listing { items, more }
    }
}

/// What one commit wrote, as the log tells it: records may have been left out of it. (The store's own transaction has all of them, and
/// its note encoded.)
///
/// ```
/// use zeolite_client::collections::Counter;
///
/// # zeolite_testing::with_db(async |db| {
/// db.run(async |tx| tx.root_or_create::<Counter>("hits").await.map(drop)).await?;
/// let log = db.admin().log(None, None, None, false).await?.collect().await?;
/// assert!(log.iter().any(|logged| !logged.own && !logged.writes.is_empty()));
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LoggedTransaction {
    /// The commit.
    pub tid: Tid,
    /// Its exactly-once key.
    pub commit_key: Bytes,
    /// Who and why.
    pub note: Note,
    /// What it wrote.
    pub writes: Vec<LoggedWrite>,
    /// Tells its draft from another one under the same key; 0: not known.
    pub draft_digest: u64,
    /// The server's own bookkeeping.
    pub own: bool,
    /// History up to here was packed where it comes from: a copy says so, too.
    pub packed_to: Tid,
}

/// One write of a transaction in the log.
///
/// ```
/// use zeolite_client::revision::LoggedWrite;
/// use zeolite_client::{Cell, Oid};
///
/// let write = LoggedWrite::new(Cell::object(Oid(7)), None);
/// assert!(write.deleted);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LoggedWrite {
    /// The cell.
    pub cell: Cell,
    /// The encoded record; none: deleted, or not asked for.
    pub record: Option<Bytes>,
    /// Whether a resolver made the record.
    pub merged: bool,
    /// The record's length.
    pub record_bytes: u64,
    /// Whether the write deleted the cell.
    pub deleted: bool,
}

impl LoggedTransaction {
    /// One that comes from elsewhere, to be restored: without a key, of no draft.
    pub fn new(tid: Tid, note: Note, writes: Vec<LoggedWrite>) -> LoggedTransaction {
        let commit_key = Bytes::from_static(&[0; 16]);
        LoggedTransaction { tid, commit_key, note, writes, draft_digest: 0, own: false, packed_to: Tid::NONE }
    }
}

impl LoggedWrite {
    /// An encoded record that is written into a cell; none: the cell is deleted.
    pub fn new(cell: Cell, record: Option<Bytes>) -> LoggedWrite {
        let record_bytes = record.as_ref().map_or(0, |record| record.len() as u64);
        LoggedWrite { cell, deleted: record.is_none(), record, merged: false, record_bytes }
    }
}
