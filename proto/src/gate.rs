//! Owns the gate: the oldest schema version of a class that may still be written.

use crate::ids::Tid;

/// A closed gate: objects of the class below the version are refused.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gate {
    /// The class.
    pub class: String,
    /// Lower schema versions are refused.
    pub min_version: u32,
    /// The evolve that closed it; told to who is refused.
    pub job: String,
    /// The commit that closed it.
    pub tid: Tid,
}
