//! Owns taking a whole job back: its commits, the newest first, each as one draft; beside live traffic like the job itself.
//!
//! ```text
//!   which commits    the revisions of the ranges' cells: every chunk wrote one, and its note tells the groups
//!   what was before  each cell just before the commit, from kept revisions
//!   one draft        puts that back, with the commit as the base, and moves the undo's own cursor
//! ```
//!
//! The server merges each cell with what live writers made of it since, where its class can; what nobody has touched goes back as
//! it was. What a live draft was committed over stays as it is: it is older than the commit for whoever wrote it. A group of steps with
//! a cell where that is impossible is left as it is, as a whole, and listed; so nothing is ever half
//! taken back. What is in another shape than before after a merge is listed, too. The undo can be killed, paused and resumed like the
//! job.

mod begin;
mod commits;
mod entries;
mod group;
mod past;

use super::chunk::VISIBLE_WITHIN;
use super::course::Recorder;
use super::job::{Job, JobRecord, Phase, newest_view, now_unix_ms};
use super::lease::{Lease, Stale};
use super::ledger::{
    self, Counts, Cursor, Kept, NotUndone, RangeRecord, UNDO_RANGE, encoded, kept, not_undone_cell, range_cell,
};
use super::outcome::{Claim, LOOK_AGAIN, Outcome, Verdict, judge};
use super::pace::{Before, Pace};
use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::tx::{Place, fold};
use bytes::Bytes;
use commits::Commits;
use group::Group;
use past::{Made, Of};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use zeolite_proto::evolve::ChunkNote;
use zeolite_proto::{Cell, Change, ConflictDetail, Draft, FaultKind, Note, Priority, ReadCell, Tid, Write};

/// A commit of which live writers write something between each look and its draft is looked at so often; then that is left.
const LOOKS_MAX: u32 = 50;

/// What takes operations back is taken by nobody: those steps stay. False: there are none.
fn refuse_operations(groups: &mut [Group], error: &Error) -> bool {
    let with = groups.iter_mut().filter(|group| group.refused.is_none() && !group.operations.is_empty());
    with.map(|group| group.refused = Some(error.to_string())).count() > 0
}

/// Why a change cannot be taken back. Without the cell: it stands beside it, and reasons that are alike are counted.
fn why_not(of: &ConflictDetail) -> String {
    match of.reason.as_str() {
        "" => "live code has changed it since".to_owned(),
        reason => format!("live code has changed it since, and the two cannot be merged: {reason}"),
    }
}

/// What the log says about a commit of an undo.
fn undo_note(name: &str, of: &str) -> Note {
    Note::new("evolve", format!("{name}: undo of {of}"))
}

/// The worker of an undo.
pub(crate) struct Undo {
    db: Db,
    job: Job,
    stop: watch::Receiver<bool>,
    pace: Pace,
    recorder: Recorder,
}

impl Undo {
    pub(crate) fn new(job: &Job, stop: watch::Receiver<bool>) -> Undo {
        Undo { db: job.db.clone(), job: job.clone(), stop, pace: Pace::default(), recorder: Recorder::default() }
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
        counts.kept += held.record.counts.kept.saturating_sub(before.kept);
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
        let record = self.job.record().await?;
        if let Some(last) = start
            && !self.look_again(held, &record, last).await?
        {
            return Ok(Outcome::Lost);
        }
        let mut commits = Commits::new(&self.job, &record, start);
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
            self.recorder.note(&self.db, self.job.oid(), held, &self.pace).await;
        }
    }

    /// Waits for its turn; breaks off when an operator wants something else, there was no room, or the range is lost.
    async fn go_slowly(&mut self, held: &mut Lease, job: &JobRecord, lease: Duration) -> Result<ControlFlow<Outcome>> {
        // Little room on the disk: taking back writes as well, so it waits, however little that is.
        let settings = job.settings.clone().disk_stop_percent(0.0);
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

    /// The last one that was taken back: who did it may have been gone before it was looked at. False: the range was lost.
    async fn look_again(&self, held: &mut Lease, record: &JobRecord, last: Tid) -> Result<bool> {
        let mut commits = Commits::new(&self.job, record, Some(last.next()));
        match commits.next(&self.job).await? {
            Some((tid, note)) if tid == last => match self.tell_what_is_not_back(held, tid, &note).await {
                // What was there before is packed: what was told of it is all that there is.
                Err(error) if error.kind() == Some(FaultKind::SnapshotPacked) => Ok(true),
                told => told,
            },
            _ => Ok(true),
        }
    }

    /// Lists what is in another shape than before although its commit was taken back. False: the range was lost.
    async fn tell_what_is_not_back(&self, held: &mut Lease, tid: Tid, note: &ChunkNote) -> Result<bool> {
        let at = Place::newest(&self.db);
        let left = group::not_back(self.of(), at, tid, note).await?;
        if left.is_empty() {
            return Ok(true);
        }
        let listed = ledger::not_undone_of(&at.view(&self.db), self.job.oid(), tid).await?;
        let is_listed = |cell: &Cell| listed.iter().any(|left| left.cells.contains(&(cell.oid.0, cell.key.to_vec())));
        let (mut writes, mut next) = (Vec::new(), held.record.clone());
        for (number, (cell, reason)) in left.into_iter().filter(|(cell, _)| !is_listed(cell)).enumerate() {
            let left = NotUndone { tid: tid.0, cells: vec![(cell.oid.0, cell.key.to_vec())], reason };
            // Behind the groups of the commit.
            let cell = not_undone_cell(self.job.oid(), tid, note.groups.len() + number);
            writes.push(Write { cell, base: held.tid, change: Change::Put(encoded(&left)?), stamped: false });
            next.counts.kept += 1;
        }
        if writes.is_empty() {
            return Ok(true);
        }
        next.beat += 1;
        writes.push(held.write(&next)?);
        let note = Note::new("evolve", format!("{}: what is left of {tid}", self.job.name()));
        let (key, read_cells, read_ranges) = (self.db.new_commit_key(), Vec::new(), Vec::new());
        let key_since = at.snapshot;
        let draft = Draft { key, key_since, priority: Priority::Batch, read_cells, read_ranges, writes, note };
        match at.at(at.snapshot.max(held.tid)).send(&self.db, &draft).await {
            Ok(receipt) => {
                held.written(next, receipt.tid);
                Ok(true)
            }
            // The next holding looks again.
            Err(error) if error.is_conflict() || matches!(error, Error::OutcomeUnknown { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One commit; false: the range was lost.
    async fn take_back(&self, held: &mut Lease, job: &Kept<JobRecord>, tid: Tid, note: &ChunkNote) -> Result<bool> {
        let (mut made, mut looks) = (None, 1);
        let (mut seen, mut groups) = self.groups(tid, note, &mut made).await?;
        loop {
            let (draft, next) = match self.draft(held, job, tid, &groups).await {
                Ok(made) => made,
                Err(error) if judge(&error) == Verdict::Refused && refuse_operations(&mut groups, &error) => continue,
                Err(error) => return Err(error),
            };
            let at = Place::newest(&self.db);
            let newest = at.snapshot.max(held.tid).max(job.tid);
            let error = match at.at(newest).send(&self.db, &draft).await {
                Ok(receipt) => {
                    held.written(next, receipt.tid);
                    // Operations take back what they are to, whatever came between.
                    let by_operation =
                        |cell: &Cell| groups.iter().any(|group| group.operations.iter().any(|of| of.0 == *cell));
                    if receipt.merged.iter().all(|merged| by_operation(&merged.cell)) {
                        return Ok(true);
                    }
                    self.see(receipt.tid).await?;
                    return self.tell_what_is_not_back(held, tid, note).await;
                }
                Err(error) => error,
            };
            let conflict = match &error {
                Error::Fault(fault) => fault.conflict.as_deref().map(|detail| (detail.clone(), why_not(detail))),
                Error::OutcomeUnknown { .. } => None,
                _ => return Err(error),
            };
            let Some((conflict, reason)) = conflict else {
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
            let cell = &conflict.cell;
            if *cell == held.cell() || *cell == Cell::object(self.job.oid()) {
                return Ok(false);
            }
            if conflict.newest > seen && looks < LOOKS_MAX {
                // Written since it was looked at: it may be in its old shape again, or go back in another way.
                self.see(conflict.newest).await?;
                (seen, groups) = self.groups(tid, note, &mut made).await?;
                looks += 1;
                continue;
            }
            let hit = groups.iter_mut().find(|group| group.refused.is_none() && group.cells.contains(cell));
            match hit {
                Some(group) => group.refused = Some(reason),
                None => return Err(error),
            }
        }
    }

    fn of(&self) -> Of<'_> {
        Of { db: &self.db, job: self.job.oid(), name: self.job.name() }
    }

    /// Until this client sees a commit.
    async fn see(&self, tid: Tid) -> Result<()> {
        if !self.db.wait_for(tid, VISIBLE_WITHIN).await {
            newest_view(&self.db).await?;
        }
        Ok(())
    }

    /// The groups of a commit, and as of when they were looked at.
    async fn groups(&self, tid: Tid, note: &ChunkNote, made: &mut Option<Made>) -> Result<(Tid, Vec<Group>)> {
        let at = Place::newest(&self.db);
        let groups = match self.look(at, tid, note, made).await {
            // What was there before is packed, or cannot be read: it cannot be put back.
            Err(error) if error.kind() == Some(FaultKind::SnapshotPacked) || judge(&error) == Verdict::Refused => {
                vec![Group::refused(error.to_string())]
            }
            groups => groups?,
        };
        Ok((at.snapshot, groups))
    }

    /// One look at a commit; what it made is read by the first.
    async fn look(&self, at: Place, tid: Tid, note: &ChunkNote, made: &mut Option<Made>) -> Result<Vec<Group>> {
        let made = match made {
            Some(made) => made,
            None => made.insert(Made::read(self.of(), tid, note).await?),
        };
        group::groups(self.of(), at, tid, note, made).await
    }

    async fn draft(
        &self,
        held: &Lease,
        job: &Kept<JobRecord>,
        tid: Tid,
        groups: &[Group],
    ) -> Result<(Draft, RangeRecord)> {
        let mut next = held.record.clone();
        next.beat += 1;
        next.cursor = Cursor::Before(tid.0);
        next.counts.chunks += 1;
        (next.rate, next.waits_for) = (self.pace.rate, self.pace.why.clone());
        let mut writes = self.operations(groups).await?;
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
        let note = undo_note(self.job.name(), &tid.to_string());
        let stay = groups.iter().filter(|group| group.refused.is_none()).flat_map(|group| group.stay.iter().cloned());
        let mut read_cells: Vec<ReadCell> = stay.collect();
        read_cells.push(ReadCell { cell: Cell::object(self.job.oid()), base: job.tid });
        let (key, key_since) = (self.db.new_commit_key(), self.db.position());
        let read_ranges = Vec::new();
        Ok((Draft { key, key_since, priority: Priority::Batch, read_cells, read_ranges, writes, note }, next))
    }

    /// What takes operations back, cell by cell: of many steps as one.
    async fn operations(&self, groups: &[Group]) -> Result<Vec<Write>> {
        let mut cells: BTreeMap<&Cell, (&str, Vec<Bytes>)> = BTreeMap::new();
        let taken = groups.iter().filter(|group| group.refused.is_none());
        for (cell, class, operation) in taken.flat_map(|group| &group.operations) {
            cells.entry(cell).or_insert((class, Vec::new())).1.push(operation.clone());
        }
        let view = self.db.now();
        let mut writes = Vec::with_capacity(cells.len());
        for (cell, (class, operations)) in cells {
            let now = view.get_encoded(cell).await?;
            let after = fold(cell, class, now, &operations, &self.db.core().options.resolvers)?;
            let change = after.map_or(Change::Delete, Change::Put);
            writes.push(Write { cell: cell.clone(), base: view.snapshot(), change, stamped: false });
        }
        Ok(writes)
    }

    async fn end(&self, held: &mut Lease) -> Result<Outcome> {
        let finish = |next: &mut RangeRecord| {
            (next.finished, next.holder, next.rate) = (true, String::new(), 0.0);
            next.waits_for.clear();
        };
        if !held.put(finish).await? {
            return Ok(Outcome::Lost);
        }
        let Counts { bad: left, kept: merged, .. } = held.record.counts;
        let newest = self.db.newest().await?.0;
        let over = |record: &mut JobRecord| {
            if record.phase == Phase::Undoing {
                (record.phase, record.ended, record.certificate) = (Phase::Undone, newest, None);
                let told = [
                    (left, "groups of steps could not be taken back"),
                    (merged, "objects are in another shape than before, since live writers changed them"),
                ];
                let told: Vec<String> = told
                    .iter()
                    .filter(|(count, _)| *count > 0)
                    .map(|(count, what)| format!("{count} {what}"))
                    .collect();
                record.reason = told.join("; ");
            }
            Ok(())
        };
        self.job.change(over).await?;
        Ok(Outcome::Over)
    }
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
