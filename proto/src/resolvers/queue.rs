//! Owns the queue item: an entry of a queue that exactly one consumer takes.
//!
//! ```text
//!   producers   put items under stamped keys (tid, position): keys never collide and follow the commit order
//!   consumers   read the first items and delete those that they take, in the transaction that does the work
//! ```
//!
//! Two consumers that took the same item both *deleted* its cell. Equal outcomes or not, that is a real conflict: merged, the
//! work would be done twice. So this resolver refuses two deletes, where an ordinary entry merges them.
//!
//! ```text
//!   data       a value (see `value`)
//!   operation  1 byte format = 1: takes the item, refused when it is gone
//!   merge      never (but where theirs changed back what it changed)
//! ```

use super::fields::Fields;
use super::three_way::{self, Begun};
use super::{class, value};
use crate::ids::Oid;
use crate::record::Record;
use crate::resolver::{Resolver, Unresolved};
use bytes::Bytes;

const FORMAT: u8 = 1;

/// A queue item with this value and the objects that it refers to.
pub fn record(bytes: &[u8], refs: Vec<Oid>) -> Record {
    value::record(class::QUEUE_ITEM, bytes, refs)
}

/// The operation that takes an item, refused when another has taken it.
pub fn take() -> Bytes {
    Bytes::from_static(&[FORMAT])
}

/// Lets an item be taken once.
#[derive(Clone, Copy, Debug)]
pub struct QueueItem;

impl Resolver for QueueItem {
    fn description(&self) -> &str {
        "an item of a queue: taken (deleted) by exactly one"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        match three_way::asserted(base, theirs, ours)? {
            Begun::Settled(record) => Ok(record),
            Begun::BothDeleted => Err(gone()),
            Begun::Both(_) => Err(Unresolved::because("another commit changed this queue item")),
        }
    }

    fn apply(&self, class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        three_way::same_class(class, current)?;
        Fields::of(operation, FORMAT)?.end()?;
        match current {
            Some(_) => Ok(None),
            None => Err(gone()),
        }
    }

    fn applies(&self) -> bool {
        true
    }
}

fn gone() -> Unresolved {
    Unresolved::because("another commit took this queue item; take the next one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_taken_once() {
        let item = record(b"job", vec![Oid(9)]);
        assert!(QueueItem.merge(Some(&item), None, None).expect_err("conflict").0.contains("took this queue item"));
        assert_eq!(QueueItem.apply(class::QUEUE_ITEM, Some(&item), &take()), Ok(None));
        assert!(QueueItem.apply(class::QUEUE_ITEM, None, &take()).is_err());
        assert!(QueueItem.apply(class::QUEUE_ITEM, Some(&item), &Bytes::from_static(b"\x01\x01")).is_err());
        let changed = record(b"job, second try", vec![Oid(9)]);
        assert!(QueueItem.merge(Some(&item), None, Some(&changed)).is_err());
        assert!(QueueItem.merge(Some(&item), Some(&changed), None).is_err());
    }
}
