//! Owns what is known of the indexes that are kept with the objects of a class (decision 30): Rust's client keeps them, and gives each a
//! name in the root.
//!
//! ```text
//!   root ── "wiki.Page:author"  "wiki.Page:unique:slug"      read once, and again when the feed has told of a change of the root
//! ```
//! So a transaction that writes objects of a class is told their names without a round trip. What is not known: an index whose first entry
//! is being made at this moment, since before that it has no name.

use parking_lot::Mutex;
use std::sync::Arc;
use zeolite_client::collections::{Index, UniqueIndex, index_in_name};
use zeolite_client::{Db, Error, Handle, Oid, Place};

/// The names of all of them, as they were at a place.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    known: Mutex<Option<(Place, Arc<[String]>)>>,
}

impl Indexes {
    /// The names of a class's, without the class.
    pub(super) async fn of(&self, db: &Db, class: &str) -> Result<Vec<String>, Error> {
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
