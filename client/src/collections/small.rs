//! Owns the small set and the small list: all items in one record, changed by operations that never conflict.
//!
//! One load brings all of it, and each change rewrites all of it: for tags and permissions, up to 1 MiB. What grows
//! belongs into a [`super::Set`] or a [`super::List`].

use super::Create;
use crate::errors::{Error, Result};
use crate::tx::{Tx, View, damaged};
use crate::typed::{decode_value, encode_value, handle};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use zeolite_proto::resolvers::{SCHEMA_VERSION, class, items, list, set};
use zeolite_proto::{BadRecord, Cell, Oid, Record};

/// A set in one record.
///
/// ```
/// use zeolite_client::collections::SmallSet;
///
/// # zeolite_testing::with_db(async |db| {
/// let tags: SmallSet<String> = db.run(async |tx| tx.root_or_create("tags").await).await?;
/// db.run(async |tx| tags.insert(&tx, &"mineral".to_owned())).await?;
/// assert_eq!(tags.get(&db.now()).await?, ["mineral"]);
/// # Ok(()) });
/// ```
pub struct SmallSet<V> {
    oid: Oid,
    types: PhantomData<fn() -> V>,
}

/// An append-only list in one record, in the order of commits.
///
/// ```
/// use zeolite_client::collections::SmallList;
///
/// # zeolite_testing::with_db(async |db| {
/// let remarks: SmallList<String> = db.run(async |tx| tx.root_or_create("remarks").await).await?;
/// db.run(async |tx| remarks.push(&tx, &"well done".to_owned())).await?;
/// assert_eq!(remarks.get(&db.now()).await?, ["well done"]);
/// # Ok(()) });
/// ```
pub struct SmallList<V> {
    oid: Oid,
    types: PhantomData<fn() -> V>,
}

handle!(SmallSet<V>, class::SET);
handle!(SmallList<V>, class::LIST);

fn item<V: Serialize>(class: &str, value: &V) -> Result<items::Item> {
    encode_value(class, value, |data, refs| items::Item { bytes: Bytes::copy_from_slice(data), refs })
}

fn refused(class: &str, bad: &BadRecord) -> Error {
    Error::Encode { class: class.to_owned(), reason: bad.to_string() }
}

/// The items of a record, decoded.
async fn load<V: DeserializeOwned, I: IntoIterator<Item = items::Item>>(
    view: &View,
    oid: Oid,
    class: &'static str,
    read: fn(&Record) -> Result<I, BadRecord>,
) -> Result<Vec<V>> {
    let cell = Cell::object(oid);
    let Some(record) = view.get(&cell).await? else { return Ok(Vec::new()) };
    if record.class != class {
        return Err(Error::WrongClass { cell, expected: class.to_owned(), found: record.class });
    }
    let items = read(&record).map_err(|bad| damaged(&cell, &bad))?;
    items.into_iter().map(|item| decode_value(class, SCHEMA_VERSION, &item.bytes)).collect()
}

impl<V> SmallSet<V> {
    /// The set of an object.
    pub const fn new(oid: Oid) -> SmallSet<V> {
        SmallSet { oid, types: PhantomData }
    }
}

impl<V: Serialize + DeserializeOwned> SmallSet<V> {
    /// The members, in the order of their encoded bytes.
    pub async fn get(&self, view: &View) -> Result<Vec<V>> {
        load(view, self.oid, class::SET, set::members).await
    }

    /// Adds a member, without reading the set.
    pub fn insert(&self, tx: &Tx, member: &V) -> Result<()> {
        let operation = set::add(item(class::SET, member)?).map_err(|bad| refused(class::SET, &bad))?;
        tx.apply(Cell::object(self.oid), class::SET, operation)
    }

    /// Takes a member out, without reading the set.
    pub fn remove(&self, tx: &Tx, member: &V) -> Result<()> {
        let operation = set::remove(item(class::SET, member)?).map_err(|bad| refused(class::SET, &bad))?;
        tx.apply(Cell::object(self.oid), class::SET, operation)
    }
}

impl<V> Create for SmallSet<V> {
    async fn create(tx: &Tx) -> Result<Self> {
        let made = SmallSet::new(tx.db().new_oid().await?);
        let empty = set::record(&Default::default()).map_err(|bad| refused(class::SET, &bad))?;
        tx.put(Cell::object(made.oid), &empty)?;
        Ok(made)
    }
}

impl<V> SmallList<V> {
    /// The list of an object.
    pub const fn new(oid: Oid) -> SmallList<V> {
        SmallList { oid, types: PhantomData }
    }
}

impl<V: Serialize + DeserializeOwned> SmallList<V> {
    /// The items.
    pub async fn get(&self, view: &View) -> Result<Vec<V>> {
        load(view, self.oid, class::LIST, list::items).await
    }

    /// Appends an item, without reading the list.
    pub fn push(&self, tx: &Tx, value: &V) -> Result<()> {
        let operation = list::append(&[item(class::LIST, value)?]).map_err(|bad| refused(class::LIST, &bad))?;
        tx.apply(Cell::object(self.oid), class::LIST, operation)
    }
}

impl<V> Create for SmallList<V> {
    async fn create(tx: &Tx) -> Result<Self> {
        let made = SmallList::new(tx.db().new_oid().await?);
        let empty = list::record(&[]).map_err(|bad| refused(class::LIST, &bad))?;
        tx.put(Cell::object(made.oid), &empty)?;
        Ok(made)
    }
}
