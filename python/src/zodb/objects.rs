//! Owns the objects of a database beside any transaction: fresh oids, single revisions, who wrote an object, all of them by the page.
//!
//! A revision below what is packed is read from the object's history: pack may have left it.

use super::oids::{Eight, bytes_of};
use super::record::is_zodb;
use crate::database::{Database, Shared};
use crate::{errors, runtime};
use futures_util::future::try_join_all;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::atomic::Ordering;
use zeolite_client::{Cell, Db, Oid, Record, Revision, Tid};

/// Data, serial, the serial of the next.
type Told<'py> = (Option<Bound<'py, PyBytes>>, u64, Option<u64>);
/// Data, serial.
type Short<'py> = (Option<Bound<'py, PyBytes>>, u64);
/// Serial, size, user, description, deleted.
type Past<'py> = (u64, usize, Bound<'py, PyBytes>, Bound<'py, PyBytes>, bool);

/// A page of current records: oid, serial, data; and where the next page begins (none: this was the last).
type Page<'py> = (Vec<(Bound<'py, PyBytes>, u64, Bound<'py, PyBytes>)>, Option<u64>);

/// Where a page of current records begins.
#[derive(FromPyObject)]
enum PageFrom {
    /// Behind the one that told this.
    Page(u64),
    /// At this oid; the first is eight zeros.
    Oid(Eight),
}

/// Revisions that one page of history has at most, and objects of one page of current records.
const HISTORY_PAGE: u32 = 100;
const RECORDS_PAGE: u32 = 1000;
/// Objects of which it is asked at once whether they are there.
const ASKED_AT_ONCE: usize = 32;

/// The objects of a database.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Objects {
    database: Py<Database>,
}

#[pymethods]
impl Objects {
    #[new]
    fn new(database: Py<Database>) -> Objects {
        Objects { database }
    }

    /// A fresh oid. Before the first transaction with a time of ours the server is not asked: it would write down what it handed out,
    /// and a history that is as old as that could not be restored any more. The transaction takes what it uses; of two
    /// processes that begin at once, one meets a conflict.
    fn new_oid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let shared = self.database.get().shared(py)?;
        if shared.db.position() < Tid::from_unix_nanos(0) {
            let first = shared.first_oids.fetch_add(1, Ordering::Relaxed) + 1;
            return Ok(PyBytes::new(py, &first.to_be_bytes()));
        }
        loop {
            if let Some(oid) = bytes_of(py, runtime::wait(py, shared.db.new_oid())?) {
                return Ok(oid);
            }
        }
    }

    /// The newest revision of an object before a tid: its data (none: deleted, or there is none), its serial, and that of the next.
    fn before<'py>(&self, py: Python<'py>, oid: Eight, tid: Eight) -> PyResult<Told<'py>> {
        let (shared, cell) = (self.database.get().shared(py)?, oid.cell(py)?);
        let revision = runtime::wait(py, shared.before(&cell, tid.tid()))?;
        Ok((data(py, &cell, &revision)?, revision.tid.0, revision.end.map(|end| end.0)))
    }

    /// The data of one revision, as pack has left it; none: there is no such revision, or it deleted the object.
    fn exact<'py>(&self, py: Python<'py>, oid: Eight, tid: Eight) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (shared, cell) = (self.database.get().shared(py)?, oid.cell(py)?);
        let revision = runtime::wait(py, shared.kept(&cell, tid.tid().next()))?;
        if revision.tid == tid.tid() { data(py, &cell, &revision) } else { Ok(None) }
    }

    /// The newest revisions of objects: their data (none: deleted, or there is none) and serial. They are not older than a tid.
    #[pyo3(signature = (oids, at_least=0))]
    fn newest<'py>(&self, py: Python<'py>, oids: Vec<Eight>, at_least: u64) -> PyResult<Vec<Short<'py>>> {
        let cells = oids.into_iter().map(|oid| oid.cell(py)).collect::<PyResult<Vec<Cell>>>()?;
        let shared = self.database.get().shared(py)?;
        newest(py, &shared, &cells, Tid(at_least))
    }

    /// Which of these objects there are, asked of the server: what a pack collects, the cache is not told.
    fn exist(&self, py: Python<'_>, oids: Vec<Eight>) -> PyResult<Vec<bool>> {
        let cells = oids.into_iter().map(|oid| oid.cell(py)).collect::<PyResult<Vec<Cell>>>()?;
        let shared = self.database.get().shared(py)?;
        runtime::wait(py, async {
            let mut exist = Vec::with_capacity(cells.len());
            for some in cells.chunks(ASKED_AT_ONCE) {
                let mut asked = Vec::with_capacity(some.len());
                for cell in some {
                    asked.push(shared.kept(cell, Tid::MAX));
                }
                exist.extend(try_join_all(asked).await?.iter().map(|newest| newest.record.is_some()));
            }
            Ok(exist)
        })
    }

    /// Revisions of an object, newest first.
    fn history<'py>(&self, py: Python<'py>, oid: Eight, count: usize) -> PyResult<Vec<Past<'py>>> {
        history(py, &self.database.get().db(py)?, &oid.cell(py)?, count)
    }

    /// Objects with their records as of a tid, behind where a page has ended, or from an oid of ZODB's on.
    fn records<'py>(&self, py: Python<'py>, at: u64, begin: PageFrom) -> PyResult<Page<'py>> {
        let admin = self.database.get().db(py)?.admin();
        let after = match begin {
            PageFrom::Page(ended) => Oid(ended),
            PageFrom::Oid(oid) => Oid(oid.oid(py)?.0.saturating_sub(1)),
        };
        let ask = async move { admin.records(Tid(at), after, RECORDS_PAGE).await };
        let page = runtime::wait(py, ask)?;
        let (page, more) = (page.items, page.more);
        let last = page.last().map(|(oid, _)| oid.0);
        let mut told = Vec::with_capacity(page.len());
        for (oid, revision) in page {
            let (Some(number), Some(record)) = (bytes_of(py, oid), revision.record) else { continue };
            let record = Record::decode(&record).map_err(|bad| errors::invalid(py, format!("oid {oid}: {bad}")))?;
            if is_zodb(&record) {
                told.push((number, revision.tid.0, PyBytes::new(py, &record.data)));
            }
        }
        Ok((told, last.filter(|_| more)))
    }
}

fn data<'py>(py: Python<'py>, cell: &Cell, revision: &Revision) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let Some(record) = &revision.record else { return Ok(None) };
    let data = Record::data_of(record).map_err(|bad| errors::invalid(py, format!("cell {cell}: {bad}")))?;
    Ok(Some(PyBytes::new(py, &data)))
}

fn newest<'py>(py: Python<'py>, shared: &Shared, cells: &[Cell], at_least: Tid) -> PyResult<Vec<Short<'py>>> {
    let revisions = runtime::wait(py, async {
        shared.seen(at_least).await?;
        let view = shared.db.now();
        view.prefetch(cells).await?;
        let mut revisions = Vec::with_capacity(cells.len());
        for cell in cells {
            revisions.push(view.revision(cell).await?);
        }
        Ok(revisions)
    })?;
    cells.iter().zip(&revisions).map(|(cell, revision)| Ok((data(py, cell, revision)?, revision.tid.0))).collect()
}

fn history<'py>(py: Python<'py>, db: &Db, cell: &Cell, count: usize) -> PyResult<Vec<Past<'py>>> {
    let revisions = runtime::wait(py, async {
        let (mut all, mut before) = (Vec::new(), None);
        while all.len() < count {
            let wanted = u32::try_from(count - all.len()).unwrap_or(u32::MAX).min(HISTORY_PAGE);
            let page = db.history(cell, before, wanted, true).await?;
            before = page.items.last().map(|past| past.revision.tid);
            all.extend(page.items);
            if !page.more || before.is_none() {
                break;
            }
        }
        Ok(all)
    })?;
    let told = revisions.iter().map(|past| {
        let data = data(py, cell, &past.revision)?;
        let size = data.as_ref().map_or(0, |data| data.as_bytes().len());
        let (user, description) = (PyBytes::new(py, &past.note.user), PyBytes::new(py, &past.note.description));
        Ok((past.revision.tid.0, size, user, description, data.is_none()))
    });
    told.collect()
}
