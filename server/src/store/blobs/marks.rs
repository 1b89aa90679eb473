//! Owns the look at what is named: one pass over the index, in which every revision that names blobs is marked.
//!
//! Only rows that say so are read, and of these only the header matters. Memory: 32 bytes for each naming, bounded by what is named.

use crate::store::StoreError;
use crate::store::index::rows::{Revision, Stored};
use crate::store::index::{Table, bad_row, keys};
use crate::store::log::Place;
use crate::store::state::State;
use std::ops::Bound;
use zeolite_proto::{BlobId, Oid};

// Rows read under one view of the index; few in tests, so that they see the seams.
const VIEW_ROWS: usize = if cfg!(test) { 7 } else { 16_384 };

/// Who names a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Named {
    pub(crate) id: BlobId,
    /// An object of which a revision names it.
    pub(crate) by: Oid,
}

/// What is named, in order, each once. What is published while it goes over the index may be in it or not. `step` is told how far it is.
pub(crate) fn named(
    state: &State,
    step: &mut dyn FnMut(u64, u64) -> Result<(), StoreError>,
) -> Result<Vec<Named>, StoreError> {
    let oids = state.index_oid_max();
    let end = keys::after_object(Oid(oids));
    let (mut marks, mut from) = (Vec::new(), Vec::new());
    while let Some(next) = stretch(state, &from, &end, &mut marks)? {
        let oid = next.first_chunk::<8>().map_or(0, |oid| u64::from_be_bytes(*oid));
        step(oid.min(oids), oids)?;
        from = next;
    }
    marks.sort_unstable();
    marks.dedup_by_key(|named| named.id);
    Ok(marks)
}

// Reads the next rows up to an end, under one view; where to go on.
fn stretch(state: &State, from: &[u8], end: &[u8], marks: &mut Vec<Named>) -> Result<Option<Vec<u8>>, StoreError> {
    let (mut rows, mut next, mut bad) = (0, None, false);
    let mut places: Vec<(Oid, Place)> = Vec::new();
    let view = state.index.view()?;
    view.range(Table::Revisions, Bound::Included(from), Bound::Excluded(end), false, &mut |key, row| {
        rows += 1;
        let by = Oid(key.first_chunk::<8>().map_or(0, |oid| u64::from_be_bytes(*oid)));
        if Revision::names_blobs(row) {
            match Revision::parse(row).map(|row| row.record) {
                Some(Stored::At(place)) => places.push((by, place)),
                Some(Stored::Inline(record)) => marks.extend(super::of_record(&record).map(|id| Named { id, by })),
                Some(Stored::Deleted) | None => bad = true,
            }
        }
        if rows >= VIEW_ROWS {
            // The key directly behind this one.
            next = Some([key, &[0]].concat());
        }
        next.is_none() && !bad
    })?;
    if bad {
        return Err(bad_row(Table::Revisions));
    }
    places.sort_unstable_by_key(|(_, place)| (place.segment, place.offset));
    for (by, place) in places {
        let segment = state.segments.find(place.segment, place.generation).ok_or_else(|| bad_row(Table::Revisions))?;
        marks.extend(super::of_record(&segment.record(&place)?).map(|id| Named { id, by }));
    }
    Ok(next)
}
