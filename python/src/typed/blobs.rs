//! Owns the blobs of typed objects: up before the transaction that names them, down in ranges or into a file.
//!
//! All of it streams. An upload that no commit names is removed by the server a while later.

use super::pending::Waiting;
use crate::zodb::Id;
use bytes::Bytes;
use futures_util::StreamExt;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::pin::pin;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use zeolite_client::{BlobId, Db, Error};

/// The blobs of a database, as one transaction waits for them.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct TypedBlobs {
    pub(super) db: Db,
    pub(super) waiting: Waiting,
}

fn of_file(path: &std::path::Path, what: &str, error: &std::io::Error) -> Error {
    Error::app(format!("{} cannot be {what}: {error}", path.display()))
}

fn id(py: Python<'_>, id: BlobId) -> PyResult<Py<PyAny>> {
    PyBytes::new(py, &id.0).into_py_any(py)
}

#[pymethods]
impl TypedBlobs {
    /// Uploads bytes; the id under which they are there when this returns.
    fn put(&self, py: Python<'_>, data: &[u8]) -> PyResult<Py<PyAny>> {
        let (db, data) = (self.db.clone(), Bytes::copy_from_slice(data));
        self.waiting.ask(py, async move { db.put_blob(&data[..]).await }, id)
    }

    /// Uploads a file.
    fn upload(&self, py: Python<'_>, path: PathBuf) -> PyResult<Py<PyAny>> {
        let db = self.db.clone();
        let uploaded = async move {
            let file = File::open(&path).await.map_err(|error| of_file(&path, "read", &error))?;
            db.put_blob(file).await
        };
        self.waiting.ask(py, uploaded, id)
    }

    /// Its length in bytes.
    fn length(&self, py: Python<'_>, id: Id) -> PyResult<Py<PyAny>> {
        let blob = self.db.blob(id.0);
        self.waiting.ask(py, async move { blob.length().await }, |py, length| length.into_py_any(py))
    }

    /// A range of its bytes; shorter where it ends.
    fn read(&self, py: Python<'_>, id: Id, start: u64, stop: u64) -> PyResult<Py<PyAny>> {
        let blob = self.db.blob(id.0);
        let read = async move { blob.bytes(start..stop).await };
        self.waiting.ask(py, read, |py, bytes| PyBytes::new(py, &bytes).into_py_any(py))
    }

    /// Into a file that is not there yet; its length.
    fn download(&self, py: Python<'_>, id: Id, path: PathBuf) -> PyResult<Py<PyAny>> {
        let db = self.db.clone();
        let written = async move {
            let failed = |error: std::io::Error| of_file(&path, "written", &error);
            let mut file = File::options().write(true).create_new(true).open(&path).await.map_err(failed)?;
            let (mut pieces, mut length) = (pin!(db.blob(id.0).read(0..u64::MAX)), 0);
            while let Some(piece) = pieces.next().await.transpose()? {
                file.write_all(&piece).await.map_err(failed)?;
                length += piece.len() as u64;
            }
            file.flush().await.map_err(failed)?;
            Ok(length)
        };
        self.waiting.ask(py, written, |py, length: u64| length.into_py_any(py))
    }
}
