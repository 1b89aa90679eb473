//! The Zeolite client: transactions over a shared object database, typed persistent objects, collections.
//!
//! ```no_run
//! use zeolite_client::{Db, Error, collections::{Counter, Map}};
//!
//! # async fn example() -> Result<(), Error> {
//! let db = Db::connect("127.0.0.1:7878").await?;
//! db.run(async |tx| {
//!     let words: Map<String, String> = tx.root_or_create("words").await?;
//!     let edits: Counter = tx.root_or_create("edits").await?;
//!     words.insert(&tx, "zeolite", &"a mineral that exchanges ions".to_owned())?;
//!     edits.add(&tx, 1)
//! })
//! .await?;
//! # Ok(()) }
//! ```
//!
//! Types of your own become objects by a derive ([`Persistent`]), structs become keys by another ([`Key`]):
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use zeolite_client::{Key, Persistent, Ref, collections::Map};
//!
//! #[derive(Serialize, Deserialize, Persistent)]
//! #[persistent(class = "wiki.Page")]
//! struct Page {
//!     title: String,
//!     parent: Option<Ref<Page>>,
//!     notes: Map<Place, String>,
//! }
//!
//! #[derive(Key)]
//! struct Place {
//!     line: u32,
//!     column: u32,
//! }
//! ```
//!
//! A transaction reads one snapshot and commits all of its writes or none. [`Db::run`] runs it again when another commit
//! was in the way; writers of a counter, of different keys of a map, or of other mergeable things never are.
//!
//! ```text
//!   blocking      the same without `async`
//!   evolve        migrations of a live database: jobs, workers, steps
//!   admin         the operator's calls
//!   blobs         files and other large bytes beside the objects
//!   objects       creating, changing, removing objects; the indexes that are kept with them
//!   collections   counter, map, index, set, queue, list: parts that many write at once
//!   typed         your types as objects: class, version, upgrade, references
//!   tx            View (reads at a snapshot), Tx (a View that writes), run, pins
//!   cache         revisions with the snapshots they are right for, kept right by the server's feed
//!   credentials   who the client is, and how it knows the server
//!   connect       the handle `Db`; reconnecting, resending under commit keys, waiting
//!   watch         changes as they are told
//!   wire          frames
//!   keys, revision, errors   what all of them speak in
//! ```
//! What is above may name what is below. Every error says what to do; [`Error::remedy`] sorts them.
//!
//! The futures of this crate are `Send`. Both `async |tx| {..}` and `|tx| async move {..}` go into `run`; an async closure
//! that owns what it captures (`async move`) cannot be called twice, so let it borrow.

pub mod admin;
pub mod blobs;
pub mod blocking;
pub mod collections;
pub mod errors;
pub mod evolve;
pub mod keys;
pub mod objects;
pub mod revision;
pub mod tx;
pub mod typed;
pub mod watch;

mod answer;
mod cache;
mod commit_keys;
mod connect;
mod credentials;
mod wire;

pub use admin::Admin;
pub use answer::{Outcome, Restored};
pub use blobs::Blob;
pub use cache::CacheStats;
pub use connect::{Db, Options, ServerInfo};
pub use credentials::{Tls, Token};
pub use errors::{Error, Result};
pub use keys::Key;
pub use revision::{Entry, Listing, Range, Revision};
pub use tx::{Isolation, Pin, Place, Prepared, RawDraft, Savepoint, Scan, Transaction, Tx, View};
pub use typed::{Codec, Handle, KeptIndex, Persistent, Ref};
pub use watch::{Change, ModeWatch, Watch};
pub use wire::{BadPiece, Inside, LogPiece, Naming, Pages, TracedBy};
pub use wire::{FollowHello, FollowPage, FollowWelcome, FollowWords, Followed};
#[doc(inline)]
pub use zeolite_proto::Registry as Resolvers;
pub use zeolite_proto::{
    Behind, BlobId, BlobStanding, Cell, ClassCounts, CloseAttempt, CommitKey, Fault, FaultKind, FollowerInfo, Gate,
    Kind, Kinds, Limits, Mode, ModeEnd, ModeKind, Note, Oid, PackOptions, PackProgress, PreparedDraft, Pressure,
    Priority, Promoted, Receipt, Record, Reference, Remedy, Replication, Resolver, ResolverInfo, Schedule, Seat,
    SessionInfo, Stage, StaleCell, Status, Tid, TraceContext, VerifyProgress,
};
