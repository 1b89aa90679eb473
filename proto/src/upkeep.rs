//! Owns the words of upkeep: what a pack is to do, and how far a pack or a verification is.

use crate::ids::{Oid, Tid};
use serde::{Deserialize, Serialize};

/// What to pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PackOptions {
    /// Keep what is visible at this tid and later; `None`: now.
    pub to: Option<Tid>,
    /// Do not collect unreachable objects.
    pub keep_garbage: bool,
    /// Only count.
    pub dry_run: bool,
}

crate::setters! { PackOptions { to: impl Into<Option<Tid>>, keep_garbage: bool, dry_run: bool, } }

impl PackOptions {
    /// All history up to now, and what nothing refers to.
    pub fn new() -> PackOptions {
        PackOptions::default()
    }
}

/// How far a pack is; what it has come to, once it is done.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct PackProgress {
    /// What it is doing.
    pub stage: String,
    /// Units of that which are done.
    pub done_units: u64,
    /// All of them; 0: not known.
    pub total_units: u64,
    /// This is the last message.
    pub done: bool,
    /// History before this tid is gone. May be older than asked: see `held_back`.
    pub packed_to: Tid,
    /// Revisions removed.
    pub revisions_removed: u64,
    /// Objects removed because nothing refers to them.
    pub objects_removed: u64,
    /// The log's bytes before.
    pub bytes_before: u64,
    /// The log's bytes after.
    pub bytes_after: u64,
    /// Blobs removed because no revision names them any more; a dry run does not count them.
    pub blobs_removed: u64,
    /// Their bytes.
    pub blob_bytes_removed: u64,
    /// Why it went less far than was asked for.
    pub held_back: Option<String>,
}

/// How far a verification is; what it has found, once it is done.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct VerifyProgress {
    /// What it is doing.
    pub stage: String,
    /// Units of that which are done.
    pub done_units: u64,
    /// All of them; 0: not known.
    pub total_units: u64,
    /// This is the last message.
    pub done: bool,
    /// Transactions read.
    pub transactions: u64,
    /// Revisions read.
    pub revisions: u64,
    /// Objects read.
    pub objects: u64,
    /// Blobs read.
    pub blobs: u64,
    /// What is wrong, the first of it. Empty at the end: all is well.
    pub problems: Vec<String>,
    /// How many problems there are in all.
    pub problems_total: u64,
    /// References to objects that do not exist, the first of them. They are no problems: clients may write such, and may delete
    /// what others refer to.
    pub dangling: Vec<Reference>,
    /// How many of those there are in all.
    pub dangling_total: u64,
}

/// One object refers to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(not(feature = "whole"), non_exhaustive)]
pub struct Reference {
    /// Whose record it is in.
    pub from: Oid,
    /// What it names.
    pub to: Oid,
}
