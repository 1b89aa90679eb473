//! Owns what Python's typed objects stand on: cells read and written in a transaction, or at a snapshot. What classes, fields and
//! collections are is said in Python (`zeolite.typed`).
//!
//! ```text
//!   tx        a transaction, one that was lent by a worker of evolves, or a snapshot: get, put, apply, scan, commit
//!   blobs     blobs, up before a transaction names them, and down
//!   indexes   which indexes are kept with the objects of a class
//!   pending   an answer that is waited for: by the thread, without the interpreter's lock; or by an event loop, which is told
//! ```

mod blobs;
mod indexes;
mod pending;
mod tx;

pub(crate) use blobs::TypedBlobs;
pub(crate) use indexes::{Indexes, kept_name};
pub(crate) use pending::{Bridge, Pending};
pub(crate) use tx::{Savepoint, Tx, parts};
