//! Owns the header of a segment: what the file says about itself, in all formats.
//!
//! ```text
//!   format 1   magic 4 | format 4 | number 4 | generation 4 | store id 8 | packed to 8 | base tid 8 | zeros 20 | crc 4
//!   format 2   magic 4 | format 4 | number 4 | generation 4 | store id 8 | packed to 8 | base tid 8
//!                                             | flags 4 | timeline 8 | length before 4 | length 4 | crc 4
//!   format 3   the same, but generation 2 | numbers before its own that it stands for too 2
//! ```
//! A segment of format 1 is on the timeline that has the number of its store: the first life of every store.

use super::{BadFrame, u16_at, u32_at, u64_at};
use std::ops::RangeInclusive;
use zeolite_proto::Tid;

/// The log format that this code writes.
pub(crate) const LOG_FORMAT: u32 = 3;
/// The first one, which it reads.
pub(crate) const FORMAT_1: u32 = 1;
/// The one in which every number has a segment of its own, which it reads.
pub(crate) const FORMAT_2: u32 = 2;
/// So many numbers one segment can stand for.
pub(crate) const NUMBERS_MAX: u32 = 1 << 16;
/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER_LEN: usize = 64;

const SEGMENT_MAGIC: [u8; 4] = *b"ZLOG";
// What a later program may do with a segment; this one does none of it.
const FLAGS_RESERVED: [(u32, &str); 2] = [(1, "compressed"), (2, "encrypted")];

/// What a segment says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    /// The log format of everything in it.
    pub(crate) format: u32,
    pub(crate) number: u32,
    /// The first of the numbers that it stands for, of which its own is the last: another one when pack wrote several as one.
    pub(crate) from: u32,
    /// 0 as appended; each rewriting by pack adds one.
    pub(crate) generation: u16,
    pub(crate) store_id: u64,
    /// Up to which tid pack took history out of it; `Tid::NONE`: as appended.
    pub(crate) packed_to: Tid,
    /// The last tid before the segment: every tid in it is greater.
    pub(crate) base: Tid,
    /// The life of the store that wrote it; pack leaves it as it is.
    pub(crate) timeline: u64,
    /// How long the segment before it was as appended; 0: not known. Pack leaves it as it is.
    pub(crate) len_before: u32,
    /// How long this file is, as pack wrote it; 0: not known, or as appended.
    pub(crate) len: u32,
}

impl SegmentHeader {
    /// The first segment of a store.
    pub(crate) fn first(store_id: u64) -> SegmentHeader {
        SegmentHeader {
            format: LOG_FORMAT,
            number: 1,
            from: 1,
            generation: 0,
            store_id,
            packed_to: Tid::NONE,
            base: Tid::NONE,
            timeline: store_id,
            len_before: 0,
            len: 0,
        }
    }

    /// The segment that is begun behind this one, which ends here and with a tid.
    pub(crate) fn next(&self, number: u32, (end, base): (u64, Tid), timeline: u64) -> SegmentHeader {
        let len_before = u32::try_from(end).unwrap_or(0);
        SegmentHeader { number, from: number, base, timeline, len_before, ..SegmentHeader::first(self.store_id) }
    }

    /// The numbers that it stands for.
    pub(crate) fn numbers(&self) -> RangeInclusive<u32> {
        self.from..=self.number
    }

    /// The header's bytes.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[0..4].copy_from_slice(&SEGMENT_MAGIC);
        out[4..8].copy_from_slice(&self.format.to_le_bytes());
        out[8..12].copy_from_slice(&self.number.to_le_bytes());
        out[12..14].copy_from_slice(&self.generation.to_le_bytes());
        // `pack::plan` sees to it that they are not too many.
        out[14..16].copy_from_slice(&((self.number - self.from) as u16).to_le_bytes());
        out[16..24].copy_from_slice(&self.store_id.to_le_bytes());
        out[24..32].copy_from_slice(&self.packed_to.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.base.0.to_le_bytes());
        out[44..52].copy_from_slice(&self.timeline.to_le_bytes());
        out[52..56].copy_from_slice(&self.len_before.to_le_bytes());
        out[56..60].copy_from_slice(&self.len.to_le_bytes());
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
        let format = u32_at(bytes, 4);
        let store_id = u64_at(bytes, 16);
        let (timeline, len_before, len) = match format {
            FORMAT_1 => (store_id, 0, 0),
            FORMAT_2 | LOG_FORMAT => {
                refuse_flags(u32_at(bytes, 40))?;
                (u64_at(bytes, 44), u32_at(bytes, 52), u32_at(bytes, 56))
            }
            other => return Err(BadFrame::Format(other)),
        };
        let (number, generation, before) = (u32_at(bytes, 8), u16_at(bytes, 12), u32::from(u16_at(bytes, 14)));
        if format != LOG_FORMAT && before != 0 {
            return Err(BadFrame::Wrong("a generation beyond 65,535"));
        }
        // The first number is 1.
        let from = number.checked_sub(before).filter(|from| *from > 0 || before == 0);
        let from = from.ok_or(BadFrame::Wrong("it stands for more segments than there are before it"))?;
        Ok(SegmentHeader {
            format,
            number,
            from,
            generation,
            store_id,
            packed_to: Tid(u64_at(bytes, 24)),
            base: Tid(u64_at(bytes, 32)),
            timeline,
            len_before,
            len,
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
pub(crate) struct Salt(pub(super) u32);

fn refuse_flags(flags: u32) -> Result<(), BadFrame> {
    if flags == 0 {
        return Ok(());
    }
    let named = FLAGS_RESERVED.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name);
    let unknown = flags & !FLAGS_RESERVED.iter().fold(0, |all, (flag, _)| all | flag);
    let unknown = (unknown != 0).then(|| format!("flagged {unknown:#x}"));
    let what: Vec<String> = named.map(str::to_owned).chain(unknown).collect();
    Err(BadFrame::Flags(format!(
        "the segment is {}, which this program cannot read; use a newer zeolite",
        what.join(" and ")
    )))
}
