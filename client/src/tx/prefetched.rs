//! Owns what a batch worker has read ahead: revisions of many cells at one snapshot, beside the cache.
//!
//! A worker looks at each object once. In the cache its records would push out what a site reads again and again, and where the
//! cache is small they would be gone before their step comes. So they are kept for the chunk, and no longer.

use super::work::Place;
use super::{Tx, View};
use crate::connect::Db;
use crate::errors::Result;
use crate::revision::Revision;
use std::sync::Arc;
use zeolite_proto::{Cell, Note, Priority, Tid, hash};

/// Revisions as of one snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Prefetched {
    place: Place,
    revisions: Arc<hash::Map<Cell, Revision>>,
}

impl Prefetched {
    /// Reads all of them, with as few frames as possible.
    pub(crate) async fn read(db: &Db, place: Place, cells: &[Cell]) -> Result<Prefetched> {
        let revisions = place.view(db).read_ahead(cells).await?;
        Ok(Prefetched { place, revisions: Arc::new(cells.iter().cloned().zip(revisions).collect()) })
    }

    /// The tid of a cell's revision; none: it was not read ahead.
    pub(crate) fn tid(&self, cell: &Cell) -> Option<Tid> {
        self.revisions.get(cell).map(|revision| revision.tid)
    }

    /// A serializable transaction there, of batch priority, that finds what was read ahead.
    pub(crate) fn transaction(&self, db: &Db) -> Tx {
        Tx::new(self.view(db).serializable(), Priority::Batch, Note::default())
    }

    /// A view there that finds what was read ahead.
    pub(crate) fn view(&self, db: &Db) -> View {
        self.place.view(db).with_ahead(self.revisions.clone())
    }
}
