//! Owns the bounded counter: a number that many writers add to, and that never leaves its bounds.
//!
//! For stock, seats and budgets: ten writers may each take one of eleven without conflict, the twelfth unit is refused.
//! Going outside is a *real* conflict with the reason in words, so that the application decides again on new numbers.
//!
//! ```text
//!   data       1 byte format = 1 | i64 value | i64 low | i64 high     low <= value <= high
//!   operation  1 byte format = 1 | i64 difference
//!   merge      theirs + (ours - base), within the merged bounds       commutes
//! ```
//!
//! A bound that one side moved is moved in the result; moved by both sides to different places is a conflict, and so are two
//! concurrent creations: nothing says what they share. An operation on a missing cell is refused, as it has no bounds.

use super::fields::Fields;
use super::three_way::{self, Begun};
use super::{SCHEMA_VERSION, class};
use crate::record::{BadRecord, Record};
use crate::resolver::{Resolver, Unresolved};
use bytes::{BufMut, Bytes, BytesMut};

const FORMAT: u8 = 1;

/// What a bounded counter's record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounded {
    /// The number.
    pub value: i64,
    /// The least that it may be.
    pub low: i64,
    /// The greatest that it may be.
    pub high: i64,
}

impl Bounded {
    fn check(self) -> Result<Bounded, BadRecord> {
        match self.low <= self.value && self.value <= self.high {
            true => Ok(self),
            false => Err(BadRecord("value outside its bounds")),
        }
    }

    fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(25);
        bytes.put_u8(FORMAT);
        [self.value, self.low, self.high].iter().for_each(|number| bytes.put_i64_le(*number));
        bytes.freeze()
    }

    fn plus(self, difference: i128) -> Result<Bounded, Unresolved> {
        let to = i128::from(self.value) + difference;
        match i64::try_from(to) {
            Ok(value) if self.low <= value && value <= self.high => Ok(Bounded { value, ..self }),
            _ => Err(Unresolved(format!(
                "{} + {difference} is outside {}..={}; decide again on the newest value",
                self.value, self.low, self.high
            ))),
        }
    }
}

/// A bounded counter's record; refused when the value is outside the bounds.
pub fn record(bounded: Bounded) -> Result<Record, BadRecord> {
    Ok(Record::new(class::BOUNDED, SCHEMA_VERSION, bounded.check()?.encode()))
}

/// What a bounded counter's record says.
pub fn read(record: &Record) -> Result<Bounded, BadRecord> {
    let mut fields = Fields::of(&record.data, FORMAT)?;
    let bounded = Bounded { value: fields.i64()?, low: fields.i64()?, high: fields.i64()? };
    fields.end()?;
    bounded.check()
}

/// The operation that adds a difference.
pub fn add(difference: i64) -> Bytes {
    super::counter::add(difference)
}

/// Merges bounded counters.
#[derive(Clone, Copy, Debug)]
pub struct BoundedCounter;

impl Resolver for BoundedCounter {
    fn description(&self) -> &str {
        "a number within bounds: concurrent additions are all counted, or refused at the bound"
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
        let Some(base) = sides.base else {
            return Err(Unresolved::because("two commits made this bounded counter at once; read it and add to it"));
        };
        let (base, theirs, ours) = (read(base)?, read(sides.theirs)?, read(sides.ours)?);
        let bound = |base, theirs, ours| {
            three_way::pick(Some(base), theirs, ours)
                .ok_or_else(|| Unresolved::because("two commits moved the same bound to different places"))
        };
        let low = bound(base.low, theirs.low, ours.low)?;
        let high = bound(base.high, theirs.high, ours.high)?;
        let difference = i128::from(ours.value) - i128::from(base.value);
        sides.record(Bounded { value: theirs.value, low, high }.plus(difference)?.encode())
    }

    fn apply(&self, class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        three_way::same_class(class, current)?;
        let Some(record) = current else {
            return Err(Unresolved::because("this bounded counter does not exist; put a record with bounds first"));
        };
        let to = read(record)?.plus(i128::from(super::counter::decode(operation)?))?;
        Ok(three_way::changed(class, current, to.encode()))
    }

    fn applies(&self) -> bool {
        true
    }

    fn inverse(&self, operation: &Bytes) -> Option<Bytes> {
        super::counter::inverse(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(value: i64) -> Record {
        record(Bounded { value, low: 0, high: 100 }).expect("within bounds")
    }

    #[test]
    fn taking_within_the_bounds_merges_and_beyond_them_conflicts() {
        let merge = |theirs, ours| BoundedCounter.merge(Some(&stock(5)), Some(&stock(theirs)), Some(&stock(ours)));
        assert_eq!(merge(3, 2).map(|r| read(&r.expect("exists")).expect("reads").value), Ok(0));
        assert!(merge(3, 1).expect_err("below").0.contains("3 + -4 is outside 0..=100"));
        assert!(merge(90, 100).is_err());
    }

    #[test]
    fn applied_takes_stop_at_the_bound() {
        let mut current = Some(stock(11));
        let taken = (0..20).filter(|_| {
            let next = BoundedCounter.apply(class::BOUNDED, current.as_ref(), &add(-1));
            next.map(|next| current = next).is_ok()
        });
        assert_eq!(taken.count(), 11);
        assert_eq!(current, Some(stock(0)));
        assert!(BoundedCounter.apply(class::BOUNDED, None, &add(1)).is_err(), "no bounds yet");
        assert!(BoundedCounter.apply(class::BOUNDED, current.as_ref(), &add(i64::MIN)).is_err());
    }

    #[test]
    fn a_bound_moved_by_one_side_is_moved() {
        let wider = record(Bounded { value: 5, low: 0, high: 200 }).expect("within bounds");
        let merged = BoundedCounter.merge(Some(&stock(5)), Some(&wider), Some(&stock(100))).expect("merges");
        assert_eq!(read(&merged.expect("exists")), Ok(Bounded { value: 100, low: 0, high: 200 }));
        let other = record(Bounded { value: 5, low: 0, high: 300 }).expect("within bounds");
        assert!(BoundedCounter.merge(Some(&stock(5)), Some(&wider), Some(&other)).is_err());
        assert!(BoundedCounter.merge(None, Some(&stock(5)), Some(&stock(6))).is_err(), "two creations");
    }

    #[test]
    fn a_value_outside_its_bounds_is_no_record() {
        assert!(record(Bounded { value: 1, low: 2, high: 3 }).is_err());
        let bad = Record { data: Bounded { value: 1, low: 2, high: 3 }.encode(), ..stock(1) };
        assert!(read(&bad).is_err());
    }
}
