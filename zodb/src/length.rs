//! Owns the merge of `BTrees.Length.Length`: a number that is counted up and down by everybody.
//!
//! ```text
//!   state   an integer           merge   theirs + ours - old
//! ```

use crate::btrees::state::Parsed;
use crate::btrees::{record, three};
use crate::plain::{Plain, left};
use crate::write;
use zeolite_proto::Record;
use zeolite_proto::resolver::{Resolver, Unresolved};

/// The class.
pub const CLASS: &str = "BTrees.Length.Length";

/// Merges lengths.
#[derive(Clone, Copy, Debug)]
pub struct Length;

impl Resolver for Length {
    fn description(&self) -> &str {
        "a length of ZODB's BTrees: concurrent changes are all counted"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        let sides = three(base, theirs, ours)?;
        let [base, theirs, ours] = [Parsed::of(sides[0])?, Parsed::of(sides[1])?, Parsed::of(sides[2])?];
        let class = ours.class_pickle();
        let number = |side: Parsed<'_>| match side.into_top() {
            Plain::Int(number) => Ok(number),
            other => Err(left(format!("{other} in the place of a length"))),
        };
        let [old, first, second] = [number(base)?, number(theirs)?, number(ours)?];
        let sum = first.checked_add(second).and_then(|sum| sum.checked_sub(old));
        let sum = sum.ok_or_else(|| left("a length of more than 128 bits"))?;
        let mut data = class.to_vec();
        write::pickle(&Plain::Int(sum), &mut data);
        record(sides, class, data).map(Some)
    }
}
