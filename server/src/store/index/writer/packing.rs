//! Owns what pack changes in the index: revisions that go, records that lie elsewhere, segments that get a new generation.
//!
//! Everything is a draft like the settler's, so that it is committed whole, with the counts of objects kept exact.

use super::{Draft, Fate, IndexWriter};
use crate::store::StoreError;
use crate::store::frame::SegmentHeader;
use crate::store::index::rows::{self, Revision, Stored};
use crate::store::index::{Table, View, bad_row, keys};
use crate::store::log::{Place, Position};
use std::collections::BTreeMap;
use std::ops::Bound;
use zeolite_proto::{Cell, Tid};

impl Draft {
    /// History before a tid is going: said durably before the first revision goes.
    pub(crate) fn pack_to(&mut self, tid: Tid) {
        self.covered.packed_to = self.covered.packed_to.max(tid);
    }

    /// From now on records are found in some segments and in the one that is to stand for all of them; what is covered ends no
    /// longer inside of them.
    pub(crate) fn begin_shift(
        &mut self,
        writer: &IndexWriter,
        olds: &[(u32, u16)],
        new: &SegmentHeader,
        next: Position,
    ) {
        let mut named = writer.generations.clone();
        named.retain(|(number, _)| !new.numbers().contains(number));
        named.extend(olds);
        named.insert((new.number, new.generation));
        self.generations = Some(named);
        if new.numbers().contains(&self.covered.position.segment) {
            self.covered.position = next;
        }
    }

    /// Nothing points to what was before a segment any more.
    pub(crate) fn end_shift(&mut self, writer: &IndexWriter, new: &SegmentHeader) {
        let mut named = self.generations.take().unwrap_or_else(|| writer.generations.clone());
        named.retain(|(number, _)| !new.numbers().contains(number));
        named.insert((new.number, new.generation));
        self.generations = Some(named);
    }

    /// Takes a revision out. When it is the newest of its cell, the older ones are out already, or go in the same draft.
    pub(crate) fn drop_revision(&mut self, view: &dyn View, cell: &Cell, tid: Tid) -> Result<(), StoreError> {
        let key = keys::revision(cell, tid);
        if cell.is_object() {
            let (from, to) = (keys::cell(cell), keys::after_cell(cell.oid, &cell.key));
            let mut kind = None;
            view.range(Table::Revisions, Bound::Included(&from), Bound::Excluded(&to), false, &mut |newest, row| {
                kind = (newest == key.as_slice()).then(|| Revision::live_kind(row)).flatten();
                false
            })?;
            if kind.is_some() {
                self.objects.insert(cell.oid, Fate { before: kind, after: None });
            }
        }
        self.revisions.push((Table::Revisions, key, None));
        Ok(())
    }

    /// A revision's record lies elsewhere now. One that is held in its row stays as it is, and one that is gone is gone.
    pub(crate) fn move_record(
        &mut self,
        view: &dyn View,
        cell: &Cell,
        tid: Tid,
        place: Place,
    ) -> Result<(), StoreError> {
        let key = keys::revision(cell, tid);
        let Some(row) = view.get(Table::Revisions, &key)? else { return Ok(()) };
        let mut revision = Revision::parse(&row).ok_or_else(|| bad_row(Table::Revisions))?;
        if let Stored::At(at) = &mut revision.record
            && *at != place
        {
            *at = place;
            self.revisions.push((Table::Revisions, key, Some(revision.encode())));
        }
        Ok(())
    }

    /// The batches with tids behind `after` up to `to` lie elsewhere now: `at` says where, with their first tids.
    pub(crate) fn replace_places(
        &mut self,
        view: &dyn View,
        after: Tid,
        to: Tid,
        at: &[(Tid, Position)],
    ) -> Result<(), StoreError> {
        let mut rows_now: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        let (from, end) = (rows::tid_key(after), rows::tid_key(to));
        view.range(Table::Places, Bound::Excluded(&from), Bound::Included(&end), false, &mut |key, _| {
            rows_now.insert(key.to_vec(), None);
            true
        })?;
        rows_now.extend(at.iter().map(|(first, at)| (rows::tid_key(*first), Some(rows::encode_position(*at)))));
        self.places.extend(rows_now.into_iter().map(|(key, row)| (Table::Places, key, row)));
        Ok(())
    }
}
