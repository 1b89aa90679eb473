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

use super::past::{Past, Way};
use bytes::Bytes;
use zeolite_proto::record::Header;
use zeolite_proto::{Oid, hash};

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

/// What becomes of an entry's change.
pub(super) enum Fate {
    /// It is taken back as any other.
    Back,
    /// It stays.
    Stays,
    /// Only the step has put it: it goes.
    Goes,
    /// It is left with all of its group, for this reason.
    Left(&'static str),
}

impl Ways {
    /// What becomes of what a step has written beside its object.
    pub(super) fn fate(&self, past: &Past) -> Fate {
        let of = self.of_entry(past);
        match () {
            () if of.iter().all(|way| *way == Way::Back) => Fate::Back,
            () if of.contains(&Way::Neither) => {
                Fate::Left("live code has changed the object since, and its entries in indexes with it")
            }
            () if of.contains(&Way::Back) => {
                Fate::Left("two objects have had an entry of it, and one of them stays as it is")
            }
            () if past.before.is_none() && !past.is_touched => Fate::Goes,
            () => Fate::Stays,
        }
    }
}
