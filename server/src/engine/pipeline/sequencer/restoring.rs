//! Owns the sequencer's part in a restore: what may be added at the end, under the tid that it brings.

use super::Sequencer;
use crate::engine::keep::{own_cells, system};
use crate::engine::pipeline::ask::{Answer, RestoreAsk};
use crate::engine::pipeline::restore::{self, NO_KEY};
use zeolite_proto::{Fault, FaultKind, Oid};

impl Sequencer {
    pub(super) fn restore(&mut self, mut ask: RestoreAsk) {
        if let Err(fault) = self.may_restore(&mut ask) {
            return ask.refuse(fault);
        }
        let greatest = ask.txn.writes.iter().map(|write| write.cell.oid).max();
        self.engine.keep.oids().observe(greatest.unwrap_or(Oid::ROOT));
        self.pass_on(ask.txn, Answer::Restored(ask.done));
    }

    /// A transaction of the server's own may move behind this server's own ones, whose tids are no times. The last check
    /// reserves the key.
    fn may_restore(&self, ask: &mut RestoreAsk) -> Result<(), Fault> {
        let txn = &mut ask.txn;
        if !ask.course.goes_on(self.epoch) {
            return Err(restore::ended());
        }
        if txn.tid <= self.last && txn.tid > self.last_of_others && system::is_own(txn) {
            txn.tid = self.last.next();
        }
        if txn.tid <= self.last {
            let message = format!("tid {} is not newer than {}; restore only adds to the end", txn.tid, self.last);
            return Err(Fault::invalid(message));
        }
        self.condemned.check_restored(&txn.writes)?;
        self.engine.keep.gates().check_restored(&txn.writes)?;
        if let Some(held) = txn.writes.iter().find(|write| self.holds.is_held(&write.cell)) {
            let message = format!("cell {} is held by a prepared draft; come back when it is finished", held.cell);
            return Err(Fault::new(FaultKind::Busy, message).after_ms(50));
        }
        own_cells::keep_ceiling(&mut txn.writes, self.engine.keep.oids().ceiling())?;
        if txn.key != NO_KEY && !self.engine.keys().reserve_again(txn.key, txn.digest) {
            let message = format!("a draft under the commit key of transaction {} is on its way; come back", txn.tid);
            return Err(Fault::new(FaultKind::Busy, message).after_ms(50));
        }
        Ok(())
    }
}
