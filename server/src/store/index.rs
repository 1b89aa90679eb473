//! Owns the contract of an index engine: ordered tables of bytes, views of one moment, and commits that need not be durable.
//!
//! The index is a cache of the log. It stores in its `Meta` table the log position that it covers, in the same commit as
//! what it covers, so that whatever of it survives a crash is right up to there, and opening replays the rest. What an
//! engine must promise: a commit is atomic, also over a crash; commits survive in order; a durable one survives; a view
//! sees one moment and does not hold up a commit. Nothing more: an engine that loses its last non-durable commits, or
//! whose file is deleted, costs a replay. One that cannot promise anything about a crash must notice it, and be empty.
//!
//! | table | key | value |
//! |---|---|---|
//! | `Revisions` | [`keys::revision`] | [`rows::Revision`]: kind, flags, place or record |
//! | `Kinds` | kind id | class, schema version, exact number of live objects |
//! | `Objects` | kind id, oid | nothing: the live objects of a kind |
//! | `Places` | first tid of a batch | where it lies: one row per 64 KiB of log or so |
//! | `Keys` | first tid of a settle | its commit keys with their tids |
//! | `Meta` | name | what is covered, and of which store; what the last pack knew |

pub(super) mod engines;
pub(super) mod files;
pub(super) mod keys;
pub(super) mod live;
pub(super) mod redb;
pub(super) mod rows;
#[cfg(feature = "sled")]
pub(super) mod sled;
pub(super) mod surveyed;
pub(super) mod writer;

use super::StoreError;
use super::kinds::KindId;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use zeolite_proto::Cell;

/// The tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Table {
    /// Every revision of every cell; in a cell the newest first.
    Revisions,
    /// Classes at schema versions, with counts.
    Kinds,
    /// The live objects of each kind.
    Objects,
    /// Where tids are in the log, sparse.
    Places,
    /// Commit keys within the window.
    Keys,
    /// What the index covers.
    Meta,
}

impl Table {
    /// All of them, by number.
    pub(crate) const ALL: [Table; 6] =
        [Table::Revisions, Table::Kinds, Table::Objects, Table::Places, Table::Keys, Table::Meta];
}

/// One change of a commit: a table, a key, and its new value or `None` to remove it.
pub(crate) type Change = (Table, Vec<u8>, Option<Vec<u8>>);

/// What visits rows: key and value; whether to go on.
pub(crate) type Visitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// An index engine. One thread commits at a time (the settler), everybody reads.
pub(crate) trait Index: Send + Sync {
    /// Everything committed up to now, at this moment.
    fn view(self: Arc<Self>) -> Result<Box<dyn View>, StoreError>;
    /// Applies all changes or none. With `durable` this and every earlier commit survive a crash.
    fn commit(&self, changes: &[Change], durable: bool) -> Result<(), StoreError>;
    /// Whether there is room for about so many more bytes; `DiskFull` if not, and the engine stays whole.
    fn make_room(&self, bytes: u64) -> Result<(), StoreError>;
    /// What it occupies on the disk.
    fn size_bytes(&self) -> u64;
    /// Gives back what a rebuild has used in between, if that is worth the time and there is room to do it in.
    fn compact(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Everything is committed durably, and nothing more may come; if something does, it is right all the same.
    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Why nothing more can be had from it until it is opened again, if so.
    fn failure(&self) -> Option<Failure> {
        None
    }
    /// Lets it touch the disk no more: another one takes its place. Views that are open may fail.
    fn abandon(&self) {}
}

/// What has failed of an index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) kind: io::ErrorKind,
    /// What its files say is not what was written: opened again they would say the same.
    pub(crate) is_damaged: bool,
}

/// A reading of the index at one moment.
pub(crate) trait View {
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Visits the rows between two bounds in order, or from the end to the beginning.
    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: Visitor<'_>,
    ) -> Result<(), StoreError>;
}

/// The error of an index row that cannot be read.
pub(crate) fn bad_row(table: Table) -> StoreError {
    StoreError::Index(format!("a row of {table:?} cannot be read"))
}

/// What kind of object a plain cell holds in the index, if it is alive.
pub(crate) fn live_kind(view: &dyn View, cell: &Cell) -> Result<Option<KindId>, StoreError> {
    let (from, to) = (keys::cell(cell), keys::after_cell(cell.oid, &cell.key));
    let mut found = None;
    view.range(Table::Revisions, Bound::Included(&from), Bound::Excluded(&to), false, &mut |_, row| {
        found = rows::Revision::live_kind(row);
        false
    })?;
    Ok(found)
}

// Whether nothing can lie between two bounds.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

// Turns a panic of an engine into an error.
fn guarded<T>(engine: &str, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let told = panic.downcast_ref::<&str>().map(|told| (*told).to_owned());
        let told = told.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(StoreError::Index(format!("{engine} panicked: {told}")))
    })
}
