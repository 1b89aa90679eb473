//! Owns what a pack leaves for the next one: what it knew at its end, so that the next one looks only at what was written since. It is a row of
//! `Meta`, and a hint: without it, or when it does not fit, a pack goes over everything.

use bytes::{Buf, BufMut};
use roaring::RoaringTreemap;
use zeolite_proto::{Oid, Tid};

/// The row.
pub(crate) const SURVEYED: &[u8] = b"surveyed";
/// The format that this code writes; it reads the one before, too. Of another one nothing is known.
const FORMAT: u32 = 2;
/// So many oids that are referred to and not there are named; of more the greatest, since it is behind them that new ones are made.
const DANGLING_MAX: usize = if cfg!(test) { 4 } else { 512 };

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
    /// Every oid below counts as one that the snapshot refers to.
    pub(crate) named_from: u64,
    /// The oids from there on that it refers to and does not have, ascending.
    pub(crate) dangling: Vec<u64>,
    pub(crate) left: Vec<LeftThere>,
}

impl Surveyed {
    /// `dangling` is all that the snapshot refers to and does not have, from `named_from` on.
    pub(crate) fn new(to: Tid, mut named_from: u64, dangling: &RoaringTreemap, left: Vec<LeftThere>) -> Surveyed {
        let mut named: Vec<u64> = dangling.iter().rev().take(DANGLING_MAX + 1).collect();
        if named.len() > DANGLING_MAX {
            named_from = named_from.max(named.pop().map_or(0, |greatest| greatest + 1));
        }
        named.retain(|oid| *oid >= named_from);
        named.reverse();
        Surveyed { to, named_from, dangling: named, left }
    }

    /// Whether the snapshot surely does not refer to an object that it does not have.
    pub(crate) fn is_unnamed(&self, oid: Oid) -> bool {
        oid.0 >= self.named_from && self.dangling.binary_search(&oid.0).is_err()
    }

    /// The row: format 4, to 8, named from 8, how many oids 4, these (8 each), then for each segment number 4, generation 2, revisions 8, bytes 8.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.dangling.len() * 8 + self.left.len() * 22);
        out.put_u32_le(FORMAT);
        out.put_u64_le(self.to.0);
        out.put_u64_le(self.named_from);
        out.put_u32_le(self.dangling.len() as u32);
        self.dangling.iter().for_each(|oid| out.put_u64_le(*oid));
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
        let format = row.try_get_u32_le().ok()?;
        let to = Tid(row.try_get_u64_le().ok()?);
        let (named_from, dangling) = match format {
            // It has the greatest oid that the snapshot had or referred to.
            1 => (row.try_get_u64_le().ok()?.saturating_add(1), Vec::new()),
            FORMAT => {
                let named_from = row.try_get_u64_le().ok()?;
                let dangling = (0..row.try_get_u32_le().ok()?).map(|_| row.try_get_u64_le().ok());
                (named_from, dangling.collect::<Option<_>>()?)
            }
            _ => return None,
        };
        let mut left = Vec::new();
        while !row.is_empty() {
            left.push(LeftThere {
                segment: row.try_get_u32_le().ok()?,
                generation: row.try_get_u16_le().ok()?,
                revisions: row.try_get_u64_le().ok()?,
                bytes: row.try_get_u64_le().ok()?,
            });
        }
        Some(Surveyed { to, named_from, dangling, left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_reads_back_and_a_cut_one_or_another_format_does_not() {
        let left = LeftThere { segment: 3, generation: 1, revisions: 7, bytes: 9 };
        let left = vec![left, LeftThere { segment: 4, ..left }];
        let surveyed = Surveyed::new(Tid(5), 2, &RoaringTreemap::from_iter([1, 6, 8]), left);
        assert_eq!((surveyed.named_from, &*surveyed.dangling), (2, &[6, 8][..]));
        let mut row = surveyed.encode();
        assert_eq!(Surveyed::parse(&row), Some(surveyed));
        let cuts = (0..row.len()).filter(|cut| Surveyed::parse(&row[..*cut]).is_some());
        assert_eq!(cuts.collect::<Vec<_>>(), [40, 62], "between two segments alone");
        row[0] = 3;
        assert_eq!(Surveyed::parse(&row), None);
    }

    #[test]
    fn a_row_of_format_1_names_nothing_and_counts_for_what_is_behind_its_greatest_oid() {
        let row = b"\x01\0\0\0\x05\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x03\0\0\0\x01\0\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0";
        let left = vec![LeftThere { segment: 3, generation: 1, revisions: 7, bytes: 9 }];
        let surveyed = Surveyed::parse(row).expect("reads");
        assert_eq!(surveyed, Surveyed { to: Tid(5), named_from: 9, dangling: Vec::new(), left });
        assert!(!surveyed.is_unnamed(Oid(8)) && surveyed.is_unnamed(Oid(9)));
    }

    #[test]
    fn of_more_than_it_can_name_it_names_the_greatest_and_what_is_below_counts_as_referred_to() {
        let dangling: RoaringTreemap = (10..10 + DANGLING_MAX as u64 + 2).map(|n| n * 2).collect();
        let surveyed = Surveyed::new(Tid(5), 0, &dangling, Vec::new());
        assert_eq!((surveyed.named_from, surveyed.dangling.len()), (23, DANGLING_MAX));
        assert!([0, 21, 22, 24].iter().all(|oid| !surveyed.is_unnamed(Oid(*oid))));
        assert!([23, 25, 1000].iter().all(|oid| surveyed.is_unnamed(Oid(*oid))));
        let kept = Surveyed::new(Tid(6), surveyed.named_from, &surveyed.dangling.iter().collect(), Vec::new());
        assert_eq!((kept.named_from, kept.dangling), (surveyed.named_from, surveyed.dangling));
    }
}
