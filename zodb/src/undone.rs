//! Owns the merge of `zeolite.zodb.Undone`: the entry beside an object that says of which older revision its record is a copy.
//!
//! Where two commits wrote it the object has been merged, so its record is a copy of none: the entry goes.

use zeolite_proto::Record;
use zeolite_proto::resolver::{Resolver, Unresolved};

/// The class.
pub const CLASS: &str = "zeolite.zodb.Undone";

/// Takes the entry away.
#[derive(Clone, Copy, Debug)]
pub struct Undone;

impl Resolver for Undone {
    fn description(&self) -> &str {
        "of which older revision an object of ZODB is a copy: of none, once it is merged"
    }

    fn merge(&self, _: Option<&Record>, _: Option<&Record>, _: Option<&Record>) -> Result<Option<Record>, Unresolved> {
        Ok(None)
    }
}
