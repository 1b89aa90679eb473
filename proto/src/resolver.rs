//! Owns the `Resolver` trait: how two concurrent writes of one cell become one.
//!
//! A resolver decides what two concurrent writes of one cell become. It is a pure function: bytes in, bytes out, no
//! clock, no I/O, no state, so that client and server, first run and replay, always agree.
//!
//! ```text
//!   merge(base, theirs, ours)     base ──> theirs (committed first)
//!                                     └──> ours   (wants to commit)     => one record, or a reason why not
//!   apply(current, operation)     whatever is there now, changed        => one record, or a reason why not
//! ```
//!
//! `apply` is the stronger form: the draft carries no value, so it needs no base and never conflicts by itself.

use crate::record::Record;
use bytes::Bytes;

/// Why a resolver refuses; ends up in the conflict's `reason`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unresolved(pub String);

impl Unresolved {
    /// How a refusal begins that does not decide: the application's own classes may know what to do.
    pub const LEFT: &str = "left to the client";

    /// A refusal for this reason.
    pub fn because(reason: impl Into<String>) -> Unresolved {
        Unresolved(reason.into())
    }

    /// This is not decided here.
    pub fn left(what: impl std::fmt::Display) -> Unresolved {
        Unresolved(format!("{}: {what}", Unresolved::LEFT))
    }
}

/// Merges concurrent writes of one cell. `None` stands for "does not exist" on each of the three sides.
#[diagnostic::on_unimplemented(
    message = "`{Self}` merges nothing",
    note = "implement `Resolver` for it; the built-in ones are in `Resolvers::built_in()` already"
)]
pub trait Resolver: Send + Sync + 'static {
    /// One line for people.
    fn description(&self) -> &str;

    /// What both writes together mean. `Ok(None)`: the cell is deleted.
    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved>;

    /// The record after the operation; `class` is the draft's, for a cell that does not exist yet.
    fn apply(&self, class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        let _ = (current, operation);
        Err(Unresolved(format!("class {class:?} has no apply operations; put a record instead")))
    }

    /// Whether `apply` does anything.
    fn applies(&self) -> bool {
        false
    }

    /// The operation that takes this one back, whatever came between; `None`: there is none, a merge may do it.
    fn inverse(&self, operation: &Bytes) -> Option<Bytes> {
        let _ = operation;
        None
    }

    /// True if its records make up a structure together: what this resolver refuses is a conflict also on top of what yields, since
    /// one record gone over would not fit the others.
    fn is_structural(&self) -> bool {
        false
    }

    /// True if records of so many bytes together are too slow to merge where commits are put in order; that is then done in
    /// parallel before.
    fn expensive(&self, bytes: usize) -> bool {
        let _ = bytes;
        false
    }
}
