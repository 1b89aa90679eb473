//! Owns the translation of drafts, receipts, cells and limits between the wire and the crate's own types.
//!
//! Decoding checks shape (a key has 16 bytes, a cell is named, a change is one of the three); limits and sense are
//! checked by the server's engine.

use super::v2;
use crate::draft::{Change, Draft, Merged, Priority, ReadCell, ReadRange, Receipt, StaleCell, Write};
use crate::fault::Fault;
use crate::ids::{Cell, CommitKey, Oid, Tid};
use crate::interest::Rows;
use crate::limits::Limits;
use crate::note::Note;
use crate::revision::{Entry, Revision};
use bytes::Bytes;
use prost::Message;

impl From<&Cell> for v2::Cell {
    fn from(cell: &Cell) -> v2::Cell {
        v2::Cell { oid: cell.oid.0, key: cell.key.clone() }
    }
}

impl From<v2::Cell> for Cell {
    fn from(cell: v2::Cell) -> Cell {
        Cell { oid: Oid(cell.oid), key: cell.key }
    }
}

impl From<&Note> for v2::Note {
    fn from(note: &Note) -> v2::Note {
        v2::Note { user: note.user.clone(), description: note.description.clone(), extension: note.extension.clone() }
    }
}

impl From<v2::Note> for Note {
    fn from(note: v2::Note) -> Note {
        Note { user: note.user, description: note.description, extension: note.extension }
    }
}

impl From<Revision> for v2::Revision {
    fn from(revision: Revision) -> v2::Revision {
        let end = revision.end.map_or(0, |end| end.0);
        v2::Revision { tid: revision.tid.0, end, record: revision.record }
    }
}

impl From<v2::Revision> for Revision {
    fn from(revision: v2::Revision) -> Revision {
        let end = (revision.end != 0).then_some(Tid(revision.end));
        Revision { tid: Tid(revision.tid), end, record: revision.record }
    }
}

impl From<Entry> for v2::Entry {
    fn from(entry: Entry) -> v2::Entry {
        v2::Entry { key: entry.key, tid: entry.tid.0, record: entry.record }
    }
}

impl From<v2::Entry> for Entry {
    fn from(entry: v2::Entry) -> Entry {
        Entry { key: entry.key, tid: Tid(entry.tid), record: entry.record }
    }
}

/// Reads a commit key off the wire.
pub fn commit_key(bytes: &[u8]) -> Result<CommitKey, Fault> {
    match CommitKey::from_slice(bytes) {
        Some(CommitKey(zeros)) if zeros == [0; 16] => {
            Err(Fault::invalid("a commit key of zeros; make one at random for each draft"))
        }
        Some(key) => Ok(key),
        None => Err(Fault::invalid(format!("a commit key has 16 bytes, this one has {}", bytes.len()))),
    }
}

/// Reads the commit key of a logged transaction, which may have none.
pub fn logged_key(bytes: &[u8]) -> Result<CommitKey, Fault> {
    if bytes.is_empty() || bytes == [0; 16] { Ok(CommitKey([0; 16])) } else { commit_key(bytes) }
}

fn named(cell: Option<v2::Cell>) -> Result<Cell, Fault> {
    cell.map(Cell::from).ok_or_else(|| Fault::invalid("a cell is missing; name the oid, and the key of an entry"))
}

impl From<&Draft> for v2::Draft {
    fn from(draft: &Draft) -> v2::Draft {
        v2::Draft {
            commit_key: draft.key.0.to_vec().into(),
            key_since: Some(draft.key_since.0),
            timeline: 0,
            take_oids: false,
            snapshot: None,
            priority: match draft.priority {
                Priority::Live => v2::Priority::Live.into(),
                Priority::Batch => v2::Priority::Batch.into(),
            },
            read_cells: draft
                .read_cells
                .iter()
                .map(|read| v2::ReadCell { cell: Some((&read.cell).into()), base: Some(read.base.0) })
                .collect(),
            read_ranges: draft
                .read_ranges
                .iter()
                .map(|range| v2::ReadRange {
                    oid: range.oid.0,
                    from: range.from.clone(),
                    to: range.to.clone(),
                    base: Some(range.base.0),
                })
                .collect(),
            writes: draft.writes.iter().map(v2::Write::from).collect(),
            note: Some((&draft.note).into()),
        }
    }
}

impl From<&Write> for v2::Write {
    fn from(write: &Write) -> v2::Write {
        let change = match &write.change {
            Change::Put(record) => v2::write::Change::Put(record.clone()),
            Change::Apply { class, operation } => {
                v2::write::Change::Apply(v2::Apply { class: class.clone(), operation: operation.clone() })
            }
            Change::Delete => v2::write::Change::Delete(v2::Delete {}),
        };
        // An apply and a stamped write need none, and 0 would say that the cell never existed, which is the same to them.
        let (cell, base) = (Some((&write.cell).into()), Some(write.base.0));
        v2::Write { cell, base, change: Some(change), stamped: write.stamped, absent: false }
    }
}

impl TryFrom<v2::Draft> for Draft {
    type Error = Fault;

    /// A base that is not said becomes the draft's snapshot; where that is not said either, what needs a base is refused.
    fn try_from(draft: v2::Draft) -> Result<Draft, Fault> {
        let snapshot = draft.snapshot;
        let base = |base: Option<u64>| match (base, snapshot) {
            (Some(base), _) => Ok(Tid(base)),
            (None, None) => Err(Fault::invalid(
                "a write or a read check without a base in a draft without a snapshot; say either, or that the cell is absent",
            )),
            (None, Some(snapshot)) => Ok(Tid(snapshot)),
        };
        Ok(Draft {
            key: commit_key(&draft.commit_key)?,
            key_since: match (draft.key_since, snapshot) {
                (Some(since), _) => Tid(since),
                (None, None) => {
                    return Err(Fault::invalid(
                        "a draft says neither since when its commit key exists nor its snapshot; set key_since to the \
                         newest tid that you know",
                    ));
                }
                (None, Some(snapshot)) => Tid(snapshot),
            },
            priority: match v2::Priority::try_from(draft.priority) {
                Ok(v2::Priority::Live) => Priority::Live,
                Ok(v2::Priority::Batch) => Priority::Batch,
                Err(_) => return Err(Fault::invalid("unknown priority; use live or batch")),
            },
            read_cells: draft
                .read_cells
                .into_iter()
                .map(|read| Ok(ReadCell { cell: named(read.cell)?, base: base(read.base)? }))
                .collect::<Result<_, Fault>>()?,
            read_ranges: draft
                .read_ranges
                .into_iter()
                .map(|range| {
                    let base = base(range.base)?;
                    Ok(ReadRange { oid: Oid(range.oid), from: range.from, to: range.to, base })
                })
                .collect::<Result<_, Fault>>()?,
            writes: draft
                .writes
                .into_iter()
                .map(|write| {
                    let change = match write.change {
                        Some(v2::write::Change::Put(record)) => Change::Put(record),
                        Some(v2::write::Change::Apply(apply)) => {
                            Change::Apply { class: apply.class, operation: apply.operation }
                        }
                        Some(v2::write::Change::Delete(_)) => Change::Delete,
                        None => return Err(Fault::invalid("a write has no change; put, apply or delete")),
                    };
                    let needs_none = write.absent || write.stamped || matches!(change, Change::Apply { .. });
                    let base = match write.base {
                        Some(1..) if write.absent => {
                            return Err(Fault::invalid("a write with a base of a cell that is to be absent; say one"));
                        }
                        None if needs_none && (write.absent || snapshot.is_none()) => Tid::NONE,
                        said => base(said)?,
                    };
                    Ok(Write { cell: named(write.cell)?, base, change, stamped: write.stamped })
                })
                .collect::<Result<_, Fault>>()?,
            note: draft.note.map(Note::from).unwrap_or_default(),
        })
    }
}

/// Decodes a draft that arrived as bytes (in parts); refused before it is decoded when it holds more than the limits allow.
pub fn decode_draft(encoded: Bytes, limits: &Limits) -> Result<v2::Draft, Fault> {
    super::count::check_draft(&encoded, limits)?;
    v2::Draft::decode(encoded).map_err(|error| Fault::invalid(format!("a draft cannot be decoded: {error}")))
}

impl From<Rows> for v2::Held {
    fn from(rows: Rows) -> v2::Held {
        v2::Held { rows_log2: rows.rows_log2(), rows: rows.bits().clone(), cells: rows.cells() }
    }
}

impl TryFrom<v2::Held> for Rows {
    type Error = Fault;

    fn try_from(held: v2::Held) -> Result<Rows, Fault> {
        Rows::new(held.rows_log2, held.rows, held.cells)
    }
}

impl From<&Merged> for v2::MergedCell {
    fn from(merged: &Merged) -> v2::MergedCell {
        v2::MergedCell { cell: Some((&merged.cell).into()), record: merged.record.clone() }
    }
}

impl From<&StaleCell> for v2::StaleCell {
    fn from(stale: &StaleCell) -> v2::StaleCell {
        v2::StaleCell { cell: Some((&stale.cell).into()), newest: stale.newest.0, reason: stale.reason.clone() }
    }
}

impl From<v2::StaleCell> for StaleCell {
    fn from(stale: v2::StaleCell) -> StaleCell {
        StaleCell { cell: stale.cell.unwrap_or_default().into(), newest: Tid(stale.newest), reason: stale.reason }
    }
}

impl From<v2::MergedCell> for Merged {
    fn from(merged: v2::MergedCell) -> Merged {
        Merged { cell: merged.cell.unwrap_or_default().into(), record: merged.record }
    }
}

impl From<&Receipt> for v2::Receipt {
    fn from(receipt: &Receipt) -> v2::Receipt {
        v2::Receipt {
            tid: receipt.tid.0,
            merged: receipt.merged.iter().map(v2::MergedCell::from).collect(),
            pressure: None,
        }
    }
}

impl From<v2::Receipt> for Receipt {
    fn from(receipt: v2::Receipt) -> Receipt {
        Receipt { tid: Tid(receipt.tid), merged: receipt.merged.into_iter().map(Merged::from).collect() }
    }
}

impl From<&Limits> for v2::Limits {
    fn from(limits: &Limits) -> v2::Limits {
        v2::Limits {
            message_bytes_max: limits.message_bytes_max as u64,
            record_bytes_max: limits.record_bytes_max as u64,
            draft_bytes_max: limits.draft_bytes_max as u64,
            draft_writes_max: limits.draft_writes_max as u32,
            key_bytes_max: limits.key_bytes_max as u32,
            load_cells_max: limits.load_cells_max as u32,
            scan_entries_max: limits.scan_entries_max as u32,
            oids_max: limits.oids_max,
            pin_ms_max: limits.pin_ms_max,
            prepare_ms_max: limits.prepare_ms_max,
            blob_bytes_max: limits.blob_bytes_max,
        }
    }
}

impl From<v2::Limits> for Limits {
    fn from(limits: v2::Limits) -> Limits {
        Limits {
            message_bytes_max: limits.message_bytes_max as usize,
            record_bytes_max: limits.record_bytes_max as usize,
            draft_bytes_max: limits.draft_bytes_max as usize,
            draft_writes_max: limits.draft_writes_max as usize,
            key_bytes_max: limits.key_bytes_max as usize,
            load_cells_max: limits.load_cells_max as usize,
            scan_entries_max: limits.scan_entries_max as usize,
            oids_max: limits.oids_max,
            pin_ms_max: limits.pin_ms_max,
            prepare_ms_max: limits.prepare_ms_max,
            blob_bytes_max: limits.blob_bytes_max,
            reply_bytes_aim: Limits::default().reply_bytes_aim,
        }
    }
}
