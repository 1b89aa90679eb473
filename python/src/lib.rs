//! Owns the module `zeolite._zeolite`: the Zeolite client for CPython, from 3.10 on.
//!
//! ```text
//!   evolve      jobs whose steps are Python functions
//!   typed       what Python's typed objects need: cells in a transaction or at a snapshot, answers that an event loop waits for
//!   zodb        what a ZODB storage needs: oids, snapshots of an instance, staging of a transaction, the log
//!   database    connections that a process shares, and the operator's calls
//!   traced      who traces what a thread does
//!   pins        one pin for all open snapshots of a process
//!   runtime     the runtime of a process, waiting without the interpreter's lock, signals, forks
//!   errors      faults as Python's exceptions
//! ```
//! What is above may name what is below. Everything that Python's users see is in the Python part of the package; this is its
//! native half, whose names may change with it.

mod database;
mod errors;
mod evolve;
mod pins;
mod runtime;
mod traced;
mod typed;
mod zodb;

use pyo3::prelude::*;

/// The native half of the package `zeolite`.
#[pymodule]
fn _zeolite(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(traced::trace, module)?)?;
    module.add_function(wrap_pyfunction!(typed::kept_name, module)?)?;
    module.add_class::<database::Database>()?;
    module.add_class::<evolve::Job>()?;
    module.add_class::<typed::Tx>()?;
    module.add_class::<typed::Savepoint>()?;
    module.add_class::<typed::TypedBlobs>()?;
    module.add_class::<typed::Bridge>()?;
    module.add_class::<typed::Pending>()?;
    module.add_class::<zodb::Snapshot>()?;
    module.add_class::<zodb::Staging>()?;
    module.add_class::<zodb::Objects>()?;
    module.add_class::<zodb::Blobs>()?;
    module.add_class::<zodb::Log>()?;
    module.add_class::<zodb::Restoring>()?;
    Ok(())
}
