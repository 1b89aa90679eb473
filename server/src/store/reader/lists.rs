//! Owns the questions about many cells at once. Memory is asked in the order of the question; then the index is read once, under
//! one view, in its own order, so that neighbours share its pages; then the log, for the records that neither has.

use super::{Early, Found, Moved, Reader};
use crate::store::index::{Table, View, keys};
use crate::store::{Revision, StoreError};
use bytes::Bytes;
use std::ops::Bound;
use zeolite_proto::{Cell, Tid};

// Cells that are looked up before the first of their records is fetched.
const CHUNK_CELLS: usize = 256;

impl Reader {
    /// The revisions of many cells, in their order, until their records exceed a number of bytes (at least one cell):
    /// the answer may be shorter than the question.
    pub fn get_many(&self, cells: &[Cell], at: Tid, bytes_max: usize) -> Result<Vec<Option<Revision>>, StoreError> {
        let asked: Vec<(&Cell, Tid)> = cells.iter().map(|cell| (cell, at)).collect();
        let found = self.unpacked_many(&asked, bytes_max)?;
        self.check_packed(at)?;
        Ok(found)
    }

    /// The newest revision of each cell, in their order, until their records exceed a number of bytes (at least one cell).
    pub fn heads(&self, cells: &[Cell], bytes_max: usize) -> Result<Vec<Option<Revision>>, StoreError> {
        self.get_many(cells, Tid::MAX, bytes_max)
    }

    /// The revision of each cell that was the newest as of its base, for a merge: also of a base older than what is packed, when
    /// it is the one that the oldest snapshot sees. (Of what is older pack may have taken one and left the one before.) In
    /// their order, until their records exceed a number of bytes (at least one cell).
    pub fn as_of_many(
        &self,
        asked: &[(Cell, Tid)],
        bytes_max: usize,
    ) -> Result<Vec<Result<Option<Revision>, StoreError>>, StoreError> {
        let cells: Vec<(&Cell, Tid)> = asked.iter().map(|(cell, base)| (cell, *base)).collect();
        let found = self.unpacked_many(&cells, bytes_max)?;
        found.into_iter().zip(asked).map(|(found, (cell, base))| self.told_as_of(cell, *base, found)).collect()
    }

    // The outer error is of the whole question, the inner one of this cell.
    fn told_as_of(
        &self,
        cell: &Cell,
        base: Tid,
        found: Option<Revision>,
    ) -> Result<Result<Option<Revision>, StoreError>, StoreError> {
        // Asked after it was looked up: a pack says so before it takes the first one.
        let packed = self.check_packed(base);
        if packed.is_ok() {
            return Ok(Ok(found));
        }
        let Some(found) = found else { return Ok(packed.map(|()| None)) };
        let oldest = self.get_unpacked(cell, self.packed_to())?;
        let is_oldest = oldest.is_some_and(|oldest| oldest.tid == found.tid);
        Ok(if is_oldest { Ok(Some(found)) } else { packed.map(|()| None) })
    }

    /// The tid of the newest revision of each cell if it is newer than a base, deletions included. Pack takes a deletion away
    /// with all that was before it; so where there is nothing at all, a base older than what is packed proves nothing.
    pub fn newer_many(&self, asked: &[(Cell, Tid)]) -> Result<Vec<Option<Tid>>, StoreError> {
        let cells: Vec<&Cell> = asked.iter().map(|(cell, _)| cell).collect();
        let mut newest = self.newest_many(&cells)?;
        for (newest, (_, base)) in newest.iter_mut().zip(asked) {
            if newest.is_none() && *base != Tid::NONE {
                self.check_packed(*base)?;
            }
            *newest = newest.filter(|tid| tid > base);
        }
        Ok(newest)
    }

    /// The tid of the newest revision of a cell, deletions included; `None`: never written. A batch that is just being
    /// published may or may not count.
    pub fn newest(&self, cell: &Cell) -> Result<Option<Tid>, StoreError> {
        Ok(self.newest_many(&[cell])?.pop().flatten())
    }

    fn newest_many(&self, cells: &[&Cell]) -> Result<Vec<Option<Tid>>, StoreError> {
        let mut newest = Vec::with_capacity(cells.len());
        let mut unknown = Vec::new();
        for (position, cell) in cells.iter().enumerate() {
            let known = self.newest_in_memory(cell);
            unknown.extend(known.is_none().then_some(position));
            newest.push(known.flatten());
        }
        if unknown.is_empty() {
            return Ok(newest);
        }
        unknown.sort_unstable_by_key(|position| cells[*position]);
        let view = self.state.index.view()?;
        for position in unknown {
            newest[position] = newest_row(view.as_ref(), cells[position])?;
        }
        Ok(newest)
    }

    #[expect(clippy::option_option, reason = "not known and never written are different answers")]
    fn newest_in_memory(&self, cell: &Cell) -> Option<Option<Tid>> {
        let state = &self.state;
        if let Some(tid) = state.overlay.newest(cell)
            && tid > state.overlay.settled()
        {
            return Some(Some(tid));
        }
        if cell.oid.0 > state.index_oid_max() {
            return Some(None);
        }
        state.cache.get(cell).ok().map(|newest| Some(newest.tid))
    }

    fn unpacked_many(&self, asked: &[(&Cell, Tid)], bytes_max: usize) -> Result<Vec<Option<Revision>>, StoreError> {
        let mut out = Vec::with_capacity(asked.len());
        let mut bytes = 0;
        for chunk in asked.chunks(CHUNK_CELLS) {
            for ((cell, at), found) in chunk.iter().zip(self.find_many(chunk)?) {
                let revision = match self.fetch(cell, found)? {
                    Ok(revision) => revision,
                    Err(Moved) => self.get_unpacked(cell, *at)?,
                };
                let record = revision.as_ref().and_then(|revision| revision.record.as_ref());
                bytes += record.map_or(0, Bytes::len);
                out.push(revision);
                if bytes >= bytes_max {
                    return Ok(out);
                }
            }
        }
        Ok(out)
    }

    fn find_many(&self, asked: &[(&Cell, Tid)]) -> Result<Vec<Option<Found>>, StoreError> {
        let published = self.state.published();
        let mut out = Vec::with_capacity(asked.len());
        let mut unknown = Vec::new();
        for (position, (cell, at)) in asked.iter().enumerate() {
            out.push(match self.find_early(cell, (*at).min(published), published) {
                Early::Known(found) => found,
                Early::Ask { next, ticket } => {
                    unknown.push((position, next, ticket));
                    None
                }
            });
        }
        if unknown.is_empty() {
            return Ok(out);
        }
        unknown.sort_unstable_by_key(|(position, ..)| asked[*position].0);
        // Begun after all looks into the overlay.
        let view = self.state.index.view()?;
        for (position, next, ticket) in unknown {
            let (cell, at) = asked[position];
            out[position] = self.find_in_index(view.as_ref(), cell, at.min(published), published, next, ticket)?;
        }
        Ok(out)
    }
}

fn newest_row(view: &dyn View, cell: &Cell) -> Result<Option<Tid>, StoreError> {
    let mut found = None;
    let (from, to) = (keys::cell(cell), keys::after_cell(cell.oid, &cell.key));
    view.range(Table::Revisions, Bound::Included(&from), Bound::Excluded(&to), false, &mut |key, _| {
        found = keys::tid_of(key);
        false
    })?;
    Ok(found)
}
