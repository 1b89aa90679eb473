//! Owns the choice of what a pack writes anew: segments from which something goes, and small neighbours together as one, so that
//! the number of files follows the data and not its age.
//!
//! ```text
//!   left of each   90 MB | 2 MB  0  1 MB | 200 MB | 0  3 MB | 1 MB  2 MB | being appended to
//!   timeline         a       a                a        a         b
//!   together               (2  0  1)                (0 3)      (1  2)
//! ```
//! Small is what keeps less than a quarter of `segment_bytes_max`. So behind a pack no two neighbours of one timeline are both
//! small, unless they would be too large together: there are at most some eight files for each `segment_bytes_max` of data,
//! and for each timeline two.
//!
//! A large segment of which little would go is left as it is: what goes is then history only, and the setting says how little.
//! Unreachable objects go whole, or somebody could find a part of one: a segment that has anything of them is written anew. What
//! is left waits for a later pack (see `copy` for the deletions that must wait with it).
//!
//! Not done: a small one is not written together with a large neighbour.

use super::survey::Drops;
use crate::store::frame::NUMBERS_MAX;
use crate::store::log::segments::Segment;
use crate::store::settings::StoreSettings;
use std::collections::BTreeMap;
use std::sync::Arc;

// A segment of which less than this part of the greatest size is left is small.
const SMALL_PART: u64 = 4;

/// Neighbours that are written anew as one; in order.
pub(crate) type Group = Vec<Arc<Segment>>;

/// The choice on the grounds of what would go, by number of the segment.
pub(crate) struct Plan<'a> {
    pub(crate) drops: &'a BTreeMap<u32, Drops>,
    pub(crate) settings: &'a StoreSettings,
}

impl Plan<'_> {
    fn drops(&self, segment: &Segment) -> Drops {
        self.drops.get(&segment.header.number).copied().unwrap_or_default()
    }

    fn left(&self, segment: &Segment) -> u64 {
        segment.end().saturating_sub(self.drops(segment).bytes)
    }

    fn is_small(&self, segment: &Segment) -> bool {
        self.left(segment) < self.settings.segment_bytes_max / SMALL_PART
    }

    /// Whether what goes from a segment is worth writing it anew.
    pub(crate) fn is_worth(&self, segment: &Segment) -> bool {
        let Drops { revisions, bytes, unreachable } = self.drops(segment);
        let enough = bytes.saturating_mul(100) >= segment.end().saturating_mul(self.settings.pack_garbage_min_percent);
        unreachable || (revisions > 0 && (enough || self.is_small(segment)))
    }

    /// What is to be written anew of segments that are not appended to any more, in order.
    pub(crate) fn groups(&self, closed: &[Arc<Segment>]) -> Vec<Group> {
        let (mut groups, mut bytes): (Vec<Group>, u64) = (Vec::new(), 0);
        for segment in closed {
            let left = self.left(segment);
            match groups.last_mut().filter(|group| self.joins(group, bytes, segment)) {
                Some(group) => {
                    group.push(segment.clone());
                    bytes += left;
                }
                None => {
                    groups.push(vec![segment.clone()]);
                    bytes = left;
                }
            }
        }
        groups.retain(|group| group.len() > 1 || group.iter().any(|one| self.is_worth(one)));
        groups
    }

    // Whether a segment goes together with those before it, of which so many bytes are left.
    fn joins(&self, group: &Group, bytes: u64, segment: &Segment) -> bool {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return false };
        let fits = bytes + self.left(segment) <= self.settings.segment_bytes_max;
        let countable = segment.header.number - first.header.from < NUMBERS_MAX;
        let same_life = first.header.timeline == segment.header.timeline;
        self.is_small(segment) && self.is_small(last) && fits && countable && same_life
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::SimDisk;
    use crate::store::frame::SegmentHeader;
    use crate::store::log::handles::Handles;

    // So many bytes go from a segment that has something unreachable.
    const UNREACHABLE: u64 = 7;

    // Segments of these sizes and timelines, numbered from 1 on; the numbers of each group.
    fn groups(segments: &[(u64, u64)], goes: &[(u32, u64)]) -> Vec<Vec<u32>> {
        let handles = Handles::new(Arc::new(SimDisk::new()), 1);
        let segment = |(number, (end, timeline)): (u32, &(u64, u64))| {
            let header = SegmentHeader { number, from: number, timeline: *timeline, ..SegmentHeader::first(7) };
            Arc::new(Segment::new(header, handles.lazy(String::new()), *end))
        };
        let closed: Vec<_> = (1..).zip(segments).map(segment).collect();
        let drop = |bytes| Drops { revisions: 1, bytes, unreachable: bytes == UNREACHABLE };
        let drops = goes.iter().map(|(number, bytes)| (*number, drop(*bytes))).collect();
        let settings =
            StoreSettings { segment_bytes_max: 1000, pack_garbage_min_percent: 10, ..StoreSettings::default() };
        let planned = Plan { drops: &drops, settings: &settings }.groups(&closed);
        planned.iter().map(|group| group.iter().map(|segment| segment.header.number).collect()).collect()
    }

    #[test]
    fn small_neighbours_of_one_timeline_go_together_and_large_ones_alone() {
        let sizes = [(900, 1), (64, 1), (20, 1), (900, 1), (64, 1), (70, 1), (64, 2), (64, 2), (1000, 2)];
        assert_eq!(groups(&sizes, &[]), [vec![2, 3], vec![5, 6], vec![7, 8]]);
        assert_eq!(groups(&sizes, &[(4, 700), (9, 100)]), [vec![2, 3, 4, 5, 6], vec![7, 8], vec![9]]);
        assert_eq!(groups(&[(64, 1), (900, 1), (64, 1)], &[(3, 1)]), [vec![3]]);
    }

    #[test]
    fn a_large_one_is_left_alone_for_little_history_and_not_for_anything_unreachable() {
        let sizes = [(900, 1); 4];
        assert_eq!(groups(&sizes, &[(1, 89), (2, 90), (3, UNREACHABLE)]), [vec![2], vec![3]]);
    }

    #[test]
    fn together_they_are_no_larger_than_a_segment() {
        let sizes = [(240, 1); 9];
        assert_eq!(groups(&sizes, &[]), [vec![1, 2, 3, 4], vec![5, 6, 7, 8]]);
        assert_eq!(groups(&sizes, &[(9, 1)]), [vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9]]);
    }
}
