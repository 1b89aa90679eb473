//! Owns the restores of a trial. To the model a restored transaction is a draft that nothing can be in the way of: whatever base a
//! cell has, it is not newer than [`Tid::MAX`].

use super::{Open, Trial};
use crate::support::told::Told;
use std::time::Duration;
use zeolite_proto::{Change, Draft, Fault, FaultKind, Note, Receipt, Tid};
use zeolite_server::engine::Done;
use zeolite_server::engine::clock::Clock;
use zeolite_server::store::{Txn, TxnWrite};

/// Whether a draft stands for a restored transaction.
pub(super) fn is_restored(draft: &Draft) -> bool {
    draft.writes.iter().all(|write| write.base == Tid::MAX) && !draft.writes.is_empty()
}

impl Trial {
    /// A transaction from elsewhere, some time ahead of the clock or behind it: too old ones are refused.
    pub(super) fn restore(&mut self) {
        let key = self.new_key();
        let mut draft = self.dice.draft(key, &self.beside.model, Tid::NONE);
        draft.writes.retain(|write| !write.stamped && !matches!(write.change, Change::Apply { .. }));
        draft.writes.iter_mut().for_each(|write| write.base = Tid::MAX);
        // The steps of its note would name other places.
        (draft.read_cells, draft.read_ranges, draft.note) = (Vec::new(), Vec::new(), Note::default());
        if draft.writes.is_empty() {
            return;
        }
        let now = self.beside.house.clock().unix_nanos();
        let ahead = Duration::from_millis(self.dice.rng.u64(0..2000)).as_nanos() as i128;
        let tid = Tid::from_unix_nanos(now + ahead - 500_000_000);
        let write = |write: &zeolite_proto::Write| {
            let record = match &write.change {
                Change::Put(record) => Some(record.clone()),
                Change::Apply { .. } | Change::Delete => None,
            };
            TxnWrite { cell: write.cell.clone(), record, merged: false }
        };
        let writes = draft.writes.iter().map(write).collect();
        let txn = Txn { tid, key, digest: 0, own: false, note: bytes::Bytes::new(), writes };
        let (done, told) = Told::pair();
        let receipt = |tid: Tid| Receipt { tid, merged: Vec::new() };
        let done: Done<Tid> = Box::new(move |answer| done(answer.map(receipt)));
        match self.beside.house.engine().restoring() {
            Ok(restoring) => restoring.add(txn, Tid::NONE, done),
            Err(fault) => done(Err(fault)),
        }
        self.count("restore asked");
        self.open.push(Open { draft, told });
    }

    /// Whether the model knows why a restored transaction was refused.
    pub(super) fn may_refuse_restored(&self, fault: &Fault) -> bool {
        match fault.kind {
            FaultKind::Invalid => fault.message.contains("restore only adds to the end"),
            FaultKind::Busy => fault.message.contains("is held by a prepared draft"),
            FaultKind::SnapshotPacked => {
                self.beside.model.packed_to() != Tid::NONE && fault.message.contains("was packed itself")
            }
            _ => false,
        }
    }
}
