//! Owns the check that indexes hold, in both directions: every object is in the index under each of its keys, and every entry has an object
//! that is to be found so. A page of objects, or of entries, costs one look for all of it.
//!
//! ```text
//!   objects ── their keys ──> cells of entries ── one list ──> missing, or another's
//!   entries ── their objects ──> one list ── its keys ──> no object, or none that has the key
//! ```
//! It is the same for an index of the application's own ([`index_holds`], [`unique_index_holds`]) and for those that are kept with a class
//! ([`kept_indexes_hold`]); what differs is where the keys come from, and how one is shown.

use super::verify::{Check, Problems};
use crate::collections::kept;
use crate::collections::{Index, KeptName, UniqueIndex};
use crate::errors::Result;
use crate::keys::Key;
use crate::revision::{Entry, Range};
use crate::tx::{IndexKey, KeptIndex, View};
use crate::typed::{Handle, Persistent, Ref, decode_record, keys_of, keys_of_value};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::marker::PhantomData;
use zeolite_proto::{Cell, Oid};

/// Indexes with where they are; none: nobody has made it.
type Indexes = Vec<(KeptIndex, Option<Oid>)>;

/// Where keys come from.
trait Keyed: Send + Sync {
    /// Those that are looked at.
    fn indexes<'a>(&'a self, view: &'a View) -> BoxFuture<'a, Result<Indexes>>;
    /// Under which keys an object must be.
    fn wanted(&self, cell: &Cell, record: &Bytes) -> Result<Vec<IndexKey>>;
    /// Under which keys it may be.
    fn allowed(&self, cell: &Cell, record: &Bytes) -> Result<Vec<IndexKey>>;
    /// A key of an index, for people.
    fn shown(&self, index: KeptIndex, key: &Bytes) -> String;
    /// An index, for people.
    fn named(&self, index: KeptIndex) -> String;
}

struct KeysHold<K>(K);

impl<K: Keyed> KeysHold<K> {
    async fn missing(&self, view: &View, objects: &[(Cell, Bytes)]) -> Result<Problems> {
        let (indexes, longest) = (self.0.indexes(view).await?, view.db().key_bytes_max());
        let mut asked = Vec::new();
        for (place, (cell, record)) in objects.iter().enumerate() {
            for key in self.0.wanted(cell, record)? {
                let index = indexes.iter().find(|(index, _)| *index == key.index).and_then(|(_, oid)| *oid);
                // No server has one that is too long.
                let at = index.map(|index| kept::cell(index, &key, cell.oid)).filter(|at| at.key.len() <= longest);
                asked.push((place, at, key));
            }
        }
        let cells: Vec<Cell> = asked.iter().filter_map(|(_, entry, _)| entry.clone()).collect();
        let mut found = view.get_many(&cells).await?.into_iter();
        let mut problems = Problems::new();
        for (place, entry, key) in asked {
            let record = entry.as_ref().and_then(|_| found.next().flatten());
            let told = || (self.0.named(key.index), self.0.shown(key.index, &key.key));
            match (entry, record) {
                (Some(at), Some(record)) if key.index.is_unique() => {
                    if kept::owner(&at, &record)? != objects[place].0.oid {
                        let (name, shown) = told();
                        problems.push((place, format!("has {shown} of the {name} in common with another")));
                    }
                }
                (Some(_), Some(_)) => {}
                _ => {
                    let (name, shown) = told();
                    problems.push((place, format!("is not in the {name} under {shown}")));
                }
            }
        }
        Ok(problems)
    }

    /// What is wrong with the entries of a page.
    async fn astray(&self, view: &View, index: (KeptIndex, Oid), page: Vec<Entry>) -> Result<Vec<(Cell, String)>> {
        let (index, oid) = index;
        let (mut entries, mut problems) = (Vec::with_capacity(page.len()), Vec::new());
        for Entry { key, record, .. } in page {
            let cell = Cell { oid, key };
            match object_of(index, &cell, &record)? {
                Some(object) => entries.push((object, cell)),
                None => {
                    let problem = format!("the {} has {cell}, which is no key of it", self.0.named(index));
                    problems.push((cell, problem));
                }
            }
        }
        let objects: Vec<Cell> = entries.iter().map(|(object, _)| Cell::object(*object)).collect();
        let records = view.get_many(&objects).await?;
        for ((object, cell), record) in entries.into_iter().zip(records) {
            let keys = record.as_ref().map(|record| self.0.allowed(&Cell::object(object), record)).transpose()?;
            let is_this = |key: &IndexKey| key.index == index && kept::cell(oid, key, object) == cell;
            let why = match keys {
                None => "which does not exist",
                Some(keys) if !keys.iter().any(is_this) => "which has no such key",
                Some(_) => continue,
            };
            let key = if index.is_unique() { cell.key.clone() } else { cell.key.slice(..cell.key.len() - OID_BYTES) };
            let (name, shown) = (self.0.named(index), self.0.shown(index, &key));
            let problem = format!("the {name} has under {shown} object {object}, {why}");
            problems.push((cell, problem));
        }
        Ok(problems)
    }
}

/// At the end of the key of an entry whose index has any number of objects under a key.
const OID_BYTES: usize = size_of::<u64>();

/// Whose an entry is; none: its key is none of this index.
pub(super) fn object_of(index: KeptIndex, cell: &Cell, record: &Bytes) -> Result<Option<Oid>> {
    if index.is_unique() {
        return kept::owner(cell, record).map(Some);
    }
    Ok(cell.key.last_chunk::<OID_BYTES>().map(|oid| Oid(u64::from_be_bytes(*oid))))
}

impl<K: Keyed> Check for KeysHold<K> {
    fn object<'a>(&'a self, view: &'a View, cell: &'a Cell, record: &'a Bytes) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let missing = self.missing(view, &[(cell.clone(), record.clone())]).await?;
            Ok(missing.into_iter().map(|(_, problem)| problem).collect())
        })
    }

    fn objects<'a>(&'a self, view: &'a View, objects: &'a [(Cell, Bytes)]) -> BoxFuture<'a, Result<Problems>> {
        Box::pin(self.missing(view, objects))
    }

    fn whole<'a>(&'a self, view: &'a View, problem: &'a mut (dyn FnMut(String) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for (index, oid) in self.0.indexes(view).await? {
                let Some(oid) = oid else { continue };
                let mut scan = view.scan(oid, Range::all());
                while let Some(page) = scan.next_page().await? {
                    let astray = self.astray(view, (index, oid), page).await?;
                    astray.into_iter().for_each(|(_, told)| problem(told));
                }
            }
            Ok(())
        })
    }
}

/// An index of the application's own.
struct Own<K, T, F> {
    index: KeptIndex,
    oid: Oid,
    keys: F,
    types: PhantomData<fn() -> (K, T)>,
}

impl<K, T, F> Keyed for Own<K, T, F>
where
    K: Key + std::fmt::Debug,
    T: Persistent,
    F: Fn(&T) -> Vec<K> + Send + Sync,
{
    fn indexes<'a>(&'a self, _: &'a View) -> BoxFuture<'a, Result<Indexes>> {
        Box::pin(std::future::ready(Ok(vec![(self.index, Some(self.oid))])))
    }

    fn wanted(&self, cell: &Cell, record: &Bytes) -> Result<Vec<IndexKey>> {
        let keys = (self.keys)(&decode_record::<T>(cell, record)?);
        Ok(keys.iter().map(|key| IndexKey::new(T::CLASS, self.index, key)).collect())
    }

    fn allowed(&self, cell: &Cell, record: &Bytes) -> Result<Vec<IndexKey>> {
        self.wanted(cell, record)
    }

    fn shown(&self, _: KeptIndex, key: &Bytes) -> String {
        let mut rest = &key[..];
        let read = if self.index.is_unique() { K::take_last(&mut rest) } else { K::take_inner(&mut rest) };
        read.map_or_else(|_| escaped(key), |key| format!("{key:?}"))
    }

    fn named(&self, _: KeptIndex) -> String {
        "index".to_owned()
    }
}

/// An index that holds every object of the plan under each of its keys, and nothing else.
pub fn index_holds<K, T, F>(index: Index<K, T>, keys: F) -> impl Check
where
    K: Key + std::fmt::Debug + 'static,
    T: Persistent + 'static,
    F: Fn(&T) -> Vec<K> + Send + Sync,
{
    KeysHold(Own { index: KeptIndex::many(""), oid: index.oid(), keys, types: PhantomData })
}

/// The same of a unique index: each key is of one object, so two objects with one key are a problem.
pub fn unique_index_holds<K, T, F>(index: UniqueIndex<K, Ref<T>>, keys: F) -> impl Check
where
    K: Key + std::fmt::Debug + 'static,
    T: Persistent + 'static,
    F: Fn(&T) -> Vec<K> + Send + Sync,
{
    KeysHold(Own { index: KeptIndex::unique(""), oid: index.oid(), keys, types: PhantomData })
}

/// Those that are kept with a class.
struct OfClass<T>(PhantomData<fn() -> T>);

impl<T: Persistent> Keyed for OfClass<T> {
    fn indexes<'a>(&'a self, view: &'a View) -> BoxFuture<'a, Result<Indexes>> {
        Box::pin(async move {
            let mut all = Vec::with_capacity(T::INDEXES.len());
            for index in T::INDEXES {
                all.push((*index, root_of::<T>(view, *index).await?));
            }
            Ok(all)
        })
    }

    fn wanted(&self, cell: &Cell, record: &Bytes) -> Result<Vec<IndexKey>> {
        keys_of_value(&decode_record::<T>(cell, record)?)
    }

    fn allowed(&self, cell: &Cell, record: &Bytes) -> Result<Vec<IndexKey>> {
        Ok(keys_of::<T>(cell, record)?.keys)
    }

    fn shown(&self, index: KeptIndex, key: &Bytes) -> String {
        index.shown(key)
    }

    fn named(&self, index: KeptIndex) -> String {
        format!("index {:?}", index.name())
    }
}

/// The entries of a page of an index whose objects are not to be found under their keys.
pub(super) async fn entries_astray<T: Persistent>(
    view: &View,
    index: (KeptIndex, Oid),
    page: Vec<Entry>,
) -> Result<Vec<Cell>> {
    let astray = KeysHold(OfClass::<T>(PhantomData)).astray(view, index, page).await?;
    Ok(astray.into_iter().map(|(cell, _)| cell).collect())
}

/// Where an index of a class is; none: no object has had an entry yet.
pub(super) async fn root_of<T: Persistent>(view: &View, index: KeptIndex) -> Result<Option<Oid>> {
    Ok(view.kept_index(&KeptName::of(T::CLASS, index)).await?.map(|found| found.oid))
}

/// The indexes that are kept with a class have every object under each of its keys, and nothing else. For [`super::Job::verify`].
pub fn kept_indexes_hold<T: Persistent + 'static>() -> impl Check {
    KeysHold(OfClass::<T>(PhantomData))
}

fn escaped(key: &Bytes) -> String {
    format!("\"{}\"", String::from_utf8_lossy(key).escape_debug())
}
