//! Owns what is known of the indexes that are kept with the objects of a class (decision 30): Rust's client keeps them, and gives each a
//! name in the root.
//!
//! ```text
//!   root ── "wiki.Page:author"  "wiki.Page:unique:slug"      read once, and again when the feed has told of a change of the root
//! ```
//! So a transaction that writes objects of a class is told their names without a round trip. What is not known: an index whose first entry
//! is being made at this moment, since before that it has no name.
//!
//! A name does not say which version of the class has the index. The objects in it do, the first and the last one being asked: where one is of a
//! newer version the index is taken for that one's, and what a former release writes beside it has no entries, and is known to have none
//! (decision 30). One without an entry is nobody's.

use crate::errors;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::collections::{HashMap, HashSet};
use zeolite_client::collections::{KeptName, index_in_name};
use zeolite_client::{Cell, Db, Entry, Error, Fault, FaultKind, Oid, Range, Record, View};

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

/// What was found in them.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    /// By store and collection: the newest version of an object in it. As many as this program has former releases of.
    newest: Mutex<HashMap<(u64, Oid), u32>>,
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
        let view = db.now();
        let there = view.index_names().await?;
        let of_class = |(name, oid): &(String, Oid)| Some((index_in_name(name, class)?.to_owned(), *oid));
        let there: Vec<(String, Oid)> = there.iter().filter_map(of_class).collect();
        let names: Vec<String> = there.iter().map(|(name, _)| name.clone()).collect();
        let own = declared.iter().map(|index| Ok(index.of(class)?.among(&names)));
        let own = own.collect::<Result<HashSet<String>, Error>>()?;
        let others = there.into_iter().filter(|(name, _)| !own.contains(name) && !by_hand.contains(name));
        let mut unknown = Vec::new();
        for (name, oid) in others {
            if !self.knows_newer(&view, oid, version) && self.is_of_its_own(&view, oid, (class, version)).await? {
                unknown.push(name);
            }
        }
        Ok(unknown)
    }

    fn knows_newer(&self, view: &View, index: Oid, version: u32) -> bool {
        self.newest.lock().get(&(view.db().store_id(), index)).is_some_and(|newest| *newest > version)
    }

    /// Whether an index has entries, and none of a newer version; asked until there is one. One that is empty, as a former version's or one
    /// that was given up before its first entry, is nobody's.
    async fn is_of_its_own(&self, view: &View, index: Oid, (class, version): (&str, u32)) -> Result<bool, Error> {
        let mut has_entries = false;
        for range in [Range::all(), Range::all().reversed()] {
            let mut scan = view.scan(index, range.limited(1));
            let Some(entry) = scan.next_page().await?.and_then(|page| page.into_iter().next()) else { continue };
            has_entries = true;
            for oid in objects(&entry)? {
                let Some(object) = view.get(&Cell::object(oid)).await? else { continue };
                if object.class == class && object.version > version {
                    self.newest.lock().insert((view.db().store_id(), index), object.version);
                    return Ok(false);
                }
            }
        }
        Ok(has_entries)
    }
}

/// The objects that an entry refers to: the one that is to be found, and those in its key.
fn objects(entry: &Entry) -> Result<Vec<Oid>, Error> {
    Record::decode(&entry.record).map(|record| record.refs).map_err(|bad| {
        let text = format!("an entry of an index: {bad}; verify the database");
        Fault::new(FaultKind::Damaged, text).into()
    })
}
