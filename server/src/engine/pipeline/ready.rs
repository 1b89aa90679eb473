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
use std::sync::Arc;
use zeolite_proto::{Change, Draft, Fault, Tid, Write};

/// So many writes are compared with the store together.
const LIST_WRITES: usize = 4096;
/// What is asked for in a draft's sorted writes is no more than this part of them: to find a cell there costs so many steps of going over all.
pub(super) const FEW_PART: usize = if cfg!(test) { 4 } else { 16 };

/// A draft's writes as they will be sealed.
pub(crate) struct Ready {
    writes: Writes,
    /// What each was made on.
    bases: Vec<Tid>,
    /// Nothing up to here is newer than any of them.
    clear_to: Tid,
    /// While it is there the sequencer remembers more.
    _made: Arc<()>,
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
        let made = self.pipeline.made_ready.clone();
        let Some(clear_to) = self.clear_to(&draft.writes)? else { return Ok(None) };
        let bases = draft.writes.iter().map(|write| write.base).collect();
        let sealed = |write: Write| {
            let record = if let Change::Put(record) = write.change { Some(record) } else { None };
            TxnWrite { cell: write.cell, record, merged: false }
        };
        let writes = std::mem::take(&mut draft.writes).into_iter().map(sealed).collect();
        let of = Unsealed { key: draft.key, digest: self.keys().digest(draft.key), note: note::encode(&draft.note) };
        let writes = self.ahead().large(writes, of).map_err(fault_of)?;
        Ok(Some(Ready { writes, bases, clear_to, _made: made }))
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
        if self.clear_to < recent.floor() {
            return false;
        }
        let (count, mut behind) = recent.behind_among(self.clear_to, &self.writes);
        count <= self.bases.len() / FEW_PART
            && behind.all(|cell| self.writes.place(cell).is_none_or(|at| recent.newest(cell) <= Some(self.bases[at])))
    }

    /// Nothing up to here is newer than what any of them was made on.
    pub(crate) fn clear_to(&self) -> Tid {
        self.clear_to
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pipeline::recent::RecentBounds;
    use std::collections::BTreeMap;
    use zeolite_proto::{Cell, Oid};

    fn large(cells: impl Iterator<Item = Cell>) -> Writes {
        let write = |cell| TxnWrite { cell, record: None, merged: false };
        Writes::large(cells.map(write).collect(), 0).expect("fits")
    }

    fn ready(writes: Writes, base: impl FnMut(&TxnWrite) -> Tid, clear_to: Tid) -> Ready {
        let bases = writes.iter().map(base).collect();
        Ready { writes, bases, clear_to, _made: Arc::default() }
    }

    #[test]
    fn what_is_clear_has_nothing_newer_than_what_it_was_made_on() {
        let (mut clear, mut not) = (0, 0);
        for seed in 0..4000 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut recent = Recent::new(Tid(5), RecentBounds { cells_max: dice.usize(1..30), bytes_max: 1 << 20 });
            let any = |dice: &mut fastrand::Rng| Cell::object(Oid(dice.u64(1..60)));
            let mut newest: BTreeMap<Cell, Tid> = BTreeMap::new();
            for tid in (6..6 + dice.u64(1..9)).map(Tid) {
                let cells: std::collections::BTreeSet<Cell> = (0..dice.usize(1..6)).map(|_| any(&mut dice)).collect();
                newest.extend(cells.iter().map(|cell| (cell.clone(), tid)));
                recent.note_all(tid, &large(cells.into_iter()));
                while recent.trim(tid, 1) {}
            }
            let cells: std::collections::BTreeSet<Cell> = (0..dice.usize(1..40)).map(|_| any(&mut dice)).collect();
            let clear_to = Tid(dice.u64(5..16));
            // As it is made: up to there nothing is newer.
            let known = |cell: &Cell| newest.get(cell).copied().filter(|tid| *tid <= clear_to).unwrap_or(Tid::NONE);
            let base = |write: &TxnWrite| known(&write.cell).max(Tid(dice.u64(0..8)));
            let ready = ready(large(cells.into_iter()), base, clear_to);
            let is_older = |(write, base): (&TxnWrite, &Tid)| newest.get(&write.cell).is_none_or(|tid| tid <= base);
            let nothing_is_newer = ready.writes.iter().zip(&ready.bases).all(is_older);
            match ready.is_clear(&recent) {
                true => assert!(nothing_is_newer, "seed {seed}"),
                false => not += usize::from(!nothing_is_newer),
            }
            clear += usize::from(ready.is_clear(&recent));
        }
        assert!(clear > 500 && not > 500, "{clear} {not}");
    }

    #[test]
    fn a_large_draft_of_other_objects_is_in_the_way_of_no_other_one_however_large_it_is() {
        let mut recent = Recent::new(Tid(5), RecentBounds { cells_max: 1 << 20, bytes_max: 1 << 30 });
        let cells = |from: u64, to: u64| (from..to).map(|n| Cell::object(Oid(n)));
        recent.note_all(Tid(6), &large(cells(100, 10_000)));
        assert!(ready(large(cells(10_000, 10_100)), |_| Tid::NONE, Tid(5)).is_clear(&recent));
        assert!(ready(large(cells(50, 100)), |_| Tid::NONE, Tid(5)).is_clear(&recent));
        assert!(!ready(large(cells(50, 101)), |_| Tid::NONE, Tid(5)).is_clear(&recent));
        assert!(!ready(large(cells(9_999, 10_100)), |_| Tid::NONE, Tid(5)).is_clear(&recent));
        assert!(ready(large(cells(50, 101)), |_| Tid::NONE, Tid(6)).is_clear(&recent), "it had seen that");
    }
}
