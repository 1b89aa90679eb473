//! Owns reading: every read is at one visible tid and waits for nobody.
//!
//! Decode › is the snapshot visible and not packed away › overlay, cache, index › one positioned read. No channel, no lock
//! that a writer holds across I/O.

use crate::engine::faults::fault_of;
use crate::engine::{Engine, note};
use crate::storage::{Entry, Kind, Range, Revision, Txn};
use bytes::Bytes;
use zeolite_proto::{Cell, Fault, FaultKind, Note, Oid, Tid};

/// Revisions of a history that are read before it is looked whether the reply is full.
const REVISIONS_AT_ONCE: usize = 8;

/// The answer to a load: shorter than asked when the reply's size was reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The tid read at.
    pub snapshot: Tid,
    /// In the order asked; `None`: the cell did not exist.
    pub revisions: Vec<Option<Revision>>,
}

/// One page of a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The tid read at.
    pub snapshot: Tid,
    /// In key order (or its reverse).
    pub entries: Vec<Entry>,
    /// Where to go on: the next `from`, or in reverse the next `to`; `None`: that was all.
    pub next: Option<Bytes>,
}

/// One page of the oids of a class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectsPage {
    /// Ascending.
    pub oids: Vec<Oid>,
    /// Whether there are more after the last one.
    pub more: bool,
    /// The tid as of which the class and version were looked at.
    pub snapshot: Tid,
}

impl Engine {
    /// The tid to read at: the given one if it is visible here, the newest for [`Tid::NONE`].
    pub(crate) fn snapshot(&self, asked: Tid) -> Result<Tid, Fault> {
        let visible = self.visible();
        if asked == Tid::NONE {
            return Ok(visible);
        }
        if asked > visible {
            let message = format!("snapshot {asked} is newer than anything here ({visible}); open a new one");
            return Err(Fault::new(FaultKind::SnapshotAhead, message));
        }
        Ok(asked)
    }

    /// Loads cells at a snapshot ([`Tid::NONE`]: the newest). May read the disk.
    pub fn load(&self, snapshot: Tid, cells: &[Cell]) -> Result<Loaded, Fault> {
        let loaded = self.peek(snapshot, cells)?;
        self.stats().loads.add(loaded.revisions.len() as u64);
        Ok(loaded)
    }

    /// The same for the server's own needs: it is not counted.
    pub(crate) fn peek(&self, snapshot: Tid, cells: &[Cell]) -> Result<Loaded, Fault> {
        let snapshot = self.snapshot(snapshot)?;
        if cells.len() > self.limits().load_cells_max {
            return Err(Fault::too_large("number of cells", cells.len(), self.limits().load_cells_max));
        }
        let visible = self.visible();
        let mut revisions = self.reader().get_many(cells, snapshot, self.limits().reply_bytes_aim).map_err(fault_of)?;
        revisions.iter_mut().flatten().for_each(|revision| show_up_to(revision, visible));
        Ok(Loaded { snapshot, revisions })
    }

    /// One page of a collection's entries; `limit` 0: the server's page limit.
    pub fn scan(&self, snapshot: Tid, range: &Range, limit: usize) -> Result<Page, Fault> {
        let snapshot = self.snapshot(snapshot)?;
        let longest = range.from.len().max(range.to.len());
        if longest > self.limits().key_bytes_max + 16 {
            return Err(Fault::too_large("key length", longest, self.limits().key_bytes_max));
        }
        let limit = bounded(limit, self.limits().scan_entries_max);
        let bytes = self.limits().reply_bytes_aim;
        let (entries, next) = self.reader().scan(range, snapshot, limit, bytes).map_err(fault_of)?;
        Ok(Page { snapshot, entries, next })
    }

    /// The revisions of a cell, newest first, with the notes of their transactions, as many as fit one reply; and whether
    /// there are more.
    pub fn history(&self, cell: &Cell, before: Tid, limit: usize) -> Result<(Vec<(Revision, Note)>, bool), Fault> {
        let limit = bounded(limit, 1000);
        let visible = self.visible();
        let mut before = if before == Tid::NONE { visible.next() } else { before.min(visible.next()) };
        let (mut past, mut left) = (Vec::new(), self.limits().reply_bytes_aim);
        loop {
            let at_once = (limit + 1 - past.len()).min(REVISIONS_AT_ONCE);
            let revisions = self.reader().history(cell, before, at_once).map_err(fault_of)?;
            if revisions.is_empty() {
                return Ok((past, false));
            }
            // What is one after the other here may be of one batch, which is read once.
            let tids: Vec<Tid> = revisions.iter().map(|revision| revision.tid).collect();
            let mut notes = self.reader().notes(&tids).map_err(fault_of)?.into_iter();
            for mut revision in revisions {
                let note = notes.next().flatten().map(|note| note::decode(&note)).unwrap_or_default();
                if past.len() >= limit || left == 0 {
                    return Ok((past, true));
                }
                before = revision.tid;
                show_up_to(&mut revision, visible);
                left = left.saturating_sub(note.bytes() + revision.record.as_ref().map_or(0, Bytes::len));
                past.push((revision, note));
            }
        }
    }

    /// Oids of a class (`None`: of all) below a schema version (0: any), in oid order, as of now: a later page may know more. The snapshot
    /// only has to be readable; whoever works at it loads each object there and looks.
    pub fn objects(
        &self,
        class: Option<&str>,
        version_below: u32,
        after: Option<Oid>,
        limit: usize,
        snapshot: Tid,
    ) -> Result<ObjectsPage, Fault> {
        let snapshot = self.snapshot(snapshot)?;
        let limit = bounded(limit, self.limits().scan_entries_max);
        let below = if version_below == 0 { u32::MAX } else { version_below };
        // The store's pages may be short; only an empty one is the last.
        let (mut oids, mut from) = (Vec::new(), after);
        while oids.len() <= limit {
            let page = self.reader().objects(class, below, from, limit + 1 - oids.len()).map_err(fault_of)?;
            let Some(last) = page.last() else { break };
            from = Some(*last);
            oids.extend(page);
        }
        // What the store lists is durable and told to the feed before it is visible: who asks for the newest tid after this answer is to be
        // given one that has all that is listed. A database that is poisoned in between shows nothing new.
        let listed = self.reader().published();
        while self.visible() < listed && self.poisoned().is_none() {
            std::thread::yield_now();
        }
        let more = oids.len() > limit;
        oids.truncate(limit);
        Ok(ObjectsPage { oids, more, snapshot })
    }

    /// The classes and versions with their exact numbers of objects, and the tid as of which they are right.
    pub fn kinds(&self) -> Result<(Vec<Kind>, Tid), Fault> {
        let tid = self.visible();
        Ok((self.reader().kinds().map_err(fault_of)?, tid))
    }

    /// The next transactions with from <= tid <= to, as many as fit one reply; empty: there are no more.
    pub fn log_page(&self, from: Tid, to: Tid, limit: usize) -> Result<Vec<Txn>, Fault> {
        let to = if to == Tid::NONE { self.visible() } else { to.min(self.visible()) };
        if from > to {
            return Ok(Vec::new());
        }
        let mut txns = self.reader().txns(from, to, self.limits().reply_bytes_aim as u64).map_err(fault_of)?;
        txns.truncate(bounded(limit, usize::MAX));
        Ok(txns)
    }

    /// The same backwards: the newest first.
    pub fn log_page_back(&self, from: Tid, to: Tid, limit: usize) -> Result<Vec<Txn>, Fault> {
        let to = if to == Tid::NONE { self.visible() } else { to.min(self.visible()) };
        let mut txns = self.reader().txns_back(from, to).map_err(fault_of)?;
        txns.truncate(bounded(limit, usize::MAX));
        Ok(txns)
    }

    /// Whether history behind a tid was packed: then what was read of the log since it may lack something.
    pub fn is_packed(&self, since: Tid) -> bool {
        since < self.reader().packed_to()
    }

    /// History up to this tid is packed.
    pub fn packed_to(&self) -> Tid {
        self.reader().packed_to()
    }

    /// The life of the store: another one after it was put back from a copy, or restored into.
    pub fn timeline(&self) -> u64 {
        self.reader().timeline()
    }

    /// Refuses what somebody knows as of a tid in another life of the store. A timeline of 0 is not said.
    pub fn same_life(&self, timeline: u64, tid: Tid) -> Result<(), Fault> {
        if timeline == 0 || self.reader().shares(timeline, tid) {
            return Ok(());
        }
        let message = format!(
            "{tid} was read in another life of this database (it was put back from a copy since); open a new snapshot"
        );
        Err(Fault::new(FaultKind::SnapshotAhead, message))
    }

    /// The log bytes between a tid of a timeline and now: what replaying them would cost. `None`: the tid is not one of this
    /// life of the store, or packed away.
    pub fn replay_cost_bytes(&self, timeline: u64, since: Tid) -> Result<Option<u64>, Fault> {
        if since > self.visible() || since < self.reader().packed_to() || !self.reader().shares(timeline, since) {
            return Ok(None);
        }
        if !self.reader().knows(since).map_err(fault_of)? {
            return Ok(None);
        }
        self.reader().log_bytes_since(since).map(Some).map_err(fault_of)
    }
}

/// A revision that is durable but not yet told by the feed ends nothing in an answer.
fn show_up_to(revision: &mut Revision, visible: Tid) {
    revision.end = revision.end.filter(|end| *end <= visible);
}

fn bounded(asked: usize, max: usize) -> usize {
    if asked == 0 { max } else { asked.min(max) }
}
