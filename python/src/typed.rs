//! Owns what Python's typed objects stand on: cells read and written in a transaction, or at a snapshot. What classes, fields and
//! collections are is said in Python (`zeolite.typed`).
//!
//! ```text
//!   tx        a transaction, one that was lent by a worker of evolves, or a snapshot: get, put, apply, scan, commit
//!   pending   an answer that is waited for: by the thread, without the interpreter's lock; or by an event loop, which is told
//! ```

mod pending;
mod tx;

pub(crate) use pending::{Bridge, Pending};
pub(crate) use tx::{Tx, parts};
