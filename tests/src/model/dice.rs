//! Owns the random drafts of the trials: few cells, so that everybody meets; every class, so that every rule is asked.

use super::Model;
use crate::support::resolvers::SLOW;
use crate::support::work::{Steps, Work};
use zeolite_proto::resolvers::items::Item;
use zeolite_proto::resolvers::{class, counter, last, list};
use zeolite_proto::{Cell, CommitKey, Draft, Oid, Record, Tid};

/// How many oids the drafts use, beginning with the first.
pub(super) const OIDS: u64 = 9;
const ROWS: u64 = 8;

/// Random drafts about the oids from `first` on.
pub(super) struct Dice {
    pub(super) rng: fastrand::Rng,
    pub(super) first: Oid,
    made: u64,
}

impl Dice {
    pub(super) fn new(seed: u64, first: Oid) -> Dice {
        Dice { rng: fastrand::Rng::with_seed(seed), first, made: 0 }
    }

    /// True in so many of a hundred cases.
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    /// One of the cells that have no stamp.
    pub(super) fn cell(&mut self) -> Cell {
        match self.rng.u64(0..7) {
            6 => Cell::entry(self.collection(), format!("k{}", self.rng.u64(0..ROWS))),
            n => Cell::object(Oid(self.first.0 + n)),
        }
    }

    /// The collection of rows.
    pub(super) fn collection(&self) -> Oid {
        Oid(self.first.0 + 6)
    }

    /// The collection whose keys are stamped.
    pub(super) fn queue(&self) -> Oid {
        Oid(self.first.0 + 7)
    }

    /// The job of which chunks are: it is there from the beginning.
    pub(super) fn job(&self) -> Oid {
        Oid(self.first.0 + 8)
    }

    /// Bounds of a range of rows: empty, or a key.
    pub(super) fn bounds(&mut self) -> (String, String) {
        let mut bound = || if self.rng.bool() { String::new() } else { format!("k{}", self.rng.u64(0..ROWS)) };
        (bound(), bound())
    }

    fn text(&mut self) -> String {
        self.made += 1;
        // Some records are too long to be kept inline, a few too long to stay in memory.
        let pad = match self.rng.u32(0..20) {
            0 => 70_000,
            1..=4 => 500,
            _ => 0,
        };
        format!("{}{}", self.made, "-".repeat(pad))
    }

    /// A draft by somebody who reads at `snapshot`.
    pub(super) fn draft(&mut self, key: CommitKey, model: &Model, snapshot: Tid) -> Draft {
        let mut work = Work::new(key);
        let mut written = Vec::new();
        for _ in 0..self.rng.u32(1..=3) {
            let cell = self.cell();
            if !written.contains(&cell) {
                written.push(cell.clone());
                work = self.change(work, cell, model, snapshot);
            }
        }
        for _ in 0..if self.chance(15) { self.rng.u32(1..=2) } else { 0 } {
            let row = Record::new("Row", 1, self.text().into_bytes());
            work = work.stamped(Cell::entry(self.queue(), "q"), &row);
        }
        if self.chance(30) {
            for _ in 0..self.rng.u32(1..=2) {
                work = work.read(self.cell(), snapshot);
            }
        }
        if self.chance(15) {
            let (from, to) = self.bounds();
            let (from, to) = if from > to && !to.is_empty() { (to, from) } else { (from, to) };
            let oid = if self.chance(80) { self.collection() } else { self.queue() };
            work = work.range(oid, from.as_bytes(), to.as_bytes(), snapshot);
        }
        if self.chance(10) {
            work = work.batch();
        }
        if self.chance(30) && !written.is_empty() {
            let steps = match self.rng.u32(0..3) {
                0 => Steps::OfEach,
                1 => Steps::OfTheFirst,
                _ => Steps::OfAnother(self.cell()),
            };
            let reads = self.chance(30);
            return work.chunk(self.job(), steps, reads).draft();
        }
        work.note("model", "random").draft()
    }

    fn change(&mut self, work: Work, cell: Cell, model: &Model, snapshot: Tid) -> Work {
        let seen = model.load(&cell, snapshot);
        // The revision's own tid and any later snapshot at which it was the newest mean the same.
        let base = match &seen {
            Some(revision) if self.chance(30) => revision.tid,
            _ => snapshot,
        };
        let record = seen
            .and_then(|revision| revision.record)
            .map(|bytes| Record::decode(&bytes).expect("the trials write records only"));
        if self.chance(8) {
            return work.delete(cell, base);
        }
        let step = self.rng.i64(-5..=5);
        let apply = self.chance(50);
        match cell.oid.0 - self.first.0 {
            2 if apply => work.apply(cell, class::COUNTER, counter::add(step)),
            2 => {
                let value = record.map_or(0, |record| counter::value(&record).expect("a counter"));
                work.put(cell, base, &counter::record(value + step))
            }
            3 => {
                let item = Item::new(self.text());
                if apply {
                    return work.apply(cell, class::LIST, list::append(&[item]).expect("one short item"));
                }
                let mut items = record.map_or(Vec::new(), |record| list::items(&record).expect("a list"));
                if self.chance(10) {
                    items.pop();
                }
                items.push(item);
                work.put(cell, base, &list::record(&items).expect("short items"))
            }
            4 if apply => work.apply(cell, SLOW, self.text().into_bytes().into()),
            4 => {
                let mut data = record.map_or(Vec::new(), |record| record.data.to_vec());
                data.extend_from_slice(self.text().as_bytes());
                work.put(cell, base, &Record::new(SLOW, 1, data))
            }
            5 => {
                let version = self.rng.u32(1..=2);
                work.put(cell, base, &Record { version, ..last::record(self.text().as_bytes(), Vec::new()) })
            }
            6 => work.put(cell, base, &Record::new("Row", 1, self.text().into_bytes())),
            _ => work.put(cell, base, &Record::new("Page", self.rng.u32(1..=2), self.text().into_bytes())),
        }
    }
}
