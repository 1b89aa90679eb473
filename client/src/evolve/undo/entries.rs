//! Owns what an undo does with index entries: they go the way of their object.
//!
//! ```text
//!   the object         its entries among the step's writes
//!   goes back          go back as well, each by what was there before
//!   stays              stay: whoever wrote it since has kept them. What only the step has put, and nobody has touched, goes
//!   is neither         a live edit of the new shape: object and entries are left as they are, and listed
//! ```
//! Whose an entry is, its record says: it refers to the object. An entry that two objects have had, of which one stays and one goes
//! back, is left as well.

use super::group::{Group, Past};
use crate::tx::Place;
use bytes::Bytes;
use zeolite_proto::record::Header;
use zeolite_proto::{Change, Oid, ReadCell, Write, hash};

/// Which way an object goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Back,
    Stays,
    Neither,
}

/// Those of the objects that the steps of a commit have stepped and written.
pub(super) struct Ways(hash::Map<Oid, Way>);

impl Ways {
    pub(super) fn of<'p>(stepped: impl Iterator<Item = &'p Past>) -> Ways {
        Ways(stepped.filter(|past| past.cell.is_object()).map(|past| (past.cell.oid, past.way())).collect())
    }

    /// The ways of the objects that an entry refers to; none: it is no entry of a stepped object.
    fn of_entry(&self, past: &Past) -> Vec<Way> {
        if past.cell.is_object() {
            return Vec::new();
        }
        let owners = [&past.before, &past.after].into_iter().flatten().flat_map(refs);
        owners.filter_map(|oid| self.0.get(&oid).copied()).collect()
    }
}

fn refs(record: &Bytes) -> Vec<Oid> {
    Header::parse(record).map(|header| header.refs().collect()).unwrap_or_default()
}

impl Group {
    /// Takes an entry's change back, or leaves it, as its object's is.
    pub(super) fn add_entry(&mut self, past: Past, ways: &Ways, at: Place) {
        let of = ways.of_entry(&past);
        if of.is_empty() || of.iter().all(|way| *way == Way::Back) {
            return self.add(past, false, at);
        }
        self.cells.push(past.cell.clone());
        if !of.iter().all(|way| *way == Way::Stays) {
            let why =
                "live code has changed the object since, and its entries in indexes with it; both are left as they are";
            self.refused.get_or_insert_with(|| why.to_owned());
        } else if past.before.is_none() && !past.is_touched {
            self.writes.push(Write { cell: past.cell, base: past.base, change: Change::Delete, stamped: false });
        } else {
            self.stay.push(ReadCell { cell: past.cell, base: at.snapshot });
        }
    }
}
