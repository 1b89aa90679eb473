//! Owns how a job's course is written while it runs, and read afterwards: a report for people, on which nothing rests.
//!
//! ```text
//!   first chunk      its own commit has the first sample: of a range of one chunk it is the only one
//!   later ones       a sample when it is time for one (`zeolite_proto::evolve::course`), in a commit of its own
//! ```
//! So what later chunks do does not depend on it. It conflicts when the range was taken over; then the other one goes on with the course, and
//! this sample is left out, as after any other fault. The first sample tells the snapshot of its chunk as its moment, since the tid of a commit
//! is not known before it; the next one that is written puts that right.

use super::job::Job;
use super::lease::Lease;
use super::ledger::{Counts, UNDO_RANGE, alone, encoded, kept};
use super::pace::Pace;
use crate::connect::Db;
use crate::errors::Result;
use crate::revision::Range;
use crate::tx::{Place, View};
use crate::typed::{Persistent, decode_record};
use bytes::Bytes;
use std::collections::BTreeMap;
pub use zeolite_proto::evolve::CourseSample;
use zeolite_proto::evolve::{CourseRecord, Kept, Stored, course_cell};
use zeolite_proto::{Cell, Change, Oid, Pressure, Tid, Write};

impl Persistent for CourseRecord {
    const CLASS: &str = <CourseRecord as Stored>::CLASS;
}

/// Writes the course of the ranges that one worker holds, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// The range, and its course as stored.
    known: Option<(u32, Kept<CourseRecord>)>,
}

/// The first sample of a range, as the range's first chunk carries it.
#[derive(Clone, Debug)]
pub(crate) struct First {
    cell: Cell,
    course: Kept<CourseRecord>,
    sample: CourseSample,
}

impl First {
    /// Where it is.
    pub(crate) fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Its write, when it is known what the chunk makes of the range.
    pub(crate) fn write(&self, counts: Counts, snapshot: Tid) -> Result<Write> {
        let change = Change::Put(encoded(&self.course_with(counts, snapshot))?);
        Ok(Write { cell: self.cell.clone(), base: self.course.tid, change, stamped: false })
    }

    fn course_with(&self, counts: Counts, tid: Tid) -> CourseRecord {
        let mut course = self.course.record.clone();
        course.add(CourseSample { tid: tid.0, counts, ..self.sample.clone() });
        course
    }
}

impl Recorder {
    /// What the next chunk of the range carries: a sample, unless this worker has written its course before.
    pub(crate) async fn first(&mut self, db: &Db, job: Oid, held: &Lease, pace: &Pace) -> Option<First> {
        if self.known.as_ref().is_some_and(|(range, _)| *range == held.number) {
            return None;
        }
        let cell = course_cell(job, held.number);
        let course = match kept(&db.now(), &cell).await {
            Ok(course) => course.unwrap_or(Kept { tid: Tid::NONE, record: CourseRecord::default() }),
            Err(error) => {
                tracing::debug!(%error, range = held.number, "the course cannot be read; the chunk carries none");
                return None;
            }
        };
        if course.record.is_due(held.tid) {
            return Some(First { cell, course, sample: sample(held, pace, &db.pressure().unwrap_or_default()) });
        }
        self.known = Some((held.number, course));
        None
    }

    /// The chunk that carried it is committed.
    pub(crate) fn carried(&mut self, first: &First, held: &Lease) {
        let record = first.course_with(held.record.counts, held.tid);
        self.known = Some((held.number, Kept { tid: held.tid, record }));
    }

    /// A chunk of the range is committed.
    pub(crate) async fn note(&mut self, db: &Db, job: Oid, held: &Lease, pace: &Pace) {
        let known = self.known.as_ref().filter(|(range, _)| *range == held.number);
        let is_due = known.is_none_or(|(_, course)| course.record.is_due(held.tid));
        if !is_due {
            return;
        }
        if let Err(error) = self.write(db, job, held, pace).await {
            tracing::debug!(%error, range = held.number, "a sample of the course is left out");
            self.known = None;
        }
    }

    async fn write(&mut self, db: &Db, job: Oid, held: &Lease, pace: &Pace) -> Result<()> {
        let cell = course_cell(job, held.number);
        let known = self.known.take().filter(|(range, _)| *range == held.number).map(|(_, course)| course);
        let mut course = match known {
            Some(course) => course,
            None => kept(&db.now(), &cell).await?.unwrap_or(Kept { tid: Tid::NONE, record: CourseRecord::default() }),
        };
        if course.record.is_due(held.tid) {
            course.record.add(sample(held, pace, &db.pressure().unwrap_or_default()));
            course.tid = send(db, &cell, &course).await?;
        }
        self.known = Some((held.number, course));
        Ok(())
    }
}

fn sample(held: &Lease, pace: &Pace, felt: &Pressure) -> CourseSample {
    let seconds = felt.window_ms.max(1) as f64 / 1000.0;
    CourseSample {
        tid: held.tid.0,
        counts: held.record.counts,
        live_p99_us: felt.live_p99_us,
        quiet_p99_us: felt.quiet_p99_us,
        live_rate: felt.live_commits as f64 / seconds,
        conflict_rate: felt.live_conflicts as f64 / seconds,
        why: pace.why.clone(),
    }
}

async fn send(db: &Db, cell: &Cell, course: &Kept<CourseRecord>) -> Result<Tid> {
    let at = Place::newest(db);
    let change = Change::Put(encoded(&course.record)?);
    let draft = alone(db, at, Write { cell: cell.clone(), base: course.tid, change, stamped: false });
    Ok(at.at(at.snapshot.max(course.tid)).send(db, &draft).await?.tid)
}

/// How a job went, the oldest first: for every sample of any range what all of them had done until then.
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
/// evolve::Worker::new(&job).run(evolve::upgrade::<Page>()).await?;
/// let course = job.course().await?;
/// assert!(course.undo.is_empty(), "it was not taken back");
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Course {
    /// Its steps. Empty for jobs of programs that kept none, and for a whole plan in one commit.
    pub work: Vec<CourseSample>,
    /// How it was taken back.
    pub undo: Vec<CourseSample>,
}

impl Job {
    /// How it went so far.
    pub async fn course(&self) -> Result<Course> {
        let view = super::job::newest_view(&self.db).await?;
        let mut work = courses(&view, self.oid()).await?;
        let undo = work.remove(&course_cell(self.oid(), UNDO_RANGE).key);
        Ok(Course { work: summed(work.into_values()), undo: summed(undo.into_iter()) })
    }
}

async fn courses(view: &View, job: Oid) -> Result<BTreeMap<Bytes, CourseRecord>> {
    let mut scan = view.scan(job, Range::prefix("course/"));
    let mut all = BTreeMap::new();
    while let Some(entry) = scan.next().await? {
        let course = decode_record(&Cell::entry(job, entry.key.clone()), &entry.record)?;
        all.insert(entry.key, course);
    }
    Ok(all)
}

/// The samples of all ranges in the order of time, each with the sum of what every range had done until then.
fn summed(courses: impl Iterator<Item = CourseRecord>) -> Vec<CourseSample> {
    let mut samples: Vec<(usize, CourseSample)> = courses
        .enumerate()
        .flat_map(|(range, course)| course.samples.into_iter().map(move |one| (range, one)))
        .collect();
    samples.sort_by_key(|(_, sample)| sample.tid);
    let mut newest: BTreeMap<usize, Counts> = BTreeMap::new();
    let mut sum = |(range, sample): (usize, CourseSample)| {
        newest.insert(range, sample.counts);
        let counts = newest.values().fold(Counts::default(), |sum, counts| sum.plus(*counts));
        CourseSample { counts, ..sample }
    };
    samples.into_iter().map(&mut sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_summed_as_they_were_at_each_moment() {
        let sample =
            |tid, done| CourseSample { tid, counts: Counts { done, ..Counts::default() }, ..CourseSample::default() };
        let course = |samples: &[CourseSample]| CourseRecord { samples: samples.to_vec(), ..CourseRecord::default() };
        let courses = [course(&[sample(1, 10), sample(5, 20)]), course(&[sample(3, 7), sample(6, 9)])];
        let done: Vec<u64> = summed(courses.into_iter()).iter().map(|point| point.counts.done).collect();
        assert_eq!(done, [10, 17, 27, 29]);
    }
}
