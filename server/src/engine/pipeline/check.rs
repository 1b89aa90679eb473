//! Owns the check of one draft: what each of its writes becomes, or what stands in its way.
//!
//! Reads first (a serializable draft is refused by the first thing that it read and that has changed, if a `second_look` does not
//! say that the read holds all the same), then writes: clean, or
//! merged by the resolver of the class, or a question for a merger when that resolver is expensive or only the disk knows what is
//! there. What yields to a live draft is no conflict (`yields`). A draft that is to be held
//! is not refused: whatever is in its way is listed. Nothing is changed here: the sequencer seals what comes out, or tells
//! the fault.

use crate::engine::Engine;
use crate::engine::pipeline::admission::{Admitted, Candidate};
use crate::engine::pipeline::ahead::Part;
use crate::engine::pipeline::ask::{Question, ROUNDS_MAX};
use crate::engine::pipeline::head::{HeadView, NoBase, Unknown};
use crate::engine::pipeline::merge;
use crate::engine::pipeline::merge::Sides;
use crate::engine::pipeline::second_look::SecondLook;
use crate::engine::pipeline::yields::{Pass, Passed, Yielding, version};
use crate::engine::sealed_write::SealedWrite;
use bytes::Bytes;
use zeolite_proto::{Cell, Change, ConflictDetail, Fault, FaultKind, Limits, StaleCell, Tid, Write};

/// Stale cells of one held draft, and their bytes.
const STALE_MAX: usize = 10_000;
const STALE_BYTES_MAX: usize = 1 << 20;
/// Characters of the reason that is told with each.
const REASON_MAX: usize = 200;

/// Cells in the way that one fault names, and the bytes of their records.
const CONFLICTS_MAX: usize = 101;
const CONFLICT_BYTES_MAX: usize = 1 << 20;

/// Why a draft is not sealed now.
pub(crate) enum Refused {
    /// This draft alone.
    Fault(Fault),
    /// It needs an expensive resolver first, or what only the disk knows.
    Out(Vec<Question>),
    /// What it may pass over can be looked up when this tid is visible.
    Wait(Tid),
}

/// What becomes of a draft.
pub(crate) struct Judged {
    /// Its writes that nothing is in the way of, and behind them what is owed.
    pub(crate) writes: Vec<SealedWrite>,
    pub(crate) passed: Passed,
    /// Of one that is held: the cells that have moved on.
    pub(crate) stale: Vec<StaleCell>,
}

/// What becomes of a write.
enum Becomes<'p> {
    /// Nothing is in its way.
    Clean(Option<Bytes>),
    Merged(Option<Bytes>),
    /// It goes over what yields, or was merged with it.
    Passes {
        record: Option<Bytes>,
        merged: bool,
        pass: &'p Pass,
        owes: bool,
    },
    Asks(Question),
    Waits(Tid),
    Conflict(Fault),
}

/// What a newer revision is to a draft.
enum Newer<'p> {
    InTheWay,
    /// It may yield, and the draft can be amended.
    Stale,
    Yields(&'p Pass),
    /// It may yield: that is looked up.
    Asks,
    /// The same, when it is visible.
    Waits,
}

/// Checks drafts against the newest state, sealed ones included.
pub(crate) struct Check<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) view: HeadView<'a>,
    /// It may pass over what yields. An amendment does not, and is not merged with it either: it is told what is stale.
    pub(crate) passes: bool,
}

impl Check<'_> {
    /// What the draft's writes become, or why not: with all that is in the way, up to a bound.
    pub(crate) fn results(&self, admitted: &Admitted) -> Result<Judged, Refused> {
        let mut found = Found::default();
        let result = self.judge(admitted, &mut |conflict| found.add(conflict));
        match found.fault {
            Some(fault) => Err(Refused::Fault(fault)),
            None => result,
        }
    }

    /// What those of the writes become that nothing is in the way of, and the cells that have moved on; too many of these are
    /// a conflict.
    pub(crate) fn held(&self, admitted: &Admitted) -> Result<Judged, Refused> {
        let mut stale: Vec<StaleCell> = Vec::new();
        let mut bytes = 0;
        let judged = self.judge(admitted, &mut |conflict| {
            let Some(detail) = conflict.conflict.as_deref().filter(|_| is_conflict(&conflict)) else {
                return Err(Refused::Fault(conflict));
            };
            let reason: String = detail.reason.chars().take(REASON_MAX).collect();
            bytes += 32 + detail.cell.key.len() + reason.len();
            if stale.len() >= STALE_MAX || bytes > STALE_BYTES_MAX {
                return Err(Refused::Fault(conflict));
            }
            stale.push(StaleCell { cell: detail.cell.clone(), newest: detail.newest, reason });
            Ok(())
        })?;
        Ok(Judged { stale, ..judged })
    }

    /// Whether nothing that the draft has read has changed, and nothing has to be found out about that.
    pub(crate) fn reads_hold(&self, admitted: &Admitted) -> bool {
        let mut open = Open::default();
        let judged = self.judge_reads(admitted, &mut open, &mut |fault| Err(Refused::Fault(fault)));
        judged.is_ok() && open.is_nothing() && self.view.ahead.passed_checks().next().is_none()
    }

    /// Asks about each conflict whether to go on.
    fn judge(
        &self,
        admitted: &Admitted,
        on_conflict: &mut dyn FnMut(Fault) -> Result<(), Refused>,
    ) -> Result<Judged, Refused> {
        let mut open = Open::default();
        self.judge_reads(admitted, &mut open, on_conflict)?;
        let mut writes = Vec::with_capacity(admitted.draft.writes.len());
        let mut passed = Vec::new();
        for (position, write) in admitted.draft.writes.iter().enumerate() {
            let sealed =
                |record, merged| SealedWrite { cell: write.cell.clone(), stamped: write.stamped, record, merged };
            match self.become_of(admitted, position, write) {
                Ok(Becomes::Clean(record)) => writes.push(sealed(record, false)),
                Ok(Becomes::Merged(record)) => writes.push(sealed(record, true)),
                Ok(Becomes::Passes { record, merged, pass, owes }) => {
                    writes.push(sealed(record, merged));
                    passed.extend(owes.then_some(pass));
                }
                Ok(Becomes::Asks(question)) => open.questions.push(question),
                Ok(Becomes::Waits(tid)) => open.wait(tid),
                Ok(Becomes::Conflict(_)) if !open.is_nothing() => {}
                Ok(Becomes::Conflict(conflict)) => on_conflict(conflict)?,
                Err(NoBase::Unknown) => open.questions.push(Question::Look(Part::Write(position))),
                Err(NoBase::Fault(fault)) => return Err(Refused::Fault(fault)),
            }
        }
        open.none()?;
        let checks = self.view.ahead.passed_checks().cloned().collect();
        let passed = Passed { writes: passed.into_iter().cloned().collect(), checks };
        passed.add_owed(&mut writes);
        Ok(Judged { writes, passed, stale: Vec::new() })
    }

    fn judge_reads(
        &self,
        admitted: &Admitted,
        open: &mut Open,
        on_conflict: &mut dyn FnMut(Fault) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let (view, draft) = (&self.view, &admitted.draft);
        if let Some(wide) = admitted.wide.as_deref().filter(|wide| view.knows_few_behind(wide)) {
            let passed = |part, cell: &Cell, newest| self.known_pass(part, cell, newest).is_some();
            for (part, cell, newest) in view.newer_of_many(wide, draft, &passed) {
                let base = match part {
                    Part::Range(position) => draft.read_ranges[position].base,
                    Part::Read(position) | Part::Write(position) => draft.read_cells[position].base,
                };
                self.judge_read(admitted, (part, base), (cell.clone(), newest), open, on_conflict)?;
            }
            return Ok(());
        }
        let cells = draft.read_cells.iter().enumerate().map(|(position, read)| {
            let part = Part::Read(position);
            let newer = view.newer(part, &read.cell, read.base);
            (part, read.base, newer.map(|newest| newest.map(|newest| (read.cell.clone(), newest))))
        });
        let ranges = draft.read_ranges.iter().enumerate().map(|(position, range)| {
            let part = Part::Range(position);
            let passed = |cell: &Cell, newest| self.known_pass(part, cell, newest).is_some();
            (part, range.base, view.newer_in_range(part, range, &passed))
        });
        for (part, base, newer) in cells.chain(ranges) {
            match newer {
                Ok(None) => {}
                Err(Unknown) => open.questions.push(Question::Look(part)),
                Ok(Some(newer)) => self.judge_read(admitted, (part, base), newer, open, on_conflict)?,
            }
        }
        Ok(())
    }

    fn judge_read(
        &self,
        admitted: &Admitted,
        (part, base): (Part, Tid),
        (cell, newest): (Cell, Tid),
        open: &mut Open,
        on_conflict: &mut dyn FnMut(Fault) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        match self.newer(admitted, part, &cell, newest) {
            Newer::Yields(_) => {}
            Newer::Asks => open.questions.push(Question::Look(part)),
            Newer::Waits => open.wait(newest),
            // With questions open this is not the answer yet: what comes first is told first.
            Newer::InTheWay | Newer::Stale => {
                match (self.engine.second_look(admitted, part, newest, self.view.recent), part) {
                    (SecondLook::Holds, _) => {}
                    (SecondLook::Asks, Part::Read(position)) => open.questions.push(Question::Judge(position)),
                    (SecondLook::Waits, _) => open.wait(newest),
                    _ if !open.is_nothing() => {}
                    _ => on_conflict(self.read_conflict(part, &cell, base, newest))?,
                }
            }
        }
        Ok(())
    }

    /// What was found out about passing over this revision.
    fn known_pass(&self, part: Part, cell: &Cell, newest: Tid) -> Option<&Pass> {
        self.view.ahead.of(part)?.passes.get(cell).filter(|pass| pass.newest == newest)
    }

    fn newer(&self, admitted: &Admitted, part: Part, cell: &Cell, newest: Tid) -> Newer<'_> {
        if !admitted.may_pass() || self.engine.pipeline.yields.of(newest) == Yielding::No {
            return Newer::InTheWay;
        }
        if !self.passes {
            return Newer::Stale;
        }
        if let Some(pass) = self.known_pass(part, cell, newest) {
            return Newer::Yields(pass);
        }
        let looked = self.view.ahead.of(part).is_some_and(|seen| seen.at >= newest);
        match newest > self.engine.visible() {
            _ if looked => Newer::InTheWay,
            true => Newer::Waits,
            false => Newer::Asks,
        }
    }

    fn become_of(&self, admitted: &Admitted, position: usize, write: &Write) -> Result<Becomes<'_>, NoBase> {
        let own = match &write.change {
            Change::Apply { .. } => return self.merged(admitted, position, write),
            Change::Put(record) => Some(record.clone()),
            Change::Delete => None,
        };
        let part = Part::Write(position);
        // The key of a stamped write does not exist before its stamp.
        let newer = if write.stamped { None } else { self.view.newer(part, &write.cell, write.base)? };
        let Some(newest) = newer else { return Ok(Becomes::Clean(own)) };
        match self.newer(admitted, part, &write.cell, newest) {
            Newer::InTheWay => self.merged(admitted, position, write),
            Newer::Stale => {
                let why = "a chunk of an evolve has changed it";
                Ok(Becomes::Conflict(self.newer_fault(
                    FaultKind::Conflict,
                    part,
                    (&write.cell, write.base),
                    newest,
                    why,
                )))
            }
            Newer::Asks => Ok(Becomes::Asks(Question::Look(part))),
            Newer::Waits => Ok(Becomes::Waits(newest)),
            Newer::Yields(pass) => {
                let is_older = version(own.as_ref()) < version(self.view.newest(part, &write.cell)?.1.as_ref());
                let owes = !pass.is_alone || is_older || !pass.raised;
                let passes = |record| Becomes::Passes { record, merged: false, pass, owes };
                let is_structural = self.is_structural(&write.change);
                if pass.has_more && is_older && own.is_some() && !is_structural {
                    return Ok(passes(own));
                }
                match self.merged(admitted, position, write)? {
                    Becomes::Conflict(_) if !is_structural => Ok(passes(own)),
                    // What the step wrote elsewhere was made of what was there before.
                    Becomes::Merged(record) if pass.has_more => {
                        Ok(Becomes::Passes { record, merged: true, pass, owes: true })
                    }
                    becomes => Ok(becomes),
                }
            }
        }
    }

    fn merged(&self, admitted: &Admitted, position: usize, write: &Write) -> Result<Becomes<'_>, NoBase> {
        let part = Part::Write(position);
        let (theirs_tid, theirs) =
            if write.stamped { (Tid::NONE, None) } else { self.view.newest(part, &write.cell)? };
        let fits = |candidate: &&Candidate| candidate.position == position && candidate.theirs == theirs_tid;
        if let Some(candidate) = admitted.candidates.iter().find(fits) {
            return Ok(Becomes::Merged(candidate.record.clone()));
        }
        let base = match write.change {
            Change::Apply { .. } => None,
            _ if write.base == Tid::NONE => None,
            Change::Put(_) | Change::Delete => self.view.as_of(part, &write.cell, write.base)?,
        };
        let sides = Sides { base: base.as_ref(), theirs: theirs.as_ref() };
        let resolver = merge::resolver_of(self.engine.registry(), &write.change, sides);
        if resolver.is_some_and(|resolver| resolver.expensive(sides.bytes_with(&write.change)))
            && admitted.rounds < ROUNDS_MAX
        {
            return Ok(Becomes::Asks(Question::Merge { position, base, theirs_tid, theirs }));
        }
        let started = self.engine.clock().steady();
        let outcome = merge::resolve(self.engine.registry(), self.engine.limits(), &write.change, sides);
        self.engine.stats().merge.record(self.engine.nanos_since(started));
        Ok(match outcome {
            Ok(record) => Becomes::Merged(record),
            Err(not_merged) => Becomes::Conflict(Fault::conflict(
                self.why_not(write, theirs_tid, &not_merged.class),
                ConflictDetail {
                    cell: write.cell.clone(),
                    class: not_merged.class,
                    base: write.base,
                    newest: theirs_tid,
                    reason: not_merged.reason,
                    base_record: base,
                    newest_record: theirs,
                },
            )),
        })
    }

    fn is_structural(&self, change: &Change) -> bool {
        let resolver = self.engine.registry().get(merge::class_of(change, None));
        resolver.is_some_and(|resolver| resolver.is_structural())
    }

    /// An operation that is refused by what its author has seen will always be; otherwise it may do something else, seeing it.
    fn why_not(&self, write: &Write, newest: Tid, class: &str) -> FaultKind {
        match write.change {
            Change::Put(_) | Change::Delete => FaultKind::Conflict,
            Change::Apply { .. } if !self.engine.registry().get(class).is_some_and(|found| found.applies()) => {
                FaultKind::Unsupported
            }
            Change::Apply { .. } if write.base == Tid::NONE || newest <= write.base => FaultKind::Refused,
            Change::Apply { .. } => FaultKind::Conflict,
        }
    }

    fn read_conflict(&self, part: Part, cell: &Cell, base: Tid, newest: Tid) -> Fault {
        let why = "it was read, and the draft asked for a serializable commit";
        self.newer_fault(FaultKind::ReadConflict, part, (cell, base), newest, why)
    }

    /// Its class is told if it is known: to say no nothing is read.
    fn newer_fault(&self, kind: FaultKind, part: Part, (cell, base): (&Cell, Tid), newest: Tid, why: &str) -> Fault {
        let newest_record = self.view.newest(part, cell).ok().and_then(|(_, record)| record);
        let class = merge::class_of(&Change::Delete, newest_record.as_ref()).to_owned();
        let (base_record, newest_record) = (None, None);
        let (cell, reason) = (cell.clone(), why.into());
        Fault::conflict(kind, ConflictDetail { cell, class, base, newest, reason, base_record, newest_record })
    }
}

/// Resolvers may make more than what came; all of it is written at once.
pub(crate) fn check_merged(writes: &[SealedWrite], limits: &Limits) -> Result<(), Fault> {
    let merged = writes.iter().filter(|write| write.merged);
    let bytes: usize = merged.map(|write| write.record.as_ref().map_or(0, Bytes::len)).sum();
    match bytes > limits.draft_bytes_max {
        true => Err(Fault::too_large("size of what the resolvers made", bytes, limits.draft_bytes_max)),
        false => Ok(()),
    }
}

/// What has to be known before anything is decided.
#[derive(Default)]
struct Open {
    questions: Vec<Question>,
    wait: Option<Tid>,
}

impl Open {
    fn is_nothing(&self) -> bool {
        self.questions.is_empty() && self.wait.is_none()
    }

    fn wait(&mut self, tid: Tid) {
        self.wait = self.wait.max(Some(tid));
    }

    /// What is to be waited for comes first: the questions will be others then.
    fn none(self) -> Result<(), Refused> {
        match self.wait {
            Some(tid) => Err(Refused::Wait(tid)),
            None if self.questions.is_empty() => Ok(()),
            None => Err(Refused::Out(self.questions)),
        }
    }
}

/// Everything in the way of a draft.
#[derive(Default)]
struct Found {
    fault: Option<Fault>,
    bytes: usize,
}

impl Found {
    /// Takes one more; an error: it is enough.
    fn add(&mut self, mut fault: Fault) -> Result<(), Refused> {
        let record = |record: &Option<Bytes>| record.as_ref().map_or(0, Bytes::len);
        let size = |detail: &ConflictDetail| record(&detail.base_record) + record(&detail.newest_record);
        self.bytes += fault.in_the_way().map(size).sum::<usize>();
        let (whole, enough) = (&mut self.fault, self.bytes > CONFLICT_BYTES_MAX);
        match whole {
            None => *whole = Some(fault),
            Some(first) => {
                if is_conflict(&fault) && !is_conflict(first) {
                    // Whoever runs the transaction again sees what is there, and may do something else.
                    std::mem::swap(first, &mut fault);
                    first.others = std::mem::take(&mut fault.others);
                }
                first.others.extend(fault.conflict.map(|detail| match enough {
                    true => ConflictDetail { base_record: None, newest_record: None, ..*detail },
                    false => *detail,
                }));
                if first.others.len() + 1 >= CONFLICTS_MAX {
                    return Err(Refused::Out(Vec::new()));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn is_conflict(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Conflict | FaultKind::ReadConflict)
}
