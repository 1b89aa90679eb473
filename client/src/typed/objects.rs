//! Owns the typed reads and writes of objects: loading by reference, alone and in batches; creating, changing, removing.

use super::Persistent;
use super::codec::{decode_record, encode_record};
use super::reference::Ref;
use crate::errors::{Error, Result};
use crate::tx::{Tx, View};
use zeolite_proto::Cell;

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
    /// Makes a new object. It stays only if something reachable from the root refers to it.
    pub async fn create<T: Persistent>(&self, value: &T) -> Result<Ref<T>> {
        let reference = Ref::new(self.db().new_oid().await?);
        self.set(reference, value)?;
        Ok(reference)
    }

    /// Replaces an object's value.
    pub fn set<T: Persistent>(&self, reference: Ref<T>, value: &T) -> Result<()> {
        self.put_unchecked(reference.cell(), encode_record(value)?)
    }

    /// Loads an object, lets the closure change it, and writes it back; gives what the closure gives.
    pub async fn update<T: Persistent, R>(&self, reference: Ref<T>, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        let mut value = self.load(reference).await?;
        let result = change(&mut value);
        self.set(reference, &value)?;
        Ok(result)
    }

    /// Deletes an object. References to it stay, and find nothing.
    pub fn remove<T>(&self, reference: Ref<T>) -> Result<()> {
        self.delete(reference.cell())
    }
}
