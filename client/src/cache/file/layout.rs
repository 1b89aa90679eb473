//! Owns the bytes of the file, format 1 (docs/format.md): headers, chunks, entries. Pure; all numbers are little endian.
//!
//! ```text
//!   0      header, written in turns: here ...
//!   4096   ... and here; of two that are whole the one with the higher turn counts
//!   8192   chunk 0 | chunk 1 | ...             each: its sequence and salt, then entries up to the first that is none
//!
//!   entry   mark 4 | crc 4 | record's length 4 | key's length 4 | oid 8 | tid 8 | key | record | up to a multiple of 8
//! ```
//!
//! The checksum of an entry begins with its chunk's salt and its own place. A chunk that is used again gets another salt, at random, so what its
//! former turns have left behind is no entry of this one; and nothing is an entry because some record has the bytes of one. A sequence would
//! not do: a loss of power may leave entries on the disk and not the chunk's header, and then the same sequence is used twice. The mark alone is
//! outside: it is what is written over when the revision has ended.

use bytes::Bytes;
use crc32fast::Hasher;
use zeolite_proto::{Cell, Oid, Tid};

pub(crate) const FORMAT: u32 = 1;

/// Where the second header is, and where chunks begin.
pub(super) const HEADER_BYTES: u64 = 4096;
pub(super) const CHUNKS_AT: u64 = 2 * HEADER_BYTES;

/// The smallest file that is of use, and the largest whose places fit into 32 bits.
pub(crate) const BYTES_MIN: u64 = 1 << 20;
pub(crate) const BYTES_MAX: u64 = 32 << 30;

const MAGIC: [u8; 8] = *b"zeocache";
const CHUNK: [u8; 4] = *b"chnk";
const LIVE: [u8; 4] = *b"live";
pub(super) const DEAD: [u8; 4] = *b"dead";

const CHUNK_HEADER_BYTES: usize = 24;
pub(super) const ENTRY_HEADER_BYTES: usize = 32;
/// Places are counted in these.
const UNIT: u64 = 8;

/// How a file is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// Of the whole file, which never grows.
    pub(crate) bytes: u64,
    pub(crate) chunk_bytes: u64,
}

impl Shape {
    /// 64 chunks; of a large file more, so that none takes much memory when it is read.
    pub(crate) fn of(bytes: u64) -> Shape {
        let chunk_bytes = ((bytes - CHUNKS_AT) / 64).min(16 << 20) / 4096 * 4096;
        Shape { bytes, chunk_bytes }
    }

    pub(super) fn chunks(self) -> usize {
        ((self.bytes - CHUNKS_AT) / self.chunk_bytes) as usize
    }

    /// Where a chunk is in the file.
    pub(super) fn chunk_at(self, chunk: usize) -> u64 {
        CHUNKS_AT + chunk as u64 * self.chunk_bytes
    }

    /// The chunk of a place.
    pub(super) fn chunk_of(self, place: u32) -> usize {
        ((place_at(place) - CHUNKS_AT) / self.chunk_bytes) as usize
    }

    /// The places of a chunk.
    pub(super) fn places(self, chunk: usize) -> std::ops::Range<u32> {
        place(self.chunk_at(chunk))..place(self.chunk_at(chunk + 1))
    }

    /// Whether an entry of this length can be kept.
    pub(super) fn takes(self, entry_bytes: u64) -> bool {
        entry_bytes + CHUNK_HEADER_BYTES as u64 <= self.chunk_bytes
    }
}

/// The first entry of a chunk is this far behind its beginning.
pub(super) const FIRST_ENTRY: u64 = CHUNK_HEADER_BYTES as u64;

pub(super) fn place(at: u64) -> u32 {
    (at / UNIT) as u32
}

/// Where a place is in the file.
pub(super) fn place_at(place: u32) -> u64 {
    u64::from(place) * UNIT
}

/// What the header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// Counts the headers that were written.
    pub(crate) turn: u64,
    pub(crate) shape: Shape,
    /// Chunks with a lower sequence are void.
    pub(crate) first: u64,
    /// Of which store, and of which of its lives.
    pub(crate) store_id: u64,
    pub(crate) timeline: u64,
    /// All invalidations up to there are in the file; [`Tid::NONE`]: nothing can be said, and nothing used.
    pub(crate) position: Tid,
}

/// What is where a header may be.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Found {
    Header(Header),
    /// Never written.
    Nothing,
    /// Of this format, and not whole.
    Torn,
    /// Of another format.
    Format(u32),
    /// Not a cache.
    Foreign,
}

const HEADER_LENGTH: usize = 72;

impl Header {
    /// Where it is written: the one before it stays whole.
    pub(super) fn at(&self) -> u64 {
        self.turn % 2 * HEADER_BYTES
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LENGTH);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend([0; 4]);
        let Shape { bytes: size, chunk_bytes } = self.shape;
        for number in [self.turn, size, chunk_bytes, self.first, self.store_id, self.timeline, self.position.0] {
            bytes.extend(number.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads what is there; fewer bytes than a header are what a file that was cut has.
    pub(super) fn decode(bytes: &[u8]) -> Found {
        if bytes.iter().all(|byte| *byte == 0) {
            return Found::Nothing;
        }
        if !bytes.starts_with(&MAGIC) {
            return Found::Foreign;
        }
        if bytes.len() < HEADER_LENGTH {
            return Found::Torn;
        }
        let format = u32_at(bytes, 8);
        if format != FORMAT {
            return Found::Format(format);
        }
        let mut whole = bytes[..HEADER_LENGTH].to_vec();
        whole[12..16].fill(0);
        if crc32fast::hash(&whole) != u32_at(bytes, 12) {
            return Found::Torn;
        }
        let number = |n: usize| u64_at(bytes, 16 + 8 * n);
        Found::Header(Header {
            turn: number(0),
            shape: Shape { bytes: number(1), chunk_bytes: number(2) },
            first: number(3),
            store_id: number(4),
            timeline: number(5),
            position: Tid(number(6)),
        })
    }
}

/// A turn of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    /// Counts the turns of all chunks.
    pub(super) sequence: u64,
    /// Its own, at random; never 0.
    pub(super) salt: u64,
}

/// The header of a chunk.
pub(super) fn chunk_header(chunk: usize, turn: Turn) -> [u8; CHUNK_HEADER_BYTES] {
    let mut bytes = [0; CHUNK_HEADER_BYTES];
    bytes[..4].copy_from_slice(&CHUNK);
    bytes[8..16].copy_from_slice(&turn.sequence.to_le_bytes());
    bytes[16..].copy_from_slice(&turn.salt.to_le_bytes());
    let crc = chunk_crc(chunk, turn);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The turn that a chunk's header says; none: it is void.
pub(super) fn chunk_turn(chunk: usize, bytes: &[u8]) -> Option<Turn> {
    let bytes = bytes.get(..CHUNK_HEADER_BYTES)?;
    let turn = Turn { sequence: u64_at(bytes, 8), salt: u64_at(bytes, 16) };
    (bytes[..4] == CHUNK && u32_at(bytes, 4) == chunk_crc(chunk, turn)).then_some(turn)
}

fn chunk_crc(chunk: usize, turn: Turn) -> u32 {
    let mut hasher = Hasher::new();
    for number in [chunk as u64, turn.sequence, turn.salt] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.finalize()
}

/// The length of an entry in the file.
pub(super) fn entry_bytes(cell: &Cell, record: &[u8]) -> u64 {
    ((ENTRY_HEADER_BYTES + cell.key.len() + record.len()) as u64).next_multiple_of(UNIT)
}

/// Puts an entry behind what is there.
pub(super) fn encode_entry(to: &mut Vec<u8>, salt: u64, place: u32, cell: &Cell, tid: Tid, record: &[u8]) {
    let from = to.len();
    to.extend(LIVE);
    to.extend([0; 4]);
    to.extend((record.len() as u32).to_le_bytes());
    to.extend((cell.key.len() as u32).to_le_bytes());
    to.extend(cell.oid.0.to_le_bytes());
    to.extend(tid.0.to_le_bytes());
    to.extend_from_slice(&cell.key);
    to.extend_from_slice(record);
    let crc = entry_crc(salt, place, &to[from + 8..]);
    to[from + 4..from + 8].copy_from_slice(&crc.to_le_bytes());
    to.resize(from + (to.len() - from).next_multiple_of(UNIT as usize), 0);
}

fn entry_crc(salt: u64, place: u32, body: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&place.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// An entry, within the bytes that it was read from.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Entry<'a> {
    /// The revision had not ended when it was read.
    pub(crate) is_live: bool,
    pub(crate) oid: Oid,
    pub(crate) key: &'a [u8],
    pub(crate) tid: Tid,
    pub(crate) record: &'a [u8],
}

/// How many bytes an entry says that it has, its padding left out; none: there are too few to tell.
pub(super) fn entry_length(bytes: &[u8]) -> Option<u64> {
    let header = bytes.get(..ENTRY_HEADER_BYTES)?;
    Some(ENTRY_HEADER_BYTES as u64 + u64::from(u32_at(header, 8)) + u64::from(u32_at(header, 12)))
}

/// The entry at the beginning of these bytes; none: there is none, or not all of it.
pub(super) fn decode_entry(bytes: &[u8], salt: u64, place: u32) -> Option<Entry<'_>> {
    let length = usize::try_from(entry_length(bytes)?).ok()?;
    let bytes = bytes.get(..length)?;
    if u32_at(bytes, 4) != entry_crc(salt, place, &bytes[8..]) {
        return None;
    }
    let (key, record) = bytes[ENTRY_HEADER_BYTES..].split_at_checked(u32_at(bytes, 12) as usize)?;
    Some(Entry { is_live: bytes[..4] == LIVE, oid: Oid(u64_at(bytes, 16)), key, tid: Tid(u64_at(bytes, 24)), record })
}

impl Entry<'_> {
    pub(crate) fn is_of(&self, cell: &Cell) -> bool {
        self.oid == cell.oid && *self.key == *cell.key
    }

    pub(super) fn cell(&self) -> Cell {
        Cell { oid: self.oid, key: Bytes::copy_from_slice(self.key) }
    }

    /// The length in the file.
    pub(super) fn bytes(&self) -> u64 {
        ((ENTRY_HEADER_BYTES + self.key.len() + self.record.len()) as u64).next_multiple_of(UNIT)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let shape = Shape::of(BYTES_MIN);
        Header { turn: 3, shape, first: 9, store_id: 5, timeline: 6, position: Tid(7) }
    }

    #[test]
    fn a_header_is_told_from_all_that_is_none() {
        let bytes = header().encode();
        assert_eq!((bytes.len(), Header::decode(&bytes)), (HEADER_LENGTH, Found::Header(header())));
        for at in 12..HEADER_LENGTH {
            let mut torn = bytes.clone();
            torn[at] ^= 0x10;
            assert_eq!(Header::decode(&torn), Found::Torn, "byte {at}");
        }
        let mut later = bytes.clone();
        later[8] = 2;
        assert_eq!(Header::decode(&later), Found::Format(2));
        assert_eq!(Header::decode(b"PNG, or whatever it is"), Found::Foreign);
        assert_eq!((Header::decode(&[0; 500]), Header::decode(&[])), (Found::Nothing, Found::Nothing));
        for length in 1..HEADER_LENGTH {
            let torn = if length < MAGIC.len() { Found::Foreign } else { Found::Torn };
            assert_eq!(Header::decode(&bytes[..length]), torn, "{length} bytes of it");
        }
    }

    #[test]
    fn an_entry_counts_only_at_its_place_and_in_its_turn() {
        let (cell, record) = (Cell::entry(Oid(7), "key"), b"some record");
        let mut bytes = Vec::new();
        encode_entry(&mut bytes, 4, 1024, &cell, Tid(9), record);
        assert_eq!(bytes.len() as u64, entry_bytes(&cell, record));
        let entry = decode_entry(&bytes, 4, 1024).expect("whole");
        assert!(entry.is_live && entry.is_of(&cell) && !entry.is_of(&Cell::object(Oid(7))));
        assert_eq!((entry.tid, entry.record, entry.bytes(), entry.cell()), (Tid(9), &record[..], 48, cell));
        assert_eq!((decode_entry(&bytes, 5, 1024), decode_entry(&bytes, 4, 1025)), (None, None));
        bytes[..4].copy_from_slice(&DEAD);
        assert!(decode_entry(&bytes, 4, 1024).is_some_and(|entry| !entry.is_live), "whole, and ended");
        for at in 4..46 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(decode_entry(&flipped, 4, 1024), None, "byte {at}");
        }
        assert_eq!(decode_entry(&bytes[..40], 4, 1024), None);
    }

    #[test]
    fn chunks_lie_within_the_file_and_each_place_is_in_one() {
        for bytes in [BYTES_MIN, 8 << 20, 1 << 30, BYTES_MAX] {
            let shape = Shape::of(bytes);
            assert!(shape.chunks() >= 64 && shape.chunk_at(shape.chunks()) <= bytes);
            for chunk in [0, 1, shape.chunks() - 1] {
                let places = shape.places(chunk);
                assert_eq!((shape.chunk_of(places.start), shape.chunk_of(places.end - 1)), (chunk, chunk));
                let turn = Turn { sequence: 77, salt: 5 };
                assert_eq!(chunk_turn(chunk, &chunk_header(chunk, turn)), Some(turn));
                assert_eq!(chunk_turn(chunk + 1, &chunk_header(chunk, turn)), None);
            }
        }
    }
}
