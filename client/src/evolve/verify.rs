//! Owns the scrub: a look at every object of a job's result, read from the database itself and not from counts.
//!
//! Each object of the plan's class (or each entry, or each listed object) is loaded at one pinned snapshot: it must be in the
//! target's shape, and whatever the application checks must hold. That an index holds is such a check (`keys_hold`).

use super::job::{Job, newest_view};
use super::ledger::{self, Part, RangeRecord};
use super::plan::Plan;
use super::source::Source;
use crate::errors::Result;
use crate::tx::{View, damaged};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Tid};

/// Problems that are told; the others are counted.
const PROBLEMS_MAX: usize = 100;
const BATCH: usize = 1000;

/// What a scrub has found.
///
/// ```
/// use zeolite_client::{Persistent, evolve};
///
/// #[derive(serde::Serialize, serde::Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page", version = 2)]
/// struct Page {
///     title: String,
/// }
///
/// # zeolite_testing::with_db(async |db| {
/// let verified = evolve::verify_indexes::<Page>(&db).await?;
/// assert_eq!((verified.objects, verified.problems_total), (0, 0));
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Verified {
    /// The snapshot that was looked at.
    pub tid: Tid,
    /// Objects that were looked at.
    pub objects: u64,
    /// The first problems; empty: all is well.
    pub problems: Vec<String>,
    /// How many there are.
    pub problems_total: u64,
}

impl Verified {
    pub(super) fn problem(&mut self, problem: String) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

/// What is wrong with objects: each problem with the place of its object among those that were looked at.
pub type Problems = Vec<(usize, String)>;

/// What must hold for every object, and for the whole.
///
/// ```
/// use zeolite_client::{Persistent, evolve};
///
/// #[derive(serde::Serialize, serde::Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page", version = 2)]
/// struct Page {
///     title: String,
/// }
///
/// # zeolite_testing::with_db(async |db| {
/// let new = evolve::NewJob::new("pages-2", evolve::Plan::below("wiki.Page", 2)).allow_empty(true);
/// let job = evolve::plan(&db, new).await?;
/// let verified = job.verify(&[&evolve::kept_indexes_hold::<Page>()]).await?; // and checks of your own
/// assert!(verified.problems.is_empty());
/// # Ok(()) });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no check of a job's result",
    note = "checks are made by `evolve::index_holds`, `evolve::unique_index_holds` and `evolve::kept_indexes_hold`; or implement `Check`"
)]
pub trait Check: Send + Sync {
    /// What is wrong with one object.
    fn object<'a>(&'a self, view: &'a View, cell: &'a Cell, record: &'a Bytes) -> BoxFuture<'a, Result<Vec<String>>>;

    /// What is wrong with many; unless told otherwise, each is looked at by itself.
    fn objects<'a>(&'a self, view: &'a View, objects: &'a [(Cell, Bytes)]) -> BoxFuture<'a, Result<Problems>> {
        Box::pin(async move {
            let mut problems = Problems::new();
            for (place, (cell, record)) in objects.iter().enumerate() {
                let found = self.object(view, cell, record).await?;
                problems.extend(found.into_iter().map(|problem| (place, problem)));
            }
            Ok(problems)
        })
    }

    /// What is wrong with the whole; called at the end, hands over problem after problem.
    fn whole<'a>(&'a self, view: &'a View, problem: &'a mut (dyn FnMut(String) + Send)) -> BoxFuture<'a, Result<()>>;
}

impl Job {
    /// Looks at every object of the job's result.
    pub async fn verify(&self, checks: &[&dyn Check]) -> Result<Verified> {
        newest_view(&self.db).await?;
        let pin = self.db.pin().await?;
        let view = pin.view();
        let mut job = view.load(self.reference).await?;
        let ranges = ledger::ranges(&view, self.oid(), job.ranges).await?;
        (job.snapshot, job.planned) = (view.snapshot().0, view.snapshot().0);
        job.settings.heat_max = 0;
        let mut walk = Vec::new();
        if let Plan::Objects { below_version, .. } = &mut job.plan {
            // All of the class: those in the new shape are what the job was for.
            *below_version = 0;
            walk.push(RangeRecord::new(Part::Objects { after: 0, last: u64::MAX }, 0));
        } else if let Plan::Collection { from, to, .. } = &job.plan {
            // All that are there, those that were made since the plan as well.
            walk.push(RangeRecord::new(Part::Entries { from: from.clone(), to: to.clone() }, 0));
        } else {
            walk.extend(ranges.iter().map(|range| RangeRecord::new(range.part.clone(), range.total)));
        }
        let mut verified = Verified { tid: view.snapshot(), ..Verified::default() };
        for range in walk.iter().filter(|range| range.part != Part::Finish) {
            let mut source = Source::new(self.oid(), range);
            loop {
                let items = source.peek(&self.db, &job, range, BATCH).await?;
                if items.is_empty() {
                    break;
                }
                source.passed(items.len());
                let cells: Vec<Cell> = items.into_iter().map(|item| item.cell).collect();
                let target = job.target.as_ref().map(|target| target.version);
                check_cells(&view, &cells, target, checks, &mut verified).await?;
            }
        }
        for check in checks {
            check.whole(&view, &mut |problem| verified.problem(problem)).await?;
        }
        Ok(verified)
    }
}

pub(super) async fn check_cells(
    view: &View,
    cells: &[Cell],
    target: Option<u32>,
    checks: &[&dyn Check],
    verified: &mut Verified,
) -> Result<()> {
    let records = cells.iter().zip(view.get_many(cells).await?);
    let objects: Vec<(Cell, Bytes)> = records.filter_map(|(cell, record)| Some((cell.clone(), record?))).collect();
    verified.objects += objects.len() as u64;
    for (cell, record) in &objects {
        let header = Header::parse(record).map_err(|bad| damaged(cell, &bad))?;
        if target.is_some_and(|target| header.version < target) {
            verified.problem(format!("{cell} of class {:?} is still at version {}", header.class, header.version));
        }
    }
    for check in checks {
        for (place, problem) in check.objects(view, &objects).await? {
            verified.problem(format!("{}: {problem}", objects[place].0));
        }
    }
    Ok(())
}
