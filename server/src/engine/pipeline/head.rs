//! Owns the view of the newest state, sealed drafts included: recent writes over the store.
//!
//! The check of a draft is a question to this view: is there a revision of this cell (of any cell in this range) newer
//! than the base? What the recent writes cannot answer (a base below their floor) the store is asked; and a draft that
//! was looked at before it was queued (`LookedAhead`) does not ask twice.

use crate::engine::pipeline::admission::LookedAhead;
use crate::engine::pipeline::recent::{Kept, Recent};
use crate::store::{Reader, StoreError};
use bytes::Bytes;
use zeolite_proto::{Cell, ReadRange, Tid};

/// Recent writes over the store.
pub(crate) struct HeadView<'a> {
    pub(crate) recent: &'a Recent,
    pub(crate) reader: &'a Reader,
}

impl HeadView<'_> {
    /// The newest revision of the cell if it is newer than `base`.
    pub(crate) fn newer(&self, cell: &Cell, base: Tid, ahead: LookedAhead) -> Result<Option<Tid>, StoreError> {
        if let Some(head) = self.recent.head(cell) {
            return Ok((head.tid > base).then_some(head.tid));
        }
        if ahead.known(base) >= self.recent.floor() {
            return Ok(None);
        }
        self.reader.newer(cell, base)
    }

    /// The first cell of the range with a revision newer than the range's base.
    pub(crate) fn newer_in_range(
        &self,
        range: &ReadRange,
        ahead: LookedAhead,
    ) -> Result<Option<(Cell, Tid)>, StoreError> {
        if let Some((cell, tid)) = self.recent.first_in_range(range) {
            return Ok(Some((cell.clone(), tid)));
        }
        if ahead.known(range.base) >= self.recent.floor() {
            return Ok(None);
        }
        self.reader.newest_in_range(range.oid, &range.from, &range.to, range.base)
    }

    /// The newest revision of the cell, whatever it is: its tid and record.
    pub(crate) fn newest(&self, cell: &Cell) -> Result<(Tid, Option<Bytes>), StoreError> {
        if let Some(head) = self.recent.head(cell) {
            return match &head.record {
                Kept::Here(record) => Ok((head.tid, record.clone())),
                Kept::Stored => self.at(cell, head.tid),
            };
        }
        self.at(cell, Tid::MAX)
    }

    fn at(&self, cell: &Cell, tid: Tid) -> Result<(Tid, Option<Bytes>), StoreError> {
        Ok(self.reader.get(cell, tid)?.map_or((Tid::NONE, None), |revision| (revision.tid, revision.record)))
    }
}
