//! Owns what a serializable transaction has read: cells, and the ranges that its scans have covered.
//!
//! A range is recorded as far as the scan has come, in the direction of the scan: whatever would have changed what the scan
//! has returned lies inside; what the scan has not reached is nobody's business.

use bytes::Bytes;
use parking_lot::Mutex;
use zeolite_proto::{Cell, Oid, ReadCell, ReadRange, Tid, hash};

#[derive(Debug, Default)]
pub(crate) struct Reads {
    cells: Mutex<hash::Set<Cell>>,
    ranges: Mutex<Vec<(Oid, Bytes, Option<Bytes>)>>,
}

impl Reads {
    pub(crate) fn cell(&self, cell: &Cell) {
        let mut cells = self.cells.lock();
        if !cells.contains(cell) {
            cells.insert(cell.clone());
        }
    }

    pub(crate) fn has(&self, cell: &Cell) -> bool {
        self.cells.lock().contains(cell)
    }

    /// What was there is not checked after all.
    pub(crate) fn forget(&self, cell: &Cell) {
        self.cells.lock().remove(cell);
    }

    /// A scan begins to cover a range; gives the number by which it says how far it has come.
    pub(crate) fn range(&self, oid: Oid, from: Bytes, to: Option<Bytes>) -> usize {
        let mut ranges = self.ranges.lock();
        ranges.push((oid, from, to));
        ranges.len() - 1
    }

    /// The scan has come further.
    pub(crate) fn grow(&self, number: usize, from: Bytes, to: Option<Bytes>) {
        if let Some(range) = self.ranges.lock().get_mut(number) {
            (range.1, range.2) = (from, to);
        }
    }

    /// The checks to send, all as of the snapshot.
    pub(crate) fn checks(&self, base: Tid) -> (Vec<ReadCell>, Vec<ReadRange>) {
        let cells = self.cells.lock().iter().map(|cell| ReadCell { cell: cell.clone(), base }).collect();
        let range = |(oid, from, to): &(Oid, Bytes, Option<Bytes>)| ReadRange {
            oid: *oid,
            from: from.clone(),
            to: to.clone().unwrap_or_default(),
            base,
        };
        (cells, self.ranges.lock().iter().map(range).collect())
    }
}
