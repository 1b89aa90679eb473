//! Owns what was written to the file of the redb index and is not in it yet: it waits in memory, where reads find it.

use std::collections::BTreeMap;

// The pieces never overlap, so that one is found by where it begins; redb writes whole pages at the same offsets.
#[derive(Default)]
pub(super) struct Spill {
    pub(super) pieces: BTreeMap<u64, Vec<u8>>,
    pub(super) bytes: usize,
}

impl Spill {
    // Puts a piece over whatever it covers.
    pub(super) fn put(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        self.cut(offset, end);
        self.bytes += data.len();
        self.pieces.insert(offset, data.to_vec());
    }

    // Takes a range out; what sticks out at either side stays.
    pub(super) fn cut(&mut self, from: u64, to: u64) {
        let mut hit: Vec<u64> = self.pieces.range(from..to).map(|(at, _)| *at).collect();
        if let Some((at, piece)) = self.pieces.range(..from).next_back()
            && at + piece.len() as u64 > from
        {
            hit.push(*at);
        }
        for at in hit {
            let Some(piece) = self.pieces.remove(&at) else { continue };
            self.bytes -= piece.len();
            let end = at + piece.len() as u64;
            if at < from {
                self.put(at, &piece[..(from - at) as usize]);
            }
            if end > to {
                self.put(to, &piece[(to - at) as usize..]);
            }
        }
    }

    /// Whether a part of a range is here.
    pub(super) fn has(&self, offset: u64, len: usize) -> bool {
        let last = self.pieces.range(..offset + len as u64).next_back();
        last.is_some_and(|(at, piece)| at + piece.len() as u64 > offset)
    }

    pub(super) fn overlay(&self, offset: u64, out: &mut [u8]) {
        let end = offset + out.len() as u64;
        for (at, piece) in self.pieces.range(..end).rev() {
            let (from, to) = (offset.max(*at), end.min(at + piece.len() as u64));
            if to <= from {
                // The pieces before lie further down still.
                break;
            }
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&piece[(from - at) as usize..(to - at) as usize]);
        }
    }
}
