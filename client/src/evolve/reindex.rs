//! Owns the filling and the scrub of the indexes that are kept with a class: for what was written by who did not know them.
//!
//! ```text
//!   an object of the class      its entries that are missing are written (and its record, if it is of a former version)
//!   an entry of an index        goes, unless its object is to be found under that key
//! ```
//! So one step serves two plans: of the class, and of an index as a collection. Both are stepped in transactions whose reads are
//! checked, so live writers that keep the index themselves are in nobody's way.

use super::Verified;
use super::job::newest_view;
use super::step::{Step, Stepped};
use super::verify::{Check, check_cells};
use crate::collections::kept;
use crate::collections::{Index, UniqueIndex};
use crate::connect::Db;
use crate::errors::Result;
use crate::revision::{Entry, Range};
use crate::tx::{IndexKey, KeptIndex, Tx, View};
use crate::typed::{Handle, Persistent, decode_record, keys_of, keys_of_value};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::marker::PhantomData;
use zeolite_proto::{Cell, Oid, Record};

/// Objects that are looked at together.
const PAGE: u32 = 1000;

struct Reindex<T> {
    class: PhantomData<fn() -> T>,
}

/// Brings the indexes of a class in step with its objects, beside live traffic: a plan of the class (`Plan::class(T::CLASS)`) writes what is
/// missing, a plan of an index (`Plan::collection`, with the oid of its name in the root) takes out what is too much. An object whose
/// unique key is another's goes to the quarantine.
pub fn reindex<T: Persistent + Send + 'static>() -> impl Step {
    Reindex::<T> { class: PhantomData }
}

impl<T: Persistent + Send + 'static> Step for Reindex<T> {
    fn name(&self) -> String {
        format!("indexes of {}", T::CLASS)
    }

    async fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Stepped> {
        if !cell.is_object() {
            let entry = old.encode().map_err(|bad| crate::tx::damaged(cell, &bad))?;
            let is_right = is_right::<T>(tx, cell, &entry).await?;
            return Ok(if is_right { Stepped::Keep } else { Stepped::Delete });
        }
        if let Some(record) = tx.get_encoded(cell).await? {
            if old.version != T::VERSION {
                tx.write_cell(cell, &decode_record::<T>(cell, &record)?)?;
            }
            tx.reindex::<T>(cell);
        }
        Ok(Stepped::Keep)
    }
}

/// The index of an entry, and its object.
async fn entry_of<T: Persistent>(view: &View, cell: &Cell, record: &Bytes) -> Result<Option<(KeptIndex, Oid)>> {
    for index in T::INDEXES {
        if root::<T>(view, index).await? != Some(cell.oid) {
            continue;
        }
        let object = match index.unique {
            true => Some(kept::owner(cell, record)?),
            false => cell.key.last_chunk().map(|oid| Oid(u64::from_be_bytes(*oid))),
        };
        return Ok(object.map(|object| (*index, object)));
    }
    Ok(None)
}

/// Whether an entry's object is to be found under its key. An entry of an index that the class does not have is nobody's business here.
async fn is_right<T: Persistent>(view: &View, cell: &Cell, record: &Bytes) -> Result<bool> {
    let Some((index, object)) = entry_of::<T>(view, cell, record).await? else { return Ok(true) };
    let at = Cell::object(object);
    let Some(found) = view.get_encoded(&at).await? else { return Ok(false) };
    let keys = keys_of::<T>(&at, &found)?.keys;
    let is_this = |key: &IndexKey| key.index.name == index.name && kept::cell(cell.oid, key, object) == *cell;
    Ok(keys.iter().any(is_this))
}

async fn root<T: Persistent>(view: &View, index: &KeptIndex) -> Result<Option<Oid>> {
    let name = kept::root_name(T::CLASS, *index);
    Ok(match index.unique {
        true => view.root::<UniqueIndex<(), ()>>(&name).await?.map(|index| index.oid()),
        false => view.root::<Index<(), ()>>(&name).await?.map(|index| index.oid()),
    })
}

struct Holds<T> {
    class: PhantomData<fn() -> T>,
}

/// The indexes that are kept with a class have every object under each of its keys, and nothing else. For [`super::Job::verify`].
pub fn kept_indexes_hold<T: Persistent + 'static>() -> impl Check {
    Holds::<T> { class: PhantomData }
}

impl<T: Persistent + 'static> Check for Holds<T> {
    fn object<'a>(&'a self, view: &'a View, cell: &'a Cell, record: &'a Bytes) -> BoxFuture<'a, Result<Vec<String>>> {
        // What borrows the value must not live over an await: a type need not be `Sync`.
        let keys = decode_record::<T>(cell, record).and_then(|value| keys_of_value(&value));
        Box::pin(async move {
            let mut missing = Vec::new();
            for key in keys? {
                let index = root::<T>(view, &key.index).await?;
                let entry = index.map(|index| kept::cell(index, &key, cell.oid));
                let found = match &entry {
                    Some(entry) => view.get_encoded(entry).await?.map(|record| (entry, record)),
                    None => None,
                };
                let name = key.index.name;
                match found {
                    None => missing.push(format!("is not in the index {name:?} under {}", shown(&key.key))),
                    Some((at, record)) if key.index.unique && kept::owner(at, &record)? != cell.oid => {
                        missing.push(format!("has {} of the index {name:?} in common with another", shown(&key.key)));
                    }
                    Some(_) => {}
                }
            }
            Ok(missing)
        })
    }

    fn whole<'a>(&'a self, view: &'a View, problem: &'a mut (dyn FnMut(String) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for index in T::INDEXES {
                let Some(oid) = root::<T>(view, index).await? else { continue };
                let mut scan = view.scan(oid, Range::all());
                while let Some(Entry { key, record, .. }) = scan.next().await? {
                    let cell = Cell { oid, key };
                    if !is_right::<T>(view, &cell, &record).await? {
                        problem(format!("the index {:?} has {cell}, whose object is not to be found so", index.name));
                    }
                }
            }
            Ok(())
        })
    }
}

fn shown(key: &Bytes) -> String {
    String::from_utf8_lossy(key).escape_debug().to_string()
}

/// Looks at every object of a class and at every entry of its kept indexes, at the newest snapshot: what is missing, and what is too much.
pub async fn verify_indexes<T: Persistent + 'static>(db: &Db) -> Result<Verified> {
    newest_view(db).await?;
    let pin = db.pin().await?;
    let view = pin.view();
    let (holds, mut verified) = (kept_indexes_hold::<T>(), Verified::default());
    verified.tid = view.snapshot();
    let mut after = Oid::ROOT;
    loop {
        let (page, more) = db.admin().objects(Some(view.snapshot()), T::CLASS, None, after, PAGE).await?;
        let cells: Vec<Cell> = page.iter().map(|oid| Cell::object(*oid)).collect();
        check_cells(&view, &cells, None, &[&holds], &mut verified).await?;
        match page.last() {
            Some(last) if more => after = *last,
            _ => break,
        }
    }
    holds.whole(&view, &mut |problem| verified.problem(problem)).await?;
    Ok(verified)
}
