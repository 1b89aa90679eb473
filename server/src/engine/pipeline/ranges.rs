//! Owns the ranges that a draft has read, made disjoint.
//!
//! ```text
//!   a ────────── base 9            ┐      a ── 9 ──┐
//!        ─────────────── z base 5  ┘                └─ 5 ───────── z
//! ```
//! Each range costs the sequencer a walk over what was written lately in it, and everybody waits for the sequencer. A small draft
//! could have a hundred thousand ranges over the same keys. So where ranges overlap, one with the oldest base stands for them:
//! what is newer than one of their bases is newer than the oldest.

use bytes::Bytes;
use std::collections::BTreeMap;
use zeolite_proto::{ReadRange, Tid};

/// The same ranges, in order, none of which overlaps another.
pub(crate) fn disjoint(mut ranges: Vec<ReadRange>) -> Vec<ReadRange> {
    if ranges.len() < 2 {
        return ranges;
    }
    // Nothing is between a key and itself.
    ranges.retain(|range| range.to.is_empty() || range.from < range.to);
    ranges.sort_by_key(|range| range.oid);
    let mut disjoint = Vec::new();
    for of_one in ranges.chunk_by(|one, other| one.oid == other.oid) {
        sweep(of_one, &mut disjoint);
    }
    disjoint
}

/// From key to key, with the bases of what covers that part.
fn sweep(ranges: &[ReadRange], disjoint: &mut Vec<ReadRange>) {
    let begins = ranges.iter().map(|range| (&range.from, true, range.base));
    // One without an end never ends.
    let ends = ranges.iter().filter(|range| !range.to.is_empty()).map(|range| (&range.to, false, range.base));
    let mut edges: Vec<(&Bytes, bool, Tid)> = begins.chain(ends).collect();
    edges.sort_unstable();
    let mut open: BTreeMap<Tid, usize> = BTreeMap::new();
    for (at, (key, begins, base)) in edges.iter().enumerate() {
        let count = open.entry(*base).or_default();
        *count = if *begins { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            open.remove(base);
        }
        let next = edges.get(at + 1).map(|(next, ..)| *next);
        if next == Some(*key) {
            continue;
        }
        if let Some(oldest) = open.keys().next() {
            let (from, to) = (Bytes::clone(key), next.cloned().unwrap_or_default());
            add(ReadRange { oid: ranges[0].oid, from, to, base: *oldest }, disjoint);
        }
    }
}

/// Adds the next one, to the last if it goes on where that ends.
fn add(range: ReadRange, disjoint: &mut Vec<ReadRange>) {
    match disjoint.last_mut() {
        Some(last) if (last.oid, last.base) == (range.oid, range.base) && last.to == range.from => last.to = range.to,
        _ => disjoint.push(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::{Cell, Oid};

    const KEYS: u64 = 12;

    fn key(n: u64) -> Bytes {
        if n == 0 { Bytes::new() } else { format!("k{n:02}").into() }
    }

    // The oldest base of all that cover a cell.
    fn oldest(ranges: &[ReadRange], cell: &Cell) -> Option<Tid> {
        ranges.iter().filter(|range| range.covers(cell)).map(|range| range.base).min()
    }

    #[test]
    fn what_is_refused_because_of_the_ranges_is_refused_because_of_the_disjoint_ones() {
        for seed in 0..2000 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut range = || ReadRange {
                oid: Oid(dice.u64(20..22)),
                from: key(dice.u64(0..KEYS)),
                to: key(dice.u64(0..KEYS)),
                base: Tid(dice.u64(1..5)),
            };
            let ranges: Vec<ReadRange> = (0..seed % 9).map(|_| range()).collect();
            let apart = disjoint(ranges.clone());
            for (oid, n) in [20, 21].iter().flat_map(|oid| (0..KEYS).map(move |n| (*oid, n))) {
                // The key itself, and what lies just behind it.
                for cell in [Cell::entry(Oid(oid), key(n)), Cell::entry(Oid(oid), [key(n).as_ref(), b"x"].concat())] {
                    assert_eq!(oldest(&apart, &cell), oldest(&ranges, &cell), "seed {seed}: {cell} of {ranges:?}");
                    let covers = apart.iter().filter(|range| range.covers(&cell)).count();
                    assert!(covers < 2 || apart.len() < 2, "seed {seed}: {covers} cover {cell}: {apart:?}");
                }
            }
        }
    }
}
