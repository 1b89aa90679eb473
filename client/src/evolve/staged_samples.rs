//! Owns what the tests of chunks write.

use crate::tx::Staged;
use bytes::Bytes;
use zeolite_proto::{Cell, Oid};

pub(crate) fn cell(oid: u64) -> Cell {
    Cell::object(Oid(oid))
}

pub(crate) fn put(value: &'static str) -> Staged {
    Staged::Put(Bytes::from_static(value.as_bytes()))
}

pub(crate) fn add(operation: &'static str) -> Staged {
    Staged::Apply { class: "Counter".into(), operations: vec![Bytes::from_static(operation.as_bytes())] }
}
