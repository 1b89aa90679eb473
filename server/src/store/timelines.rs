//! Owns the timelines of a store: which life of it wrote what, told by the headers of its segments.
//!
//! A store that is put back from a copy goes on with other commits than the one it was copied from, often with tids that
//! look the same. So each life has a random number, the *timeline*:
//!
//! ```text
//!   segment   1    2    3  |  4    5  |  6 ...
//!   timeline  a    a    a  |  b    b  |  c          b began where segment 4 says its base is
//! ```
//! What somebody knows as of a tid of a timeline is true here if that timeline is one of these, and had not ended by then.

use super::log::segments::Segment;
use parking_lot::RwLock;
use std::sync::Arc;
use zeolite_proto::Tid;

/// The timelines of an open store, in order.
pub(crate) struct Timelines {
    // Each with the last tid before it.
    all: RwLock<Vec<(u64, Tid)>>,
}

impl Timelines {
    /// Those of the segments, which are in order.
    pub(crate) fn of(segments: &[Arc<Segment>]) -> Timelines {
        let mut all: Vec<(u64, Tid)> = Vec::new();
        for segment in segments {
            if all.last().is_none_or(|(last, _)| *last != segment.header.timeline) {
                all.push((segment.header.timeline, segment.header.base));
            }
        }
        Timelines { all: RwLock::new(all) }
    }

    /// The one that is written to.
    pub(crate) fn now(&self) -> u64 {
        self.all.read().last().map_or(0, |(timeline, _)| *timeline)
    }

    /// The last tid before the one that is written to.
    pub(crate) fn base(&self) -> Tid {
        self.all.read().last().map_or(Tid::NONE, |(_, base)| *base)
    }

    /// Another one begins behind a tid.
    pub(crate) fn begin(&self, timeline: u64, base: Tid) {
        self.all.write().push((timeline, base));
    }

    /// The one that a tid is of.
    pub(crate) fn of_tid(&self, tid: Tid) -> u64 {
        let all = self.all.read();
        all.iter().rfind(|(_, base)| *base < tid).or(all.first()).map_or(0, |(timeline, _)| *timeline)
    }

    /// The newest tid of a timeline, up to one, as of which all was as here; none where the timeline is not known.
    pub(crate) fn shared_to(&self, timeline: u64, tid: Tid) -> Tid {
        let all = self.all.read();
        let Some(at) = all.iter().rposition(|(one, _)| *one == timeline) else { return Tid::NONE };
        all.get(at + 1).map_or(tid, |(_, end)| tid.min(*end))
    }

    /// Whether what was so in a timeline as of a tid is so here.
    pub(crate) fn share(&self, timeline: u64, tid: Tid) -> bool {
        let all = self.all.read();
        let Some(at) = all.iter().rposition(|(one, _)| *one == timeline) else { return false };
        all.get(at + 1).is_none_or(|(_, end)| tid <= *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tid_is_shared_up_to_where_its_timeline_ended() {
        let all = Timelines { all: RwLock::new(vec![(7, Tid(0))]) };
        assert!(all.share(7, Tid(50)));
        all.begin(9, Tid(40));
        assert_eq!(all.now(), 9);
        assert!(all.share(7, Tid(40)) && !all.share(7, Tid(41)));
        assert!(all.share(9, Tid(41)) && !all.share(8, Tid(1)));
        assert_eq!((all.of_tid(Tid(1)), all.of_tid(Tid(40)), all.of_tid(Tid(41))), (7, 7, 9));
        let shared = |timeline, tid| all.shared_to(timeline, Tid(tid)).0;
        assert_eq!((shared(7, 30), shared(7, 50), shared(9, 50), shared(8, 5)), (30, 40, 50, 0));
    }
}
