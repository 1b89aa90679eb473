//! Owns the wheel of a process, and how Python waits for it.
//!
//! ```text
//!   wait     polled once with the interpreter's lock: an answer from the cache costs nothing more
//!              not ready ─> without the lock, in slices, and this thread turns the wheel; between two of them signals are looked at
//!              (Ctrl-C)
//!   fork     a child has none of its parent's threads: it gets a wheel of its own, and never touches the other one
//! ```
//! The registry's lock is taken with the interpreter's lock held, and never kept while that is given up: whoever forks holds the
//! interpreter's lock, so a child never finds it taken.

use crate::errors;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use zeolite_client::Error;
use zeolite_client::blocking::Wheel;

/// How long a signal waits at most.
const SLICE: Duration = Duration::from_millis(100);

/// This process, and the wheel that its threads turn. It is never dropped: its tasks end with their connections.
pub(crate) struct Process {
    /// To ask for it is a call of the system: who knows it hands it on.
    pub(crate) id: u32,
    wheel: Wheel,
}

impl Deref for Process {
    type Target = Wheel;

    fn deref(&self) -> &Wheel {
        &self.wheel
    }
}

static HERE: Mutex<Option<Arc<Process>>> = Mutex::new(None);

/// This process.
pub(crate) fn here(_: Python<'_>) -> PyResult<Arc<Process>> {
    let id = std::process::id();
    let mut here = HERE.lock();
    if let Some(process) = &*here
        && process.id == id
    {
        return Ok(process.clone());
    }
    let process = Arc::new(Process { id, wheel: Wheel::start()? });
    if let Some(parent) = here.replace(process.clone()) {
        // Its locks may be held by threads that stayed with the parent.
        std::mem::forget(parent);
    }
    Ok(process)
}

/// What has come by now is taken in: whoever begins sees it.
pub(crate) fn take_in(py: Python<'_>) -> PyResult<()> {
    let process = here(py)?;
    py.detach(|| process.turn());
    Ok(())
}

/// What the thread that waits does meanwhile.
pub(crate) struct Here<S, L> {
    /// Does what the work asks for.
    pub(crate) serve: S,
    /// Called between two slices; what it raises counts like a signal.
    pub(crate) look: L,
}

/// The result of something of the client.
pub(crate) fn wait<T: Send>(py: Python<'_>, work: impl Future<Output = Result<T, Error>> + Send) -> PyResult<T> {
    wait_in(&*here(py)?, py, work)
}

/// The same for who knows the process.
pub(crate) fn wait_in<T: Send>(
    process: &Process,
    py: Python<'_>,
    work: impl Future<Output = Result<T, Error>> + Send,
) -> PyResult<T> {
    waited(process, py, work)?.map_err(|error| errors::raised(py, &error))
}

/// The same, with the client's error as it is.
pub(crate) fn wait_for<T: Send>(py: Python<'_>, work: impl Future<Output = T> + Send) -> PyResult<T> {
    waited(&*here(py)?, py, work)
}

fn waited<T: Send>(process: &Process, py: Python<'_>, work: impl Future<Output = T> + Send) -> PyResult<T> {
    let _entered = process.enter();
    let mut work = pin!(work);
    if let Some(result) = process.ready(work.as_mut()) {
        return Ok(result);
    }
    loop {
        let slice = py.detach(|| process.wait(async { tokio::time::timeout(SLICE, work.as_mut()).await }));
        match slice {
            Ok(result) => return Ok(result),
            Err(_) => py.check_signals()?,
        }
    }
}

/// The same for work that ends in order when it is asked to: a signal asks it, and is raised when it has ended; a second one does not wait.
pub(crate) fn wait_in_order<T: Send>(
    py: Python<'_>,
    work: impl Future<Output = Result<T, Error>> + Send,
    stop: impl Fn(),
) -> PyResult<T> {
    let (_, asked) = unbounded_channel::<()>();
    wait_serving(py, work, stop, asked, Here { serve: |_: Python<'_>, ()| {}, look: |_: Python<'_>| Ok(()) })
}

/// The same, and this thread does something meanwhile.
pub(crate) fn wait_serving<T: Send, A: Send>(
    py: Python<'_>,
    work: impl Future<Output = Result<T, Error>> + Send,
    stop: impl Fn(),
    mut asked: UnboundedReceiver<A>,
    here: Here<impl Fn(Python<'_>, A), impl Fn(Python<'_>) -> PyResult<()>>,
) -> PyResult<T> {
    enum Next<T, A> {
        Ended(T),
        Asked(A),
        Look,
    }
    let process = self::here(py)?;
    let _entered = process.enter();
    let (mut work, mut signal) = (pin!(work), None);
    loop {
        let next = py.detach(|| {
            process.wait(async {
                tokio::select! {
                    ended = work.as_mut() => Next::Ended(ended),
                    Some(asked) = asked.recv() => Next::Asked(asked),
                    () = tokio::time::sleep(SLICE) => Next::Look,
                }
            })
        });
        match (next, signal.take()) {
            (Next::Ended(_), Some(signal)) => return Err(signal),
            (Next::Ended(result), None) => return result.map_err(|error| errors::raised(py, &error)),
            (Next::Asked(asked), before) => {
                (here.serve)(py, asked);
                signal = before;
            }
            // It ends already: nothing but another signal counts.
            (Next::Look, Some(before)) => {
                py.check_signals()?;
                signal = Some(before);
            }
            (Next::Look, None) => {
                if let Err(first) = py.check_signals().and_then(|()| (here.look)(py)) {
                    stop();
                    signal = Some(first);
                }
            }
        }
    }
}
