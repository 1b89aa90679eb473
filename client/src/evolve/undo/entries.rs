//! Owns what an undo does with index entries: they go the way of their object.
//!
//! ```text
//!   the object         its entries among the step's writes
//!   goes back          go back as well, each by what was there before
//!   stays              stay: whoever wrote it since has kept them. What only the step has put, and nobody has touched, goes
//!   is neither         a live edit of the new shape: object and entries are left as they are, and listed
//! ```
//! Whose an entry is, its key says at its end, or its value; of any other collection's whoever it refers to. (A key may refer to objects as well.) An entry that two objects have had, of which one stays and one goes
//! back, is left as well.

use super::past::{Past, Way};
use crate::collections::kept;
use bytes::Bytes;
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::class;
use zeolite_proto::{Cell, Oid, hash};

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
        let owners = [&past.before, &past.after].into_iter().flatten().flat_map(|record| owners(&past.cell, record));
        owners.filter_map(|oid| self.0.get(&oid).copied()).collect()
    }
}

fn owners(cell: &Cell, record: &Bytes) -> Vec<Oid> {
    let Ok(header) = Header::parse(record) else { return Vec::new() };
    let refs: Vec<Oid> = header.refs().collect();
    let at_the_end = cell.key.last_chunk().map(|oid| Oid(u64::from_be_bytes(*oid)));
    match (header.class, at_the_end) {
        (class::UNIQUE, _) => kept::owner(cell, record).map_or(refs, |owner| vec![owner]),
        (class::ENTRY, Some(owner)) if refs.contains(&owner) => vec![owner],
        _ => refs,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::resolvers::{entry, unique};

    #[test]
    fn an_entry_is_its_objects_and_not_those_of_its_key() {
        let (parent, child) = (Oid(7), Oid(8));
        let key: Vec<u8> = [parent, child].iter().flat_map(|oid| oid.0.to_be_bytes()).collect();
        let many = entry::record(b"", vec![parent, child]).encode().expect("a small header");
        assert_eq!(owners(&Cell::entry(Oid(1), key), &many), [child]);
        let one = unique::record(&[8], vec![parent, child]).encode().expect("a small header");
        assert_eq!(owners(&Cell::entry(Oid(1), parent.0.to_be_bytes().to_vec()), &one), [child]);
        let map = entry::record(&[8], vec![child]).encode().expect("a small header");
        assert_eq!(owners(&Cell::entry(Oid(1), "title"), &map), [child], "of a map");
    }
}
