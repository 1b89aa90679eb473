//! Owns the gate: the oldest schema version of a class that may still be written.

use crate::ids::Tid;
use serde::{Deserialize, Serialize};

/// A closed gate: objects of the class below the version are refused.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
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

/// What became of an attempt to close a gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseAttempt {
    /// Closed by this commit: nothing is below the version, and nothing will be.
    Closed(Tid),
    /// Still open: so many objects are below the version.
    Left(u64),
}
