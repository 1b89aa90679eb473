//! Owns the own record of a collection: the cell with the empty key, which says what kind of collection it is.
//!
//! It holds no count and no list of entries, so that inserts and deletes of entries never write it: a collection has no hot
//! cell. Two clients that make the same collection at once (the root, for one) write equal records, and that merges.
//!
//! ```text
//!   data   a value (see `value`): options of the collection; empty for the built-in ones
//!   merge  equal outcomes; commutes
//! ```

use super::{class, entry, value};
use crate::record::Record;
use crate::resolver::{Resolver, Unresolved};

/// The own record of a collection; `class` is one of [`class::COLLECTIONS`] or the application's.
pub fn record(class: &str) -> Record {
    value::record(class, b"", Vec::new())
}

/// Whether this is the own record of one of the built-in collections.
pub fn is_collection(record: &Record) -> bool {
    class::COLLECTIONS.contains(&record.class.as_str())
}

/// Merges own records of collections.
#[derive(Clone, Copy, Debug)]
pub struct OwnRecord;

impl Resolver for OwnRecord {
    fn description(&self) -> &str {
        "the own record of a collection: merged when both sides did the same"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        entry::equal_outcomes(base, theirs, ours, "another commit made or changed this collection differently")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clients_may_make_the_same_collection() {
        let map = record(class::MAP);
        assert!(is_collection(&map));
        assert_eq!(OwnRecord.merge(None, Some(&map), Some(&map)), Ok(Some(map.clone())));
        assert!(OwnRecord.merge(None, Some(&map), Some(&record(class::QUEUE))).is_err());
    }
}
