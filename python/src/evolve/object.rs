//! Owns the step of a Python program on one object: a function that is called with a transaction of the worker's, on a thread of its own.
//!
//! ```text
//!   in     the transaction, the oid, the record as it was: class, version, references, blobs, data
//!   out    nothing: all is written in the transaction; or a text: why it failed, for the quarantine
//! ```

use super::step::Made;
use crate::typed::{Tx, parts};
use pyo3::prelude::*;
use std::sync::Arc;
use zeolite_client::evolve::{Step, Stepped};
use zeolite_client::{Cell, Error, Record};

/// A step that is a Python function of one object.
pub(crate) struct ObjectStep {
    name: String,
    made: Arc<Made>,
}

impl ObjectStep {
    pub(crate) fn new(name: String, made: Arc<Made>) -> ObjectStep {
        ObjectStep { name, made }
    }
}

impl Step for ObjectStep {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn step(&self, tx: &zeolite_client::Tx, cell: &Cell, old: Record) -> Result<Stepped, Error> {
        let (made, lent, cell) = (self.made.clone(), tx.lend(), cell.clone());
        let stepped = move || Python::attach(|py| called(py, &made, lent, &cell, &old));
        match tokio::task::spawn_blocking(stepped).await {
            Ok(stepped) => stepped.map(|()| Stepped::Keep),
            Err(error) => Err(Error::worker(format!("the step's thread ended: {error}"))),
        }
    }
}

fn called(py: Python<'_>, made: &Made, lent: zeolite_client::Tx, cell: &Cell, old: &Record) -> Result<(), Error> {
    let call = || -> PyResult<Option<String>> {
        let indexes = made.database.get().shared(py)?.indexes.clone();
        let tx = Py::new(py, Tx::lent(lent, indexes))?;
        let (class, version, refs, blobs, data) = parts(py, old);
        let called = made.steps.call1(py, (tx.clone_ref(py), cell.oid.0, class, version, refs, blobs, data));
        tx.get().close(py)?;
        called?.extract(py)
    };
    match call() {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(Error::app(why)),
        Err(error) => Err(made.failed(py, error)),
    }
}
