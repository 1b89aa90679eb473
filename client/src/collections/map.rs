//! Owns the ordered map and the set: an entry per key.

use super::entries::{self, Entries};
use super::{Create, create_entries};
use crate::errors::Result;
use crate::keys::{self, AsKey, Key, Prefixed};
use crate::revision::{Entry, Range};
use crate::tx::{Tx, View};
use crate::typed::handle;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use zeolite_proto::resolvers::{class, entry};
use zeolite_proto::{Cell, Oid};

/// An ordered map. Writers of different keys never conflict; writers of one key do, unless they write the same.
///
/// ```
/// use zeolite_client::collections::Map;
///
/// # zeolite_testing::with_db(async |db| {
/// let words: Map<String, u64> = db.run(async |tx| tx.root_or_create("words").await).await?;
/// db.run(async |tx| words.insert(&tx, "zeolite", &7)).await?;
/// assert_eq!(words.get(&db.now(), "zeolite").await?, Some(7));
/// # Ok(()) });
/// ```
pub struct Map<K, V> {
    oid: Oid,
    types: PhantomData<fn() -> (K, V)>,
}

/// An ordered set with an entry per member. Writers never conflict, unless one takes out what another puts in.
///
/// ```
/// use zeolite_client::collections::Set;
///
/// # zeolite_testing::with_db(async |db| {
/// let tags: Set<String> = db.run(async |tx| tx.root_or_create("tags").await).await?;
/// db.run(async |tx| tags.insert(&tx, "mineral")).await?;
/// assert!(tags.contains(&db.now(), "mineral").await?);
/// # Ok(()) });
/// ```
pub struct Set<K> {
    oid: Oid,
    types: PhantomData<fn() -> K>,
}

handle!(Map<K, V>, class::MAP);
handle!(Set<K>, class::MEMBERS);

impl<K, V> Map<K, V> {
    /// The map of an object.
    pub const fn new(oid: Oid) -> Map<K, V> {
        Map { oid, types: PhantomData }
    }

    fn cell<Q: AsKey + ?Sized>(&self, key: &Q) -> Cell {
        Cell::entry(self.oid, keys::encode(key))
    }
}

impl<K: Key, V: Serialize + DeserializeOwned> Map<K, V> {
    /// The value of a key.
    pub async fn get<Q: AsKey + ?Sized>(&self, view: &View, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
    {
        let cell = self.cell(key);
        let record = view.get_encoded(&cell).await?;
        record.map(|record| entries::read(&cell, class::ENTRY, &record)).transpose()
    }

    /// The values of many keys, in their order: one frame for all that are not at hand.
    pub async fn get_many<'q, Q: AsKey + ?Sized + 'q>(
        &self,
        view: &View,
        keys: impl IntoIterator<Item = &'q Q>,
    ) -> Result<Vec<Option<V>>>
    where
        K: Borrow<Q>,
    {
        let cells: Vec<Cell> = keys.into_iter().map(|key| self.cell(key)).collect();
        let records = view.get_many(&cells).await?;
        let read = |(cell, record): (&Cell, Option<bytes::Bytes>)| {
            record.map(|record| entries::read(cell, class::ENTRY, &record)).transpose()
        };
        cells.iter().zip(records).map(read).collect()
    }

    /// Whether the key is there.
    pub async fn contains<Q: AsKey + ?Sized>(&self, view: &View, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
    {
        Ok(view.get_encoded(&self.cell(key)).await?.is_some())
    }

    /// Sets the value of a key. Also where it is the same as before: whoever took it out or changed it meanwhile is in the way then.
    pub fn insert<Q: AsKey + ?Sized>(&self, tx: &Tx, key: &Q, value: &V) -> Result<()>
    where
        K: Borrow<Q>,
    {
        tx.put_unchecked(self.cell(key), entries::record(key, value, class::ENTRY, entry::record)?)
    }

    /// Takes a key out.
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

    /// The same from the last to the first.
    pub fn range_back<'v>(&self, view: &'v View, range: impl RangeBounds<K>) -> Entries<'v, (K, V)> {
        self.walk(view, entries::bounds(range).reversed())
    }

    /// The entries of a range of encoded keys: with a limit, by prefix.
    pub fn walk<'v>(&self, view: &'v View, range: Range) -> Entries<'v, (K, V)> {
        Entries::new(view, self.oid, range, pair)
    }

    /// All entries.
    pub fn iter<'v>(&self, view: &'v View) -> Entries<'v, (K, V)> {
        self.walk(view, Range::all())
    }

    /// All keys.
    pub fn keys<'v>(&self, view: &'v View) -> Entries<'v, K> {
        Entries::new(view, self.oid, Range::all().keys_only(), |oid, entry| entries::key(oid, &entry.key))
    }

    /// The first entry.
    pub async fn first(&self, view: &View) -> Result<Option<(K, V)>> {
        self.walk(view, Range::all().limited(1)).next().await
    }

    /// The last entry.
    pub async fn last(&self, view: &View) -> Result<Option<(K, V)>> {
        self.walk(view, Range::all().limited(1).reversed()).next().await
    }

    /// The number of entries, by walking over them all.
    pub async fn count(&self, view: &View) -> Result<u64> {
        self.keys(view).count().await
    }
}

fn pair<K: Key, V: DeserializeOwned>(oid: Oid, entry: Entry) -> Result<(K, V)> {
    let key = entries::key(oid, &entry.key)?;
    Ok((key, entries::read(&Cell { oid, key: entry.key }, class::ENTRY, &entry.record)?))
}

impl<K: Key, V> Create for Map<K, V> {
    async fn create(tx: &Tx) -> Result<Self> {
        create_entries(tx).await
    }
}

impl<K> Set<K> {
    /// The set of an object.
    pub const fn new(oid: Oid) -> Set<K> {
        Set { oid, types: PhantomData }
    }

    fn cell<Q: AsKey + ?Sized>(&self, key: &Q) -> Cell {
        Cell::entry(self.oid, keys::encode(key))
    }
}

impl<K: Key> Set<K> {
    /// Whether the member is there.
    pub async fn contains<Q: AsKey + ?Sized>(&self, view: &View, member: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
    {
        Ok(view.get_encoded(&self.cell(member)).await?.is_some())
    }

    /// Adds a member, also one that is there: whoever took it out meanwhile is in the way then. References that are members keep their objects from being collected.
    pub fn insert<Q: AsKey + ?Sized>(&self, tx: &Tx, member: &Q) -> Result<()>
    where
        K: Borrow<Q>,
    {
        tx.put_unchecked(self.cell(member), entries::record(member, &(), class::ENTRY, entry::record)?)
    }

    /// Takes a member out.
    pub fn remove<Q: AsKey + ?Sized>(&self, tx: &Tx, member: &Q) -> Result<()>
    where
        K: Borrow<Q>,
    {
        tx.delete(self.cell(member))
    }

    /// The members of a range, in their order.
    pub fn range<'v>(&self, view: &'v View, range: impl RangeBounds<K>) -> Entries<'v, K> {
        self.walk(view, entries::bounds(range))
    }

    /// The members that begin so; see [`Prefixed`].
    pub fn prefix<'v, Q: AsKey + ?Sized>(&self, view: &'v View, part: &Q) -> Entries<'v, K>
    where
        K: Prefixed<Q>,
    {
        self.walk(view, entries::prefix::<K, Q>(part))
    }

    /// The members of a range of encoded keys: backwards, with a limit, by prefix.
    pub fn walk<'v>(&self, view: &'v View, range: Range) -> Entries<'v, K> {
        Entries::new(view, self.oid, range.keys_only(), |oid, entry| entries::key(oid, &entry.key))
    }

    /// All members.
    pub fn iter<'v>(&self, view: &'v View) -> Entries<'v, K> {
        self.walk(view, Range::all())
    }

    /// The number of members, by walking over them all.
    pub async fn count(&self, view: &View) -> Result<u64> {
        self.iter(view).count().await
    }
}

impl<K: Key> Create for Set<K> {
    async fn create(tx: &Tx) -> Result<Self> {
        create_entries(tx).await
    }
}
