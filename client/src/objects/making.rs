//! Owns the names of kept indexes in the root: finding one, making one, and giving one that has lost its name that name back.
//!
//! ```text
//!   nothing has the name, and nothing had it      a new collection
//!   nothing has it now, something had it          that one again: its entries are still there (an undo took the name, and no pack
//!                                                 has come since), and those who knew it have gone on writing them
//! ```
//! Not here: an index that was gone for so long that its entries went with a pack. It is made anew, and `evolve::verify_indexes` says what is
//! missing in it.

use crate::collections::kept::{KeptName, KeptPlace};
use crate::collections::{Create, Index, UniqueIndex, roots};
use crate::connect::Db;
use crate::errors::Result;
use crate::revision::Range;
use crate::tx::{Tx, View, damaged};
use crate::typed::Handle;
use bytes::Bytes;
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::collection;
use zeolite_proto::{Cell, Oid};

/// Revisions of a name that are looked through for what it stood for.
const FORMER_MAX: u32 = 20;

impl View {
    /// Where an index is that is kept with the objects of a class; none: no object has had an entry yet, or its making was undone.
    pub async fn kept_index(&self, name: &KeptName) -> Result<Option<KeptPlace>> {
        match name.is_unique() {
            true => name.find::<UniqueIndex<Oid, ()>>(self).await,
            false => name.find::<Index<Oid, ()>>(self).await,
        }
    }
}

impl Tx {
    /// The same for who is about to write an entry. One that is not there is made in a transaction of its own, and one that has lost its
    /// name has it again; it is there from then on, whatever becomes of this transaction. A dry run makes it among what it writes, which
    /// is never committed.
    pub async fn kept_index_or_create(&self, name: &KeptName) -> Result<KeptPlace> {
        if !self.own.lock().kept.makes_none {
            return found_or_made(self, name).await;
        }
        if let Some(found) = self.kept_index(name).await? {
            return Ok(found);
        }
        let in_root = name.in_root();
        Ok(KeptPlace::new(match name.is_unique() {
            true => self.root_or_create::<UniqueIndex<Oid, ()>>(&in_root).await?.oid(),
            false => self.root_or_create::<Index<Oid, ()>>(&in_root).await?.oid(),
        }))
    }
}

/// An index by its name: as of the snapshot, or as it was made since.
pub(super) async fn found_or_made(view: &View, name: &KeptName) -> Result<KeptPlace> {
    let cell = roots::cell(&name.in_root());
    let was_read = view.has_read(&cell);
    if let Some(found) = view.kept_index(name).await? {
        return Ok(found);
    }
    let made = match name.is_unique() {
        true => made::<UniqueIndex<Oid, ()>>(view.db(), name).await?,
        false => made::<Index<Oid, ()>>(view.db(), name).await?,
    };
    // It was not there at the snapshot: what has changed is known here.
    if !was_read || has_none(view, made.oid).await? {
        view.forget_read(&cell);
    }
    Ok(made)
}

/// Whether there was no entry at the snapshot. What the transaction has concluded from there being no index then holds as long as none
/// comes: the scan notes that.
async fn has_none(view: &View, index: Oid) -> Result<bool> {
    let mut scan = view.scan(index, Range::all().keys_only().limited(1));
    Ok(scan.next_page().await?.is_none_or(|page| page.is_empty()))
}

async fn made<H: Create + Send>(db: &Db, name: &KeptName) -> Result<KeptPlace> {
    let in_root = name.in_root();
    let former = former::<H>(db, &in_root).await?;
    let what = if former.is_some() { "has its name again" } else { "is made" };
    let note = format!(
        "index {in_root} {what}; to undo this hides its objects until the next of them is written, then it gets its name back"
    );
    let transaction = db.transaction().note("zeolite", note);
    let make = transaction.run(async |tx| match (name.find::<H>(&tx).await?, former) {
        (Some(there), _) => Ok(there),
        (None, None) => Ok(KeptPlace::new(tx.root_or_create::<H>(&in_root).await?.oid())),
        (None, Some(former)) => {
            let own = Cell::object(former);
            if tx.get_encoded(&own).await?.is_none() {
                tx.put(own, &collection::record(H::CLASS))?;
            }
            tx.set_root(&in_root, &H::from_oid(former)).await?;
            Ok(KeptPlace::new(former))
        }
    });
    let made = make.await?;
    if former == Some(made.oid) {
        tracing::warn!(index = in_root, "an index that had lost its name has it again");
    }
    Ok(made)
}

/// What a name stood for before it went, if that was such a collection.
async fn former<H: Create>(db: &Db, name: &str) -> Result<Option<Oid>> {
    let cell = roots::cell(name);
    let past = db.history(&cell, None, FORMER_MAX, true).await?.items;
    // The newest one comes first: where it has a record, somebody has just made the index or named it, and nothing is lost.
    if past.first().is_some_and(|newest| newest.revision.record.is_some()) {
        return Ok(None);
    }
    let record: Option<Bytes> = past.into_iter().find_map(|past| past.revision.record);
    let Some(record) = record else { return Ok(None) };
    let entry = Header::parse(&record).map_err(|bad| damaged(&cell, &bad))?;
    let Some(oid) = entry.refs().next() else { return Ok(None) };
    // Its own record went with the name; if something is there, it must be the same still.
    let view = db.now();
    let now = view.get_encoded(&Cell::object(oid)).await?;
    let is_other = now.is_some_and(|record| Header::parse(&record).is_ok_and(|header| header.class != H::CLASS));
    Ok((!is_other).then_some(oid))
}
