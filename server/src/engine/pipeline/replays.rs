//! Owns the replay of a draft whose conflicts the registry's replayer can make anew on the newest records.
//!
//! ```text
//!   sequencer    the draft has conflicts: it goes out with them, as it was sent
//!   merger       what it did, done again on all that is visible: other writes, with that tid as their base
//!   sequencer    checked like any draft. What was replayed has moved on again: once more, so many times; then it is
//!                what it was when it was sent, with its conflicts
//! ```
//!
//! A replayed draft is one that might have been sent, a little later; so whatever holds, merges and judges drafts does so with it.
//!
//! Only the first of two phases is replayed, and no durable one: its answer says which cells are not as they were sent, as of those that
//! were merged. Who sent them has to forget them.

use crate::engine::Engine;
use crate::engine::answers::Preparing;
use crate::engine::faults::fault_of;
use crate::engine::pipeline::admission;
use crate::engine::pipeline::admission::Admitted;
use crate::engine::pipeline::ask::{DraftAsk, LOOKS_MAX, PrepareAsk};
use crate::engine::pipeline::check::{Judged, Refused, is_conflict};
use crate::engine::pipeline::replayed::{REPLAYS_MAX, Replays};
use crate::engine::pipeline::second_look::AsOf;
use std::collections::BTreeSet;
use zeolite_proto::{Cell, Change, Draft, Fault, Merged, ReadCell, Records, Replayed, Tid, Write};

/// What is to be done about the conflicts of a draft.
pub(crate) enum ToReplay {
    Nothing,
    Ask(Vec<Cell>),
    /// The newest of what is in its way is not visible yet.
    Wait(Tid),
    /// It was replayed often enough: it is again what was sent.
    Never,
}

impl Replays {
    /// Its writes, those that were replayed marked as not what was sent; and with its first conflict why they were not.
    pub(super) fn told(&self, mut judged: Judged) -> Judged {
        judged.writes.iter_mut().for_each(|write| write.merged |= self.written.contains(&write.cell));
        // One is enough: there is one reason.
        let mut refused = judged.stale.iter_mut().filter(|stale| !stale.is_left() && self.asked.contains(&stale.cell));
        if let (Some(stale), Some(why)) = (refused.next(), &self.why_not) {
            stale.reason.extend(["; not replayed: ", why]);
        }
        judged
    }
}

impl DraftAsk {
    /// Nothing of it is replayed, now and later.
    pub(crate) fn into_sent(mut self) -> DraftAsk {
        let admitted = self.admitted_mut();
        if let Some(sent) = admitted.replays.sent.take() {
            let why_not = Some("each time something else had moved on meanwhile".to_owned());
            let asked = std::mem::take(&mut admitted.replays.asked);
            let asked_no_more = Replays { count: REPLAYS_MAX, asked, why_not, ..Replays::default() };
            admitted.become_of(Admitted::new(*sent, admitted.bytes), asked_no_more);
        }
        self
    }
}

impl Admitted {
    /// Another draft in its place, of which nothing is known yet.
    fn become_of(&mut self, other: Admitted, replays: Replays) {
        let caller = self.caller.clone();
        let (came, blobs) = (self.came, self.blobs.take());
        let (rounds, looks) = (self.rounds, self.looks);
        *self = Admitted { caller, came, blobs, rounds, looks, replays, ..other };
    }
}

impl Engine {
    /// What is to be done about the conflicts that a check has found.
    pub(super) fn to_replay(&self, draft: &DraftAsk, results: &Result<Judged, Refused>) -> ToReplay {
        let DraftAsk::Prepare(PrepareAsk { admitted, how: Preparing { durable: false, .. }, .. }) = draft else {
            return ToReplay::Nothing;
        };
        let in_the_way: Vec<(&Cell, Tid)> = match results {
            Ok(judged) => judged.stale.iter().map(|stale| (&stale.cell, stale.newest)).collect(),
            Err(Refused::Fault(fault)) if is_conflict(fault) => {
                fault.in_the_way().map(|at| (&at.cell, at.newest)).collect()
            }
            Err(_) => return ToReplay::Nothing,
        };
        let replays = &admitted.replays;
        let is_new = |cell: &Cell| replays.is_of(cell) || !replays.asked.contains(cell);
        let may = self.registry().replayer().is_some_and(|replayer| replayer.may_replay(&admitted.draft));
        if !may || !in_the_way.iter().any(|(cell, _)| is_new(cell)) {
            return ToReplay::Nothing;
        }
        if replays.count >= REPLAYS_MAX || admitted.looks >= LOOKS_MAX {
            return if replays.sent.is_some() { ToReplay::Never } else { ToReplay::Nothing };
        }
        match in_the_way.iter().map(|(_, newest)| *newest).max() {
            Some(newest) if newest > self.visible() => ToReplay::Wait(newest),
            _ => ToReplay::Ask(in_the_way.into_iter().map(|(cell, _)| cell.clone()).collect()),
        }
    }

    /// Replays a draft as it was sent, for all conflicts that it has had. Reads the store.
    pub(super) fn replay(&self, admitted: &mut Admitted, conflicts: &[Cell]) -> Result<(), Fault> {
        let Some(replayer) = self.registry().replayer() else { return Ok(()) };
        let mut replays = std::mem::take(&mut admitted.replays);
        replays.asked.extend(conflicts.iter().cloned());
        let sent = replays.sent.take().unwrap_or_else(|| Box::new(admitted.draft.clone()));
        let asked: Vec<Cell> = replays.asked.iter().cloned().collect();
        let mut records = AsOf::now(self);
        let made = replayer.replay(&sent, &asked, &mut records);
        let left_out = made.as_ref().map(|made| left_out(made, &mut records)).unwrap_or_default();
        let at = records.at;
        let why_not = made.as_ref().err().map(|why| why.0.clone());
        if let Some(error) = records.failed {
            return Err(fault_of(error));
        }
        let made = made.ok();
        let draft = made.as_ref().map(|made| replayed(&sent, made, at));
        let anew =
            draft.and_then(|draft| admission::admit(draft, self.limits(), self.keep.oids(), self.visible()).ok());
        let (Some(made), Some(mut anew)) = (made, anew) else {
            replays = Replays { count: REPLAYS_MAX, asked: replays.asked, why_not, ..Replays::default() };
            admitted.become_of(Admitted::new(*sent, admitted.bytes), replays);
            return self.look_again(admitted);
        };
        anew.bytes = anew.bytes.max(admitted.bytes);
        let written = made.writes.into_iter().map(|(cell, _)| cell).collect();
        let read = made.reads.into_iter().collect();
        let replays = Replays {
            count: replays.count + 1,
            sent: Some(sent),
            asked: replays.asked,
            written,
            read,
            left_out,
            ..Replays::default()
        };
        admitted.become_of(anew, replays);
        self.look_again(admitted)
    }

    fn look_again(&self, admitted: &mut Admitted) -> Result<(), Fault> {
        admitted.looked_ahead = self.look_ahead(&admitted.draft)?;
        Ok(())
    }
}

/// The cells that are written no more, and what they are instead.
fn left_out(made: &Replayed, records: &mut AsOf<'_>) -> Vec<Merged> {
    let written: BTreeSet<&Cell> = made.writes.iter().map(|(cell, _)| cell).collect();
    let gone = made.left_out_writes.iter().filter(|cell| !written.contains(cell));
    gone.map(|cell| Merged { cell: cell.clone(), record: records.newest(cell) }).collect()
}

/// The draft that might have been sent instead, at this tid.
fn replayed(sent: &Draft, made: &Replayed, at: Tid) -> Draft {
    let mut draft = sent.clone();
    draft.writes.retain(|write| !made.left_out_writes.contains(&write.cell));
    draft.read_cells.retain(|read| !made.left_out_reads.contains(&read.cell));
    let write = |(cell, record): &(Cell, bytes::Bytes)| {
        let (cell, change) = (cell.clone(), Change::Put(record.clone()));
        Write { cell, base: at, change, stamped: false }
    };
    draft.writes.extend(made.writes.iter().map(write));
    draft.read_cells.extend(made.reads.iter().map(|cell| ReadCell { cell: cell.clone(), base: at }));
    draft
}
