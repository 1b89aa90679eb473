//! Owns a transaction's own writes: at most one change per cell, in the order of cells, so that a scan can be merged
//! with them. Pure.

use super::kept::Kept;
use crate::errors::{Error, Result};
use crate::revision::Range;
use bytes::Bytes;
use std::collections::BTreeMap;
use zeolite_proto::{Cell, Fault, FaultKind, Note, Oid, Record, Registry};

/// One cell's change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Staged {
    /// This encoded record.
    Put(Bytes),
    /// These operations, in order, on whatever is there.
    Apply { class: String, operations: Vec<Bytes> },
    /// Gone.
    Delete,
}

/// All changes of a transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    cells: BTreeMap<Cell, Staged>,
    /// Entries whose keys the server completes.
    stamped: Vec<(Cell, Bytes)>,
    /// Objects with indexes.
    pub(crate) kept: Kept,
    /// For the log.
    pub(crate) note: Note,
    /// Committed or given up: whoever still holds a half of the transaction is told.
    over: bool,
}

impl Own {
    pub(crate) fn get(&self, cell: &Cell) -> Option<&Staged> {
        self.cells.get(cell)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.over {
            return Err(Error::invalid("this transaction is over; begin a new one"));
        }
        Ok(())
    }

    fn stage(&mut self, cell: Cell, staged: Staged) -> Result<()> {
        self.check_open()?;
        self.cells.insert(cell, staged);
        Ok(())
    }

    pub(crate) fn put(&mut self, cell: Cell, record: Bytes) -> Result<()> {
        self.stage(cell, Staged::Put(record))
    }

    pub(crate) fn delete(&mut self, cell: Cell) -> Result<()> {
        self.stage(cell, Staged::Delete)
    }

    pub(crate) fn put_stamped(&mut self, cell: Cell, record: Bytes) -> Result<()> {
        self.check_open()?;
        self.stamped.push((cell, record));
        Ok(())
    }

    /// Stages an operation; on a cell whose value this transaction has set, it is applied at once.
    pub(crate) fn apply(&mut self, cell: Cell, class: &str, operation: Bytes, resolvers: &Registry) -> Result<()> {
        self.check_open()?;
        match self.cells.get_mut(&cell) {
            None => {
                let staged = Staged::Apply { class: class.to_owned(), operations: vec![operation] };
                self.cells.insert(cell, staged);
            }
            Some(Staged::Apply { class: first, operations }) => {
                if first != class {
                    let message = format!("cell {cell} has an operation of class {first:?}, and now one of {class:?}");
                    return Err(Error::invalid(message));
                }
                operations.push(operation);
            }
            Some(staged) => {
                let current = match staged {
                    Staged::Put(record) => Some(record.clone()),
                    _ => None,
                };
                let after = fold(&cell, class, current, &[operation], resolvers)?;
                *staged = after.map_or(Staged::Delete, Staged::Put);
            }
        }
        Ok(())
    }

    /// As it was at a moment before; the note stays.
    pub(crate) fn back_to(&mut self, then: Own) -> Result<()> {
        self.check_open()?;
        let kept = self.kept_of(then.kept);
        *self =
            Own { note: std::mem::take(&mut self.note), kept, cells: then.cells, stamped: then.stamped, over: false };
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.stamped.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len() + self.stamped.len()
    }

    /// Everything, for the commit; nothing can be written after it.
    pub(crate) fn close(&mut self) -> Own {
        std::mem::replace(self, Own { over: true, ..Own::default() })
    }

    /// The changes in the order of cells.
    pub(crate) fn into_parts(self) -> (BTreeMap<Cell, Staged>, Vec<(Cell, Bytes)>, Note) {
        (self.cells, self.stamped, self.note)
    }

    /// Changes of entries of a collection within the bounds of a range, in key order.
    pub(crate) fn entries(&self, oid: Oid, range: &Range) -> Vec<(&Cell, &Staged)> {
        if self.cells.is_empty() || range.is_nothing() {
            return Vec::new();
        }
        let first = Cell { oid, key: range.from.clone() };
        let inside = |cell: &Cell| cell.oid == oid && range.to.as_ref().is_none_or(|to| cell.key < *to);
        let cells = self.cells.range(first..).take_while(|(cell, _)| inside(cell));
        cells.filter(|(cell, _)| !cell.is_object()).collect()
    }
}

/// What the operations make of a record.
pub(crate) fn fold(
    cell: &Cell,
    class: &str,
    current: Option<Bytes>,
    operations: &[Bytes],
    resolvers: &Registry,
) -> Result<Option<Bytes>> {
    let resolver = resolvers.get(class).ok_or_else(|| {
        let what = "its operations can be read, or applied twice in a transaction, only with one in Options::resolvers";
        Error::Fault(Fault::new(FaultKind::Unsupported, format!("class {class:?} has no resolver here; {what}")))
    })?;
    let bad = |bad| Error::invalid(format!("cell {cell}: {bad}"));
    let mut record = current.as_ref().map(Record::decode).transpose().map_err(bad)?;
    for operation in operations {
        record = resolver.apply(class, record.as_ref(), operation).map_err(|reason| {
            Error::invalid(format!("cell {cell} of class {class:?}: {reason}; change the operation"))
        })?;
    }
    record.map(|record| record.encode()).transpose().map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_range_come_in_order_and_without_the_object_itself() {
        let mut own = Own::default();
        for key in ["", "b", "a", "c"] {
            own.put(Cell::entry(Oid(5), key), Bytes::from_static(b"x")).expect("open");
        }
        own.put(Cell::entry(Oid(4), "b"), Bytes::new()).expect("open");
        own.delete(Cell::entry(Oid(6), "b")).expect("open");
        let keys = |from: &'static str, to: Option<&'static str>| -> Vec<Bytes> {
            let range = Range::between(from, to.map(Bytes::from));
            own.entries(Oid(5), &range).into_iter().map(|(cell, _)| cell.key.clone()).collect()
        };
        assert_eq!(keys("", None), ["a", "b", "c"]);
        assert_eq!(keys("b", None), ["b", "c"]);
        assert_eq!(keys("", Some("b")), ["a"]);
        assert_eq!(keys("b", Some("b")), [""; 0]);
        assert_eq!(keys("c", Some("a")), [""; 0]);
        assert_eq!(keys("", Some("")), [""; 0]);
    }

    #[test]
    fn what_is_over_takes_no_more_writes() {
        let mut own = Own::default();
        own.put(Cell::object(Oid(1)), Bytes::new()).expect("open");
        assert_eq!(own.close().len(), 1);
        assert!(own.put(Cell::object(Oid(1)), Bytes::new()).is_err());
        assert!(own.delete(Cell::object(Oid(1))).is_err() && own.is_empty());
    }
}
