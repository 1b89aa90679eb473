//! Owns who follows what a thread of Python does at the moment, as its Python part has said: requests are made on the thread that asks for
//! them, so that is where it is kept.

use pyo3::prelude::*;
use std::cell::Cell;
use zeolite_client::{Following, TraceContext};

thread_local! {
    static NOW: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// From now on this thread's requests are followed by this W3C `traceparent`; what is none, also the empty text: by nobody.
#[pyfunction]
pub(crate) fn follow(traceparent: &str) {
    NOW.set(TraceContext::parse(traceparent));
}

/// For every connection.
pub(crate) fn following() -> Following {
    Following::new(|| NOW.get())
}
