//! Owns what a draft has read when it is very much, looked up by cell and by key.
//!
//! ```text
//!   few reads     each is asked for: who writes it, what is newer?
//!   very many     what others write, and what was written lately, is few: each of that is asked for here
//! ```
//! A hundred thousand reads, asked for one by one or entered into what is held, would keep everybody waiting who commits beside it. So this is
//! made where the draft is admitted, in its caller's task, and the sequencer only keeps it: to hold it and to let it go is one
//! step, and a question costs what is on the smaller side. Everybody's writes ask each draft like this, so at most [`WIDE_MAX`] are
//! prepared at once.
//!
//! Not done: reads as of before what the sequencer remembers, and those of an amendment, are still asked for one by one.

use bytes::Bytes;
use zeolite_proto::{Cell, Oid, ReadCell, ReadRange, Tid, hash};

/// From so many reads and ranges on.
const MANY: usize = if cfg!(test) { 3 } else { 1024 };
/// So many such drafts are prepared at once.
pub(crate) const WIDE_MAX: usize = 16;

/// The reads of one draft.
pub(crate) struct WideReads {
    /// The place of each among the draft's own, with the oldest base if it is there twice.
    cells: hash::Map<Cell, usize>,
    /// Of each collection, in order: they do not overlap.
    ranges: hash::Map<Oid, Vec<Span>>,
    oldest: Tid,
    count: usize,
    #[cfg(test)]
    asked: std::sync::atomic::AtomicU64,
}

struct Span {
    from: Bytes,
    /// Empty: no end.
    to: Bytes,
    at: usize,
}

impl WideReads {
    /// `None`: they are few. The ranges are disjoint and in order.
    pub(crate) fn of(cells: &[ReadCell], ranges: &[ReadRange]) -> Option<WideReads> {
        let count = cells.len() + ranges.len();
        if count < MANY {
            return None;
        }
        let bases = cells.iter().map(|read| read.base).chain(ranges.iter().map(|range| range.base));
        let oldest = bases.min().unwrap_or(Tid::NONE);
        let mut wide = WideReads {
            cells: hash::Map::default(),
            ranges: hash::Map::default(),
            oldest,
            count,
            #[cfg(test)]
            asked: Default::default(),
        };
        for (at, read) in cells.iter().enumerate() {
            let place = wide.cells.entry(read.cell.clone()).or_insert(at);
            if read.base < cells[*place].base {
                *place = at;
            }
        }
        // Nothing is between a key and itself.
        let with_keys = |range: &&ReadRange| range.to.is_empty() || range.from < range.to;
        for (at, range) in ranges.iter().enumerate().filter(|(_, range)| with_keys(range)) {
            let span = Span { from: range.from.clone(), to: range.to.clone(), at };
            wide.ranges.entry(range.oid).or_default().push(span);
        }
        Some(wide)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The oldest base of all.
    pub(crate) fn oldest(&self) -> Tid {
        self.oldest
    }

    /// The place of this cell among those that were read.
    pub(crate) fn cell(&self, cell: &Cell) -> Option<usize> {
        #[cfg(test)]
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.cells.get(cell).copied()
    }

    /// The place of the range that this cell is in.
    pub(crate) fn range(&self, cell: &Cell) -> Option<usize> {
        // A collection's own record is in no range.
        let spans = self.ranges.get(&cell.oid).filter(|_| !cell.is_object())?;
        let behind = spans.partition_point(|span| span.from <= cell.key);
        let span = spans.get(behind.checked_sub(1)?)?;
        (span.to.is_empty() || cell.key < span.to).then_some(span.at)
    }

    /// How often it was asked for a cell.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether any range of this collection was read.
    pub(crate) fn is_ranged(&self, oid: Oid) -> bool {
        self.ranges.contains_key(&oid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pipeline::ranges;
    use crate::engine::pipeline::recent::{Recent, RecentBounds};
    use zeolite_proto::hash::Set;

    fn cell(dice: &mut fastrand::Rng) -> Cell {
        let key: String = (0..dice.usize(0..3)).map(|_| dice.char('a'..='c')).collect();
        Cell::entry(Oid(dice.u64(1..4)), key)
    }

    #[test]
    fn what_is_newer_than_very_many_reads_is_what_asking_for_each_of_them_finds() {
        let mut found = 0;
        for seed in 0..2000 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut recent = Recent::new(Tid(5), RecentBounds { cells_max: 100, bytes_max: 100 });
            for tid in 6..6 + dice.u64(1..8) {
                recent.note(Tid(tid), cell(&mut dice), None);
            }
            let reads: Vec<_> =
                (0..dice.usize(2..6)).map(|_| ReadCell { cell: cell(&mut dice), base: Tid(dice.u64(5..12)) }).collect();
            let range = |dice: &mut fastrand::Rng| ReadRange {
                oid: Oid(dice.u64(1..4)),
                from: cell(dice).key,
                to: cell(dice).key,
                base: Tid(dice.u64(5..12)),
            };
            let spans = ranges::disjoint((0..2).map(|_| range(&mut dice)).collect());
            let Some(wide) = WideReads::of(&reads, &spans) else { continue };
            let (cells, in_spans) = recent.newer_of_many(&wide, &reads, &spans, &|_, _, _| false);
            let newer = |read: &&ReadCell| recent.newest(&read.cell).is_some_and(|newest| newest > read.base);
            let expected: Set<&Cell> = reads.iter().filter(newer).map(|read| &read.cell).collect();
            assert_eq!(cells.keys().map(|at| &reads[*at].cell).collect::<Set<_>>(), expected, "seed {seed}");
            for (at, span) in spans.iter().enumerate() {
                assert_eq!(
                    in_spans.get(&at).copied(),
                    recent.first_in_range(span, &|_, _| false),
                    "seed {seed}: {span:?}"
                );
            }
            found += cells.len() + in_spans.len();
        }
        assert!(found > 1000, "{found}");
    }

    #[test]
    fn very_many_reads_are_checked_against_what_was_written_lately_in_as_many_steps_as_that_is() {
        let mut recent = Recent::new(Tid(5), RecentBounds { cells_max: 1000, bytes_max: 1000 });
        (6..20).for_each(|tid| recent.note(Tid(tid), Cell::entry(Oid(7), format!("{tid}")), None));
        let span = |n: u64| ReadRange {
            oid: Oid(7),
            from: format!("{n:06}").into(),
            to: format!("{n:06}b").into(),
            base: Tid(10),
        };
        let spans: Vec<_> = (0..120_000).map(span).collect();
        let wide = WideReads::of(&[], &spans).expect("they are many");
        assert_eq!(recent.count_behind(wide.oldest()), 9);
        assert_eq!(recent.newer_of_many(&wide, &[], &spans, &|_, _, _| false).1.len(), 0);
        assert!(wide.asked() <= 9, "{}", wide.asked());
    }
}
