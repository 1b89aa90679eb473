//! Owns what a commit's cells were before it, after it, and are now; and which way each goes as the object of a step.
//!
//! ```text
//!   before ── the commit ──> after ── live writers, old code, other commits of the undo ──> now
//!   `Made`: read once                                                            read at each look
//! ```
//! Where live writers are busy a commit is looked at again and again; what cannot change is not asked for again, so that a look is short, and
//! little is written between it and the draft.

use crate::connect::Db;
use crate::errors::{Error, Result};
use crate::evolve::earlier::{Alone, written};
use crate::evolve::undo::undo_note;
use crate::revision::Revision;
use crate::tx::Place;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use zeolite_proto::evolve::ChunkNote;
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Note, Oid, Tid, hash};

/// Revisions whose writers are asked for at once.
const ASKED_AT_ONCE: usize = 16;

/// Which way an object goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Back,
    Stays,
    Neither,
}

/// What a cell was, and is.
pub(super) struct Past {
    pub(super) cell: Cell,
    pub(super) before: Option<Bytes>,
    /// What the commit made of it.
    pub(super) after: Option<Bytes>,
    pub(super) now: Option<Bytes>,
    pub(super) is_touched: bool,
    /// It is none of the job's business any more.
    pub(super) is_left_alone: bool,
    /// As of when it is known.
    pub(super) base: Tid,
}

/// Class and version; none: there is nothing.
pub(super) fn shape(record: Option<&Bytes>) -> Option<(&str, u32)> {
    let header = Header::parse(record?).ok()?;
    Some((header.class, header.version))
}

impl Past {
    pub(super) fn has_another_shape_since(&self) -> bool {
        shape(self.before.as_ref()) != shape(self.after.as_ref())
    }

    pub(super) fn is_back(&self) -> bool {
        shape(self.before.as_ref()) == shape(self.now.as_ref())
    }

    /// Somebody has brought it back already.
    pub(super) fn stays(&self) -> bool {
        self.is_touched && self.has_another_shape_since() && self.is_back()
    }

    /// Which way it goes, as the object of a step.
    pub(super) fn way(&self) -> Way {
        match () {
            () if self.stays() => Way::Stays,
            () if self.is_touched && self.now != self.after => Way::Neither,
            () => Way::Back,
        }
    }
}

/// Where a job's commits are.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) db: &'a Db,
    pub(super) job: Oid,
    pub(super) name: &'a str,
}

/// What a commit has made of what: it never changes.
pub(super) struct Made {
    cells: Vec<Cell>,
    before: Vec<Option<Bytes>>,
    after: Vec<Option<Bytes>>,
    /// Of later revisions that are what the commit had made: whether the undo has written them.
    ours: hash::Map<(Cell, Tid), bool>,
}

impl Made {
    pub(super) async fn read(of: Of<'_>, tid: Tid, note: &ChunkNote) -> Result<Made> {
        let mut cells = written(of.db, of.job, tid).await?.map(|(_, cells)| cells).unwrap_or_default();
        cells.truncate(note.groups.iter().map(|group| *group as usize).sum());
        let before = of.db.at(tid.prev()).get_many(&cells).await?;
        let after = of.db.at(tid).get_many(&cells).await?;
        Ok(Made { cells, before, after, ours: hash::Map::default() })
    }

    /// Asks who has written such revisions; of each but once.
    async fn ask_whose(&mut self, of: Of<'_>, tid: Tid, now: &[Revision]) -> Result<()> {
        let mut unknown = Vec::new();
        for ((cell, after), now) in self.cells.iter().zip(&self.after).zip(now) {
            let one = (cell.clone(), now.tid);
            if now.tid > tid && now.record == *after && !self.ours.contains_key(&one) {
                unknown.push(one);
            }
        }
        let ask = unknown.into_iter().map(|(cell, tid)| async move {
            let is_ours = has_written(of, &cell, tid).await?;
            Ok::<_, Error>(((cell, tid), is_ours))
        });
        let told: Vec<_> = stream::iter(ask).buffered(ASKED_AT_ONCE).try_collect().await?;
        self.ours.extend(told);
        Ok(())
    }

    fn is_ours(&self, cell: &Cell, tid: Tid) -> bool {
        self.ours.get(&(cell.clone(), tid)).copied().unwrap_or_default()
    }
}

/// The cells of a commit, as they are at a place.
pub(super) async fn past(
    of: Of<'_>,
    at: Place,
    (tid, note): (Tid, &ChunkNote),
    made: &mut Made,
    left_alone: &Alone,
) -> Result<Vec<Past>> {
    let now = at.view(of.db).revisions(&made.cells).await?;
    made.ask_whose(of, tid, &now).await?;
    let Made { cells, before, after, .. } = &*made;
    let Alone { owed, paid, .. } = left_alone;
    // What a payment has only taken back, and what one has taken back since, is none of the commit's business any more.
    let stepped = |place: usize| {
        let mut steps = note.steps_at(place).filter_map(|step| step.cell(cells));
        note.steps.is_empty() || steps.any(|cell| !paid.contains(&cell))
    };
    let mine: Vec<bool> =
        cells.iter().enumerate().map(|(place, cell)| stepped(place) && !owed.contains(cell)).collect();
    let mut past = Vec::with_capacity(cells.len());
    for ((((cell, before), after), now), mine) in cells.iter().zip(before).zip(after).zip(now).zip(mine) {
        let is_left_alone = !mine;
        let is_ours = now.tid > tid && now.record == *after && made.is_ours(cell, now.tid);
        let base = if is_ours { at.snapshot } else { tid };
        let is_touched = now.tid != tid && !is_ours;
        let (cell, before, after) = (cell.clone(), before.clone(), after.clone());
        past.push(Past { cell, before, after, now: now.record, is_touched, is_left_alone, base });
    }
    Ok(past)
}

/// Whether a revision was written by the undo of this job.
async fn has_written(of: Of<'_>, cell: &Cell, tid: Tid) -> Result<bool> {
    let newest = of.db.history(cell, Some(tid.next()), 1, false).await?.items;
    let ours = undo_note(of.name, "");
    let is_ours = |note: &Note| note.user == ours.user && note.description.starts_with(&ours.description);
    Ok(newest.first().is_some_and(|past| past.revision.tid == tid && is_ours(&past.note)))
}
