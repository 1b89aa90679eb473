//! Owns the unique entry: a key that may be made once.
//!
//! For login names and order numbers: two inserts of one key are a real conflict *even if they are equal*, because each of the two
//! writers must know whether it is the one who has the key. Two changes of an existing entry conflict as well. Two
//! deletes merge: nobody gets anything by a delete.
//!
//! ```text
//!   data       a value (see `value`)
//!   operation  1 byte format = 1 | an encoded record: inserted if the key is free, refused if it is taken, without a read
//!   merge      never (but for two deletes, and where theirs changed back what it changed)
//! ```

use super::fields::Fields;
use super::three_way::{self, Begun};
use super::{class, value};
use crate::ids::Oid;
use crate::record::{BadRecord, Record};
use crate::resolver::{Resolver, Unresolved};
use bytes::{BufMut, Bytes, BytesMut};

const FORMAT: u8 = 1;

/// A unique entry with this value and the objects that it refers to.
pub fn record(bytes: &[u8], refs: Vec<Oid>) -> Record {
    value::record(class::UNIQUE, bytes, refs)
}

/// The operation that inserts the record if the key is free.
pub fn insert(record: &Record) -> Result<Bytes, BadRecord> {
    let encoded = record.encode()?;
    let mut operation = BytesMut::with_capacity(1 + encoded.len());
    operation.put_u8(FORMAT);
    operation.put_slice(&encoded);
    Ok(operation.freeze())
}

/// Keeps unique entries unique.
#[derive(Clone, Copy, Debug)]
pub struct UniqueEntry;

impl Resolver for UniqueEntry {
    fn description(&self) -> &str {
        "an entry that may be made once: two inserts are a conflict even if they are equal"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        match three_way::asserted(base, theirs, ours)? {
            Begun::Settled(record) => Ok(record),
            Begun::BothDeleted => Ok(None),
            Begun::Both(sides) if sides.base.is_none() => Err(taken()),
            Begun::Both(_) => Err(Unresolved::because("another commit changed this unique entry")),
        }
    }

    fn apply(&self, class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        three_way::same_class(class, current)?;
        Fields::of(operation, FORMAT)?;
        let record = Record::decode(&operation.slice(1..))?;
        if record.class != class {
            return Err(Unresolved(format!(
                "the operation holds a record of class {:?}, not of {class:?}",
                record.class
            )));
        }
        match current {
            Some(_) => Err(taken()),
            None => Ok(Some(record)),
        }
    }

    fn applies(&self) -> bool {
        true
    }
}

fn taken() -> Unresolved {
    Unresolved::because("this key is taken: a unique entry may be made once; choose another key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_inserts_conflict_even_if_equal() {
        let a = record(b"a", vec![]);
        assert!(UniqueEntry.merge(None, Some(&a), Some(&a)).expect_err("conflict").0.contains("taken"));
        let (b, c) = (record(b"b", vec![]), record(b"c", vec![]));
        assert!(UniqueEntry.merge(Some(&a), Some(&b), Some(&b)).is_err(), "two equal changes");
        assert!(UniqueEntry.merge(Some(&a), Some(&b), Some(&c)).is_err());
        assert_eq!(UniqueEntry.merge(Some(&a), None, None), Ok(None), "two deletes");
        assert_eq!(UniqueEntry.merge(None, None, Some(&a)), Ok(Some(a.clone())), "made and deleted in between");
        assert!(UniqueEntry.merge(Some(&a), None, Some(&a)).is_err(), "set again, and freed meanwhile");
        assert!(UniqueEntry.merge(None, Some(&a), None).is_err(), "freed where it was free, and taken meanwhile");
    }

    #[test]
    fn an_insert_takes_a_free_key_only() {
        let a = record(b"a", vec![Oid(3)]);
        let insert = insert(&a).expect("encodes");
        assert_eq!(UniqueEntry.apply(class::UNIQUE, None, &insert), Ok(Some(a.clone())));
        assert!(UniqueEntry.apply(class::UNIQUE, Some(&a), &insert).is_err());
        assert!(UniqueEntry.apply("other", None, &insert).is_err());
        assert!(UniqueEntry.apply(class::UNIQUE, None, &Bytes::new()).is_err());
    }
}
