//! Owns the bytes of the log: how a segment header and a batch are encoded, parsed and checked; pure, no I/O.
//!
//! ```text
//!   segment   header 64 | batch | batch | batch ...
//!   header    magic 4 | format 4 | number 4 | generation 4 | store id 8 | packed to 8 | base tid 8 | zeros 20 | crc 4
//!   batch     magic 4 | payload length 4 | txns 4 | first tid 8 | last tid 8 | crc 4 | payload
//!   txn       tid 8 | commit key 16 | note length 4 | note | writes 4 | write ...
//!   write     oid 8 | key length 2 | key | flags 1 | record length 4 | record crc 4 | record
//! ```
//! Integers are little endian. The crc of a batch covers the 28 header bytes before it and the payload, and begins from a
//! salt made of the store id and the segment number: so a batch of another store or segment, left in a reused block or
//! stored by a client inside a record, is never taken for one of this segment. A record has a crc of its own, because it
//! is also read alone, by its place. Nothing here allocates more than the bytes at hand justify.

use super::{StoreError, Txn, TxnWrite};
use bytes::{Buf, Bytes};
use zeolite_proto::{Cell, CommitKey, Oid, Tid};

/// The log format that this code writes and reads.
pub(crate) const LOG_FORMAT: u32 = 1;
/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER_LEN: usize = 64;
/// Bytes of a batch's header.
pub(crate) const BATCH_HEADER_LEN: usize = 32;

const SEGMENT_MAGIC: [u8; 4] = *b"ZLOG";
/// What a batch begins with: not text, so that it is rare in records.
pub(crate) const BATCH_MAGIC: [u8; 4] = [0x9a, b'z', b'B', 0xb7];
const FLAG_DELETED: u8 = 1;
const FLAG_MERGED: u8 = 2;
const TXN_LEN_MIN: usize = 8 + 16 + 4 + 4;
const WRITE_LEN_MIN: usize = 8 + 2 + 1 + 4 + 4;

/// What a segment says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u32,
    /// 0 as appended; each rewriting by pack adds one.
    pub(crate) generation: u16,
    pub(crate) store_id: u64,
    /// Up to which tid pack took history out of it; `Tid::NONE`: as appended.
    pub(crate) packed_to: Tid,
    /// The last tid before the segment: every tid in it is greater.
    pub(crate) base: Tid,
}

/// Why bytes are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BadFrame {
    /// Cut, torn or overwritten: at the end of the log this is what a crash leaves.
    Torn(&'static str),
    /// The checksum holds but the content cannot be: no crash does that.
    Wrong(&'static str),
    /// A format number of another program.
    Format(u32),
}

impl BadFrame {
    /// The words for an error message.
    pub(crate) fn what(&self) -> String {
        match self {
            BadFrame::Torn(what) | BadFrame::Wrong(what) => (*what).to_owned(),
            BadFrame::Format(found) => format!("unknown log format {found}"),
        }
    }
}

impl SegmentHeader {
    /// The header's bytes.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[0..4].copy_from_slice(&SEGMENT_MAGIC);
        out[4..8].copy_from_slice(&LOG_FORMAT.to_le_bytes());
        out[8..12].copy_from_slice(&self.number.to_le_bytes());
        out[12..16].copy_from_slice(&u32::from(self.generation).to_le_bytes());
        out[16..24].copy_from_slice(&self.store_id.to_le_bytes());
        out[24..32].copy_from_slice(&self.packed_to.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.base.0.to_le_bytes());
        let crc = crc32fast::hash(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads and checks a header.
    pub(crate) fn parse(bytes: &[u8; SEGMENT_HEADER_LEN]) -> Result<SegmentHeader, BadFrame> {
        if bytes[0..4] != SEGMENT_MAGIC {
            return Err(BadFrame::Torn("no segment header"));
        }
        if u32_at(bytes, 60) != crc32fast::hash(&bytes[..60]) {
            return Err(BadFrame::Torn("the segment header's checksum does not fit"));
        }
        if u32_at(bytes, 4) != LOG_FORMAT {
            return Err(BadFrame::Format(u32_at(bytes, 4)));
        }
        let generation = u16::try_from(u32_at(bytes, 12)).map_err(|_| BadFrame::Wrong("a generation beyond 65,535"))?;
        Ok(SegmentHeader {
            number: u32_at(bytes, 8),
            generation,
            store_id: u64_at(bytes, 16),
            packed_to: Tid(u64_at(bytes, 24)),
            base: Tid(u64_at(bytes, 32)),
        })
    }

    /// What the checksums of this segment's batches begin from.
    pub(crate) fn salt(&self) -> Salt {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.store_id.to_le_bytes());
        hasher.update(&self.number.to_le_bytes());
        Salt(hasher.finalize())
    }
}

/// What the checksums of a segment's batches begin from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Salt(u32);

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

    fn checksum(&self, salt: Salt, payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(salt.0);
        hasher.update(&self.fixed());
        hasher.update(payload);
        hasher.finalize()
    }
}

/// How many bytes the batch of these transactions has, header included; refuses what the format cannot hold.
pub(crate) fn batch_len(txns: &[Txn]) -> Result<u64, StoreError> {
    let refused = |what: String| Err(StoreError::Refused { what });
    let mut len = BATCH_HEADER_LEN as u64;
    for txn in txns {
        if u32::try_from(txn.note.len()).is_err() || u32::try_from(txn.writes.len()).is_err() {
            return refused(format!("transaction {} has a note or a number of writes beyond 32 bits", txn.tid));
        }
        len += (TXN_LEN_MIN + txn.note.len()) as u64;
        for write in &txn.writes {
            if u16::try_from(write.cell.key.len()).is_err() {
                return refused(format!("a key of {} bytes, at most 65,535 are stored", write.cell.key.len()));
            }
            let record = write.record.as_ref().map_or(0, Bytes::len);
            len += (WRITE_LEN_MIN + write.cell.key.len() + record) as u64;
        }
    }
    if len > u64::from(u32::MAX) - SEGMENT_HEADER_LEN as u64 {
        return refused(format!("a batch of {len} bytes, a segment holds less than 4 GiB: commit less at once"));
    }
    Ok(len)
}

/// Encodes a batch over whatever is in `out` (one buffer, used again and again) and tells where each record came to
/// lie, write after write. The caller has asked [`batch_len`], which guards every narrowing here.
pub(crate) fn encode_batch(out: &mut Vec<u8>, salt: Salt, txns: &[Txn], records: &mut Vec<Option<RecordAt>>) {
    out.clear();
    records.clear();
    out.resize(BATCH_HEADER_LEN, 0);
    for txn in txns {
        out.extend_from_slice(&txn.tid.0.to_le_bytes());
        out.extend_from_slice(&txn.key.0);
        out.extend_from_slice(&(txn.note.len() as u32).to_le_bytes());
        out.extend_from_slice(&txn.note);
        out.extend_from_slice(&(txn.writes.len() as u32).to_le_bytes());
        for write in &txn.writes {
            records.push(encode_write(out, write));
        }
    }
    let mut header = BatchHeader {
        payload_len: (out.len() - BATCH_HEADER_LEN) as u32,
        txns: txns.len() as u32,
        first: txns.first().map_or(Tid::NONE, |txn| txn.tid),
        last: txns.last().map_or(Tid::NONE, |txn| txn.tid),
        crc: 0,
    };
    header.crc = header.checksum(salt, &out[BATCH_HEADER_LEN..]);
    out[..28].copy_from_slice(&header.fixed());
    out[28..BATCH_HEADER_LEN].copy_from_slice(&header.crc.to_le_bytes());
}

fn encode_write(out: &mut Vec<u8>, write: &TxnWrite) -> Option<RecordAt> {
    let record = write.record.as_deref().unwrap_or_default();
    let flags = if write.record.is_none() { FLAG_DELETED } else { 0 } | if write.merged { FLAG_MERGED } else { 0 };
    let crc = crc32fast::hash(record);
    out.extend_from_slice(&write.cell.oid.0.to_le_bytes());
    out.extend_from_slice(&(write.cell.key.len() as u16).to_le_bytes());
    out.extend_from_slice(&write.cell.key);
    out.push(flags);
    out.extend_from_slice(&(record.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    let offset = out.len() as u32;
    out.extend_from_slice(record);
    write.record.as_ref().map(|_| RecordAt { offset, len: record.len() as u32, crc })
}

/// Reads the transactions of a payload whose checksum holds; notes, keys and records share its bytes.
pub(crate) fn parse_batch(header: &BatchHeader, payload: &Bytes) -> Result<Vec<ParsedTxn>, BadFrame> {
    let mut left = payload.clone();
    let mut txns = Vec::with_capacity((header.txns as usize).min(left.len() / TXN_LEN_MIN));
    let mut last = Tid(header.first.0.wrapping_sub(1));
    for _ in 0..header.txns {
        let parsed = parse_txn(&mut left, payload.len())?;
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

fn parse_txn(left: &mut Bytes, payload_len: usize) -> Result<ParsedTxn, BadFrame> {
    const SHORT: BadFrame = BadFrame::Wrong("a transaction longer than its batch");
    if left.len() < TXN_LEN_MIN - 4 {
        return Err(SHORT);
    }
    let tid = Tid(left.get_u64_le());
    let mut key = [0; 16];
    left.copy_to_slice(&mut key);
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
    Ok(ParsedTxn { txn: Txn { tid, key: CommitKey(key), note, writes }, records })
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
