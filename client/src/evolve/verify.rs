//! Owns the scrub: a look at every object of a job's result, read from the database itself and not from counts.
//!
//! Each object of the plan's class (or each entry, or each listed object) is loaded at one pinned snapshot: it must be in the
//! target's shape, and whatever the application checks must hold. [`index_holds`] is such a check, in both directions: every object
//! is in the index under its keys, and every entry of the index has its object.

use super::job::{Job, newest_view};
use super::ledger::{self, Part, RangeRecord};
use super::plan::Plan;
use super::source::Source;
use crate::collections::{Entries, Index, UniqueIndex};
use crate::errors::Result;
use crate::keys::Key;
use crate::tx::{View, damaged};
use crate::typed::{Persistent, Ref, decode_record};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::marker::PhantomData;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Tid};

/// Problems that are told; the others are counted.
const PROBLEMS_MAX: usize = 100;
const BATCH: usize = 1000;

/// What a scrub has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
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

/// What must hold for every object, and for the whole.
pub trait Check: Send + Sync {
    /// What is wrong with one object.
    fn object<'a>(&'a self, view: &'a View, cell: &'a Cell, record: &'a Bytes) -> BoxFuture<'a, Result<Vec<String>>>;

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
    for (cell, record) in cells.iter().zip(view.get_many(cells).await?) {
        let Some(record) = record else { continue };
        verified.objects += 1;
        let header = Header::parse(&record).map_err(|bad| damaged(cell, &bad))?;
        if target.is_some_and(|target| header.version < target) {
            verified.problem(format!("{cell} of class {:?} is still at version {}", header.class, header.version));
        }
        for check in checks {
            for problem in check.object(view, cell, &record).await? {
                verified.problem(format!("{cell}: {problem}"));
            }
        }
    }
    Ok(())
}

/// An index of either kind, as a check looks at it.
trait Keyed<K, T>: Send + Sync {
    /// Whether it has the object under the key.
    fn has<'a>(&'a self, view: &'a View, key: &'a K, reference: Ref<T>) -> BoxFuture<'a, Result<bool>>;
    /// All that it has.
    fn all<'v>(&self, view: &'v View) -> Entries<'v, (K, Ref<T>)>;
}

impl<K: Key + Send + Sync, T: Persistent> Keyed<K, T> for Index<K, T> {
    fn has<'a>(&'a self, view: &'a View, key: &'a K, reference: Ref<T>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.contains(view, key, reference))
    }

    fn all<'v>(&self, view: &'v View) -> Entries<'v, (K, Ref<T>)> {
        self.iter(view)
    }
}

impl<K: Key + Send + Sync, T: Persistent> Keyed<K, T> for UniqueIndex<K, Ref<T>> {
    fn has<'a>(&'a self, view: &'a View, key: &'a K, reference: Ref<T>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { Ok(self.get(view, key).await? == Some(reference)) })
    }

    fn all<'v>(&self, view: &'v View) -> Entries<'v, (K, Ref<T>)> {
        self.iter(view)
    }
}

struct IndexHolds<I, K, T, F> {
    index: I,
    keys: F,
    types: PhantomData<fn() -> (K, T)>,
}

/// An index that holds every object of the plan under each of its keys, and nothing else.
pub fn index_holds<K, T, F>(index: Index<K, T>, keys: F) -> impl Check
where
    K: Key + PartialEq + std::fmt::Debug + Send + Sync + 'static,
    T: Persistent + Send + Sync + 'static,
    F: Fn(&T) -> Vec<K> + Send + Sync,
{
    IndexHolds { index, keys, types: PhantomData }
}

/// The same of a unique index: each key is of one object, so two objects with one key are a problem.
pub fn unique_index_holds<K, T, F>(index: UniqueIndex<K, Ref<T>>, keys: F) -> impl Check
where
    K: Key + PartialEq + std::fmt::Debug + Send + Sync + 'static,
    T: Persistent + Send + Sync + 'static,
    F: Fn(&T) -> Vec<K> + Send + Sync,
{
    IndexHolds { index, keys, types: PhantomData }
}

impl<I, K, T, F> Check for IndexHolds<I, K, T, F>
where
    I: Keyed<K, T>,
    K: Key + PartialEq + std::fmt::Debug + Send + Sync + 'static,
    T: Persistent + Send + Sync + 'static,
    F: Fn(&T) -> Vec<K> + Send + Sync,
{
    fn object<'a>(&'a self, view: &'a View, cell: &'a Cell, record: &'a Bytes) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let value: T = decode_record(cell, record)?;
            let mut problems = Vec::new();
            for key in (self.keys)(&value) {
                if !self.index.has(view, &key, Ref::new(cell.oid)).await? {
                    problems.push(format!("is not in the index under {key:?}"));
                }
            }
            Ok(problems)
        })
    }

    fn whole<'a>(&'a self, view: &'a View, problem: &'a mut (dyn FnMut(String) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut entries = self.index.all(view);
            while let Some((key, reference)) = entries.next().await? {
                let value: Option<T> = view.find(reference).await?;
                match value {
                    None => problem(format!("the index has {key:?} for {reference:?}, which does not exist")),
                    Some(value) if !(self.keys)(&value).contains(&key) => {
                        problem(format!("the index has {key:?} for {reference:?}, which has no such key"));
                    }
                    Some(_) => {}
                }
            }
            Ok(())
        })
    }
}
