//! Owns the values of the index: how a revision, a kind, a place, commit keys and what is covered are written there.
//!
//! All integers little endian. A row that cannot be read is an error of the index, never of the data: the log has it.

use crate::store::KnownKey;
use crate::store::kinds::{Kind, KindId};
use crate::store::log::{Place, Position};
use crate::store::overlay::Slot;
use bytes::{Buf, BufMut, Bytes};
use zeolite_proto::{CommitKey, Oid, Tid};

/// The index format that this code writes and reads.
pub(crate) const INDEX_FORMAT: u32 = 3;
/// The row of `Meta` that says what is covered.
pub(crate) const COVERED: &[u8] = b"covered";
// What the keys of the rows of `Meta` begin with that name generations of segments.
const GENERATION: &[u8] = b"generation/";

const DELETED: u8 = 1;
const INLINE: u8 = 2;
const HAS_REFS: u8 = 4;
const HAS_BLOBS: u8 = 8;

/// What the index says about a revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Revision {
    pub(crate) kind: KindId,
    pub(crate) has_refs: bool,
    pub(crate) has_blobs: bool,
    pub(crate) record: Stored,
}

/// Where a revision's record is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stored {
    /// There is none: the revision deleted the cell.
    Deleted,
    /// Here.
    Inline(Bytes),
    /// In the log.
    At(Place),
}

impl Revision {
    /// A row from a slot of the overlay; records up to `inline_max` are held in the row. `None`: a slot that has neither
    /// a record nor a place, which nobody makes.
    pub(crate) fn of(slot: &Slot, inline_max: usize) -> Revision {
        let record = match (&slot.place, &slot.record) {
            (Some(place), Some(record)) if record.len() > inline_max => Stored::At(*place),
            (_, Some(record)) => Stored::Inline(record.clone()),
            (Some(place), None) => Stored::At(*place),
            (None, None) => Stored::Deleted,
        };
        Revision { kind: slot.kind, has_refs: slot.has_refs, has_blobs: slot.has_blobs, record }
    }

    /// The row's bytes: kind 4, flags 1, then the record, or place (segment 4, generation 2, offset 4, length 4, crc 4).
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.put_u32_le(self.kind.0);
        let refs = if self.has_refs { HAS_REFS } else { 0 };
        let names = if self.has_blobs { refs | HAS_BLOBS } else { refs };
        match &self.record {
            Stored::Deleted => out.put_u8(DELETED),
            Stored::Inline(record) => {
                out.put_u8(INLINE | names);
                out.put_slice(record);
            }
            Stored::At(place) => {
                out.put_u8(names);
                out.put_u32_le(place.segment);
                out.put_u16_le(place.generation);
                out.put_u32_le(place.offset);
                out.put_u32_le(place.len);
                out.put_u32_le(place.crc);
            }
        }
        out
    }

    /// Reads a row.
    pub(crate) fn parse(mut row: &[u8]) -> Option<Revision> {
        let kind = KindId(row.try_get_u32_le().ok()?);
        let flags = row.try_get_u8().ok()?;
        let record = if flags & DELETED != 0 {
            Stored::Deleted
        } else if flags & INLINE != 0 {
            Stored::Inline(Bytes::copy_from_slice(row))
        } else {
            Stored::At(Place {
                segment: row.try_get_u32_le().ok()?,
                generation: row.try_get_u16_le().ok()?,
                offset: row.try_get_u32_le().ok()?,
                len: row.try_get_u32_le().ok()?,
                crc: row.try_get_u32_le().ok()?,
            })
        };
        let (has_refs, has_blobs) = (flags & HAS_REFS != 0, flags & HAS_BLOBS != 0);
        Some(Revision { kind, has_refs, has_blobs, record })
    }

    /// The kind of a row's object if it is alive, without reading the rest.
    pub(crate) fn live_kind(mut row: &[u8]) -> Option<KindId> {
        let kind = KindId(row.try_get_u32_le().ok()?);
        (row.try_get_u8().ok()? & DELETED == 0).then_some(kind)
    }

    /// Whether a row's record refers to other objects, without reading the rest.
    pub(crate) fn refers(row: &[u8]) -> bool {
        row.get(4).is_some_and(|flags| flags & HAS_REFS != 0)
    }

    /// Whether a row's record names blobs, without reading the rest.
    pub(crate) fn names_blobs(row: &[u8]) -> bool {
        row.get(4).is_some_and(|flags| flags & HAS_BLOBS != 0)
    }

    /// Whether a row is a deletion, without reading the rest.
    pub(crate) fn is_deleted(row: &[u8]) -> bool {
        row.get(4).is_some_and(|flags| flags & DELETED != 0)
    }
}

/// The row of a kind: objects 8, version 4, class.
pub(crate) fn encode_kind(kind: &Kind, objects: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + kind.class.len());
    out.put_u64_le(objects);
    out.put_u32_le(kind.version);
    out.put_slice(kind.class.as_bytes());
    out
}

/// Reads the row of a kind.
pub(crate) fn parse_kind(key: &[u8], mut row: &[u8]) -> Option<(KindId, Kind, u64)> {
    let id = KindId(u32::from_be_bytes(key.try_into().ok()?));
    let objects = row.try_get_u64_le().ok()?;
    let version = row.try_get_u32_le().ok()?;
    Some((id, Kind { class: std::str::from_utf8(row).ok()?.into(), version }, objects))
}

/// A row of `Places`: segment 4, generation 2, offset 8.
pub(crate) fn encode_position(position: Position) -> Vec<u8> {
    let mut out = Vec::with_capacity(14);
    put_position(&mut out, position);
    out
}

/// Reads a row of `Places`.
pub(crate) fn parse_position(mut row: &[u8]) -> Option<Position> {
    get_position(&mut row)
}

/// A row of `Keys`: the age of the store in milliseconds 8, then commit key 16, digest 8 and tid 8 for each.
pub(crate) fn encode_keys(lived_ms: u64, keys: &[KnownKey]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + keys.len() * 32);
    out.put_u64_le(lived_ms);
    for known in keys {
        out.put_slice(&known.key.0);
        out.put_u64_le(known.digest);
        out.put_u64_le(known.tid.0);
    }
    out
}

/// Reads a row of `Keys`.
pub(crate) fn parse_keys(mut row: &[u8]) -> Option<Vec<KnownKey>> {
    let lived_ms = row.try_get_u64_le().ok()?;
    let (keys, rest) = row.as_chunks::<32>();
    let known = |mut bytes: &[u8]| {
        let mut key = [0; 16];
        bytes.copy_to_slice(&mut key);
        let (digest, tid) = (bytes.get_u64_le(), Tid(bytes.get_u64_le()));
        KnownKey { key: CommitKey(key), digest, tid, lived_ms }
    };
    rest.is_empty().then(|| keys.iter().map(|bytes| known(bytes)).collect())
}

/// The key of the row of `Meta` that says that records are found in a generation of a segment; the row is empty.
pub(crate) fn generation_key(number: u32, generation: u16) -> Vec<u8> {
    let mut out = GENERATION.to_vec();
    out.put_u32(number);
    out.put_u16(generation);
    out
}

/// The segment and the generation that such a key names; `None`: another row of `Meta`.
pub(crate) fn parse_generation(key: &[u8]) -> Option<(u32, u16)> {
    let mut named = key.strip_prefix(GENERATION)?;
    let found = (named.try_get_u32().ok()?, named.try_get_u16().ok()?);
    named.is_empty().then_some(found)
}

/// What the index covers, and of which store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Covered {
    pub(crate) store_id: u64,
    /// Everything before this position is in the index.
    pub(crate) position: Position,
    /// The tid before this position.
    pub(crate) last: Tid,
    pub(crate) packed_to: Tid,
    pub(crate) oid_max: u64,
    /// The newest transaction whose commit key was forgotten.
    pub(crate) keys_floor: Tid,
    /// For how long servers have run on the store.
    pub(crate) lived_ms: u64,
}

impl Covered {
    /// The row: format 4, store 8, position 14, last 8, packed to 8, greatest oid 8, keys floor 8, age in milliseconds 8.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(66);
        out.put_u32_le(INDEX_FORMAT);
        out.put_u64_le(self.store_id);
        put_position(&mut out, self.position);
        out.put_u64_le(self.last.0);
        out.put_u64_le(self.packed_to.0);
        out.put_u64_le(self.oid_max);
        out.put_u64_le(self.keys_floor.0);
        out.put_u64_le(self.lived_ms);
        out
    }

    /// Reads the row; `None`: another format, or no such row.
    pub(crate) fn parse(mut row: &[u8]) -> Option<Covered> {
        if row.try_get_u32_le().ok()? != INDEX_FORMAT {
            return None;
        }
        let store_id = row.try_get_u64_le().ok()?;
        let position = get_position(&mut row)?;
        let last = Tid(row.try_get_u64_le().ok()?);
        let packed_to = Tid(row.try_get_u64_le().ok()?);
        let oid_max = row.try_get_u64_le().ok()?;
        let keys_floor = Tid(row.try_get_u64_le().ok()?);
        let lived_ms = row.try_get_u64_le().ok()?;
        row.is_empty().then_some(Covered { store_id, position, last, packed_to, oid_max, keys_floor, lived_ms })
    }
}

/// The key of a tid in `Places` and `Keys`.
pub(crate) fn tid_key(tid: Tid) -> Vec<u8> {
    tid.0.to_be_bytes().to_vec()
}

/// Reads such a key.
pub(crate) fn tid_of_key(key: &[u8]) -> Option<Tid> {
    Some(Tid(u64::from_be_bytes(key.try_into().ok()?)))
}

/// The oid at the end of a key of `Objects`.
pub(crate) fn object_oid(key: &[u8]) -> Option<Oid> {
    key.split_last_chunk::<8>().map(|(_, oid)| Oid(u64::from_be_bytes(*oid)))
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    out.put_u32_le(position.segment);
    out.put_u16_le(position.generation);
    out.put_u64_le(position.offset);
}

fn get_position(row: &mut &[u8]) -> Option<Position> {
    Some(Position {
        segment: row.try_get_u32_le().ok()?,
        generation: row.try_get_u16_le().ok()?,
        offset: row.try_get_u64_le().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_cut_ones_never_panic() {
        let place = Place { segment: 3, generation: 2, offset: 9, len: 8, crc: 7 };
        for record in [Stored::Deleted, Stored::Inline(Bytes::from_static(b"abc")), Stored::At(place)] {
            let deleted = record == Stored::Deleted;
            let row = Revision { kind: KindId(5), has_refs: !deleted, has_blobs: !deleted, record };
            let bytes = row.encode();
            assert_eq!(Revision::parse(&bytes), Some(row));
            assert_eq!(Revision::live_kind(&bytes), (!deleted).then_some(KindId(5)));
            assert_eq!((Revision::is_deleted(&bytes), Revision::refers(&bytes)), (deleted, !deleted));
            (0..bytes.len()).for_each(|cut| drop(Revision::parse(&bytes[..cut])));
        }
        let position = Position { segment: 1, generation: 0, offset: 64 };
        let covered = Covered {
            store_id: 1,
            position,
            last: Tid(3),
            packed_to: Tid(2),
            oid_max: 4,
            keys_floor: Tid(1),
            lived_ms: 9,
        };
        let bytes = covered.encode();
        assert_eq!(Covered::parse(&bytes), Some(covered));
        (0..66).for_each(|cut| assert_eq!(Covered::parse(&bytes[..cut]), None, "{cut}"));
        let keys = [1, 2].map(|n| KnownKey { key: CommitKey([n; 16]), digest: 5, tid: Tid(n.into()), lived_ms: 3 });
        assert_eq!(parse_keys(&encode_keys(3, &keys)).as_deref(), Some(&keys[..]));
        assert_eq!((parse_keys(&[0; 7]), parse_keys(&[0; 41])), (None, None));
        assert_eq!(parse_generation(&generation_key(3, 7)), Some((3, 7)));
        assert_eq!((parse_generation(COVERED), parse_generation(&generation_key(3, 7)[..16])), (None, None));
        assert_eq!(parse_position(&encode_position(position)), Some(position));
        let kind = Kind { class: "Page".into(), version: 3 };
        assert_eq!(parse_kind(&[0, 0, 0, 9], &encode_kind(&kind, 12)), Some((KindId(9), kind, 12)));
    }
}
