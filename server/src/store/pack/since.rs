//! Owns the survey of what was written since the last pack: what that costs follows the changes, and not the database.
//!
//! ```text
//!   the last pack's end    every object of the snapshot at its tid F is reached from the roots in it; what could go and was left, by segment
//!   written since F        read from the log; of each cell the rows are looked at
//!     what is past now and was not at F                  goes, beside what was left
//!     an object of which F had nothing and which nothing named there   is new: the sieve looks for it from what else was written
//!     every other object                                 is still reached, if nothing that referred to anything does so no more
//! ```
//! **Why nothing that is reached is taken.** Only new objects are ever taken for garbage. What refers to one of them was written after F, and so is
//! looked at here or caught up with: all of it counts as reached, but for the new objects themselves.
//!
//! **Which objects are new.** The index tells of which F had nothing, and the last pack has named the oids that were referred to there all the same. To
//! name these to the next one, what is referred to for the first time is looked up, and so is what was deleted: others may refer to that.
//!
//! **Why nothing that is garbage is missed.** If a reference is gone, or an object comes that was named before, an old object may be garbage: then this
//! gives up, and the pack goes over everything.

use super::keep::{Rule, Verdict};
use super::survey::{Beginning, Survey};
use super::{Stage, Stepper};
use crate::store::StoreError;
use crate::store::index::rows::{Revision, Stored};
use crate::store::index::surveyed::Surveyed;
use crate::store::index::{Table, View, bad_row, keys};
use crate::store::reader::Reader;
use crate::store::state::State;
use bytes::Bytes;
use roaring::RoaringTreemap;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Oid, Tid};

// Log read at once, and cells looked up under one view of the index; few in tests, so that they see the seams.
const READ_BYTES: u64 = 1 << 20;
const VIEW_CELLS: usize = if cfg!(test) { 3 } else { 512 };
// More cells, or more than this part of the log: going over everything is cheaper, and needs less memory.
const CELLS_MAX: usize = 1 << 20;
const LOG_PART: u64 = if cfg!(test) { 1 } else { 8 };

/// What was written.
struct Written {
    cells: BTreeSet<Cell>,
    young: RoaringTreemap,
    young_refs: RoaringTreemap,
}

/// The newest revision that a snapshot sees: what its record refers to.
type Refs = Option<BTreeSet<Oid>>;

/// The survey of what was written since the last one, to be packed to a tid; `None`: it must go over everything.
pub(crate) fn survey(
    state: &Arc<State>,
    last: &Surveyed,
    to: Tid,
    step: &mut Stepper<'_>,
) -> Result<Option<Survey>, StoreError> {
    let seen_to = state.overlay.settled();
    let log_bytes: u64 = state.segments.current().iter().map(|segment| segment.end()).sum();
    let since_bytes = Reader::new(state.clone()).log_bytes_since(last.to.next())?;
    // Whoever has packed without saying more has taken what this rests on.
    if last.to != state.packed_to() || to < last.to || since_bytes.saturating_mul(LOG_PART) > log_bytes {
        return Ok(None);
    }
    let Some(Written { cells, young, young_refs }) = written(state, last.to, to, seen_to, step)? else {
        return Ok(None);
    };
    let mut survey = Survey::empty(state, to, seen_to);
    survey.young = young;
    survey.take_left(&last.left, state);
    let dangling = last.dangling.iter().copied().collect();
    let (seen, named, named_from) = (RoaringTreemap::new(), RoaringTreemap::new(), last.named_from);
    let beginning = Beginning { seen, young: young_refs, dangling, named, named_from };
    let mut looker = Looker { state, last, to, survey, beginning, known: None };
    let cells: Vec<Cell> = cells.into_iter().collect();
    let mut done = 0;
    for cells in cells.chunks(VIEW_CELLS) {
        let view = state.index.view()?;
        for cell in cells {
            if !looker.look(view.as_ref(), cell)? {
                return Ok(None);
            }
        }
        drop(view);
        done += cells.len() as u64;
        step(Stage::CatchUp, done, done)?;
    }
    let Looker { mut survey, beginning, .. } = looker;
    survey.beginning = Some(beginning);
    Ok(Some(survey))
}

// `None`: too much.
fn written(
    state: &Arc<State>,
    after: Tid,
    to: Tid,
    seen_to: Tid,
    step: &mut Stepper<'_>,
) -> Result<Option<Written>, StoreError> {
    let reader = Reader::new(state.clone());
    let mut written =
        Written { cells: BTreeSet::new(), young: RoaringTreemap::new(), young_refs: RoaringTreemap::new() };
    let (mut from, mut count) = (after.next(), 0);
    while from <= seen_to {
        let txns = reader.txns(from, seen_to, READ_BYTES)?;
        let Some(last) = txns.last() else { break };
        from = last.tid.next();
        count += txns.len() as u64;
        for txn in &txns {
            for write in &txn.writes {
                if txn.tid <= to {
                    written.cells.insert(write.cell.clone());
                    continue;
                }
                written.young.insert(write.cell.oid.0);
                if let Some(Ok(header)) = write.record.as_deref().map(Header::parse) {
                    written.young_refs.extend(header.refs().map(|oid| oid.0));
                }
            }
        }
        if written.cells.len() > CELLS_MAX {
            return Ok(None);
        }
        step(Stage::CatchUp, count, count)?;
    }
    Ok(Some(written))
}

struct Looker<'a> {
    state: &'a State,
    last: &'a Surveyed,
    to: Tid,
    survey: Survey,
    beginning: Beginning,
    // The object that was asked about the latest, and whether it was there at the last pack.
    known: Option<(Oid, bool)>,
}

impl Looker<'_> {
    // Looks at the rows of a cell; whether old objects are still reached as far as it can tell.
    fn look(&mut self, view: &dyn View, cell: &Cell) -> Result<bool, StoreError> {
        let (before, now) = self.judge(view, cell)?;
        let oid = cell.oid;
        let gone = before
            .as_ref()
            .is_some_and(|before| !before.iter().all(|to| now.as_ref().is_some_and(|now| now.contains(to))));
        if gone {
            return Ok(false);
        }
        let Some(now) = now else {
            // All of it may be gone, and others may refer to it.
            if before.is_some() {
                self.beginning.named.insert(oid.0);
            }
            return Ok(true);
        };
        let is_new = before.is_none() && !self.was_there(view, oid)?;
        if is_new && !self.last.is_unnamed(oid) {
            return Ok(false);
        }
        if is_new {
            self.survey.seen.insert(oid.0);
        } else {
            self.beginning.seen.extend(now.iter().map(|oid| oid.0));
            let before = before.unwrap_or_default();
            self.beginning.named.extend(now.difference(&before).map(|oid| oid.0));
        }
        Ok(true)
    }

    // Counts what goes; what the snapshots at the last pack and at this one see.
    fn judge(&mut self, view: &dyn View, cell: &Cell) -> Result<(Refs, Refs), StoreError> {
        let (mut then, mut today) = (Rule::new(self.last.to), Rule::new(self.to));
        let (mut before, mut now, mut bad) = (None, None, false);
        let (from, end) = (keys::cell(cell), keys::after_cell(cell.oid, &cell.key));
        let survey = &mut self.survey;
        view.range(Table::Revisions, Bound::Included(&from), Bound::Excluded(&end), false, &mut |key, row| {
            let deleted = Revision::is_deleted(row);
            match (then.judge(key, deleted), today.judge(key, deleted)) {
                (Some((_, was)), Some((tid, is))) => {
                    if was == Verdict::Seen {
                        before = Some(row.to_vec());
                    }
                    if is == Verdict::Seen {
                        now = Some(row.to_vec());
                    }
                    bad |= is == Verdict::Past && was != Verdict::Past && survey.goes(tid, key, row).is_none();
                }
                _ => bad = true,
            }
            !bad
        })?;
        if bad {
            return Err(bad_row(Table::Revisions));
        }
        Ok((self.refs(before.as_deref())?, self.refs(now.as_deref())?))
    }

    fn refs(&self, row: Option<&[u8]>) -> Result<Refs, StoreError> {
        let Some(row) = row else { return Ok(None) };
        if !Revision::refers(row) {
            return Ok(Some(BTreeSet::new()));
        }
        let bad = || bad_row(Table::Revisions);
        let record: Bytes = match Revision::parse(row).ok_or_else(bad)?.record {
            Stored::Inline(record) => record,
            Stored::At(place) => {
                self.state.segments.find(place.segment, place.generation).ok_or_else(bad)?.record(&place)?
            }
            Stored::Deleted => return Ok(None),
        };
        Header::parse(&record).map(|header| Some(header.refs().collect())).map_err(|_| bad())
    }

    // Whether a snapshot at the last pack had anything of an object.
    fn was_there(&mut self, view: &dyn View, oid: Oid) -> Result<bool, StoreError> {
        if let Some((_, there)) = self.known.filter(|(known, _)| *known == oid) {
            return Ok(there);
        }
        let there = has(view, oid, self.last.to)?;
        self.known = Some((oid, there));
        Ok(there)
    }
}

/// Those of these objects of which a snapshot has nothing.
pub(crate) fn absent(state: &State, oids: &RoaringTreemap, at: Tid) -> Result<RoaringTreemap, StoreError> {
    let (mut absent, mut view) = (RoaringTreemap::new(), None);
    for (count, oid) in oids.iter().enumerate() {
        if count % VIEW_CELLS == 0 {
            view = None;
        }
        let view = match &mut view {
            Some(view) => view,
            none => none.insert(state.index.view()?),
        };
        if !has(view.as_ref(), Oid(oid), at)? {
            absent.insert(oid);
        }
    }
    Ok(absent)
}

// Whether a snapshot has anything of an object.
fn has(view: &dyn View, oid: Oid, at: Tid) -> Result<bool, StoreError> {
    let (from, end) = (keys::from_entry(oid, b""), keys::after_object(oid));
    let (mut rule, mut there) = (Rule::new(at), false);
    view.range(Table::Revisions, Bound::Included(&from), Bound::Excluded(&end), false, &mut |key, row| {
        let judged = rule.judge(key, Revision::is_deleted(row));
        there = judged.is_some_and(|(_, verdict)| verdict == Verdict::Seen);
        !there
    })?;
    Ok(there)
}
