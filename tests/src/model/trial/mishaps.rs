//! Owns the mishaps of a trial: power cuts, kills, restarts, and every way in which a disk can fail.

use super::{Harm, Trial, Wear};
use std::io::ErrorKind;
use zeolite_proto::{Draft, Fault, FaultKind};
use zeolite_server::store::disk::sim::SimOp;

impl Trial {
    pub(super) fn mishap(&mut self) -> Result<(), String> {
        if self.wear == Wear::Faults && self.dice.chance(60) {
            return self.harm();
        }
        let how = ["crash", "crash", "kill", "restart"][self.dice.rng.usize(0..4)];
        // A machine that has stopped can only be started again.
        let how = if self.harm.log && how != "crash" { "crash" } else { how };
        self.end_of_life(how)
    }

    fn harm(&mut self) -> Result<(), String> {
        let disk = self.beside.house.disk().clone();
        let skip = self.dice.rng.u64(0..4);
        match self.dice.rng.u32(0..8) {
            0 | 1 => {
                disk.set_room(Some(self.dice.rng.u64(0..20_000)));
                self.harm.full = true;
            }
            2 | 3 => disk.set_room(None),
            4 => {
                let op = [SimOp::Write, SimOp::Sync, SimOp::Create, SimOp::SyncDir][self.dice.rng.usize(0..4)];
                disk.fail(op, "log", skip, ErrorKind::Other);
                self.harm.log = true;
            }
            5 => {
                let op = [SimOp::Write, SimOp::Sync, SimOp::SetLen, SimOp::Read][self.dice.rng.usize(0..4)];
                disk.fail(op, "index", skip, ErrorKind::Other);
                self.harm.index = true;
            }
            _ => {
                disk.stop_at(disk.calls() + self.dice.rng.u64(0..30));
                (self.harm.log, self.harm.index) = (true, true);
            }
        }
        Ok(())
    }

    pub(super) fn end_of_life(&mut self, how: &str) -> Result<(), String> {
        self.collect()?;
        self.count(how);
        let ended = match how {
            "crash" => self.beside.house.crash(self.dice.rng.u64(..)),
            "kill" => self.beside.house.kill(),
            _ => {
                self.beside.house.disk().set_room(None);
                let in_order = self.beside.house.shut_down();
                self.collect_at_the_end()?;
                in_order.and_then(|()| self.beside.house.kill())
            }
        };
        match ended {
            Err(_) if self.harm.index && how != "crash" => {
                // A call that fails at the opening is named; the index stays, and is opened when the disk is well again.
                self.beside.house.disk().heal();
                self.beside.house.kill().map_err(|again| format!("does not open after a {how}: {again}"))?;
            }
            Err(error) => return Err(format!("does not open after a {how}: {error}")),
            Ok(()) => {}
        }
        // What was to fail and had no occasion to does not fail in another life.
        self.beside.house.disk().heal();
        self.beside.house.disk().set_room(None);
        self.harm = Harm::default();
        self.reborn()
    }

    /// Shut down in order: whoever is still waiting is told, prepared drafts are kept.
    fn collect_at_the_end(&mut self) -> Result<(), String> {
        self.keep_the_durable();
        let (mut left, mut told) = (Vec::new(), Vec::new());
        for open in std::mem::take(&mut self.open) {
            let answer = open.told.take();
            let shutting_down = |fault: &Fault| fault.kind == FaultKind::ShuttingDown;
            match answer {
                Some(Err(fault)) if shutting_down(&fault) => {}
                Some(answer) => {
                    told.push(super::Open { told: crate::support::told::Told::with(answer), ..open });
                }
                None => left.push(open),
            }
        }
        if !left.is_empty() && !self.harm.log {
            return Err(format!("{} drafts were not answered by a shutdown in order", left.len()));
        }
        self.open = told;
        self.collect()?;
        self.open.extend(left);
        Ok(())
    }

    fn reborn(&mut self) -> Result<(), String> {
        let mut unanswered: Vec<Draft> = self.open.drain(..).map(|open| open.draft).collect();
        unanswered.append(&mut self.uncertain);
        self.pins.clear();
        self.packed_as_told()?;
        let known = self.beside.model.log().count();
        self.beside.catch_up(&unanswered)?;
        self.find_the_durable()?;
        if self.gate_in_doubt {
            self.open_the_gate(false)?;
        }
        if self.beside.model.log().count() > known {
            self.count("in the log though not acknowledged");
        }
        for snapshot in &mut self.snapshots {
            *snapshot = (*snapshot).min(self.beside.house.engine().visible());
        }
        // Who was not answered sends its draft again under its key: exactly once, whether it was committed or not.
        for draft in unanswered {
            let restored = super::restoring::is_restored(&draft);
            // What is prepared durably is still to be finished.
            let held = self.holding.iter().any(|holding| holding.draft.key == draft.key);
            if self.beside.model.by_key(draft.key).is_none() && !restored && !held && self.dice.chance(50) {
                self.send(draft);
            }
        }
        Ok(())
    }
}
