//! Owns the indexes that are kept with the objects of a class, as they are read and as they are stored.
//!
//! ```text
//!   root ── "wiki.Page:author"      ──> Index         (key, object)     Page::BY_AUTHOR reads it
//!   root ── "wiki.Page:unique:slug" ──> UniqueIndex    key -> object    Page::BY_SLUG
//!   root ── "wiki.Page:length(u64)" ──> an index whose keys are not of text says what they are
//! ```
//! So keys of another type, or of a unique index where there was none, are in another collection, and the records of each version of the
//! class are in their own. A name without the kind of its keys is one of text, or one that was made before names told the kind: that is
//! looked for as well, unless a former version of the class had an index of text of that name.
//!
//! Each is a collection with a name in the root, made when the first object gets an entry; its entries are those that `insert` would
//! write, so any tool and any language reads them. What the transaction has written is settled before it reads.
//!
//! Not here: when entries are written (`objects`).

mod names;

pub(crate) use names::root_name;
pub use names::{KeptName, KeptPlace, index_in_name};

use super::entries::{self, Entries};
use super::{Index, UniqueIndex, index};
use crate::errors::Result;
use crate::keys::{AsKey, Key, Prefixed};
use crate::revision::Range;
use crate::tx::{IndexKey, KeptIndex, View};
use crate::typed::{Handle, Persistent, Ref};
use bytes::Bytes;
use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use zeolite_proto::resolvers::{class, entry, unique};
use zeolite_proto::{Cell, Oid};

/// Reads an index that is kept with the objects of class `T`: from a key to any number of objects. The derive of [`Persistent`] makes
/// one for each (`Page::BY_AUTHOR`).
///
/// ```
/// use zeolite_client::Persistent;
///
/// #[derive(serde::Serialize, serde::Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page")]
/// struct Page {
///     #[persistent(unique)]
///     slug: String,
///     #[persistent(index)]
///     author: String,
/// }
///
/// # zeolite_testing::with_db(async |db| {
/// let page = Page { slug: "home".into(), author: "ada".into() };
/// let home = db.run(async |tx| tx.create(&page).await).await?;
/// assert_eq!(Page::BY_AUTHOR.find(&db.now(), "ada").await?, [home]);
/// # Ok(()) });
/// ```
pub struct IndexBy<K, T> {
    name: &'static str,
    types: PhantomData<fn() -> (K, T)>,
}

/// Reads a unique index that is kept with the objects of class `T`: from a key to the one object that has it.
///
/// ```
/// use zeolite_client::Persistent;
///
/// #[derive(serde::Serialize, serde::Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page")]
/// struct Page {
///     #[persistent(unique)]
///     slug: String,
///     #[persistent(index)]
///     author: String,
/// }
///
/// # zeolite_testing::with_db(async |db| {
/// let page = Page { slug: "home".into(), author: "ada".into() };
/// let home = db.run(async |tx| tx.create(&page).await).await?;
/// assert_eq!(Page::BY_SLUG.find(&db.now(), "home").await?, Some(home));
/// # Ok(()) });
/// ```
pub struct UniqueBy<K, T> {
    name: &'static str,
    types: PhantomData<fn() -> (K, T)>,
}

macro_rules! reads_by_name {
    ($type:ident) => {
        impl<K, T> Clone for $type<K, T> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<K, T> Copy for $type<K, T> {}
        impl<K, T> std::fmt::Debug for $type<K, T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.name).finish()
            }
        }
        impl<K, T> $type<K, T> {
            /// The index of this name among [`Persistent::INDEXES`] of the class.
            pub const fn new(name: &'static str) -> Self {
                $type { name, types: PhantomData }
            }
        }
    };
}

reads_by_name!(IndexBy);
reads_by_name!(UniqueBy);

impl<K: Key, T: Persistent> IndexBy<K, T> {
    /// The collection that it is; none: no object has had an entry yet.
    pub async fn collection(&self, view: &View) -> Result<Option<Index<K, T>>> {
        root(view, T::CLASS, declared::<K, T>(KeptIndex::many(self.name))).await
    }

    /// The objects under a key.
    pub async fn find<Q: AsKey + ?Sized>(&self, view: &View, key: &Q) -> Result<Vec<Ref<T>>>
    where
        K: Borrow<Q>,
    {
        match self.collection(view).await? {
            Some(index) => index.find(view, key).await,
            None => Ok(Vec::new()),
        }
    }

    /// The objects under a key with their values, in two round trips at most. One that is gone (removed by code that does not know the
    /// index) is left out.
    pub async fn load<Q: AsKey + ?Sized>(&self, view: &View, key: &Q) -> Result<Vec<(Ref<T>, T)>>
    where
        K: Borrow<Q>,
    {
        let found = self.find(view, key).await?;
        let values = view.find_many(&found).await?;
        Ok(found.into_iter().zip(values).filter_map(|(reference, value)| Some((reference, value?))).collect())
    }

    /// Keys and objects of a range of keys, in their order.
    pub fn range<'v>(&self, view: &'v View, range: impl RangeBounds<K>) -> Entries<'v, (K, Ref<T>)> {
        self.walk(view, index::bounds(range))
    }

    /// Keys and objects whose keys begin so; see [`Prefixed`].
    pub fn prefix<'v, Q: AsKey + ?Sized>(&self, view: &'v View, part: &Q) -> Entries<'v, (K, Ref<T>)>
    where
        K: Prefixed<Q>,
    {
        self.walk(view, index::inner_prefix::<K, Q>(part))
    }

    fn walk<'v>(&self, view: &'v View, range: Range) -> Entries<'v, (K, Ref<T>)> {
        let name = self.name;
        let oid = async move {
            Ok(root::<Index<K, T>>(view, T::CLASS, declared::<K, T>(KeptIndex::many(name)))
                .await?
                .map(|index| index.oid()))
        };
        Entries::looked_up(view, oid, range.keys_only(), |oid, entry| entries::key(oid, &entry.key))
    }
}

impl<K: Key, T: Persistent> UniqueBy<K, T> {
    /// The collection that it is; none: no object has had an entry yet.
    pub async fn collection(&self, view: &View) -> Result<Option<UniqueIndex<K, Ref<T>>>> {
        root(view, T::CLASS, declared::<K, T>(KeptIndex::unique(self.name))).await
    }

    /// The object under a key.
    pub async fn find<Q: AsKey + ?Sized>(&self, view: &View, key: &Q) -> Result<Option<Ref<T>>>
    where
        K: Borrow<Q>,
    {
        match self.collection(view).await? {
            Some(index) => index.get(view, key).await,
            None => Ok(None),
        }
    }

    /// The object under a key with its value.
    pub async fn load<Q: AsKey + ?Sized>(&self, view: &View, key: &Q) -> Result<Option<(Ref<T>, T)>>
    where
        K: Borrow<Q>,
    {
        let Some(reference) = self.find(view, key).await? else { return Ok(None) };
        Ok(view.find(reference).await?.map(|value| (reference, value)))
    }

    /// Keys and objects of a range of keys, in their order.
    pub fn range<'v>(&self, view: &'v View, range: impl RangeBounds<K>) -> Entries<'v, (K, Ref<T>)> {
        self.walk(view, entries::bounds(range))
    }

    /// Keys and objects whose keys begin so; see [`Prefixed`].
    pub fn prefix<'v, Q: AsKey + ?Sized>(&self, view: &'v View, part: &Q) -> Entries<'v, (K, Ref<T>)>
    where
        K: Prefixed<Q>,
    {
        self.walk(view, entries::prefix::<K, Q>(part))
    }

    fn walk<'v>(&self, view: &'v View, range: Range) -> Entries<'v, (K, Ref<T>)> {
        let name = self.name;
        let oid = async move {
            Ok(root::<UniqueIndex<K, Ref<T>>>(view, T::CLASS, declared::<K, T>(KeptIndex::unique(name)))
                .await?
                .map(|index| index.oid()))
        };
        Entries::looked_up(view, oid, range, index::pair)
    }
}

/// The index as its class declares it.
fn declared<K: Key, T: Persistent>(index: KeptIndex) -> KeptIndex {
    let is_it = |of: &&KeptIndex| of.name == index.name && of.unique == index.unique;
    T::INDEXES.iter().find(is_it).copied().unwrap_or_else(|| index.keyed::<K>())
}

async fn root<H: Handle>(view: &View, class: &'static str, index: KeptIndex) -> Result<Option<H>> {
    view.settle().await?;
    let known = view.own.lock().kept.roots.get(&(class, index)).copied();
    match known {
        Some(oid) => Ok(Some(H::from_oid(oid))),
        None => Ok(KeptName::of(class, index).find::<H>(view).await?.map(|found| H::from_oid(found.oid))),
    }
}

/// Where the entry of an object under a key is.
pub(crate) fn cell(index: Oid, key: &IndexKey, object: Oid) -> Cell {
    if key.index.unique {
        return Cell::entry(index, key.key.clone());
    }
    let mut whole = key.key.to_vec();
    object.put_last(&mut whole);
    Cell::entry(index, whole)
}

/// A key that is encoded already.
struct Encoded<'k> {
    key: &'k IndexKey,
    object: Option<Oid>,
}

impl AsKey for Encoded<'_> {
    fn put_last(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.key);
    }

    fn put_refs(&self, refs: &mut Vec<Oid>) {
        refs.extend_from_slice(&self.key.refs);
        refs.extend(self.object);
    }
}

/// The record of that entry.
pub(crate) fn record(key: &IndexKey, object: Oid) -> Result<Bytes> {
    if key.index.unique {
        let value = Ref::<()>::new(object);
        return entries::record(&Encoded { key, object: None }, &value, class::UNIQUE, unique::record);
    }
    entries::record(&Encoded { key, object: Some(object) }, &(), class::ENTRY, entry::record)
}

/// Whose a unique key is.
pub(crate) fn owner(cell: &Cell, record: &Bytes) -> Result<Oid> {
    entries::read::<Ref<()>>(cell, class::UNIQUE, record).map(|owner| owner.oid())
}
