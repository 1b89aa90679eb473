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
//! Not done: a small one is not written together with a large neighbour.

use super::survey::Drops;
use crate::store::frame::NUMBERS_MAX;
use crate::store::log::segments::Segment;
use std::collections::BTreeMap;
use std::sync::Arc;

// A segment of which less than this part of the greatest size is left is small.
const SMALL_PART: u64 = 4;

/// Neighbours that are written anew as one; in order.
pub(crate) type Group = Vec<Arc<Segment>>;

/// What is to be written anew of segments that are not appended to any more, in order; `drops` is what goes, by number.
pub(crate) fn plan(closed: &[Arc<Segment>], drops: &BTreeMap<u32, Drops>, segment_bytes_max: u64) -> Vec<Group> {
    let left = |segment: &Segment| {
        let goes = drops.get(&segment.header.number).map_or(0, |drops| drops.bytes);
        segment.end().saturating_sub(goes)
    };
    let (mut groups, mut bytes): (Vec<Group>, u64) = (Vec::new(), 0);
    for segment in closed {
        let small = left(segment) < segment_bytes_max / SMALL_PART;
        let joins = groups.last().and_then(|group| group.first().zip(group.last())).is_some_and(|(first, last)| {
            let both_small = small && left(last) < segment_bytes_max / SMALL_PART;
            let fits = bytes + left(segment) <= segment_bytes_max;
            let countable = segment.header.number - first.header.from < NUMBERS_MAX;
            both_small && fits && countable && first.header.timeline == segment.header.timeline
        });
        match groups.last_mut().filter(|_| joins) {
            Some(group) => {
                group.push(segment.clone());
                bytes += left(segment);
            }
            None => {
                groups.push(vec![segment.clone()]);
                bytes = left(segment);
            }
        }
    }
    groups.retain(|group| group.len() > 1 || group.iter().any(|one| drops.contains_key(&one.header.number)));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::SimDisk;
    use crate::store::frame::SegmentHeader;
    use crate::store::log::handles::Handles;

    // Segments of these sizes and timelines, numbered from 1 on; the numbers of each group.
    fn groups(segments: &[(u64, u64)], goes: &[(u32, u64)]) -> Vec<Vec<u32>> {
        let handles = Handles::new(Arc::new(SimDisk::new()), 1);
        let segment = |(number, (end, timeline)): (u32, &(u64, u64))| {
            let header = SegmentHeader { number, from: number, timeline: *timeline, ..SegmentHeader::first(7) };
            Arc::new(Segment::new(header, handles.lazy(String::new()), *end))
        };
        let closed: Vec<_> = (1..).zip(segments).map(segment).collect();
        let drops = goes.iter().map(|(number, bytes)| (*number, Drops { revisions: 1, bytes: *bytes })).collect();
        let planned = plan(&closed, &drops, 1000);
        planned.iter().map(|group| group.iter().map(|segment| segment.header.number).collect()).collect()
    }

    #[test]
    fn small_neighbours_of_one_timeline_go_together_and_large_ones_alone() {
        let sizes = [(900, 1), (64, 1), (20, 1), (900, 1), (64, 1), (70, 1), (64, 2), (64, 2), (1000, 2)];
        assert_eq!(groups(&sizes, &[]), [vec![2, 3], vec![5, 6], vec![7, 8]]);
        assert_eq!(groups(&sizes, &[(4, 700), (9, 1)]), [vec![2, 3, 4, 5, 6], vec![7, 8], vec![9]]);
        assert_eq!(groups(&[(64, 1), (900, 1), (64, 1)], &[(3, 1)]), [vec![3]]);
    }

    #[test]
    fn together_they_are_no_larger_than_a_segment() {
        let sizes = [(240, 1); 9];
        assert_eq!(groups(&sizes, &[]), [vec![1, 2, 3, 4], vec![5, 6, 7, 8]]);
        assert_eq!(groups(&sizes, &[(9, 1)]), [vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9]]);
    }
}
