//! The storage: what the engine asks of whatever keeps its data, in four contracts, each with the one who uses it.
//!
//! ```text
//!   writer                Append   batches made durable, then published
//!   callers               Ahead    what a large transaction costs, before its turn
//!   callers, sequencer    Read     everything as of a tid; lists where more than one cell is asked for
//!   settle loop, keeper,  Upkeep   the index follows; pack, in which the engine is the gatekeeper; verify
//!   long works
//! ```
//! The engine knows no other door: how the log is cut into segments, which index there is and how a pack goes is the storage's.
//! There is one: the store with its own log (`log_store`).

mod log_store;

pub use crate::store::disk;
pub use crate::store::{
    BlobCounts, BlobHold, BlobReader, Blobs, Entry, INDEX_CACHE_BYTES, IndexKind, Kind, KnownKey, Left, Opening,
    Packed, Progress, Range, Recovered, Revision, Stats, StoreError, StoreSettings, Swept, Txn, TxnWrite, Unsealed,
    Upload, Uploader, Verified, Writes, blobs_of_record,
};
pub use log_store::{has_index, open};

use bytes::Bytes;
use roaring::RoaringTreemap;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Cell, Oid, Tid};

/// An open storage. Each part goes to whom it belongs.
pub struct Opened {
    /// The writer's.
    pub append: Box<dyn Append>,
    /// Of whoever brings a large transaction.
    pub ahead: Arc<dyn Ahead>,
    /// Everybody's.
    pub read: Arc<dyn Read>,
    /// The settle loop's and the long works'.
    pub upkeep: Arc<dyn Upkeep>,
    /// What is kept beside the records; everybody's.
    pub blobs: Arc<Blobs>,
    /// What was found.
    pub recovered: Recovered,
}

/// What can be done for a transaction before its turn; from any thread.
pub trait Ahead: Send + Sync {
    /// Sorts the writes of a large one, and brings them to the disk if that is worth it. Refuses what cannot be appended.
    fn large(&self, writes: Vec<TxnWrite>, of: Unsealed) -> Result<Writes, StoreError>;
}

/// How long a batch took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// Until it was written, in nanoseconds.
    pub write_ns: u64,
    /// Until it was durable, in nanoseconds.
    pub sync_ns: u64,
}

/// The end of the data: one user, batch after batch.
pub trait Append: Send {
    /// Makes a batch durable. On an error nothing of it is, unless the error is that nobody can tell.
    fn append(&mut self, txns: &[Txn]) -> Result<Times, StoreError>;
    /// Lets readers see the oldest batch that was appended and is not published.
    fn publish(&mut self);
    /// Whether these can be appended although something is not published: nothing new is begun behind that.
    fn fits_behind(&self, txns: &[Txn]) -> bool;
    /// What is appended from now on is apart from what was: what was may be rewritten.
    fn roll(&mut self) -> Result<(), StoreError>;
    /// The same, and a new life of the data begins, unless the newest one is empty. `packed_to`: history up to there was packed where what is appended next comes
    /// from; it takes force with that.
    fn begin_restored(&mut self, timeline: u64, packed_to: Tid) -> Result<(), StoreError>;
    /// What is published and not settled: its memory, and what of it counts against the limit.
    fn unsettled(&self) -> (u64, u64);
}

/// Writes the list of reads once: as the contract, and as what the store's reader does by the same names.
macro_rules! reads {
    ($($(#[$doc:meta])* fn $name:ident(&self $(, $arg:ident: $of:ty)* $(,)?) -> $answer:ty;)*) => {
        /// What can be read, from any thread. A snapshot older than what is packed is a fault, never a hole.
        pub trait Read: Send + Sync {
            $($(#[$doc])* fn $name(&self $(, $arg: $of)*) -> $answer;)*
        }

        impl Read for crate::store::Reader {
            $(fn $name(&self $(, $arg: $of)*) -> $answer {
                crate::store::Reader::$name(self $(, $arg)*)
            })*
        }
    };
}

reads! {
    /// The newest tid that can be read; whoever tells of it does so a moment later.
    fn published(&self) -> Tid;
    /// The oldest snapshot that can be read.
    fn packed_to(&self) -> Tid;
    /// Up to where history is said to be packed by a restore that has not come as far; else the same.
    fn packed_said(&self) -> Tid;
    /// Commit keys of transactions up to here may be missing, because a restore did not bring them.
    fn keys_unknown_to(&self) -> Tid;
    /// The identity of the data.
    fn store_id(&self) -> u64;
    /// The life that it is in.
    fn timeline(&self) -> u64;
    /// Whether a commit with exactly this tid is, or was, here.
    fn knows(&self, tid: Tid) -> Result<bool, StoreError>;
    /// Whether a tid of another life is of ours too.
    fn shares(&self, timeline: u64, tid: Tid) -> bool;
    /// The life that a tid is of.
    fn timeline_of(&self, tid: Tid) -> u64;
    /// The newest tid of another copy's life, up to one, that is the same here.
    fn shared_to(&self, timeline: u64, tid: Tid) -> Tid;
    /// Numbers for status pages.
    fn stats(&self) -> Stats;
    /// Of each cell the newest revision's tid, if it is newer than the base; in the order asked.
    fn newer_many(&self, asked: &[(Cell, Tid)]) -> Result<Vec<Option<Tid>>, StoreError>;
    /// Of each cell the newest revision there is, in the order asked, until they are so many bytes (at least one).
    fn heads(&self, cells: &[Cell], bytes_max: usize) -> Result<Vec<Option<Revision>>, StoreError>;
    /// Of each cell the revision that was the newest as of a base, for a merge: also below what is packed, as long as it is
    /// there; an error of its own where that cannot be told. In the order asked, until they are so many bytes (at least one).
    fn as_of_many(
        &self,
        asked: &[(Cell, Tid)],
        bytes_max: usize,
    ) -> Result<Vec<Result<Option<Revision>, StoreError>>, StoreError>;
    /// The revision that a snapshot sees.
    fn get(&self, cell: &Cell, at: Tid) -> Result<Option<Revision>, StoreError>;
    /// The same, pack or not, if memory has it; `None`: it would have to be read.
    fn peek(&self, cell: &Cell, at: Tid) -> Option<Option<Revision>>;
    /// The revisions of many cells, in their order, until they are so many bytes (at least one).
    fn get_many(&self, cells: &[Cell], at: Tid, bytes_max: usize) -> Result<Vec<Option<Revision>>, StoreError>;
    /// One page of a collection's entries, and where the next begins.
    fn scan(
        &self,
        range: &Range,
        at: Tid,
        limit: usize,
        bytes_max: usize,
    ) -> Result<(Vec<Entry>, Option<Bytes>), StoreError>;
    /// A cell of a key range with a revision newer than a tid.
    fn newest_in_range(
        &self,
        oid: Oid,
        from: &Bytes,
        to: &Bytes,
        newer_than: Tid,
    ) -> Result<Option<(Cell, Tid)>, StoreError>;
    /// The notes of transactions, in the order asked; none for one that there is not, or that pack has taken.
    fn notes(&self, tids: &[Tid]) -> Result<Vec<Option<Bytes>>, StoreError>;
    /// The revisions older than a tid, the newest first.
    fn history(&self, cell: &Cell, before: Tid, limit: usize) -> Result<Vec<Revision>, StoreError>;
    /// Whether these classes at schema versions have a place among those that may be, or which has none; with `keep` they have it
    /// from now on. What is appended without having asked gets a place in any case.
    fn number_kinds(&self, kinds: &mut dyn Iterator<Item = (&str, u32)>, keep: bool) -> Result<(), StoreError>;
    /// The exact numbers of objects by class and version.
    fn kinds(&self) -> Result<Vec<Kind>, StoreError>;
    /// Oids of a class below a version, ascending; empty: there are no more.
    fn objects(
        &self,
        class: Option<&str>,
        version_below: u32,
        after: Option<Oid>,
        limit: usize,
    ) -> Result<Vec<Oid>, StoreError>;
    /// The next transactions between two tids; empty: there is none.
    fn txns(&self, from: Tid, to: Tid, bytes_max: u64) -> Result<Vec<Txn>, StoreError>;
    /// The newest of the transactions from `from` up to `to`, the newest first, some at a time; empty: there is none.
    fn txns_back(&self, from: Tid, to: Tid) -> Result<Vec<Txn>, StoreError>;
    /// One transaction.
    fn txn(&self, tid: Tid) -> Result<Option<Txn>, StoreError>;
    /// What reading the transactions behind a tid costs, in bytes.
    fn log_bytes_since(&self, tid: Tid) -> Result<u64, StoreError>;
}

/// What keeps the data small and readable, beside the traffic.
pub trait Upkeep: Send + Sync {
    /// What waits to be settled.
    fn left(&self) -> Left;
    /// Settles the oldest, up to a number of transactions. On an error nothing is lost, and the call may be repeated.
    fn settle(&self, txns_max: usize) -> Result<Left, StoreError>;
    /// How long the data has been served in all, in milliseconds; kept with the next settle.
    fn set_lived(&self, lived_ms: u64);
    /// Settles everything and makes it durable, so that the next opening has nothing to do.
    fn close(&self) -> Result<(), StoreError>;
    /// Whether a pack has ended half-way.
    fn is_half_packed(&self) -> bool;
    /// Ends it. Not beside a pack or a verify.
    fn resume_pack(&self) -> Result<(), StoreError>;
    /// Takes history and unreachable objects away, or only says what would go; to which tid, and what.
    fn pack(&self, plan: PackPlan, gatekeeper: &mut dyn Gatekeeper) -> Result<(Tid, Packed), StoreError>;
    /// Removes uploads that are staged for too long. `may_look`: whether the index may be gone over now, if that is needed; no pack may
    /// run beside that.
    fn sweep_blobs(&self, now: Duration, may_look: &mut dyn FnMut() -> bool) -> Result<Swept, StoreError>;
    /// Reads everything and compares it. `step` is told a stage, how much of how much; its error ends the work.
    fn verify(&self, roots: &[Oid], step: &mut Step<'_>) -> Result<Verified, StoreError>;
}

/// Is told how far a work has come: a stage in words, done, of how many. May pause; an error ends the work.
pub type Step<'a> = dyn FnMut(&str, u64, u64) -> Result<(), StoreError> + 'a;

/// What a pack is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackPlan {
    /// History before this tid goes.
    pub to: Tid,
    /// What cannot be reached from these is garbage; empty: nothing is.
    pub roots: Vec<Oid>,
    /// Only say what would go.
    pub dry_run: bool,
    /// Commit keys from here on stay.
    pub keys_floor: Tid,
}

/// Who stands between a pack and the traffic.
pub trait Gatekeeper {
    /// Nothing may name these objects any more. Returns when everything that named one is published, with what was promised to be
    /// named still.
    fn condemn(&mut self, oids: RoaringTreemap) -> Result<Vec<Oid>, StoreError>;
    /// Has [`Append::roll`] called.
    fn roll(&mut self) -> Result<(), StoreError>;
    /// See [`Step`].
    fn step(&mut self, stage: &str, done: u64, all: u64) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests;
