//! Owns an answer that is waited for, and how an event loop is told that it has come.
//!
//! ```text
//!   by the thread    polled once; then waited for without the interpreter's lock (`runtime`)
//!   by a loop        polled once; then on the runtime's threads:
//!                      the answer ─> its number in the bridge's list, one byte into a pipe ─> the loop asks for the list
//! ```
//! The runtime's threads never take the interpreter's lock here: what the answer is in Python is made by whoever takes it. So a loop that
//! is busy holds up nobody else's connection, and a thousand answers wake it once.

use crate::{errors, runtime};
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use zeolite_client::Error;

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// What a transaction's answers are waited for with.
#[derive(Clone, Default)]
pub(super) struct Waiting {
    /// Whom to tell; none: the thread waits.
    pub(super) bridge: Option<Arc<Told>>,
    /// Nothing is read any more from then on.
    pub(super) until: Option<Instant>,
}

/// What an answer is in Python.
type Make = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

type Slot = Arc<Mutex<Option<Make>>>;

/// An answer that has not come yet.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Pending {
    number: u64,
    slot: Slot,
    task: AbortHandle,
}

/// Where a loop is told what has come.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Bridge {
    read: UnixStream,
    pub(super) told: Arc<Told>,
}

/// The other end of it.
pub(super) struct Told {
    write: UnixStream,
    numbers: Mutex<Vec<u64>>,
}

impl Told {
    fn tell(&self, number: u64) {
        let mut numbers = self.numbers.lock();
        numbers.push(number);
        if numbers.len() == 1 {
            // A full pipe wakes the loop as well, and a closed one has none.
            let _ = (&self.write).write(&[0]);
        }
    }
}

enum Failed {
    Late,
    Error(Error),
}

async fn limited<T>(until: Option<Instant>, work: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
    match until {
        None => work.await,
        Some(until) => tokio::time::timeout_at(until, work).await.map_err(|_| Failed::Late)?,
    }
    .map_err(Failed::Error)
}

fn made<T>(
    py: Python<'_>,
    result: Result<T, Failed>,
    told: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>>,
) -> PyResult<Py<PyAny>> {
    match result {
        Ok(value) => told(py, value),
        Err(Failed::Error(error)) => Err(errors::raised(py, &error)),
        Err(Failed::Late) => Err(errors::late(py)),
    }
}

impl Waiting {
    /// The answer, or a `Pending`.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
        told: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> PyResult<Py<PyAny>> {
        let work = limited(self.until, work);
        let Some(bridge) = &self.bridge else {
            let result = runtime::wait_for(py, work)?;
            return made(py, result, told);
        };
        let process = runtime::here(py)?;
        let _entered = process.enter();
        let mut work: Pin<Box<dyn Future<Output = Result<T, Failed>> + Send>> = Box::pin(work);
        if let Poll::Ready(result) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return made(py, result, told);
        }
        let (number, slot) = (NUMBERS.fetch_add(1, Ordering::Relaxed), Slot::default());
        let (bridge, filled) = (bridge.clone(), slot.clone());
        let task = process.spawn(async move {
            let result = work.await;
            *filled.lock() = Some(Box::new(move |py| made(py, result, told)));
            bridge.tell(number);
        });
        let pending = Pending { number, slot, task: task.abort_handle() };
        Ok(Py::new(py, pending)?.into_any())
    }
}

#[pymethods]
impl Pending {
    /// Its number in the bridge's list.
    #[getter]
    fn number(&self) -> u64 {
        self.number
    }

    /// The answer; once, after the bridge has told of it.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = self.slot.lock().take();
        let make = make.ok_or_else(|| errors::invalid(py, "this answer has not come, or was taken already"))?;
        make(py)
    }

    /// Nobody waits for it any more.
    fn cancel(&self) {
        self.task.abort();
    }
}

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Bridge> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        Ok(Bridge { read, told: Arc::new(Told { write, numbers: Mutex::default() }) })
    }

    /// Readable when something has come.
    fn fileno(&self) -> i32 {
        self.read.as_raw_fd()
    }

    /// The numbers of what has come since the last call.
    fn finished(&self) -> Vec<u64> {
        // First the pipe: what comes meanwhile writes into it again, at worst for nothing.
        let mut bytes = [0; 64];
        while matches!((&self.read).read(&mut bytes), Ok(read) if read == bytes.len()) {}
        std::mem::take(&mut *self.told.numbers.lock())
    }
}
