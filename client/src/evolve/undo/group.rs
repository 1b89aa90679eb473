//! Owns what of a commit is taken back together, and what is there now of it.
//!
//! ```text
//!   nobody has touched the cell since         what was before is put back
//!   it is in the shape that it had before     somebody was faster (old code wrote it, and a later commit of the job, which was taken
//!                                             back already, brought it to the new shape again): it stays as it is
//!   a live draft has gone over it              it stays as well: whoever wrote it knew nothing of the commit
//!   a payment has taken the step back          it is none any more
//!   an index entry of a stepped object         goes the way of that object (`entries`)
//!   otherwise                                 the server merges, where its class can. What is in another shape than before then is
//!                                             told: whoever rolls a release back has code that cannot read it
//! ```
//! The shape is class and version, or that nothing is there.

use super::entries::{Fate, Ways};
use super::past::{Made, Of, Past, past, shape};
use crate::errors::Result;
use crate::evolve::earlier::{Alone, ChunkLog, Stuck, TakeBack, left_alone};
use crate::tx::Place;
use bytes::Bytes;
use zeolite_proto::evolve::ChunkNote;
use zeolite_proto::{Cell, Change, ReadCell, Tid, Write, hash};

/// Steps that are taken back together or not at all.
#[derive(Default)]
pub(super) struct Group {
    pub(super) cells: Vec<Cell>,
    pub(super) writes: Vec<Write>,
    /// What takes the steps' operations back: on each cell, by its class.
    pub(super) operations: Vec<(Cell, String, Bytes)>,
    /// These stay as they are, as long as they do.
    pub(super) stay: Vec<ReadCell>,
    pub(super) refused: Option<String>,
}

impl Group {
    /// Of a commit of which it cannot be told what was before it.
    pub(super) fn refused(reason: String) -> Group {
        Group { refused: Some(reason), ..Group::default() }
    }
}

impl Group {
    fn join(&mut self, more: Group) {
        self.cells.extend(more.cells);
        self.writes.extend(more.writes);
        self.operations.extend(more.operations);
        self.stay.extend(more.stay);
        self.refused = self.refused.take().or(more.refused);
    }

    /// Takes a cell's change back, unless it stays as it is; `is_stepped`: it is the object of a step, and not what followed from it.
    pub(super) fn add(&mut self, past: Past, is_stepped: bool, at: Place) {
        self.cells.push(past.cell.clone());
        // All entries of an index have one shape: another object's is not the one that was there.
        let is_same = is_stepped || past.cell.is_object() || past.now == past.before;
        // Somebody has written the same since: that is his.
        let is_anothers = !is_stepped && past.is_touched && past.now == past.after;
        if past.stays() && is_same || is_anothers {
            self.stay.push(ReadCell { cell: past.cell, base: at.snapshot });
        } else {
            let change = past.before.map_or(Change::Delete, Change::Put);
            self.writes.push(Write { cell: past.cell, base: past.base, change, stamped: false });
        }
    }

    /// The same of what a step has written beside its object.
    fn add_beside(&mut self, past: Past, ways: &Ways, at: Place) {
        let fate = ways.fate(&past);
        if matches!(fate, Fate::Back) {
            return self.add(past, false, at);
        }
        self.cells.push(past.cell.clone());
        let (cell, base) = (past.cell, past.base);
        match fate {
            Fate::Back => {}
            Fate::Stays => self.stay.push(ReadCell { cell, base: at.snapshot }),
            Fate::Goes => self.writes.push(Write { cell, base, change: Change::Delete, stamped: false }),
            Fate::Left(why) => drop(self.refused.get_or_insert_with(|| why.to_owned())),
        }
    }
}

/// The groups of a commit with what was in their cells before it.
pub(super) async fn groups(of: Of<'_>, at: Place, tid: Tid, note: &ChunkNote, made: &mut Made) -> Result<Vec<Group>> {
    let alone = left_alone(&at.view(of.db), of.job, tid).await?;
    let all = past(of, at, (tid, note), made, &alone).await?;
    if !note.steps.is_empty() {
        return by_steps(of, at, (tid, note), all, &alone).await;
    }
    let mut all = all.into_iter();
    let group = |count: &u32| {
        let mut group = Group::default();
        all.by_ref().take(*count as usize).for_each(|past| group.add(past, true, at));
        group
    };
    Ok(note.groups.iter().map(group).collect())
}

/// Each step by itself, together with those that put what it puts; operations have their inverse. What a payment had only taken back
/// stays so, and a step that was taken back by one is none any more.
async fn by_steps(
    of: Of<'_>,
    at: Place,
    (tid, note): (Tid, &ChunkNote),
    all: Vec<Past>,
    Alone { owed, paid, replaced }: &Alone,
) -> Result<Vec<Group>> {
    let written: Vec<Cell> = all.iter().map(|past| past.cell.clone()).collect();
    let log = ChunkLog::of(tid, note.clone(), written.clone());
    let mut all: Vec<Option<Past>> = all.into_iter().map(Some).collect();
    // Of each place the group that has it, and what was there.
    let (mut groups, mut has): (Vec<Group>, hash::Map<usize, usize>) = Default::default();
    let mut pasts = Vec::with_capacity(all.len());
    for step in &note.steps {
        let Some(stepped) = step.cell(&written) else { continue };
        if paid.contains(&stepped) {
            continue;
        }
        let take = TakeBack { db: of.db, job: of.job, cell: &stepped };
        let mut inverse = Vec::new();
        let mut places: Vec<usize> = step.places().filter(|place| *place < written.len()).collect();
        places.sort_unstable();
        places.dedup();
        places.retain(|place| match take.inverse(&log, step, &written[*place]) {
            Some((class, operations)) => {
                let one = |operation| (written[*place].clone(), class.clone(), operation);
                inverse.extend(operations.into_iter().map(one));
                false
            }
            None => true,
        });
        if places.is_empty() && inverse.is_empty() {
            continue;
        }
        let group = together(&mut groups, &mut has, &places);
        groups[group].cells.extend(inverse.iter().map(|(cell, ..)| cell.clone()));
        groups[group].operations.extend(inverse);
        for place in places {
            has.insert(place, group);
            let is_its_own = |past: &Past| !owed.contains(&past.cell) && !replaced.contains(&past.cell);
            let Some(mut past) = all[place].take().filter(is_its_own) else { continue };
            if !step.after.is_empty() {
                match take.before(&log, step, &past.cell, 0).await {
                    Ok(before) => past.before = before.record,
                    Err(Stuck::Error(error)) => return Err(error),
                    Err(Stuck::Cannot(why)) => groups[group].refused = Some(why),
                }
            }
            pasts.push((place, past));
        }
    }
    let stepped: hash::Set<Cell> = note.steps.iter().filter_map(|step| step.cell(&written)).collect();
    let ways = Ways::of(pasts.iter().map(|(_, past)| past).filter(|past| stepped.contains(&past.cell)));
    for (place, past) in pasts {
        let group = &mut groups[has[&place]];
        match stepped.contains(&past.cell) {
            true => group.add(past, true, at),
            false => group.add_beside(past, &ways, at),
        }
    }
    groups.retain(|group| !group.cells.is_empty() || group.refused.is_some());
    Ok(groups)
}

/// The group of a step: with all that have written a place of its; those become one.
fn together(groups: &mut Vec<Group>, has: &mut hash::Map<usize, usize>, places: &[usize]) -> usize {
    let first = places.iter().find_map(|place| has.get(place).copied()).unwrap_or(groups.len());
    if first == groups.len() {
        groups.push(Group::default());
    }
    for place in places {
        let Some(other) = has.get(place).copied().filter(|other| *other != first) else { continue };
        let more = std::mem::take(&mut groups[other]);
        groups[first].join(more);
        has.values_mut().filter(|group| **group == other).for_each(|group| *group = first);
    }
    first
}

/// What of a commit that was taken back is not in the shape that it had before, and what it is instead.
pub(super) async fn not_back(of: Of<'_>, at: Place, tid: Tid, note: &ChunkNote) -> Result<Vec<(Cell, String)>> {
    let alone = left_alone(&at.view(of.db), of.job, tid).await?;
    let mut made = Made::read(of, tid, note).await?;
    let all = past(of, at, (tid, note), &mut made, &alone).await?;
    let other = all.iter().filter(|past| !past.is_left_alone && past.has_another_shape_since() && !past.is_back());
    let told = |shape: Option<(&str, u32)>| match shape {
        Some((class, version)) => format!("version {version} of class {class:?}"),
        None => "nothing".to_owned(),
    };
    let what = |past: &Past| {
        let (now, before) = (told(shape(past.now.as_ref())), told(shape(past.before.as_ref())));
        let why = "its change was merged with what a live writer made of it since";
        (past.cell.clone(), format!("{why}: {now} is there now, {before} was before"))
    };
    Ok(other.map(what).collect())
}
