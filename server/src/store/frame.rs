//! Owns the bytes of the log: how a batch is encoded, parsed and checked (a segment's header: [`header`]); pure, no I/O.
//!
//! ```text
//!   segment   header 64 | batch | batch | batch ...
//!   batch     magic 4 | payload length 4 | txns 4 | first tid 8 | last tid 8 | crc 4 | payload
//!   txn       tid 8 | commit key 16 | digest 8 | flags 1 | note length 4 | note | writes 4 | write ...
//!   write     oid 8 | key length 2 | key | flags 1 | record length 4 | record crc 4 | record
//! ```
//! Integers are little endian. The crc of a batch covers the 28 header bytes before it and the payload, and begins from a
//! salt made of the store id and the segment number: so a batch of another store or segment, left in a reused block or
//! stored by a client inside a record, is never taken for one of this segment. A record has a crc of its own, because it
//! is also read alone, by its place. Nothing here allocates more than the bytes at hand justify.
//!
//! Transactions of format 1 have neither digest nor flags; they are read, and never written.

mod header;

#[cfg(test)]
pub(crate) use header::FORMAT_2;
pub(crate) use header::{FORMAT_1, LOG_FORMAT, NUMBERS_MAX, SEGMENT_HEADER_LEN, Salt, SegmentHeader};

use super::{StoreError, Txn, TxnWrite};
use bytes::{Buf, Bytes};
use std::convert::Infallible;
use zeolite_proto::{Cell, CommitKey, Oid, Tid};

/// Bytes of a batch's header.
pub(crate) const BATCH_HEADER_LEN: usize = 32;

/// A segment is smaller than 4 GiB.
pub(crate) const BATCH_LEN_MAX: u64 = u32::MAX as u64 - SEGMENT_HEADER_LEN as u64;

/// What a batch begins with: not text, so that it is rare in records.
pub(crate) const BATCH_MAGIC: [u8; 4] = [0x9a, b'z', b'B', 0xb7];
const TID_LEN: usize = 8;
const FLAG_DELETED: u8 = 1;
const FLAG_MERGED: u8 = 2;
const TXN_OWN: u8 = 1;
// Not used yet, and refused by name, so that a later program may.
const TXN_FLAGS_RESERVED: [(u8, &str); 2] =
    [(2, "a prepared transaction; use a newer zeolite"), (4, "a finish mark; use a newer zeolite")];
pub(super) const TXN_LEN_MIN: usize = 8 + 16 + 8 + 1 + 4 + 4;
const TXN_LEN_MIN_1: usize = 8 + 16 + 4 + 4;
pub(super) const WRITE_LEN_MIN: usize = 8 + 2 + 1 + 4 + 4;

/// Why bytes are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BadFrame {
    /// Cut, torn or overwritten: at the end of the log this is what a crash leaves.
    Torn(&'static str),
    /// The checksum holds but the content cannot be: no crash does that.
    Wrong(&'static str),
    /// A format number of another program.
    Format(u32),
    /// A segment written with something that this program does not have.
    Flags(String),
}

impl BadFrame {
    /// The words for an error message.
    pub(crate) fn what(&self) -> String {
        match self {
            BadFrame::Torn(what) | BadFrame::Wrong(what) => (*what).to_owned(),
            BadFrame::Format(found) => format!("unknown log format {found}"),
            BadFrame::Flags(what) => what.clone(),
        }
    }
}

/// The fixed part of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchHeader {
    pub(crate) payload_len: u32,
    pub(crate) txns: u32,
    pub(crate) first: Tid,
    pub(crate) last: Tid,
    crc: u32,
}

/// Where a record lies in its batch: the offset counts from the batch's first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecordAt {
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

impl RecordAt {
    /// The same behind so many bytes more.
    pub(crate) fn behind(self, bytes: u32) -> RecordAt {
        RecordAt { offset: self.offset + bytes, ..self }
    }
}

/// A transaction read from the log, with the places of its records (`None`: deleted), one for each write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ParsedTxn {
    pub(crate) txn: Txn,
    pub(crate) records: Vec<Option<RecordAt>>,
}

impl BatchHeader {
    /// Bytes of the whole batch.
    pub(crate) fn len(&self) -> u64 {
        BATCH_HEADER_LEN as u64 + u64::from(self.payload_len)
    }

    /// Reads a header; only the payload's checksum tells whether it is one.
    pub(crate) fn parse(bytes: &[u8]) -> Result<BatchHeader, BadFrame> {
        if bytes.len() < BATCH_HEADER_LEN {
            return Err(BadFrame::Torn("a batch header cut short"));
        }
        if bytes[0..4] != BATCH_MAGIC {
            return Err(BadFrame::Torn("no batch begins here"));
        }
        Ok(BatchHeader {
            payload_len: u32_at(bytes, 4),
            txns: u32_at(bytes, 8),
            first: Tid(u64_at(bytes, 12)),
            last: Tid(u64_at(bytes, 20)),
            crc: u32_at(bytes, 28),
        })
    }

    /// Whether the payload is the one that was written under this header in this segment.
    pub(crate) fn fits(&self, salt: Salt, payload: &[u8]) -> bool {
        payload.len() == self.payload_len as usize && self.checksum(salt, payload) == self.crc
    }

    fn fixed(&self) -> [u8; 28] {
        let mut out = [0; 28];
        out[0..4].copy_from_slice(&BATCH_MAGIC);
        out[4..8].copy_from_slice(&self.payload_len.to_le_bytes());
        out[8..12].copy_from_slice(&self.txns.to_le_bytes());
        out[12..20].copy_from_slice(&self.first.0.to_le_bytes());
        out[20..28].copy_from_slice(&self.last.0.to_le_bytes());
        out
    }

    fn encode(&self) -> [u8; BATCH_HEADER_LEN] {
        let mut out = [0; BATCH_HEADER_LEN];
        out[..28].copy_from_slice(&self.fixed());
        out[28..].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    // To go on with the payload.
    fn hasher(&self, salt: Salt) -> crc32fast::Hasher {
        let mut hasher = crc32fast::Hasher::new_with_initial(salt.0);
        hasher.update(&self.fixed());
        hasher
    }

    fn checksum(&self, salt: Salt, payload: &[u8]) -> u32 {
        let mut hasher = self.hasher(salt);
        hasher.update(payload);
        hasher.finalize()
    }
}

/// How many bytes a transaction takes in its batch.
pub(crate) fn txn_len(txn: &Txn) -> u64 {
    if let Some(run) = txn.writes.run() {
        return run.batch_len() - BATCH_HEADER_LEN as u64;
    }
    let record = |write: &TxnWrite| write.record.as_ref().map_or(0, Bytes::len);
    let writes = txn.writes.iter().map(|write| (WRITE_LEN_MIN + write.cell.key.len() + record(write)) as u64);
    (TXN_LEN_MIN + txn.note.len()) as u64 + writes.sum::<u64>()
}

/// How many bytes the batch of these transactions has, header included; refuses what the format cannot hold.
pub(crate) fn batch_len(txns: &[Txn]) -> Result<u64, StoreError> {
    let refused = |what: String| Err(StoreError::Refused { what });
    let mut len = BATCH_HEADER_LEN as u64;
    for txn in txns {
        if u32::try_from(txn.note.len()).is_err() || u32::try_from(txn.writes.len()).is_err() {
            return refused(format!("transaction {} has a note or a number of writes beyond 32 bits", txn.tid));
        }
        len += txn_len(txn);
    }
    if len > BATCH_LEN_MAX {
        return refused(format!("a batch of {len} bytes, a segment holds less than 4 GiB: commit less at once"));
    }
    Ok(len)
}

/// Encodes a batch over whatever is in `out` (one buffer, used again and again) and tells where each record came to
/// lie, write after write, but for those of transactions with a run. The caller has asked [`batch_len`], which guards every narrowing here.
pub(crate) fn encode_batch(
    out: &mut Vec<u8>,
    (salt, len): (Salt, u64),
    txns: &[Txn],
    records: &mut Vec<Option<RecordAt>>,
) {
    let Ok(_) = encode_in_pieces((out, usize::MAX), (salt, len), txns, records, |_, _| Ok::<_, Infallible>(()));
}

/// What is left to be written of a batch whose first pieces were given away.
pub(crate) enum Rest {
    /// The buffer has all of it.
    All,
    /// The buffer has what belongs at this offset of the batch; and this is its header, without which nothing of it counts.
    From(u64, [u8; BATCH_HEADER_LEN]),
}

/// The same of a batch of `len` bytes, of which pieces are given away, with their offset in the batch, as soon as they are so large: what is copied on is
/// still near the processor, and the buffer stays small. The header is made last.
pub(crate) fn encode_in_pieces<E>(
    (out, piece_bytes): (&mut Vec<u8>, usize),
    (salt, len): (Salt, u64),
    txns: &[Txn],
    records: &mut Vec<Option<RecordAt>>,
    mut give: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<Rest, E> {
    let header = BatchHeader {
        payload_len: (len as usize).saturating_sub(BATCH_HEADER_LEN) as u32,
        txns: txns.len() as u32,
        first: txns.first().map_or(Tid::NONE, |txn| txn.tid),
        last: txns.last().map_or(Tid::NONE, |txn| txn.tid),
        crc: 0,
    };
    let mut hasher = header.hasher(salt);
    out.clear();
    records.clear();
    out.resize(BATCH_HEADER_LEN, 0);
    // Where in the batch the buffer begins, and where in the buffer that which is not given away.
    let (mut base, mut from) = (0, BATCH_HEADER_LEN);
    for txn in txns {
        out.extend_from_slice(&txn.tid.0.to_le_bytes());
        out.extend_from_slice(&txn.key.0);
        out.extend_from_slice(&txn.digest.to_le_bytes());
        out.push(if txn.own { TXN_OWN } else { 0 });
        out.extend_from_slice(&(txn.note.len() as u32).to_le_bytes());
        out.extend_from_slice(&txn.note);
        out.extend_from_slice(&(txn.writes.len() as u32).to_le_bytes());
        let run = txn.writes.run();
        for (place, write) in txn.writes.iter().enumerate() {
            match run {
                // Where it lies is known already.
                Some(run) => drop(encode_write((&mut *out, base), write, run.about(place).record.map(|at| at.crc))),
                None => records.push(encode_write((&mut *out, base), write, None)),
            }
            if out.len() >= piece_bytes {
                hasher.update(&out[from..]);
                give((base + from) as u64, &out[from..])?;
                (base, from) = (base + out.len(), 0);
                out.clear();
            }
        }
    }
    hasher.update(&out[from..]);
    let header = BatchHeader { crc: hasher.finalize(), ..header }.encode();
    if from == 0 {
        return Ok(Rest::From(base as u64, header));
    }
    out[..BATCH_HEADER_LEN].copy_from_slice(&header);
    Ok(Rest::All)
}

/// Encodes a batch of one transaction that has no tid yet, without the batch's header, all of it given away in pieces. Gives the checksum of what is
/// behind the tid.
pub(crate) fn encode_ahead<E>(
    (out, piece_bytes): (&mut Vec<u8>, usize),
    txn: &Txn,
    mut give: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<crc32fast::Hasher, E> {
    let mut body = crc32fast::Hasher::new();
    let mut put = |at: u64, bytes: &[u8]| {
        let tid = if at == BATCH_HEADER_LEN as u64 { TID_LEN } else { 0 };
        body.update(&bytes[tid..]);
        give(at, bytes)
    };
    let batch = (Salt(0), BATCH_HEADER_LEN as u64 + txn_len(txn));
    let rest = encode_in_pieces((&mut *out, piece_bytes), batch, std::slice::from_ref(txn), &mut Vec::new(), &mut put)?;
    match rest {
        Rest::All => put(BATCH_HEADER_LEN as u64, &out[BATCH_HEADER_LEN..])?,
        Rest::From(at, _) => put(at, out)?,
    }
    Ok(body)
}

/// The beginning of that batch: its header and the tid.
pub(crate) fn complete(body: &crc32fast::Hasher, salt: Salt, txn: &Txn) -> [u8; BATCH_HEADER_LEN + TID_LEN] {
    let header = BatchHeader { payload_len: txn_len(txn) as u32, txns: 1, first: txn.tid, last: txn.tid, crc: 0 };
    let mut hasher = header.hasher(salt);
    hasher.update(&txn.tid.0.to_le_bytes());
    hasher.combine(body);
    let mut out = [0; BATCH_HEADER_LEN + TID_LEN];
    out[..BATCH_HEADER_LEN].copy_from_slice(&BatchHeader { crc: hasher.finalize(), ..header }.encode());
    out[BATCH_HEADER_LEN..].copy_from_slice(&txn.tid.0.to_le_bytes());
    out
}

fn encode_write((out, base): (&mut Vec<u8>, usize), write: &TxnWrite, crc: Option<u32>) -> Option<RecordAt> {
    let record = write.record.as_deref().unwrap_or_default();
    let flags = if write.record.is_none() { FLAG_DELETED } else { 0 } | if write.merged { FLAG_MERGED } else { 0 };
    let crc = crc.unwrap_or_else(|| crc32fast::hash(record));
    out.extend_from_slice(&write.cell.oid.0.to_le_bytes());
    out.extend_from_slice(&(write.cell.key.len() as u16).to_le_bytes());
    out.extend_from_slice(&write.cell.key);
    out.push(flags);
    out.extend_from_slice(&(record.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    let offset = (base + out.len()) as u32;
    out.extend_from_slice(record);
    write.record.as_ref().map(|_| RecordAt { offset, len: record.len() as u32, crc })
}

/// Reads the transactions of a payload whose checksum holds, in a segment of a format; notes, keys and records share its
/// bytes.
pub(crate) fn parse_batch(format: u32, header: &BatchHeader, payload: &Bytes) -> Result<Vec<ParsedTxn>, BadFrame> {
    let mut left = payload.clone();
    let mut txns = Vec::with_capacity((header.txns as usize).min(left.len() / TXN_LEN_MIN_1));
    let mut last = Tid(header.first.0.wrapping_sub(1));
    for _ in 0..header.txns {
        let parsed = parse_txn(format, &mut left, payload.len())?;
        if !txns.is_empty() && parsed.txn.tid <= last {
            return Err(BadFrame::Wrong("tids that do not increase inside a batch"));
        }
        last = parsed.txn.tid;
        txns.push(parsed);
    }
    let ends = (txns.first().map(|parsed| parsed.txn.tid), txns.last().map(|parsed| parsed.txn.tid));
    if ends != (Some(header.first), Some(header.last)) {
        return Err(BadFrame::Wrong("a batch whose header names other tids than its transactions"));
    }
    if !left.is_empty() {
        return Err(BadFrame::Wrong("bytes left over at the end of a batch"));
    }
    Ok(txns)
}

fn parse_txn(format: u32, left: &mut Bytes, payload_len: usize) -> Result<ParsedTxn, BadFrame> {
    const SHORT: BadFrame = BadFrame::Wrong("a transaction longer than its batch");
    let len_min = if format == FORMAT_1 { TXN_LEN_MIN_1 } else { TXN_LEN_MIN };
    if left.len() < len_min - 4 {
        return Err(SHORT);
    }
    let tid = Tid(left.get_u64_le());
    let mut key = [0; 16];
    left.copy_to_slice(&mut key);
    let (digest, flags) = if format == FORMAT_1 { (0, 0) } else { (left.get_u64_le(), left.get_u8()) };
    if flags & !TXN_OWN != 0 {
        let reserved = TXN_FLAGS_RESERVED.iter().find(|(flag, _)| flags & flag != 0);
        return Err(BadFrame::Wrong(reserved.map_or("a transaction with unknown flags", |(_, what)| *what)));
    }
    let note_len = left.get_u32_le() as usize;
    if left.len() < note_len + 4 {
        return Err(SHORT);
    }
    let note = left.split_to(note_len);
    let count = left.get_u32_le() as usize;
    let room = count.min(left.len() / WRITE_LEN_MIN);
    let (mut writes, mut records) = (Vec::with_capacity(room), Vec::with_capacity(room));
    for _ in 0..count {
        let (write, record) = parse_write(left, payload_len)?;
        writes.push(write);
        records.push(record);
    }
    Ok(ParsedTxn {
        txn: Txn { tid, key: CommitKey(key), digest, own: flags & TXN_OWN != 0, note, writes: writes.into() },
        records,
    })
}

fn parse_write(left: &mut Bytes, payload_len: usize) -> Result<(TxnWrite, Option<RecordAt>), BadFrame> {
    const SHORT: BadFrame = BadFrame::Wrong("a write longer than its batch");
    if left.len() < WRITE_LEN_MIN {
        return Err(SHORT);
    }
    let oid = Oid(left.get_u64_le());
    let key_len = usize::from(left.get_u16_le());
    if left.len() < key_len + 9 {
        return Err(SHORT);
    }
    let key = left.split_to(key_len);
    let flags = left.get_u8();
    if flags & !(FLAG_DELETED | FLAG_MERGED) != 0 {
        return Err(BadFrame::Wrong("a write with unknown flags"));
    }
    let (len, crc) = (left.get_u32_le(), left.get_u32_le());
    if left.len() < len as usize {
        return Err(SHORT);
    }
    let offset = (BATCH_HEADER_LEN + payload_len - left.len()) as u32;
    let record = left.split_to(len as usize);
    let deleted = flags & FLAG_DELETED != 0;
    if deleted && len != 0 {
        return Err(BadFrame::Wrong("a deletion with a record"));
    }
    let write =
        TxnWrite { cell: Cell { oid, key }, record: (!deleted).then_some(record), merged: flags & FLAG_MERGED != 0 };
    Ok((write, (!deleted).then_some(RecordAt { offset, len, crc })))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests;
