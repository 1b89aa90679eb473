//! Owns the keys of the index: a revision's key orders by oid, then entry key, then newest first.
//!
//! ```text
//!   oid, big endian 8 | entry key, escaped | 00 00 | !tid, big endian 8
//!   escaped: 00 becomes 00 ff; so no escaped key contains 00 00, none is a prefix of another with its end, and the
//!   order of escaped keys is the order of keys
//! ```

use bytes::Bytes;
use zeolite_proto::{Cell, Oid, Tid};

const END: [u8; 2] = [0, 0];

/// The part of a revision's key that all revisions of its cell share.
pub(crate) fn cell(cell: &Cell) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + cell.key.len() + 2 + 8);
    push_cell(&mut out, cell.oid, &cell.key);
    out
}

/// The key of a cell's revision at a tid: also where the search for the newest revision up to this tid begins.
pub(crate) fn revision(of: &Cell, tid: Tid) -> Vec<u8> {
    let mut out = cell(of);
    out.extend_from_slice(&(!tid.0).to_be_bytes());
    out
}

/// Where the revisions of an object's entry keys from `key` on begin; the newest of `key` itself comes first.
pub(crate) fn from_entry(oid: Oid, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + key.len() + 2);
    push_cell(&mut out, oid, key);
    out
}

/// Just behind the last revision of a cell.
pub(crate) fn after_cell(oid: Oid, key: &[u8]) -> Vec<u8> {
    let mut out = from_entry(oid, key);
    // The end marker 00 00 becomes 00 01: behind every tid of this cell, before every longer key (00 ff ...).
    if let Some(last) = out.last_mut() {
        *last = 1;
    }
    out
}

/// Just behind everything of an object. There is none with the greatest number: `append` refuses it.
pub(crate) fn after_object(oid: Oid) -> Vec<u8> {
    oid.0.saturating_add(1).to_be_bytes().to_vec()
}

/// Reads a revision's key back; `None`: it is not one.
pub(crate) fn parse_revision(key: &[u8]) -> Option<(Cell, Tid)> {
    let (oid, rest) = key.split_first_chunk::<8>()?;
    let (escaped, tid) = rest.split_last_chunk::<8>()?;
    let escaped = escaped.strip_suffix(&END)?;
    let mut out = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return None;
        }
        out.push(*byte);
    }
    let cell = Cell { oid: Oid(u64::from_be_bytes(*oid)), key: Bytes::from(out) };
    Some((cell, Tid(!u64::from_be_bytes(*tid))))
}

/// The tid at the end of a revision's key.
pub(crate) fn tid_of(key: &[u8]) -> Option<Tid> {
    key.split_last_chunk::<8>().map(|(_, tid)| Tid(!u64::from_be_bytes(*tid)))
}

/// The key of a live object in `Objects`.
pub(crate) fn object(kind: u32, oid: Oid) -> Vec<u8> {
    let mut out = Vec::with_capacity(12);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&oid.0.to_be_bytes());
    out
}

fn push_cell(out: &mut Vec<u8>, oid: Oid, key: &[u8]) {
    out.extend_from_slice(&oid.0.to_be_bytes());
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&END);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_cell(dice: &mut fastrand::Rng) -> Cell {
        let key: Vec<u8> = (0..dice.usize(0..5)).map(|_| [0, 1, 0xfe, 0xff][dice.usize(0..4)]).collect();
        Cell { oid: Oid([0, 1, 0xff, u64::MAX - 1][dice.usize(0..4)]), key: Bytes::from(key) }
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_cells_and_then_newest_first() {
        let seed = 1;
        let mut dice = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let (a, b) = (random_cell(&mut dice), random_cell(&mut dice));
            let (s, t) = (Tid(dice.u64(0..3)), Tid(dice.u64(0..3)));
            let (left, right) = (revision(&a, s), revision(&b, t));
            let expected = a.cmp(&b).then(t.cmp(&s));
            assert_eq!(left.cmp(&right), expected, "seed {seed}: {a} {s} {b} {t}");
            assert_eq!(parse_revision(&left), Some((a.clone(), s)), "seed {seed}");
            assert_eq!(after_cell(a.oid, &a.key) > right, a >= b, "seed {seed}: {a} {b}");
            assert_eq!(after_object(a.oid) > right, a.oid >= b.oid, "seed {seed}: {a} {b}");
            assert_eq!(from_entry(a.oid, &a.key) <= right, a <= b, "seed {seed}: {a} {b}");
        }
    }
}
