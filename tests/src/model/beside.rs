//! Owns the comparison: a house and the model of what it was sent, side by side.

use super::{Model, Remembered};
use crate::support::house::House;
use bytes::Bytes;
use std::collections::BTreeSet;
use zeolite_proto::{Cell, Draft, Merged, Oid, Receipt, Tid};
use zeolite_server::engine::SYSTEM_OID;
use zeolite_server::store::{Entry, Range, Txn};

/// A house and its model.
pub struct Beside {
    /// The real thing.
    pub house: House,
    /// What it should answer.
    pub model: Model,
}

impl Beside {
    /// Every revision of every cell at the newest tids, every history, every scan, the whole log.
    pub fn compare_everything(&self) -> Result<(), String> {
        let mut tids: Vec<Tid> = self.model.log().rev().take(40).map(|txn| txn.tid).collect();
        tids.retain(|tid| *tid >= self.model.packed_to());
        tids.push(self.house.engine().visible());
        let cells: Vec<Cell> = self.model.cells().cloned().collect();
        for at in tids {
            self.compare_load(at, &cells)?;
        }
        for oid in cells.iter().map(|cell| cell.oid).collect::<BTreeSet<Oid>>() {
            let range = Range { oid, from: Bytes::new(), to: Bytes::new(), reverse: false, keys_only: false };
            self.compare_scan(Tid::NONE, &range, 0)?;
        }
        for cell in cells.iter().rev().take(30) {
            self.compare_history(cell)?;
        }
        self.compare_kinds()?;
        self.whole_log()?.iter().try_for_each(|txn| self.compare_txn(txn))
    }

    /// Loads of these cells at a snapshot.
    pub fn compare_load(&self, at: Tid, cells: &[Cell]) -> Result<(), String> {
        let mut rest = cells;
        while !rest.is_empty() {
            let loaded = self.house.engine().load(at, rest).map_err(|fault| fault.to_string())?;
            if loaded.revisions.is_empty() || loaded.revisions.len() > rest.len() {
                return Err(format!("{} revisions for {} cells", loaded.revisions.len(), rest.len()));
            }
            for (cell, found) in rest.iter().zip(&loaded.revisions) {
                let wanted = self.model.load(cell, loaded.snapshot);
                let is_gone = found.is_none() && wanted.as_ref().is_some_and(|wanted| self.model.may_be_gone(wanted));
                if *found != wanted && !is_gone {
                    return Err(format!(
                        "{cell} at {}: the engine has {found:?}, the model {wanted:?}",
                        loaded.snapshot
                    ));
                }
            }
            rest = &rest[loaded.revisions.len()..];
        }
        Ok(())
    }

    /// A scan, page by page.
    pub fn compare_scan(&self, at: Tid, range: &Range, limit: usize) -> Result<(), String> {
        let mut found: Vec<Entry> = Vec::new();
        let (mut left, mut snapshot) = (range.clone(), at);
        loop {
            let page = self.house.engine().scan(snapshot, &left, limit).map_err(|fault| fault.to_string())?;
            snapshot = page.snapshot;
            if limit > 0 && page.entries.len() > limit {
                return Err(format!("a page of {} entries, the limit is {limit}", page.entries.len()));
            }
            found.extend(page.entries);
            match page.next {
                None => break,
                Some(next) if range.reverse => left.to = next,
                Some(next) => left.from = next,
            }
            if found.len() > 10_000 {
                return Err(format!("a scan that does not end: {range:?}"));
            }
        }
        let wanted = self.model.scan(range, snapshot);
        if found == wanted {
            return Ok(());
        }
        Err(format!("{range:?} by {limit} at {snapshot}: the engine has {found:?}, the model {wanted:?}"))
    }

    /// The history of a cell, page by page.
    pub fn compare_history(&self, cell: &Cell) -> Result<(), String> {
        let (mut found, mut before) = (Vec::new(), Tid::NONE);
        loop {
            let history = self.house.engine().history(cell, before, 3).map_err(|fault| fault.to_string())?;
            found.extend(history.0.into_iter().map(|(revision, _)| revision));
            match found.last() {
                Some(last) if history.1 => before = last.tid,
                _ => break,
            }
        }
        let mut wanted = self.model.history(cell);
        // Of what a pack may have taken some is left, and ends where the next one that is left begins.
        wanted.retain_mut(|revision| match found.iter().find(|found| found.tid == revision.tid) {
            Some(found) if self.model.may_be_gone(revision) => {
                revision.end = found.end;
                true
            }
            found => found.is_some() || !self.model.may_be_gone(revision),
        });
        if found == wanted { Ok(()) } else { Err(format!("history of {cell}: {found:?}, the model has {wanted:?}")) }
    }

    /// The counts of classes and versions, and the oids of each class.
    pub fn compare_kinds(&self) -> Result<(), String> {
        let wanted = self.model.kinds();
        let (kinds, _) = self.house.engine().kinds().map_err(|fault| fault.to_string())?;
        let found = kinds.iter().filter(|kind| kind.objects > 0).map(|kind| (&kind.class, kind.version, kind.objects));
        let mut found: Vec<_> = found.collect();
        found.sort();
        let counts = wanted.iter().map(|((class, version), oids)| (class, *version, oids.len() as u64));
        if !found.iter().copied().eq(counts) {
            return Err(format!("kinds: {found:?}, the model has {wanted:?}"));
        }
        let classes: BTreeSet<&String> = wanted.keys().map(|(class, _)| class).collect();
        classes
            .into_iter()
            .try_for_each(|class| [0, 2].into_iter().try_for_each(|below| self.compare_objects(class, below)))
    }

    fn compare_objects(&self, class: &str, below: u32) -> Result<(), String> {
        let kinds = self.model.kinds();
        let mine = kinds.iter().filter(|((other, version), _)| other == class && (below == 0 || *version < below));
        let mine: BTreeSet<Oid> = mine.flat_map(|(_, oids)| oids.iter().copied()).collect();
        let (mut oids, mut after): (Vec<Oid>, _) = (Vec::new(), None);
        loop {
            let page = self
                .house
                .engine()
                .objects(Some(class), below, after, 1, Tid::NONE)
                .map_err(|fault| fault.to_string())?;
            oids.extend(page.oids);
            after = oids.last().copied();
            if !page.more {
                break;
            }
        }
        match oids.iter().eq(mine.iter()) {
            true => Ok(()),
            false => Err(format!("{class} below {below}: {oids:?}, the model has {mine:?}")),
        }
    }

    /// The log without the server's own bookkeeping.
    pub fn whole_log(&self) -> Result<Vec<Txn>, String> {
        let mut all = Vec::new();
        let mut from = Tid(1);
        loop {
            let page = self.house.engine().log_page(from, Tid::NONE, 7).map_err(|fault| format!("the log: {fault}"))?;
            let Some(last) = page.last() else { return Ok(all) };
            if page.windows(2).any(|pair| pair[0].tid >= pair[1].tid) || page[0].tid < from {
                return Err(format!("a page of the log from {from} is not in order"));
            }
            from = last.tid.next();
            let mut others: Vec<Txn> = page.into_iter().filter(|txn| !txn.own).collect();
            // The end of a durable prepared draft has the server's own cells as well.
            others.iter_mut().for_each(|txn| txn.writes.to_mut().retain(|write| write.cell.oid != SYSTEM_OID));
            all.append(&mut others);
        }
    }

    /// A transaction of the log is what was acknowledged.
    pub fn compare_txn(&self, txn: &Txn) -> Result<(), String> {
        let Some(known) = self.model.txn(txn.tid) else { return Err(format!("{} was never acknowledged", txn.tid)) };
        let found: Vec<_> = txn.writes.iter().map(|write| (&write.cell, &write.record, write.merged)).collect();
        let known_writes = known.writes.iter().map(|(cell, record, merged)| (cell, record, *merged));
        let same = known_writes
            .filter(|write| found.contains(write) || !self.model.is_packed(write.0, txn.tid))
            .eq(found.iter().copied());
        if known.key == txn.key && same { Ok(()) } else { Err(format!("the log says {txn:?}, it was {known:?}")) }
    }

    /// After a start: everything acknowledged is in the log as it was, and what else is there is among `unanswered`.
    /// Then everything that can be read is compared.
    pub fn catch_up(&mut self, unanswered: &[Draft]) -> Result<(), String> {
        let last = self.model.last();
        let mut seen = BTreeSet::new();
        for txn in self.whole_log()? {
            if txn.tid <= last {
                seen.insert(txn.tid);
                self.compare_txn(&txn)?;
                continue;
            }
            let Some(draft) = unanswered.iter().find(|draft| draft.key == txn.key) else {
                return Err(format!("{} is in the log, but nobody sent it or it was refused: {txn:?}", txn.tid));
            };
            let merged = txn.writes.iter().filter(|write| write.merged);
            let merged =
                merged.map(|write| Merged { cell: write.cell.clone(), record: write.record.clone() }).collect();
            self.model.commit(draft, &Receipt { tid: txn.tid, merged })?;
        }
        let stays = |txn: &&Remembered| txn.writes.iter().any(|(cell, ..)| !self.model.is_packed(cell, txn.tid));
        let acknowledged = self.model.log().filter(|txn| txn.tid <= last);
        if let Some(lost) = acknowledged.filter(stays).find(|txn| !seen.contains(&txn.tid)) {
            return Err(format!("{} was acknowledged, and is not in the log", lost.tid));
        }
        self.compare_everything()
    }
}
