//! Owns the indexes: from a key to the objects that have it, and from a key to the one value that may have it.

use super::entries::{self, Entries};
use super::{Create, create_entries};
use crate::errors::Result;
use crate::keys::{self, AsKey, Key, Prefixed};
use crate::revision::{Entry, Range};
use crate::tx::{Tx, View};
use crate::typed::{Persistent, Ref, handle};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use zeolite_proto::resolvers::{class, entry, unique};
use zeolite_proto::{Cell, Fault, FaultKind, Oid};

/// From a key to any number of objects, in the order of keys. Writers never conflict, not even on one key, unless one takes out
/// what another puts in.
///
/// ```
/// use zeolite_client::{Persistent, collections::Index};
///
/// #[derive(serde::Serialize, serde::Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page")]
/// struct Page {
///     title: String,
/// }
///
/// # zeolite_testing::with_db(async |db| {
/// let by_author: Index<String, Page> = db.run(async |tx| tx.root_or_create("pages by author").await).await?;
/// let home = db
///     .run(async |tx| {
///         let home = tx.create(&Page { title: "Home".into() }).await?;
///         by_author.insert(&tx, "ada", home)?;
///         Ok(home)
///     })
///     .await?;
/// assert_eq!(by_author.find(&db.now(), "ada").await?, [home]);
/// # Ok(()) });
/// ```
pub struct Index<K, T> {
    oid: Oid,
    types: PhantomData<fn() -> (K, T)>,
}

/// From a key to one value: two writers that insert one key conflict, even with equal values, so that each of them knows
/// whether the key is its own.
///
/// ```
/// use zeolite_client::collections::UniqueIndex;
///
/// # zeolite_testing::with_db(async |db| {
/// let logins: UniqueIndex<String, u32> = db.run(async |tx| tx.root_or_create("logins").await).await?;
/// let take = async |number: u32| db.run(async |tx| logins.insert(&tx, "ada", &number).await?.or_refuse()).await;
/// take(1).await?;
/// assert!(take(2).await.is_err(), "the name is taken");
/// assert_eq!(logins.get(&db.now(), "ada").await?, Some(1));
/// # Ok(()) });
/// ```
pub struct UniqueIndex<K, V> {
    oid: Oid,
    types: PhantomData<fn() -> (K, V)>,
}

/// Whether a unique key was free.
///
/// ```
/// use zeolite_client::collections::UniqueIndex;
///
/// # zeolite_testing::with_db(async |db| {
/// let logins: UniqueIndex<String, u32> = db.run(async |tx| tx.root_or_create("logins").await).await?;
/// let is_new = db.run(async |tx| Ok(logins.insert(&tx, "ada", &1).await?.is_new())).await?;
/// assert!(is_new);
/// # Ok(()) });
/// ```
#[must_use = "the key may be another's: look whether it `is_new`, or end with `or_refuse`"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// It was, and is taken by this transaction.
    New,
    /// It is another's, in this cell of the index; nothing was written.
    Taken(Cell),
}

impl Inserted {
    /// Whether it was free.
    pub fn is_new(&self) -> bool {
        *self == Inserted::New
    }

    /// An error where it was not.
    pub fn or_refuse(self) -> Result<()> {
        match self {
            Inserted::New => Ok(()),
            Inserted::Taken(cell) => {
                let message = format!("the key of cell {cell} is taken in its unique index; choose another key");
                Err(Fault::new(FaultKind::Refused, message).into())
            }
        }
    }
}

handle!(Index<K, T>, class::INDEX);
handle!(UniqueIndex<K, V>, class::UNIQUE_INDEX);

fn inner<Q: AsKey + ?Sized>(key: &Q) -> Bytes {
    let mut out = Vec::with_capacity(24);
    key.put_inner(&mut out);
    out.into()
}

/// All (key, object) whose keys begin so.
pub(super) fn inner_prefix<K: Prefixed<Q>, Q: AsKey + ?Sized>(part: &Q) -> Range {
    let mut bytes = Vec::with_capacity(24);
    K::put_inner_prefix(part, &mut bytes);
    Range::prefix(bytes)
}

/// Bounds on keys as bounds on the bytes of (key, object).
pub(super) fn bounds<Q: AsKey>(range: impl RangeBounds<Q>) -> Range {
    let from = match range.start_bound() {
        Bound::Included(key) => Some(inner(key)),
        Bound::Excluded(key) => keys::after_prefix(&inner(key)),
        Bound::Unbounded => Some(Bytes::new()),
    };
    let to = match range.end_bound() {
        Bound::Included(key) => keys::after_prefix(&inner(key)),
        Bound::Excluded(key) => Some(inner(key)),
        Bound::Unbounded => None,
    };
    // Nothing comes after the greatest key.
    from.map_or_else(Range::nothing, |from| Range::between(from, to))
}

impl<K: Key, T: Persistent> UniqueIndex<K, Ref<T>> {
    /// The key is this object's: it takes it if it is free, and leaves it if it has it already; refused where it is another's.
    /// For the step of an evolve, beside live code that keeps the index as well.
    pub async fn claim<Q: AsKey + ?Sized>(&self, tx: &Tx, key: &Q, reference: Ref<T>) -> Result<()>
    where
        K: Borrow<Q>,
    {
        match self.get(tx, key).await? {
            Some(owner) if owner == reference => Ok(()),
            _ => self.insert(tx, key, &reference).await?.or_refuse(),
        }
    }

    /// The key is no longer this object's: frees it, unless it is another's. For live code beside an evolve that fills the index: it
    /// writes that the key is free also where nobody has it yet, so that a step that takes it meanwhile is made anew.
    pub async fn release<Q: AsKey + ?Sized>(&self, tx: &Tx, key: &Q, reference: Ref<T>) -> Result<()>
    where
        K: Borrow<Q>,
    {
        match self.get(tx, key).await? {
            Some(owner) if owner != reference => Ok(()),
            _ => self.remove(tx, key),
        }
    }
}

impl<K, T> Index<K, T> {
    /// The index of an object.
    pub const fn new(oid: Oid) -> Index<K, T> {
        Index { oid, types: PhantomData }
    }

    fn cell<Q: AsKey + ?Sized>(&self, key: &Q, reference: Ref<T>) -> Cell {
        Cell::entry(self.oid, keys::encode(&(key, reference)))
    }
}

impl<K: Key, T: Persistent> Index<K, T> {
    /// Adds an object under a key.
    pub fn insert<Q: AsKey + ?Sized>(&self, tx: &Tx, key: &Q, reference: Ref<T>) -> Result<()>
    where
        K: Borrow<Q>,
    {
        let record = entries::record(&(key, reference), &(), class::ENTRY, entry::record)?;
        tx.put_unchecked(self.cell(key, reference), record)
    }

    /// Takes an object out from under a key.
    pub fn remove<Q: AsKey + ?Sized>(&self, tx: &Tx, key: &Q, reference: Ref<T>) -> Result<()>
    where
        K: Borrow<Q>,
    {
        tx.delete(self.cell(key, reference))
    }

    /// Whether the object is there under the key.
    pub async fn contains<Q: AsKey + ?Sized>(&self, view: &View, key: &Q, reference: Ref<T>) -> Result<bool>
    where
        K: Borrow<Q>,
    {
        Ok(view.get_encoded(&self.cell(key, reference)).await?.is_some())
    }

    /// The objects under a key.
    pub async fn find<Q: AsKey + ?Sized>(&self, view: &View, key: &Q) -> Result<Vec<Ref<T>>>
    where
        K: Borrow<Q>,
    {
        let found = self.walk(view, Range::prefix(inner(key))).collect().await?;
        Ok(found.into_iter().map(|(_, reference)| reference).collect())
    }

    /// Keys and objects of a range of keys, in their order.
    pub fn range<'v>(&self, view: &'v View, range: impl RangeBounds<K>) -> Entries<'v, (K, Ref<T>)> {
        self.walk(view, bounds(range))
    }

    /// The entries whose keys begin so; see [`Prefixed`].
    pub fn prefix<'v, Q: AsKey + ?Sized>(&self, view: &'v View, part: &Q) -> Entries<'v, (K, Ref<T>)>
    where
        K: Prefixed<Q>,
    {
        self.walk(view, inner_prefix::<K, Q>(part))
    }

    /// The same from the last to the first.
    pub fn range_back<'v>(&self, view: &'v View, range: impl RangeBounds<K>) -> Entries<'v, (K, Ref<T>)> {
        self.walk(view, bounds(range).reversed())
    }

    /// Everything.
    pub fn iter<'v>(&self, view: &'v View) -> Entries<'v, (K, Ref<T>)> {
        self.walk(view, Range::all())
    }

    /// A range of encoded keys: with a limit, by prefix.
    pub fn walk<'v>(&self, view: &'v View, range: Range) -> Entries<'v, (K, Ref<T>)> {
        Entries::new(view, self.oid, range.keys_only(), |oid, entry| entries::key(oid, &entry.key))
    }
}

impl<K: Key, T> Create for Index<K, T> {
    async fn create(tx: &Tx) -> Result<Self> {
        create_entries(tx).await
    }
}

impl<K, V> UniqueIndex<K, V> {
    /// The index of an object.
    pub const fn new(oid: Oid) -> UniqueIndex<K, V> {
        UniqueIndex { oid, types: PhantomData }
    }

    fn cell<Q: AsKey + ?Sized>(&self, key: &Q) -> Cell {
        Cell::entry(self.oid, keys::encode(key))
    }
}

impl<K: Key, V: Serialize + DeserializeOwned> UniqueIndex<K, V> {
    /// Takes the key if it is free, and says whether it was. If another commit takes it at the same time, the commit is refused
    /// with a conflict; in [`crate::Db::run`] the next attempt then finds it taken.
    pub async fn insert<Q: AsKey + ?Sized>(&self, tx: &Tx, key: &Q, value: &V) -> Result<Inserted>
    where
        K: Borrow<Q>,
    {
        let cell = self.cell(key);
        if tx.get_encoded(&cell).await?.is_some() {
            return Ok(Inserted::Taken(cell));
        }
        tx.put_unchecked(cell, entries::record(key, value, class::UNIQUE, unique::record)?)?;
        Ok(Inserted::New)
    }

    /// Changes the value of a key, whether it was taken or not.
    pub fn set<Q: AsKey + ?Sized>(&self, tx: &Tx, key: &Q, value: &V) -> Result<()>
    where
        K: Borrow<Q>,
    {
        tx.put_unchecked(self.cell(key), entries::record(key, value, class::UNIQUE, unique::record)?)
    }

    /// The value of a key.
    pub async fn get<Q: AsKey + ?Sized>(&self, view: &View, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
    {
        let cell = self.cell(key);
        let record = view.get_encoded(&cell).await?;
        record.map(|record| entries::read(&cell, class::UNIQUE, &record)).transpose()
    }

    /// Frees a key.
    pub fn remove<Q: AsKey + ?Sized>(&self, tx: &Tx, key: &Q) -> Result<()>
    where
        K: Borrow<Q>,
    {
        tx.delete(self.cell(key))
    }

    /// The entries of a range of keys, in their order.
    pub fn range<'v>(&self, view: &'v View, range: impl RangeBounds<K>) -> Entries<'v, (K, V)> {
        self.walk(view, entries::bounds(range))
    }

    /// The entries whose keys begin so; see [`Prefixed`].
    pub fn prefix<'v, Q: AsKey + ?Sized>(&self, view: &'v View, part: &Q) -> Entries<'v, (K, V)>
    where
        K: Prefixed<Q>,
    {
        self.walk(view, entries::prefix::<K, Q>(part))
    }

    /// All entries.
    pub fn iter<'v>(&self, view: &'v View) -> Entries<'v, (K, V)> {
        self.walk(view, Range::all())
    }

    /// A range of encoded keys: backwards, with a limit, by prefix.
    pub fn walk<'v>(&self, view: &'v View, range: Range) -> Entries<'v, (K, V)> {
        Entries::new(view, self.oid, range, pair)
    }
}

pub(super) fn pair<K: Key, V: DeserializeOwned>(oid: Oid, entry: Entry) -> Result<(K, V)> {
    let key = entries::key(oid, &entry.key)?;
    Ok((key, entries::read(&Cell { oid, key: entry.key }, class::UNIQUE, &entry.record)?))
}

impl<K: Key, V> Create for UniqueIndex<K, V> {
    async fn create(tx: &Tx) -> Result<Self> {
        create_entries(tx).await
    }
}
