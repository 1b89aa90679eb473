//! The Zeolite client: transactions, typed persistent objects, collections.

pub mod admin;
pub mod errors;
pub mod keys;
pub mod revision;
pub mod session;
pub mod watch;

mod answer;
mod cache;
mod commit_keys;
mod connect;
mod oids;
mod wire;

pub use admin::Admin;
pub use answer::Outcome;
pub use cache::CacheStats;
pub use connect::{Db, Options};
pub use errors::{Error, Result};
pub use revision::{Entry, Range, Revision};
pub use session::{Isolation, Pin, Prepared, Scan, Transaction, Tx, View};
pub use watch::{Change, Watch};
pub use wire::Pages;
pub use zeolite_proto::{
    Cell, CommitKey, Fault, FaultKind, Limits, Note, Oid, Priority, Receipt, Record, Registry, Remedy, Resolver, Tid,
};
