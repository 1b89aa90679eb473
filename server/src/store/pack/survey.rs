//! Owns the survey before a pack: one pass over the index that tells what would go, from which segments, and which objects
//! there are. `since` has the one that need not go over everything.

use super::keep::{Rule, Verdict};
use super::{Stage, Stepper};
use crate::store::StoreError;
use crate::store::index::rows::{Revision, Stored};
use crate::store::index::surveyed::LeftThere;
use crate::store::index::{Table, bad_row, keys};
use crate::store::state::State;
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::ops::Bound;
use zeolite_proto::{Oid, Tid};

// Rows read under one view of the index; few in tests, so that they see the seams.
const VIEW_ROWS: usize = if cfg!(test) { 7 } else { 16_384 };
// What a write costs in the log beside its key and record.
pub(crate) const WRITE_BYTES: u64 = 19;

/// What goes from one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Drops {
    pub(crate) revisions: u64,
    pub(crate) bytes: u64,
    /// Something of an unreachable object is there.
    pub(crate) unreachable: bool,
}

/// What the sieve begins with instead of the roots.
pub(crate) struct Beginning {
    /// What is referred to by what was written since and is no new object, as of what is packed to.
    pub(crate) seen: RoaringTreemap,
    /// The same of what is newer.
    pub(crate) young: RoaringTreemap,
    /// What the snapshot at the last pack referred to and did not have, from an oid on.
    pub(crate) dangling: RoaringTreemap,
    pub(crate) named_from: u64,
    /// What was referred to since by what is no new object, and what was deleted: it may not be there.
    pub(crate) named: RoaringTreemap,
}

/// What the pass over the index found.
pub(crate) struct Survey {
    to: Tid,
    // The last tid before each segment, ascending.
    bases: Vec<(Tid, u32)>,
    /// What goes, by segment.
    pub(crate) drops: BTreeMap<u32, Drops>,
    /// Every object of which a snapshot at what is packed to sees something; since the last pack, the new ones of these.
    pub(crate) seen: RoaringTreemap,
    /// Those with a revision newer than that.
    pub(crate) young: RoaringTreemap,
    /// Those of which something that is kept refers to others; `None`: that was not looked at.
    pub(crate) refer: Option<RoaringTreemap>,
    /// Of a survey since the last pack.
    pub(crate) beginning: Option<Beginning>,
    /// Everything up to here was in the index when the pass began.
    pub(crate) seen_to: Tid,
}

impl Survey {
    /// One that has found nothing yet.
    pub(crate) fn empty(state: &State, to: Tid, seen_to: Tid) -> Survey {
        let current = state.segments.current();
        Survey {
            to,
            bases: current.iter().map(|segment| (segment.header.base, segment.header.number)).collect(),
            drops: BTreeMap::new(),
            seen: RoaringTreemap::new(),
            young: RoaringTreemap::new(),
            refer: None,
            beginning: None,
            seen_to,
        }
    }

    /// Goes over the whole index.
    pub(crate) fn new(state: &State, to: Tid, step: &mut Stepper<'_>) -> Result<Survey, StoreError> {
        let mut survey = Survey::empty(state, to, state.overlay.settled());
        survey.refer = Some(RoaringTreemap::new());
        let (mut rule, mut from) = (Rule::new(to), Vec::new());
        // Objects that are made meanwhile are young: the pass must not run after them.
        let oids = state.index_oid_max();
        let end = keys::after_object(Oid(oids));
        while let Some(next) = survey.stretch(state, &mut rule, &from, &end, false)? {
            let oid = next.first_chunk::<8>().map_or(0, |oid| u64::from_be_bytes(*oid));
            step(Stage::Survey, oid.min(oids), oids)?;
            from = next;
        }
        Ok(survey)
    }

    /// Every object of which something would be kept if nothing were garbage.
    pub(crate) fn objects(&self) -> RoaringTreemap {
        &self.seen | &self.young
    }

    /// Counts in what could go at the last pack and was left, as far as it is still there.
    pub(crate) fn take_left(&mut self, left: &[LeftThere], state: &State) {
        for there in left.iter().filter(|there| state.segments.find(there.segment, there.generation).is_some()) {
            let drops = Drops { revisions: there.revisions, bytes: there.bytes, unreachable: false };
            self.drops.insert(there.segment, drops);
        }
    }

    /// Counts to what goes everything of these objects that is not counted yet: they are garbage.
    pub(crate) fn add_garbage(
        &mut self,
        state: &State,
        garbage: &RoaringTreemap,
        step: &mut Stepper<'_>,
    ) -> Result<(), StoreError> {
        for (done, oid) in (1..).zip(garbage) {
            let (mut rule, mut from) = (Rule::new(self.to), keys::from_entry(Oid(oid), b""));
            let end = keys::after_object(Oid(oid));
            while let Some(next) = self.stretch(state, &mut rule, &from, &end, true)? {
                from = next;
            }
            if done % 1024 == 0 {
                step(Stage::Garbage, done, garbage.len())?;
            }
        }
        Ok(())
    }

    // Reads the next rows up to an end, under one view; where to go on.
    fn stretch(
        &mut self,
        state: &State,
        rule: &mut Rule,
        from: &[u8],
        end: &[u8],
        garbage: bool,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut rows, mut next, mut bad) = (0, None, false);
        let view = state.index.view()?;
        view.range(Table::Revisions, Bound::Included(from), Bound::Excluded(end), false, &mut |key, row| {
            rows += 1;
            bad = self.count(rule, key, row, garbage).is_none();
            if rows >= VIEW_ROWS {
                // The key directly behind this one.
                next = Some([key, &[0]].concat());
            }
            next.is_none() && !bad
        })?;
        if bad { Err(bad_row(Table::Revisions)) } else { Ok(next) }
    }

    fn count(&mut self, rule: &mut Rule, key: &[u8], row: &[u8], garbage: bool) -> Option<()> {
        let oid = u64::from_be_bytes(*key.first_chunk::<8>()?);
        let (tid, verdict) = rule.judge(key, Revision::is_deleted(row))?;
        let goes = match verdict {
            Verdict::Past => !garbage,
            Verdict::Seen | Verdict::Young if garbage => true,
            Verdict::Seen => {
                self.seen.insert(oid);
                false
            }
            Verdict::Young => {
                self.young.insert(oid);
                false
            }
        };
        if !goes
            && Revision::refers(row)
            && let Some(refer) = &mut self.refer
        {
            refer.insert(oid);
        }
        if garbage {
            self.drops_at(tid).unreachable = true;
        }
        if goes {
            self.goes(tid, key, row)?;
        }
        Some(())
    }

    /// Counts a revision that goes; `None`: the row cannot be read.
    pub(crate) fn goes(&mut self, tid: Tid, key: &[u8], row: &[u8]) -> Option<()> {
        let record = match Revision::parse(row)?.record {
            Stored::Deleted => 0,
            Stored::Inline(record) => record.len() as u64,
            Stored::At(place) => u64::from(place.len),
        };
        // Oid, end mark and tid are not the key's own.
        let bytes = WRITE_BYTES + record + (key.len() as u64).saturating_sub(18);
        let drops = self.drops_at(tid);
        drops.revisions += 1;
        drops.bytes += bytes;
        Some(())
    }

    // What goes from the segment in which a transaction is.
    fn drops_at(&mut self, tid: Tid) -> &mut Drops {
        let at = self.bases.partition_point(|(base, _)| *base < tid);
        let number = at.checked_sub(1).and_then(|at| self.bases.get(at)).map_or(0, |(_, number)| *number);
        self.drops.entry(number).or_default()
    }
}
