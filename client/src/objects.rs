//! Owns the typed reads and writes of objects: loading by reference, alone and in batches; creating, changing, removing, with the
//! indexes that are kept with a class.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use zeolite_client::{Db, Error, Persistent};
//!
//! #[derive(Serialize, Deserialize, Persistent)]
//! #[persistent(class = "wiki.Page")]
//! struct Page {
//!     #[persistent(unique)]
//!     slug: String,
//!     #[persistent(index)]
//!     author: String,
//!     text: String,
//! }
//!
//! # async fn example(db: Db, page: Page) -> Result<(), Error> {
//! db.run(async |tx| {
//!     let home = tx.create(&page).await?; // both entries are made with it
//!     tx.update(home, |page| page.author = "ada".into()).await?; // one moves, the other stays
//!     let hers = Page::BY_AUTHOR.load(&tx, "ada").await?; // what this transaction wrote is there
//!     let found = Page::BY_SLUG.find(&tx, "home").await?;
//!     assert_eq!((hers.len(), found), (1, Some(home)));
//!     tx.remove(home) // and they go with it
//! })
//! .await
//! # }
//! ```
//!
//! *The entries are the difference* between the keys of the record that is there and of the one that is written; it is made once for a
//! transaction, before its commit and before it reads an index (`settle`). A unique key that is another object's is
//! [`crate::Error::UniqueTaken`], which no repetition mends; of two transactions that take one key at once the server refuses one, which
//! [`Db::run`](crate::Db::run) runs again, so that it is told the same. An entry whose object does not have the key any more (old code has left
//! it, or an evolve owes its removal) is taken over.
//!
//! *Who does not know the indexes does not keep them*: raw writes ([`Tx::put`], [`Tx::delete`]), other languages, and code of a former
//! version that removes an object. What it writes in a former shape has no entries until it is written in the newest one: an evolve to the
//! new version with a gate ends that, and [`crate::evolve::reindex`] mends all else.
//!
//! *An object that becomes one of another class* (its cell is set by a [`Ref`] of another type) takes its former entries out if the transaction
//! knows both types: [`Tx::remove`] it as the former, then set it. Else it is refused, if the former class has indexes and this client has read
//! the object; a blind write of what was never read is not noticed.
//!
//! *An object of a higher version* than the type's own, which a bridge reads: what the derive's `newer` tells, or `LATER_INDEXED`, is taken out of
//! the newer version's indexes. Is its class in others (its names in the root tell, asked only then), it is refused:
//! [`crate::Error::KeptElsewhere`]. Of a type without any index this is found out where this client has read the object.

mod making;
mod newer;
mod owners;
mod settle;

use crate::errors::{Error, Result};
use crate::tx::{KeptClass, Tx, View};
use crate::typed::{Persistent, Ref, decode_record, encode_record, is_indexed, keys_of, keys_of_value};
use bytes::Bytes;
use zeolite_proto::Cell;
use zeolite_proto::record::Header;

/// What a transaction is told of a class with indexes.
fn kept<T: Persistent>() -> KeptClass {
    KeptClass {
        class: T::CLASS,
        has_indexes: is_indexed::<T>(),
        indexed_to: T::INDEXED_TO,
        indexes: [T::INDEXES, T::FORMERLY_INDEXED, T::LATER_INDEXED],
        keys: keys_of::<T>,
        settle: settle::settle,
    }
}

/// What is there where an object is written.
enum Over {
    /// Nothing: it is new.
    Nothing,
    /// This record, which was read for it.
    Read(Bytes),
    /// Whatever it is.
    Whatever,
}

impl View {
    /// The object's value; an error if there is none.
    pub async fn load<T: Persistent>(&self, reference: Ref<T>) -> Result<T> {
        self.find(reference).await?.ok_or_else(|| Error::NotFound { cell: reference.cell() })
    }

    /// The object's value, if there is one.
    pub async fn find<T: Persistent>(&self, reference: Ref<T>) -> Result<Option<T>> {
        let cell = reference.cell();
        let record = self.get_encoded(&cell).await?;
        record.map(|record| decode_record(&cell, &record)).transpose()
    }

    /// The values of many objects, in the order of the references: one frame for all that are not at hand.
    pub async fn load_many<T: Persistent>(&self, references: &[Ref<T>]) -> Result<Vec<T>> {
        let found = self.find_many(references).await?.into_iter().zip(references);
        found.map(|(value, reference)| value.ok_or_else(|| Error::NotFound { cell: reference.cell() })).collect()
    }

    /// Like `load_many`, with none where there is no object.
    pub async fn find_many<T: Persistent>(&self, references: &[Ref<T>]) -> Result<Vec<Option<T>>> {
        let cells: Vec<Cell> = references.iter().map(Ref::cell).collect();
        let records = self.get_many(&cells).await?;
        let decode = |(cell, record): (&Cell, Option<_>)| record.map(|record| decode_record(cell, &record)).transpose();
        cells.iter().zip(records).map(decode).collect()
    }

    /// Brings objects into the cache, so that loading them one by one asks nobody.
    pub async fn prefetch_refs<T>(&self, references: impl IntoIterator<Item = Ref<T>>) -> Result<()> {
        let cells: Vec<Cell> = references.into_iter().map(|reference| reference.cell()).collect();
        self.prefetch(&cells).await
    }
}

impl Tx {
    /// Makes a new object. It stays only if something reachable from the root refers to it; an index that is kept with its class does.
    pub async fn create<T: Persistent>(&self, value: &T) -> Result<Ref<T>> {
        let reference = Ref::new(self.db().new_oid().await?);
        self.write(reference, value, Over::Nothing)?;
        Ok(reference)
    }

    /// Replaces an object's value.
    pub fn set<T: Persistent>(&self, reference: Ref<T>, value: &T) -> Result<()> {
        self.write(reference, value, Over::Whatever)
    }

    /// Loads an object, lets the closure change it, and writes it back; gives what the closure gives.
    pub async fn update<T: Persistent, R>(&self, reference: Ref<T>, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        let cell = reference.cell();
        let record = self.get_encoded(&cell).await?.ok_or_else(|| Error::NotFound { cell: cell.clone() })?;
        let mut value = decode_record(&cell, &record)?;
        let result = change(&mut value);
        self.write(reference, &value, Over::Read(record))?;
        Ok(result)
    }

    /// Deletes an object. References to it stay, and find nothing; its entries in the indexes of its class go with it.
    pub fn remove<T: Persistent>(&self, reference: Ref<T>) -> Result<()> {
        let cell = reference.cell();
        if self.is_kept::<T>(&cell, &Over::Whatever) {
            self.own.lock().kept.touched(cell.clone(), kept::<T>(), false).written = None;
        }
        self.delete(cell)
    }

    fn write<T: Persistent>(&self, reference: Ref<T>, value: &T, over: Over) -> Result<()> {
        let (cell, record) = (reference.cell(), encode_record(value)?);
        if self.is_kept::<T>(&cell, &over) {
            let keys = keys_of_value(value)?;
            let mut own = self.own.lock();
            own.check_open()?;
            let is_new = matches!(over, Over::Nothing);
            own.kept.touched(cell.clone(), kept::<T>(), is_new).written = Some((record.clone(), keys));
        }
        self.put_unchecked(cell, record)
    }

    /// Replaces a value wherever it is; only objects are in indexes.
    pub(crate) fn write_cell<T: Persistent>(&self, cell: &Cell, value: &T) -> Result<()> {
        match cell.is_object() {
            true => self.write(Ref::new(cell.oid), value, Over::Whatever),
            false => self.put_unchecked(cell.clone(), encode_record(value)?),
        }
    }

    /// Writes whatever entries of an object are missing. The transaction must be serializable: what is there is only read.
    pub(crate) fn reindex<T: Persistent>(&self, cell: &Cell) {
        if !T::INDEXES.is_empty() {
            self.own.lock().kept.touched(cell.clone(), kept::<T>(), false).whole = true;
        }
    }

    /// Whether there may be entries of the object: its class has indexes, or it is known to have been of another one, or of a version
    /// that may have some.
    fn is_kept<T: Persistent>(&self, cell: &Cell, over: &Over) -> bool {
        if is_indexed::<T>() || self.own.lock().kept.knows(cell) {
            return true;
        }
        let there = match over {
            Over::Nothing => None,
            Over::Read(record) => Some(record.clone()),
            Over::Whatever => self.known(cell),
        };
        let header = there.as_ref().and_then(|record| Header::parse(record).ok());
        header.is_some_and(|header| header.class != T::CLASS || header.version > T::INDEXED_TO)
    }
}
