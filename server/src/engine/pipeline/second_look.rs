//! Owns the second look at a read check that would fail: the registry's judge is asked whether the read still holds.
//!
//! ```text
//!   sequencer    the cell is newer than its base, and the judge may have something to say: the draft goes out with the question
//!   merger       the judge reads what it needs, all as of one tid
//!   sequencer    yes, and nothing that the judge saw has changed since that tid: the check holds
//!                yes, but something has: asked again, so many times; then, and for a no, it is the conflict that it was
//! ```
//!
//! What the judge saw is not held by a prepared draft, but for what the draft itself reads and writes: a judge says yes only
//! if nothing else can undo it. For BTrees that is so: a key leaves its bucket only by a write of the bucket or of a node that the
//! draft has read.

use crate::engine::Engine;
use crate::engine::faults::fault_of;
use crate::engine::pipeline::admission::{Admitted, JudgedRead};
use crate::engine::pipeline::ahead::Part;
use crate::engine::pipeline::ask::LOOKS_MAX;
use crate::engine::pipeline::recent::Recent;
use crate::storage::{Read, StoreError};
use bytes::Bytes;
use zeolite_proto::{Cell, Draft, Fault, Records, Tid};

/// Where a read check stands that would fail.
pub(crate) enum SecondLook {
    Holds,
    Asks,
    /// What changed is not visible yet.
    Waits,
    InTheWay,
}

impl Engine {
    /// What is known of a read check that would fail: the cell has a revision of this tid.
    pub(crate) fn second_look(&self, admitted: &Admitted, part: Part, newest: Tid, recent: &Recent) -> SecondLook {
        let (Some(judge), Part::Read(position)) = (self.registry().read_judge(), part) else {
            return SecondLook::InTheWay;
        };
        match admitted.judged.get(&position) {
            Some(judged) if is_of_today(judged, recent) => match judged.holds {
                true => SecondLook::Holds,
                false => SecondLook::InTheWay,
            },
            _ if admitted.looks >= LOOKS_MAX
                || !judge.may_hold(&admitted.draft, &admitted.draft.read_cells[position]) =>
            {
                SecondLook::InTheWay
            }
            _ if newest > self.visible() => SecondLook::Waits,
            _ => SecondLook::Asks,
        }
    }

    /// Asks the judge. Reads the store.
    pub(crate) fn judge_read(&self, draft: &Draft, position: usize) -> Result<Option<JudgedRead>, Fault> {
        let (Some(judge), Some(read)) = (self.registry().read_judge(), draft.read_cells.get(position)) else {
            return Ok(None);
        };
        let mut records = AsOf::now(self);
        records.saw.push(read.cell.clone());
        let holds = judge.holds(draft, read, &mut records);
        match records.failed {
            Some(error) => Err(fault_of(error)),
            None => Ok(Some(JudgedRead { holds, at: records.at, saw: records.saw })),
        }
    }
}

/// Whether nothing that was looked at has changed since.
fn is_of_today(judged: &JudgedRead, recent: &Recent) -> bool {
    let is_newer = |cell| recent.newest(cell).is_some_and(|newest| newest > judged.at);
    judged.at >= recent.floor() && !judged.saw.iter().any(is_newer)
}

/// The records of one snapshot, and those that a draft was made on.
pub(super) struct AsOf<'a> {
    reader: &'a dyn Read,
    pub(super) at: Tid,
    saw: Vec<Cell>,
    pub(super) failed: Option<StoreError>,
}

impl<'a> AsOf<'a> {
    /// Of what is visible now.
    pub(super) fn now(engine: &'a Engine) -> AsOf<'a> {
        // Asked before the reads: what becomes visible meanwhile is not seen.
        let at = engine.visible();
        AsOf { reader: engine.reader(), at, saw: Vec::new(), failed: None }
    }
}

impl Records for AsOf<'_> {
    fn newest(&mut self, cell: &Cell) -> Option<Bytes> {
        self.saw.push(cell.clone());
        match self.reader.get(cell, self.at) {
            Ok(revision) => revision?.record,
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    // What was packed is told as not there, and then the judge says no.
    fn as_of(&mut self, cell: &Cell, tid: Tid) -> Option<Bytes> {
        match self.reader.as_of_many(&[(cell.clone(), tid)], usize::MAX) {
            Ok(found) => found.into_iter().next()?.ok()??.record,
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }
}
