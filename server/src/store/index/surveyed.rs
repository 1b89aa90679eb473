//! Owns what a pack leaves for the next one: what it knew at its end, so that the next one looks only at what was written since. It is a row of
//! `Meta`, and a hint: without it, or when it does not fit, a pack goes over everything.

use bytes::{Buf, BufMut};
use zeolite_proto::Tid;

/// The row.
pub(crate) const SURVEYED: &[u8] = b"surveyed";
/// The format that this code writes and reads; of another one nothing is known.
const FORMAT: u32 = 1;

/// What could go from a segment and was left there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeftThere {
    pub(crate) segment: u32,
    pub(crate) generation: u16,
    pub(crate) revisions: u64,
    pub(crate) bytes: u64,
}

/// What was so at the end of a pack of which everything was done, unreachable objects included: a snapshot at `to` has no object that the roots do
/// not reach in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Surveyed {
    /// To which it packed.
    pub(crate) to: Tid,
    /// No oid that a snapshot there has or refers to is greater.
    pub(crate) oid_max: u64,
    pub(crate) left: Vec<LeftThere>,
}

impl Surveyed {
    /// The row: format 4, to 8, greatest oid 8, then for each segment number 4, generation 2, revisions 8, bytes 8.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20 + self.left.len() * 22);
        out.put_u32_le(FORMAT);
        out.put_u64_le(self.to.0);
        out.put_u64_le(self.oid_max);
        for left in &self.left {
            out.put_u32_le(left.segment);
            out.put_u16_le(left.generation);
            out.put_u64_le(left.revisions);
            out.put_u64_le(left.bytes);
        }
        out
    }

    /// Reads the row; `None`: another format, or no such row.
    pub(crate) fn parse(mut row: &[u8]) -> Option<Surveyed> {
        if row.try_get_u32_le().ok()? != FORMAT {
            return None;
        }
        let (to, oid_max) = (Tid(row.try_get_u64_le().ok()?), row.try_get_u64_le().ok()?);
        let mut left = Vec::new();
        while !row.is_empty() {
            left.push(LeftThere {
                segment: row.try_get_u32_le().ok()?,
                generation: row.try_get_u16_le().ok()?,
                revisions: row.try_get_u64_le().ok()?,
                bytes: row.try_get_u64_le().ok()?,
            });
        }
        Some(Surveyed { to, oid_max, left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_reads_back_and_a_cut_one_or_another_format_does_not() {
        let left = LeftThere { segment: 3, generation: 1, revisions: 7, bytes: 9 };
        let surveyed = Surveyed { to: Tid(5), oid_max: 8, left: vec![left, LeftThere { segment: 4, ..left }] };
        let mut row = surveyed.encode();
        assert_eq!(Surveyed::parse(&row), Some(surveyed));
        let cuts = (0..row.len()).filter(|cut| Surveyed::parse(&row[..*cut]).is_some());
        assert_eq!(cuts.collect::<Vec<_>>(), [20, 42], "between two segments alone");
        row[0] = 2;
        assert_eq!(Surveyed::parse(&row), None);
    }
}
