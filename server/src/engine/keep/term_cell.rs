//! Owns the cell in which the term is kept: of how many promotions the database knows, and which copy was promoted last.
//!
//! It is a cell of the log, so the copies learn it as they learn everything: in its place in the order. With the transaction that writes
//! it a new life of the store begins.

use crate::engine::keep::system;
use crate::storage::{Read, StoreError};
use prost::Message;
use zeolite_proto::{Cell, Record, Tid};

/// The class of its record.
const CLASS: &str = "zeolite.Term";

/// A promotion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Term {
    /// The how many-th it is.
    pub(crate) number: u64,
    /// The copy that was promoted; zeros: none was.
    pub(crate) by: [u8; 16],
}

#[derive(Clone, PartialEq, Message)]
struct StoredTerm {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "vec", tag = "2")]
    by: Vec<u8>,
    #[prost(uint64, tag = "3")]
    unix_ms: u64,
}

/// The cell that holds it.
pub(crate) fn cell() -> Cell {
    system::cell("term")
}

/// The record of a promotion: data = the message above.
pub(crate) fn record_of(term: Term, unix_ms: u64) -> Record {
    let stored = StoredTerm { number: term.number, by: term.by.to_vec(), unix_ms };
    Record::new(CLASS, 1, stored.encode_to_vec())
}

/// Reads it back.
pub(crate) fn read(record: &Record) -> Result<Term, String> {
    system::check_class(record, CLASS)?;
    let stored = StoredTerm::decode(record.data.clone()).map_err(|error| format!("the term is unreadable: {error}"))?;
    let by = stored.by.try_into().map_err(|_| "the term names no copy of 16 bytes".to_owned())?;
    Ok(Term { number: stored.number, by })
}

/// The newest promotion, as stored.
pub(crate) fn stored(reader: &dyn Read, at: Tid) -> Result<Term, StoreError> {
    let record = system::stored(reader, &cell(), at)?;
    record.map_or(Ok(Term::default()), |record| read(&record).map_err(StoreError::Index))
}
