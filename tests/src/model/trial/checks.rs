//! Owns the questions that a trial asks on its way.

use super::Trial;
use zeolite_proto::{Cell, Tid};
use zeolite_server::store::Range;

impl Trial {
    /// A few random questions, at random snapshots.
    pub(super) fn compare_some(&mut self) -> Result<(), String> {
        let outcome = self.ask_some();
        self.excused(outcome)
    }

    /// Every question there is.
    pub(super) fn compare_everything(&mut self) -> Result<(), String> {
        let outcome = self.beside.compare_everything();
        self.excused(outcome)
    }

    /// An index that cannot be read says so; it must not say anything else.
    fn excused(&self, outcome: Result<(), String>) -> Result<(), String> {
        let says_so = |error: &String| error.contains("internal") || error.contains("the index has failed");
        let by_the_index = self.harm.index && outcome.as_ref().is_err_and(says_so);
        if by_the_index { Ok(()) } else { outcome }
    }

    fn ask_some(&mut self) -> Result<(), String> {
        let at = self.a_snapshot();
        if at != Tid::NONE && at < self.beside.model.packed_to() {
            return match self.beside.house.engine().load(at, &[self.dice.cell()]) {
                Ok(_) => Err(format!("a load at {at}, which is packed away, was answered")),
                Err(fault) => self.is_packed_away(at, &fault),
            };
        }
        let cells: Vec<Cell> = (0..self.dice.rng.usize(1..5)).map(|_| self.dice.cell()).collect();
        self.beside.compare_load(at, &cells)?;
        let (from, to) = self.dice.bounds();
        let (reverse, keys_only) = (self.dice.rng.bool(), self.dice.chance(20));
        let oid = if self.dice.rng.bool() { self.dice.collection() } else { self.dice.queue() };
        let range = Range { oid, from: from.into(), to: to.into(), reverse, keys_only };
        self.beside.compare_scan(at, &range, self.dice.rng.usize(0..4))?;
        self.beside.compare_history(&self.dice.cell())?;
        if self.dice.chance(20) { self.beside.compare_kinds() } else { Ok(()) }
    }

    pub(super) fn a_snapshot(&mut self) -> Tid {
        let known: Vec<Tid> = self.beside.model.log().map(|txn| txn.tid).collect();
        if known.is_empty() || self.dice.chance(40) {
            return Tid::NONE;
        }
        let tid = known[self.dice.rng.usize(0..known.len())];
        if self.dice.chance(30) { tid.prev() } else { tid }
    }
}
