//! Owns the last-writer value: whoever commits last is right, and nobody conflicts.
//!
//! For what is overwritten as a whole and never computed from what was there: "last login", a cached rendering, a status
//! line. Everything else loses updates this way; use a counter, a set or entries instead.
//!
//! ```text
//!   data       opaque to the resolver; `zeolite.Last` itself keeps a value (see `value`)
//!   operation  an encoded record of the cell's class: it replaces whatever is there
//!   merge      ours, also when it is a delete, or what was there before; does not commute
//! ```

use super::{class, three_way, value};
use crate::ids::Oid;
use crate::record::{BadRecord, Record};
use crate::resolver::{Resolver, Unresolved};
use bytes::Bytes;

/// A last-writer record.
pub fn record(bytes: &[u8], refs: Vec<Oid>) -> Record {
    value::record(class::LAST, bytes, refs)
}

/// The operation that replaces whatever is there by this record, unread.
pub fn put(record: &Record) -> Result<Bytes, BadRecord> {
    record.encode()
}

/// Lets the last commit win.
#[derive(Clone, Copy, Debug)]
pub struct LastWriter;

impl Resolver for LastWriter {
    fn description(&self) -> &str {
        "the last commit counts"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        match (theirs, ours) {
            // What is there is not what ours meant to replace.
            (Some(there), Some(our)) if there.class != our.class && theirs != base => Err(three_way::another_class()),
            _ => Ok(ours.cloned()),
        }
    }

    fn apply(&self, class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        three_way::same_class(class, current)?;
        let record = Record::decode(operation)?;
        if record.class != class {
            return Err(Unresolved(format!(
                "the operation holds a record of class {:?}, not of {class:?}",
                record.class
            )));
        }
        Ok(Some(record))
    }

    fn applies(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_counts_whatever_it_is() {
        let [base, theirs, ours] = [b"b", b"t", b"o"].map(|bytes| record(bytes, vec![Oid(u64::from(bytes[0]))]));
        let merge = |theirs, ours| LastWriter.merge(Some(&base), theirs, ours);
        assert_eq!(merge(Some(&theirs), Some(&ours)), Ok(Some(ours.clone())), "with the references of its own value");
        assert_eq!(merge(Some(&theirs), Some(&base)), Ok(Some(base.clone())), "set again to what it was");
        assert_eq!(merge(None, Some(&base)), Ok(Some(base.clone())));
        assert_eq!(merge(None, Some(&ours)), Ok(Some(ours.clone())), "written again after a delete");
        assert_eq!(merge(Some(&theirs), None), Ok(None), "a delete is a write like any other");
        let other = Record { class: "other".into(), ..theirs.clone() };
        assert!(merge(Some(&other), Some(&ours)).is_err(), "it became something else");
        assert!(merge(Some(&other), Some(&base)).is_err());
    }

    #[test]
    fn a_blind_put_replaces_whatever_is_there() {
        let (old, new) = (record(b"old", vec![]), record(b"new", vec![Oid(7)]));
        let put = put(&new).expect("encodes");
        assert_eq!(LastWriter.apply(class::LAST, Some(&old), &put), Ok(Some(new)));
        assert!(LastWriter.apply("other", Some(&old), &put).is_err());
        assert!(LastWriter.apply(class::LAST, None, &Bytes::from_static(b"\x09")).is_err());
    }
}
