//! Owns the counter: a number that many writers add to, so that none of them ever conflicts.
//!
//! A read-modify-write of a number loses updates or conflicts; the *difference* is what the writer meant. Two concurrent
//! changes are merged by adding both differences to the base; a missing counter counts as 0. The apply operation carries
//! only the difference and needs no read at all.
//!
//! ```text
//!   data       1 byte format = 1 | i64 value
//!   operation  1 byte format = 1 | i64 difference
//!   merge      theirs + (ours - base)          commutes
//! ```
//!
//! The value stays within i64: a sum beyond it is refused with a reason and changes nothing. A counter that was deleted
//! and made anew is not told apart from one that was set back.

use super::fields::Fields;
use super::three_way::{self, Begun};
use super::{SCHEMA_VERSION, class};
use crate::record::{BadRecord, Record};
use crate::resolver::{Resolver, Unresolved};
use bytes::Bytes;

const FORMAT: u8 = 1;

/// A counter's record.
pub fn record(value: i64) -> Record {
    Record::new(class::COUNTER, SCHEMA_VERSION, encode(value))
}

/// The value of a counter's record.
pub fn value(record: &Record) -> Result<i64, BadRecord> {
    decode(&record.data)
}

/// The operation that adds a difference.
pub fn add(difference: i64) -> Bytes {
    encode(difference)
}

/// One number after the format byte: counters and extremes, data and operations.
pub(super) fn encode(value: i64) -> Bytes {
    let mut bytes = [FORMAT; 9];
    bytes[1..].copy_from_slice(&value.to_le_bytes());
    Bytes::copy_from_slice(&bytes)
}

pub(super) fn decode(data: &[u8]) -> Result<i64, BadRecord> {
    let mut fields = Fields::of(data, FORMAT)?;
    let value = fields.i64()?;
    fields.end()?;
    Ok(value)
}

fn sum(value: i64, difference: i128) -> Result<i64, Unresolved> {
    i64::try_from(i128::from(value) + difference)
        .map_err(|_| Unresolved(format!("{value} + {difference} is beyond 64 bits; the counter stays as it is")))
}

/// Merges counters.
#[derive(Clone, Copy, Debug)]
pub struct Counter;

impl Resolver for Counter {
    fn description(&self) -> &str {
        "a number: concurrent additions are all counted"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        let sides = match three_way::begin(base, theirs, ours)? {
            Begun::Settled(record) => return Ok(record),
            Begun::BothDeleted => return Ok(None),
            Begun::Both(sides) => sides,
        };
        let from = sides.base.map_or(Ok(0), value)?;
        let difference = i128::from(value(sides.ours)?) - i128::from(from);
        sides.record(encode(sum(value(sides.theirs)?, difference)?))
    }

    fn apply(&self, class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        three_way::same_class(class, current)?;
        let from = current.map_or(Ok(0), value)?;
        let to = sum(from, i128::from(decode(operation)?))?;
        Ok(three_way::changed(class, current, encode(to)))
    }

    fn applies(&self) -> bool {
        true
    }

    fn inverse(&self, operation: &Bytes) -> Option<Bytes> {
        inverse(operation)
    }
}

/// The same amount the other way.
pub(super) fn inverse(operation: &Bytes) -> Option<Bytes> {
    decode(operation).ok()?.checked_neg().map(add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(base: Option<i64>, theirs: i64, ours: i64) -> Result<i64, Unresolved> {
        let (base, theirs, ours) = (base.map(record), record(theirs), record(ours));
        let merged = Counter.merge(base.as_ref(), Some(&theirs), Some(&ours))?.expect("not deleted");
        Ok(value(&merged)?)
    }

    #[test]
    fn both_differences_count() {
        assert_eq!(merged(Some(10), 13, 8), Ok(11));
        assert_eq!(merged(None, 3, 4), Ok(7));
        assert_eq!(merged(Some(5), 6, 6), Ok(7), "equal outcomes are two additions");
        assert_eq!(merged(Some(i64::MIN), i64::MAX, i64::MIN + 1).map_err(|_| ()), Err(()));
        assert_eq!(merged(Some(i64::MIN), -1, i64::MAX).map_err(|_| ()), Err(()));
        assert_eq!(merged(Some(i64::MAX), i64::MIN, i64::MAX - 1).map_err(|_| ()), Err(()));
        assert_eq!(merged(Some(-1), i64::MIN, i64::MAX), Ok(0), "the difference alone is beyond i64");
    }

    #[test]
    fn applied_additions_sum_exactly() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut current, mut expected) = (None, 0i64);
        for _ in 0..1000 {
            let difference = rng.i64(-1_000_000..1_000_000);
            expected += difference;
            current = Counter.apply(class::COUNTER, current.as_ref(), &add(difference)).expect("applies");
        }
        assert_eq!(value(&current.expect("exists")), Ok(expected));
    }

    #[test]
    fn an_addition_beyond_64_bits_is_refused() {
        let refused = Counter.apply(class::COUNTER, Some(&record(i64::MAX)), &add(1)).expect_err("refused");
        assert!(refused.0.contains("beyond 64 bits"), "{refused}");
        assert!(Counter.apply(class::COUNTER, Some(&record(i64::MIN)), &add(-1)).is_err());
        assert!(Counter.apply(class::COUNTER, None, &Bytes::from_static(b"\x01\x02")).is_err());
    }

    #[test]
    fn format_1_bytes_stay_as_they_are() {
        assert_eq!(record(-2).data.as_ref(), b"\x01\xfe\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(add(3).as_ref(), b"\x01\x03\0\0\0\0\0\0\0");
    }
}
