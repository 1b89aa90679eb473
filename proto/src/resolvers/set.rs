//! Owns the small set in one record: writers add and remove members, and none of them conflicts.
//!
//! For tags, permissions, short membership lists. A large or hot set belongs into entries (one cell per member).
//!
//! ```text
//!   data       items (see `items`), strictly ascending: equal sets are equal bytes
//!   operation  1 byte format = 1 | changes: 1 byte (1 add, 2 remove) | item
//!   merge      theirs, without what ours removed, with what ours added (both against base); commutes
//! ```
//!
//! Concurrent add and remove of one member, by what each side *changed*:
//!
//! | in base | one side | other side | result |
//! |---|---|---|---|
//! | yes | removes | leaves it (or adds it again, which changes nothing) | gone |
//! | no | adds | leaves it (or removes it, which changes nothing) | there |
//! | either | does the same as the other | | done once |
//!
//! So two puts can never contradict each other. Operations are applied in the order of the commits: of an add and a
//! remove of one member, the later commit counts. A missing set counts as empty.

use super::class;
use super::fields::Fields;
use super::items::{self, Item};
use super::three_way::{self, Begun, Sides};
use crate::record::{BadRecord, Record};
use crate::resolver::{Resolver, Unresolved};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeSet;

/// One change of a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The member is there afterwards.
    Add(Item),
    /// The member is gone afterwards.
    Remove(Item),
}

/// A set's record.
pub fn record(members: &BTreeSet<Item>) -> Result<Record, BadRecord> {
    let members: Vec<Item> = members.iter().cloned().collect();
    items::record(class::SET, &members)
}

/// The members of a set's record.
pub fn members(record: &Record) -> Result<BTreeSet<Item>, BadRecord> {
    let items = items::decode(record)?;
    match items.is_sorted_by(|a, b| a < b) {
        true => Ok(items.into_iter().collect()),
        false => Err(BadRecord("members of a set out of order")),
    }
}

/// The operation that makes these changes, in order.
pub fn change(changes: &[Change]) -> Result<Bytes, BadRecord> {
    let mut operation = BytesMut::new();
    operation.put_u8(items::FORMAT);
    for change in changes {
        let (kind, item) = match change {
            Change::Add(item) => (1, item),
            Change::Remove(item) => (2, item),
        };
        operation.put_u8(kind);
        items::put_operand(&mut operation, item)?;
    }
    Ok(operation.freeze())
}

/// The operation that adds a member.
pub fn add(member: Item) -> Result<Bytes, BadRecord> {
    change(&[Change::Add(member)])
}

/// The operation that removes a member.
pub fn remove(member: Item) -> Result<Bytes, BadRecord> {
    change(&[Change::Remove(member)])
}

/// Merges small sets.
#[derive(Clone, Copy, Debug)]
pub struct SmallSet;

impl SmallSet {
    fn both(sides: Sides<'_>) -> Result<Option<Record>, Unresolved> {
        let base = sides.base.map(members).transpose()?.unwrap_or_default();
        let ours = members(sides.ours)?;
        let mut all = members(sides.theirs)?;
        all.retain(|member| ours.contains(member) || !base.contains(member));
        all.extend(ours.into_iter().filter(|member| !base.contains(member)));
        let all: Vec<Item> = all.into_iter().collect();
        let (data, refs) = items::encode(&all)?;
        sides.record_with_refs(data, refs)
    }
}

impl Resolver for SmallSet {
    fn description(&self) -> &str {
        "a small set in one record: concurrent adds and removes are all done"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        match three_way::begin(base, theirs, ours)? {
            Begun::Settled(record) => Ok(record),
            Begun::BothDeleted => Ok(None),
            Begun::Both(sides) => SmallSet::both(sides),
        }
    }

    fn apply(&self, class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        three_way::same_class(class, current)?;
        items::check_operation(operation)?;
        let mut all = current.map(members).transpose()?.unwrap_or_default();
        let mut fields = Fields::of(operation, items::FORMAT)?;
        while !fields.rest().is_empty() {
            let kind = fields.u8()?;
            let item = items::operand(operation, &mut fields)?;
            match kind {
                1 => all.insert(item),
                2 => all.remove(&item),
                _ => return Err(BadRecord("unknown change of a set").into()),
            };
        }
        let all: Vec<Item> = all.into_iter().collect();
        let (data, refs) = items::encode(&all)?;
        Ok(three_way::changed(class, current, data).map(|record| Record { refs, ..record }))
    }

    fn applies(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Oid;

    /// Each letter is a member that refers to the object of its number.
    fn set(text: &str) -> Record {
        let members = text.bytes().map(|byte| Item { bytes: vec![byte].into(), refs: vec![Oid(byte.into())] });
        record(&members.collect()).expect("encodes")
    }

    #[test]
    fn adds_and_removes_of_both_sides_are_done() {
        let merge = |base: Option<&str>, theirs: &str, ours: &str| {
            SmallSet.merge(base.map(set).as_ref(), Some(&set(theirs)), Some(&set(ours)))
        };
        assert_eq!(merge(Some("ab"), "abc", "b"), Ok(Some(set("bc"))), "references follow their members");
        assert_eq!(merge(Some("abx"), "ab", "xc"), Ok(Some(set("c"))));
        assert_eq!(merge(None, "a", "b"), Ok(Some(set("ab"))));
        assert_eq!(merge(Some("a"), "ab", "ab"), Ok(Some(set("ab"))), "added once");
        assert_eq!(merge(Some("ab"), "bc", "bd"), Ok(Some(set("bcd"))), "removed once");
    }

    #[test]
    fn of_operations_the_later_commit_counts() {
        let (x, y) = (Item::new("x"), Item::reference(Oid(4)));
        let apply = |current: Option<&Record>, operation: Bytes| {
            SmallSet.apply(class::SET, current, &operation).expect("applies").expect("exists")
        };
        let added = apply(None, change(&[Change::Add(x.clone()), Change::Add(y.clone())]).expect("encodes"));
        assert_eq!(added.refs, [Oid(4)]);
        let removed = apply(Some(&added), remove(y.clone()).expect("encodes"));
        assert_eq!(members(&removed), Ok(BTreeSet::from([x.clone()])));
        assert!(removed.refs.is_empty());
        let again = apply(Some(&removed), add(y.clone()).expect("encodes"));
        assert_eq!(again, added);
        assert_eq!(apply(Some(&again), add(y).expect("encodes")), again, "added twice is there once");
    }

    #[test]
    fn bytes_that_are_no_set_are_refused() {
        let doubled = items::record(class::SET, &[Item::new("a"), Item::new("a")]).expect("encodes");
        assert!(members(&doubled).is_err());
        assert!(SmallSet.merge(None, Some(&set("a")), Some(&doubled)).is_err());
        assert!(SmallSet.apply(class::SET, None, &Bytes::from_static(b"\x01\x03\0\0\0\0\0\0")).is_err());
    }
}
