//! Owns the questions about all objects: how many there are of each class and schema version, and which.
//!
//! The index keeps counts and lists of what it holds; what still waits in the overlay is added here. Both must be of one
//! moment, so the overlay is kept from shrinking meanwhile: that holds up the settler, and nobody else.

use super::Reader;
use crate::store::index::rows::{self, Covered};
use crate::store::index::{Table, View, bad_row, keys, live_kind};
use crate::store::kinds::KindId;
use crate::store::overlay::RevisionKey;
use crate::store::{Kind, StoreError};
use std::collections::BTreeSet;
use std::ops::Bound;
use zeolite_proto::{Cell, Oid, Tid, hash};

impl Reader {
    /// The number of objects of each class at each schema version, as of what is published; exact. Sorted.
    pub fn kinds(&self) -> Result<Vec<Kind>, StoreError> {
        let _held = self.state.overlay.hold();
        let view = self.state.index.view()?;
        let mut counts: hash::Map<KindId, u64> = hash::Map::default();
        let mut bad = false;
        view.range(Table::Kinds, Bound::Unbounded, Bound::Unbounded, false, &mut |key, row| {
            match rows::parse_kind(key, row) {
                Some((id, _, objects)) => drop(counts.insert(id, objects)),
                None => bad = true,
            }
            !bad
        })?;
        if bad {
            return Err(bad_row(Table::Kinds));
        }
        for (oid, after) in self.waiting(view.as_ref(), 0, Oid(u64::MAX))? {
            let before = live_kind(view.as_ref(), &Cell::object(oid))?;
            if before != after {
                if let Some(kind) = before {
                    counts.entry(kind).and_modify(|count| *count = count.saturating_sub(1));
                }
                if let Some(kind) = after {
                    *counts.entry(kind).or_default() += 1;
                }
            }
        }
        let mut out: Vec<Kind> = counts
            .into_iter()
            .filter(|(_, objects)| *objects > 0)
            .filter_map(|(id, objects)| {
                let kind = self.state.kinds.kind(id)?;
                Some(Kind { class: kind.class.as_ref().to_owned(), version: kind.version, objects })
            })
            .collect();
        out.sort_by(|a, b| (&a.class, a.version).cmp(&(&b.class, b.version)));
        Ok(out)
    }

    /// The objects of a class (`None`: of all) whose schema version is below one, by oid, those behind `after`, at most `limit`; empty:
    /// there are no more. As of what is published now: a page later may know more.
    pub fn objects(
        &self,
        class: Option<&str>,
        version_below: u32,
        after: Option<Oid>,
        limit: usize,
    ) -> Result<Vec<Oid>, StoreError> {
        let Some(mut from) = after.map_or(Some(0), |oid| oid.0.checked_add(1)) else { return Ok(Vec::new()) };
        if limit == 0 {
            return Ok(Vec::new());
        }
        loop {
            let (found, horizon) = self.objects_page(class, version_below, from, limit)?;
            match horizon.0.checked_add(1) {
                Some(next) if found.is_empty() => from = next,
                _ => return Ok(found),
            }
        }
    }

    // The objects from an oid on, and up to where that is known.
    fn objects_page(
        &self,
        class: Option<&str>,
        version_below: u32,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<Oid>, Oid), StoreError> {
        let _held = self.state.overlay.hold();
        let view = self.state.index.view()?;
        let wanted = self.state.kinds.below(class, version_below);
        let mut horizon = Oid(u64::MAX);
        let mut found = BTreeSet::new();
        for kind in &wanted {
            let (first, end) = (keys::object(kind.0, Oid(from)), keys::object(kind.0, Oid(u64::MAX)));
            let (mut rows, mut last) = (0, None);
            view.range(Table::Objects, Bound::Included(&first), Bound::Included(&end), false, &mut |key, _| {
                last = rows::object_oid(key);
                found.extend(last);
                rows += 1;
                rows < limit
            })?;
            if rows == limit {
                horizon = horizon.min(last.unwrap_or(horizon));
            }
        }
        for (oid, kind) in self.waiting(view.as_ref(), from, horizon)? {
            if kind.is_some_and(|kind| wanted.contains(&kind)) {
                found.insert(oid);
            } else {
                found.remove(&oid);
            }
        }
        let mut out: Vec<Oid> = found.into_iter().take_while(|oid| *oid <= horizon).collect();
        if out.len() > limit {
            out.truncate(limit);
        }
        Ok((out, horizon))
    }

    // What the objects in a range of oids are whose newest published revision is not in the view; `None`: deleted.
    fn waiting(&self, view: &dyn View, from: u64, to: Oid) -> Result<Vec<(Oid, Option<KindId>)>, StoreError> {
        let covered = view.get(Table::Meta, rows::COVERED)?.and_then(|row| Covered::parse(&row));
        let settled = covered.map_or(Tid::NONE, |covered| covered.last);
        let published = self.state.published();
        let first = RevisionKey::new(Cell::object(Oid(from)), Tid::MAX);
        let end = to.0.checked_add(1).map(|oid| RevisionKey::new(Cell::object(Oid(oid)), Tid::MAX));
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut out, mut last) = (Vec::new(), None);
        // Once over all: to look for each object anew costs more. Of an object's entries nothing is wanted, and only its newest revision.
        self.state.overlay.visit(Bound::Included(first), end, false, |key, slot| {
            let oid = key.cell.oid;
            if key.cell.is_object() && key.tid() <= published && last != Some(oid) {
                last = Some(oid);
                out.extend((key.tid() > settled).then(|| (oid, slot.place.map(|_| slot.kind))));
            }
            true
        });
        Ok(out)
    }
}
