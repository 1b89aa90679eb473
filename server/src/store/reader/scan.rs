//! Owns scans of a collection's entries: overlay and index merged, at one snapshot, in both directions.
//!
//! A scan goes in rounds. Each takes a stretch of cells from the overlay, then a view of the index and the same stretch
//! from there, merges them (of a cell in both, the newer revision), and ends where the shorter of the two ended:
//!
//! ```text
//!   overlay   a . . d . f|          three cells, there may be more behind f
//!   index     a b c d . .|. .       cut at f
//!   page      a'b c d'  f           then the next round from behind f
//! ```
//! Rounds may differ in what is settled; that changes nothing, because at one snapshot every revision is fixed.

use super::Reader;
use super::stretch::{
    CellAt, SAME_CELL_MAX, Stretch, behind, from_index, from_index_reverse, index_bounds, merge, split,
};
use crate::store::index::rows::Stored;
use crate::store::index::{Table, View, keys};
use crate::store::overlay::{RevisionKey, Slot};
use crate::store::{Entry, Range, StoreError};
use bytes::{BufMut, Bytes, BytesMut};
use std::ops::Bound;
use zeolite_proto::{Cell, Oid, Tid};

// Cells of one round: so many, that a round costs little more than its cells.
const CELLS_MIN: usize = 64;
const CELLS_MAX: usize = 1024;
// A page looks at no more than this, however many of the cells it finds are deleted.
const ROUNDS_MAX: usize = 32;

impl Reader {
    /// The entries of a collection that a snapshot sees, at most `limit` and about `bytes_max`, but at least one where
    /// there is one nearby; and where to go on: the next page's `from`, or its `to` in a reverse scan. `None`: that was
    /// all. A page may have no entries and yet go on, when it met very many deleted ones.
    pub fn scan(
        &self,
        range: &Range,
        at: Tid,
        limit: usize,
        bytes_max: usize,
    ) -> Result<(Vec<Entry>, Option<Bytes>), StoreError> {
        let page = self.page(range.clone(), at.min(self.state.published()), limit.max(1), bytes_max)?;
        self.check_packed(at)?;
        Ok(page)
    }

    /// The first cell (by key) among a collection's entries from `from` (empty: the first) to before `to` (empty: to the
    /// end) that has a revision newer than a tid, deletions included; with its newest tid. What is published counts.
    pub fn newest_in_range(
        &self,
        oid: Oid,
        from: &Bytes,
        to: &Bytes,
        newer_than: Tid,
    ) -> Result<Option<(Cell, Tid)>, StoreError> {
        let mut range = Range { oid, from: from.clone(), to: to.clone(), reverse: false, keys_only: true };
        if is_empty(&range) || oid.0 == u64::MAX {
            return Ok(None);
        }
        let mut waiting = None;
        let (lower, upper) = overlay_bounds(&range);
        self.state.overlay.visit(lower, upper, false, |key, _| {
            if key.tid() > newer_than {
                waiting = Some((key.cell.clone(), key.tid()));
            }
            waiting.is_none()
        });
        if self.state.overlay.settled() <= newer_than {
            // Everything newer was in the overlay, and still is.
            return Ok(waiting);
        }
        if let Some((cell, _)) = &waiting {
            range.to = successor(&cell.key);
        }
        let bound = |key: &Bytes| Cell { oid, key: key.clone() };
        let (first, last) = (bound(&range.from), bound(&range.to));
        let after = Cell::object(Oid(oid.0.saturating_add(1)));
        let known = self.state.recent.first_newer(
            if range.from.is_empty() { Bound::Excluded(&first) } else { Bound::Included(&first) },
            Bound::Excluded(if range.to.is_empty() { &after } else { &last }),
            newer_than,
        );
        let settled = match known {
            Some(known) => known,
            None => first_newer(self.state.index.view()?.as_ref(), &range, newer_than)?,
        };
        let found = match (waiting, settled) {
            (Some(waiting), Some(settled)) if waiting.0 == settled.0 => Some((waiting.0, waiting.1.max(settled.1))),
            // The index was asked up to the waiting one only.
            (waiting, settled) => settled.or(waiting),
        };
        if found.is_none() && newer_than != Tid::NONE {
            // Pack takes a deletion away with all that was before it: of an older base nothing is known.
            self.check_packed(newer_than)?;
        }
        Ok(found)
    }

    fn page(
        &self,
        mut range: Range,
        at: Tid,
        limit: usize,
        bytes_max: usize,
    ) -> Result<(Vec<Entry>, Option<Bytes>), StoreError> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for _ in 0..ROUNDS_MAX {
            if is_empty(&range) {
                return Ok((entries, None));
            }
            let cells_max = (limit - entries.len() + 1).clamp(CELLS_MIN, CELLS_MAX);
            let Stretch { cells, horizon } = self.stretch(&range, at, cells_max)?;
            let mut cells = cells.into_iter().filter(|cell| cell.record != Stored::Deleted).peekable();
            while let Some(cell) = cells.next() {
                let Some(entry) = self.entry(&range, cell, at)? else { continue };
                bytes += entry.key.len() + entry.record.len();
                entries.push(entry);
                if entries.len() >= limit || bytes >= bytes_max {
                    let more = cells.peek().is_some() || horizon.is_some();
                    let last = entries.last().map(|entry| entry.key.clone());
                    return Ok((entries, last.filter(|_| more).map(|key| following(&range, &key))));
                }
            }
            let Some(horizon) = horizon else { return Ok((entries, None)) };
            let next = following(&range, &horizon);
            if range.reverse {
                range.to = next;
            } else {
                range.from = next;
            }
        }
        let next = if range.reverse { range.to } else { range.from };
        Ok((entries, Some(next)))
    }

    // The record of a cell, if it is wanted; `None`: pack has taken the revision, which a pinned snapshot never sees.
    fn entry(&self, range: &Range, cell: CellAt, at: Tid) -> Result<Option<Entry>, StoreError> {
        let CellAt { key, tid, record } = cell;
        if range.keys_only {
            return Ok(Some(Entry { key, tid, record: Bytes::new() }));
        }
        if let Some(record) = self.record(record)? {
            return Ok(record.map(|record| Entry { key, tid, record }));
        }
        let found = self.get_unpacked(&Cell { oid: range.oid, key: key.clone() }, at)?;
        Ok(found.and_then(|revision| {
            let record = revision.record?;
            Some(Entry { key, tid: revision.tid, record })
        }))
    }

    fn stretch(&self, range: &Range, at: Tid, cells_max: usize) -> Result<Stretch, StoreError> {
        let waiting = self.waiting_cells(range, at, cells_max);
        let mut within = range.clone();
        if let Some(horizon) = &waiting.horizon {
            if range.reverse {
                within.from = horizon.clone();
            } else {
                within.to = successor(horizon);
            }
        }
        let view = self.state.index.view()?;
        let settled = if range.reverse {
            from_index_reverse(view.as_ref(), &within, at, cells_max)?
        } else {
            from_index(view.as_ref(), &within, at, cells_max)?
        };
        Ok(merge(waiting, settled, range.reverse))
    }

    fn waiting_cells(&self, range: &Range, at: Tid, cells_max: usize) -> Stretch {
        let mut out = Stretch::default();
        let mut current: Option<Bytes> = None;
        let (lower, upper) = overlay_bounds(range);
        self.state.overlay.visit(lower, upper, range.reverse, |key, slot| {
            if current.as_ref() != Some(&key.cell.key) {
                if out.cells.len() >= cells_max {
                    out.horizon = current.take();
                    return false;
                }
                current = Some(key.cell.key.clone());
            }
            if key.tid() > at {
                return true;
            }
            let known = out.cells.last_mut().filter(|cell| cell.key == key.cell.key);
            match known {
                // Forward the first that fits is the newest; in reverse the last one.
                Some(cell) if range.reverse => *cell = cell_of(key, slot),
                Some(_) => {}
                None => out.cells.push(cell_of(key, slot)),
            }
            true
        });
        out
    }
}

fn cell_of(key: &RevisionKey, slot: &Slot) -> CellAt {
    CellAt { key: key.cell.key.clone(), tid: key.tid(), record: super::stored(slot) }
}

// The first cell of a range whose newest row is newer than a tid.
fn first_newer(view: &dyn View, range: &Range, newer_than: Tid) -> Result<Option<(Cell, Tid)>, StoreError> {
    let (mut lower, upper) = index_bounds(range);
    let mut current = Vec::new();
    loop {
        let (mut same, mut found, mut seek) = (0, None, None);
        view.range(Table::Revisions, Bound::Included(&lower), Bound::Excluded(&upper), false, &mut |key, _| {
            let Some((cell, tid)) = split(key) else { return true };
            if tid > newer_than {
                found = keys::parse_revision(key);
            } else if cell != current.as_slice() {
                current.clear();
                current.extend_from_slice(cell);
                same = 0;
            } else {
                same += 1;
                seek = (same >= SAME_CELL_MAX).then(|| behind(cell));
            }
            found.is_none() && seek.is_none()
        })?;
        match seek {
            Some(next) => lower = next,
            None => return Ok(found),
        }
    }
}

fn successor(key: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(key.len() + 1);
    out.put_slice(key);
    out.put_u8(0);
    out.freeze()
}

// Where the scan goes on behind a key: a `from` forward, a `to` in reverse.
fn following(range: &Range, key: &Bytes) -> Bytes {
    if range.reverse { key.clone() } else { successor(key) }
}

fn is_empty(range: &Range) -> bool {
    !range.to.is_empty() && range.from >= range.to
}

fn overlay_bounds(range: &Range) -> (Bound<RevisionKey>, Bound<RevisionKey>) {
    let newest = |key: &Bytes| RevisionKey::new(Cell { oid: range.oid, key: key.clone() }, Tid::MAX);
    let lower = if range.from.is_empty() {
        Bound::Excluded(RevisionKey::new(Cell::object(range.oid), Tid::NONE))
    } else {
        Bound::Included(newest(&range.from))
    };
    let upper = match (range.to.is_empty(), range.oid.0.checked_add(1)) {
        (false, _) => Bound::Excluded(newest(&range.to)),
        (true, Some(next)) => Bound::Excluded(RevisionKey::new(Cell::object(Oid(next)), Tid::MAX)),
        (true, None) => Bound::Unbounded,
    };
    (lower, upper)
}
