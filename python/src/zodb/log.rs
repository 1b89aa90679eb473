//! Owns transactions as they were: read from the log, and written into another database with their own tids.
//!
//! The server's own bookkeeping, objects of Zeolite's own classes (jobs of evolves) and entries of collections are no part of a ZODB
//! database: they are left out.

use super::blobs::{Id, named};
use super::oids::{Eight, bytes_of};
use super::record::{encoded, is_zodb, undone, undone_tid};
use crate::database::Database;
use crate::{errors, runtime};
use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use zeolite_client::revision::{LoggedTransaction, LoggedWrite};
use zeolite_client::{Admin, Cell, Error, Note, Pages, Record, Restored, Tid};

/// Transactions on their way into a restore.
const ON_THEIR_WAY: usize = 64;

/// A walk over the log.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Log {
    state: Mutex<Walk>,
    with_records: bool,
    with_references: bool,
}

#[derive(Default)]
struct Walk {
    pages: Option<Pages<Vec<LoggedTransaction>>>,
    ready: VecDeque<LoggedTransaction>,
}

/// The oid, the data (none: deleted, or left out), the length of the record, from where an undo took the data, the blob, and the
/// references (none: not asked for).
type Write<'py> = (
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
    u64,
    Option<u64>,
    Option<Bound<'py, PyBytes>>,
    Option<Vec<Option<Bound<'py, PyBytes>>>>,
);
/// The tid, user, description, extension, the writes, and up to where history is packed.
type Told<'py> = (u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>, Vec<Write<'py>>, u64);

#[pymethods]
impl Log {
    /// Both bounds are inclusive (0: none).
    #[new]
    #[pyo3(signature = (database, start=0, stop=0, *, with_records=true, with_references=false, reverse=false))]
    fn new(
        py: Python<'_>,
        database: &Bound<'_, Database>,
        start: u64,
        stop: u64,
        with_records: bool,
        with_references: bool,
        reverse: bool,
    ) -> PyResult<Log> {
        let admin = database.get().db(py)?.admin();
        let bound = |tid: u64| (tid != 0).then_some(Tid(tid));
        let (from, to) = (bound(start), bound(stop));
        let pages = runtime::wait(py, async move {
            if reverse {
                admin.log_back(from, to, None, with_records).await
            } else {
                admin.log_left(from, to, None, with_records).await
            }
        })?;
        Ok(Log {
            state: Mutex::new(Walk { pages: Some(pages), ready: VecDeque::new() }),
            with_records,
            with_references,
        })
    }

    /// The next transaction; none at the end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Told<'py>>> {
        loop {
            // Taken out while it is waited for: no lock is held without the interpreter's.
            let mut walk = std::mem::take(&mut *self.state.lock());
            let taken = walk.take(py);
            *self.state.lock() = walk;
            let Some(transaction) = taken? else { return Ok(None) };
            if !transaction.own
                && let Some(told) = self.told(py, &transaction)?
            {
                return Ok(Some(told));
            }
        }
    }
}

impl Walk {
    fn take(&mut self, py: Python<'_>) -> PyResult<Option<LoggedTransaction>> {
        while self.ready.is_empty() {
            let Some(pages) = &mut self.pages else { return Ok(None) };
            match runtime::wait(py, pages.next())? {
                Some(page) => self.ready.extend(page),
                None => self.pages = None,
            }
        }
        Ok(self.ready.pop_front())
    }
}

impl Log {
    /// None: there was something in it, and nothing of an application's.
    fn told<'py>(&self, py: Python<'py>, transaction: &LoggedTransaction) -> PyResult<Option<Told<'py>>> {
        let mut writes: Vec<Write<'py>> = Vec::with_capacity(transaction.writes.len());
        for (place, write) in transaction.writes.iter().enumerate() {
            let Some(oid) = bytes_of(py, write.cell.oid) else { continue };
            if !write.cell.key.is_empty() {
                // Entries follow their object.
                let told = write.record.as_ref().and_then(|record| undone_tid(&write.cell, record));
                let object = place.checked_sub(1).map(|before| transaction.writes[before].cell.oid);
                if let (Some(from), true, Some(last)) = (told, object == Some(write.cell.oid), writes.last_mut()) {
                    last.3 = Some(from.0);
                }
                continue;
            }
            let (mut data, mut blob, mut references) = (None, None, None);
            if let Some(record) = &write.record {
                let bad = |bad| errors::invalid(py, format!("cell {}: {bad}", write.cell));
                let record = Record::decode(record).map_err(bad)?;
                if !is_zodb(&record) {
                    continue;
                }
                blob = named(py, &record);
                references = self.with_references.then(|| record.refs.iter().map(|oid| bytes_of(py, *oid)).collect());
                data = Some(PyBytes::new(py, &record.data));
            }
            writes.push((oid, data, write.record_bytes, None, blob, references));
        }
        if writes.is_empty() && !transaction.writes.is_empty() && self.with_records {
            return Ok(None);
        }
        let note = &transaction.note;
        let bytes = |part: &Bytes| PyBytes::new(py, part);
        let (user, description) = (bytes(&note.user), bytes(&note.description));
        let packed_to = transaction.packed_to.0;
        Ok(Some((transaction.tid.0, user, description, bytes(&note.extension), writes, packed_to)))
    }
}

/// What was restored so far: how many, and the last tid.
type Ended = Result<Restored, Error>;

/// Transactions that are written with their own tids.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Restoring {
    state: Mutex<Option<(mpsc::Sender<LoggedTransaction>, JoinHandle<Ended>)>>,
    /// What is said to be packed where they come from.
    packed_to: Tid,
}

/// Up to where a database is packed.
async fn packed_to(admin: &Admin) -> Result<Tid, Error> {
    let newest = admin.log_back(None, None, Some(1), false).await?.collect().await?;
    Ok(newest.first().map_or(Tid::NONE, |transaction| transaction.packed_to))
}

/// What a restored write brings: the oid, the data (none: deleted), from where an undo took the data, and the blob, which is there.
type Brought = (Eight, Option<Vec<u8>>, Option<Eight>, Option<Id>);

#[pymethods]
impl Restoring {
    /// Into a database that was packed, what comes may refer to objects that are not there any more: only with `onto_packed`.
    #[new]
    #[pyo3(signature = (database, onto_packed=false))]
    fn new(py: Python<'_>, database: &Bound<'_, Database>, onto_packed: bool) -> PyResult<Restoring> {
        let admin = database.get().db(py)?.admin();
        let packed_to = if onto_packed { runtime::wait(py, packed_to(&admin))? } else { Tid::NONE };
        let (sender, receiver) = mpsc::channel(ON_THEIR_WAY);
        let work = async move { admin.restore(ReceiverStream::new(receiver)).await };
        let process = runtime::here(py)?;
        let _entered = process.enter();
        let task = tokio::spawn(work);
        Ok(Restoring { state: Mutex::new(Some((sender, task))), packed_to })
    }

    /// Sends one; it is there when `finish` returns.
    fn add(&self, py: Python<'_>, tid: Eight, note: (Vec<u8>, Vec<u8>, Vec<u8>), writes: Vec<Brought>) -> PyResult<()> {
        let mut written = Vec::with_capacity(writes.len());
        let mut write = |cell: Cell, record: Option<Bytes>| {
            written.push(LoggedWrite::new(cell, record));
        };
        for (oid, data, data_txn, blob) in writes {
            let cell: Cell = oid.cell(py)?;
            let told = data.as_ref().and(data_txn).map(|from| undone(py, cell.oid, from.tid())).transpose()?;
            let blob = blob.map(|blob| blob.0);
            let record = data.as_ref().map(|data| encoded(py, cell.oid, data, blob)).transpose()?;
            let record = record.map(|(record, _)| record);
            write(cell, record);
            if let Some((entry, told)) = told {
                write(entry, Some(told));
            }
        }
        let note = Note { user: note.0.into(), description: note.1.into(), extension: note.2.into() };
        let mut transaction = LoggedTransaction::new(tid.tid(), note, written);
        transaction.packed_to = self.packed_to;
        let sender = self.state.lock().as_ref().map(|(sender, _)| sender.clone());
        let Some(sender) = sender else { return Err(errors::invalid(py, "this restore is over; begin a new one")) };
        match runtime::wait_for(py, async move { sender.send(transaction).await })? {
            Ok(()) => Ok(()),
            // The call has ended; why, it says itself.
            Err(_) => self.finish(py).map(|_| ()),
        }
    }

    /// Waits until all are there: how many, and the last tid.
    fn finish(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let Some((sender, task)) = self.state.lock().take() else {
            return Err(errors::invalid(py, "this restore is over; begin a new one"));
        };
        drop(sender);
        let ended = runtime::wait_for(py, task)?;
        let ended = ended.map_err(|failed| errors::invalid(py, format!("the restore did not end: {failed}")))?;
        let restored = ended.map_err(|error| errors::raised(py, &error))?;
        Ok((restored.transactions, restored.last.0))
    }
}
