//! Owns the names of kept indexes in the root: finding one, making one, and giving one that has lost its name that name back.
//!
//! ```text
//!   nothing has the name, and nothing had it      a new collection
//!   nothing has it now, something had it          that one again: its entries are still there (an undo took the name, and no pack
//!                                                 has come since), and those who knew it have gone on writing them
//! ```
//! Not here: an index that was gone for so long that its entries went with a pack. It is made anew, and `evolve::verify_indexes` says what is
//! missing in it.

use crate::collections::Create;
use crate::collections::kept::{find_root, root_name};
use crate::connect::Db;
use crate::errors::Result;
use crate::tx::{KeptIndex, View, damaged};
use bytes::Bytes;
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::collection;
use zeolite_proto::{Cell, Oid};

/// Revisions of a name that are looked through for what it stood for.
const FORMER_MAX: u32 = 20;

/// An index by its name: as of the snapshot, or as it was made since; none: there is none, and none is to be made.
pub(super) async fn root<H: Create + Send>(
    view: &View,
    (class, index): (&'static str, KeptIndex),
    make: bool,
) -> Result<Option<Oid>> {
    if let Some(index) = find_root::<H>(view, class, index).await? {
        return Ok(Some(index.oid()));
    }
    if !make {
        return Ok(None);
    }
    let name = root_name(class, index);
    let former = former::<H>(view.db(), &name).await?;
    let what = if former.is_some() { "has its name again" } else { "is made" };
    let note = format!(
        "index {name} {what}; to undo this hides its objects until the next of them is written, then it gets its name back"
    );
    let transaction = view.db().transaction().note("zeolite", note);
    let make = transaction.run(async |tx| match (find_root::<H>(&tx, class, index).await?, former) {
        (Some(there), _) => Ok(there),
        (None, None) => tx.root_or_create::<H>(&name).await,
        (None, Some(former)) => {
            let (own, index) = (Cell::object(former), H::from_oid(former));
            if tx.get_encoded(&own).await?.is_none() {
                tx.put(own, &collection::record(H::CLASS))?;
            }
            tx.set_root(&name, &index).await?;
            Ok(index)
        }
    });
    let made = make.await?.oid();
    if former == Some(made) {
        tracing::warn!(index = name, "an index that had lost its name has it again");
    }
    Ok(Some(made))
}

/// What a name stood for before it went, if that was such a collection.
async fn former<H: Create>(db: &Db, name: &str) -> Result<Option<Oid>> {
    let cell = Cell::entry(Oid::ROOT, crate::keys::encode(name));
    let past = db.history(&cell, None, FORMER_MAX, true).await?.items;
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
