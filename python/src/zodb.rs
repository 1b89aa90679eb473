//! Owns what a ZODB storage needs, in ZODB's own terms: oids and tids are eight bytes, big endian, and data is the pickle.
//!
//! ```text
//!   snapshot   load, prefetch, poll: of one instance, that is of one of ZODB's connections
//!   staging    what one transaction writes: two phases, and what has moved on in between
//!   log        transactions as they were, forwards and backwards; the same into another database
//!   objects    fresh oids, single revisions, all current records
//!   blobs      files up to the server and down from it
//!   record     a pickle as a record
//!   oids       ZODB's numbers, as they come from Python
//! ```

mod blobs;
mod log;
mod objects;
mod oids;
mod record;
mod snapshot;
mod staging;

pub(crate) use blobs::{Blobs, Id};
pub(crate) use log::{Log, Restoring};
pub(crate) use objects::Objects;
pub(crate) use oids::{Eight, bytes_of};
pub(crate) use record::encoded;
pub(crate) use snapshot::Snapshot;
pub(crate) use staging::Staging;
