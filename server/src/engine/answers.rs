//! Owns what the engine answers beside records: how it calls back, and the outcomes that have no word in the protocol.

use zeolite_proto::{Fault, Merged, Receipt, StaleCell, Tid};

/// Called exactly once with the outcome, from any thread; must not block.
pub type Done<T> = Box<dyn FnOnce(Result<T, Fault>) + Send>;

/// How to prepare a draft.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Preparing {
    /// After it the draft is aborted; 0: the default, which is no limit for a durable one.
    pub time_limit_ms: u64,
    /// It outlives the server: its answer says that it is on the disk.
    pub durable: bool,
    /// Take and hold it even if some of its cells have moved on; these are to be amended.
    pub hold: bool,
}

/// What the holder of a prepared draft gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreparedReceipt {
    /// For amend, finish and abort.
    pub prepared: u64,
    /// What the resolvers made; a finish changes nothing of it.
    pub merged: Vec<Merged>,
    /// Cells that must be amended before it can be finished, in order.
    pub stale: Vec<StaleCell>,
}

/// Where a commit key stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was not committed so far.
    Unknown,
    /// It may have been committed: keys as old as this one are forgotten.
    Forgotten,
    /// Its draft is on its way.
    InFlight,
    /// Committed.
    Committed(Receipt),
}

/// What became of an attempt to close a gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closing {
    /// Closed by this commit.
    Closed(Tid),
    /// So many objects are below the version still.
    Old(u64),
}
