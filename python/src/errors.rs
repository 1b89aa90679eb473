//! Owns how an error of the client becomes an exception: made by `zeolite.errors.from_native` in Python, which has one class per
//! remedy.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use zeolite_client::{Error, Fault, Remedy};

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception of an error.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    made(py, error).unwrap_or_else(|failed| failed)
}

/// For what the request itself is wrong about.
pub(crate) fn invalid(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raised(py, &Fault::invalid(message).into())
}

/// For what the native half has found out by itself and has a class for.
pub(crate) fn named(py: Python<'_>, kind: &str, message: String) -> PyErr {
    found(py, kind, "fix request", message)
}

fn found(py: Python<'_>, kind: &str, remedy: &str, message: String) -> PyErr {
    let exception = make(py).and_then(|make| make.call1(py, (kind, remedy, message)));
    exception.map_or_else(|failed| failed, |exception| PyErr::from_value(exception.into_bound(py)))
}

/// For what comes after a transaction's time.
pub(crate) fn late(py: Python<'_>) -> PyErr {
    let text = "the transaction's time (deadline) was over before this was read; nothing of it was committed: give it more, or run it later";
    found(py, "deadline", "wait", text.to_owned())
}

/// For a transaction that was committed or given up, or a snapshot that was closed.
pub(crate) fn over(py: Python<'_>) -> PyErr {
    named(py, "over", "this transaction is over; begin a new one, and get its objects there (tx.get)".to_owned())
}

/// Whether an exception is one of this package's that passes by itself.
pub(crate) fn passes(py: Python<'_>, error: &PyErr) -> bool {
    let is_one = |name: &str| -> PyResult<bool> {
        let class = py.import("zeolite.errors")?.getattr(name)?;
        Ok(error.matches(py, class)?)
    };
    ["Wait", "Retry", "ReopenSnapshot"].into_iter().any(|name| is_one(name).unwrap_or(false))
}

fn make(py: Python<'_>) -> PyResult<&Py<PyAny>> {
    MAKE.get_or_try_init(py, || PyResult::Ok(py.import("zeolite.errors")?.getattr("from_native")?.unbind()))
}

fn made(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let make = make(py)?;
    let details = PyDict::new(py);
    match error {
        Error::Fault(fault) => {
            details.set_item("retry_after_ms", fault.retry_after_ms)?;
            if let Some(conflict) = &fault.conflict {
                details.set_item("oid", conflict.cell.oid.0)?;
                details.set_item("class_name", &conflict.class)?;
                details.set_item("base", conflict.base.0)?;
                details.set_item("newest", conflict.newest.0)?;
            }
        }
        Error::OutcomeUnknown { key, .. } => details.set_item("commit_key", PyBytes::new(py, &key.0))?,
        _ => {}
    }
    let exception = make.call(py, (kind(error), remedy(error.remedy()), told(error)), Some(&details))?;
    Ok(PyErr::from_value(exception.into_bound(py)))
}

/// What an error says, with the names that things have in Python.
fn told(error: &Error) -> String {
    match error {
        Error::OutcomeUnknown { reason, .. } => format!(
            "whether this was committed is not known: {reason}; ask `db.outcome(error)`, or look at the data, before it is done again"
        ),
        other => other.to_string(),
    }
}

fn kind(error: &Error) -> String {
    match error {
        Error::Disconnected { .. } => "disconnected".to_owned(),
        Error::NoAnswer { .. } => "no answer".to_owned(),
        Error::TimeLimit { .. } => "time limit".to_owned(),
        Error::Forked { .. } => "forked".to_owned(),
        other => other.kind().map_or_else(|| "application".to_owned(), |kind| kind.text().to_owned()),
    }
}

fn remedy(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Retry => "retry",
        Remedy::ReopenSnapshot => "reopen snapshot",
        Remedy::FixRequest => "fix request",
        Remedy::Wait => "wait",
        Remedy::GiveUp => "give up",
        Remedy::AskOutcome => "ask outcome",
    }
}
