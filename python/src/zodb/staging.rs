//! Owns the staging of one transaction: what it writes and checks, its two phases, and what has moved on in between.
//!
//! ```text
//!   put, delete, check  ...  hold ──> stale: [oid, base, newest, what is staged, why]
//!                              resolved, for each   amend ──> stale, again
//!                              finish ──> tid
//! ```
//! Nothing is sent before the first phase.

use super::blobs::Id;
use super::oids::{Eight, bytes_of};
use super::record;
use super::snapshot::Snapshot;
use crate::database::Database;
use crate::{errors, runtime};
use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::HashMap;
use std::time::Duration;
use zeolite_client::{BlobId, Cell, Db, Error, Note, Oid, Place, Prepared, RawDraft, Tid};

/// What one transaction writes.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Staging {
    database: Py<Database>,
    snapshot: Option<Py<Snapshot>>,
    process: u32,
    state: Mutex<State>,
}

struct State {
    /// None once it was sent.
    draft: Option<RawDraft>,
    held: Option<Prepared>,
    /// What is put in the place of stale cells.
    parts: Option<RawDraft>,
    note: Note,
    /// What was staged, for who resolves: the bases, and the data (none: deleted; not there: a check alone).
    bases: HashMap<Oid, Tid>,
    staged: HashMap<Oid, Option<Bytes>>,
    blobs: HashMap<Oid, BlobId>,
    /// Whose data undos have put back.
    undone: HashMap<Oid, Tid>,
}

/// The oid, its base, its newest revision, whether it is written, the data (none: to be deleted), and if the server has decided that it is a conflict, why.
type Stale<'py> = (Bound<'py, PyBytes>, u64, u64, bool, Option<Bound<'py, PyBytes>>, Option<String>);

/// Whether anything is staged, the data, the blob.
type Standing<'py> = (bool, Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>);

impl Staging {
    fn here(&self, py: Python<'_>) -> PyResult<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(errors::raised(py, &Error::Forked { made_by: self.process }))
    }

    /// Where its bases were read.
    fn place(&self, py: Python<'_>) -> PyResult<Place> {
        let read_at = self.snapshot.as_ref().map(|snapshot| snapshot.get().place(py)).transpose()?.flatten();
        read_at.map_or_else(|| self.database.get().place(py), Ok)
    }

    fn stale<'py>(py: Python<'py>, state: &State) -> Vec<Stale<'py>> {
        let Some(held) = &state.held else { return Vec::new() };
        // What an undo tells beside an object is made anew with it.
        let objects = held.stale().iter().filter(|stale| stale.cell.key.is_empty());
        let told = objects.filter_map(|stale| {
            let oid = stale.cell.oid;
            let base = state.bases.get(&oid).map_or(0, |base| base.0);
            let staged = state.staged.get(&oid);
            let data = staged.and_then(|data| data.as_ref().map(|data| PyBytes::new(py, data)));
            let why = (!stale.is_left()).then(|| stale.reason.clone());
            Some((bytes_of(py, oid)?, base, stale.newest.0, staged.is_some(), data, why))
        });
        told.collect()
    }
}

fn over(py: Python<'_>) -> PyErr {
    errors::invalid(py, "this transaction was sent already; begin a new one")
}

#[pymethods]
impl Staging {
    /// Begins one; with the snapshot at which what it writes was read, if there is one.
    #[new]
    #[pyo3(signature = (database, snapshot=None))]
    fn new(py: Python<'_>, database: Py<Database>, snapshot: Option<Py<Snapshot>>) -> PyResult<Staging> {
        let mut staging = Staging {
            database,
            snapshot,
            process: std::process::id(),
            state: Mutex::new(State {
                draft: None,
                held: None,
                parts: None,
                note: Note::default(),
                bases: HashMap::new(),
                staged: HashMap::new(),
                blobs: HashMap::new(),
                undone: HashMap::new(),
            }),
        };
        let (db, place): (Db, Place) = (staging.database.get().db(py)?, staging.place(py)?);
        staging.state.get_mut().draft = Some(db.draft(place));
        Ok(staging)
    }

    /// Who, why, and the application's own bytes.
    fn note(&self, user: &[u8], description: &[u8], extension: &[u8]) {
        let note = Note { extension: Bytes::copy_from_slice(extension), ..Note::new(user, description) };
        self.state.lock().note = note;
    }

    /// Stages a record: the base is the serial that the writer knows (0: it must never have existed); `data_txn`: an undo has taken
    /// it from there; `blob`: it names that one.
    #[pyo3(signature = (oid, base, data, data_txn=None, blob=None))]
    fn put(
        &self,
        py: Python<'_>,
        oid: Eight,
        base: Eight,
        data: &[u8],
        data_txn: Option<Eight>,
        blob: Option<Id>,
    ) -> PyResult<()> {
        self.here(py)?;
        let cell = oid.cell(py)?;
        let blob = blob.map(|blob| blob.0);
        let (record, staged) = record::encoded(py, cell.oid, data, blob)?;
        let mut state = self.state.lock();
        let draft = state.draft.as_mut().ok_or_else(|| over(py))?;
        let put = draft.put(cell.clone(), base.tid(), record);
        put.map_err(|error| errors::raised(py, &error))?;
        if let Some(from) = data_txn {
            let (entry, told) = record::undone(py, cell.oid, from.tid())?;
            // Its newest revision is of the same undo as the object's, or older.
            draft.put(entry, base.tid(), told).map_err(|error| errors::raised(py, &error))?;
            state.undone.insert(cell.oid, from.tid());
        }
        state.bases.entry(cell.oid).or_insert(base.tid());
        state.staged.insert(cell.oid, Some(staged));
        match blob {
            Some(blob) => state.blobs.insert(cell.oid, blob),
            None => state.blobs.remove(&cell.oid),
        };
        Ok(())
    }

    /// Stages a deletion.
    fn delete(&self, py: Python<'_>, oid: Eight, base: Eight) -> PyResult<()> {
        self.here(py)?;
        let cell = oid.cell(py)?;
        let mut state = self.state.lock();
        state.draft.as_mut().ok_or_else(|| over(py))?.delete(cell.clone(), base.tid());
        state.bases.entry(cell.oid).or_insert(base.tid());
        state.staged.insert(cell.oid, None);
        Ok(())
    }

    /// Demands that an object has not changed since.
    fn check(&self, py: Python<'_>, oid: Eight, base: Eight) -> PyResult<()> {
        self.here(py)?;
        let cell = oid.cell(py)?;
        let mut state = self.state.lock();
        state.draft.as_mut().ok_or_else(|| over(py))?.check(cell.clone(), base.tid());
        state.bases.entry(cell.oid).or_insert(base.tid());
        Ok(())
    }

    /// What is staged for an object so far: whether anything, the data (none: to be deleted), and the blob.
    fn staged<'py>(&self, py: Python<'py>, oid: Eight) -> PyResult<Standing<'py>> {
        let (oid, state) = (oid.oid(py)?, self.state.lock());
        let staged = state.staged.get(&oid);
        let data = staged.and_then(|data| data.as_ref().map(|data| PyBytes::new(py, data)));
        let blob = state.blobs.get(&oid).filter(|_| data.is_some()).map(|blob| PyBytes::new(py, &blob.0));
        Ok((staged.is_some(), data, blob))
    }

    /// The first phase; what is stale.
    #[pyo3(signature = (limit_ms=0))]
    fn hold<'py>(&self, py: Python<'py>, limit_ms: u64) -> PyResult<Vec<Stale<'py>>> {
        self.here(py)?;
        let draft = {
            let mut state = self.state.lock();
            let mut draft = state.draft.take().ok_or_else(|| over(py))?;
            draft.set_note(state.note.clone());
            draft.take_oids();
            draft
        };
        let held = runtime::wait(py, draft.hold(Duration::from_millis(limit_ms)))?;
        let mut state = self.state.lock();
        state.held = Some(held);
        Ok(Staging::stale(py, &state))
    }

    /// The objects that the server's resolvers merged.
    fn merged<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let state = self.state.lock();
        let merged = state.held.as_ref().map_or(&[][..], |held| held.merged());
        merged.iter().filter_map(|merged| bytes_of(py, merged.cell.oid)).collect()
    }

    /// What a stale object is to become, made from its newest revision; sent by `amend`.
    fn resolved(&self, py: Python<'_>, oid: Eight, base: u64, data: &[u8]) -> PyResult<()> {
        self.here(py)?;
        let cell: Cell = oid.cell(py)?;
        // What names a blob has no resolution: its pickle says nothing of it.
        let (record, staged) = record::encoded(py, cell.oid, data, None)?;
        let (db, place) = (self.database.get().db(py)?, self.database.get().place(py)?);
        let mut state = self.state.lock();
        let from = state.undone.get(&cell.oid).copied();
        let note = state.note.clone();
        let parts = state.parts.get_or_insert_with(|| {
            let mut parts = db.draft(place);
            parts.set_note(note);
            parts
        });
        parts.put(cell.clone(), Tid(base), record).map_err(|error| errors::raised(py, &error))?;
        if let Some(from) = from {
            let (entry, told) = record::undone(py, cell.oid, from)?;
            parts.put(entry, Tid(base), told).map_err(|error| errors::raised(py, &error))?;
        }
        state.bases.insert(cell.oid, Tid(base));
        state.staged.insert(cell.oid, Some(staged));
        Ok(())
    }

    /// Sends what was resolved; what is stale then.
    fn amend<'py>(&self, py: Python<'py>) -> PyResult<Vec<Stale<'py>>> {
        self.here(py)?;
        let (held, parts) = {
            let mut state = self.state.lock();
            (state.held.take(), state.parts.take())
        };
        let (Some(mut held), Some(parts)) = (held, parts) else { return Err(over(py)) };
        let replaced = runtime::wait(py, async { held.replace(&parts).await });
        let mut state = self.state.lock();
        state.held = Some(held);
        replaced.map(|()| Staging::stale(py, &state))
    }

    /// The second phase.
    fn finish(&self, py: Python<'_>) -> PyResult<u64> {
        self.here(py)?;
        let held = self.state.lock().held.take().ok_or_else(|| over(py))?;
        let receipt = runtime::wait(py, held.finish())?;
        if let Some(snapshot) = &self.snapshot {
            snapshot.get().committed(receipt.tid);
        }
        Ok(receipt.tid.0)
    }

    /// Gives everything up; the server is told, and nobody waits for that.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.here(py)?;
        let process = runtime::here(py)?;
        let _entered = process.enter();
        let mut state = self.state.lock();
        drop((state.draft.take(), state.held.take(), state.parts.take()));
        drop(state);
        // Others wait for what it holds.
        py.detach(|| process.turn());
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let left = (state.draft.take(), state.held.take(), state.parts.take());
        if self.process != std::process::id() {
            // The parent's.
            std::mem::forget(left);
        } else if left.1.is_some() {
            // Without the runtime around it, what is held would stay so until its time limit.
            Python::attach(|py| {
                let Ok(process) = runtime::here(py) else { return };
                let _entered = process.enter();
                drop(left);
                process.tell();
            });
        }
    }
}
