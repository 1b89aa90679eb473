//! Owns what the numbers tell of evolves: read at each scrape from the records that their workers write.
//!
//! ```text
//!   root "zeolite.evolves" ──> directory: name ──> job ──> its ranges     all at one visible tid
//!          the newest JOBS_READ_MAX are read; of those, unfinished ones first, JOBS_TOLD_MAX are told
//! ```
//! Jobs are objects that clients write, so anything may be in them: what cannot be read is counted and left out, and never
//! keeps the other numbers from being told. Everything is bounded, whatever the records say.

use super::families::{Families, Label};
use crate::engine::Engine;
use crate::store::Range;
use bytes::Bytes;
use serde::Serialize;
use std::cmp::Reverse;
use std::fmt::Error;
use zeolite_proto::evolve::{
    JobRecord, Kept, Phase, ROOT_NAME, RangeRecord, Standing, State, Stored, UNDO_RANGE, range_cell,
};
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Fault, Oid, Tid};

/// Names of the directory that are looked at.
const DIRECTORY_MAX: usize = 10_000;
/// Jobs whose records are read, the newest ones.
const JOBS_READ_MAX: usize = 500;
/// Jobs that are told.
const JOBS_TOLD_MAX: usize = 50;
/// No evolve can be planned with a longer name.
const NAME_BYTES_MAX: usize = 200;
/// What a job owes is counted up to here.
const OWED_MAX: usize = 1000;
/// Ranges that are read for all of them together.
const RANGES_MAX: usize = 10_000;

/// All jobs as of one tid.
#[derive(Default)]
pub(crate) struct Evolves {
    told: Vec<Told>,
    /// How many are in each state, of those that were read, in the order of [`State::ALL`].
    states: [u64; State::ALL.len()],
    /// Jobs that are not told one by one.
    left_out: u64,
    /// Records that are not what they should be.
    unreadable: u64,
}

/// One evolve, for whoever looks at it.
#[derive(Serialize)]
pub(crate) struct EvolveTold<'a> {
    name: &'a str,
    state: &'static str,
    /// Why it is in that state: what it waits for, or who holds it; empty: nothing to say.
    why: &'a str,
    until_unix_ms: u64,
    is_over: bool,
    done: u64,
    total: u64,
    changed: u64,
    bad: u64,
    stepped_again: u64,
    owed: u64,
    workers: u64,
    per_second: f64,
    /// At that rate; none: nobody can say.
    left_s: Option<f64>,
    /// Whether its ranges were read: without them only the state is known.
    in_full: bool,
}

struct Told {
    name: String,
    standing: Standing,
    /// Whether its ranges were read: without them only the state is known.
    in_full: bool,
    /// Writes that live drafts went over.
    owed: u64,
}

impl Evolves {
    /// Reads them.
    pub(crate) fn read(engine: &Engine) -> Evolves {
        let mut reading =
            Reading { engine, at: engine.visible(), ranges_left: RANGES_MAX, evolves: Evolves::default() };
        if let Err(fault) = reading.all() {
            tracing::debug!(%fault, "the evolves could not be read for the numbers");
            reading.evolves.unreadable += 1;
        }
        reading.evolves
    }

    /// One by one, those that are not over first; the newest ones if there are too many, then also how many are left out.
    pub(crate) fn each(&self) -> (Vec<EvolveTold<'_>>, u64) {
        let mut each: Vec<EvolveTold<'_>> = self.told.iter().map(Told::shown).collect();
        each.sort_by_key(|told| told.is_over);
        (each, self.left_out + self.unreadable)
    }

    /// Tells them.
    pub(super) fn write(&self, to: &mut Families<'_>) -> Result<(), Error> {
        let states = State::ALL.iter().zip(self.states).map(|(state, jobs)| (("state", state.text()), jobs));
        to.gauges("zeolite_evolves", "Evolves by state, those that are over included", states)?;
        let help = "Evolves that are not told one by one, because there are too many; the oldest, finished ones first";
        to.gauge("zeolite_evolves_left_out", help, self.left_out)?;
        let help = "Records of evolves that could not be read";
        to.gauge("zeolite_evolves_unreadable", help, self.unreadable)?;
        let each = self.told.iter().flat_map(|told| {
            let one = |state: State| {
                let labels = vec![("evolve", told.name.as_str()), ("state", state.text())];
                (labels, u64::from(state == told.standing.state))
            };
            State::ALL.map(one)
        });
        to.labelled("zeolite_evolve_state", "1 for the state that the evolve is in", each)?;
        self.number(to, "zeolite_evolve_objects", "Objects that the evolve covers, as of now", |s| s.total)?;
        self.number(to, "zeolite_evolve_objects_done", "Of those, objects that were looked at", |s| s.done)?;
        let help = "Objects that a step changed or deleted";
        self.number(to, "zeolite_evolve_objects_changed", help, |s| s.counts.changed)?;
        let help = "Objects in the quarantine, since the step fails on them";
        self.number(to, "zeolite_evolve_objects_bad", help, |s| s.counts.bad_now())?;
        let help = "Steps that were made again because a live write came between";
        self.number(to, "zeolite_evolve_stepped_again", help, |s| s.counts.stepped_again)?;
        self.number(to, "zeolite_evolve_workers", "Ranges held by a worker that gives signs of life", |s| s.workers)?;
        let owed = self.told.iter().filter(|told| told.in_full).map(|told| (("evolve", told.name.as_str()), told.owed));
        let help = "Writes that live drafts went over: to be stepped anew; at most 1,000 are counted";
        to.gauges("zeolite_evolve_owed", help, owed)?;
        let rates = self.in_full().map(|(job, standing)| (job, standing.rate));
        to.gauges("zeolite_evolve_objects_per_second", "How fast its workers are, as they tell it", rates)
    }

    fn in_full(&self) -> impl Iterator<Item = (Label<'_>, &Standing)> {
        self.told.iter().filter(|told| told.in_full).map(|told| (("evolve", told.name.as_str()), &told.standing))
    }

    fn number(&self, to: &mut Families<'_>, name: &str, help: &str, of: fn(&Standing) -> u64) -> Result<(), Error> {
        to.gauges(name, help, self.in_full().map(|(job, standing)| (job, of(standing))))
    }
}

impl Told {
    fn shown(&self) -> EvolveTold<'_> {
        let Standing { state, why, until_unix_ms, counts, done, total, rate, workers, .. } = &self.standing;
        let is_over = matches!(state, State::In(phase) if phase.is_over());
        let moves = *rate > 0.0 && !is_over && *state != State::In(Phase::Undoing);
        EvolveTold {
            name: &self.name,
            state: state.text(),
            why,
            until_unix_ms: *until_unix_ms,
            is_over,
            done: *done,
            total: *total,
            changed: counts.changed,
            bad: counts.bad_now(),
            stepped_again: counts.stepped_again,
            owed: self.owed,
            workers: *workers,
            per_second: *rate,
            left_s: moves.then(|| total.saturating_sub(*done) as f64 / rate),
            in_full: self.in_full,
        }
    }
}

struct Reading<'a> {
    engine: &'a Engine,
    at: Tid,
    ranges_left: usize,
    evolves: Evolves,
}

impl Reading<'_> {
    fn all(&mut self) -> Result<(), Fault> {
        let mut oids = self.directory()?;
        // Oids are handed out in their order: the newest jobs are behind.
        oids.sort_unstable_by_key(|oid| Reverse(*oid));
        self.evolves.left_out = oids.len().saturating_sub(JOBS_READ_MAX) as u64;
        oids.truncate(JOBS_READ_MAX);
        let mut jobs: Vec<(Oid, JobRecord)> = Vec::with_capacity(oids.len());
        let cells: Vec<Cell> = oids.iter().map(|oid| Cell::object(*oid)).collect();
        for (oid, job) in oids.into_iter().zip(self.records::<JobRecord>(&cells)?) {
            match job.map(|kept| kept.record) {
                Some(job) if job.name.len() > NAME_BYTES_MAX => self.evolves.unreadable += 1,
                job => jobs.extend(job.map(|job| (oid, job))),
            }
        }
        jobs.sort_by_key(|(_, job)| job.phase.is_over());
        let kinds = self.engine.kinds()?.0;
        for (place, (oid, job)) in jobs.into_iter().enumerate() {
            let old = job.target.as_ref().map(|target| {
                let old = kinds.iter().filter(|kind| kind.class == target.class && kind.version < target.version);
                old.map(|kind| kind.objects).sum()
            });
            let (ranges, in_full) = if place < JOBS_TOLD_MAX { self.ranges(oid, &job)? } else { (Vec::new(), false) };
            let undo = if in_full { self.undo(oid, &job)? } else { None };
            let standing = Standing::of(&job, &ranges, undo.as_ref(), old, self.engine.unix_ms());
            if let Some(at) = State::ALL.iter().position(|state| *state == standing.state) {
                self.evolves.states[at] += 1;
            }
            if place < JOBS_TOLD_MAX {
                let owed = if in_full { self.engine.owed(oid, self.at, OWED_MAX)?.len() as u64 } else { 0 };
                self.evolves.told.push(Told { name: job.name, standing, in_full, owed });
            } else {
                self.evolves.left_out += 1;
            }
        }
        self.evolves.told.sort_by(|one, other| one.name.cmp(&other.name));
        // A number that is told twice would spoil the page.
        let before = self.evolves.told.len();
        self.evolves.told.dedup_by(|one, other| one.name == other.name);
        self.evolves.unreadable += (before - self.evolves.told.len()) as u64;
        Ok(())
    }

    /// The jobs that have a name.
    fn directory(&mut self) -> Result<Vec<Oid>, Fault> {
        let root = self.bytes(&[Cell::entry(Oid::ROOT, ROOT_NAME)])?.pop().flatten();
        let mut oids = Vec::new();
        let Some(directory) = root.and_then(|kept| self.leads_to(&kept.record)) else { return Ok(oids) };
        let mut range =
            Range { oid: directory, from: Bytes::new(), to: Bytes::new(), reverse: false, keys_only: false };
        loop {
            let page = self.engine.scan(self.at, &range, DIRECTORY_MAX - oids.len())?;
            for entry in &page.entries {
                oids.extend(self.leads_to(&entry.record));
            }
            match page.next {
                Some(next) if oids.len() < DIRECTORY_MAX && !page.entries.is_empty() => range.from = next,
                _ => return Ok(oids),
            }
        }
    }

    /// The one object that an entry refers to.
    fn leads_to(&mut self, record: &[u8]) -> Option<Oid> {
        let oid = Header::parse(record).ok().and_then(|header| header.refs().next());
        self.evolves.unreadable += u64::from(oid.is_none());
        oid
    }

    /// The ranges of a job, and whether these are all.
    fn ranges(&mut self, oid: Oid, job: &JobRecord) -> Result<(Vec<Kept<RangeRecord>>, bool), Fault> {
        let count = job.ranges as usize + 1;
        if count > self.ranges_left {
            return Ok((Vec::new(), false));
        }
        self.ranges_left -= count;
        let cells: Vec<Cell> = (0..=job.ranges).map(|number| range_cell(oid, number)).collect();
        Ok((self.records(&cells)?.into_iter().flatten().collect(), true))
    }

    /// The range of a job that is being taken back.
    fn undo(&mut self, oid: Oid, job: &JobRecord) -> Result<Option<Kept<RangeRecord>>, Fault> {
        if job.phase != Phase::Undoing {
            return Ok(None);
        }
        Ok(self.records(&[range_cell(oid, UNDO_RANGE)])?.pop().flatten())
    }

    /// The decoded records of cells; none where there is none, or not a good one.
    fn records<T: Stored>(&mut self, cells: &[Cell]) -> Result<Vec<Option<Kept<T>>>, Fault> {
        let mut records = Vec::with_capacity(cells.len());
        for kept in self.bytes(cells)? {
            let decoded = kept.map(|Kept { tid, record }| T::decode(&record).map(|record| Kept { tid, record }));
            self.evolves.unreadable += u64::from(matches!(decoded, Some(Err(_))));
            records.push(decoded.and_then(Result::ok));
        }
        Ok(records)
    }

    /// The records of cells.
    fn bytes(&self, cells: &[Cell]) -> Result<Vec<Option<Kept<Bytes>>>, Fault> {
        let mut records = Vec::with_capacity(cells.len());
        while records.len() < cells.len() {
            let rest = &cells[records.len()..];
            let page = self.engine.peek(self.at, &rest[..rest.len().min(self.engine.limits().load_cells_max)])?;
            if page.revisions.is_empty() {
                break;
            }
            let kept = page.revisions.into_iter().map(|revision| {
                let found = revision?;
                Some(Kept { tid: found.tid, record: found.record? })
            });
            records.extend(kept);
        }
        Ok(records)
    }
}
