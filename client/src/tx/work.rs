//! Owns work: what one transaction would commit, taken out of it, so that a batch worker can commit many of them as one draft.
//!
//! A work keeps the snapshot that its transaction read at as the base of its writes and read checks; works of different
//! snapshots go into one draft side by side. Not here: putting them together (`evolve`).

use super::IndexKey;
use super::own::Staged;
use super::{Tx, View};
use crate::connect::{Attached, Db, Life, Resend};
use crate::errors::Result;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use zeolite_proto::{Cell, Draft, Oid, ReadCell, ReadRange, Receipt, Tid};

/// A snapshot of a client, with the life of the store that it is of.
///
/// ```
/// # zeolite_testing::with_db(async |db| {
/// let place = db.place();
/// assert_eq!(place.view(&db).snapshot(), place.snapshot());
/// # Ok(()) });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub(crate) snapshot: Tid,
    life: Life,
}

impl Db {
    /// What a transaction begun now would read at.
    pub fn place(&self) -> Place {
        Place::newest(self)
    }

    /// The commits behind one place of this client, up to another, with the objects that they wrote, without asking the server: those of
    /// which it may have copies, since it has loaded or written them, and a few others. None:
    /// that is longer ago than [`crate::Options::changed_oids_max`] reaches, or the store is another one; nothing is known then.
    pub fn changes(&self, after: Place, to: Place) -> Option<Vec<Changed>> {
        if after.life.generation != to.life.generation || self.core().here().is_err() {
            return None;
        }
        let commits = self.core().changes.between(to.life.generation, after.snapshot, to.snapshot)?;
        Some(commits.into_iter().map(|(tid, oids)| Changed { tid, oids }).collect())
    }
}

/// What a commit wrote of what the client may have copies of; see [`Db::changes`].
///
/// ```
/// use zeolite_client::{Db, Options, collections::Counter};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), zeolite_client::Error> {
/// # let server = zeolite_testing::server();
/// let db = Db::connect_with(server.address(), Options::new().changed_oids_max(1000)).await?;
/// let hits: Counter = db.run(async |tx| tx.root_or_create("hits").await).await?;
/// let before = db.place();
/// db.run(async |tx| hits.add(&tx, 1)).await?;
/// let changed = db.changes(before, db.place()).expect("so much is remembered");
/// assert_eq!(changed[0].oids.len(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Changed {
    /// The commit.
    pub tid: Tid,
    /// The objects, each once; for an entry, its collection.
    pub oids: Box<[Oid]>,
}

/// Of a step that was made together with others: what is its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Share {
    /// What it has written.
    pub wrote: Vec<Cell>,
    /// It has read, or may know, more than its object and what it wrote.
    pub reads: bool,
}

impl Share {
    /// What one step has written, and whether it has read, or may know, more than its object and that.
    pub fn new(wrote: Vec<Cell>, reads: bool) -> Share {
        Share { wrote, reads }
    }
}

/// What one transaction would commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    /// The snapshot that it read at.
    pub(crate) base: Tid,
    pub(crate) cells: BTreeMap<Cell, Staged>,
    pub(crate) stamped: Vec<(Cell, Bytes)>,
    pub(crate) read_cells: Vec<ReadCell>,
    pub(crate) read_ranges: Vec<ReadRange>,
    /// The unique keys that its objects have in the indexes of their classes.
    pub(crate) claims: Vec<(IndexKey, Oid)>,
    /// What it puts was made of what is there: two that put the same have both to count.
    pub(crate) sums: bool,
    /// Of a step that was made together with others: its part of their work.
    pub(crate) share: Option<Share>,
}

impl Place {
    /// What a transaction begun now would read at.
    pub(crate) fn newest(db: &Db) -> Place {
        let (snapshot, life) = db.core().position.snapshot();
        Place { snapshot, life }
    }

    pub(crate) fn generation(self) -> u64 {
        self.life.generation
    }

    /// Its tid.
    pub fn snapshot(&self) -> Tid {
        self.snapshot
    }

    /// An older snapshot of the same store.
    pub fn at(self, snapshot: Tid) -> Place {
        Place { snapshot, ..self }
    }

    /// A view there.
    pub fn view(self, db: &Db) -> View {
        View::new(db.clone(), self.snapshot, self.life)
    }

    /// Sends a draft whose bases are of this snapshot or older ones; resent under its key until its outcome is known.
    pub(crate) async fn send(self, db: &Db, draft: &Draft) -> Result<Receipt> {
        let view = &self.view(db);
        let commit = |attached: Arc<Attached>| async move {
            attached.is_of(self.life)?;
            attached.link.commit(draft, view.terms()).await
        };
        db.core().call_at(Resend::UnderKey(draft.key), self.snapshot, commit).await
    }
}

impl Tx {
    /// What it would commit. Nothing can be written in it any more.
    pub(crate) fn into_work(self) -> Work {
        let base = self.snapshot();
        let own = self.own.lock().close();
        let claims = own.kept.claims();
        let (cells, stamped, _) = own.into_parts();
        let (read_cells, read_ranges) = self.reads().map(|reads| reads.checks(base)).unwrap_or_default();
        Work { base, cells, stamped, read_cells, read_ranges, claims, sums: false, share: None }
    }
}
