//! Owns the last look at the indexes of a class: once the gate is closed, entries whose object is not to be found under their key go. Older
//! code that is no bridge has left them, while it could still write.
//!
//! ```text
//!   gate closed ──> each index: entries, a page at a time ──> those that are astray are looked at once more, and taken out
//! ```
//! Each page is a transaction whose reads are checked, so live writers that keep the index are in nobody's way. Not here: what is missing.
//! Objects have all been stepped by then, and each step has written all entries of its object.

use super::keys_hold::{entries_astray, object_of, root_of};
use crate::collections::kept;
use crate::connect::Db;
use crate::errors::Result;
use crate::revision::Range;
use crate::tx::{IndexKey, View};
use crate::typed::{Persistent, keys_of};
use bytes::Bytes;
use zeolite_proto::Cell;

/// Takes out what is astray in the indexes of a class; tells how much.
pub(super) async fn sweep<T: Persistent + 'static>(db: &Db) -> Result<u64> {
    let (view, mut gone) = (db.now(), 0);
    for index in T::INDEXES {
        let Some(oid) = root_of::<T>(&view, *index).await? else { continue };
        let mut scan = view.scan(oid, Range::all());
        while let Some(page) = scan.next_page().await? {
            let astray = entries_astray::<T>(&view, (*index, oid), page).await?;
            if !astray.is_empty() {
                gone += take_out::<T>(db, &astray).await?;
            }
        }
    }
    Ok(gone)
}

async fn take_out<T: Persistent>(db: &Db, astray: &[Cell]) -> Result<u64> {
    let note = format!("{} entries of {} that are no object's are taken out", astray.len(), T::CLASS);
    let transaction = db.transaction().fresh().serializable().batch().note("evolve", note);
    let take_out = transaction.run(async |tx| {
        let mut gone = 0;
        for cell in astray {
            if let Some(record) = tx.get_encoded(cell).await?
                && !is_right::<T>(&tx, cell, &record).await?
            {
                tx.delete(cell.clone())?;
                gone += 1;
            }
        }
        Ok(gone)
    });
    take_out.await
}

/// Whether an entry's object is to be found under its key. An entry of an index that the class does not have is nobody's business here.
pub(super) async fn is_right<T: Persistent>(view: &View, cell: &Cell, record: &Bytes) -> Result<bool> {
    for index in T::INDEXES {
        if root_of::<T>(view, *index).await? != Some(cell.oid) {
            continue;
        }
        let Some(object) = object_of(*index, cell, record)? else { return Ok(false) };
        let at = Cell::object(object);
        let Some(found) = view.get_encoded(&at).await? else { return Ok(false) };
        let is_this = |key: &IndexKey| key.index == *index && kept::cell(cell.oid, key, object) == *cell;
        return Ok(keys_of::<T>(&at, &found)?.keys.iter().any(is_this));
    }
    Ok(true)
}
