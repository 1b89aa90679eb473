//! Owns the copies of a trial: the whole log restored into an empty house, which must then answer like the one it came from,
//! however often it was killed on the way.

use super::Trial;
use crate::model::Beside;
use crate::support::house::{House, HouseSettings};
use crate::support::told::Told;
use zeolite_proto::{CommitKey, PreparedDraft, Tid};
use zeolite_server::engine::Outcome;
use zeolite_server::store::Txn;

impl Trial {
    /// Copies everything, and looks at the copy.
    pub(super) fn copy(&mut self) -> Result<(), String> {
        self.run_dry()?;
        self.collect()?;
        if self.harm.log || self.harm.index {
            return Ok(());
        }
        let log = log_of(&self.beside.house)?;
        let packed_to = self.beside.house.engine().packed_to();
        let mut there = House::new(HouseSettings::default());
        let cut = self.dice.rng.usize(0..=log.len());
        restore(&mut there, &log[..cut], packed_to)?;
        if self.dice.chance(50) {
            let ended = if self.dice.chance(50) { there.kill() } else { there.crash(self.dice.rng.u64(..)) };
            ended.map_err(|error| format!("a copy that was interrupted does not open: {error}"))?;
        }
        let reached = there.engine().visible();
        if reached != log[..cut].last().map_or(Tid::NONE, |txn| txn.tid) {
            return Err(format!("a copy of {cut} transactions has come to {reached}"));
        }
        restore(&mut there, &log[cut..], packed_to)?;
        self.count("copied");
        let mut copy = Beside { house: there, model: self.beside.model.clone() };
        copy.compare_everything().map_err(|error| format!("in a copy: {error}"))?;
        let (here, there) = (prepared(&mut self.beside.house)?, prepared(&mut copy.house)?);
        if here != there {
            return Err(format!("prepared durably: {here:?}; in the copy: {there:?}"));
        }
        self.same_receipts(&copy)
    }

    /// Whoever sends again to the copy gets its receipt.
    fn same_receipts(&mut self, copy: &Beside) -> Result<(), String> {
        for txn in copy.model.log() {
            match copy.house.engine().outcome(txn.key, Some(Tid::MAX)) {
                Ok(Outcome::Committed(receipt)) if receipt.tid == txn.tid => {}
                other => return Err(format!("{} was committed at {}; a copy says {other:?}", txn.key, txn.tid)),
            }
        }
        Ok(())
    }
}

fn log_of(house: &House) -> Result<Vec<Txn>, String> {
    let mut log: Vec<Txn> = Vec::new();
    loop {
        let from = log.last().map_or(Tid(1), |txn| txn.tid.next());
        let page = house.engine().log_page(from, Tid::NONE, 0).map_err(|fault| format!("the log: {fault}"))?;
        if page.is_empty() {
            return Ok(log);
        }
        log.extend(page);
    }
}

fn restore(into: &mut House, log: &[Txn], packed_to: Tid) -> Result<(), String> {
    let restoring = into.engine().restoring().map_err(|fault| format!("may not be restored into: {fault}"))?;
    for txn in log {
        let (done, told) = Told::pair();
        restoring.add(txn.clone(), packed_to, done);
        into.run_dry();
        told.expect().map_err(|fault| format!("{} was not restored: {fault}", txn.tid))?;
    }
    Ok(())
}

/// The keys of what is prepared durably.
fn prepared(house: &mut House) -> Result<Vec<CommitKey>, String> {
    let (done, told) = Told::pair();
    house.engine().prepared(done);
    house.run_dry();
    let durable = |prepared: PreparedDraft| prepared.durable.then_some(prepared.key);
    let all = told.expect().map_err(|fault| format!("what is prepared was not told: {fault}"))?;
    let mut keys: Vec<CommitKey> = all.into_iter().filter_map(durable).collect();
    keys.sort_unstable();
    Ok(keys)
}
