//! Owns the room behind the end of the log: zeros that are on the disk before anything is written over them.
//!
//! ```text
//!   ... | batch | batch | 0 0 0 0 0 0 0 |               the file ends behind the room
//!   ... | batch | batch | batch | 0 0 0 |               written over it: fdatasync writes bytes, and nothing of the file system
//!   ... | batch | batch | batch | batch | 0 0 0 0 0     no room for it: with the batch, in the same write, new zeros
//! ```
//! An fdatasync of a file that has grown also makes its new length and its new blocks durable, which takes longer than the bytes of a small batch. So
//! many of these share the price of one. A large batch has none of it: what is written of zeros is at most four times the small batches that use it.
//!
//! Only the last segment has room. What is read there as zeros up to the end of the file was never written; whatever else is no batch was torn
//! (`recover`). When a segment is followed by the next one its room is cut off first, durably.
//!
//! **Not done.** Segments that pack has replaced are not used again: their old batches would have to be written over first, and then their blocks are all
//! that is saved.

use super::segments::Segment;
use crate::store::StoreError;

// A batch has room made behind it when so many of its size find place there.
const BATCHES_MIN: u64 = 4;
const BLOCK_BYTES: u64 = 4096;
const WINDOW_BYTES: u64 = 256 << 10;

/// The room of the segment that is appended to.
pub(crate) struct Room {
    bytes: u64,
    segment_bytes_max: u64,
    file_end: u64,
}

impl Room {
    /// So much is made at once; the file ends here.
    pub(crate) fn new(bytes: u64, segment_bytes_max: u64, file_end: u64) -> Room {
        Room { bytes, segment_bytes_max, file_end }
    }

    /// How many zeros are written behind a batch of so many bytes that begins here.
    pub(crate) fn behind(&self, at: u64, len: u64) -> u64 {
        let end = at + len;
        if end <= self.file_end || len * BATCHES_MIN > self.bytes {
            return 0;
        }
        let until = (end + self.bytes).next_multiple_of(BLOCK_BYTES).min(self.segment_bytes_max);
        until.saturating_sub(end)
    }

    /// Whether a file with data up to here goes on with room.
    pub(crate) fn is_behind(&self, end: u64) -> bool {
        self.file_end > end
    }

    /// Something was written up to here.
    pub(crate) fn grew(&mut self, end: u64) {
        self.file_end = self.file_end.max(end);
    }

    /// The file ends here now.
    pub(crate) fn cut(&mut self, end: u64) {
        self.file_end = end;
    }
}

/// Behind which byte of a segment, from an offset on, there are only zeros.
pub(crate) fn zeros_from(segment: &Segment, offset: u64) -> Result<u64, StoreError> {
    let (mut at, mut zeros) = (offset, offset);
    let mut window = vec![0; WINDOW_BYTES.min(segment.end().saturating_sub(offset)) as usize];
    while at < segment.end() {
        let len = (segment.end() - at).min(window.len() as u64);
        let bytes = &mut window[..len as usize];
        segment.read(bytes, at)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            zeros = at + last as u64 + 1;
        }
        at += len;
    }
    Ok(zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_share_the_zeros_that_one_of_them_wrote_and_large_ones_write_none() {
        let mut room = Room::new(40_000, 1 << 20, 64);
        assert_eq!(room.behind(64, 1000), 45_056 - 1064);
        room.grew(45_056);
        assert!(room.is_behind(1064) && room.behind(1064, 1000) == 0 && room.behind(40_000, 5056) == 0);
        assert_eq!(room.behind(44_000, 10_000), 94_208 - 54_000);
        assert_eq!(room.behind(44_000, 10_001), 0);
        room.cut(1064);
        assert!(!room.is_behind(1064) && room.behind(1064, 1000) > 0);
        assert_eq!(Room::new(0, 1 << 20, 64).behind(64, 1000), 0, "switched off");
    }

    #[test]
    fn there_is_none_beyond_the_greatest_size_of_a_segment() {
        let room = Room::new(40_000, 10_000, 64);
        assert_eq!(room.behind(64, 1000), 10_000 - 1064);
        assert_eq!(room.behind(9500, 1000), 0);
    }
}
