//! Owns reading: `Reader`, which everybody shares. It asks the overlay, then the cache, then the index, then the log.
//!
//! ```text
//!   get(cell, at)
//!     1  published := newest tid that may be seen; at := min(at, published)
//!     2  overlay   a revision up to `at` that is newer than what is settled ──> the answer
//!     3  cache     the newest revision in the index, if it is not newer than `at` ──> the answer
//!     4  index     a view begun after step 2 ──> the row; its record inline, or by one read of the log
//! ```
//! The order 2, 4 is what makes the hand-over from overlay to index invisible (see `overlay`). A revision's `end` counts
//! only up to `published` of step 1, so an `end` of `None` says: still the newest when *at least* everything published
//! before the call counts. No method waits for an fsync, a settle or a pack, and none holds a lock while it reads a file.

mod kinds;
mod lists;
mod scan;
mod stretch;
mod txns;

use super::blobs::Blobs;
use super::cache::{Newest, Ticket};
use super::index::rows::{self, Stored};
use super::index::{Table, View, bad_row, keys};
use super::log::Place;
use super::overlay::{Hit, Slot};
use super::state::State;
use super::steps::Step;
use super::{Ahead, Revision, StoreError};
use bytes::Bytes;
use std::ops::Bound;
use std::sync::Arc;
use zeolite_proto::{Cell, Tid};

// How often a read follows records that pack moves, before it gives up.
const MOVES_MAX: usize = 16;
// Rows of a cell that are newer than what is wanted, before a second seek costs less than going on.
const STEPS_MAX: usize = 4;

/// Reads the store; cheap to clone, all methods by `&self`, from any thread.
#[derive(Clone)]
pub struct Reader {
    pub(super) state: Arc<State>,
}

/// What an open store holds and does, for status pages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// The newest tid readers may see.
    pub published: Tid,
    /// The newest tid in the index.
    pub settled: Tid,
    /// Up to where history was packed.
    pub packed_to: Tid,
    /// Bytes of the log's current segments.
    pub log_bytes: u64,
    /// How many segments these are.
    pub segments: u64,
    /// Which index engine.
    pub index: &'static str,
    /// Why the index is not there at the moment, if so: it is made ready again.
    pub index_down: Option<String>,
    /// How many cut ends of the log are kept.
    pub torn: u64,
    /// Bytes of the index's files.
    pub index_bytes: u64,
    /// Transactions that wait for the index.
    pub unsettled_txns: u64,
    /// Memory they hold.
    pub unsettled_bytes: u64,
    /// Memory of the cache.
    pub cache_bytes: u64,
    /// Reads that the cache answered.
    pub cache_hits: u64,
    /// Reads that it did not.
    pub cache_misses: u64,
    /// Why nothing is appended any more, if so.
    pub poison: Option<String>,
}

/// A revision found, its record not yet fetched.
struct Found {
    tid: Tid,
    end: Option<Tid>,
    record: Stored,
    // Set when the revision is the newest in the index and may be cached.
    ticket: Option<Ticket>,
}

/// How far a look-up has come without the index.
enum Early {
    /// The answer; `None`: there is none.
    Known(Option<Found>),
    /// The index decides; what the overlay knows of newer revisions, and the ticket for the cache.
    Ask { next: Option<Tid>, ticket: Option<Ticket> },
}

impl Reader {
    pub(crate) fn new(state: Arc<State>) -> Reader {
        Reader { state }
    }

    /// What is kept beside the records.
    pub(crate) fn blobs(&self) -> &Arc<Blobs> {
        &self.state.blobs
    }

    /// The newest tid that readers may see. For a reply that must hold as of a tid, ask this *before* the read.
    pub fn published(&self) -> Tid {
        self.state.published()
    }

    /// The oldest snapshot that can be read.
    pub fn packed_to(&self) -> Tid {
        self.state.packed_to()
    }

    /// Up to where history is said to be packed by a restore whose transactions have not all come; else the same.
    pub fn packed_said(&self) -> Tid {
        self.state.packed_said()
    }

    /// Commit keys of transactions up to here may be missing: a restore has brought less than there was.
    pub fn keys_unknown_to(&self) -> Tid {
        self.state.keys_unknown_to()
    }

    /// The id of the store.
    pub fn store_id(&self) -> u64 {
        self.state.store_id
    }

    /// The timeline that is written to.
    pub fn timeline(&self) -> u64 {
        self.state.timelines.now()
    }

    /// Whether a tid is one that this log knows: of a transaction, of where a segment begins, or of where pack has been.
    pub fn knows(&self, tid: Tid) -> Result<bool, StoreError> {
        let ends = |tid| self.state.segments.current().iter().any(|segment| segment.header.base == tid);
        Ok(tid == self.packed_to() || ends(tid) || self.txn(tid)?.is_some())
    }

    /// The life that a tid is of.
    pub fn timeline_of(&self, tid: Tid) -> u64 {
        self.state.timelines.of_tid(tid)
    }

    /// The newest tid of another copy's life, up to one, that is the same here.
    pub fn shared_to(&self, timeline: u64, tid: Tid) -> Tid {
        self.state.timelines.shared_to(timeline, tid)
    }

    /// Whether what was so in a timeline as of a tid is so here.
    pub fn shares(&self, timeline: u64, tid: Tid) -> bool {
        self.state.timelines.share(timeline, tid)
    }

    /// What waits for the index, in bytes of memory: what the engine holds committers back by.
    pub fn unsettled_bytes(&self) -> u64 {
        self.state.overlay.bytes()
    }

    /// Whether these kinds (class and schema version) have a place, or which has none; with `keep` they have it from now on.
    pub fn number_kinds(&self, kinds: &mut dyn Iterator<Item = (&str, u32)>, keep: bool) -> Result<(), StoreError> {
        self.state.kinds.number(kinds, self.state.settings.kinds_max, keep)
    }

    /// What makes large transactions ready.
    pub fn ahead(&self) -> Ahead {
        Ahead::new(self.state.clone())
    }

    /// Numbers for status pages.
    pub fn stats(&self) -> Stats {
        let state = &self.state;
        let segments = state.segments.current();
        let (cache_hits, cache_misses) = state.cache.hits_and_misses();
        Stats {
            published: state.published(),
            settled: state.overlay.settled(),
            packed_to: state.packed_to(),
            log_bytes: segments.iter().map(|segment| segment.end()).sum(),
            segments: segments.len() as u64,
            index: state.settings.index.name(),
            index_down: state.index.failure().map(|failure| failure.what),
            torn: state.torn,
            index_bytes: state.index.size_bytes(),
            unsettled_txns: state.overlay.txns() as u64,
            unsettled_bytes: state.overlay.bytes(),
            cache_bytes: state.cache.bytes(),
            cache_hits,
            cache_misses,
            poison: state.poison.get().cloned(),
        }
    }

    /// The revision of a cell that a snapshot sees; `None`: none at or before `at`. A deletion is a revision.
    pub fn get(&self, cell: &Cell, at: Tid) -> Result<Option<Revision>, StoreError> {
        let found = self.get_unpacked(cell, at)?;
        self.check_packed(at)?;
        Ok(found)
    }

    /// The revision of a cell that a snapshot sees, pack or not, if memory knows it; `None`: only the disk does.
    pub fn peek(&self, cell: &Cell, at: Tid) -> Option<Option<Revision>> {
        let published = self.state.published();
        let Early::Known(found) = self.find_early(cell, at.min(published), published) else { return None };
        let Some(Found { tid, end, record, .. }) = found else { return Some(None) };
        let record = match record {
            Stored::Deleted => None,
            Stored::Inline(record) => Some(record),
            Stored::At(_) => return None,
        };
        Some(Some(Revision { tid, end, record }))
    }

    /// The revision that one transaction wrote, if it is still there.
    pub fn revision(&self, cell: &Cell, tid: Tid) -> Result<Option<Revision>, StoreError> {
        Ok(self.get_unpacked(cell, tid)?.filter(|revision| revision.tid == tid))
    }

    /// The revisions of a cell that are older than `before`, the newest first. What pack took is simply not there.
    pub fn history(&self, cell: &Cell, before: Tid, limit: usize) -> Result<Vec<Revision>, StoreError> {
        let at = before.prev().min(self.state.published());
        if before == Tid::NONE || limit == 0 {
            return Ok(Vec::new());
        }
        let mut tids = Vec::new();
        let overlay = (keys_bound(cell, at), keys_bound(cell, Tid::NONE));
        self.state.overlay.visit(overlay.0, overlay.1, false, |key, _| {
            tids.push(key.tid());
            tids.len() < limit
        });
        let view = self.state.index.view()?;
        let (from, to) = (keys::revision(cell, at), keys::after_cell(cell.oid, &cell.key));
        let mut rows = 0;
        view.range(Table::Revisions, Bound::Included(&from), Bound::Excluded(&to), false, &mut |key, _| {
            tids.extend(keys::tid_of(key));
            rows += 1;
            rows < limit
        })?;
        drop(view);
        tids.sort_unstable_by(|a, b| b.cmp(a));
        tids.dedup();
        tids.truncate(limit);
        let mut out: Vec<Revision> = Vec::with_capacity(tids.len());
        for tid in tids {
            // One that pack takes meanwhile is left out.
            out.extend(self.revision(cell, tid)?);
        }
        Ok(out)
    }

    fn check_packed(&self, at: Tid) -> Result<(), StoreError> {
        let packed_to = self.state.packed_to();
        if at < packed_to { Err(StoreError::Packed { asked: at, packed_to }) } else { Ok(()) }
    }

    // `get` without regard to pack.
    fn get_unpacked(&self, cell: &Cell, at: Tid) -> Result<Option<Revision>, StoreError> {
        for _ in 0..MOVES_MAX {
            let published = self.state.published();
            let upto = at.min(published);
            let found = match self.find_early(cell, upto, published) {
                Early::Known(found) => found,
                Early::Ask { next, ticket } => {
                    let view = self.state.index.view()?;
                    self.find_in_index(view.as_ref(), cell, upto, published, next, ticket)?
                }
            };
            if let Ok(revision) = self.fetch(cell, found)? {
                return Ok(revision);
            }
        }
        Err(moved_too_often(cell))
    }

    // Overlay and cache. Every view of the index that follows it is begun later.
    fn find_early(&self, cell: &Cell, at: Tid, published: Tid) -> Early {
        let state = &self.state;
        let Hit { revision, next } = state.overlay.find(cell, at, published);
        if let Some((tid, slot)) = revision
            && tid > state.overlay.settled()
        {
            return Early::Known(Some(Found { tid, end: next, record: stored(&slot), ticket: None }));
        }
        if cell.oid.0 > state.index_oid_max() {
            return Early::Known(None);
        }
        match state.cache.get(cell) {
            Ok(newest) if newest.tid <= at => {
                let record = newest.record.map_or(Stored::Deleted, Stored::Inline);
                Early::Known(Some(Found { tid: newest.tid, end: next, record, ticket: None }))
            }
            Ok(_) => Early::Ask { next, ticket: None },
            Err(ticket) => Early::Ask { next, ticket: Some(ticket) },
        }
    }

    fn find_in_index(
        &self,
        view: &dyn View,
        cell: &Cell,
        at: Tid,
        published: Tid,
        next: Option<Tid>,
        ticket: Option<Ticket>,
    ) -> Result<Option<Found>, StoreError> {
        let Some(row) = row_at(view, cell, at)? else { return Ok(None) };
        // The nearest newer revision of either, if it may be seen: the nearest of all is in one of them.
        let newer = [next, row.newer].into_iter().flatten().filter(|tid| *tid <= published && *tid > row.tid);
        Ok(Some(Found {
            tid: row.tid,
            end: newer.min(),
            record: row.record,
            ticket: ticket.filter(|_| row.newer.is_none()),
        }))
    }

    // Brings the record; `Err(Moved)`: pack has moved it, look again.
    fn fetch(&self, cell: &Cell, found: Option<Found>) -> Result<Result<Option<Revision>, Moved>, StoreError> {
        let Some(Found { tid, end, record, ticket }) = found else { return Ok(Ok(None)) };
        let Some(record) = self.record(record)? else { return Ok(Err(Moved)) };
        if let Some(ticket) = ticket {
            self.state.overlay.steps.at(Step::BeforeInsertion);
            self.state.cache.insert(cell, ticket, Newest { tid, record: record.clone() });
        }
        Ok(Ok(Some(Revision { tid, end, record })))
    }

    // The bytes of a record (`Some(None)`: deleted); `None`: its generation of the segment is gone.
    #[expect(clippy::option_option, reason = "gone and deleted are different answers")]
    fn record(&self, stored: Stored) -> Result<Option<Option<Bytes>>, StoreError> {
        match stored {
            Stored::Deleted => Ok(Some(None)),
            Stored::Inline(record) => Ok(Some(Some(record))),
            Stored::At(place) => Ok(self.read(&place)?.map(Some)),
        }
    }

    fn read(&self, place: &Place) -> Result<Option<Bytes>, StoreError> {
        let segment = self.state.segments.find(place.segment, place.generation);
        segment.map(|segment| segment.record(place)).transpose()
    }
}

/// The record lies elsewhere now.
struct Moved;

fn moved_too_often(cell: &Cell) -> StoreError {
    StoreError::Index(format!("the record of {cell} points to a segment that is not there"))
}

fn stored(slot: &Slot) -> Stored {
    match (&slot.record, slot.place) {
        (Some(record), _) => Stored::Inline(record.clone()),
        (None, Some(place)) => Stored::At(place),
        (None, None) => Stored::Deleted,
    }
}

fn keys_bound(cell: &Cell, tid: Tid) -> Bound<super::overlay::RevisionKey> {
    Bound::Included(super::overlay::RevisionKey::new(cell.clone(), tid))
}

/// A row of the index, and the tid of the next newer one there.
struct Row {
    tid: Tid,
    newer: Option<Tid>,
    record: Stored,
}

// The newest row of a cell up to a tid.
fn row_at(view: &dyn View, cell: &Cell, at: Tid) -> Result<Option<Row>, StoreError> {
    let (first, end) = (keys::cell(cell), keys::after_cell(cell.oid, &cell.key));
    let (mut newer, mut steps, mut found, mut bad) = (None, 0, None, false);
    let mut take = |key: &[u8], value: &[u8], newer: &mut Option<Tid>, found: &mut Option<Row>| {
        let Some(tid) = keys::tid_of(key) else {
            bad = true;
            return false;
        };
        if tid > at {
            *newer = Some(tid);
            return true;
        }
        match rows::Revision::parse(value) {
            Some(row) => *found = Some(Row { tid, newer: *newer, record: row.record }),
            None => bad = true,
        }
        false
    };
    view.range(Table::Revisions, Bound::Included(&first), Bound::Excluded(&end), false, &mut |key, value| {
        steps += 1;
        take(key, value, &mut newer, &mut found) && steps < STEPS_MAX
    })?;
    if found.is_none() && newer.is_some() && steps >= STEPS_MAX {
        // Many newer ones: seek, then look back for the nearest newer one.
        let from = keys::revision(cell, at);
        view.range(Table::Revisions, Bound::Included(&from), Bound::Excluded(&end), false, &mut |key, value| {
            take(key, value, &mut newer, &mut found)
        })?;
        let mut nearest = None;
        view.range(Table::Revisions, Bound::Included(&first), Bound::Excluded(&from), true, &mut |key, _| {
            nearest = keys::tid_of(key);
            false
        })?;
        if let Some(row) = &mut found {
            row.newer = nearest;
        }
    }
    if bad { Err(bad_row(Table::Revisions)) } else { Ok(found) }
}
