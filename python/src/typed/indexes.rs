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
//! former release writes beside it has no entries, and is known to have none (decision 30).

use crate::errors;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use zeolite_client::collections::{Index, KeptName, UniqueIndex, index_in_name};
use zeolite_client::{Db, Error, Handle, Oid, Place};

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

/// The names of all of them, as they were at a place.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    known: Mutex<Option<(Place, Arc<[String]>)>>,
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
        let mut there = self.of(db, class).await?;
        let own = declared.iter().map(|index| Ok(index.of(class)?.among(&there)));
        let own = own.collect::<Result<HashSet<String>, Error>>()?;
        there.retain(|name| !own.contains(name) && !by_hand.contains(name));
        if !there.is_empty() && self.has_newer(db, class, version).await? {
            there.clear();
        }
        Ok(there)
    }

    /// Whether there are, or were, objects of a newer version; asked until there are.
    async fn has_newer(&self, db: &Db, class: &str, version: u32) -> Result<bool, Error> {
        if self.newest.lock().get(class).is_some_and(|newest| *newest > version) {
            return Ok(true);
        }
        let kinds = db.admin().kinds().await?.kinds;
        let Some(newest) = kinds.iter().filter(|kind| kind.class == class).map(|kind| kind.version).max() else {
            return Ok(false);
        };
        self.newest.lock().insert(class.to_owned(), newest);
        Ok(newest > version)
    }

    async fn of(&self, db: &Db, class: &str) -> Result<Vec<String>, Error> {
        let to = db.place();
        let known = self.known.lock().clone();
        let names = match known {
            Some((at, names)) if at == to || is_unchanged(db, at, to) => names,
            _ => read(db, to).await?,
        };
        *self.known.lock() = Some((to, names.clone()));
        let own = |name: &String| index_in_name(name, class).map(str::to_owned);
        Ok(names.iter().filter_map(own).collect())
    }
}

fn is_unchanged(db: &Db, at: Place, to: Place) -> bool {
    let changes = db.changes(at, to);
    changes.is_some_and(|commits| commits.iter().all(|changed| !changed.oids.contains(&Oid::ROOT)))
}

async fn read(db: &Db, at: Place) -> Result<Arc<[String]>, Error> {
    let view = at.view(db);
    // A walk alone would not be told of names that come.
    view.note_entries(Oid::ROOT).await?;
    let (mut roots, mut names) = (view.roots(), Vec::new());
    while let Some((name, named)) = roots.next().await? {
        if [<Index<(), ()>>::CLASS, <UniqueIndex<(), ()>>::CLASS].contains(&named.class()) && name.contains(':') {
            names.push(name);
        }
    }
    Ok(names.into())
}
