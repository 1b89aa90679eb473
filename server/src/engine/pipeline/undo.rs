//! Owns undo: a transaction is taken back by an ordinary draft.
//!
//! For every cell that the transaction wrote, the draft puts back what was there before, with the transaction's tid as the
//! base. So the pipeline's own rule decides: nothing newer, and the old record returns; something newer, and the
//! resolver merges (base = what the undone transaction wrote, theirs = what is there now, ours = what was there before), or the
//! undo is refused as a whole. A cell that holds now what the transaction wrote, byte for byte, counts as not written since, whatever
//! its class: so transactions are undone one after the other, the newest first. One that it wrote as it was is left alone.

use crate::engine::Engine;
use crate::engine::answers::Done;
use crate::engine::caller::Caller;
use crate::engine::faults::fault_of;
use crate::engine::keep::system::SYSTEM_OID;
use crate::engine::pipeline::keys::Keyed;
use std::sync::Arc;
use zeolite_proto::{Cell, Change, CommitKey, Draft, Fault, FaultKind, Note, Priority, Receipt, Tid, Write};

impl Engine {
    /// Takes a transaction back. `since`: a tid that was committed before the key was made.
    pub fn undo(
        self: &Arc<Self>,
        caller: impl Into<Caller>,
        tid: Tid,
        (key, since): (CommitKey, Tid),
        note: Note,
        done: Done<Receipt>,
    ) {
        // Known by what is undone: its draft may not be made again, where later writes or a pack stand in the way of a second one.
        let keyed = Keyed { key, digest: digest_of(tid, note.clone()), since: Some(since) };
        let done = Box::new(move |result: Result<Receipt, Fault>| done(result.map_err(as_blocked)));
        self.commit_keyed(caller.into(), keyed, || self.undo_draft(tid, (key, since), note), done);
    }

    fn undo_draft(&self, tid: Tid, (key, key_since): (CommitKey, Tid), note: Note) -> Result<Draft, Fault> {
        if tid <= self.reader().packed_to() {
            let message = format!("transaction {tid} is packed: what was there before it is gone; it cannot be undone");
            return Err(Fault::new(FaultKind::SnapshotPacked, message));
        }
        let txn = if tid > self.visible() { None } else { self.reader().txn(tid).map_err(fault_of)? };
        let Some(txn) = txn else {
            return Err(Fault::new(FaultKind::NotFound, format!("there is no transaction {tid}; see `zeolite log`")));
        };
        let (own, writes): (Vec<_>, Vec<_>) = txn.writes.into_iter().partition(|write| write.cell.oid == SYSTEM_OID);
        // The end of what kept a prepared draft is not taken back with what that wrote.
        if !own.is_empty() && writes.is_empty() {
            return Err(Fault::invalid(format!(
                "transaction {tid} is the server's own bookkeeping; it cannot be undone"
            )));
        }
        let mut undone = Vec::with_capacity(writes.len());
        for write in writes {
            let before = self.reader().get(&write.cell, tid.prev()).map_err(fault_of)?.and_then(|before| before.record);
            if before == write.record {
                continue;
            }
            let now = self.reader().get(&write.cell, self.visible()).map_err(fault_of)?;
            let base = match now {
                Some(now) if now.record == write.record => now.tid,
                _ => tid,
            };
            let change = before.map_or(Change::Delete, Change::Put);
            undone.push(Write { cell: write.cell, base, change, stamped: false });
        }
        let (read_cells, read_ranges) = (Vec::new(), Vec::new());
        Ok(Draft { key, key_since, priority: Priority::Live, read_cells, read_ranges, writes: undone, note })
    }
}

// No draft of a client writes there, so none has this digest.
fn digest_of(tid: Tid, note: Note) -> u64 {
    let cell = Cell::entry(SYSTEM_OID, format!("undo {tid}"));
    let writes = vec![Write { cell, base: Tid::NONE, change: Change::Delete, stamped: false }];
    let (key, key_since, priority) = (CommitKey([0; 16]), Tid::NONE, Priority::Live);
    Draft { key, key_since, priority, read_cells: Vec::new(), read_ranges: Vec::new(), writes, note }.digest()
}

fn as_blocked(fault: Fault) -> Fault {
    match (fault.kind, fault.conflict) {
        (FaultKind::Conflict, Some(detail)) => {
            Fault { others: fault.others, ..Fault::conflict(FaultKind::UndoBlocked, *detail) }
        }
        (kind, conflict) => Fault { kind, conflict, ..fault },
    }
}
