//! Owns a transaction as Python's typed objects use it: cells by oid and key, records as class, version, references, blobs and data.
//!
//! ```text
//!   begin   a transaction of its own: read, write, commit
//!   lent    one of a worker of evolves: read, write; the worker commits
//!   at      a snapshot, kept from pack until it is closed: read
//! ```
//! Who may use it is said in Python: a thread, or a task. Here it only holds that what was begun before a fork is not touched after it.

use super::blobs::TypedBlobs;
use super::indexes::{Declared, Indexes};
use super::pending::{Bridge, Waiting};
use crate::database::Database;
use crate::zodb::Id;
use crate::{errors, runtime};
use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use zeolite_client::collections::KeptPlace;
use zeolite_client::{Cell, CommitKey, Db, Error, Oid, Range, Record, Tid, View};

/// How long to wait for a commit that was in the way to be told of here.
const CATCH_UP: Duration = Duration::from_secs(1);

/// A transaction, or a snapshot.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Tx {
    process: u32,
    /// None: it is over.
    held: Mutex<Option<Held>>,
    waiting: Waiting,
    indexes: Arc<Indexes>,
    /// There is something to commit.
    wrote: AtomicBool,
    /// The tid of its commit; none: not committed, or not known to be.
    committed: Arc<Mutex<Option<Tid>>>,
}

#[derive(Clone)]
enum Held {
    Read(Arc<View>),
    Write(Arc<zeolite_client::Tx>),
}

impl Deref for Held {
    type Target = View;

    fn deref(&self) -> &View {
        match self {
            Held::Read(view) => view,
            Held::Write(tx) => tx,
        }
    }
}

/// What a transaction had written at a moment.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Savepoint(zeolite_client::Savepoint);

/// Class, version, references, blobs, data.
type Parts<'py> = (String, u32, Vec<u64>, Vec<Bound<'py, PyBytes>>, Bound<'py, PyBytes>);

/// The parts of a record for Python.
pub(crate) fn parts<'py>(py: Python<'py>, record: &Record) -> Parts<'py> {
    let blobs = record.blobs.iter().map(|blob| PyBytes::new(py, &blob.0)).collect();
    let refs = record.refs.iter().map(|oid| oid.0).collect();
    (record.class.clone(), record.version, refs, blobs, PyBytes::new(py, &record.data))
}

fn object<'py>(py: Python<'py>, value: impl IntoPyObjectExt<'py>) -> PyResult<Py<PyAny>> {
    value.into_py_any(py)
}

fn cell(oid: u64, key: &[u8]) -> Cell {
    Cell { oid: Oid(oid), key: Bytes::copy_from_slice(key) }
}

fn out_of_time(key: CommitKey) -> Error {
    Error::OutcomeUnknown { key, reason: "the time of the transaction (deadline) ran out meanwhile".to_owned() }
}

impl Tx {
    fn new(held: Held, waiting: Waiting, indexes: Arc<Indexes>) -> Tx {
        let held = Mutex::new(Some(held));
        Tx {
            process: std::process::id(),
            held,
            waiting,
            indexes,
            wrote: AtomicBool::new(false),
            committed: Arc::default(),
        }
    }

    /// For a step, whose worker commits it.
    pub(crate) fn lent(tx: zeolite_client::Tx, indexes: Arc<Indexes>) -> Tx {
        Tx::new(Held::Write(Arc::new(tx)), Waiting::default(), indexes)
    }

    fn held(&self, py: Python<'_>) -> PyResult<Held> {
        if self.process != std::process::id() {
            return Err(errors::raised(py, &Error::Forked { made_by: self.process }));
        }
        self.held.lock().clone().ok_or_else(|| errors::over(py))
    }

    fn writing(&self, py: Python<'_>) -> PyResult<Arc<zeolite_client::Tx>> {
        match self.held(py)? {
            Held::Write(tx) => Ok(tx),
            Held::Read(_) => Err(errors::invalid(py, "a snapshot is only read; write in a transaction")),
        }
    }

    fn wrote(&self, py: Python<'_>, written: Result<(), Error>) -> PyResult<()> {
        self.wrote.store(true, Ordering::Relaxed);
        written.map_err(|error| errors::raised(py, &error))
    }
}

/// What a transaction is begun with: serializable, fresh, batch; the note's user and description; its time in milliseconds, none: no limit.
#[derive(FromPyObject)]
struct Begin(bool, bool, bool, String, String, Option<u64>);

fn waiting(bridge: Option<Py<Bridge>>, limit_ms: Option<u64>) -> Waiting {
    let until = limit_ms.map(|limit| Instant::now() + Duration::from_millis(limit));
    Waiting { bridge: bridge.map(|bridge| bridge.get().told.clone()), until }
}

#[pymethods]
impl Tx {
    /// Begins a transaction.
    #[staticmethod]
    fn begin(py: Python<'_>, database: &Database, options: Begin, bridge: Option<Py<Bridge>>) -> PyResult<Py<PyAny>> {
        let shared = database.shared(py)?;
        runtime::take_in(py)?;
        let (db, indexes) = (shared.db.clone(), shared.indexes.clone());
        let Begin(serializable, fresh, batch, user, note, limit_ms) = options;
        let (waiting, mut begun) = (waiting(bridge, limit_ms), db.transaction().note(user, note));
        begun = if serializable { begun.serializable() } else { begun };
        begun = if fresh { begun.fresh() } else { begun };
        begun = if batch { begun.batch() } else { begun };
        let kept = waiting.clone();
        waiting.ask(py, async move { begun.begin().await }, move |py, tx| {
            object(py, Tx::new(Held::Write(Arc::new(tx)), kept, indexes))
        })
    }

    /// Opens a snapshot: of a tid, of a time in nanoseconds since 1970, or the newest one. One to come is the newest one.
    #[staticmethod]
    fn at(
        py: Python<'_>,
        database: &Database,
        tid: Option<u64>,
        time: Option<i128>,
        bridge: Option<Py<Bridge>>,
    ) -> PyResult<Py<PyAny>> {
        let (shared, waiting) = (database.shared(py)?, waiting(bridge, None));
        runtime::take_in(py)?;
        let (db, indexes) = (shared.db.clone(), shared.indexes.clone());
        let wanted = tid.map(Tid).or_else(|| time.map(Tid::from_unix_nanos));
        let kept = waiting.clone();
        waiting.ask(py, async move { snapshot(&db, wanted).await }, move |py, view| {
            object(py, Tx::new(Held::Read(Arc::new(view)), kept, indexes))
        })
    }

    /// What became of a commit, by its key and the newest tid that was known when it was made: committed, in flight, unknown, forgotten; and
    /// its tid.
    #[staticmethod]
    fn outcome(
        py: Python<'_>,
        database: &Database,
        key: [u8; 16],
        since: u64,
        bridge: Option<Py<Bridge>>,
    ) -> PyResult<Py<PyAny>> {
        let db = database.db(py)?;
        let asked = async move { db.outcome(zeolite_client::CommitKey(key), Tid(since)).await };
        waiting(bridge, None).ask(py, asked, |py, outcome| {
            object(
                py,
                match outcome {
                    zeolite_client::Outcome::Committed(receipt) => ("committed", receipt.tid.0),
                    zeolite_client::Outcome::InFlight => ("in flight", 0),
                    zeolite_client::Outcome::Unknown => ("unknown", 0),
                    zeolite_client::Outcome::Forgotten => ("forgotten", 0),
                },
            )
        })
    }

    /// The tid that it reads at.
    fn snapshot(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.held(py)?.snapshot().0)
    }

    /// Of which store it is; 0: not known.
    fn store_id(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.held(py)?.db().store_id())
    }

    /// The names of the indexes that are kept with the objects of a class, but those that are declared or written by hand, or are a newer
    /// version's.
    fn unknown_indexes(
        &self,
        py: Python<'_>,
        class: String,
        version: u32,
        declared: Vec<Declared>,
        by_hand: HashSet<String>,
    ) -> PyResult<Py<PyAny>> {
        let (db, indexes) = (self.held(py)?.db().clone(), self.indexes.clone());
        let unknown = async move { indexes.unknown(&db, (&class, version), &declared, &by_hand).await };
        self.waiting.ask(py, unknown, |py, names: Vec<String>| object(py, names))
    }

    /// Where an index of a class is, and whether its name tells the kind of its keys; none: it is nowhere, and is not to be made.
    fn kept_index(&self, py: Python<'_>, class: &str, index: Declared, make: bool) -> PyResult<Py<PyAny>> {
        let name = index.of(class).map_err(|error| errors::raised(py, &error))?;
        let told =
            |py: Python<'_>, found: Option<KeptPlace>| object(py, found.map(|found| (found.oid.0, !found.is_bare)));
        if make {
            let held = self.writing(py)?;
            return self.waiting.ask(py, async move { held.kept_index_or_create(&name).await.map(Some) }, told);
        }
        let held = self.held(py)?;
        self.waiting.ask(py, async move { held.kept_index(&name).await }, told)
    }

    /// The commit is refused when somebody has changed or removed an object since the snapshot.
    fn rests_on(&self, py: Python<'_>, oid: u64) -> PyResult<()> {
        self.writing(py)?.rests_on(Cell::object(Oid(oid)));
        Ok(())
    }

    /// Of the key of an entry, as its server takes it.
    fn key_bytes_max(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.held(py)?.db().key_bytes_max())
    }

    /// Its blobs.
    fn blobs(&self, py: Python<'_>) -> PyResult<TypedBlobs> {
        Ok(TypedBlobs { db: self.held(py)?.db().clone(), waiting: self.waiting.clone() })
    }

    /// What has been written so far, to go back to.
    fn savepoint(&self, py: Python<'_>) -> PyResult<Savepoint> {
        Ok(Savepoint(self.writing(py)?.savepoint()))
    }

    /// Takes back what was written since.
    fn back_to(&self, py: Python<'_>, savepoint: &Savepoint) -> PyResult<()> {
        self.wrote(py, self.writing(py)?.back_to(&savepoint.0))
    }

    /// A fresh oid.
    fn new_oid(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let db = self.held(py)?.db().clone();
        self.waiting.ask(py, async move { db.new_oid().await }, |py, oid| object(py, oid.0))
    }

    /// The record in a cell; none: there is none.
    fn get(&self, py: Python<'_>, oid: u64, key: &[u8]) -> PyResult<Py<PyAny>> {
        let (held, cell) = (self.held(py)?, cell(oid, key));
        let got = async move { held.get(&cell).await };
        self.waiting.ask(py, got, |py, record| object(py, record.map(|record| parts(py, &record))))
    }

    /// The records of objects, in their order.
    fn get_many(&self, py: Python<'_>, oids: Vec<u64>) -> PyResult<Py<PyAny>> {
        let held = self.held(py)?;
        let cells: Vec<Cell> = oids.into_iter().map(|oid| Cell::object(Oid(oid))).collect();
        let got = async move {
            let found = held.get_many(&cells).await?.into_iter().zip(&cells);
            let decode = |(record, cell): (Option<Bytes>, &Cell)| decoded(cell, record);
            found.map(decode).collect::<Result<Vec<Option<Record>>, Error>>()
        };
        self.waiting.ask(py, got, |py, records| {
            let records = records.iter().map(|record| record.as_ref().map(|record| parts(py, record)));
            object(py, PyList::new(py, records.collect::<Vec<_>>())?)
        })
    }

    /// Entries of a collection, from one key to before another, as many as are at hand: key, class, data, references; and whether there may
    /// be more. Without records all but the key are empty.
    #[expect(clippy::too_many_arguments, reason = "they are a range")]
    fn page(
        &self,
        py: Python<'_>,
        oid: u64,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        keys_only: bool,
        limit: Option<u64>,
    ) -> PyResult<Py<PyAny>> {
        let held = self.held(py)?;
        let mut range = Range::between(Bytes::copy_from_slice(from), to.map(Bytes::copy_from_slice));
        range = if reverse { range.reversed() } else { range };
        range = if keys_only { range.keys_only() } else { range };
        range = limit.map_or(range.clone(), |limit| range.limited(limit));
        let got = async move {
            let mut scan = held.scan(Oid(oid), range);
            let page = scan.next_page().await?.unwrap_or_default();
            let decode = |entry: zeolite_client::Entry| {
                let record = match keys_only {
                    true => Record::default(),
                    false => decoded(&cell(oid, &entry.key), Some(entry.record))?.unwrap_or_default(),
                };
                Ok((entry.key, record))
            };
            let entries = page.into_iter().map(decode).collect::<Result<Vec<(Bytes, Record)>, Error>>()?;
            Ok((entries, !scan.is_at_end()))
        };
        self.waiting.ask(py, got, |py, (page, more)| {
            let entry = |(key, record): (Bytes, Record)| {
                let refs: Vec<u64> = record.refs.iter().map(|oid| oid.0).collect();
                (PyBytes::new(py, &key), record.class, PyBytes::new(py, &record.data), refs)
            };
            object(py, (page.into_iter().map(entry).collect::<Vec<_>>(), more))
        })
    }

    /// Writes a record.
    #[expect(clippy::too_many_arguments, reason = "they are a record")]
    fn put(
        &self,
        py: Python<'_>,
        oid: u64,
        key: &[u8],
        class: String,
        version: u32,
        refs: Vec<u64>,
        blobs: Vec<Id>,
        data: &[u8],
    ) -> PyResult<()> {
        let record = record(class, version, refs, blobs, data);
        self.wrote(py, self.writing(py)?.put(cell(oid, key), &record))
    }

    /// Adds an entry at the end, whose key the server completes.
    fn put_stamped(
        &self,
        py: Python<'_>,
        oid: u64,
        class: String,
        refs: Vec<u64>,
        blobs: Vec<Id>,
        data: &[u8],
    ) -> PyResult<()> {
        let encoded = record(class, 1, refs, blobs, data).encode();
        let encoded = encoded.map_err(|bad| errors::invalid(py, bad.to_string()))?;
        self.wrote(py, self.writing(py)?.put_stamped(Oid(oid), Bytes::new(), encoded))
    }

    /// Changes a cell by an operation of its class.
    fn apply(&self, py: Python<'_>, oid: u64, class: &str, operation: &[u8]) -> PyResult<()> {
        let operation = Bytes::copy_from_slice(operation);
        self.wrote(py, self.writing(py)?.apply(Cell::object(Oid(oid)), class, operation))
    }

    /// Deletes a cell.
    fn delete(&self, py: Python<'_>, oid: u64, key: &[u8]) -> PyResult<()> {
        self.wrote(py, self.writing(py)?.delete(cell(oid, key)))
    }

    /// Commits. A signal does not end the waiting for what has become of it, and whoever does not wait any more has not taken it back:
    /// `committed` tells. When the transaction's time is over meanwhile, its key does.
    fn commit(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let held = self.writing(py)?;
        self.reach(py, held.db())?;
        *self.held.lock() = None;
        let tx = Arc::into_inner(held);
        let tx =
            tx.ok_or_else(|| errors::invalid(py, "something of this transaction is still being read; wait for it"))?;
        let (committed, until) = (self.committed.clone(), self.waiting.until);
        let commit = async move {
            let (key, since) = (tx.db().new_commit_key(), tx.snapshot());
            let sent = tx.commit_as(key, since);
            let told = match until {
                Some(until) => tokio::time::timeout_at(until, sent).await.unwrap_or_else(|_| Err(out_of_time(key))),
                None => sent.await,
            };
            *committed.lock() = Some(told?.tid);
            Ok(())
        };
        match self.waiting.bridge {
            None => object(py, runtime::wait_in_order(py, commit, || {})?),
            Some(_) => Waiting { until: None, ..self.waiting.clone() }.ask(py, commit, |py, ()| object(py, ())),
        }
    }

    /// The tid of its commit; none: it is not committed, or that is not known.
    fn committed(&self) -> Option<u64> {
        self.committed.lock().map(|tid| tid.0)
    }

    /// Whether the commit that was in the way has come to be known here; a transaction that is begun now sees it.
    fn caught_up(&self, py: Python<'_>, database: &Database, newest: u64) -> PyResult<Py<PyAny>> {
        let db = database.db(py)?;
        let seen = async move { Ok(db.wait_for(Tid(newest), CATCH_UP).await) };
        self.waiting.ask(py, seen, |py, seen: bool| seen.into_py_any(py))
    }

    /// It is over; what it wrote and did not commit is given up.
    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        let held = self.held.lock().take();
        self.let_go(py, held)
    }
}

impl Tx {
    /// Where there is no connection nothing is sent: the thread waits for one as for an answer, which a signal ends.
    fn reach(&self, py: Python<'_>, db: &Db) -> PyResult<()> {
        if self.waiting.bridge.is_none() && self.wrote.load(Ordering::Relaxed) && db.server().is_none() {
            let db = db.clone();
            self.waiting.ask(py, async move { db.newest().await }, |py, _| object(py, ()))?;
        }
        Ok(())
    }

    fn let_go(&self, py: Python<'_>, held: Option<Held>) -> PyResult<()> {
        if self.process != std::process::id() {
            std::mem::forget(held);
        } else if held.is_some() {
            // A pin is given up on the runtime.
            let process = runtime::here(py)?;
            let _entered = process.enter();
            drop(held);
            process.tell();
        }
        Ok(())
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let held = self.held.get_mut().take();
        if held.is_none() {
            return;
        }
        let kept = Mutex::new(held);
        Python::try_attach(|py| self.let_go(py, kept.lock().take()));
    }
}

async fn snapshot(db: &Db, wanted: Option<Tid>) -> Result<View, Error> {
    let Some(wanted) = wanted else { return Ok(db.pin().await?.view()) };
    let known = db.position();
    let wanted = if wanted <= known { wanted } else { wanted.min(db.newest().await?) };
    Ok(match wanted {
        // Nothing was there yet, and nothing can be packed.
        Tid::NONE => db.at(Tid::NONE),
        wanted => db.pin_at(wanted).await?.view(),
    })
}

fn decoded(cell: &Cell, record: Option<Bytes>) -> Result<Option<Record>, Error> {
    let decode = |record: Bytes| Record::decode(&record);
    record.map(decode).transpose().map_err(|bad| {
        let text = format!("cell {cell}: {bad}; verify the database");
        zeolite_client::Fault::new(zeolite_client::FaultKind::Damaged, text).into()
    })
}

fn record(class: String, version: u32, refs: Vec<u64>, blobs: Vec<Id>, data: &[u8]) -> Record {
    let (refs, blobs) = (refs.into_iter().map(Oid).collect(), blobs.into_iter().map(|id| id.0).collect());
    Record { class, version, refs, blobs, data: Bytes::copy_from_slice(data) }
}
