//! Owns the names in the root: where an application starts from, and where garbage collection starts.
//!
//! The root is an ordered map from names to handles; the class is kept beside each, so that a name that stands for
//! something else is told apart before anything is read.

use super::{Create, Entries, Map};
use crate::connect::IndexNames;
use crate::errors::{Error, Result};
use crate::tx::{Tx, View};
use crate::typed::{Handle, found};
use serde::{Deserialize, Serialize, Serializer};
use std::sync::Arc;
use zeolite_proto::resolvers::{class, collection};
use zeolite_proto::{Cell, Oid};

const ROOT: Map<String, Named> = Map::new(Oid::ROOT);

/// What a name in the root stands for.
///
/// ```
/// use zeolite_client::collections::Counter;
///
/// # zeolite_testing::with_db(async |db| {
/// db.run(async |tx| tx.root_or_create::<Counter>("hits").await.map(drop)).await?;
/// let names = db.now().roots().collect().await?;
/// assert!(names.iter().any(|(name, named)| name == "hits" && named.class() == "zeolite.Counter"));
/// # Ok(()) });
/// ```
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Named {
    #[serde(serialize_with = "as_reference")]
    oid: u64,
    class: String,
}

fn as_reference<S: Serializer>(oid: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    found(Oid(*oid));
    serializer.serialize_u64(*oid)
}

impl Named {
    /// The object.
    pub fn oid(&self) -> Oid {
        Oid(self.oid)
    }

    /// The class that it had when it was named.
    pub fn class(&self) -> &str {
        &self.class
    }
}

/// Where a name is.
pub(crate) fn cell(name: &str) -> Cell {
    Cell::entry(Oid::ROOT, crate::keys::encode(name))
}

impl View {
    /// What a name in the root stands for; an error if it is of another class.
    pub async fn root<H: Handle>(&self, name: &str) -> Result<Option<H>> {
        match ROOT.get(self, name).await? {
            None => Ok(None),
            Some(named) if named.class == H::CLASS => Ok(Some(H::from_oid(named.oid()))),
            Some(named) => {
                Err(Error::WrongClass { cell: cell(name), expected: H::CLASS.to_owned(), found: named.class })
            }
        }
    }

    /// The same of whatever class it is.
    pub(crate) async fn named(&self, name: &str) -> Result<Option<Named>> {
        ROOT.get(self, name).await
    }

    /// The names in the root that are not before this one.
    pub(crate) fn roots_from(&self, name: &str) -> Entries<'_, (String, Named)> {
        ROOT.range(self, name.to_owned()..)
    }

    /// From here on [`crate::Db::changes`] tells of all that is written to the entries of a collection, also of those that this client has only
    /// walked over, or has never seen. Asked before a walk whose result is kept.
    pub async fn note_entries(&self, collection: Oid) -> Result<()> {
        self.get_encoded(&zeolite_proto::interest::entries_of(collection)).await.map(drop)
    }

    /// The names of the indexes that are kept with objects, of all classes, each with its collection: as they are now or later. Asked for
    /// once, and again when the root has changed; without a feed, each time.
    pub async fn index_names(&self) -> Result<Arc<[(String, Oid)]>> {
        let (core, place) = (self.db().core(), self.db().place());
        // What the feed has not told yet is not kept.
        let is_told = self.snapshot() <= place.snapshot();
        if let Some(known) = core.root_names.known(place.generation()).filter(|_| is_told) {
            return Ok(known);
        }
        self.note_entries(Oid::ROOT).await?;
        let newest = self.db().place();
        let view = newest.at(newest.snapshot().max(self.snapshot())).view(self.db());
        let (mut roots, mut names) = (view.roots(), Vec::new());
        while let Some((name, named)) = roots.next().await? {
            if [class::INDEX, class::UNIQUE_INDEX].contains(&named.class()) && name.contains(':') {
                names.push((name, named.oid()));
            }
        }
        let names: IndexNames = names.into();
        core.root_names.read(newest.generation(), newest.snapshot(), names.clone());
        Ok(names)
    }

    /// All names in the root.
    pub fn roots(&self) -> Entries<'_, (String, Named)> {
        ROOT.iter(self)
    }
}

impl Tx {
    /// Gives an object a name in the root.
    pub async fn set_root<H: Handle>(&self, name: &str, handle: &H) -> Result<()> {
        let own = Cell::object(Oid::ROOT);
        if self.get_encoded(&own).await?.is_none() {
            self.put(own, &collection::record(class::MAP))?;
        }
        let named = Named { oid: handle.oid().0, class: H::CLASS.to_owned() };
        ROOT.insert(self, name, &named)
    }

    /// What a name stands for; made and named if there is nothing yet. Two clients that do it at the same time conflict, and
    /// in [`crate::Db::run`] the second finds what the first has made.
    pub async fn root_or_create<H: Create>(&self, name: &str) -> Result<H> {
        if let Some(handle) = self.root(name).await? {
            return Ok(handle);
        }
        let made = H::create(self).await?;
        self.set_root(name, &made).await?;
        Ok(made)
    }

    /// Takes a name out of the root; what it stood for is collected if nothing else refers to it.
    pub fn remove_root(&self, name: &str) -> Result<()> {
        ROOT.remove(self, name)
    }
}
