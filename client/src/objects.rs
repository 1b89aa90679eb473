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
//! [`Db::run`](crate::Db::run) runs again, so that it is told the same.
//!
//! *Who does not know the indexes does not keep them*: raw writes ([`Tx::put`], [`Tx::delete`]), other languages, and code of a former
//! version that removes an object. What it writes in a former shape has no entries until it is written in the newest one: an evolve to the
//! new version with a gate ends that, and [`crate::evolve::reindex`] mends all else.
//!
//! *An object that becomes one of another class* (its cell is set by a [`Ref`] of another type) takes its former entries out if the transaction
//! knows both types: [`Tx::remove`] it as the former, then set it. Else it is refused, if the former class has indexes and this client has read
//! the object; a blind write of what was never read is not noticed.

mod making;
mod settle;

use crate::errors::{Error, Result};
use crate::tx::{KeptClass, Tx, View};
use crate::typed::{Persistent, Ref, decode_record, encode_record, is_indexed, keys_of, keys_of_value};
use bytes::Bytes;
use zeolite_proto::Cell;
use zeolite_proto::record::Header;

/// What a transaction is told of a class with indexes.
fn kept<T: Persistent>() -> KeptClass {
    KeptClass { class: T::CLASS, has_indexes: is_indexed::<T>(), keys: keys_of::<T>, settle: settle::settle }
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
        self.write(reference, value, true)?;
        Ok(reference)
    }

    /// Replaces an object's value.
    pub fn set<T: Persistent>(&self, reference: Ref<T>, value: &T) -> Result<()> {
        self.write(reference, value, false)
    }

    /// Loads an object, lets the closure change it, and writes it back; gives what the closure gives.
    pub async fn update<T: Persistent, R>(&self, reference: Ref<T>, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        let mut value = self.load(reference).await?;
        let result = change(&mut value);
        self.set(reference, &value)?;
        Ok(result)
    }

    /// Deletes an object. References to it stay, and find nothing; its entries in the indexes of its class go with it.
    pub fn remove<T: Persistent>(&self, reference: Ref<T>) -> Result<()> {
        let cell = reference.cell();
        if self.is_kept::<T>(&cell) {
            self.own.lock().kept.touched(cell.clone(), kept::<T>(), false).written = None;
        }
        self.delete(cell)
    }

    fn write<T: Persistent>(&self, reference: Ref<T>, value: &T, is_new: bool) -> Result<()> {
        let (cell, record) = (reference.cell(), encode_record(value)?);
        if self.is_kept::<T>(&cell) {
            let keys = keys_of_value(value)?;
            let mut own = self.own.lock();
            own.check_open()?;
            own.kept.touched(cell.clone(), kept::<T>(), is_new).written = Some((record.clone(), keys));
        }
        self.put_unchecked(cell, record)
    }

    /// Replaces a value wherever it is; only objects are in indexes.
    pub(crate) fn write_cell<T: Persistent>(&self, cell: &Cell, value: &T) -> Result<()> {
        match cell.is_object() {
            true => self.write(Ref::new(cell.oid), value, false),
            false => self.put_unchecked(cell.clone(), encode_record(value)?),
        }
    }

    /// Writes whatever entries of an object are missing. The transaction must be serializable: what is there is only read.
    pub(crate) fn reindex<T: Persistent>(&self, cell: &Cell) {
        if !T::INDEXES.is_empty() {
            self.own.lock().kept.touched(cell.clone(), kept::<T>(), false).whole = true;
        }
    }

    /// Whether there may be entries of the object: its class has indexes, or it is known to have been of another one.
    fn is_kept<T: Persistent>(&self, cell: &Cell) -> bool {
        let was_another = |record: Bytes| Header::parse(&record).is_ok_and(|header| header.class != T::CLASS);
        is_indexed::<T>() || self.own.lock().kept.knows(cell) || self.known(cell).is_some_and(was_another)
    }
}
