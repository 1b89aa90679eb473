//! Owns the entry: one keyed part of an ordered map.
//!
//! Entries are cells of their own, so that writes of different keys never meet, and there are no buckets to split. Writes of
//! *one* key meet here: they merge only when both sides did exactly the same (the same record, or both deleted it), because
//! then each of them finds what it wrote. Anything else is a real conflict: the two writers disagree about the value. That also goes
//! for whoever writes what was there: to renew a lease, or to say that a member is there, is an assertion, and it is not to be
//! acknowledged when somebody has taken the entry out meanwhile.
//!
//! ```text
//!   data   a value (see `value`); the resolver itself looks only whether records are equal
//!   merge  equal outcomes; commutes
//! ```

use super::three_way::{self, Begun};
use super::{class, value};
use crate::ids::Oid;
use crate::record::Record;
use crate::resolver::{Resolver, Unresolved};

/// An entry with this value and the objects that it refers to.
pub fn record(bytes: &[u8], refs: Vec<Oid>) -> Record {
    value::record(class::ENTRY, bytes, refs)
}

/// Merges entries of ordered maps.
#[derive(Clone, Copy, Debug)]
pub struct MapEntry;

impl Resolver for MapEntry {
    fn description(&self) -> &str {
        "an entry of a map: merged when both sides did the same"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        equal_outcomes(base, theirs, ours, "another commit gave this key a different value")
    }
}

/// Both sides did the same, or theirs has changed back what it changed.
pub(super) fn equal_outcomes(
    base: Option<&Record>,
    theirs: Option<&Record>,
    ours: Option<&Record>,
    otherwise: &str,
) -> Result<Option<Record>, Unresolved> {
    match three_way::asserted(base, theirs, ours)? {
        Begun::Settled(record) => Ok(record),
        Begun::BothDeleted => Ok(None),
        Begun::Both(sides) if sides.theirs == sides.ours => Ok(Some(sides.theirs.clone())),
        Begun::Both(_) => Err(Unresolved::because(otherwise)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_outcomes_merge_and_different_ones_conflict() {
        let [a, b, base] = [b"a", b"b", b"0"].map(|bytes| record(bytes, vec![Oid(1)]));
        assert_eq!(MapEntry.merge(None, Some(&a), Some(&a)), Ok(Some(a.clone())));
        assert_eq!(MapEntry.merge(Some(&base), Some(&a), Some(&a)), Ok(Some(a.clone())));
        assert_eq!(MapEntry.merge(Some(&base), None, None), Ok(None));
        assert!(MapEntry.merge(None, Some(&a), Some(&b)).is_err());
        assert!(MapEntry.merge(Some(&base), Some(&a), Some(&b)).is_err());
        assert!(MapEntry.merge(Some(&base), None, Some(&b)).is_err());
        assert!(MapEntry.merge(Some(&base), Some(&a), None).is_err());
        assert_eq!(MapEntry.merge(Some(&base), Some(&base), Some(&a)), Ok(Some(a.clone())), "changed and changed back");
        let other_refs = record(b"a", vec![Oid(2)]);
        assert!(MapEntry.merge(None, Some(&a), Some(&other_refs)).is_err(), "references are part of the value");
        assert_eq!(value::read(&a).expect("reads").as_ref(), b"a");
    }

    #[test]
    fn what_is_written_as_it_was_is_asserted() {
        let [a, base] = [b"a", b"0"].map(|bytes| record(bytes, vec![]));
        assert!(MapEntry.merge(Some(&base), None, Some(&base)).is_err(), "renewed, and taken out meanwhile");
        assert!(MapEntry.merge(Some(&base), Some(&a), Some(&base)).is_err(), "renewed, and changed meanwhile");
        assert!(MapEntry.merge(None, Some(&a), None).is_err(), "taken out where nothing was, and put in meanwhile");
        assert_eq!(MapEntry.merge(Some(&base), Some(&base), Some(&base)), Ok(Some(base.clone())));
        assert_eq!(MapEntry.merge(None, None, None), Ok(None));
    }
}
