//! Owns the cell in which the term is kept: the newest promotion that the database knows, and which copy it was of.
//!
//! It is a cell of the log, so the copies learn it as they learn everything: in its place in the order. With the transaction that writes
//! it a new life of the store begins.

use crate::engine::keep::system;
use crate::storage::{Read, StoreError};
use prost::Message;
use zeolite_proto::{Cell, Fault, Record, Tid};

/// The class of its record.
const CLASS: &str = "zeolite.Term";

/// A promotion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Term {
    /// Greater than all that its copy had met; see [`Term::after`].
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

/// The terms of one promotion and the next are so far apart.
const ROUND: u64 = 1_000_000;

/// So many promotions at most are missed.
const ROUNDS_AHEAD_MAX: u64 = 100_000;

impl Term {
    /// The number of the next one, begun by a copy that has met this one. Of two copies that are promoted at the same time each has its own, so that
    /// the smaller is fenced when they meet: a round for each promotion, and within it a place that a copy's id says.
    pub(crate) fn after(met: u64, id: [u8; 16]) -> u64 {
        let place = (u128::from_be_bytes(id) % u128::from(ROUND)) as u64;
        (met / ROUND).saturating_add(1).saturating_mul(ROUND).saturating_add(place)
    }

    /// Refuses a number that promotions do not come to: behind it there might be none for the next one.
    pub(crate) fn check(number: u64, met: u64) -> Result<(), Fault> {
        if number <= met.saturating_add(ROUNDS_AHEAD_MAX * ROUND) {
            return Ok(());
        }
        Err(Fault::invalid(format!(
            "there is no term {number}: the newest that is known here is {met}; nothing was changed"
        )))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_promotions_at_once_one_is_the_newer() {
        let (one, other) = (Term::after(0, [1; 16]), Term::after(0, [2; 16]));
        assert!(one != other && one.abs_diff(other) < ROUND, "{one} {other}");
        for met in [one, other, one + 1, one.max(other)] {
            assert!(Term::after(met, [3; 16]) > one.max(other), "the next one is after both: {met}");
        }
        assert!(Term::check(one, 0).is_ok() && Term::check(one.max(other), one).is_ok() && Term::check(3, one).is_ok());
        assert!(Term::check(u64::MAX, one).is_err_and(|fault| fault.message.contains("nothing was changed")));
        assert!(Term::after(Term::after(5, [255; 16]), [0; 16]) > Term::after(5, [255; 16]));
    }
}
