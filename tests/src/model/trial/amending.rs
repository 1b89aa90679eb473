//! Owns the amending of held drafts in a trial: whatever is stale is read again, written again, or withdrawn.

use super::{Holding, Trial};
use crate::support::told::Told;
use zeolite_proto::{Draft, FaultKind, Role, Write};
use zeolite_server::engine::{Owner, PreparedReceipt};

impl Trial {
    /// Amends a held draft until nothing of it is stale; the draft becomes what the model has to find. False: it is lost, or to
    /// be given up.
    pub(super) fn amend(&mut self, holding: &mut Holding, given: &mut PreparedReceipt) -> Result<bool, String> {
        if !given.stale.is_empty() && self.dice.chance(20) {
            self.finish_too_early(holding, given)?;
        }
        let mut rounds = 0;
        while !given.stale.is_empty() {
            rounds += 1;
            if rounds > 3 {
                return Err(format!("{:?} is stale after {rounds} amendments", given.stale));
            }
            let (amendment, withdrawn) = self.amendment(holding, given);
            let anew: Vec<_> = amendment.writes.iter().map(|write| write.cell.clone()).collect();
            let (done, told) = Told::pair();
            self.beside.house.engine().amend(Role::Write, given.prepared, amendment, withdrawn.clone(), done);
            self.run_dry()?;
            match told.take() {
                Some(Ok(now)) => {
                    self.count("amended");
                    given.merged.retain(|merged| !anew.contains(&merged.cell) && !withdrawn.contains(&merged.cell));
                    given.merged.extend(now.merged);
                    given.stale = now.stale;
                }
                Some(Err(fault)) if fault.kind == FaultKind::Busy => return Ok(false),
                Some(Err(fault)) => {
                    let excused = self.steady >= holding.until || self.harm.full || self.harm.log;
                    return if excused { Ok(false) } else { Err(format!("an amendment in time was refused: {fault}")) };
                }
                None => return Err("an amendment was not answered".into()),
            }
        }
        Ok(true)
    }

    /// While something is stale there is no finish, and the refusal changes nothing.
    fn finish_too_early(&mut self, holding: &Holding, given: &PreparedReceipt) -> Result<(), String> {
        let (done, told) = Told::pair();
        self.beside.house.engine().finish(
            &Owner::anonymous(),
            given.prepared,
            holding.draft.key,
            Some(zeolite_proto::Tid::MAX),
            done,
        );
        self.run_dry()?;
        match told.take() {
            Some(Err(_)) => Ok(()),
            other => Err(format!("a finish of a stale draft was answered with {other:?}")),
        }
    }

    /// What is stale of the draft, as of now; some of it is withdrawn.
    fn amendment(&mut self, holding: &mut Holding, given: &PreparedReceipt) -> (Draft, Vec<zeolite_proto::Cell>) {
        let now = self.beside.house.engine().visible();
        let draft = &mut holding.draft;
        let mut amendment =
            Draft { writes: Vec::new(), read_cells: Vec::new(), read_ranges: Vec::new(), ..draft.clone() };
        let mut withdrawn = Vec::new();
        for cell in given.stale.iter().map(|stale| &stale.cell) {
            for range in draft.read_ranges.iter_mut().filter(|range| range.covers(cell)) {
                range.base = now;
                amendment.read_ranges.push(range.clone());
            }
            let write_of = |write: &Write| !write.stamped && write.cell == *cell;
            let named = draft.writes.iter().any(write_of) || draft.read_cells.iter().any(|read| read.cell == *cell);
            if !named || self.dice.chance(30) {
                draft.writes.retain(|write| write.cell != *cell);
                draft.read_cells.retain(|read| read.cell != *cell);
                withdrawn.push(cell.clone());
                continue;
            }
            for read in draft.read_cells.iter_mut().filter(|read| read.cell == *cell) {
                read.base = now;
                amendment.read_cells.push(read.clone());
            }
            amendment
                .writes
                .extend(draft.writes.extract_if(.., |write| write_of(write)).map(|write| Write { base: now, ..write }));
        }
        // What is made anew comes last.
        draft.writes.extend(amendment.writes.iter().cloned());
        (amendment, withdrawn)
    }
}
