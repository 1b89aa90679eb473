//! Owns the judgement of refusals: was there really something in the way, and was it told right?

use super::Model;
use super::rules::Verdict;
use bytes::Bytes;
use zeolite_proto::{Change, ConflictDetail, Draft, FaultKind, Priority, Tid};

impl Model {
    /// A draft was refused by a conflict: it must be one as of the revision that is named.
    pub fn judge_conflict(&self, draft: &Draft, kind: FaultKind, detail: &ConflictDetail) -> Result<(), String> {
        let judged = self.judge_as(draft, kind, detail);
        // What the draft was made on is packed: nobody can say that only chunks are newer.
        if judged.is_err() && draft.priority == Priority::Live && detail.base < self.packed_to {
            return self.judge_as(&Draft { priority: Priority::Batch, ..draft.clone() }, kind, detail);
        }
        judged
    }

    fn judge_as(&self, draft: &Draft, kind: FaultKind, detail: &ConflictDetail) -> Result<(), String> {
        let place = format!("refused at {} base {} newest {}", detail.cell, detail.base, detail.newest);
        let Some((newest, record)) = self.newest(&detail.cell, detail.newest).or(Some((Tid::NONE, None))) else {
            return Err(place);
        };
        if newest != detail.newest {
            return Err(format!("{place}: there is no such revision, only {newest}"));
        }
        match self.verdict(draft, detail.newest, Tid::MAX) {
            Verdict::Fine(_) => Err(format!("{place}, but nothing was in the way: {draft:?}")),
            Verdict::InTheWay { read: true, .. } if kind == FaultKind::ReadConflict => self.judge_read(draft, detail),
            Verdict::InTheWay { read: false, .. } if kind != FaultKind::ReadConflict => {
                self.judge_write(draft, detail, record)
            }
            Verdict::InTheWay { cell, newest, read } => {
                Err(format!("{place} as {kind:?}, but in the way is {cell} with {newest} (read: {read})"))
            }
        }
    }

    /// The cell that is named need not be the first of several, but it must be one by itself, with its records.
    fn judge_write(&self, draft: &Draft, detail: &ConflictDetail, newest: Option<Bytes>) -> Result<(), String> {
        let Some(write) = draft.writes.iter().find(|write| write.cell == detail.cell) else {
            return Err(format!("refused because of {}, which is not written", detail.cell));
        };
        let alone = Draft {
            read_cells: Vec::new(),
            read_ranges: Vec::new(),
            writes: vec![write.clone()],
            note: draft.note.clone(),
            ..*draft
        };
        if let Verdict::Fine(_) = self.verdict(&alone, detail.newest, Tid::MAX) {
            return Err(format!("{} is no conflict by itself: {draft:?}", detail.cell));
        }
        let base = match write.change {
            Change::Apply { .. } => None,
            Change::Put(_) | Change::Delete => self.newest(&detail.cell, detail.base).and_then(|(_, record)| record),
        };
        // A pack may have taken the base away.
        let same_base = detail.base_record == base || (write.base < self.packed_to && detail.base_record.is_none());
        if detail.base != write.base || !same_base || detail.newest_record != newest {
            return Err(format!("the report of {} is not what was there: {detail:?}", detail.cell));
        }
        Ok(())
    }

    fn judge_read(&self, draft: &Draft, detail: &ConflictDetail) -> Result<(), String> {
        let by_cell = draft.read_cells.iter().any(|read| read.cell == detail.cell && read.base < detail.newest);
        let by_range = draft.read_ranges.iter().any(|range| range.covers(&detail.cell) && range.base < detail.newest);
        match by_cell || by_range {
            true => Ok(()),
            false => Err(format!("a read conflict at {}, which was not read before {}", detail.cell, detail.newest)),
        }
    }
}
