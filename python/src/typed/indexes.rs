//! Owns what is known of the indexes that are kept with the objects of a class (decision 30): Rust's client keeps them, and gives each a
//! name in the root.
//!
//! ```text
//!   root ── "wiki.Page:author"  "wiki.Page:unique:slug"      read once, and again when the feed has told of a change of the root
//! ```
//! So a transaction that writes objects of a class is told their names without a round trip. What is not known: an index whose first entry
//! is being made at this moment, since before that it has no name.
//!
//! A name does not say which version of the class has the index. Where objects of a newer version are there it is taken for that one's: what a
//! former release writes beside it has no entries, and is known to have none (decision 30). One without an entry is nobody's.

use crate::errors;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use zeolite_client::collections::{Index, KeptName, UniqueIndex, index_in_name};
use zeolite_client::{Db, Error, Handle, Oid, Place, Range};

/// An index as a class of Python's declares it: its name, whether it is unique, the kind of its keys; whether a former version had another
/// kind.
#[derive(FromPyObject)]
pub(crate) struct Declared(String, bool, String, bool);

impl Declared {
    pub(super) fn of(&self, class: &str) -> Result<KeptName, Error> {
        let Declared(name, unique, kind, was_other) = self;
        let name = KeptName::new(class, name, *unique, kind)?;
        Ok(if *was_other { name.was_other() } else { name })
    }
}

/// The name of an index behind its class, and the same without the kind of its keys.
#[pyfunction]
pub(crate) fn kept_name(py: Python<'_>, name: String, unique: bool, kind: String) -> PyResult<(String, String)> {
    let name = Declared(name, unique, kind, false).of("").map_err(|error| errors::raised(py, &error))?;
    Ok((name.in_class(), name.bare()))
}

/// A name in the root, and the collection.
type Named = (String, Oid);

/// The names of all of them, as they were at a place.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    known: Mutex<Option<(Place, Arc<[Named]>)>>,
    /// The newest version of which there were objects, by class; as many as this program has former releases of.
    newest: Mutex<HashMap<String, u32>>,
}

impl Indexes {
    /// The names of a class's that whoever writes objects of this version does not know: neither declared there nor written by hand.
    pub(super) async fn unknown(
        &self,
        db: &Db,
        (class, version): (&str, u32),
        declared: &[Declared],
        by_hand: &HashSet<String>,
    ) -> Result<Vec<String>, Error> {
        let there = self.of(db, class).await?;
        let names: Vec<String> = there.iter().map(|(name, _)| name.clone()).collect();
        let own = declared.iter().map(|index| Ok(index.of(class)?.among(&names)));
        let own = own.collect::<Result<HashSet<String>, Error>>()?;
        let others = there.into_iter().filter(|(name, _)| !own.contains(name) && !by_hand.contains(name));
        let others: Vec<Named> = others.collect();
        if others.is_empty() || self.knows_newer(class, version) {
            return Ok(Vec::new());
        }
        let mut unknown = Vec::with_capacity(others.len());
        for (name, oid) in others {
            if has_entries(db, oid).await? {
                unknown.push(name);
            }
        }
        // Asked behind the entries: the object of one that came just now is there then.
        if !unknown.is_empty() && self.has_newer(db, class, version).await? {
            unknown.clear();
        }
        Ok(unknown)
    }

    fn knows_newer(&self, class: &str, version: u32) -> bool {
        self.newest.lock().get(class).is_some_and(|newest| *newest > version)
    }

    /// Whether there are objects of a newer version; asked until there are.
    async fn has_newer(&self, db: &Db, class: &str, version: u32) -> Result<bool, Error> {
        let kinds = db.admin().kinds().await?.kinds;
        let Some(newest) = kinds.iter().filter(|kind| kind.class == class).map(|kind| kind.version).max() else {
            return Ok(false);
        };
        self.newest.lock().insert(class.to_owned(), newest);
        Ok(newest > version)
    }

    async fn of(&self, db: &Db, class: &str) -> Result<Vec<Named>, Error> {
        let to = db.place();
        let known = self.known.lock().clone();
        let names = match known {
            Some((at, names)) if at == to || is_unchanged(db, at, to) => names,
            _ => read(db, to).await?,
        };
        *self.known.lock() = Some((to, names.clone()));
        let own = |(name, oid): &Named| Some((index_in_name(name, class)?.to_owned(), *oid));
        Ok(names.iter().filter_map(own).collect())
    }
}

fn is_unchanged(db: &Db, at: Place, to: Place) -> bool {
    let changes = db.changes(at, to);
    changes.is_some_and(|commits| commits.iter().all(|changed| !changed.oids.contains(&Oid::ROOT)))
}

/// Whether an object is in an index: one that is empty, as a former version's or one that was given up before its first entry, is nobody's.
async fn has_entries(db: &Db, index: Oid) -> Result<bool, Error> {
    let view = db.now();
    let mut scan = view.scan(index, Range::all().keys_only().limited(1));
    Ok(scan.next_page().await?.is_some_and(|page| !page.is_empty()))
}

async fn read(db: &Db, at: Place) -> Result<Arc<[Named]>, Error> {
    let view = at.view(db);
    // A walk alone would not be told of names that come.
    view.note_entries(Oid::ROOT).await?;
    let (mut roots, mut names) = (view.roots(), Vec::new());
    while let Some((name, named)) = roots.next().await? {
        if [<Index<(), ()>>::CLASS, <UniqueIndex<(), ()>>::CLASS].contains(&named.class()) && name.contains(':') {
            names.push((name, named.oid()));
        }
    }
    Ok(names.into())
}
