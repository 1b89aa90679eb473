//! Owns the step of a Python program: a chunk goes over as oids and pickles, and comes back as what its objects have become.
//!
//! ```text
//!   in     the snapshot, [oid, data, serial, former tid or None, whether it is to be stepped]
//!   out    for each: ([oids that it wrote], whether it may know more) or the traceback;  {oid: (data, blob or None)};
//!          [oids that have to be current];  [oids that were read beside the objects themselves]
//! ```
//! It is called on a thread of its own, or, for `each`, on the one that waits for the job: there are the caller's connection, his
//! transaction manager, and whatever else his program keeps for its thread.

use crate::database::Database;
use crate::errors;
use crate::zodb::{Eight, Id, Snapshot, bytes_of, encoded};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use zeolite_client::evolve::{JointObject, JointStep, JointWork, Share, Step, Stepped};
use zeolite_client::{Cell, Db, Error, Place, Record, Tx};

const BLOB_CLASS: &str = "ZODB.blob.Blob";

/// A step that is a Python function of whole chunks.
pub(crate) struct PythonStep {
    name: String,
    made: Arc<Made>,
    /// Where chunks are stepped; none: on threads of their own.
    there: Option<UnboundedSender<Ask>>,
}

/// A chunk for the thread that waits for the job.
pub(crate) struct Ask {
    made: Arc<Made>,
    at: Place,
    objects: Vec<JointObject>,
    answer: oneshot::Sender<Result<JointWork, Error>>,
}

impl Ask {
    /// Steps it; whoever does not wait for it any more is not told.
    pub(crate) fn serve(self, py: Python<'_>) {
        drop(self.answer.send(self.made.steps(py, self.at, &self.objects)));
    }
}

/// What steps chunks or objects, wherever that is done; it outlives the worker that the step is given to.
pub(crate) struct Made {
    pub(crate) database: Py<Database>,
    pub(crate) steps: Py<PyAny>,
    /// What was raised for which the worker ends: whoever runs it raises it, as it was.
    raised: Mutex<Option<PyErr>>,
}

/// An object as it goes over.
type Told<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>, Option<u64>, bool);

#[derive(FromPyObject)]
enum Outcome {
    Failed(String),
    Wrote(Vec<Eight>, bool),
}

/// What comes back.
type Answer = (Vec<Outcome>, HashMap<Vec<u8>, (Vec<u8>, Option<Id>)>, Vec<Eight>, Vec<Eight>);

impl PythonStep {
    pub(crate) fn new(name: String, made: Arc<Made>) -> PythonStep {
        PythonStep { name, made, there: None }
    }

    /// The same, whose chunks are stepped by whoever receives them.
    pub(crate) fn served(mut self) -> (PythonStep, UnboundedReceiver<Ask>) {
        let (there, asked) = unbounded_channel();
        self.there = Some(there);
        (self, asked)
    }
}

impl Step for PythonStep {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn step(&self, _: &Tx, _: &Cell, _: Record) -> Result<Stepped, Error> {
        Err(Error::worker("Python's steps take objects together"))
    }

    fn joint(&self) -> Option<&dyn JointStep> {
        Some(self)
    }
}

impl JointStep for PythonStep {
    fn steps<'a>(
        &'a self,
        _: &'a Db,
        at: Place,
        objects: &'a [JointObject],
    ) -> BoxFuture<'a, Result<JointWork, Error>> {
        Box::pin(async move {
            let (made, objects) = (self.made.clone(), objects.to_vec());
            if let Some(there) = &self.there {
                let (answer, stepped) = oneshot::channel();
                let gone = || Error::worker("nobody waits for the job any more");
                there.send(Ask { made, at, objects, answer }).map_err(|_| gone())?;
                return stepped.await.unwrap_or_else(|_| Err(gone()));
            }
            let stepped = move || Python::attach(|py| made.steps(py, at, &objects));
            match tokio::task::spawn_blocking(stepped).await {
                Ok(stepped) => stepped,
                Err(error) => Err(Error::worker(format!("the step's thread ended: {error}"))),
            }
        })
    }
}

impl Made {
    pub(crate) fn new(database: Py<Database>, steps: Py<PyAny>) -> Arc<Made> {
        Arc::new(Made { database, steps, raised: Mutex::default() })
    }

    fn steps(&self, py: Python<'_>, at: Place, objects: &[JointObject]) -> Result<JointWork, Error> {
        let answer = self.answer(py, at, objects).map_err(|error| self.failed(py, error))?;
        // Of which object, fewer at once will tell.
        work(py, answer).map_err(|error| Error::app(error.to_string()))
    }

    /// An exception that is no object's: what passes is waited for; for any other one the worker ends.
    pub(crate) fn failed(&self, py: Python<'_>, error: PyErr) -> Error {
        let reason = error.to_string();
        if errors::passes(py, &error) {
            return Error::Disconnected { url: "of the step".to_owned(), reason };
        }
        self.raised.lock().get_or_insert(error);
        Error::worker(reason)
    }

    /// The exception for which the worker has ended, if it was one.
    pub(crate) fn raised(&self) -> PyResult<()> {
        self.raised.lock().take().map_or(Ok(()), Err)
    }

    fn answer(&self, py: Python<'_>, at: Place, objects: &[JointObject]) -> PyResult<Answer> {
        let snapshot = Snapshot::at(py, self.database.clone_ref(py), at)?;
        let told = objects.iter().map(|object| told(py, object)).collect::<PyResult<Vec<Told<'_>>>>()?;
        self.steps.call1(py, (snapshot, told))?.extract(py)
    }
}

fn told<'py>(py: Python<'py>, object: &JointObject) -> PyResult<Told<'py>> {
    let cell = &object.cell;
    let oid = bytes_of(py, cell.oid).filter(|_| cell.is_object());
    let oid = oid.ok_or_else(|| errors::invalid(py, format!("cell {cell} is no object of ZODB's")))?;
    let data = Record::data_of(&object.record).map_err(|bad| errors::invalid(py, format!("cell {cell}: {bad}")))?;
    let serial = PyBytes::new(py, &object.tid.0.to_be_bytes());
    Ok((oid, PyBytes::new(py, &data), serial, object.former.map(|tid| tid.0), object.is_stepped))
}

fn work(py: Python<'_>, (objects, records, checks, read): Answer) -> PyResult<JointWork> {
    let cells = |oids: Vec<Eight>| oids.into_iter().map(|oid| oid.cell(py)).collect::<PyResult<Vec<Cell>>>();
    let (checks, read) = (cells(checks)?, cells(read)?);
    let mut made = JointWork::new().checks(checks).read(read);
    for outcome in objects {
        made.objects.push(match outcome {
            Outcome::Failed(why) => Err(why),
            Outcome::Wrote(oids, reads) => Ok(Share::new(cells(oids)?, reads)),
        });
    }
    for (oid, (data, blob)) in records {
        let oid: Eight = PyBytes::new(py, &oid).extract()?;
        let cell = oid.cell(py)?;
        let (record, _): (Bytes, Bytes) = encoded(py, cell.oid, &data, blob.map(|blob| blob.0))?;
        // Written without the blob that it names it would lose it, at the next pack for good.
        if blob.is_none() && Record::decode(&record).is_ok_and(|record| record.class == BLOB_CLASS) {
            let object = cell.oid;
            return Err(errors::invalid(py, format!("the step writes blob {object} without its file")));
        }
        made.records.insert(cell, Some(record));
    }
    Ok(made)
}
