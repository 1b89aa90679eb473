//! Owns the rules that are the same for every built-in resolver: unchanged sides, deletes, class, version, references.
//!
//! ```text
//!   ours == base                 theirs     (we changed nothing; but see `asserted`)
//!   theirs == base               ours       (changed and changed back)
//!   theirs, ours both deleted    refused or deleted: the resolver says which
//!   one deleted, one changed     refused
//!   classes differ               refused
//!   otherwise                    the resolver's own rule, on `Sides`
//! ```

use crate::ids::Oid;
use crate::record::{BadRecord, Record};
use crate::resolver::Unresolved;
use bytes::Bytes;
use std::collections::HashSet;
use std::hash::Hash;

/// Where the common rules leave a merge.
pub(super) enum Begun<'a> {
    /// Decided: one side had changed nothing.
    Settled(Option<Record>),
    /// Both sides deleted the cell.
    BothDeleted,
    /// Both sides wrote records of one class.
    Both(Sides<'a>),
}

/// Two concurrent records of one class, and what they came from (none: both created the cell).
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub(super) base: Option<&'a Record>,
    pub(super) theirs: &'a Record,
    pub(super) ours: &'a Record,
}

/// Applies the common rules.
pub(super) fn begin<'a>(
    base: Option<&'a Record>,
    theirs: Option<&'a Record>,
    ours: Option<&'a Record>,
) -> Result<Begun<'a>, Unresolved> {
    if ours == base {
        return Ok(Begun::Settled(theirs.cloned()));
    }
    if theirs == base {
        return Ok(Begun::Settled(ours.cloned()));
    }
    let (theirs, ours) = match (theirs, ours) {
        (Some(theirs), Some(ours)) => (theirs, ours),
        (None, None) => return Ok(Begun::BothDeleted),
        (None, Some(_)) => return Err(Unresolved::because("another commit deleted what this one changed")),
        (Some(_), None) => return Err(Unresolved::because("another commit changed what this one deletes")),
    };
    if theirs.class != ours.class || base.is_some_and(|base| base.class != ours.class) {
        return Err(another_class());
    }
    Ok(Begun::Both(Sides { base, theirs, ours }))
}

pub(super) fn another_class() -> Unresolved {
    Unresolved::because("another commit gave the cell a different class")
}

/// The common rules for what is written as a whole and means what it says, also where it says what was there: whoever wrote
/// that is to find it, or to be told.
pub(super) fn asserted<'a>(
    base: Option<&'a Record>,
    theirs: Option<&'a Record>,
    ours: Option<&'a Record>,
) -> Result<Begun<'a>, Unresolved> {
    match (theirs, ours) {
        (None, Some(_)) if ours == base => {
            Err(Unresolved::because("another commit deleted what this one writes again"))
        }
        (Some(_), None) if ours == base => Err(Unresolved::because("another commit wrote what this one deletes")),
        (Some(theirs), Some(ours)) if base == Some(ours) && theirs != ours => {
            Err(Unresolved::because("another commit changed what this one writes again"))
        }
        _ => begin(base, theirs, ours),
    }
}

impl Sides<'_> {
    /// The merged record: this data, and the common rules for the rest.
    pub(super) fn record(&self, data: impl Into<Bytes>) -> Result<Option<Record>, Unresolved> {
        self.record_with_refs(data, self.refs())
    }

    /// The merged record with references that the resolver merged itself.
    pub(super) fn record_with_refs(
        &self,
        data: impl Into<Bytes>,
        refs: Vec<Oid>,
    ) -> Result<Option<Record>, Unresolved> {
        let version = pick(self.base.map(|base| base.version), self.theirs.version, self.ours.version)
            .ok_or_else(|| Unresolved::because("both commits changed the schema version, to different ones"))?;
        let blobs = self.merged(|record| &record.blobs);
        Ok(Some(Record { class: self.theirs.class.clone(), version, refs, blobs, data: data.into() }))
    }

    fn refs(&self) -> Vec<Oid> {
        self.merged(|record| &record.refs)
    }

    /// Theirs, without what ours removed, with what ours added: in doubt a reference is kept, never lost.
    fn merged<T: Copy + Eq + Hash>(&self, of: impl Fn(&Record) -> &[T]) -> Vec<T> {
        let base = self.base.map_or(&[][..], &of);
        let (theirs, ours) = (of(self.theirs), of(self.ours));
        if let Some(named) = pick(Some(base), theirs, ours) {
            return named.to_vec();
        }
        let set = |named: &[T]| named.iter().copied().collect::<HashSet<_>>();
        let (in_base, in_theirs, in_ours) = (set(base), set(theirs), set(ours));
        let kept = theirs.iter().filter(|one| in_ours.contains(one) || !in_base.contains(one));
        let added = ours.iter().filter(|one| !in_base.contains(one) && !in_theirs.contains(one));
        kept.chain(added).copied().collect()
    }
}

/// The side that differs from the base; none when both do, in different ways.
pub(super) fn pick<T: PartialEq>(base: Option<T>, theirs: T, ours: T) -> Option<T> {
    if theirs == ours || base.as_ref() == Some(&ours) {
        Some(theirs)
    } else if base.as_ref() == Some(&theirs) {
        Some(ours)
    } else {
        None
    }
}

/// An operation may only be applied to a cell of its own class.
pub(super) fn same_class(class: &str, current: Option<&Record>) -> Result<(), Unresolved> {
    match current {
        Some(record) if record.class != class => Err(Unresolved(format!(
            "the cell holds a record of class {:?}, not of {class:?}; apply an operation of its own class",
            record.class
        ))),
        _ => Ok(()),
    }
}

/// A record after an operation: new data, everything else as it was.
pub(super) fn changed(class: &str, current: Option<&Record>, data: impl Into<Bytes>) -> Option<Record> {
    Some(match current {
        Some(record) => Record { data: data.into(), ..record.clone() },
        None => Record::new(class, super::SCHEMA_VERSION, data),
    })
}

impl From<BadRecord> for Unresolved {
    fn from(bad: BadRecord) -> Unresolved {
        Unresolved(format!("{bad}; the resolver cannot read it, put a whole record"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(refs: &[u64]) -> Record {
        Record { refs: refs.iter().copied().map(Oid).collect(), ..Record::new("c", 1, "") }
    }

    #[test]
    fn references_are_merged_both_ways() {
        let (base, theirs, ours) = (record(&[1, 2, 3]), record(&[1, 3, 4]), record(&[1, 2, 5]));
        let sides = Sides { base: Some(&base), theirs: &theirs, ours: &ours };
        assert_eq!(sides.refs(), [1, 4, 5].map(Oid), "2 and 3 are removed, 4 and 5 added");
    }

    #[test]
    fn the_side_that_changed_the_version_counts() {
        let versions = |base, theirs, ours| pick(Some(base), theirs, ours);
        assert_eq!(versions(1, 2, 1), Some(2));
        assert_eq!(versions(1, 1, 2), Some(2));
        assert_eq!(versions(1, 2, 2), Some(2));
        assert_eq!(versions(1, 2, 3), None);
    }

    #[test]
    fn a_delete_against_a_change_is_a_conflict() {
        let (base, changed) = (record(&[1]), record(&[2]));
        assert!(begin(Some(&base), None, Some(&changed)).is_err());
        assert!(begin(Some(&base), Some(&changed), None).is_err());
        let Ok(Begun::Settled(settled)) = begin(Some(&base), None, Some(&base)) else { panic!("not settled") };
        assert_eq!(settled, None, "an unchanged side yields to a delete");
    }

    #[test]
    fn different_classes_are_never_merged() {
        let (a, mut b) = (record(&[1]), record(&[2]));
        b.class = "d".into();
        assert!(begin(None, Some(&a), Some(&b)).is_err());
        assert!(same_class("c", Some(&b)).is_err());
    }
}
