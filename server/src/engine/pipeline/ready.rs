//! Owns a large draft that was made ready before its turn: so that to put hundreds of thousands of writes in order is a few steps, and
//! nobody waits for it.
//!
//! ```text
//!   caller's thread   all of it is put or deleted, and nothing that the store has as of a tid is newer than what it was made on:
//!                     what it comes to is known, if nothing else is committed. It is sorted, where its records will lie is worked out,
//!                     and it is written to a file of its own
//!   sequencer         what was written behind that tid is asked for in the draft, which is less than the other way round;
//!                     no checked read, held cell, gate or list of garbage is in its way: sealed as it is
//!                     anything is: it is judged write by write like any other draft
//! ```
//! So what is refused, merged or waited for is decided in one place, `check`; here is only the answer "nothing is in the way".
//!
//! Not made ready: operations and stamped writes, which come to be what they are in their turn; what is to be prepared or amended; what has
//! conflicts in the store already.

use crate::engine::Engine;
use crate::engine::faults::fault_of;
use crate::engine::keep::system::SYSTEM_OID;
use crate::engine::note;
use crate::engine::pipeline::recent::Recent;
use crate::storage::{TxnWrite, Unsealed, Writes};
use zeolite_proto::{Change, Draft, Fault, Tid, Write};

/// So many writes are compared with the store together.
const LIST_WRITES: usize = 4096;
/// What was written meanwhile is asked for in the draft if it is no more than this part of it.
const FEW_PART: usize = 4;

/// A draft's writes as they will be sealed.
pub(crate) struct Ready {
    writes: Writes,
    /// What each was made on.
    bases: Vec<Tid>,
    /// Nothing up to here is newer than any of them.
    clear_to: Tid,
}

impl Engine {
    /// Makes a draft ready if it is large and plain: its writes are taken out then. Reads the store.
    pub(super) fn make_ready(&self, draft: &mut Draft) -> Result<Option<Ready>, Fault> {
        let is_plain = |write: &Write| {
            !write.stamped && write.cell.oid != SYSTEM_OID && !matches!(write.change, Change::Apply { .. })
        };
        if draft.writes.len() < self.settings().ready_writes_min || !draft.writes.iter().all(is_plain) {
            return Ok(None);
        }
        let Some(clear_to) = self.clear_to(&draft.writes)? else { return Ok(None) };
        let bases = draft.writes.iter().map(|write| write.base).collect();
        let sealed = |write: Write| {
            let record = if let Change::Put(record) = write.change { Some(record) } else { None };
            TxnWrite { cell: write.cell, record, merged: false }
        };
        let writes = std::mem::take(&mut draft.writes).into_iter().map(sealed).collect();
        let of = Unsealed { key: draft.key, digest: self.keys().digest(draft.key), note: note::encode(&draft.note) };
        let writes = self.ahead().large(writes, of).map_err(fault_of)?;
        Ok(Some(Ready { writes, bases, clear_to }))
    }

    /// Up to where nothing is newer than what these were made on; none: something is.
    fn clear_to(&self, writes: &[Write]) -> Result<Option<Tid>, Fault> {
        // What is newer than its floor the sequencer will remember, or it says that it does not.
        let floor = self.pipeline.recent_floor();
        let at = self.visible();
        let mut clear_to = writes.iter().map(|write| write.base).filter(|base| *base >= floor).min().unwrap_or(at);
        let old: Vec<_> = writes.iter().filter(|write| write.base < floor).collect();
        for some in old.chunks(LIST_WRITES) {
            let asked: Vec<_> = some.iter().map(|write| (write.cell.clone(), write.base)).collect();
            if self.reader().newer_many(&asked).map_err(fault_of)?.iter().any(Option::is_some) {
                return Ok(None);
            }
            clear_to = clear_to.min(at);
        }
        Ok(Some(clear_to))
    }
}

impl Ready {
    pub(crate) fn writes(&self) -> &Writes {
        &self.writes
    }

    /// Whether nothing was sealed meanwhile that is newer than what a write was made on.
    pub(crate) fn is_clear(&self, recent: &Recent) -> bool {
        if self.clear_to < recent.floor() || recent.count_behind(self.clear_to) > self.bases.len() / FEW_PART {
            return false;
        }
        let mut behind = recent.cells_behind(self.clear_to);
        behind.all(|cell| self.writes.place(cell).is_none_or(|at| recent.newest(cell) <= Some(self.bases[at])))
    }

    /// The writes as the draft had them.
    pub(crate) fn into_writes(self) -> Vec<Write> {
        let write = |(write, base): (TxnWrite, Tid)| Write {
            cell: write.cell,
            base,
            change: write.record.map_or(Change::Delete, Change::Put),
            stamped: false,
        };
        self.writes.into_vec().into_iter().zip(self.bases).map(write).collect()
    }
}
