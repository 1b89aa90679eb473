//! Owns the queue and the list: an entry per item, under keys that the server completes with the commit's tid and the
//! item's place in it. So any number of producers append without conflict, and the order is that of the commits.
//!
//! What a transaction appends gets its key at the commit: the transaction itself cannot read it yet.

use super::entries::{self, Entries};
use super::{Create, create_entries};
use crate::errors::Result;
use crate::revision::{Entry, Range};
use crate::tx::{Tx, View};
use crate::typed::handle;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use zeolite_proto::resolvers::{class, entry, queue};
use zeolite_proto::{Cell, Oid};

/// Many producers, many consumers; each item is taken by exactly one.
///
/// ```
/// use zeolite_client::collections::Queue;
///
/// # zeolite_testing::with_db(async |db| {
/// let mails: Queue<String> = db.run(async |tx| tx.root_or_create("mails").await).await?;
/// db.run(async |tx| mails.push(&tx, &"welcome".to_owned())).await?;
/// let taken = db.run(async |tx| mails.take(&tx, 10).await).await?; // by nobody else
/// assert_eq!(taken, ["welcome"]);
/// # Ok(()) });
/// ```
pub struct Queue<V> {
    oid: Oid,
    types: PhantomData<fn() -> V>,
}

/// An append-only sequence; items can be changed and removed, but not moved.
///
/// ```
/// use zeolite_client::collections::List;
///
/// # zeolite_testing::with_db(async |db| {
/// let trail: List<String> = db.run(async |tx| tx.root_or_create("trail").await).await?;
/// db.run(async |tx| trail.push(&tx, &"ada logged in".to_owned())).await?;
/// assert_eq!(trail.iter(&db.now()).collect().await?[0].value, "ada logged in");
/// # Ok(()) });
/// ```
pub struct List<V> {
    oid: Oid,
    types: PhantomData<fn() -> V>,
}

handle!(Queue<V>, class::QUEUE);
handle!(List<V>, class::SEQUENCE);

/// An item with its place.
///
/// ```
/// use zeolite_client::collections::{Item, Queue};
///
/// # zeolite_testing::with_db(async |db| {
/// let mails: Queue<String> = db.run(async |tx| tx.root_or_create("mails").await).await?;
/// db.run(async |tx| mails.push(&tx, &"welcome".to_owned())).await?;
/// let first: Vec<Item<String>> = mails.peek(&db.now(), 1).await?;
/// db.run(async |tx| mails.remove(&tx, &first[0])).await?;
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Item<V> {
    /// Its key: names it for as long as it is there, and orders it among the others.
    pub key: Bytes,
    /// The value.
    pub value: V,
}

fn item<V: DeserializeOwned>(class: &'static str, oid: Oid, entry: Entry) -> Result<Item<V>> {
    let cell = Cell { oid, key: entry.key };
    let value = entries::read(&cell, class, &entry.record)?;
    Ok(Item { key: cell.key, value })
}

impl<V> Queue<V> {
    /// The queue of an object.
    pub const fn new(oid: Oid) -> Queue<V> {
        Queue { oid, types: PhantomData }
    }
}

impl<V: Serialize + DeserializeOwned> Queue<V> {
    /// Puts an item at the end.
    pub fn push(&self, tx: &Tx, value: &V) -> Result<()> {
        tx.put_stamped(self.oid, Bytes::new(), entries::record(&(), value, class::QUEUE_ITEM, queue::record)?)
    }

    /// Takes up to `limit` items from the front. Two consumers that take the same item at the same time conflict: the
    /// second one takes others in the next attempt of [`crate::Db::run`].
    pub async fn take(&self, tx: &Tx, limit: u64) -> Result<Vec<V>> {
        let items = self.peek(tx, limit).await?;
        items.into_iter().map(|item| self.remove(tx, &item).map(|()| item.value)).collect()
    }

    /// Takes an item that was looked at.
    pub fn remove(&self, tx: &Tx, item: &Item<V>) -> Result<()> {
        tx.delete(Cell::entry(self.oid, item.key.clone()))
    }

    /// Up to `limit` items at the front, without taking them. Consumers that each choose a different one do not conflict.
    pub async fn peek(&self, view: &View, limit: u64) -> Result<Vec<Item<V>>> {
        self.walk(view, Range::all().limited(limit)).collect().await
    }

    /// All items, from the front.
    pub fn iter<'v>(&self, view: &'v View) -> Entries<'v, Item<V>> {
        self.walk(view, Range::all())
    }

    /// A range of keys of items.
    pub fn walk<'v>(&self, view: &'v View, range: Range) -> Entries<'v, Item<V>> {
        Entries::new(view, self.oid, range, |oid, entry| item(class::QUEUE_ITEM, oid, entry))
    }
}

impl<V> Create for Queue<V> {
    async fn create(tx: &Tx) -> Result<Self> {
        create_entries(tx).await
    }
}

impl<V> List<V> {
    /// The list of an object.
    pub const fn new(oid: Oid) -> List<V> {
        List { oid, types: PhantomData }
    }
}

impl<V: Serialize + DeserializeOwned> List<V> {
    /// Appends an item.
    pub fn push(&self, tx: &Tx, value: &V) -> Result<()> {
        tx.put_stamped(self.oid, Bytes::new(), entries::record(&(), value, class::ENTRY, entry::record)?)
    }

    /// Changes an item.
    pub fn set(&self, tx: &Tx, key: &Bytes, value: &V) -> Result<()> {
        let record = entries::record(&(), value, class::ENTRY, entry::record)?;
        tx.put_unchecked(Cell::entry(self.oid, key.clone()), record)
    }

    /// Removes an item.
    pub fn remove(&self, tx: &Tx, key: &Bytes) -> Result<()> {
        tx.delete(Cell::entry(self.oid, key.clone()))
    }

    /// All items, from the first.
    pub fn iter<'v>(&self, view: &'v View) -> Entries<'v, Item<V>> {
        self.walk(view, Range::all())
    }

    /// The last `limit` items, newest first.
    pub fn newest<'v>(&self, view: &'v View, limit: u64) -> Entries<'v, Item<V>> {
        self.walk(view, Range::all().limited(limit).reversed())
    }

    /// A range of keys of items.
    pub fn walk<'v>(&self, view: &'v View, range: Range) -> Entries<'v, Item<V>> {
        Entries::new(view, self.oid, range, |oid, entry| item(class::ENTRY, oid, entry))
    }

    /// The number of items, by walking over them all.
    pub async fn count(&self, view: &View) -> Result<u64> {
        self.walk(view, Range::all().keys_only()).count().await
    }
}

impl<V> Create for List<V> {
    async fn create(tx: &Tx) -> Result<Self> {
        create_entries(tx).await
    }
}
