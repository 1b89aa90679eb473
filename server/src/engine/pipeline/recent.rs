//! Owns the sequencer's memory of recent writes: the newest tid of every cell that was sealed above a floor.
//!
//! ```text
//!    ... ──────── floor ───────────── visible ──────────── last sealed
//!    ask the store │  known here, durable │ known here, pending: the store has never heard of them
//! ```
//! A cell that is not here has no revision newer than the floor, so a draft whose bases are at or above the floor is
//! checked without touching the index. Bytes of pending revisions are always kept (merges need them); those of durable
//! ones as long as the budget lasts, which makes a hot counter one function call.
//!
//! What a large draft wrote is kept as the sorted list that it came with, and forgotten as one: so to note three hundred thousand writes is one
//! step as well.

use crate::engine::pipeline::wide::WideReads;
use crate::storage::{TxnWrite, Writes};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use zeolite_proto::{Cell, ReadCell, ReadRange, Tid};

/// The newest sealed revision of a cell.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) tid: Tid,
    pub(crate) record: Kept,
}

/// Its bytes, or where they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    /// Here; `None`: deleted.
    Here(Option<Bytes>),
    /// In the store, at the head's tid.
    Stored,
}

/// What was written, by the place of whom it concerns.
pub(crate) type Hits<'a> = BTreeMap<usize, (&'a Cell, Tid)>;

// So many writes are looked at one by one, rather than all cells of a range.
const FEW: usize = 64;
// Of what is too much this part is forgotten at once, between these bounds: some milliseconds at most, unless more was written.
const TRIM_PART: usize = 32;
const TRIM_MIN: usize = 1024;
const TRIM_MAX: usize = 4096;

/// Bounds of the memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecentBounds {
    pub(crate) cells_max: usize,
    pub(crate) bytes_max: usize,
}

/// Recent writes by cell.
pub(crate) struct Recent {
    bounds: RecentBounds,
    floor: Tid,
    heads: BTreeMap<Cell, Head>,
    /// Every sealed write in order: what to forget first.
    order: VecDeque<(Tid, Cell)>,
    /// Those whose bytes may still be here.
    kept: VecDeque<(Tid, Cell)>,
    kept_bytes: usize,
    large: Large,
    /// So many writes since the last trim.
    written: usize,
}

/// What large drafts wrote, in order.
#[derive(Default)]
struct Large {
    runs: VecDeque<(Tid, Writes)>,
    cells: usize,
    bytes: usize,
}

impl Large {
    fn push(&mut self, tid: Tid, writes: &Writes) {
        self.cells += writes.len();
        self.bytes += bytes_of(writes);
        self.runs.push_back((tid, writes.clone()));
    }

    fn pop(&mut self) -> Option<Tid> {
        let (tid, writes) = self.runs.pop_front()?;
        self.cells -= writes.len();
        self.bytes -= bytes_of(&writes);
        Some(tid)
    }

    fn first(&self) -> Option<Tid> {
        self.runs.front().map(|(tid, _)| *tid)
    }

    fn newest(&self, cell: &Cell) -> Option<(Tid, &TxnWrite)> {
        self.runs.iter().rev().find_map(|(tid, writes)| Some((*tid, &writes[writes.place(cell)?])))
    }

    fn behind(&self, tid: Tid) -> impl Iterator<Item = &Writes> {
        self.runs.iter().filter(move |(at, _)| *at > tid).map(|(_, writes)| writes)
    }
}

impl Recent {
    /// Nothing is known above `floor`, the newest tid of the store.
    pub(crate) fn new(floor: Tid, bounds: RecentBounds) -> Recent {
        let (order, kept) = Default::default();
        let large = Large::default();
        Recent { bounds, floor, heads: BTreeMap::new(), order, kept, kept_bytes: 0, large, written: 0 }
    }

    /// A cell without a head has no revision newer than this.
    pub(crate) fn floor(&self) -> Tid {
        self.floor
    }

    pub(crate) fn head(&self, cell: &Cell) -> Option<Head> {
        let head = self.heads.get(cell);
        match self.large.newest(cell).filter(|(tid, _)| head.is_none_or(|head| head.tid < *tid)) {
            Some((tid, write)) => Some(Head { tid, record: Kept::Here(write.record.clone()) }),
            None => head.cloned(),
        }
    }

    /// The tid of that.
    pub(crate) fn newest(&self, cell: &Cell) -> Option<Tid> {
        let head = self.heads.get(cell).map(|head| head.tid);
        head.max(self.large.newest(cell).map(|(tid, _)| tid))
    }

    /// The first cell of the range with a revision newer than the range's base, but for those that are passed over.
    pub(crate) fn first_in_range(
        &self,
        range: &ReadRange,
        passed: &dyn Fn(&Cell, Tid) -> bool,
    ) -> Option<(&Cell, Tid)> {
        let from = Cell { oid: range.oid, key: range.from.clone() };
        let within = |cell: &Cell| cell.oid == range.oid && (range.to.is_empty() || cell.key < range.to);
        let hit = |cell| {
            let newest = self.newest(cell).filter(|newest| *newest > range.base && range.covers(cell))?;
            (!passed(cell, newest)).then_some((cell, newest))
        };
        let in_runs = self.large.behind(range.base).filter_map(|writes| {
            let first = writes.count_until(|cell| *cell < from);
            writes.sorted(first..writes.len()).take_while(|cell| within(cell)).find_map(hit)
        });
        let newer = self.order.partition_point(|(tid, _)| *tid <= range.base);
        let in_heads = if self.order.len() - newer <= FEW {
            self.order.range(newer..).filter_map(|(_, cell)| hit(cell)).min_by_key(|(cell, _)| *cell)
        } else {
            let cells = self.heads.range((Bound::Included(&from), Bound::Unbounded)).map(|(cell, _)| cell);
            cells.take_while(|cell| within(cell)).find_map(hit)
        };
        in_runs.chain(in_heads).min_by_key(|(cell, _)| *cell)
    }

    /// How many writes there were behind a tid.
    pub(crate) fn count_behind(&self, tid: Tid) -> usize {
        let in_runs = self.large.behind(tid).map(|writes| writes.len()).sum::<usize>();
        self.order.len() - self.order.partition_point(|(at, _)| *at <= tid) + in_runs
    }

    /// What was written behind a tid and may be among these writes, how many and which; a cell may come twice.
    pub(crate) fn behind_among(&self, tid: Tid, writes: &Writes) -> (usize, impl Iterator<Item = &Cell>) {
        let newer = self.order.partition_point(|(at, _)| *at <= tid);
        // Large drafts of new objects have each their own oids.
        let runs: Vec<&Writes> = self.large.behind(tid).filter(|run| run.meets(writes)).collect();
        let count = self.order.len() - newer + runs.iter().map(|run| run.len()).sum::<usize>();
        let in_runs = runs.into_iter().flat_map(|run| run.iter().map(|write| &write.cell));
        (count, self.order.range(newer..).map(|(_, cell)| cell).chain(in_runs))
    }

    /// What was written behind a tid; a cell may come twice.
    pub(crate) fn cells_behind(&self, tid: Tid) -> impl Iterator<Item = &Cell> {
        let newer = self.order.partition_point(|(at, _)| *at <= tid);
        let in_runs = self.large.behind(tid).flat_map(|writes| writes.iter().map(|write| &write.cell));
        self.order.range(newer..).map(|(_, cell)| cell).chain(in_runs)
    }

    /// What is newer than each of very many reads: asked of what was written behind the oldest of them, which is less. By the place of
    /// each read, and of each range with the first cell in it that is not passed over.
    pub(crate) fn newer_of_many(
        &self,
        wide: &WideReads,
        reads: &[ReadCell],
        ranges: &[ReadRange],
        passed: &dyn Fn(usize, &Cell, Tid) -> bool,
    ) -> (Hits<'_>, Hits<'_>) {
        let (mut in_cells, mut in_ranges) = (Hits::new(), Hits::new());
        for cell in self.cells_behind(wide.oldest()) {
            let Some(newest) = self.newest(cell) else { continue };
            if let Some(at) = wide.cell(cell).filter(|at| newest > reads[*at].base) {
                in_cells.insert(at, (cell, newest));
            }
            let in_range = wide.range(cell).filter(|at| newest > ranges[*at].base);
            if let Some(at) = in_range.filter(|at| !passed(*at, cell, newest)) {
                let first = in_ranges.entry(at).or_insert((cell, newest));
                *first = (*first).min((cell, newest));
            }
        }
        (in_cells, in_ranges)
    }

    /// These writes were sealed.
    pub(crate) fn note_all(&mut self, tid: Tid, writes: &Writes) {
        match writes.run() {
            Some(_) => self.large.push(tid, writes),
            None => writes.iter().for_each(|write| self.note(tid, write.cell.clone(), write.record.clone())),
        }
    }

    /// A write was sealed.
    pub(crate) fn note(&mut self, tid: Tid, cell: Cell, record: Option<Bytes>) {
        let weight = record.as_ref().map_or(0, Bytes::len);
        self.kept_bytes += weight;
        self.written += 1;
        self.order.push_back((tid, cell.clone()));
        self.kept.push_back((tid, cell.clone()));
        if let Some(old) = self.heads.insert(cell, Head { tid, record: Kept::Here(record) }) {
            self.kept_bytes -= old.record.weight();
        }
    }

    /// Forgets what is beyond `times` the bounds, but nothing that is not durable yet (newer than `visible`), and only so much at once that whoever comes
    /// next does not wait for it: as much as was written since, or a part of what is too much. Says whether there is more.
    pub(crate) fn trim(&mut self, visible: Tid, times: usize) -> bool {
        let written = std::mem::take(&mut self.written);
        let (cells_max, bytes_max) =
            (self.bounds.cells_max.saturating_mul(times), self.bounds.bytes_max.saturating_mul(times));
        let at_once = |too_many: usize| (too_many / TRIM_PART).clamp(TRIM_MIN, TRIM_MAX).max(written);
        for _ in 0..at_once(self.kept.len()) {
            if self.kept_bytes <= bytes_max {
                break;
            }
            let Some((tid, cell)) = pop_durable(&mut self.kept, visible) else { break };
            if let Some(head) = self.heads.get_mut(&cell)
                && head.tid == tid
            {
                self.kept_bytes -= head.record.weight();
                head.record = Kept::Stored;
            }
        }
        for _ in 0..at_once(self.cells().saturating_sub(cells_max)) {
            if !self.is_over(cells_max, bytes_max) {
                break;
            }
            // The oldest goes first.
            let first = self.order.front().map(|(tid, _)| *tid);
            if let Some(large) = self.large.first().filter(|large| first.is_none_or(|first| *large < first)) {
                if large > visible {
                    break;
                }
                self.floor = self.large.pop().unwrap_or(self.floor);
                continue;
            }
            let Some((tid, cell)) = pop_durable(&mut self.order, visible) else { break };
            self.floor = tid;
            if self.heads.get(&cell).is_some_and(|head| head.tid == tid)
                && let Some(head) = self.heads.remove(&cell)
            {
                self.kept_bytes -= head.record.weight();
            }
        }
        // The two queues end with the same writes: bytes of forgotten cells need no entry of their own.
        while self.kept.len() > self.order.len() {
            self.kept.pop_front();
        }
        let is_durable = |queue: &VecDeque<(Tid, Cell)>| queue.front().is_some_and(|(tid, _)| *tid <= visible);
        let first = self.order.front().map(|(tid, _)| *tid).into_iter().chain(self.large.first()).min();
        (self.kept_bytes > bytes_max && is_durable(&self.kept))
            || (self.is_over(cells_max, bytes_max) && first.is_some_and(|first| first <= visible))
    }

    fn cells(&self) -> usize {
        self.order.len() + self.large.cells
    }

    // The bytes of a large draft go with all else of it.
    fn is_over(&self, cells_max: usize, bytes_max: usize) -> bool {
        self.cells() > cells_max || self.large.bytes > bytes_max
    }

    /// Everything pending was refused: only the store counts, and nothing in it is newer than `visible`.
    pub(crate) fn reset(&mut self, visible: Tid) {
        *self = Recent::new(visible, self.bounds);
    }
}

impl Kept {
    fn weight(&self) -> usize {
        match self {
            Kept::Here(Some(record)) => record.len(),
            Kept::Here(None) | Kept::Stored => 0,
        }
    }
}

fn bytes_of(writes: &Writes) -> usize {
    writes.run().map_or(0, |run| run.bytes() as usize)
}

fn pop_durable(queue: &mut VecDeque<(Tid, Cell)>, visible: Tid) -> Option<(Tid, Cell)> {
    if queue.front()?.0 > visible { None } else { queue.pop_front() }
}

#[cfg(test)]
mod tests;
