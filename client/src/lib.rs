//! The Zeolite client: transactions over a shared object database, your types as persistent objects, collections that many write at once.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use zeolite_client::{Persistent, Ref, collections::Counter};
//!
//! #[derive(Serialize, Deserialize, Persistent)]
//! #[persistent(class = "wiki.Page")]
//! struct Page {
//!     #[persistent(unique)]
//!     title: String,
//!     text: String,
//!     parent: Option<Ref<Page>>,
//! }
//!
//! # zeolite_testing::with_db(async |db| {
//! // let db = Db::connect("127.0.0.1:7878").await?;
//! let edits: Counter = db.run(async |tx| tx.root_or_create("edits").await).await?;
//! db.run(async |tx| {
//!     let home = tx.create(&Page { title: "Home".into(), text: "Welcome.".into(), parent: None }).await?;
//!     tx.create(&Page { title: "News".into(), text: "None.".into(), parent: Some(home) }).await?;
//!     edits.add(&tx, 2) // adds never conflict
//! })
//! .await?; // all of it, or nothing
//! let (_, news) = Page::BY_TITLE.load(&db.now(), "News").await?.expect("it was made");
//! assert_eq!(db.now().load(news.parent.expect("it has one")).await?.text, "Welcome.");
//! # Ok(()) });
//! ```
//! A transaction reads one snapshot and commits all of its writes or none. [`Db::run`] runs it again when another commit was in the way;
//! writers of a counter, of different keys of a map, or of other mergeable things never are.
//!
//! # I want to ...
//!
//! | | |
//! |---|---|
//! | connect, choose who I am, tune cache and time limits | [`Db::connect_with`], [`Options`], [`Token`], [`Tls`] |
//! | start warm after a restart | [`Options::cache_dir`] |
//! | store my own types, and change them later | [`Persistent`] and its derive, [`Ref`]; [`objects`] |
//! | find objects by a property | `#[persistent(index)]`, `unique`: [`objects`], [`collections::IndexBy`], [`collections::UniqueBy`] |
//! | keep maps, sets, queues, counters | [`collections`]; keys of my own: [`Key`] |
//! | read and write in one transaction | [`Db::run`], [`Tx`]; as of then: [`Db::at`], [`Db::at_time`], [`Pin`] |
//! | check what I have read, give a time limit, leave a note | [`Db::transaction`], [`Transaction`], [`Isolation`] |
//! | take back a part of a transaction | [`Tx::savepoint`] |
//! | commit in several systems at once | [`Tx::prepare`], [`Tx::prepare_durable`] |
//! | know what became of a commit | [`Db::new_commit_key`], [`Transaction::key`], [`Db::outcome`] |
//! | hear what others write | [`Db::watch`], [`Db::watch_all`]; the site's banner: [`Db::on_mode_change`] |
//! | store files and images | [`blobs`], [`Db::put_blob`] |
//! | change all objects of a class, beside live traffic | [`evolve`]; look at its indexes, and mend them: [`evolve::KeptIndexes`] |
//! | see the past of an object, undo a transaction | [`Db::history`], [`Db::undo`] |
//! | operate: status, packs, verification, the log | [`Db::admin`], [`Admin`] |
//! | do all that without `async` | [`blocking`] |
//! | test against a real server | the crate `zeolite-testing` |
//!
//! # Errors, and what to do
//!
//! There is one type, [`Error`]; its text says what to do, and [`Error::remedy`] sorts it into six [`Remedy`]s. [`Db::run`] follows the two that
//! a program can follow (*retry* and *reopen*), and the client waits by itself, up to [`Options::request_timeout`], for a server that is
//! restarted, busy, or promoted. So what comes out of `run` is for you: a request to mend ([`Error::UniqueTaken`], [`Error::NotFound`]), something
//! to wait for, something for an operator; or [`Error::OutcomeUnknown`], which says that a commit may or may not have happened:
//!
//! ```
//! use std::time::Duration;
//! use zeolite_client::{Error, Outcome, collections::Counter};
//!
//! # zeolite_testing::with_db(async |db| {
//! # let orders: Counter = db.run(async |tx| tx.root_or_create("orders").await).await?;
//! let (key, since) = (db.new_commit_key(), db.position()); // known before anything happens
//! let order = db.transaction().timeout(Duration::from_secs(20)).key(key, since);
//! let ordered = match order.run(async |tx| orders.add(&tx, 1)).await {
//!     Ok(()) => true,
//!     Err(Error::OutcomeUnknown { key, .. }) => matches!(db.outcome(key, since).await?, Outcome::Committed(_)),
//!     Err(error) => return Err(error),
//! };
//! assert!(ordered);
//! # Ok(()) });
//! ```
//! An error of your own leaves a transaction by [`Error::app`], and nothing is committed.
//!
//! # What may grow
//!
//! Structs that you make ([`Options`], [`evolve::NewJob`], [`PackOptions`]) are non-exhaustive and have a chained setter for each field; structs
//! that you are given may get more fields, so take them apart with `..`; enums that may get more variants are non-exhaustive. Closed are those
//! on which whoever asks has to decide in full ([`Outcome`], [`Remedy`]). Stored names and formats are another matter: they have numbers, and
//! stay.
//!
//! # Features
//!
//! `uuid` and `jiff` make `Uuid`, and timestamps, dates and times of those crates, keys of collections. None is on by itself.
//!
//! # Futures
//!
//! The futures of this crate are `Send`. Both `async |tx| {..}` and `|tx| async move {..}` go into `run`; an async closure that owns what it
//! captures (`async move`) cannot be called twice, so let it borrow.
//!
//! # How it is built
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
//!   cache         revisions with the snapshots they are right for, kept right by the server's feed; below them a file
//!   credentials   who the client is, and how it knows the server
//!   connect       the handle `Db`; reconnecting, resending under commit keys, waiting
//!   watch         changes as they are told
//!   wire          frames
//!   keys, revision, errors   what all of them speak in
//! ```
//! What is above may name what is below.

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
pub use tx::{Changed, Isolation, Pin, Place, Prepared, RawDraft, Savepoint, Scan, Transaction, Tx, View};
pub use typed::{Codec, Handle, KeptIndex, Persistent, Ref};
pub use watch::{Change, ModeWatch, Watch};
pub use wire::{BadPiece, Inside, LogPiece, Naming, Pages, TracedBy};
pub use wire::{FollowBegun, FollowHello, FollowPage, FollowWelcome, FollowWords, Followed};
#[doc(inline)]
pub use zeolite_proto::Registry as Resolvers;
pub use zeolite_proto::{
    Behind, BlobId, BlobStanding, Cell, ClassCounts, CloseAttempt, CommitKey, Fault, FaultKind, FollowerInfo, Gate,
    Kind, Kinds, Limits, Mode, ModeEnd, ModeKind, Note, Oid, PackOptions, PackProgress, PreparedDraft, Pressure,
    Priority, Promoted, Receipt, Record, Reference, Remedy, Replication, Resolver, ResolverInfo, Schedule, Seat,
    SessionInfo, Stage, StaleCell, Status, Tid, TraceContext, VerifyProgress,
};
