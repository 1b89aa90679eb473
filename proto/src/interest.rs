//! Owns *interest*: which cells a session may hold, in a few bits.
//!
//! Whoever caches must hear of what is written to a cell that he holds. Of a cell that he has never asked for he need not; and most
//! of what is written on a busy server is of that kind. So both sides note each cell that a session loads or writes, as two rows
//! of a Bloom filter, found by a hash that is a part of the protocol:
//!
//! ```text
//!   cell ── SipHash-2-4 ──> h      rows  h mod n,  (h >> 32) mod n      n a power of two
//!   n = 8:   . x . . . x . .       the cell may be held if both of its rows are set
//! ```
//!
//! A filter errs to one side: it may say yes of a cell that nobody holds (which is told in vain), never no of one that was noted.
//! It grows by being laid behind itself, since a row of the larger one is a row of the smaller one, modulo that: what was set stays
//! set, and stays as dense as it was, so that it grows by the cells that were noted, not by how full it is, and in few steps.
//!
//! A [`Held`] is the filter that a client keeps of itself and says in its hello. The server's, of many sessions at once, is its own.
//! Nothing is ever taken out: a filter becomes too full at some time, and then its session is told everything.

use crate::{Cell, Fault, Oid};
use bytes::Bytes;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// The sizes of a filter, as powers of two, the smallest first.
pub const SIZES: [u32; 3] = [15, 18, 20];

/// The smallest filter that is taken from a client.
const ROWS_LOG2_MIN: u32 = 6;

/// What the rows of a cell are found by.
pub fn hash(cell: &Cell) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    hasher.write(&cell.oid.0.to_be_bytes());
    hasher.write(&cell.key);
    hasher.finish()
}

/// Stands for all entries of a collection, also those that are not there yet: whoever notes it is told of each of them. A program that has
/// an entry with this key hears more than it needs.
pub fn entries_of(collection: Oid) -> Cell {
    Cell::entry(collection, &b"\0\0entries"[..])
}

/// The rows of a hash in a filter of this size.
pub fn rows(hash: u64, rows_log2: u32) -> [usize; 2] {
    let mask = (1u64 << rows_log2) - 1;
    [(hash & mask) as usize, ((hash >> 32) & mask) as usize]
}

/// A filter of this size that has noted more cells is to grow.
pub fn cells_max(rows_log2: u32) -> u32 {
    1 << (rows_log2 - 4)
}

/// The set rows beyond which the largest filter is of no use.
pub fn is_too_full(set: u32) -> bool {
    set > 1 << (SIZES[SIZES.len() - 1] - 1)
}

/// The cells that a client may hold, however many sessions it has had.
#[derive(Clone, Debug)]
pub struct Held {
    /// Which of the sizes.
    size: usize,
    words: Vec<u64>,
    set: u32,
    cells: u32,
}

impl Default for Held {
    fn default() -> Held {
        Held { size: 0, words: vec![0; 1 << (SIZES[0] - 6)], set: 0, cells: 0 }
    }
}

impl Held {
    /// From here on the client may hold the cell.
    pub fn note(&mut self, cell: &Cell) {
        if self.is_everything() {
            return;
        }
        let hash = hash(cell);
        if self.has(hash) {
            return;
        }
        for row in rows(hash, SIZES[self.size]) {
            let (word, bit) = (&mut self.words[row / 64], 1 << (row % 64));
            self.set += u32::from(*word & bit == 0);
            *word |= bit;
        }
        self.cells += 1;
        if self.cells > cells_max(SIZES[self.size]) && self.size + 1 < SIZES.len() {
            self.grow();
        } else if self.is_everything() {
            self.words = Vec::new();
        }
    }

    /// Whether it may hold the cell of this hash.
    pub fn has(&self, hash: u64) -> bool {
        self.is_everything()
            || rows(hash, SIZES[self.size]).iter().all(|row| self.words[row / 64] & (1 << (row % 64)) != 0)
    }

    /// Too many cells to tell which they are.
    pub fn is_everything(&self) -> bool {
        is_too_full(self.set)
    }

    /// How many bytes a hello says it in.
    pub fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    fn grow(&mut self) {
        let times = 1 << (SIZES[self.size + 1] - SIZES[self.size]);
        (self.size, self.words, self.set) = (self.size + 1, self.words.repeat(times), self.set * times as u32);
    }

    /// As a hello says it; none: it would not say which cells.
    pub fn told(&self) -> Option<Rows> {
        if self.is_everything() {
            return None;
        }
        let bits: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Some(Rows { rows_log2: SIZES[self.size], bits: bits.into(), cells: self.cells })
    }
}

/// The rows that a hello names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rows {
    rows_log2: u32,
    bits: Bytes,
    cells: u32,
}

impl Rows {
    /// As a client says them.
    pub fn new(rows_log2: u32, bits: Bytes, cells: u32) -> Result<Rows, Fault> {
        if !(ROWS_LOG2_MIN..=SIZES[SIZES.len() - 1]).contains(&rows_log2) || bits.len() != 1 << (rows_log2 - 3) {
            let message = format!(
                "held has {} bytes for 2^{rows_log2} rows; there are 2^{ROWS_LOG2_MIN} to 2^{} of them, eight in a byte",
                bits.len(),
                SIZES[SIZES.len() - 1],
            );
            return Err(Fault::invalid(message));
        }
        Ok(Rows { rows_log2, bits, cells })
    }

    /// How many there are, set or not, as a power of two.
    pub fn rows_log2(&self) -> u32 {
        self.rows_log2
    }

    /// About how many cells were noted.
    pub fn cells(&self) -> u32 {
        self.cells
    }

    /// Eight rows in a byte, the first in the lowest bit.
    pub fn bits(&self) -> &Bytes {
        &self.bits
    }

    /// Those that are set.
    pub fn set(&self) -> impl Iterator<Item = usize> {
        let bits = |(at, byte): (usize, &u8)| {
            let byte = *byte;
            (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| at * 8 + bit)
        };
        self.bits.iter().enumerate().flat_map(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Oid;

    fn cell(n: u64) -> Cell {
        if n.is_multiple_of(3) { Cell::entry(Oid(n), format!("key {n}")) } else { Cell::object(Oid(n)) }
    }

    #[test]
    fn what_was_noted_is_held_however_often_it_grows() {
        let mut held = Held::default();
        for n in 0..100_000 {
            held.note(&cell(n));
        }
        assert_eq!(held.size, 2);
        assert!((0..100_000).all(|n| held.has(hash(&cell(n)))));
        let others = (0..100_000).filter(|n| held.has(hash(&cell(1_000_000 + n)))).count();
        assert!(others < 20_000, "{others} of 100,000 that were never noted");
        let mut few = Held::default();
        (0..2000).for_each(|n| few.note(&cell(n)));
        let others = (0..100_000).filter(|n| few.has(hash(&cell(1_000_000 + n)))).count();
        assert!(others < 2_000, "{others} of 100,000 that were never noted");
    }

    #[test]
    fn too_many_are_everything() {
        let mut held = Held::default();
        let mut noted = 0;
        while !held.is_everything() {
            held.note(&cell(noted));
            noted += 1;
        }
        assert!((200_000..400_000).contains(&noted), "{noted}");
        assert!(held.told().is_none());
        held.note(&cell(noted));
        assert!(held.has(hash(&cell(noted))) && held.has(1));
    }

    #[test]
    fn what_a_hello_tells_are_the_rows_that_are_set() {
        let mut held = Held::default();
        (0..3000).for_each(|n| held.note(&cell(n)));
        let rows = held.told().expect("few");
        assert_eq!((rows.rows_log2, rows.cells, rows.set().count()), (18, held.cells, held.set as usize));
        assert!(rows.set().all(|row| held.words[row / 64] & (1 << (row % 64)) != 0));
        assert_eq!(Rows::new(18, rows.bits().clone(), rows.cells()), Ok(rows.clone()));
        for (rows_log2, bytes) in [(5, 4), (21, 1 << 18), (64, 1 << 15), (15, 1 << 15), (15, 0)] {
            assert!(Rows::new(rows_log2, vec![0; bytes].into(), 0).is_err(), "{rows_log2} {bytes}");
        }
    }
}
