//! Owns the one draft that a chunk is committed by: what its steps wrote, what the ledger says then, and the note that tells which
//! step wrote what.

use super::Chunk;
use crate::errors::{Error, Result};
use crate::evolve::assembly::{Assembly, Slot, assemble};
use crate::evolve::lease::Lease;
use crate::evolve::ledger::{Owed, Part, RangeRecord, bad_cell, encoded, paid_cell};
use crate::evolve::step_notes::step_notes;
use crate::evolve::stepping::{StepResult, SteppedCell};
use crate::tx::{Place, Staged, fold};
use zeolite_proto::evolve::ChunkNote;
use zeolite_proto::{Cell, Change, Draft, Priority, ReadCell, Write, hash};

impl Chunk<'_> {
    /// The draft, what it makes of the range, and how many of the tries are in it.
    pub(super) async fn draft(
        &self,
        held: &Lease,
        tries: &[SteppedCell],
        offered: usize,
        place: Place,
    ) -> Result<(Draft, RangeRecord, usize)> {
        let (assembly, told) = self.assembled(held, tries)?;
        let taken = &tries[..assembly.taken];
        let next = self.next(held, taken, offered);
        let stepped = taken.iter().filter(|made| matches!(made.made, StepResult::Work { .. })).count();
        let note = told.note(&self.record().name, &format!("{stepped} objects of range {}", held.number));
        let (read_cells, read_ranges, count) = (assembly.read_cells.clone(), assembly.read_ranges.clone(), taken.len());
        let mut writes = self.writes(assembly.slots, place).await?;
        self.write_quarantine(taken, place, &mut writes)?;
        self.write_repaid(taken, place, &mut writes)?;
        writes.push(held.write(&next)?);
        if let Some(first) = &self.course {
            writes.push(first.write(next.counts, place.snapshot)?);
        }
        let (key, key_since) = (self.db().new_commit_key(), place.snapshot);
        let mut draft = Draft { key, key_since, priority: Priority::Batch, read_cells, read_ranges, writes, note };
        draft.read_cells.push(ReadCell { cell: Cell::object(self.job), base: self.job_tid });
        Ok((draft, next, count))
    }

    /// As many of the tries as go into one draft, and as its note can tell.
    fn assembled(&self, held: &Lease, tries: &[SteppedCell]) -> Result<(Assembly, ChunkNote)> {
        let mut most = tries.len();
        loop {
            let assembly = assemble(tries[..most].iter().map(|made| match &made.made {
                StepResult::Work { work, .. } => Some(work),
                _ => None,
            }));
            let (steps, operations) = step_notes(&assembly.slots, &tries[..assembly.taken]);
            let (job, range, groups) = (self.job.0, held.number, assembly.groups.clone());
            let told = ChunkNote { job, range, groups, steps, operations };
            if assembly.taken <= 1 || told.fits() {
                return Ok((assembly, told));
            }
            // What was made together goes together, or not at all: fewer objects then.
            if self.stepping.step.joint().is_some() {
                return Err(Error::invalid("its note cannot tell what so many steps have made together"));
            }
            most = assembly.taken / 2;
        }
    }

    /// The steps' own writes.
    pub(crate) async fn writes(&self, slots: Vec<Slot>, place: Place) -> Result<Vec<Write>> {
        let view = place.view(self.db());
        let mut writes = Vec::with_capacity(slots.len() + 2);
        for slot in slots {
            let (cell, mut base) = (slot.cell, slot.base);
            let change = match slot.staged {
                Staged::Put(record) => Change::Put(record),
                Staged::Delete => Change::Delete,
                Staged::Apply { class, mut operations } if operations.len() == 1 => {
                    Change::Apply { class, operation: operations.remove(0) }
                }
                Staged::Apply { class, operations } => {
                    // Not read by any step: what comes between is merged by the resolver.
                    base = place.snapshot;
                    let stored = view.get_encoded(&cell).await?;
                    let folded = fold(&cell, &class, stored, &operations, &self.db().core().options.resolvers)?;
                    folded.map_or(Change::Delete, Change::Put)
                }
            };
            writes.push(Write { cell, base, change, stamped: slot.stamped });
        }
        Ok(writes)
    }

    fn write_quarantine(&self, taken: &[SteppedCell], place: Place, writes: &mut Vec<Write>) -> Result<()> {
        for made in taken {
            let change = match &made.made {
                StepResult::Bad(bad) => Change::Put(encoded(bad)?),
                StepResult::StillBad | StepResult::PutOff => continue,
                _ if made.was_bad => Change::Delete,
                _ => continue,
            };
            let cell = bad_cell(self.job, &made.item.cell);
            writes.push(Write { cell, base: place.snapshot, change, stamped: false });
        }
        Ok(())
    }

    /// What was owed is paid.
    fn write_repaid(&self, taken: &[SteppedCell], place: Place, writes: &mut Vec<Write>) -> Result<()> {
        let repaid = |made: &SteppedCell| matches!(made.made, StepResult::Work { repaid: Some(_), .. });
        let paid: hash::Set<&Cell> = taken.iter().filter(|made| repaid(made)).map(|made| &made.item.cell).collect();
        let mut known = hash::Set::default();
        for made in taken {
            let StepResult::Work { repaid: Some(repaid), changed, .. } = &made.made else { continue };
            let ledger = |cell, change| Write { cell, base: place.snapshot, change, stamped: false };
            let owed = repaid.owed.iter().filter(|owed| owed.others.iter().all(|other| paid.contains(other)));
            let owed = owed.filter(|owed| known.insert(owed.cell.clone()));
            writes.extend(owed.map(|owed| ledger(owed.cell.clone(), Change::Delete)));
            if let Some(chunk) = repaid.chunk {
                let paid = Owed { stands: *changed || !repaid.changed, ..Owed::new(chunk, &made.item.cell) };
                let paid = Change::Put(encoded(&paid)?);
                writes.push(ledger(paid_cell(self.job, chunk, &made.item.cell), paid));
            }
        }
        Ok(())
    }

    /// The range's record after the chunk.
    pub(crate) fn next(&self, held: &Lease, taken: &[SteppedCell], offered: usize) -> RangeRecord {
        let mut next = held.record.clone();
        next.beat += 1;
        next.counts.chunks += 1;
        self.waits_for.clone_into(&mut next.waits_for);
        next.rate = self.rate;
        for made in taken {
            made.count(&mut next.counts);
            let cell = (made.item.cell.oid.0, made.item.cell.key.to_vec());
            match &made.item.after {
                Some(cursor) => next.cursor = cursor.clone(),
                None => next.deferred.retain(|deferred| *deferred != cell),
            }
            // With a target the index lists it again at the end of the job.
            if matches!(made.made, StepResult::PutOff) && self.record().target.is_none() {
                next.deferred.push(cell);
            }
        }
        let through = taken.len() == offered && self.is_last && next.deferred.is_empty();
        next.finished = next.finished || (through && held.record.part != Part::Finish);
        if next.finished {
            next.holder.clear();
            next.waits_for.clear();
            next.rate = 0.0;
        }
        next
    }
}
