//! Owns the way of blobs between files and the server: up before the transaction that names them, down into a file.
//!
//! Both stream: a file of any size passes through a few megabytes of memory. Where the files are, and for how long, is up to
//! `zeolite.zodb.blobfiles`.

use super::oids::Eight;
use crate::database::Database;
use crate::{errors, runtime};
use futures_util::StreamExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use zeolite_client::{BlobId, Record};

/// An id of a blob as it comes from Python.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub(crate) BlobId);

impl<'a, 'py> FromPyObject<'a, 'py> for Id {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Id> {
        let bytes: &[u8] = given.extract()?;
        let id = bytes.try_into().map(|id| Id(BlobId(id)));
        id.map_err(|_| errors::invalid(given.py(), format!("{} bytes where the id of a blob has 16", bytes.len())))
    }
}

/// The blob that a record names; ZODB's have one.
pub(super) fn named<'py>(py: Python<'py>, record: &Record) -> Option<Bound<'py, PyBytes>> {
    record.blobs.first().map(|id| PyBytes::new(py, &id.0))
}

/// An error of the system does not say which file it is about.
fn of_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The blobs of a database.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Blobs {
    database: Py<Database>,
}

#[pymethods]
impl Blobs {
    #[new]
    fn new(database: Py<Database>) -> Blobs {
        Blobs { database }
    }

    /// Uploads a file; the id under which it is there when this returns.
    fn upload<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyBytes>> {
        let db = self.database.get().db(py)?;
        let id = runtime::wait_for(py, async move {
            let file = File::open(&path).await.map_err(|error| of_file(&path, &error))?;
            Ok(db.put_blob(file).await)
        })?;
        let id = id.map_err(|error: io::Error| PyErr::from(error))?;
        Ok(PyBytes::new(py, &id.map_err(|error| errors::raised(py, &error))?.0))
    }

    /// Downloads a blob into a file that is not there yet; its length.
    fn download(&self, py: Python<'_>, id: Id, path: PathBuf) -> PyResult<u64> {
        let db = self.database.get().db(py)?;
        let written = runtime::wait_for(py, async move {
            let failed = |error| of_file(&path, &error);
            let mut file = File::options().write(true).create_new(true).open(&path).await.map_err(failed)?;
            let mut pieces = pin!(db.blob(id.0).read(0..u64::MAX));
            let mut length = 0;
            while let Some(piece) = pieces.next().await {
                let piece = match piece {
                    Ok(piece) => piece,
                    Err(error) => return Ok(Err(error)),
                };
                file.write_all(&piece).await.map_err(failed)?;
                length += piece.len() as u64;
            }
            file.flush().await.map_err(failed)?;
            Ok(Ok(length))
        })?;
        let written = written.map_err(|error: io::Error| PyErr::from(error))?;
        written.map_err(|error| errors::raised(py, &error))
    }

    /// The blob that one revision of an object names; none: it names none, or there is no such revision.
    fn of<'py>(&self, py: Python<'py>, oid: Eight, tid: Eight) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (shared, cell) = (self.database.get().shared(py)?, oid.cell(py)?);
        let revision = runtime::wait(py, async {
            shared.seen(tid.tid()).await?;
            shared.before(&cell, tid.tid().next()).await
        })?;
        let Some(record) = revision.record.filter(|_| revision.tid == tid.tid()) else { return Ok(None) };
        let record = Record::decode(&record).map_err(|bad| errors::invalid(py, format!("cell {cell}: {bad}")))?;
        Ok(named(py, &record))
    }
}
