//! Owns the log's side of verify: every batch is read and checked, and each revision in it looked up in the index.

use super::tally::Tally;
use super::{Verified, VerifyStage, VerifyStepper};
use crate::store::TxnWrite;
use crate::store::frame::{ParsedTxn, RecordAt, SEGMENT_HEADER_LEN};
use crate::store::index::rows::{self, Revision, Stored};
use crate::store::index::{Table, View, keys};
use crate::store::log::batches::{Batch, Batches};
use crate::store::log::segments::Segment;
use crate::store::log::{Place, Position};
use crate::store::state::State;
use crate::store::{KnownKey, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use zeolite_proto::record::Header;
use zeolite_proto::{CommitKey, Tid, hash};

// So much log between two reports.
const STEP_BYTES: u64 = 1 << 20;

/// What the log has.
pub(super) struct LogSide {
    pub(super) tally: Tally,
    /// Segments of which not everything could be read: what the index has of them cannot be judged. First and last tid.
    pub(super) unread: Vec<(Tid, Tid)>,
}

/// The comparison on its way.
struct Comparison<'a> {
    state: &'a State,
    upto: Tid,
    found: &'a mut Verified,
    log: LogSide,
    // The commit keys that the index has, by tid; those that were met are taken out.
    keys: hash::Map<Tid, CommitKey>,
    // Where the index says that batches of this segment begin; those that were met are taken out.
    places: BTreeMap<u64, Tid>,
}

/// Reads everything up to a tid.
pub(super) fn compare(
    state: &State,
    upto: Tid,
    found: &mut Verified,
    step: &mut VerifyStepper<'_>,
) -> Result<LogSide, StoreError> {
    let log = LogSide { tally: Tally::default(), unread: Vec::new() };
    let keys = keys_of(state, found)?;
    let segments = state.segments.current();
    let all: u64 = segments.iter().map(|segment| segment.end()).sum();
    let mut comparison = Comparison { state, upto, found, log, keys, places: BTreeMap::new() };
    let (mut before, mut last) = (0, Tid::NONE);
    for (at, segment) in segments.iter().enumerate() {
        let next = segments.get(at + 1).map(|next| next.header.base);
        comparison.order(segment, last);
        last = comparison.segment(segment, next, &mut |done| step(VerifyStage::Log, before + done, all))?;
        before += segment.end();
    }
    let Comparison { found, log, keys, .. } = comparison;
    let packed_to = state.packed_to();
    let mut lost: Vec<_> = keys.into_iter().filter(|(tid, _)| *tid > packed_to && *tid <= upto).collect();
    lost.retain(|(tid, _)| !log.unread.iter().any(|(first, last)| first <= tid && tid <= last));
    lost.sort_unstable();
    for (tid, key) in lost {
        found.problem(|| {
            format!("the index has the commit key {key:?} of transaction {tid}, which the log does not have")
        });
    }
    Ok(log)
}

// The commit keys in the index; a key that is there twice could commit twice.
fn keys_of(state: &State, found: &mut Verified) -> Result<hash::Map<Tid, CommitKey>, StoreError> {
    let mut all = hash::Map::default();
    let mut by_key: hash::Map<CommitKey, Tid> = hash::Map::default();
    let view = state.index.view()?;
    view.range(Table::Keys, Bound::Unbounded, Bound::Unbounded, false, &mut |_, row| {
        let Some(keys) = rows::parse_keys(row) else {
            found.problem(|| "a row of commit keys in the index cannot be read; run `zeolite reindex`".to_owned());
            return true;
        };
        for KnownKey { key, tid, .. } in keys {
            all.insert(tid, key);
            // What was imported may have no keys.
            if key != CommitKey([0; 16])
                && let Some(other) = by_key.insert(key, tid)
            {
                found.problem(|| format!("transactions {other} and {tid} have the same commit key"));
            }
        }
        true
    })?;
    Ok(all)
}

impl Comparison<'_> {
    fn order(&mut self, segment: &Segment, last: Tid) {
        let (number, base) = (segment.header.number, segment.header.base);
        if base < last {
            self.found.problem(|| format!("segment {number} says that {base} was before it, but {last} was"));
        }
    }

    // Compares one segment; its last tid. What cannot be read is a problem, and the next segment goes on.
    fn segment(
        &mut self,
        segment: &Arc<Segment>,
        next_base: Option<Tid>,
        step: &mut dyn FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<Tid, StoreError> {
        let base = segment.header.base;
        let to = next_base.unwrap_or(self.upto);
        self.places = self.places_of(segment, to)?;
        let mut batches = Batches::new(segment.clone(), SEGMENT_HEADER_LEN as u64, base);
        let (mut told, mut whole) = (0, true);
        loop {
            match batches.next() {
                Ok(Some(batch)) if batch.txns.first().is_none_or(|first| first.txn.tid <= self.upto) => {
                    self.batch(segment, batch)?;
                }
                Ok(_) => break,
                Err(stop) => {
                    let error = stop.damage(segment);
                    self.log.unread.push((batches.last().next(), to));
                    self.found.problem(|| error.to_string());
                    self.places.clear();
                    whole = false;
                    break;
                }
            }
            if batches.at() >= told + STEP_BYTES {
                told = batches.at();
                step(told)?;
            }
        }
        for (offset, tid) in std::mem::take(&mut self.places) {
            let number = segment.header.number;
            self.found.problem(|| {
                format!("the index says that a batch with {tid} begins in segment {number} at {offset}; run `zeolite reindex`")
            });
        }
        // The next one's base is the last of this one, unless pack took the end.
        if whole
            && segment.header.packed_to == Tid::NONE
            && let Some(next) = next_base.filter(|next| *next <= self.upto && *next != batches.last())
        {
            let (number, last) = (segment.header.number, batches.last());
            self.found.problem(|| {
                format!("segment {number} ends with {last}, but the next one says that {next} was before it")
            });
        }
        Ok(batches.last())
    }

    fn places_of(&self, segment: &Segment, to: Tid) -> Result<BTreeMap<u64, Tid>, StoreError> {
        let mut places = BTreeMap::new();
        let header = &segment.header;
        let (from, end) = (rows::tid_key(header.base), rows::tid_key(to.min(self.upto)));
        if from >= end {
            return Ok(places);
        }
        let view = self.state.index.view()?;
        view.range(Table::Places, Bound::Excluded(&from), Bound::Included(&end), false, &mut |key, row| {
            let tid = key.first_chunk::<8>().map_or(Tid::NONE, |tid| Tid(u64::from_be_bytes(*tid)));
            let here = |at: &Position| (at.segment, at.generation) == (header.number, header.generation);
            // One that is elsewhere, or cannot be read, names no batch: it is left over.
            places.insert(rows::parse_position(row).filter(here).map_or(0, |position| position.offset), tid);
            true
        })?;
        Ok(places)
    }

    fn batch(&mut self, segment: &Segment, batch: Batch) -> Result<(), StoreError> {
        let first = batch.txns.first().map(|parsed| parsed.txn.tid);
        if self.places.get(&batch.position.offset).copied() == first {
            self.places.remove(&batch.position.offset);
        }
        let view = self.state.index.view()?;
        for parsed in batch.txns {
            if parsed.txn.tid <= self.upto {
                self.txn(view.as_ref(), segment, batch.position, parsed)?;
            }
        }
        Ok(())
    }

    fn txn(
        &mut self,
        view: &dyn View,
        segment: &Segment,
        batch: Position,
        parsed: ParsedTxn,
    ) -> Result<(), StoreError> {
        let ParsedTxn { txn, records } = parsed;
        self.found.transactions += 1;
        if let Some(key) = self.keys.remove(&txn.tid)
            && key != txn.key
        {
            self.found.problem(|| format!("the index has another commit key of transaction {} than the log", txn.tid));
        }
        for (write, record) in txn.writes.iter().zip(records) {
            self.found.revisions += 1;
            self.log.tally.add(&write.cell, txn.tid);
            let place = record.map(|record| Place::of(batch, record));
            let row = view.get(Table::Revisions, &keys::revision(&write.cell, txn.tid))?;
            let wrong = wrong_record(write, record).or_else(|| self.wrong_row(write, place, row));
            if let Some(what) = wrong {
                let (number, offset) = (segment.header.number, batch.offset);
                let (cell, tid) = (&write.cell, txn.tid);
                self.found
                    .problem(|| format!("revision {tid} of {cell} (segment {number}, batch at {offset}): {what}"));
            }
        }
        Ok(())
    }

    // What is wrong with a row of the index; `None`: nothing.
    fn wrong_row(&self, write: &TxnWrite, place: Option<Place>, row: Option<Vec<u8>>) -> Option<String> {
        let Some(row) = row else { return Some("the index does not have it; run `zeolite reindex`".to_owned()) };
        let Some(row) = Revision::parse(&row) else {
            return Some("its row in the index cannot be read; run `zeolite reindex`".to_owned());
        };
        let same = match (&row.record, &write.record) {
            (Stored::Deleted, None) => true,
            (Stored::Inline(held), Some(record)) => held == record,
            (Stored::At(at), Some(_)) => Some(*at) == place,
            _ => false,
        };
        if !same {
            return Some("the index has something else; run `zeolite reindex`".to_owned());
        }
        let header = Header::parse(write.record.as_deref()?).ok()?;
        let kind = self.state.kinds.kind(row.kind);
        let fits = kind.is_some_and(|kind| kind.class.as_ref() == header.class && kind.version == header.version);
        let names = (header.refs().len() > 0, header.blobs().len() > 0);
        (!fits || (row.has_refs, row.has_blobs) != names).then(|| {
            "the index has another class, version, or no references or blobs; run `zeolite reindex`".to_owned()
        })
    }
}

// What is wrong with a record itself.
fn wrong_record(write: &TxnWrite, at: Option<RecordAt>) -> Option<String> {
    let record: &Bytes = write.record.as_ref()?;
    if at.is_none_or(|at| crc32fast::hash(record) != at.crc) {
        return Some("its checksum does not fit; restore this segment from a backup".to_owned());
    }
    Header::parse(record).err().map(|error| format!("{error}; restore this segment from a backup"))
}
