//! Owns the sequencer's part in a restore: what may be added at the end, under the tid that it brings.

use super::Sequencer;
use crate::engine::ids::public;
use crate::engine::keep::own_cells::OwnCell;
use crate::engine::keep::{gates, own_cells, prepared_cell, system};
use crate::engine::pipeline::ask::{Answer, Life, RestoreAsk};
use crate::engine::pipeline::endings::Ending;
use crate::engine::pipeline::keys::{Keyed, NO_KEY, Standing};
use crate::engine::pipeline::kinds;
use crate::engine::pipeline::restore;
use crate::engine::replication::was_promoted;
use crate::storage::TxnWrite;
use zeolite_proto::{Cell, CommitKey, Fault, FaultKind, Oid, Tid, hash};

/// What a restored transaction does to prepared drafts.
#[derive(Default)]
struct Change {
    /// Drafts that are prepared from now on.
    brings: Vec<prepared_cell::InPieces>,
    /// The prepared draft that it ends.
    ends: Option<(u64, CommitKey)>,
    /// History is packed up to here, as far as it comes.
    packs: Tid,
}

impl Change {
    /// A cell that a draft which is brought writes, and the transaction itself or another such draft as well.
    fn held_twice<'a>(&'a self, writes: &'a [TxnWrite]) -> Option<&'a Cell> {
        let brought = self.brings.iter().flat_map(|(draft, _)| &draft.writes).filter(|write| !write.stamped);
        let mut held = hash::Set::default();
        let twice = brought.map(|write| &write.cell).find(|cell| !held.insert(*cell));
        twice.or_else(|| writes.iter().map(|write| &write.cell).find(|cell| held.contains(*cell)))
    }
}

impl Sequencer {
    pub(super) fn restore(&mut self, mut ask: RestoreAsk) {
        let is_being_promoted = |(epoch, tid)| epoch == self.epoch && self.engine.visible() < tid;
        if ask.life.is_some() && self.promoted.is_some_and(is_being_promoted) {
            return ask.refuse(was_promoted());
        }
        let begins = ask.course.is_new();
        let Change { brings, ends, packs } = match self.may_restore(&mut ask, begins) {
            Ok(change) => change,
            Err(fault) => return ask.refuse(fault),
        };
        let life = self.life_of(&ask, packs).filter(|_| begins);
        self.packed_said = self.packed_said.max(packs);
        let greatest = ask.txn.writes.iter().map(|write| write.cell.oid).max();
        self.engine.keep.oids().observe(greatest.unwrap_or(Oid::ROOT));
        let of_primary = ask.life.is_none();
        let RestoreAsk { txn, done, .. } = ask;
        let is_packed_there = self.packed_said > self.last;
        self.pass_on(txn, (life, of_primary), Answer::Restored { ends: ends.map(|(_, key)| key), done });
        self.last_restored = self.last;
        if is_packed_there {
            self.keys_unknown_to = self.packed_said.min(self.last);
        }
        if let Some((id, _)) = ends
            && let Some((prepared, freed)) = self.holds.release(id)
        {
            self.endings.begin(Ending { tid: self.last, id, prepared });
            self.count_prepared();
            self.unpark(freed);
        }
        for draft in brings {
            self.take_up(draft, self.last);
        }
    }

    /// The life of the store that begins with a restore; none: the one that there is goes on.
    fn life_of(&self, ask: &RestoreAsk, packs: Tid) -> Option<Life> {
        let goes_on = match ask.life {
            Some(life) => life == self.engine.timeline(),
            // Behind another restore nobody needs to be told apart, and a file for each of many small ones would be too many.
            None => self.last == self.last_restored,
        };
        // Every life of the server has another seed, and every life of the store in it another beginning.
        let new = || public(self.engine.setup.seed, "timeline", self.engine.steady_ns());
        let timeline = ask.life.unwrap_or_else(new);
        (!goes_on || packs != Tid::NONE).then_some(Life { timeline, packed_to: packs })
    }

    fn too_old(&self, tid: Tid) -> Fault {
        let last = self.last;
        if tid > self.last_of_others {
            return Fault::invalid(format!(
                "tid {tid} is not newer than {last}, the last of the server's own bookkeeping (oids that were handed out, modes, \
                 gates); restore so old a history into a new database, before anything else is asked of it"
            ));
        }
        Fault::invalid(format!("tid {tid} is not newer than {last}; restore only adds to the end"))
    }

    /// A transaction of the server's own may move behind this server's own ones, whose tids are no times. The last checks
    /// reserve keys.
    fn may_restore(&self, ask: &mut RestoreAsk, begins: bool) -> Result<Change, Fault> {
        let txn = &mut ask.txn;
        if !ask.course.goes_on(self.epoch) {
            return Err(restore::ended());
        }
        if txn.tid <= self.last && txn.tid > self.last_of_others && system::is_own(txn) {
            txn.tid = self.last.next();
        }
        if txn.tid <= self.last {
            return Err(self.too_old(txn.tid));
        }
        let packs = self.packs(ask.packed_to, begins)?;
        let change = Change { packs, ..self.change_of(&txn.writes)? };
        // What a draft that it brings will write was promised where it was prepared: it comes here now.
        let brought = || change.brings.iter().flat_map(|(draft, _)| &draft.writes);
        let written = || txn.writes.iter().map(|write| (&write.cell, write.record.as_ref()));
        let all = || written().chain(brought().map(|write| (&write.cell, write.record.as_ref())));
        self.condemned.check(all())?;
        self.engine.keep.gates().check_restored(all())?;
        self.check_promises(&change.brings, &txn.writes)?;
        kinds::check(self.engine.reader(), brought().map(|write| (&write.cell, write.record.as_ref())), false)?;
        kinds::check(self.engine.reader(), written(), true)?;
        let own = change.ends.map(|(id, _)| id);
        if let Some(held) = txn.writes.iter().find(|write| self.holds.is_held(&write.cell, own)) {
            let message = format!("cell {} is held by a prepared draft; come back when it is finished", held.cell);
            return Err(Fault::new(FaultKind::Busy, message).after_ms(50));
        }
        if let Some((draft, _)) =
            change.brings.iter().find(|(it, _)| self.holds.holder(&it.shape(), None, true).is_some())
        {
            let message = format!("the prepared draft {} needs a cell that another one holds; come back", draft.key);
            return Err(Fault::new(FaultKind::Busy, message).after_ms(50));
        }
        if let Some(twice) = change.held_twice(&txn.writes) {
            let message = format!(
                "cell {twice} is held by a prepared draft that the transaction brings, and written by it or held by another one"
            );
            return Err(Fault::invalid(message));
        }
        own_cells::keep_ceiling(txn.writes.to_mut(), self.engine.keep.oids().ceiling())?;
        // Nobody asks for the outcome of bookkeeping: it needs no key.
        if system::is_own(txn) && matches!(self.engine.keys().standing(&Keyed::new(txn.key)), Standing::Committed(_)) {
            txn.key = NO_KEY;
        }
        let own_key = change.ends.is_some_and(|(_, key)| key == txn.key);
        if txn.key != NO_KEY && !own_key {
            self.engine.keys().reserve_restored(txn.key, txn.digest)?;
        }
        for (at, (draft, _)) in change.brings.iter().enumerate() {
            if let Err(fault) = self.engine.keys().reserve_restored(draft.key, draft.digest) {
                let reserved = change.brings.iter().take(at).map(|(draft, _)| draft.key);
                let reserved = reserved.chain(Some(txn.key).filter(|key| *key != NO_KEY && !own_key));
                reserved.for_each(|key| self.engine.keys().complete(key, Err(fault.clone())));
                return Err(fault);
            }
        }
        Ok(change)
    }

    /// No promise may be behind a closed gate, whichever of the two comes first.
    fn check_promises(&self, brings: &[prepared_cell::InPieces], writes: &[TxnWrite]) -> Result<(), Fault> {
        for (draft, _) in brings {
            self.engine.keep.gates().check_promised(&draft.writes).map_err(|fault| {
                let message = format!("the prepared draft {} that it brings: {}", draft.key, fault.message);
                Fault { message, ..fault }
            })?;
        }
        for write in writes.iter().filter(|write| write.cell.oid == system::SYSTEM_OID) {
            let Ok(OwnCell::Gate(class, Some(gate))) = OwnCell::read(&write.cell, write.record.as_ref(), Tid::NONE)
            else {
                continue;
            };
            let brought = brings.iter().map(|(draft, _)| (draft.key, &draft.writes));
            let mut all = brought.chain(self.holds.prepared().map(|prepared| (prepared.key, &prepared.writes)));
            if let Some((key, _)) = all.find(|(_, writes)| writes.iter().any(|write| gates::is_below(&gate, write))) {
                let message = format!(
                    "it closes the gate of class {class:?}, and the prepared draft {key} writes what is below; come back when                      that is finished or aborted"
                );
                return Err(Fault::new(FaultKind::Busy, message).after_ms(1000));
            }
        }
        Ok(())
    }

    /// What becomes packed here because it was where a transaction comes from. What is here already was whole, or the beginning
    /// of the same restore; behind it nothing may be missing.
    fn packs(&self, packed_to: Tid, begins: bool) -> Result<Tid, Fault> {
        // What was packed here as well may have been what comes refers to.
        let here = self.engine.packed_to();
        if self.last_of_others != Tid::NONE && here > packed_to {
            let message = format!(
                "this database was packed itself, up to {here}, and what comes was packed up to {packed_to} only: objects that it \
                 refers to may be gone; restore the whole log into an empty database, and pack it when it is whole"
            );
            return Err(Fault::new(FaultKind::SnapshotPacked, message));
        }
        if packed_to <= self.last.max(self.packed_said) {
            return Ok(Tid::NONE);
        }
        let is_empty = self.last_of_others == Tid::NONE && self.promised().next().is_none();
        if !begins || !is_empty {
            let message = format!(
                "history is packed up to {packed_to} where this comes from, and here is all up to {} only: what was deleted or \
                 finished in between may be missing; restore the whole log into an empty database",
                self.last
            );
            return Err(Fault::new(FaultKind::SnapshotPacked, message));
        }
        match self.engine.pins().oldest() {
            (_, Some(pinned)) if pinned < packed_to => {
                let message =
                    format!("snapshot {pinned} is pinned here, and what comes is packed up to {packed_to}; unpin it");
                Err(Fault::new(FaultKind::Busy, message).after_ms(1000))
            }
            _ => Ok(packed_to),
        }
    }

    fn change_of(&self, writes: &[TxnWrite]) -> Result<Change, Fault> {
        if writes.iter().all(|write| write.cell.oid != system::SYSTEM_OID) {
            return Ok(Change::default());
        }
        let (brings, deleted) = prepared_cell::of_writes(writes).map_err(Fault::invalid)?;
        let mut ends = None;
        for (key, pieces) in deleted {
            let Some((id, prepared)) = self.holds.by_key(key) else { continue };
            if ends.replace((id, key)).is_some() || prepared.durable.is_none_or(|durable| durable.pieces != pieces) {
                let message =
                    format!("the transaction ends a part of the prepared draft {key}, or more than one; copy it whole");
                return Err(Fault::invalid(message));
            }
        }
        Ok(Change { brings, ends, packs: Tid::NONE })
    }
}
