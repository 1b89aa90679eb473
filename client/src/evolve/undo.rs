//! Owns taking a whole job back: its commits, the newest first, each as one draft; beside live traffic like the job itself.
//!
//! ```text
//!   which commits    the revisions of the ranges' cells: every chunk wrote one, and its note tells the groups
//!   what was before  each cell just before the commit, from kept revisions
//!   one draft        puts that back, with the commit as the base, and moves the undo's own cursor
//! ```
//!
//! The server merges each cell with what live writers made of it since, where its class can; what nobody has touched goes back as
//! it was. What a live draft was committed over stays as it is: it is older than the commit for whoever wrote it. A group of steps with a cell where that is impossible is left as it is, as a whole, and listed; so nothing is ever half
//! taken back. The undo can be killed, paused and resumed like the job.

use super::earlier::left_alone;
use super::job::{Job, JobRecord, Phase, newest_view, now_unix_ms};
use super::lease::{Lease, Stale};
use super::ledger::{
    Counts, Cursor, Kept, NotUndone, Part, RangeRecord, UNDO_RANGE, encoded, kept, not_undone_cell, range_cell,
};
use super::outcome::{Claim, LOOK_AGAIN, Outcome, Verdict, judge};
use super::own_gate::is_free_to_go_back;
use super::pace::{Before, Pace};
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::tx::{Place, View};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use zeolite_proto::evolve::{ChunkNote, Settings};
use zeolite_proto::{Cell, Change, Draft, FaultKind, Note, Priority, ReadCell, Tid, Write};

/// Revisions of a range that are asked for at once.
const HISTORY_PAGE: u32 = 200;

impl Job {
    /// Asks for the whole job to be taken back: [`super::Worker::undo`] does it. From then on it is not done, and then its gate
    /// opens: the old shape returns. Refused behind a gate that another one has closed.
    pub async fn begin_undo(&self) -> Result<()> {
        is_free_to_go_back(&self.db, &self.record().await?).await?;
        let transaction = self.db.transaction().fresh().note("evolve", format!("undo {}", self.name()));
        let work = transaction.run(async |tx| {
            let mut record = tx.load(self.reference).await?;
            match record.phase {
                Phase::Undoing | Phase::Undone => return Ok(()),
                Phase::Planned | Phase::Done | Phase::Failed | Phase::Cancelled => {}
                phase => {
                    let phase = phase.text();
                    return Err(Error::invalid(format!("evolve {:?} is {phase}; cancel it first", self.name())));
                }
            }
            (record.phase, record.pause, record.certificate) = (Phase::Undoing, None, None);
            record.reason.clear();
            tx.set(self.reference, &record)?;
            // One that was cancelled goes on where it was: what it took back must not be taken back again.
            let cell = range_cell(self.oid(), UNDO_RANGE);
            if kept::<RangeRecord>(&tx, &cell).await?.is_some() {
                return Ok(());
            }
            tx.put_unchecked(cell, encoded(&RangeRecord::new(Part::Undo, 0))?)
        });
        work.await?;
        self.open_gate().await.map(|_| ())
    }
}

/// The job's commits, the newest first, a page at a time.
struct Commits {
    ranges: Vec<RangeCommits>,
}

struct RangeCommits {
    cell: Cell,
    /// Older ones are asked for next.
    before: Option<Tid>,
    page: VecDeque<(Tid, ChunkNote)>,
    more: bool,
}

impl Commits {
    fn new(job: &Job, record: &JobRecord, before: Option<Tid>) -> Commits {
        let cell = |number| range_cell(job.oid(), number);
        let range = |number| RangeCommits { cell: cell(number), before, page: VecDeque::new(), more: true };
        Commits { ranges: (0..=record.ranges).map(range).collect() }
    }

    /// The newest one that is left.
    async fn next(&mut self, job: &Job) -> Result<Option<(Tid, ChunkNote)>> {
        for range in &mut self.ranges {
            while range.page.is_empty() && range.more {
                let (past, more) = job.db.history(&range.cell, range.before, HISTORY_PAGE, false).await?;
                range.more = more && !past.is_empty();
                for past in past {
                    range.before = Some(past.revision.tid);
                    if let Some(note) = ChunkNote::of(&past.note.extension, job.oid()).filter(|t| !t.groups.is_empty())
                    {
                        range.page.push_back((past.revision.tid, note));
                    }
                }
            }
        }
        let newest = |range: &&mut RangeCommits| range.page.front().map_or(Tid::NONE, |(tid, _)| *tid);
        Ok(self.ranges.iter_mut().max_by_key(newest).and_then(|range| range.page.pop_front()))
    }
}

/// The worker of an undo.
pub(crate) struct Undo {
    db: Db,
    job: Job,
    stop: watch::Receiver<bool>,
    pace: Pace,
}

impl Undo {
    pub(crate) fn new(job: &Job, stop: watch::Receiver<bool>) -> Undo {
        Undo { db: job.db.clone(), job: job.clone(), stop, pace: Pace::default() }
    }

    /// Takes commits back until none is left, or somebody wants something else. An error that does not pass is told in the job,
    /// which can be undone further once it is mended.
    pub(crate) async fn run(mut self, who: (&str, u64)) -> Result<Counts> {
        let (mut stale, mut counts) = (Stale::default(), Counts::default());
        while !*self.stop.borrow() {
            let error = match self.turn(&mut stale, &mut counts, who).await {
                Ok(Outcome::Over | Outcome::Stopped) => break,
                Ok(_) => continue,
                Err(error) => error,
            };
            if judge(&error) != Verdict::Waits {
                let told = self.job.worker_ended(&error.to_string()).await;
                tracing::debug!(job = self.job.name(), ok = told.is_ok(), %error, "the undo cannot go on");
                return Err(error);
            }
            self.pause(LOOK_AGAIN).await;
        }
        Ok(counts)
    }

    async fn turn(&mut self, stale: &mut Stale, counts: &mut Counts, who: (&str, u64)) -> Result<Outcome> {
        let mut held = match self.claim(stale, who).await? {
            Claim::Nothing => return Ok(Outcome::Over),
            Claim::Taken(held) => held,
            Claim::Later(at) => {
                self.pause(at.map_or(LOOK_AGAIN, |at| at - Instant::now())).await;
                return Ok(Outcome::AGAIN);
            }
        };
        self.job.worker_ended("").await?;
        // Whoever asked for the undo may have been gone before it did so.
        self.job.open_gate().await?;
        let before = held.record.counts;
        let outcome = self.work_on(&mut held).await;
        counts.changed += held.record.counts.changed.saturating_sub(before.changed);
        counts.bad += held.record.counts.bad.saturating_sub(before.bad);
        counts.chunks += held.record.counts.chunks.saturating_sub(before.chunks);
        outcome
    }

    /// Nothing: there is nothing to take back (any more).
    async fn claim(&self, stale: &mut Stale, who: (&str, u64)) -> Result<Claim<Lease>> {
        let view = newest_view(&self.db).await?;
        let record = view.load(self.job.reference).await?;
        if record.phase != Phase::Undoing {
            return Ok(Claim::Nothing);
        }
        if record.is_paused(now_unix_ms()) {
            return Ok(Claim::Later(None));
        }
        let cell = range_cell(self.job.oid(), UNDO_RANGE);
        let Some(range) = kept::<RangeRecord>(&view, &cell).await? else { return Ok(Claim::Nothing) };
        let lease = Duration::from_millis(record.settings.lease_ms);
        if let Err(at) = stale.is_free(UNDO_RANGE, &range.record, lease) {
            return Ok(Claim::Later(Some(at.min(Instant::now() + LOOK_AGAIN))));
        }
        let held = Lease::claim(&self.db, self.job.oid(), UNDO_RANGE, range, who).await?;
        Ok(held.map_or(Claim::Later(None), Claim::Taken))
    }

    async fn work_on(&mut self, held: &mut Lease) -> Result<Outcome> {
        let start = if let Cursor::Before(tid) = held.record.cursor { Some(Tid(tid)) } else { None };
        let mut commits = Commits::new(&self.job, &self.job.record().await?, start);
        loop {
            let job = self.job_now().await?;
            let lease = Duration::from_millis(job.record.settings.lease_ms);
            if *self.stop.borrow() || job.record.phase != Phase::Undoing || job.record.is_paused(now_unix_ms()) {
                held.clone().release().await?;
                return Ok(if *self.stop.borrow() { Outcome::Stopped } else { Outcome::AGAIN });
            }
            match self.go_slowly(held, &job.record, lease).await? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Outcome::Go { .. }) => continue,
                ControlFlow::Break(outcome) => return Ok(outcome),
            }
            let began = Instant::now();
            let Some((tid, note)) = commits.next(&self.job).await? else {
                return self.end(held).await;
            };
            if !self.take_back(held, &job, tid, &note).await? {
                return Ok(Outcome::Lost);
            }
            self.pace.done(&job.record.settings, began, note.groups.len());
        }
    }

    /// Waits for its turn; breaks off when an operator wants something else, there was no room, or the range is lost.
    async fn go_slowly(&mut self, held: &mut Lease, job: &JobRecord, lease: Duration) -> Result<ControlFlow<Outcome>> {
        // Little room on the disk: taking back writes as well, so it waits, however little that is.
        let settings = Settings { disk_stop_percent: 0.0, ..job.settings.clone() };
        let (pause, waited) = match self.pace.next(&self.db, &settings) {
            Before::Chunk { pause, .. } => (pause, ControlFlow::Continue(())),
            Before::Wait(_) | Before::Fail(_) => {
                // The answer tells the newest pressure.
                self.db.newest().await?;
                (LOOK_AGAIN, ControlFlow::Break(Outcome::AGAIN))
            }
        };
        // Otherwise it is written with the next commit; never just for itself.
        let told = pause > lease / 3 || !self.pace.why.is_empty() && pause >= LOOK_AGAIN;
        let why = if told { self.pace.why.clone() } else { held.record.waits_for.clone() };
        let until = Instant::now() + pause;
        while Instant::now() < until && !*self.stop.borrow() {
            self.pause((until - Instant::now()).min(lease / 4).min(LOOK_AGAIN)).await;
            if !held.beat(lease, &why).await? {
                return Ok(ControlFlow::Break(Outcome::Lost));
            }
            if self.job_now().await?.record != *job {
                return Ok(ControlFlow::Break(Outcome::AGAIN));
            }
        }
        Ok(waited)
    }

    async fn job_now(&self) -> Result<Kept<JobRecord>> {
        let cell = Cell::object(self.job.oid());
        kept(&self.db.now(), &cell).await?.ok_or(Error::NotFound { cell })
    }

    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = self.stop.changed() => {}
        }
    }

    /// One commit; false: the range was lost.
    async fn take_back(&self, held: &mut Lease, job: &Kept<JobRecord>, tid: Tid, note: &ChunkNote) -> Result<bool> {
        let mut groups = match self.before(tid, note).await {
            Ok(groups) => groups,
            // What was there before is packed, or cannot be read: it cannot be put back.
            Err(error) if error.kind() == Some(FaultKind::SnapshotPacked) || judge(&error) == Verdict::Refused => {
                let reason = error.to_string();
                vec![Group { writes: Vec::new(), refused: Some(reason), cells: Vec::new() }]
            }
            Err(error) => return Err(error),
        };
        loop {
            let (draft, next) = self.draft(held, job, tid, &groups)?;
            let at = Place::newest(&self.db);
            let newest = at.snapshot.max(held.tid).max(job.tid);
            let error = match at.at(newest).send(&self.db, &draft).await {
                Ok(receipt) => {
                    held.written(next, receipt.tid);
                    return Ok(true);
                }
                Err(error) => error,
            };
            let conflict = match &error {
                Error::Fault(fault) => fault.conflict.as_deref().map(|detail| (detail.cell.clone(), fault.to_string())),
                Error::OutcomeUnknown { .. } => None,
                _ => return Err(error),
            };
            let Some((cell, reason)) = conflict else {
                // A worker of the job that was late with it.
                if error.kind() == Some(FaultKind::Gated) && self.job.open_gate().await?.is_some() {
                    continue;
                }
                return match error {
                    // The next holding begins where the cursor says.
                    Error::OutcomeUnknown { .. } => Ok(false),
                    // The whole of it is not taken by the server (a gate, a limit): nobody can take it back.
                    error
                        if judge(&error) == Verdict::Refused && groups.iter().any(|group| group.refused.is_none()) =>
                    {
                        let reason = error.to_string();
                        groups.iter_mut().for_each(|group| group.refused = Some(reason.clone()));
                        continue;
                    }
                    error => Err(error),
                };
            };
            if cell == held.cell() || cell == Cell::object(self.job.oid()) {
                return Ok(false);
            }
            let hit = groups.iter_mut().find(|group| group.refused.is_none() && group.cells.contains(&cell));
            match hit {
                Some(group) => group.refused = Some(reason),
                None => return Err(error),
            }
        }
    }

    /// The groups of a commit with what was in their cells before it.
    async fn before(&self, tid: Tid, note: &ChunkNote) -> Result<Vec<Group>> {
        let mut writes = Vec::new();
        for transaction in self.db.admin().log(Some(tid), Some(tid), Some(1), false).await?.collect().await? {
            writes.extend(transaction.writes.into_iter().map(|write| write.cell));
        }
        let writes = writes.into_iter().filter(|cell: &Cell| cell.oid != self.job.oid());
        let cells: Vec<Cell> = writes.take(note.groups.iter().map(|group| *group as usize).sum()).collect();
        let before = self.db.at(tid.prev()).get_many(&cells).await?;
        let (after, now) = (self.db.at(tid).get_many(&cells).await?, newest_view(&self.db).await?);
        let bases = self.bases(tid, &cells, after, &now).await?;
        let alone = left_alone(&now, self.job.oid(), tid).await?;
        let mut all = cells.into_iter().zip(before).zip(bases);
        let group = |count: &u32| {
            let writes: Vec<Write> = all
                .by_ref()
                .take(*count as usize)
                .filter(|((cell, _), _)| !alone.contains(cell))
                .map(|((cell, before), base)| {
                    let change = before.map_or(Change::Delete, Change::Put);
                    Write { cell, base, change, stamped: false }
                })
                .collect();
            Group { cells: writes.iter().map(|write| write.cell.clone()).collect(), writes, refused: None }
        };
        Ok(note.groups.iter().map(group).collect())
    }

    /// What each cell is known as of: the commit that is taken back, or now, where this undo has put back what that commit left (a
    /// later one had changed it, and was taken back before).
    async fn bases(&self, tid: Tid, cells: &[Cell], after: Vec<Option<Bytes>>, now: &View) -> Result<Vec<Tid>> {
        let mut bases = vec![tid; cells.len()];
        for (place, (there, after)) in now.revisions(cells).await?.into_iter().zip(after).enumerate() {
            if there.tid > tid && there.record == after && self.has_written(&cells[place], there.tid).await? {
                bases[place] = now.snapshot();
            }
        }
        Ok(bases)
    }

    async fn has_written(&self, cell: &Cell, tid: Tid) -> Result<bool> {
        let (newest, _) = self.db.history(cell, Some(tid.next()), 1, false).await?;
        let ours = self.note("");
        let of_this = |note: &Note| note.user == ours.user && note.description.starts_with(&ours.description);
        Ok(newest.first().is_some_and(|past| past.revision.tid == tid && of_this(&past.note)))
    }

    fn note(&self, of: &str) -> Note {
        Note::new("evolve", format!("{}: undo of {of}", self.job.name()))
    }

    fn draft(&self, held: &Lease, job: &Kept<JobRecord>, tid: Tid, groups: &[Group]) -> Result<(Draft, RangeRecord)> {
        let mut next = held.record.clone();
        next.beat += 1;
        next.cursor = Cursor::Before(tid.0);
        next.counts.chunks += 1;
        (next.rate, next.waits_for) = (self.pace.rate, self.pace.why.clone());
        let mut writes = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            let Some(reason) = &group.refused else {
                next.counts.changed += 1;
                writes.extend(group.writes.iter().cloned());
                continue;
            };
            next.counts.bad += 1;
            let cells = group.cells.iter().map(|cell| (cell.oid.0, cell.key.to_vec())).collect();
            let left = NotUndone { tid: tid.0, cells, reason: reason.chars().take(500).collect() };
            let cell = not_undone_cell(self.job.oid(), tid, number);
            writes.push(Write { cell, base: held.tid, change: Change::Put(encoded(&left)?), stamped: false });
        }
        writes.push(held.write(&next)?);
        let note = self.note(&tid.to_string());
        let read_cells = vec![ReadCell { cell: Cell::object(self.job.oid()), base: job.tid }];
        let (key, key_since) = (self.db.new_commit_key(), self.db.position());
        let read_ranges = Vec::new();
        Ok((Draft { key, key_since, priority: Priority::Batch, read_cells, read_ranges, writes, note }, next))
    }

    async fn end(&self, held: &mut Lease) -> Result<Outcome> {
        let finish = |next: &mut RangeRecord| {
            (next.finished, next.holder, next.rate) = (true, String::new(), 0.0);
            next.waits_for.clear();
        };
        if !held.put(finish).await? {
            return Ok(Outcome::Lost);
        }
        let left = held.record.counts.bad;
        let newest = self.db.newest().await?.0;
        let over = |record: &mut JobRecord| {
            if record.phase == Phase::Undoing {
                (record.phase, record.ended, record.certificate) = (Phase::Undone, newest, None);
                if left > 0 {
                    record.reason = format!("{left} groups of steps could not be taken back");
                }
            }
            Ok(())
        };
        self.job.change(over).await?;
        Ok(Outcome::Over)
    }
}

/// Steps that are taken back together or not at all.
struct Group {
    cells: Vec<Cell>,
    writes: Vec<Write>,
    refused: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_undo_has_a_range_of_its_own() {
        let job = zeolite_proto::Oid(5);
        assert!(range_cell(job, 4001) < range_cell(job, UNDO_RANGE));
        assert_ne!(not_undone_cell(job, Tid(7), 1), not_undone_cell(job, Tid(7), 2));
        assert!(range_cell(job, UNDO_RANGE).key.starts_with(b"range/"));
    }
}
