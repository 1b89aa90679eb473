//! Owns who traces what a thread of Python does at the moment, as its Python part has said: requests are made on the thread that asks for
//! them, so that is where it is kept.

use pyo3::prelude::*;
use std::cell::Cell;
use zeolite_client::{TraceContext, TracedBy};

thread_local! {
    static NOW: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// From now on this thread's requests are traced by this W3C `traceparent`; what is none, also the empty text: by nobody.
#[pyfunction]
pub(crate) fn trace(traceparent: &str) {
    NOW.set(TraceContext::parse(traceparent));
}

/// For every connection.
pub(crate) fn traced_by() -> TracedBy {
    TracedBy::new(|| NOW.get())
}
