//! Owns the extremes: the least or the greatest of all values that writers offered.
//!
//! For high-water marks ("newest message seen", "lowest price"): order does not matter, so that no offer ever conflicts.
//!
//! ```text
//!   data       1 byte format = 1 | i64 value
//!   operation  1 byte format = 1 | i64 the value offered
//!   merge      min(theirs, ours), max(theirs, ours)     commutes
//! ```
//!
//! A put that moves the value the wrong way (a minimum raised) is a reset, not an offer: against a concurrent change it
//! is a real conflict. References, if there are any, are merged like sets and do not follow the winning value.

use super::counter::{decode, encode};
use super::three_way::{self, Begun};
use super::{SCHEMA_VERSION, class};
use crate::record::{BadRecord, Record};
use crate::resolver::{Resolver, Unresolved};
use bytes::Bytes;

/// Merges minima or maxima.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extreme {
    /// The least value offered.
    Min,
    /// The greatest value offered.
    Max,
}

/// A minimum's record.
pub fn min_record(value: i64) -> Record {
    Record::new(class::MIN, SCHEMA_VERSION, encode(value))
}

/// A maximum's record.
pub fn max_record(value: i64) -> Record {
    Record::new(class::MAX, SCHEMA_VERSION, encode(value))
}

/// The value of either.
pub fn value(record: &Record) -> Result<i64, BadRecord> {
    decode(&record.data)
}

/// The operation that offers a value to either.
pub fn offer(value: i64) -> Bytes {
    encode(value)
}

impl Extreme {
    fn of(self, a: i64, b: i64) -> i64 {
        match self {
            Extreme::Min => a.min(b),
            Extreme::Max => a.max(b),
        }
    }
}

impl Resolver for Extreme {
    fn description(&self) -> &str {
        match self {
            Extreme::Min => "the least of all values offered",
            Extreme::Max => "the greatest of all values offered",
        }
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
        let (theirs, ours) = (value(sides.theirs)?, value(sides.ours)?);
        if let Some(base) = sides.base.map(value).transpose()?
            && (self.of(base, theirs) != theirs || self.of(base, ours) != ours)
        {
            return Err(Unresolved::because("one of two commits reset the value; offer a value instead"));
        }
        sides.record(encode(self.of(theirs, ours)))
    }

    fn apply(&self, class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        three_way::same_class(class, current)?;
        let offered = decode(operation)?;
        let to = current.map(value).transpose()?.map_or(offered, |value| self.of(value, offered));
        Ok(three_way::changed(class, current, encode(to)))
    }

    fn applies(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extreme_of_both_sides_counts() {
        let merge = |theirs, ours| {
            let merged = Extreme::Max.merge(Some(&max_record(5)), Some(&max_record(theirs)), Some(&max_record(ours)));
            merged.map(|record| value(&record.expect("exists")).expect("reads"))
        };
        assert_eq!(merge(7, 9), Ok(9));
        assert_eq!(merge(9, 7), Ok(9));
        assert!(merge(3, 9).is_err(), "theirs is a reset");
        assert!(merge(9, 3).is_err(), "ours is a reset");
        let least = Extreme::Min.merge(None, Some(&min_record(-4)), Some(&min_record(2))).expect("merges");
        assert_eq!(least, Some(min_record(-4)));
    }

    #[test]
    fn offers_in_any_order_give_the_extreme() {
        let mut rng = fastrand::Rng::with_seed(7);
        let offers: Vec<i64> = (0..200).map(|_| rng.i64(..)).collect();
        let apply = |extreme: Extreme, class| {
            offers.iter().fold(None, |current: Option<Record>, next| {
                extreme.apply(class, current.as_ref(), &offer(*next)).expect("applies")
            })
        };
        assert_eq!(apply(Extreme::Min, class::MIN), offers.iter().min().map(|least| min_record(*least)));
        assert_eq!(apply(Extreme::Max, class::MAX), offers.iter().max().map(|most| max_record(*most)));
    }
}
