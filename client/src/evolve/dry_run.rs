//! Owns the dry run: the step on the plan's objects at a pinned snapshot, without committing anything; what would change, where
//! it would fail, and how long it would take.

use super::coverage::{self, Covered};
use super::job::{JobRecord, Phase};
use super::joint::{Joint, parted};
use super::known;
use super::ledger::{Part, RangeRecord};
use super::own_records::OwnRecords;
use super::plan::NewJob;
use super::source::{Item, Source};
use super::step::AnyStep;
use super::stepping::{StepResult, SteppedCell, Stepping, Wanted, bad};
use crate::collections::kept::root_name;
use crate::connect::Db;
use crate::errors::Result;
use crate::tx::{IndexKey, KeptIndex, Pin, Place, Prefetched, Staged};
use bytes::Bytes;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::{Cell, Oid, Record, hash};

/// Objects that are read at once.
const BATCH: usize = 500;
/// Different errors that are told apart.
const ERRORS_MAX: usize = 50;
/// Unique keys of the steps that are remembered.
const CLAIMS_MAX: usize = if cfg!(test) { 3 } else { 5_000_000 };
/// How much of an error tells its kind.
const ERROR_CHARS: usize = 160;

/// How a dry run is made.
///
/// ```
/// let options = zeolite_client::evolve::DryRunOptions::new().objects_max(1000);
/// assert_eq!((options.objects_max, options.samples), (1000, 5));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DryRunOptions {
    /// Objects to step, at most; 0: all.
    pub objects_max: u64,
    /// Samples of each kind to keep.
    pub samples: usize,
}

impl Default for DryRunOptions {
    fn default() -> DryRunOptions {
        DryRunOptions { objects_max: 0, samples: 5 }
    }
}

impl DryRunOptions {
    /// All objects, five samples of each kind.
    pub fn new() -> DryRunOptions {
        DryRunOptions::default()
    }
}

zeolite_proto::setters! { DryRunOptions { objects_max: u64, samples: usize, } }

/// One object before and after.
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
/// let found = evolve::dry_run(&db, &new, &evolve::upgrade::<Page>(), &evolve::DryRunOptions::new().samples(1)).await?;
/// for sample in &found.samples {
///     println!("{}: {:?} becomes {:?}", sample.cell, sample.old, sample.new);
/// }
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Sample {
    /// Where.
    pub cell: Cell,
    /// Before.
    pub old: Option<Record>,
    /// After; none: deleted.
    pub new: Option<Record>,
}

/// An error that the step gave.
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
/// let found = evolve::dry_run(&db, &new, &evolve::upgrade::<Page>(), &evolve::DryRunOptions::new().samples(1)).await?;
/// for kind in &found.errors {
///     println!("{} objects of {}: {}", kind.objects, kind.class, kind.error);
/// }
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ErrorKind {
    /// The class of the objects.
    pub class: String,
    /// Its text, shortened.
    pub error: String,
    /// On how many objects.
    pub objects: u64,
    /// The first of them.
    pub first: Cell,
}

/// What a dry run has found.
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
/// let found = evolve::dry_run(&db, &new, &evolve::upgrade::<Page>(), &evolve::DryRunOptions::new().samples(1)).await?;
/// assert_eq!((found.total, found.bad), (0, 0));
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct DryRun {
    /// Objects in the plan.
    pub total: u64,
    /// Objects that were stepped.
    pub stepped: u64,
    /// Would be changed.
    pub changed: u64,
    /// Would be deleted.
    pub deleted: u64,
    /// Would stay as they are.
    pub kept: u64,
    /// Need nothing.
    pub found_done: u64,
    /// The step fails on them.
    pub bad: u64,
    /// Writes to other cells: entries, counters.
    pub other_writes: u64,
    /// Bytes that would be written.
    pub bytes: u64,
    /// Unique keys that were not held against those of the other objects: there are too many of them to remember.
    pub keys_unlooked: u64,
    /// Errors by class and text, the most frequent first.
    pub errors: Vec<ErrorKind>,
    /// Objects before and after.
    pub samples: Vec<Sample>,
    /// Objects a second, of the steps alone.
    pub rate: f64,
    /// How long the whole plan would take one worker on an idle server.
    pub predicted: Duration,
}

/// Runs the steps of a plan without committing. Nothing is written, not even the job.
pub async fn dry_run(db: &Db, new: &NewJob, step: &dyn AnyStep, options: &DryRunOptions) -> Result<DryRun> {
    new.check()?;
    db.newest().await?;
    let pin = db.pin().await?;
    let (view, own) = (pin.view(), OwnRecords::of(&pin.view()).await?);
    own.check(&view, &new.plan).await?;
    let Covered { ranges, lists } = coverage::covered(&view, &new.plan, &own, 1).await?;
    let job = new.record(pin.snapshot(), &ranges);
    if !new.allow_empty {
        known::check(&view, &new.plan, job.total).await?;
    }
    let mut run = Running {
        db,
        pin: &pin,
        job: &job,
        step,
        options,
        found: DryRun { total: job.total, ..DryRun::default() },
        errors: BTreeMap::new(),
        claims: Claims::default(),
    };
    let began = Instant::now();
    for range in ranges.iter().filter(|range| !matches!(range.part, Part::Lists { .. })) {
        run.range(range).await?;
    }
    for list in lists {
        let cells = list.cells(&new.plan).into_iter();
        let items: Vec<Item> = cells.map(|cell| Item { cell, after: None, hot: false, former: None }).collect();
        for batch in items.chunks(BATCH) {
            run.batch(batch).await?;
        }
    }
    let took = began.elapsed();
    let (errors, mut found) = (run.errors, run.found);
    found.keys_unlooked = run.claims.unlooked;
    found.errors = errors.into_values().collect();
    found.errors.sort_by_key(|kind| std::cmp::Reverse(kind.objects));
    found.rate = found.stepped as f64 / took.as_secs_f64().max(1e-6);
    found.predicted = predicted(db, &job, &found).await?;
    Ok(found)
}

/// The steps, and a commit for each chunk: as large as the target time lets it be.
async fn predicted(db: &Db, job: &JobRecord, found: &DryRun) -> Result<Duration> {
    let settings = &job.settings;
    let in_time = found.rate * settings.chunk_target_ms as f64 / 1000.0;
    let in_bytes = settings.chunk_bytes_max as f64 * found.stepped as f64 / (found.bytes as f64).max(1.0);
    let objects = in_time.min(in_bytes).clamp(1.0, f64::from(settings.chunk_objects_max));
    let stages = db.admin().status().await?.stages;
    let commit_s = stages.iter().find(|stage| stage.name == "fsync").map_or(0.0, |fsync| fsync.p50_ns as f64 / 1e9);
    let seconds = found.total as f64 / found.rate.max(1e-6) + found.total as f64 / objects * commit_s;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

struct Running<'a> {
    db: &'a Db,
    pin: &'a Pin,
    job: &'a JobRecord,
    step: &'a dyn AnyStep,
    options: &'a DryRunOptions,
    found: DryRun,
    errors: BTreeMap<(String, String), ErrorKind>,
    claims: Claims,
}

/// Whose the unique keys are that the steps give their objects: of the dry run's transactions none sees what another one writes.
#[derive(Default)]
struct Claims {
    owners: hash::Map<(&'static str, KeptIndex, Bytes), Oid>,
    unlooked: u64,
}

impl Claims {
    /// Takes the keys of one step; the error says which is another object's.
    fn take(&mut self, claims: &[(IndexKey, Oid)]) -> Result<(), String> {
        for (key, object) in claims {
            let place = (key.class, key.index, key.key.clone());
            if let Some(owner) = self.owners.get(&place).filter(|owner| *owner != object) {
                let (index, key) = (root_name(key.class, key.index), key.index.shown(&key.key));
                return Err(format!(
                    "object {object} cannot have the key {key} in the unique index {index:?}: the step gives it to object {owner}; \
                     choose another key"
                ));
            }
            if self.owners.len() < CLAIMS_MAX {
                self.owners.insert(place, *object);
            } else {
                self.unlooked += 1;
            }
        }
        Ok(())
    }
}

impl Running<'_> {
    fn is_enough(&self) -> bool {
        self.options.objects_max > 0 && self.found.stepped >= self.options.objects_max
    }

    async fn range(&mut self, range: &RangeRecord) -> Result<()> {
        let mut source = Source::new(Oid::ROOT, range);
        while !self.is_enough() {
            let items = source.peek(self.db, self.job, range, BATCH).await?;
            if items.is_empty() {
                return Ok(());
            }
            source.passed(items.len());
            self.batch(&items).await?;
        }
        Ok(())
    }

    async fn batch(&mut self, items: &[Item]) -> Result<()> {
        let place = Place::newest(self.db).at(self.pin.snapshot());
        let cells: Vec<Cell> = items.iter().map(|item| item.cell.clone()).collect();
        let ahead = Prefetched::read(self.db, place, &cells).await?;
        let view = ahead.view(self.db);
        let stepping = Stepping { db: self.db, job_oid: Oid(0), job: self.job, step: self.step };
        let left = match self.options.objects_max {
            0 => usize::MAX,
            most => usize::try_from(most - self.found.stepped.min(most)).unwrap_or(usize::MAX),
        };
        let wanted = items.iter().take(left).cloned().map(Wanted::new);
        if let Some(step) = self.step.joint() {
            let joint = Joint { stepping: &stepping, step, ahead: &ahead, place };
            for SteppedCell { item, made, .. } in parted(joint.all(wanted.collect()).await?) {
                let old = view.get(&item.cell).await?;
                self.count(&item.cell, old, made);
            }
            return Ok(());
        }
        let mut steps = pin!(stepping.all(wanted, &ahead, self.pin.snapshot()));
        while let Some(stepped) = steps.next().await {
            let SteppedCell { item, made, .. } = stepped?;
            let old = view.revision(&item.cell).await?;
            let made = match &made {
                StepResult::Work { work, .. } => match self.claims.take(&work.claims) {
                    Ok(()) => made,
                    Err(why) => bad(&item.cell, old.record.as_ref(), old.tid, &why),
                },
                _ => made,
            };
            self.count(&item.cell, old.record.and_then(|record| Record::decode(&record).ok()), made);
        }
        Ok(())
    }

    fn count(&mut self, cell: &Cell, old: Option<Record>, made: StepResult) {
        let found = &mut self.found;
        found.stepped += 1;
        match made {
            StepResult::Work { work, .. } => {
                let (own, other): (Vec<_>, Vec<_>) = work.cells.iter().partition(|(written, _)| *written == cell);
                found.other_writes += (other.len() + work.stamped.len()) as u64;
                let puts = work.cells.values().filter_map(|staged| match staged {
                    Staged::Put(record) => Some(record.len() as u64),
                    _ => None,
                });
                found.bytes += puts.sum::<u64>();
                let new = match own.first().map(|(_, staged)| staged) {
                    None => {
                        found.kept += 1;
                        return;
                    }
                    Some(Staged::Delete) => {
                        found.deleted += 1;
                        (found.deleted, None)
                    }
                    Some(Staged::Put(record)) => {
                        found.changed += 1;
                        (found.changed, Record::decode(record).ok())
                    }
                    Some(Staged::Apply { .. }) => {
                        found.changed += 1;
                        return;
                    }
                };
                if new.0 <= self.options.samples as u64 {
                    found.samples.push(Sample { cell: cell.clone(), old, new: new.1 });
                }
            }
            StepResult::Bad(bad) => {
                found.bad += 1;
                let text: String = bad.error.chars().take(ERROR_CHARS).collect();
                let key = (bad.class.clone(), text.clone());
                if self.errors.len() < ERRORS_MAX || self.errors.contains_key(&key) {
                    let first = cell.clone();
                    let new = ErrorKind { class: bad.class, error: text, objects: 0, first };
                    self.errors.entry(key).or_insert(new).objects += 1;
                }
            }
            StepResult::FoundDone | StepResult::StillBad | StepResult::PutOff => found.found_done += 1,
        }
    }
}

impl NewJob {
    /// The record of the job as it would be planned.
    pub(crate) fn record(&self, snapshot: zeolite_proto::Tid, ranges: &[RangeRecord]) -> JobRecord {
        JobRecord {
            name: self.name.clone(),
            target: self.target(),
            plan: self.plan.clone(),
            settings: self.settings.clone(),
            phase: Phase::Planned,
            pause: None,
            reason: String::new(),
            snapshot: snapshot.0,
            planned: snapshot.0,
            started: 0,
            ended: 0,
            total: ranges.iter().map(|range| range.total).sum(),
            ranges: u32::try_from(ranges.len()).unwrap_or(u32::MAX),
            certificate: None,
            step: String::new(),
            beside: self.beside,
        }
    }
}
