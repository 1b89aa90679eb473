//! Owns the snapshot of an instance: where one of ZODB's connections reads.
//!
//! ```text
//!   poll        to the newest place; what others wrote since the last one, from the feed, without a round trip
//!   load        the cache that the process shares, else the server; keeps the place open for pack's pins
//!   completed   the transaction is over: nothing is kept open until the next load
//! ```

use super::oids::{Eight, bytes_of};
use crate::database::{Database, Shared};
use crate::pins::Open;
use crate::runtime::Process;
use crate::{errors, runtime};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use zeolite_client::{Cell, Error, Oid, Place, Record, Tid};

/// Where one of ZODB's connections reads.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Snapshot {
    database: Py<Database>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    at: Option<At>,
    /// Commits of this instance since the last poll: its objects have those states already.
    own: Vec<Tid>,
}

struct At {
    shared: Arc<Shared>,
    place: Place,
    open: Option<Open>,
}

impl At {
    fn here(&self) -> Result<(), Error> {
        self.is_of(std::process::id())
    }

    fn is_of(&self, process: u32) -> Result<(), Error> {
        let made_by = self.shared.process;
        if made_by == process { Ok(()) } else { Err(Error::Forked { made_by }) }
    }
}

impl Drop for At {
    fn drop(&mut self) {
        if self.here().is_err() {
            // What the parent keeps open is not given up here.
            std::mem::forget(self.open.take());
            std::mem::forget(self.shared.clone());
        }
    }
}

/// Data and serial.
type Loaded<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

impl Snapshot {
    /// Where it reads: for drafts whose bases were read here. None: it has not read since it was made.
    pub(super) fn place(&self, py: Python<'_>) -> PyResult<Option<Place>> {
        let state = self.state.lock();
        state.at.as_ref().map(|at| at.here().map(|()| at.place)).transpose().map_err(|error| errors::raised(py, &error))
    }

    /// One that stays at a place.
    pub(crate) fn at(py: Python<'_>, database: Py<Database>, place: Place) -> PyResult<Snapshot> {
        let shared = database.get().shared(py)?;
        let state = State { at: Some(At { shared, place, open: None }), own: Vec::new() };
        Ok(Snapshot { database, state: Mutex::new(state) })
    }

    pub(super) fn committed(&self, tid: Tid) {
        self.state.lock().own.push(tid);
    }

    /// The place with the connection, opened for reading.
    fn reading(&self, py: Python<'_>) -> PyResult<(Arc<Process>, Arc<Shared>, Place)> {
        let process = runtime::here(py)?;
        if self.state.lock().at.is_none() {
            self.poll(py)?;
        }
        let mut state = self.state.lock();
        let at = state.at.as_mut().ok_or_else(|| errors::invalid(py, "this snapshot was closed while it was read"))?;
        at.is_of(process.id).map_err(|error| errors::raised(py, &error))?;
        if at.open.is_none() {
            at.open = Some(at.shared.pins.open(at.place.snapshot(), &at.shared.db, &process));
        }
        Ok((process, at.shared.clone(), at.place))
    }
}

/// What was written on the way from one place to another, but for these commits.
fn changed<'py>(
    py: Python<'py>,
    shared: &Shared,
    (former, place): (Place, Place),
    own: &[Tid],
) -> Option<Vec<Bound<'py, PyBytes>>> {
    if former == place {
        return Some(Vec::new());
    }
    let commits = shared.db.changes(former, place)?;
    let others = commits.iter().filter(|changed| !own.contains(&changed.tid));
    let oids: BTreeSet<Oid> = others.flat_map(|changed| changed.oids.iter().copied()).collect();
    Some(oids.into_iter().filter_map(|oid| bytes_of(py, oid)).collect())
}

#[pymethods]
impl Snapshot {
    #[new]
    fn new(database: Py<Database>) -> Snapshot {
        Snapshot { database, state: Mutex::default() }
    }

    /// Moves to the newest place that this process knows of; the oids that others wrote on the way, or none where that is not known
    /// any more.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Option<Vec<Bound<'py, PyBytes>>>> {
        let shared = self.database.get().shared(py)?;
        runtime::take_in(py)?;
        let place = shared.db.place();
        let mut state = self.state.lock();
        let own = std::mem::take(&mut state.own);
        let former = state.at.replace(At { shared: shared.clone(), place, open: None });
        let Some(former) = former else { return Ok(None) };
        if former.here().is_err() || !Arc::ptr_eq(&former.shared, &shared) {
            return Ok(None);
        }
        Ok(changed(py, &shared, (former.place, place), &own))
    }

    /// The oids that were written behind another snapshot of the same connection; none where that is not known any more.
    fn since<'py>(&self, py: Python<'py>, former: &Snapshot) -> Option<Vec<Bound<'py, PyBytes>>> {
        let (former, state) = (former.state.lock().at.as_ref().map(|at| at.place)?, self.state.lock());
        let at = state.at.as_ref().filter(|at| at.here().is_ok() && former.snapshot() <= at.place.snapshot())?;
        changed(py, &at.shared, (former, at.place), &[])
    }

    /// The tid that it reads at.
    fn tid(&self) -> u64 {
        self.state.lock().at.as_ref().map_or(0, |at| at.place.snapshot().0)
    }

    /// Nothing is kept open until the next load.
    fn completed(&self) {
        if let Some(at) = &mut self.state.lock().at
            && at.here().is_ok()
        {
            at.open = None;
        }
    }

    /// The object's data and serial here; none: it is not there.
    fn load<'py>(&self, py: Python<'py>, oid: Eight) -> PyResult<Option<Loaded<'py>>> {
        let cell = oid.cell(py)?;
        let (process, shared, place) = self.reading(py)?;
        let view = place.view(&shared.db);
        let revision = runtime::wait_in(&process, py, async { view.revision(&cell).await })?;
        let Some(record) = revision.record else { return Ok(None) };
        let data = Record::data_of(&record).map_err(|bad| errors::invalid(py, format!("cell {cell}: {bad}")))?;
        Ok(Some((PyBytes::new(py, &data), PyBytes::new(py, &revision.tid.0.to_be_bytes()))))
    }

    /// Brings objects into the cache.
    fn prefetch(&self, py: Python<'_>, oids: Vec<Eight>) -> PyResult<()> {
        let cells = oids.into_iter().map(|oid| oid.cell(py)).collect::<PyResult<Vec<Cell>>>()?;
        let (process, shared, place) = self.reading(py)?;
        let view = place.view(&shared.db);
        runtime::wait_in(&process, py, async { view.prefetch(&cells).await })
    }
}
