//! Owns the judgement of histories: what clients did and saw, against what Zeolite promises.
//!
//! A concurrency bug seldom crashes; it shows a reader something that no promised order explains. So a test lets clients
//! run freely, *records* what each of them read, wrote and was told, and judges the record afterwards, with no access to
//! the database. Lists that are only appended to make this strong: the content of a list names every write before it, in
//! order, and each item names its writer.
//!
//! ```text
//!   test ──> Recorder ── a: begin, at(snapshot), read, append, committed(tid)   ──> History
//!                     └─ b: begin, at(snapshot), add, unknown()
//!
//!   History ──> snapshot::check   snapshot isolation: every read is the state at its snapshot, nothing lost, nothing torn
//!           ──> serial::check     serializability: no cycle among "wrote before", "read from", "read before"
//!           ──> serial::check_commit_order   the stronger form: as if one after another in the order of tids
//!           ──> counter::check    sums: what was acknowledged, and at most what was left unknown
//!           ──> sets::check       members that are put in and taken out: of each the last commit that a snapshot covers
//!           ──> outside::check    a second opinion, by a checker that is not ours and knows no tids
//! ```
//!
//! Each returns a [`Summary`] (assert on it that the run did enough to mean something) or the [`Violations`] by name.
//!
//! ```
//! use zeolite_proto::Tid;
//! use zeolite_tests::checker::{Recorder, Rules, snapshot};
//!
//! let recorder = Recorder::new();
//! let a = recorder.client("a");
//! let mut txn = a.begin();          // before the database is asked for a snapshot
//! txn.at(Tid(4));                   // the snapshot that it gave
//! txn.read(1, &[]);
//! txn.append(1, 100);
//! txn.committed(Tid(5));            // after the receipt is there
//! let mut last = a.begin();
//! last.at(Tid(5));
//! last.read(1, &[100]);
//! last.read_only();
//! let summary = snapshot::check(&recorder.history(), &Rules::default()).expect("snapshot isolation");
//! assert_eq!(summary.committed, 1);
//! ```
//!
//! What is not done: the serializability graph knows lists only (a sum or a set does not say who came first); a list that nobody
//! reads proves nothing, so let a last transaction read everything. Judging costs the sum of the lengths of all reads: let a
//! long run go over to new lists after some hundred items.

pub mod counter;
mod graph;
pub mod history;
#[cfg(test)]
mod named;
pub mod outside;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod seeded;
pub mod serial;
pub mod sets;
pub mod snapshot;
mod versions;

pub use history::{ClientLog, History, Op, OpenTxn, Outcome, Recorder, Txn};

use std::fmt;

/// What the database under test promises beyond snapshot isolation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// Lists are written by a merging resolver: concurrent appends to one list all succeed.
    pub lists_merge: bool,
    /// Counters are written by read and put without a resolver: concurrent adds conflict.
    pub counters_conflict: bool,
    /// A snapshot covers every commit acknowledged before it was asked for, to whichever client. (That it covers the same
    /// client's commits is always checked.)
    pub real_time: bool,
}

/// The named ways to be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Anomaly {
    /// The record itself makes no sense (an item appended twice, a tid given twice).
    Malformed,
    /// A transaction did not see its own writes.
    OwnWrites,
    /// A read shows an item that nobody wrote.
    Phantom,
    /// A read shows an item of an aborted transaction (G1a).
    AbortedRead,
    /// A read shows a part of what a transaction wrote to one list (G1b).
    IntermediateRead,
    /// An item is there twice: a commit was applied twice.
    AppliedTwice,
    /// Two reads of one list contradict each other about its order.
    IncompatibleOrder,
    /// The order of items is not that of their commits.
    OrderAgainstTids,
    /// A read misses a commit that its snapshot covers.
    StaleRead,
    /// A read shows a commit that its snapshot does not cover.
    FutureRead,
    /// One transaction saw another's write in one place and missed it in another.
    FracturedRead,
    /// Two commits changed the same thing from the same base.
    LostUpdate,
    /// A client's snapshot is older than what it knew already.
    SessionOrder,
    /// A snapshot does not cover a commit acknowledged before it was asked for.
    RealTime,
    /// A counter shows a sum that the adds do not explain.
    WrongSum,
    /// Writes overtake each other in a circle (G0).
    WriteCycle,
    /// Information flows in a circle (G1c).
    InformationCycle,
    /// A circle with one read of an old state (G-single).
    ReadSkew,
    /// A circle with several reads of old states (G2): write skew.
    WriteSkew,
    /// A circle only because a transaction must come after what was over before it began.
    RealTimeCycle,
    /// What a transaction read was no longer so when it was committed.
    OutdatedAtCommit,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which way to be wrong.
    pub anomaly: Anomaly,
    /// Who, where, what.
    pub text: String,
}

impl Violation {
    pub(crate) fn new(anomaly: Anomaly, text: impl Into<String>) -> Violation {
        Violation { anomaly, text: text.into() }
    }
}

/// All findings; never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Violations(pub Vec<Violation>);

impl Violations {
    /// Whether there is a finding of this name.
    pub fn has(&self, anomaly: Anomaly) -> bool {
        self.0.iter().any(|violation| violation.anomaly == anomaly)
    }
}

const SHOWN_MAX: usize = 12;

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} violations", self.0.len())?;
        for violation in self.0.iter().take(SHOWN_MAX) {
            writeln!(f, "  {:?}: {}", violation.anomaly, violation.text)?;
        }
        if self.0.len() > SHOWN_MAX { writeln!(f, "  ... and {} more", self.0.len() - SHOWN_MAX) } else { Ok(()) }
    }
}

// `expect` prints Debug: let it be readable.
impl fmt::Debug for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Violations {}

/// How much a clean history says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Transactions that wrote and were acknowledged.
    pub committed: usize,
    /// Transactions that were refused or given up.
    pub aborted: usize,
    /// Transactions whose outcome the client never learnt.
    pub unknown: usize,
    /// Reads of lists and counters that were checked.
    pub reads: usize,
    /// Acknowledged appends that at least one other transaction has seen.
    pub appends_seen: usize,
    /// Edges of the dependency graph (serializability only).
    pub edges: usize,
}

fn verdict(summary: Summary, violations: Vec<Violation>) -> Result<Summary, Violations> {
    if violations.is_empty() { Ok(summary) } else { Err(Violations(violations)) }
}
