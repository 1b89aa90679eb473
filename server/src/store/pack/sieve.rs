//! Owns the search for objects that nothing refers to: `Sieve`, which begins with all of them and lets go of what is reached.
//!
//! Reached is: the root and the server's own object; every object with a revision newer than what is packed to; and what
//! a kept revision of a reached object refers to, of the object itself or of any of its entries. What is left in the end is
//! garbage. The index knows which records have references, so only those are read, in the order of the log.
//!
//! Memory: bitmaps of oids, whatever the graph looks like; the frontier is one of them, worked off from the smallest oid
//! on, because neighbours lie together in the index and often in the log.
//!
//! Commits go on meanwhile. What is packed to stands still, so what is kept only grows, and so does what is reached: it
//! is enough to touch what every later transaction wrote and refers to (see `pack`).

use super::keep::{Rule, Verdict};
use super::survey::Survey;
use super::{Stage, Stepper};
use crate::store::index::rows::{Revision, Stored};
use crate::store::index::{Table, bad_row, keys};
use crate::store::log::Place;
use crate::store::state::State;
use crate::store::{StoreError, Txn};
use roaring::RoaringTreemap;
use std::ops::Bound;
use zeolite_proto::record::Header;
use zeolite_proto::{Oid, Tid};

// Objects looked up under one view of the index, and rows: a view keeps pages of the index from being used again. Few in
// tests, so that they see the seams.
const VIEW_OBJECTS: usize = if cfg!(test) { 3 } else { 512 };
const VIEW_ROWS: usize = if cfg!(test) { 5 } else { 8192 };

// Dangling references told one by one; the rest is counted.
const DANGLING_MAX: usize = 100;

/// The objects not reached yet, and those whose references are still to be followed.
pub(crate) struct Sieve {
    left: RoaringTreemap,
    frontier: RoaringTreemap,
    to: Tid,
    // What may refer to others; `None`: anything may.
    refer: Option<RoaringTreemap>,
    // Whether what is newer than `to` is followed, too.
    young: bool,
    // What a snapshot at `to` has, and what is referred to in it beside that.
    seen: RoaringTreemap,
    unseen: RoaringTreemap,
    reached: u64,
    // What exists, for verify: references to anything else are noted.
    exists: Option<RoaringTreemap>,
    dangling: Dangling,
}

/// References to objects that do not exist: from, to.
#[derive(Default)]
pub(crate) struct Dangling {
    pub(crate) first: Vec<(Oid, Oid)>,
    pub(crate) count: u64,
}

/// An object whose rows are being read, and where to go on: one with very many entries takes several views.
struct Begun {
    oid: Oid,
    from: Vec<u8>,
    rule: Rule,
}

/// The references of some objects, or the places of the records that have them.
#[derive(Default)]
struct Found {
    // From, to.
    refs: Vec<(Oid, Oid)>,
    // Whose record lies there.
    places: Vec<(Oid, Place)>,
    objects: usize,
    rows: usize,
    young: bool,
    bad: bool,
}

impl Sieve {
    /// All these objects, none of them reached.
    pub(crate) fn new(all: RoaringTreemap, to: Tid) -> Sieve {
        let (seen, unseen, frontier) = (RoaringTreemap::new(), RoaringTreemap::new(), RoaringTreemap::new());
        let (refer, young, dangling) = (None, true, Dangling::default());
        Sieve { left: all, frontier, to, refer, young, seen, unseen, reached: 0, exists: None, dangling }
    }

    /// The same of what a survey has found; what is newer than the tid is not followed before [`Sieve::follow_young`].
    pub(crate) fn seen_first(survey: &Survey, all: RoaringTreemap, to: Tid) -> Sieve {
        Sieve { refer: survey.refer.clone(), young: false, seen: survey.seen.clone(), ..Sieve::new(all, to) }
    }

    /// These objects are reached, and from now on also what newer revisions refer to.
    pub(crate) fn follow_young(&mut self, young: &RoaringTreemap) {
        self.young = true;
        for oid in young {
            self.left.remove(oid);
            self.enter(oid);
        }
    }

    /// What is referred to at the tid and is none of the objects that the survey has seen there.
    pub(crate) fn unseen(&self) -> &RoaringTreemap {
        &self.unseen
    }

    fn enter(&mut self, oid: u64) {
        if self.refer.as_ref().is_none_or(|refer| refer.contains(oid)) {
            self.frontier.insert(oid);
        }
    }

    /// The same for verify: what the newest revisions up to a tid refer to is one of these objects, or noted.
    pub(crate) fn noting_dangling(all: RoaringTreemap, to: Tid) -> Sieve {
        Sieve { exists: Some(all.clone()), ..Sieve::new(all, to) }
    }

    /// What was noted.
    pub(crate) fn dangling(&self) -> &Dangling {
        &self.dangling
    }

    /// What is not reached: after [`Sieve::drain`], the garbage.
    pub(crate) fn left(&self) -> &RoaringTreemap {
        &self.left
    }

    /// An object is reached.
    pub(crate) fn touch(&mut self, oid: Oid) {
        if self.left.remove(oid.0) {
            self.enter(oid.0);
        }
    }

    /// A transaction newer than everything looked at: what it wrote is reached, and what that refers to.
    pub(crate) fn touch_txn(&mut self, txn: &Txn) {
        for write in &txn.writes {
            self.touch(write.cell.oid);
            if let Some(Ok(header)) = write.record.as_deref().map(Header::parse) {
                header.refs().for_each(|oid| self.touch(oid));
            }
        }
    }

    /// Follows references until there are no more to follow.
    pub(crate) fn drain(&mut self, state: &State, step: &mut Stepper<'_>) -> Result<(), StoreError> {
        let mut begun = None;
        loop {
            let found = self.look(state, &mut begun)?;
            if found.objects == 0 && begun.is_none() {
                return Ok(());
            }
            self.reached += found.objects as u64;
            self.follow(state, found)?;
            step(Stage::Mark, self.reached, self.reached + self.frontier.len())?;
        }
    }

    // Finds the references of the next objects, under one view of the index.
    fn look(&mut self, state: &State, begun: &mut Option<Begun>) -> Result<Found, StoreError> {
        let mut found = Found { young: self.young, ..Found::default() };
        let view = state.index.view()?;
        while found.objects < VIEW_OBJECTS && found.rows < VIEW_ROWS {
            let Some(mut at) = begun.take().or_else(|| self.next()) else { break };
            let end = keys::after_object(at.oid);
            let mut cut = None;
            view.range(Table::Revisions, Bound::Included(&at.from), Bound::Excluded(&end), false, &mut |key, row| {
                found.take(at.oid, &mut at.rule, key, row);
                if found.rows >= VIEW_ROWS {
                    // The key directly behind this one.
                    cut = Some([key, &[0]].concat());
                }
                cut.is_none() && !found.bad
            })?;
            match cut {
                Some(from) => *begun = Some(Begun { from, ..at }),
                None => found.objects += 1,
            }
        }
        Ok(found)
    }

    fn next(&mut self) -> Option<Begun> {
        let oid = self.frontier.min()?;
        self.frontier.remove(oid);
        Some(Begun { oid: Oid(oid), from: keys::from_entry(Oid(oid), b""), rule: Rule::new(self.to) })
    }

    fn follow(&mut self, state: &State, mut found: Found) -> Result<(), StoreError> {
        if found.bad {
            return Err(bad_row(Table::Revisions));
        }
        found.places.sort_unstable_by_key(|(_, place)| (place.segment, place.offset));
        for (from, to) in found.refs {
            self.reference(state, from, to)?;
        }
        for (from, place) in &found.places {
            let segment = state.segments.find(place.segment, place.generation);
            let segment = segment.ok_or_else(|| bad_row(Table::Revisions))?;
            let record = segment.record(place)?;
            match Header::parse(&record) {
                Ok(header) => header.refs().try_for_each(|to| self.reference(state, *from, to))?,
                Err(error) => return Err(segment.damaged(u64::from(place.offset), error.to_string())),
            }
        }
        Ok(())
    }
}

impl Sieve {
    fn reference(&mut self, state: &State, from: Oid, to: Oid) -> Result<(), StoreError> {
        self.touch(to);
        if !self.young && !self.seen.contains(to.0) {
            self.unseen.insert(to.0);
        }
        if let Some(exists) = &mut self.exists
            && !exists.contains(to.0)
        {
            // It may have been made since they were listed.
            if is_there(state, to)? {
                exists.insert(to.0);
            } else {
                self.dangling.count += 1;
                if self.dangling.first.len() < DANGLING_MAX {
                    self.dangling.first.push((from, to));
                }
            }
        }
        Ok(())
    }
}

// Whether the newest revision of anything of an object is not a deletion.
fn is_there(state: &State, oid: Oid) -> Result<bool, StoreError> {
    let (from, end) = (keys::from_entry(oid, b""), keys::after_object(oid));
    let (mut rule, mut there) = (Rule::new(Tid::MAX), false);
    let view = state.index.view()?;
    view.range(Table::Revisions, Bound::Included(&from), Bound::Excluded(&end), false, &mut |key, row| {
        there = rule.judge(key, Revision::is_deleted(row)).is_some_and(|(_, verdict)| verdict == Verdict::Seen);
        !there
    })?;
    Ok(there)
}

impl Found {
    fn take(&mut self, oid: Oid, rule: &mut Rule, key: &[u8], row: &[u8]) {
        self.rows += 1;
        let Some((_, verdict)) = rule.judge(key, Revision::is_deleted(row)) else {
            self.bad = true;
            return;
        };
        if verdict == Verdict::Past || (verdict == Verdict::Young && !self.young) || !Revision::refers(row) {
            return;
        }
        match Revision::parse(row).map(|row| row.record) {
            Some(Stored::At(place)) => self.places.push((oid, place)),
            Some(Stored::Inline(record)) => match Header::parse(&record) {
                Ok(header) => self.refs.extend(header.refs().map(|to| (oid, to))),
                Err(_) => self.bad = true,
            },
            Some(Stored::Deleted) => {}
            None => self.bad = true,
        }
    }
}
