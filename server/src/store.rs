//! The store: an append-only log that *is* the database, and an index that can always be rebuilt from it.
//!
//! ```text
//!             Appender (the writer thread's)          Reader (everybody's, shared)
//!   txns ──> frame ──> one write, one fdatasync        cell, tid ─┬─> overlay   revisions not yet in the index
//!                └──> publish: overlay ───────────────────────────┤
//!            Settler (a background thread's)                       ├─> index     redb or sled
//!              overlay ──> index, checkpoints                      └─> cache / one positioned read of the log
//! ```
//!
//! The store has no threads, no channels and no async: its parts are called by the engine's loops, or by a test.
//! Rules: nothing is visible before its batch is durable; after a failed sync nothing is appended any more; deleting the
//! index loses nothing.

mod blobs;
mod cache;
pub mod disk;
mod fill;
mod frame;
mod index;
mod kinds;
mod log;
mod open;
mod overlay;
mod pack;
mod reader;
mod recent;
mod recover;
mod settings;
mod settle;
mod state;
mod steps;
mod timelines;
mod verify;
mod writes;

pub use blobs::{
    BlobCounts, BlobHold, BlobReader, Blobs, Swept, Upload, Uploader, of_record as blobs_of_record, sweep_kept,
    sweep_staged,
};
pub use log::ahead::Ahead;
pub use log::ahead_file::Unsealed;
pub use log::appender::{Appended, Appender};
pub use open::{Opened, Opening, Recovered, Store};
pub use pack::{Packed, Packer, Stage, Stepper, resume_pack};
pub use reader::{Reader, Stats};
pub use settings::{INDEX_CACHE_BYTES, IndexKind, StoreSettings};
pub use settle::{Left, Settler};
pub use verify::{Verified, VerifyStage, VerifyStepper, verify};
pub use writes::Writes;
pub use zeolite_proto::{Entry, Kind, Revision};

use bytes::Bytes;
use zeolite_proto::{Cell, CommitKey, Oid, Tid};

/// A transaction as the log keeps it, whole: every record, its note encoded. What a client is told of it has its own type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Txn {
    /// Its place in the order.
    pub tid: Tid,
    /// The committer's exactly-once key.
    pub key: CommitKey,
    /// Of the draft that it was made of: under the same key another draft is told apart by it. 0: not known.
    pub digest: u64,
    /// The server's own bookkeeping, not a client's work.
    pub own: bool,
    /// The encoded note (user, description, extension); opaque here.
    pub note: Bytes,
    /// What it wrote, at most one write per cell.
    pub writes: Writes,
}

/// A commit key that a client may still ask about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownKey {
    /// The key.
    pub key: CommitKey,
    /// Of the draft committed under it; 0: not known.
    pub digest: u64,
    /// The commit.
    pub tid: Tid,
    /// How long servers had run on the store when it was entered, in milliseconds: its age is counted from there.
    pub lived_ms: u64,
}

/// One cell's new revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxnWrite {
    /// The cell.
    pub cell: Cell,
    /// The encoded record; `None`: deleted.
    pub record: Option<Bytes>,
    /// Whether a resolver made it: so that a receipt can be told again after a restart.
    pub merged: bool,
}

/// What to scan: the entries of one collection, at one tid. Its bounds are those of the wire and of the index, where every key has a
/// place behind the empty one; a client has its own range, whose end may be absent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Range {
    /// The collection.
    pub oid: Oid,
    /// First key, inclusive; empty: from the first entry (the collection's own record is never part of a scan).
    pub from: Bytes,
    /// End, exclusive; empty: to the end.
    pub to: Bytes,
    /// From the end to the beginning.
    pub reverse: bool,
    /// Leave the records out.
    pub keys_only: bool,
}

/// How far replaying has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Log replayed.
    pub done_bytes: u64,
    /// Log to replay.
    pub all_bytes: u64,
    /// All of the log: the index is made anew.
    pub anew: bool,
}

/// What can go wrong below. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bytes at this place are not what was written.
    #[error(
        "damage in segment {segment} at offset {offset}: {what}; restore this segment from a backup, then run `zeolite verify`"
    )]
    Damaged {
        /// Segment number.
        segment: u32,
        /// Byte offset in the segment's file.
        offset: u64,
        /// What does not fit.
        what: String,
    },
    /// No room; nothing was lost and the store goes on when there is room.
    #[error("the disk is full; nothing was lost: free some space and commits go on")]
    DiskFull,
    /// A new segment could not be made; nothing was lost and the store goes on when it can.
    #[error("a new segment of the log cannot be made ({why}); nothing was lost: when it can, commits go on")]
    NoSegment {
        /// The system's answer.
        why: String,
    },
    /// A file of the log cannot be opened at the moment; nothing was lost.
    #[error(
        "{what}: the process has no more open files; nothing was lost: come back in a moment, and raise its limit of open files"
    )]
    NoFiles {
        /// What was done.
        what: String,
    },
    /// An earlier write or sync failed: the store appends nothing any more.
    #[error("the store is poisoned, nothing more is written: {reason}; check the disk, then restart")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// The caller asked for what the log cannot hold; nothing was written.
    #[error("the store refuses this: {what}")]
    Refused {
        /// What and why.
        what: String,
    },
    /// There would be more kinds than may be; nothing was written.
    #[error(
        "{max} kinds (a class at a schema version) are known here, the limit, and {class:?} at version {version} would be one more; put \
         what differs from object to object into the data, not into class or version, or raise store.kinds_max (a copy needs \
         as many as its source has)"
    )]
    TooManyKinds {
        /// The class of the first that found no place.
        class: String,
        /// Its schema version.
        version: u32,
        /// The limit.
        max: usize,
    },
    /// More is published than the index has taken; nothing was written.
    #[error(
        "{unsettled_bytes} bytes wait for the index, at most {bytes_max} may; let `Settler::settle` catch up, then append again"
    )]
    Behind {
        /// What waits.
        unsettled_bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The bytes of a blob's file are not what was written.
    #[error("damage in {path}: {what}; restore this file from a backup or a copy, then run `zeolite verify`")]
    DamagedBlob {
        /// The file.
        path: String,
        /// What does not fit.
        what: String,
    },
    /// A blob is not here, or not whole.
    #[error("{what}")]
    NoBlob {
        /// Which, and what to do.
        what: String,
    },
    /// Blobs have no room at the moment.
    #[error("{what}")]
    BlobsBusy {
        /// What is too many, and what to do.
        what: String,
    },
    /// The snapshot is older than what pack has kept.
    #[error("snapshot {asked} is older than {packed_to}, up to which history was packed; open a newer snapshot")]
    Packed {
        /// What was asked for.
        asked: Tid,
        /// The oldest snapshot there is.
        packed_to: Tid,
    },
    /// Another process has the data directory.
    #[error(
        "the data directory {path} is in use by another process{holder}; stop that one, or choose another directory"
    )]
    Locked {
        /// The directory.
        path: String,
        /// ` (pid n)`, or empty.
        holder: String,
    },
    /// The data directory or a file in it has a format that this program does not know.
    #[error("{what} has format {found}, this program knows {known}; use a newer zeolite")]
    Format {
        /// The file.
        what: String,
        /// Its format number.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A file was written with something that this program does not have.
    #[error("{file}: {what}")]
    Unreadable {
        /// The file.
        file: String,
        /// What it is and what to do.
        what: String,
    },
    /// Whoever ran a long work has stopped it.
    #[error("stopped before the end; what was done stays done, and another run goes on")]
    Stopped,
    /// The index is damaged; it can be deleted and is rebuilt at the next start.
    #[error("index: {0}; if this stays, stop the server and run `zeolite reindex`")]
    Index(String),
    /// The index has failed and is opened again, or made anew from the log.
    #[error("the index has failed ({why}) and is made ready again; nothing was lost: come back in a moment")]
    IndexDown {
        /// How.
        why: String,
    },
    /// A read or a write outside of the log failed.
    #[error("{what}: {error}")]
    Io {
        /// What was done.
        what: String,
        /// The system's answer.
        error: std::io::Error,
    },
}

#[cfg(test)]
mod tests;
