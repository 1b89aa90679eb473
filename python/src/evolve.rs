//! Owns evolves for Python: planning, running and taking back jobs, with steps that are Python functions on persistent objects.
//!
//! ```text
//!   step   of ZODB's objects: one chunk, on a thread of its own with the interpreter's lock: `zeolite.evolve` makes a connection of ZODB on it
//!   object of typed objects: one of them, in a transaction of the worker's
//!   run    the worker of the client, on the runtime's threads; this thread waits, and looks at signals: Ctrl-C ends it after its chunk
//!   each   the same for a list of objects, on the thread that waits, in the connection that it has
//! ```

mod object;
mod step;

use crate::database::Database;
use crate::runtime::Here;
use crate::zodb::Eight;
use crate::{errors, runtime};
use object::ObjectStep;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::HashMap;
use step::{Ask, Made, PythonStep};
use zeolite_client::Oid;
use zeolite_client::evolve::{self, AnyStep, DryRunOptions, NewJob, Plan, Report, Stop, Worker};
use zeolite_zodb::oids::to_zodb;

/// What is shown of a quarantine.
const BAD_MAX: u64 = 1000;

/// A job, to be run and steered.
#[pyclass(module = "zeolite._zeolite", frozen)]
pub(crate) struct Job {
    database: Py<Database>,
    job: evolve::Job,
    /// Its objects are typed ones, not ZODB's.
    typed: bool,
    /// Of the worker that runs.
    stop: Mutex<Option<Stop>>,
}

impl Job {
    fn of(database: Py<Database>, job: evolve::Job, typed: bool) -> Job {
        Job { database, job, typed, stop: Mutex::default() }
    }
}

fn new_job(py: Python<'_>, name: &str, plan: Plan, gate: bool, settings: &HashMap<String, String>) -> PyResult<NewJob> {
    let mut new = NewJob::new(name, plan);
    new.gate = gate;
    for (name, value) in settings {
        new.settings.set(name, value).map_err(|fault| errors::raised(py, &fault.into()))?;
    }
    Ok(new)
}

fn counts(py: Python<'_>, report: &Report) -> PyResult<Py<PyDict>> {
    let told = PyDict::new(py);
    let counts = &report.counts;
    told.set_item("phase", report.phase.text())?;
    told.set_item("done", counts.done)?;
    told.set_item("changed", counts.changed)?;
    told.set_item("kept", counts.kept)?;
    told.set_item("bad", counts.bad)?;
    told.set_item("stepped_again", counts.stepped_again)?;
    told.set_item("chunks", counts.chunks)?;
    Ok(told.unbind())
}

/// An object in the quarantine: its oid, class and version, and why.
type Failed = (Option<u64>, String, u32, String);

/// An object that would change: its oid, and its pickles before and after.
type Pickles = (Option<u64>, Py<PyBytes>, Option<Py<PyBytes>>);

/// A dry run: numbers, errors with how often, and samples.
type Tried = (HashMap<&'static str, u64>, Vec<(String, u64)>, Vec<Pickles>);

/// An oid as the program has it, as a number; none: it is Zeolite's own.
fn number(oid: u64, typed: bool) -> Option<u64> {
    if typed { Some(oid) } else { to_zodb(Oid(oid)).map(u64::from_be_bytes) }
}

#[pymethods]
impl Job {
    /// Writes a job down; nothing runs yet.
    #[staticmethod]
    #[pyo3(signature = (database, name, class, below, gate, settings, typed=false))]
    #[expect(clippy::too_many_arguments, reason = "they are Python's arguments")]
    fn plan(
        py: Python<'_>,
        database: Py<Database>,
        name: &str,
        class: &str,
        below: u32,
        gate: bool,
        settings: HashMap<String, String>,
        typed: bool,
    ) -> PyResult<Job> {
        let (db, new) = (database.get().db(py)?, new_job(py, name, Plan::below(class, below), gate, &settings)?);
        let job = runtime::wait(py, async move { evolve::plan(&db, new).await })?;
        Ok(Job::of(database, job, typed))
    }

    /// The same for a list of objects.
    #[staticmethod]
    fn plan_these(
        py: Python<'_>,
        database: Py<Database>,
        name: &str,
        oids: Vec<Eight>,
        settings: HashMap<String, String>,
    ) -> PyResult<Job> {
        let oids = oids.into_iter().map(|oid| Ok(oid.oid(py)?.0)).collect::<PyResult<Vec<u64>>>()?;
        let (db, new) = (database.get().db(py)?, new_job(py, name, Plan::Oids { oids }, false, &settings)?);
        let job = runtime::wait(py, async move { evolve::plan(&db, new).await })?;
        Ok(Job::of(database, job, false))
    }

    /// The job of a name, if there is one.
    #[staticmethod]
    #[pyo3(signature = (database, name, typed=false))]
    fn find(py: Python<'_>, database: Py<Database>, name: &str, typed: bool) -> PyResult<Option<Job>> {
        let db = database.get().db(py)?;
        let jobs = runtime::wait(py, async move { evolve::list(&db).await })?;
        Ok(jobs.into_iter().find(|job| job.name() == name).map(|job| Job::of(database, job, typed)))
    }

    /// Steps objects at a snapshot, and writes nothing.
    #[staticmethod]
    #[pyo3(signature = (database, class, below, steps, objects_max, samples, typed=false))]
    #[expect(clippy::too_many_arguments, reason = "they are Python's arguments")]
    fn dry_run(
        py: Python<'_>,
        database: Py<Database>,
        class: &str,
        below: u32,
        steps: Py<PyAny>,
        objects_max: u64,
        samples: usize,
        typed: bool,
    ) -> PyResult<Tried> {
        let (db, new) =
            (database.get().db(py)?, new_job(py, "a dry run", Plan::below(class, below), false, &HashMap::new())?);
        let (name, made) = ("a dry run".to_owned(), Made::new(database, steps));
        let options = DryRunOptions::new().objects_max(objects_max).samples(samples);
        let step: Box<dyn AnyStep> = match typed {
            true => Box::new(ObjectStep::new(name, made.clone())),
            false => Box::new(PythonStep::new(name, made.clone())),
        };
        let run = runtime::wait(py, async move { evolve::dry_run(&db, &new, &*step, &options).await });
        made.raised()?;
        let run = run?;
        let numbers = [
            ("total", run.total),
            ("stepped", run.stepped),
            ("changed", run.changed),
            ("kept", run.kept),
            ("bad", run.bad),
            ("other_writes", run.other_writes),
        ];
        let data = |record: &zeolite_client::Record| PyBytes::new(py, &record.data).unbind();
        let samples = run.samples.iter().filter_map(|sample| {
            Some((number(sample.cell.oid.0, typed), sample.old.as_ref().map(data)?, sample.new.as_ref().map(data)))
        });
        let errors = run.errors.iter().map(|kind| (kind.error.clone(), kind.objects)).collect();
        Ok((numbers.into_iter().collect(), errors, samples.collect()))
    }

    /// Works until the job ends, or a signal: then to the end of the chunk.
    fn run(
        &self,
        py: Python<'_>,
        step_name: String,
        steps: Py<PyAny>,
        tasks: usize,
        step_changed: bool,
    ) -> PyResult<Py<PyDict>> {
        let worker = Worker::new(&self.job).tasks(tasks).step_changed(step_changed);
        let stop = worker.stop_handle();
        let made = Made::new(self.database.clone_ref(py), steps);
        let report = match self.typed {
            true => runtime::wait_in_order(py, worker.run(ObjectStep::new(step_name, made.clone())), || stop.stop()),
            false => runtime::wait_in_order(py, worker.run(PythonStep::new(step_name, made.clone())), || stop.stop()),
        };
        made.raised()?;
        counts(py, &report?)
    }

    /// The same on this thread: it steps the chunks itself, and looks at the job now and then while it waits.
    fn run_here(&self, py: Python<'_>, step_name: String, steps: Py<PyAny>, look: Py<PyAny>) -> PyResult<Py<PyDict>> {
        let worker = Worker::new(&self.job);
        let stop = worker.stop_handle();
        *self.stop.lock() = Some(stop.clone());
        let made = Made::new(self.database.clone_ref(py), steps);
        let (step, asked) = PythonStep::new(step_name, made.clone()).served();
        let here =
            Here { serve: |py: Python<'_>, ask: Ask| ask.serve(py), look: |py: Python<'_>| look.call0(py).map(drop) };
        let report = runtime::wait_serving(py, worker.run(step), || stop.stop(), asked, here);
        *self.stop.lock() = None;
        made.raised()?;
        counts(py, &report?)
    }

    /// The worker that runs here ends after its chunk.
    fn stop(&self) {
        if let Some(stop) = &*self.stop.lock() {
            stop.stop();
        }
    }

    /// Forgets the job, with its ledger; what it did stays.
    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        let (db, name) = (self.database.get().db(py)?, self.job.name().to_owned());
        runtime::wait(py, async move { evolve::forget(&db, &name).await }).map(|_| ())
    }

    /// Takes the job back.
    fn undo(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let worker = Worker::new(&self.job);
        let (stop, job) = (worker.stop_handle(), self.job.clone());
        let undo = async move {
            job.begin_undo().await?;
            worker.undo().await
        };
        let report = runtime::wait_in_order(py, undo, || stop.stop())?;
        counts(py, &report)
    }

    /// Lets what is in the quarantine be tried again.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        runtime::wait(py, self.job.resume())
    }

    /// Phase, reason, and numbers.
    fn show(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let shown = runtime::wait(py, self.job.show())?;
        let told = PyDict::new(py);
        told.set_item("phase", shown.job.phase.text())?;
        told.set_item("state", shown.state())?;
        told.set_item("step", &shown.job.step)?;
        told.set_item("done", shown.done)?;
        told.set_item("total", shown.total)?;
        told.set_item("owed", shown.owed)?;
        told.set_item("changed", shown.counts.changed)?;
        told.set_item("bad", shown.counts.bad_now())?;
        told.set_item("workers", shown.workers)?;
        told.set_item("atomic", shown.job.settings.atomic)?;
        Ok(told.unbind())
    }

    /// The objects on which the step has failed: oid, class, version, and why.
    fn quarantine(&self, py: Python<'_>) -> PyResult<Vec<Failed>> {
        let bad = runtime::wait(py, self.job.quarantine(BAD_MAX))?;
        Ok(bad.into_iter().map(|bad| (number(bad.oid, self.typed), bad.class, bad.version, bad.error)).collect())
    }

    /// What could not be taken back, and why.
    fn not_undone(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let left = runtime::wait(py, self.job.not_undone(BAD_MAX))?;
        Ok(left.into_iter().map(|left| format!("{left:?}")).collect())
    }
}
