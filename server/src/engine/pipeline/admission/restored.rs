//! Owns the admission of restored transactions, and of the prepared drafts that they bring: they were checked once, but perhaps by
//! another program, with other limits and another clock.

use super::{STAMP_LEN, check_key, check_record, own};
use crate::engine::keep::oids::OIDS_END;
use crate::engine::keep::own_cells;
use crate::engine::keep::prepared_cell::KeptDraft;
use crate::engine::keep::system::SYSTEM_OID;
use crate::engine::note;
use crate::engine::pipeline::keys::NO_KEY;
use crate::engine::sealed_write::SealedWrite;
use crate::storage::Txn;
use zeolite_proto::{Fault, Limits, Tid, hash};

/// Checks a transaction to be restored. A tid from `end` on is too far ahead: everything that is committed later would have to be newer.
pub(crate) fn admit_restored(txn: &Txn, limits: &Limits, end: RestoreEnd) -> Result<usize, Fault> {
    end.check(txn.tid)?;
    note::decode(&txn.note).check()?;
    if txn.own && txn.writes.iter().any(|write| write.cell.oid != SYSTEM_OID) {
        let message = format!("transaction {} says that it is the server's own, and writes other cells", txn.tid);
        return Err(Fault::invalid(message + "; leave `own` out"));
    }
    let mut bytes = 64 + txn.note.len();
    let mut seen = hash::Set::default();
    for write in &txn.writes {
        if write.cell.oid.0 >= OIDS_END {
            let message =
                format!("oid {} of transaction {} is too great; oids end before 2^63", write.cell.oid, txn.tid);
            return Err(Fault::invalid(message));
        }
        bytes += 64 + check_key(&write.cell, limits)?;
        if !seen.insert(&write.cell) {
            return Err(Fault::invalid(format!("cell {} is written twice in transaction {}", write.cell, txn.tid)));
        }
        if let Some(record) = &write.record {
            bytes += check_record(record, limits)?;
        }
    }
    for (draft, pieces) in own_cells::check(&txn.writes, txn.tid)? {
        check_brought(&draft, pieces, limits).map_err(|fault| {
            let message = format!("the prepared draft {} of transaction {}: {}", draft.key, txn.tid, fault.message);
            Fault { message, ..fault }
        })?;
    }
    match bytes > limits.draft_bytes_max {
        true => Err(Fault::too_large("transaction size", bytes, limits.draft_bytes_max)),
        false => Ok(bytes),
    }
}

/// What a restored transaction promises must be what could be written here: nobody asks again when it is finished.
fn check_brought(draft: &KeptDraft, pieces: usize, limits: &Limits) -> Result<(), Fault> {
    draft.note.check()?;
    if draft.key == NO_KEY {
        return Err(Fault::invalid("its commit key is all zeros; prepare under a key"));
    }
    let parts =
        (draft.writes.len() + pieces).max(draft.writes.len() + draft.read_cells.len() + draft.read_ranges.len());
    if parts > limits.draft_writes_max {
        return Err(Fault::too_large("number of its writes and read checks", parts, limits.draft_writes_max));
    }
    let mut bytes = 64 + draft.note.bytes();
    let mut seen = hash::Set::default();
    for SealedWrite { cell, stamped, record, .. } in &draft.writes {
        if cell.oid == SYSTEM_OID || cell.oid.0 >= OIDS_END {
            return Err(Fault::invalid(format!("it is to write {cell}, which no draft may")));
        }
        let stamp = if *stamped { STAMP_LEN } else { 0 };
        if cell.key.len() + stamp > limits.key_bytes_max {
            return Err(Fault::too_large("key length", cell.key.len() + stamp, limits.key_bytes_max));
        }
        if !stamped && !seen.insert(cell) {
            return Err(Fault::invalid(format!("cell {cell} is written twice")));
        }
        bytes += 64 + cell.key.len() + stamp;
        if let Some(record) = record {
            bytes += check_record(record, limits)?;
        }
    }
    for cell in &draft.read_cells {
        check_key(cell, limits)?;
    }
    let read = draft.read_cells.iter().map(|cell| cell.oid).chain(draft.read_ranges.iter().map(|range| range.oid));
    if read.into_iter().any(|oid| oid == SYSTEM_OID) {
        return Err(Fault::invalid("it has read the server's own cells, which no draft may hold"));
    }
    if draft.read_ranges.iter().any(|range| !range.to.is_empty() && range.from > range.to) {
        return Err(Fault::invalid("a range that it has read ends before it begins"));
    }
    let keys = draft.read_ranges.iter().flat_map(|range| [range.from.len(), range.to.len()]);
    let longest = keys.max().unwrap_or(0);
    if longest > limits.key_bytes_max {
        return Err(Fault::too_large("key length", longest, limits.key_bytes_max));
    }
    let bytes = bytes.max(draft.bytes);
    if bytes > limits.draft_bytes_max {
        return Err(Fault::too_large("its size", bytes, limits.draft_bytes_max));
    }
    Ok(())
}

/// Many of them come in one message: each gets memory of its own.
pub(crate) fn own_restored(txn: &mut Txn) {
    for write in txn.writes.to_mut() {
        own(&mut write.cell.key, usize::MAX);
        if let Some(record) = &mut write.record {
            own(record, usize::MAX);
        }
    }
}

/// How far ahead of the server's clock a restored transaction may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestoreEnd {
    /// The server's clock.
    pub(crate) now: Tid,
    /// The newest tid that is taken.
    pub(crate) newest: Tid,
    /// The setting.
    pub(crate) ahead_max_s: u64,
}

impl RestoreEnd {
    fn check(self, tid: Tid) -> Result<(), Fault> {
        let RestoreEnd { now, newest, ahead_max_s } = self;
        if tid <= newest {
            return Ok(());
        }
        Err(Fault::invalid(format!(
            "transaction {tid} is of {}, and the clock here says {}; more than {ahead_max_s} s ahead are not taken, because \
             every later commit would be there as well: set the clock, or raise engine.restore_ahead_max_s",
            tid.utc(),
            now.utc()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::caller::Owner;
    use crate::engine::keep::{gate_cell, prepared_cell, system};
    use crate::storage::TxnWrite;
    use bytes::Bytes;
    use zeolite_proto::{Cell, CommitKey, FaultKind, Gate, Note, Oid, Priority, ReadRange, Record};

    fn limits() -> Limits {
        Limits { key_bytes_max: 100, record_bytes_max: 2_000, draft_bytes_max: 4_000, ..Limits::default() }
    }

    fn txn(writes: Vec<TxnWrite>) -> Txn {
        Txn { tid: Tid(7), key: CommitKey([1; 16]), digest: 0, own: false, note: Bytes::new(), writes: writes.into() }
    }

    fn write(cell: Cell, record: impl Into<Bytes>) -> TxnWrite {
        TxnWrite { cell, record: Some(record.into()), merged: false }
    }

    fn refusal(txn: &Txn) -> Option<FaultKind> {
        let end = RestoreEnd { now: Tid(9), newest: Tid(9), ahead_max_s: 1 };
        admit_restored(txn, &limits(), end).err().map(|fault| fault.kind)
    }

    fn to_write(cell: Cell, len: usize) -> SealedWrite {
        let record = Record::new("Page", 1, vec![b'x'; len]).encode().expect("encodes");
        SealedWrite { cell, stamped: false, record: Some(record), merged: false }
    }

    /// Whether a transaction is refused that brings a prepared draft.
    fn bringing(change: impl FnOnce(&mut KeptDraft)) -> Option<FaultKind> {
        let mut draft = KeptDraft {
            key: CommitKey([7; 16]),
            digest: 3,
            priority: Priority::Live,
            note: Note::default(),
            owner: Owner::anonymous(),
            writes: vec![to_write(Cell::object(Oid(20)), 1)],
            read_cells: Vec::new(),
            read_ranges: Vec::new(),
            bytes: 100,
            since_unix_ms: 1,
            since_lived_ms: 1,
            time_limit_ms: 0,
            for_restart: false,
        };
        change(&mut draft);
        let records = prepared_cell::records_of(&draft, limits().record_bytes_max).expect("can be kept");
        let cells = prepared_cell::cells(draft.key, records.len());
        refusal(&txn(cells.zip(records).map(|(cell, record)| write(cell, record)).collect()))
    }

    #[test]
    fn what_a_restored_draft_is_to_write_is_admitted_like_a_draft() {
        assert_eq!(bringing(|_| ()), None);
        let writing = |write: SealedWrite| bringing(move |draft| draft.writes.push(write));
        let key = |len: usize| Cell::entry(Oid(30), vec![b'k'; len]);
        assert_eq!(writing(to_write(Cell::object(Oid(1 << 63)), 1)), Some(FaultKind::Invalid));
        assert_eq!(writing(to_write(system::cell("mode"), 1)), Some(FaultKind::Invalid), "the server's own");
        assert_eq!(writing(to_write(Cell::object(Oid(20)), 1)), Some(FaultKind::Invalid), "twice");
        let bad = SealedWrite { record: Some("no record".into()), ..to_write(key(1), 1) };
        assert_eq!(writing(bad), Some(FaultKind::Invalid));
        assert_eq!(writing(to_write(key(100), 1)), None);
        assert_eq!(writing(to_write(key(101), 1)), Some(FaultKind::TooLarge));
        assert_eq!(writing(SealedWrite { stamped: true, ..to_write(key(88), 1) }), None);
        assert_eq!(writing(SealedWrite { stamped: true, ..to_write(key(89), 1) }), Some(FaultKind::TooLarge));
        assert_eq!(writing(to_write(key(1), 2_001)), Some(FaultKind::TooLarge), "a record");
        assert_eq!(bringing(|draft| draft.bytes = usize::MAX), Some(FaultKind::TooLarge));
        assert_eq!(bringing(|draft| draft.key = NO_KEY), Some(FaultKind::Invalid));
        assert_eq!(bringing(|draft| draft.read_cells.push(key(101))), Some(FaultKind::TooLarge));
        let range = ReadRange { oid: Oid(30), from: vec![b'k'; 101].into(), to: Bytes::new(), base: Tid(1) };
        assert_eq!(bringing(|draft| draft.read_ranges.push(range)), Some(FaultKind::TooLarge));
    }

    #[test]
    fn an_own_cell_has_one_name_and_what_this_server_would_write() {
        let record = |class: &str| Record::new(class, 1, Bytes::new()).encode().expect("encodes");
        let upper = format!("prepared/{}/0000", "AB".repeat(16));
        let signed = format!("prepared/{}/+000", "ab".repeat(16));
        for name in [upper.as_str(), &signed, "prepared/", "gate/", "oids2", "mode/"] {
            for class in ["zeolite.Prepared", "zeolite.Gate"] {
                let written = txn(vec![write(system::cell(name.to_owned()), record(class))]);
                assert_eq!(refusal(&written), Some(FaultKind::Invalid), "{name}");
            }
            let deleted = TxnWrite { cell: system::cell(name.to_owned()), record: None, merged: false };
            assert_eq!(refusal(&txn(vec![deleted])), Some(FaultKind::Invalid), "{name}");
        }
        let gate = |job: &str| {
            let gate = Gate { class: "Page".into(), min_version: 2, job: job.into(), tid: Tid(7) };
            refusal(&txn(vec![write(gate_cell::cell_of("Page"), gate_cell::record_of(&gate).expect("encodes"))]))
        };
        assert_eq!((gate("titles"), gate(&"j".repeat(256))), (None, Some(FaultKind::Invalid)));
        // The second field of a mode is its banner.
        let mode = |len: usize| {
            let data = [&[18, (len & 127) as u8 | 128, (len >> 7) as u8][..], &vec![b'b'; len]].concat();
            refusal(&txn(vec![write(
                system::cell("mode"),
                Record::new("zeolite.Mode", 1, data).encode().expect("encodes"),
            )]))
        };
        assert_eq!((mode(1000), mode(1001)), (None, Some(FaultKind::Invalid)));
    }

    #[test]
    fn a_transaction_of_the_servers_own_writes_own_cells_only() {
        let page = to_write(Cell::object(Oid(20)), 1).record.expect("a record");
        let plain = txn(vec![write(Cell::object(Oid(20)), page)]);
        assert_eq!(refusal(&plain), None);
        assert_eq!(refusal(&Txn { own: true, ..plain }), Some(FaultKind::Invalid));
    }
}
