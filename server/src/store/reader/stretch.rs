//! Owns stretches: the cells of a range from one side, overlay or index, with how far they are complete; and their merging.

use super::{bad_row, row_at};
use crate::store::index::rows::{Revision, Stored};
use crate::store::index::{Table, View, keys};
use crate::store::{Range, StoreError};
use bytes::Bytes;
use std::ops::Bound;
use zeolite_proto::{Cell, Tid};

// Older revisions of a cell that are stepped over before a seek costs less.
pub(super) const SAME_CELL_MAX: u32 = 8;
// Rows of the index that one stretch looks at.
const ROWS_MAX: u32 = 16_384;

/// The revision of a cell that a snapshot sees, deletions included.
pub(super) struct CellAt {
    pub(super) key: Bytes,
    pub(super) tid: Tid,
    pub(super) record: Stored,
}

/// Cells in the scan's direction, complete up to `horizon`; `None`: to the end of the range.
#[derive(Default)]
pub(super) struct Stretch {
    pub(super) cells: Vec<CellAt>,
    pub(super) horizon: Option<Bytes>,
}

// The object's own record, which has the empty key, is never part of a scan.
pub(super) fn index_bounds(range: &Range) -> (Vec<u8>, Vec<u8>) {
    let lower =
        if range.from.is_empty() { keys::after_cell(range.oid, &[]) } else { keys::from_entry(range.oid, &range.from) };
    let upper =
        if range.to.is_empty() { keys::after_object(range.oid) } else { keys::from_entry(range.oid, &range.to) };
    (lower, upper)
}

// Both are complete up to the nearer of their horizons; what lies behind it is left for the next round.
pub(super) fn merge(a: Stretch, b: Stretch, reverse: bool) -> Stretch {
    let before = |x: &Bytes, y: &Bytes| if reverse { x > y } else { x < y };
    let horizon = match (a.horizon, b.horizon) {
        (Some(a), Some(b)) => Some(if before(&a, &b) { a } else { b }),
        (a, b) => a.or(b),
    };
    let within = |cell: &CellAt| horizon.as_ref().is_none_or(|horizon| !before(horizon, &cell.key));
    let mut cells = Vec::with_capacity(a.cells.len() + b.cells.len());
    let (mut a, mut b) = (a.cells.into_iter().peekable(), b.cells.into_iter().peekable());
    loop {
        let next = match (a.peek(), b.peek()) {
            (None, None) => break,
            (Some(x), Some(y)) if x.key == y.key => {
                let (x, y) = (a.next(), b.next());
                x.into_iter().chain(y).max_by_key(|cell| cell.tid)
            }
            (Some(x), Some(y)) if before(&x.key, &y.key) => a.next(),
            (Some(_), None) => a.next(),
            (_, Some(_)) => b.next(),
        };
        cells.extend(next.filter(&within));
    }
    Stretch { cells, horizon }
}

// The cells of a range from the index, forward. In a cell the newest row comes first.
pub(super) fn from_index(view: &dyn View, range: &Range, at: Tid, cells_max: usize) -> Result<Stretch, StoreError> {
    let (mut lower, upper) = index_bounds(range);
    let mut out = Stretch::default();
    let (mut current, mut taken, mut same, mut rows) = (Vec::new(), false, 0, 0);
    loop {
        let (mut seek, mut bad) = (None, false);
        view.range(Table::Revisions, Bound::Included(&lower), Bound::Excluded(&upper), false, &mut |key, row| {
            let Some((cell, tid)) = split(key) else {
                bad = true;
                return false;
            };
            rows += 1;
            if cell != current.as_slice() {
                if out.cells.len() >= cells_max || rows > ROWS_MAX {
                    out.horizon = keys::parse_revision(&with_tid(&current)).map(|(cell, _)| cell.key);
                    return false;
                }
                current.clear();
                current.extend_from_slice(cell);
                (taken, same) = (false, 0);
            }
            if !taken && tid <= at {
                let parsed = keys::parse_revision(key).zip(Revision::parse(row));
                bad = parsed.is_none();
                out.cells.extend(parsed.map(|((cell, tid), row)| CellAt { key: cell.key, tid, record: row.record }));
                taken = true;
                return !bad;
            }
            same += 1;
            if same >= SAME_CELL_MAX {
                // Behind the cell when it is done, else to where its wanted revision must be.
                seek = Some(if taken { behind(cell) } else { [cell, &(!at.0).to_be_bytes()].concat() });
                same = 0;
            }
            seek.is_none()
        })?;
        match seek {
            _ if bad => return Err(bad_row(Table::Revisions)),
            Some(next) => lower = next,
            None => return Ok(out),
        }
    }
}

// The same from the end: in a cell the oldest row comes first, so a cell is known when the next one begins.
pub(super) fn from_index_reverse(
    view: &dyn View,
    range: &Range,
    at: Tid,
    cells_max: usize,
) -> Result<Stretch, StoreError> {
    let (lower, mut upper) = index_bounds(range);
    let mut out = Stretch::default();
    let (mut current, mut candidate, mut same, mut rows) = (Vec::new(), None, 0, 0);
    loop {
        let (mut seek, mut bad, mut full) = (false, false, false);
        view.range(Table::Revisions, Bound::Included(&lower), Bound::Excluded(&upper), true, &mut |key, row| {
            let Some((cell, tid)) = split(key) else {
                bad = true;
                return false;
            };
            rows += 1;
            if cell != current.as_slice() {
                out.cells.extend(candidate.take());
                if out.cells.len() >= cells_max || rows > ROWS_MAX {
                    full = true;
                    return false;
                }
                current.clear();
                current.extend_from_slice(cell);
                same = 0;
            }
            same += 1;
            // Once one is newer than wanted, all that follow in this cell are.
            if tid <= at {
                let parsed = keys::parse_revision(key).zip(Revision::parse(row));
                bad = parsed.is_none();
                candidate = parsed.map(|((cell, tid), row)| CellAt { key: cell.key, tid, record: row.record });
            }
            seek = same >= SAME_CELL_MAX;
            !bad && !seek
        })?;
        if bad {
            return Err(bad_row(Table::Revisions));
        }
        let key = keys::parse_revision(&with_tid(&current)).map(|(cell, _)| cell.key);
        if seek {
            let Some(key) = key else { return Err(bad_row(Table::Revisions)) };
            let found = row_at(view, &Cell { oid: range.oid, key: key.clone() }, at)?;
            out.cells.extend(found.map(|row| CellAt { key, tid: row.tid, record: row.record }));
            (candidate, same) = (None, 0);
            upper.clone_from(&current);
            continue;
        }
        if full {
            out.horizon = key;
        } else {
            out.cells.extend(candidate.take());
        }
        return Ok(out);
    }
}

// A revision's key without its tid, and the tid.
pub(super) fn split(key: &[u8]) -> Option<(&[u8], Tid)> {
    key.split_last_chunk::<8>().map(|(cell, tid)| (cell, Tid(!u64::from_be_bytes(*tid))))
}

// Just behind the last revision of a cell that is given without its tid.
pub(super) fn behind(cell: &[u8]) -> Vec<u8> {
    let mut out = cell.to_vec();
    if let Some(last) = out.last_mut() {
        *last = 1;
    }
    out
}

fn with_tid(cell: &[u8]) -> Vec<u8> {
    [cell, &[0; 8]].concat()
}
