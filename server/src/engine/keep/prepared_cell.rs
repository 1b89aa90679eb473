//! Owns the cells in which a prepared draft is kept that was asked to be durable: their keys, their records, and reading them back.
//!
//! ```text
//!   prepared/<commit key, 32 hex digits>/<piece, 4 digits>      a piece is as large as a record may be
//! ```
//! All pieces of a draft are written by one transaction and deleted by one: its finish, with what it writes, or its abort.

use crate::engine::caller::Owner;
use crate::engine::keep::system;
use crate::engine::note;
use crate::engine::sealed_write::SealedWrite;
use crate::storage::{Read, StoreError, TxnWrite, blobs_of_record};
use bytes::{Bytes, BytesMut};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use zeolite_proto::blob::{BLOBS_OF_RECORD_MAX, BlobId};
use zeolite_proto::{
    Cell, Change, CommitKey, Draft, Fault, FaultKind, Note, Oid, Priority, ReadCell, ReadRange, Record, Tid, Write,
};

/// The class of a piece's record.
const CLASS: &str = "zeolite.Prepared";
/// With it the keys of all pieces begin.
const NAME: &str = "prepared/";
/// What a piece's record has beside its data.
const PIECE_ROOM_BYTES: usize = 64;
/// And where it names blobs.
const BLOBS_ROOM_BYTES: usize = 2 + BLOBS_OF_RECORD_MAX * 16;
/// A piece is not larger, however large a record may be.
const PIECE_BYTES_MAX: usize = 4 << 20;
/// More would not sort.
const PIECES_MAX: usize = 10_000;

/// A prepared draft as it is kept.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct KeptDraft {
    pub(crate) key: CommitKey,
    pub(crate) digest: u64,
    pub(crate) priority: Priority,
    pub(crate) note: Note,
    pub(crate) owner: Owner,
    /// What it is to write: decided, but for the stamps in keys.
    pub(crate) writes: Vec<SealedWrite>,
    pub(crate) read_cells: Vec<Cell>,
    pub(crate) read_ranges: Vec<ReadRange>,
    /// Its size as a draft.
    pub(crate) bytes: usize,
    /// When it was prepared, by the clock on the wall.
    pub(crate) since_unix_ms: u64,
    /// For how long servers had run on the store then.
    pub(crate) since_lived_ms: u64,
    /// How long it may stay, in milliseconds; 0: until it is ended.
    pub(crate) time_limit_ms: u64,
    /// It was prepared in the usual strength, and is kept because the server was stopped.
    pub(crate) for_restart: bool,
}

impl KeptDraft {
    /// A draft that would hold the same.
    pub(crate) fn shape(&self) -> Draft {
        let read = |cell: &Cell| ReadCell { cell: cell.clone(), base: Tid::NONE };
        let write = |write: &SealedWrite| Write {
            cell: write.cell.clone(),
            base: Tid::NONE,
            change: Change::Delete,
            stamped: write.stamped,
        };
        Draft {
            key: self.key,
            key_since: Tid::NONE,
            priority: self.priority,
            read_cells: self.read_cells.iter().map(read).collect(),
            read_ranges: self.read_ranges.clone(),
            writes: self.writes.iter().map(write).collect(),
            note: Note::default(),
        }
    }
}

/// A part of an encoded draft.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Piece {
    /// How many there are of the draft.
    #[prost(uint32, tag = "1")]
    pieces: u32,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct StoredDraft {
    #[prost(fixed64, tag = "1")]
    digest: u64,
    #[prost(bool, tag = "2")]
    batch: bool,
    #[prost(bytes = "bytes", tag = "3")]
    note: Bytes,
    #[prost(string, optional, tag = "4")]
    owner: Option<String>,
    #[prost(message, repeated, tag = "5")]
    writes: Vec<StoredWrite>,
    #[prost(message, repeated, tag = "6")]
    read_cells: Vec<StoredCell>,
    #[prost(message, repeated, tag = "7")]
    read_ranges: Vec<StoredRange>,
    #[prost(uint64, tag = "8")]
    bytes: u64,
    #[prost(uint64, tag = "9")]
    since_unix_ms: u64,
    #[prost(uint64, tag = "10")]
    since_lived_ms: u64,
    #[prost(uint64, tag = "11")]
    time_limit_ms: u64,
    #[prost(bool, tag = "12")]
    for_restart: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredWrite {
    #[prost(uint64, tag = "1")]
    oid: u64,
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
    #[prost(bool, tag = "3")]
    stamped: bool,
    #[prost(bytes = "bytes", optional, tag = "4")]
    record: Option<Bytes>,
    #[prost(bool, tag = "5")]
    merged: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredCell {
    #[prost(uint64, tag = "1")]
    oid: u64,
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRange {
    #[prost(uint64, tag = "1")]
    oid: u64,
    #[prost(bytes = "bytes", tag = "2")]
    from: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    to: Bytes,
    #[prost(uint64, tag = "4")]
    base: u64,
}

fn cell(key: CommitKey, piece: usize) -> Cell {
    system::cell(format!("{NAME}{key}/{piece:04}").into_bytes())
}

/// The cells of a draft's pieces, in order.
pub(crate) fn cells(key: CommitKey, pieces: usize) -> impl Iterator<Item = Cell> {
    (0..pieces).map(move |piece| cell(key, piece))
}

/// Whose piece a cell holds, and the number of it. Another spelling of it is no name: the draft's end would leave it behind.
pub(crate) fn place_of(of: &Cell) -> Option<(CommitKey, usize)> {
    let text = std::str::from_utf8(of.key.strip_prefix(NAME.as_bytes())?).ok()?;
    let (key, piece) = text.split_once('/')?;
    let place = (key.parse().ok()?, piece.parse().ok()?);
    (cell(place.0, place.1) == *of).then_some(place)
}

/// The records of a draft's pieces, in order.
pub(crate) fn records_of(draft: &KeptDraft, record_bytes_max: usize) -> Result<Vec<Bytes>, Fault> {
    let mut rest: Bytes = stored_form(draft).encode_to_vec().into();
    // What is to be named is named from now on: by the pieces, until their end writes it.
    let blobs: Vec<BlobId> = named(&draft.writes).into_iter().collect();
    let room = if blobs.is_empty() { PIECE_ROOM_BYTES } else { PIECE_ROOM_BYTES + BLOBS_ROOM_BYTES };
    let piece_bytes = record_bytes_max.saturating_sub(room).clamp(PIECE_ROOM_BYTES, PIECE_BYTES_MAX);
    let mut blobs = blobs.chunks(BLOBS_OF_RECORD_MAX);
    let pieces = rest.len().div_ceil(piece_bytes).max(blobs.len()).max(1);
    if pieces > PIECES_MAX {
        return Err(Fault::too_large("pieces of a durable prepared draft", pieces, PIECES_MAX));
    }
    let mut records = Vec::with_capacity(pieces);
    for _ in 0..pieces {
        let data = rest.split_to(piece_bytes.min(rest.len()));
        let blobs = blobs.next().unwrap_or_default().to_vec();
        let record = Record { blobs, ..Record::new(CLASS, 1, Piece { pieces: pieces as u32, data }.encode_to_vec()) };
        records.push(record.encode().map_err(|error| Fault::new(FaultKind::Internal, error.to_string()))?);
    }
    Ok(records)
}

fn named(writes: &[SealedWrite]) -> BTreeSet<BlobId> {
    let records = writes.iter().filter_map(|write| write.record.as_ref());
    records.flat_map(|record| blobs_of_record(record)).collect()
}

/// Reads a piece back.
pub(crate) fn read(record: &Record) -> Result<Piece, String> {
    system::check_class(record, CLASS)?;
    Piece::decode(record.data.clone()).map_err(|error| format!("the piece of a prepared draft is unreadable: {error}"))
}

/// A draft, and how many pieces it is kept in.
pub(crate) type InPieces = (KeptDraft, usize);

/// The prepared drafts that a transaction brings, whole, and how many pieces of which it deletes.
pub(crate) fn of_writes(writes: &[TxnWrite]) -> Result<(Vec<InPieces>, BTreeMap<CommitKey, usize>), String> {
    let mut brought: BTreeMap<CommitKey, Vec<Numbered>> = BTreeMap::new();
    let mut deleted: BTreeMap<CommitKey, usize> = BTreeMap::new();
    for write in writes.iter().filter(|write| write.cell.oid == system::SYSTEM_OID) {
        let Some((key, number)) = place_of(&write.cell) else { continue };
        match &write.record {
            Some(bytes) => {
                let record = Record::decode(bytes).map_err(|error| error.to_string())?;
                brought.entry(key).or_default().push((number, read(&record)?, record.blobs));
            }
            None => *deleted.entry(key).or_default() += 1,
        }
    }
    let drafts = brought.into_iter().map(|(key, pieces)| join(key, pieces)).collect::<Result<_, _>>()?;
    Ok((drafts, deleted))
}

/// The drafts as stored.
pub(crate) fn stored(reader: &dyn Read, at: Tid) -> Result<Vec<InPieces>, StoreError> {
    let mut by_key: BTreeMap<CommitKey, Vec<Numbered>> = BTreeMap::new();
    for system::Stored { cell, record, .. } in system::stored_all(reader, NAME, at)? {
        let Some((key, number)) = place_of(&cell) else {
            tracing::warn!(%cell, "this is named like a piece of a prepared draft and is none; it is left alone");
            continue;
        };
        let piece = read(&record).map_err(StoreError::Index)?;
        by_key.entry(key).or_default().push((number, piece, record.blobs));
    }
    by_key.into_iter().map(|(key, pieces)| join(key, pieces).map_err(StoreError::Index)).collect()
}

/// A piece with its number, and the blobs that its record names.
type Numbered = (usize, Piece, Vec<BlobId>);

fn join(key: CommitKey, mut pieces: Vec<Numbered>) -> Result<InPieces, String> {
    pieces.sort_by_key(|(number, ..)| *number);
    let count = pieces.len();
    let whole =
        pieces.iter().enumerate().all(|(at, (number, piece, _))| at == *number && piece.pieces as usize == count);
    if !whole {
        return Err(format!("the prepared draft {key} is not whole"));
    }
    let mut data = BytesMut::with_capacity(pieces.iter().map(|(_, piece, _)| piece.data.len()).sum());
    pieces.iter().for_each(|(_, piece, _)| data.extend_from_slice(&piece.data));
    let stored = StoredDraft::decode(data.freeze())
        .map_err(|error| format!("the prepared draft {key} is unreadable: {error}"))?;
    let draft = own_form(key, stored);
    let kept: BTreeSet<BlobId> = pieces.into_iter().flat_map(|(_, _, blobs)| blobs).collect();
    match named(&draft.writes).is_subset(&kept) {
        true => Ok((draft, count)),
        false => Err(format!("the prepared draft {key} names blobs that its pieces do not keep")),
    }
}

fn stored_form(draft: &KeptDraft) -> StoredDraft {
    let write = |write: &SealedWrite| StoredWrite {
        oid: write.cell.oid.0,
        key: write.cell.key.clone(),
        stamped: write.stamped,
        record: write.record.clone(),
        merged: write.merged,
    };
    let range = |range: &ReadRange| StoredRange {
        oid: range.oid.0,
        from: range.from.clone(),
        to: range.to.clone(),
        base: range.base.0,
    };
    StoredDraft {
        digest: draft.digest,
        batch: draft.priority == Priority::Batch,
        note: note::encode(&draft.note),
        owner: draft.owner.name().map(str::to_owned),
        writes: draft.writes.iter().map(write).collect(),
        read_cells: draft.read_cells.iter().map(|c| StoredCell { oid: c.oid.0, key: c.key.clone() }).collect(),
        read_ranges: draft.read_ranges.iter().map(range).collect(),
        bytes: draft.bytes as u64,
        since_unix_ms: draft.since_unix_ms,
        since_lived_ms: draft.since_lived_ms,
        time_limit_ms: draft.time_limit_ms,
        for_restart: draft.for_restart,
    }
}

fn own_form(key: CommitKey, stored: StoredDraft) -> KeptDraft {
    let write = |write: StoredWrite| SealedWrite {
        cell: Cell { oid: Oid(write.oid), key: write.key },
        stamped: write.stamped,
        record: write.record,
        merged: write.merged,
    };
    let range =
        |range: StoredRange| ReadRange { oid: Oid(range.oid), from: range.from, to: range.to, base: Tid(range.base) };
    KeptDraft {
        key,
        digest: stored.digest,
        priority: if stored.batch { Priority::Batch } else { Priority::Live },
        note: note::decode(&stored.note),
        owner: stored.owner.map_or_else(Owner::anonymous, |name| Owner::named(&name)),
        writes: stored.writes.into_iter().map(write).collect(),
        read_cells: stored.read_cells.into_iter().map(|c| Cell { oid: Oid(c.oid), key: c.key }).collect(),
        read_ranges: stored.read_ranges.into_iter().map(range).collect(),
        bytes: stored.bytes as usize,
        since_unix_ms: stored.since_unix_ms,
        since_lived_ms: stored.since_lived_ms,
        time_limit_ms: stored.time_limit_ms,
        for_restart: stored.for_restart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> KeptDraft {
        KeptDraft {
            key: CommitKey(*b"0123456789abcdef"),
            digest: 7,
            priority: Priority::Batch,
            note: Note { description: "a transfer".into(), ..Note::default() },
            owner: Owner::named("bank"),
            writes: vec![
                SealedWrite {
                    cell: Cell::object(Oid(20)),
                    stamped: false,
                    record: Some("record".into()),
                    merged: true,
                },
                SealedWrite { cell: Cell::entry(Oid(21), "q"), stamped: true, record: None, merged: false },
            ],
            read_cells: vec![Cell::object(Oid(22))],
            read_ranges: vec![ReadRange { oid: Oid(23), from: "a".into(), to: "".into(), base: Tid(5) }],
            bytes: 300,
            since_unix_ms: 1_767_225_600_000,
            since_lived_ms: 9000,
            time_limit_ms: 60_000,
            for_restart: false,
        }
    }

    fn writes(draft: &KeptDraft, records: Vec<Bytes>) -> Vec<TxnWrite> {
        let cells = cells(draft.key, records.len());
        cells.zip(records).map(|(cell, record)| TxnWrite { cell, record: Some(record), merged: false }).collect()
    }

    #[test]
    fn a_draft_survives_its_pieces_whatever_their_size() {
        let draft = draft();
        for record_bytes_max in [1 << 20, 0] {
            let records = records_of(&draft, record_bytes_max).expect("encodes");
            assert_eq!(records.len() > 1, record_bytes_max == 0);
            let mut writes = writes(&draft, records);
            writes.reverse();
            assert_eq!(of_writes(&writes), Ok((vec![(draft.clone(), writes.len())], BTreeMap::new())));
            writes.pop();
            assert!(record_bytes_max > 0 || of_writes(&writes).is_err_and(|what| what.contains("not whole")));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let records = records_of(&draft(), 1 << 20).expect("encodes");
        let told: String = records[0].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(told, include_str!("../../../../tests/fixtures/prepared-1.txt").trim());
        let cell = cells(draft().key, 1).next().expect("one");
        assert_eq!(cell.key.as_ref(), b"prepared/30313233343536373839616263646566/0000");
        assert_eq!(place_of(&cell), Some((draft().key, 0)));
        for other in ["prepared/", "prepared/30/0000", "prepared/30313233343536373839616263646566/1", "mode"] {
            assert_eq!(place_of(&system::cell(other)), None, "{other}");
        }
    }

    #[test]
    fn deletions_are_told_by_key() {
        let draft = draft();
        let gone = cells(draft.key, 3).map(|cell| TxnWrite { cell, record: None, merged: false }).collect::<Vec<_>>();
        assert_eq!(of_writes(&gone), Ok((Vec::new(), BTreeMap::from([(draft.key, 3)]))));
    }
}
