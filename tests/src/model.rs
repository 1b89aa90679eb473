//! Owns the reference model: what the engine should answer, in the simplest words there are.
//!
//! ```text
//!   Model     every revision of every cell in maps; a commit is looked at after the fact, in the order of its tid
//!   beside    a house and its model: what is compared, and how
//!   rules     what two concurrent writes become, written anew over plain values
//!   yields    what a live draft passes over
//!   dice      random drafts
//!   trial     one seeded run: drafts, turns, faults, crashes, and the comparison after each step
//! ```
//! The model knows no pipeline, no memory, no index, no epochs. It asks of each receipt: is this what the draft means on top of
//! everything with a lesser tid? And of each refusal: was there really something in the way?

mod beside;
mod dice;
mod judge;
mod rules;
mod trial;
mod yields;

pub use beside::Beside;
pub use trial::{Trial, Wear};

use bytes::Bytes;
use rules::{Verdict, Wanted};
use std::collections::{BTreeMap, HashMap};
use yields::{Chunk, version};
use zeolite_proto::record::Header;
use zeolite_proto::{Cell, Change, CommitKey, Draft, Oid, Receipt, Tid};
use zeolite_server::store::{Entry, Range, Revision};

/// A transaction as the model remembers it.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Its tid.
    pub tid: Tid,
    /// Its key.
    pub key: CommitKey,
    /// Cell, record, whether a resolver made it.
    pub writes: Vec<(Cell, Option<Bytes>, bool)>,
}

/// All that was ever committed.
#[derive(Clone, Default)]
pub struct Model {
    /// Older snapshots are refused; what was superseded up to here may be there still, or not.
    packed_to: Tid,
    cells: BTreeMap<Cell, BTreeMap<Tid, Option<Bytes>>>,
    log: BTreeMap<Tid, Remembered>,
    keys: HashMap<CommitKey, Tid>,
    /// Of evolves.
    chunks: BTreeMap<Tid, Chunk>,
}

impl Model {
    /// The newest tid.
    pub fn last(&self) -> Tid {
        self.log.keys().next_back().copied().unwrap_or(Tid::NONE)
    }

    /// Every transaction, in order.
    pub fn log(&self) -> impl DoubleEndedIterator<Item = &Remembered> {
        self.log.values()
    }

    /// The transaction of a tid.
    pub fn txn(&self, tid: Tid) -> Option<&Remembered> {
        self.log.get(&tid)
    }

    /// The transaction of a key.
    pub fn by_key(&self, key: CommitKey) -> Option<&Remembered> {
        self.keys.get(&key).and_then(|tid| self.log.get(tid))
    }

    /// Takes in a commit that the engine has acknowledged, or that was found in the log.
    pub fn commit(&mut self, draft: &Draft, receipt: &Receipt) -> Result<(), String> {
        let tid = receipt.tid;
        if tid <= self.last() {
            return Err(format!("tid {tid} does not follow {}", self.last()));
        }
        if let Some(earlier) = self.by_key(draft.key) {
            return Err(format!("{:?} was committed at {} already, and now at {tid}", draft.key, earlier.tid));
        }
        let writes = match self.verdict(draft, tid.prev(), tid) {
            Verdict::Fine(writes) => writes,
            Verdict::InTheWay { cell, newest, .. } => {
                return Err(format!("committed {tid} although {cell} has {newest}: {draft:?}"));
            }
        };
        let told: BTreeMap<&Cell, Option<&Bytes>> =
            receipt.merged.iter().map(|m| (&m.cell, m.record.as_ref())).collect();
        let mine = writes.iter().filter(|write| write.2).map(|write| (&write.0, write.1.as_ref())).collect();
        if told != mine {
            return Err(format!("the receipt of {tid} tells merges {told:?}, the model says {mine:?}"));
        }
        for (cell, record, _) in &writes {
            self.cells.entry(cell.clone()).or_default().insert(tid, record.clone());
        }
        self.keys.insert(draft.key, tid);
        let written: Vec<Cell> = writes.iter().map(|write| write.0.clone()).collect();
        self.chunks.extend(Chunk::of(draft, &written).map(|chunk| (tid, chunk)));
        self.log.insert(tid, Remembered { tid, key: draft.key, writes });
        Ok(())
    }

    /// What becomes of a draft on top of everything up to `seen`; `tid`: what its stamps would say.
    fn verdict(&self, draft: &Draft, seen: Tid, tid: Tid) -> Verdict {
        let (mut writes, mut owed) = (Vec::new(), Vec::new());
        let mut check = |cell: &Cell, base: Tid| {
            let (newest, _) = self.newest(cell, seen).filter(|(newest, _)| *newest > base)?;
            let Some(passed) = self.passed(draft, cell, base, seen) else {
                return Some(Verdict::InTheWay { cell: cell.clone(), newest, read: true });
            };
            owed.extend(passed.owed_by_check(cell, draft));
            None
        };
        for read in &draft.read_cells {
            if let Some(in_the_way) = check(&read.cell, read.base) {
                return in_the_way;
            }
        }
        for range in &draft.read_ranges {
            let inside = self.cells.keys().filter(|cell| {
                let ends_before = range.to.is_empty() || cell.key < range.to;
                cell.oid == range.oid && !cell.key.is_empty() && cell.key >= range.from && ends_before
            });
            for cell in inside {
                if let Some(in_the_way) = check(cell, range.base) {
                    return in_the_way;
                }
            }
        }
        for (position, write) in draft.writes.iter().enumerate() {
            let mut cell = write.cell.clone();
            if write.stamped {
                let key = [cell.key.as_ref(), &tid.0.to_be_bytes(), &(position as u32).to_be_bytes()].concat();
                cell.key = key.into();
            }
            let (newest, theirs) = self.newest(&cell, seen).unwrap_or((Tid::NONE, None));
            let base = || self.newest(&cell, write.base).and_then(|(_, record)| record);
            let disturbed = newest > write.base;
            let passed = match write.change {
                Change::Put(_) | Change::Delete if disturbed => self.passed(draft, &cell, write.base, seen),
                _ => None,
            };
            let own = if let Change::Put(record) = &write.change { Some(record.clone()) } else { None };
            let is_older = version(own.as_ref()) < version(theirs.as_ref());
            let wanted = Wanted { change: &write.change, disturbed, base: &base, theirs };
            let goes_first = passed.as_ref().is_some_and(|passed| passed.has_more && is_older && own.is_some());
            match (if goes_first { Err(()) } else { wanted.outcome() }, passed) {
                (Ok((record, merged)), passed) => {
                    let anew = passed.filter(|passed| passed.has_more);
                    owed.extend(anew.map(|passed| passed.owed(&cell)).unwrap_or_default());
                    writes.push((cell, record, merged));
                }
                (Err(()), Some(passed)) => {
                    if !passed.is_alone || is_older || !passed.raised {
                        owed.extend(passed.owed(&cell));
                    }
                    writes.push((cell, own, false));
                }
                (Err(()), None) => return Verdict::InTheWay { cell, newest, read: false },
            }
        }
        owed.sort();
        owed.dedup();
        let by_itself = |cell: &Cell| draft.writes.iter().any(|write| write.cell == *cell);
        writes.extend(owed.into_iter().filter(|(cell, ..)| !by_itself(cell)));
        Verdict::Fine(writes)
    }

    fn newest(&self, cell: &Cell, at: Tid) -> Option<(Tid, Option<Bytes>)> {
        let (tid, record) = self.cells.get(cell)?.range(..=at).next_back()?;
        Some((*tid, record.clone()))
    }

    /// A pack went up to here.
    pub fn pack(&mut self, to: Tid) {
        self.packed_to = self.packed_to.max(to);
    }

    /// The oldest snapshot there is.
    pub fn packed_to(&self) -> Tid {
        self.packed_to
    }

    /// Whether a pack may have taken this revision away: nobody who reads at the oldest snapshot or later sees it.
    fn may_be_gone(&self, revision: &Revision) -> bool {
        let is_over = revision.end.is_some_and(|end| end <= self.packed_to);
        is_over || (revision.record.is_none() && revision.tid <= self.packed_to)
    }

    /// The same of what a transaction wrote to a cell.
    pub fn is_packed(&self, cell: &Cell, tid: Tid) -> bool {
        self.load(cell, tid).is_some_and(|revision| self.may_be_gone(&revision))
    }

    /// What a load answers.
    pub fn load(&self, cell: &Cell, at: Tid) -> Option<Revision> {
        let (tid, record) = self.newest(cell, at)?;
        let end = self.cells.get(cell)?.range(tid.next()..).next().map(|(end, _)| *end);
        Some(Revision { tid, end, record })
    }

    /// What a scan without limits answers.
    pub fn scan(&self, range: &Range, at: Tid) -> Vec<Entry> {
        let mut entries = Vec::new();
        for cell in self.cells.keys().filter(|cell| cell.oid == range.oid && !cell.key.is_empty()) {
            let inside = cell.key >= range.from && (range.to.is_empty() || cell.key < range.to);
            if let Some((tid, Some(record))) = self.newest(cell, at).filter(|_| inside) {
                let record = if range.keys_only { Bytes::new() } else { record };
                entries.push(Entry { key: cell.key.clone(), tid, record });
            }
        }
        if range.reverse {
            entries.reverse();
        }
        entries
    }

    /// All revisions of a cell, newest first.
    pub fn history(&self, cell: &Cell) -> Vec<Revision> {
        let tids: Vec<Tid> = self.cells.get(cell).map(|all| all.keys().rev().copied().collect()).unwrap_or_default();
        tids.into_iter().filter_map(|tid| self.load(cell, tid)).collect()
    }

    /// Every cell that was ever written.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.keys()
    }

    /// How many objects there are now of each class and version, and which.
    pub fn kinds(&self) -> BTreeMap<(String, u32), Vec<Oid>> {
        let mut kinds: BTreeMap<(String, u32), Vec<Oid>> = BTreeMap::new();
        for cell in self.cells.keys().filter(|cell| cell.key.is_empty()) {
            if let Some((_, Some(record))) = self.newest(cell, Tid::MAX) {
                let header = Header::parse(&record).expect("the engine has let in records only");
                kinds.entry((header.class.to_owned(), header.version)).or_default().push(cell.oid);
            }
        }
        kinds
    }
}
