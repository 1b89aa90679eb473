//! Owns the turning of transactions into index changes: the settler and recovery feed it the same way, so that an index
//! that was rebuilt is the one that was kept.
//!
//! Beside the revisions it keeps the exact counts of live objects of each kind: for each plain cell that a draft touches
//! it looks up once what the object was before, and at the end compares that with what it is then.

mod packing;

use super::live::LiveIndex;
use super::rows::{self, Covered, Revision};
use super::{Change, Table, View, bad_row, keys, live_kind};
use crate::store::kinds::{KindId, Kinds};
use crate::store::log::batches::Batch;
use crate::store::log::{Place, Position};
use crate::store::overlay::{Slot, Slots, Unsettled};
use crate::store::settings::StoreSettings;
use crate::store::{KnownKey, StoreError};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use zeolite_proto::{Cell, CommitKey, Oid, Tid, hash};

// One row of `Places` for so much log: finding a tid reads at most this and one batch.
const PLACE_EVERY_BYTES: u64 = 64 << 10;
// What a change may cost on the disk: a page of a tree. Many share pages, and what finds no room after all is kept in
// memory for a while, so more than the second number is not asked for.
const CHANGE_BYTES: u64 = 4 << 10;
const ROOM_BYTES_MAX: u64 = 32 << 20;

/// Knows what the index holds, and what is to be written next. There is one per open index.
pub(crate) struct IndexWriter {
    // Of entries, and of plain objects.
    inline_max: (usize, usize),
    keys_count_max: u64,
    keys_age_ms: u64,
    covered: Covered,
    // In which generations of segments records are found, where it is not generation 0.
    generations: BTreeSet<(u32, u16)>,
    // Whether the index says so already.
    generations_saved: bool,
    // For how long servers have run on the store.
    lived_ms: u64,
    // Keys up to here are said to be unknown by the next commit.
    keys_forgotten: Tid,
    counts: hash::Map<KindId, u64>,
    chunks: VecDeque<KeyChunk>,
    place: Option<Position>,
    // In the index, and not durably.
    unsaved_bytes: u64,
    unsaved_revisions: u64,
    checkpoint: (u64, u64),
}

// A row of `Keys`.
#[derive(Clone, Copy)]
struct KeyChunk {
    first: Tid,
    last: Tid,
    count: u64,
    // How old the store was.
    lived_ms: u64,
}

/// Changes on their way into the index. Nothing of the writer changes before they are committed.
pub(crate) struct Draft {
    revisions: Vec<Change>,
    // Kinds that the rows name for the first time.
    kinds_new: hash::Set<KindId>,
    objects: hash::Map<Oid, Fate>,
    places: Vec<Change>,
    keys: Vec<KnownKey>,
    covered: Covered,
    // The generations of segments from now on, when they change.
    generations: Option<BTreeSet<(u32, u16)>>,
    place: Option<Position>,
    log_bytes: u64,
    lived_ms: u64,
}

// What an object was before the draft and is after it.
struct Fate {
    before: Option<KindId>,
    after: Option<KindId>,
}

impl IndexWriter {
    /// Reads what an index holds. `None`: nothing yet, or not in this format.
    pub(crate) fn load(
        view: &dyn View,
        settings: &StoreSettings,
        kinds: &Kinds,
    ) -> Result<Option<IndexWriter>, StoreError> {
        let Some(covered) = view.get(Table::Meta, rows::COVERED)?.and_then(|row| Covered::parse(&row)) else {
            return Ok(None);
        };
        let mut generations = BTreeSet::new();
        view.range(Table::Meta, Bound::Unbounded, Bound::Unbounded, false, &mut |key, _| {
            generations.extend(rows::parse_generation(key));
            true
        })?;
        let mut writer = IndexWriter::new(covered, generations, settings);
        writer.generations_saved = true;
        let mut bad = None;
        view.range(Table::Kinds, Bound::Unbounded, Bound::Unbounded, false, &mut |key, row| {
            match rows::parse_kind(key, row) {
                Some((id, kind, objects)) => {
                    kinds.load(id, kind);
                    writer.counts.insert(id, objects);
                }
                None => bad = Some(Table::Kinds),
            }
            bad.is_none()
        })?;
        view.range(Table::Keys, Bound::Unbounded, Bound::Unbounded, false, &mut |_, row| {
            match rows::parse_keys(row).as_deref() {
                Some(keys) => writer.chunks.extend(KeyChunk::of(keys)),
                None => bad = Some(Table::Keys),
            }
            bad.is_none()
        })?;
        match bad {
            Some(table) => Err(bad_row(table)),
            None => Ok(Some(writer)),
        }
    }

    /// A writer of an index that holds nothing but says where it begins.
    pub(crate) fn new(covered: Covered, generations: BTreeSet<(u32, u16)>, settings: &StoreSettings) -> IndexWriter {
        IndexWriter {
            inline_max: (settings.inline_bytes_max, settings.inline_object_bytes_max.min(settings.inline_bytes_max)),
            keys_count_max: settings.keys_count_max,
            keys_age_ms: settings.keys_age_s.saturating_mul(1000),
            lived_ms: covered.lived_ms,
            keys_forgotten: covered.keys_floor,
            covered,
            generations,
            generations_saved: false,
            counts: hash::Map::default(),
            chunks: VecDeque::new(),
            place: None,
            unsaved_bytes: 0,
            unsaved_revisions: 0,
            checkpoint: (settings.checkpoint_log_bytes, settings.checkpoint_revisions),
        }
    }

    /// What the index covers.
    pub(crate) fn covered(&self) -> &Covered {
        &self.covered
    }

    /// This one takes the place of another, of which this is kept: what was forgotten, and what was packed.
    pub(crate) fn go_on_from(&mut self, other: &Covered, packed_to: Tid) {
        let now = &mut self.covered;
        now.packed_to = now.packed_to.max(packed_to);
        now.keys_floor = now.keys_floor.max(other.keys_floor);
        now.lived_ms = now.lived_ms.max(other.lived_ms);
        self.lived_ms = now.lived_ms;
    }

    /// In which generations of segments records are found, where it is not generation 0.
    pub(crate) fn generations(&self) -> &BTreeSet<(u32, u16)> {
        &self.generations
    }

    /// Servers have run on the store for so long; it never goes back.
    pub(crate) fn set_lived(&mut self, lived_ms: u64) {
        self.lived_ms = self.lived_ms.max(lived_ms);
    }

    /// Commit keys of transactions up to a tid may be unknown: the next commit says so.
    pub(crate) fn forget_keys(&mut self, to: Tid) {
        self.keys_forgotten = self.keys_forgotten.max(to);
    }

    /// Whether enough is in the index, but not durably, together with a draft of so much log and so many revisions.
    pub(crate) fn is_checkpoint_due(&self, log_bytes: u64, revisions: usize) -> bool {
        let (bytes_max, revisions_max) = self.checkpoint;
        self.unsaved_bytes + log_bytes >= bytes_max || self.unsaved_revisions + revisions as u64 >= revisions_max
    }

    /// An empty draft.
    pub(crate) fn draft(&self) -> Draft {
        Draft {
            revisions: Vec::new(),
            kinds_new: hash::Set::default(),
            objects: hash::Map::default(),
            places: Vec::new(),
            keys: Vec::new(),
            covered: self.covered,
            generations: None,
            place: self.place,
            log_bytes: 0,
            lived_ms: self.lived_ms,
        }
    }

    /// Takes a batch of the log into a draft; `view` is the index as it was when the draft was begun, `slots` say what a write is.
    pub(crate) fn add_batch(
        &self,
        draft: &mut Draft,
        view: &dyn View,
        batch: &Batch,
        slots: &Slots<'_>,
    ) -> Result<(), StoreError> {
        draft.batch(batch.position, batch.len, batch.first(), batch.last);
        for parsed in &batch.txns {
            draft.key(&parsed.txn.key, parsed.txn.digest, parsed.txn.tid);
            for (write, record) in parsed.txn.writes.iter().zip(&parsed.records) {
                let place = record.map(|record| Place::of(batch.position, record));
                self.add(draft, view, &write.cell, parsed.txn.tid, &slots.slot(write, place))?;
            }
        }
        Ok(())
    }

    /// The same of a batch that waits in memory.
    pub(crate) fn add_waiting(&self, draft: &mut Draft, view: &dyn View, batch: &Unsettled) -> Result<(), StoreError> {
        draft.batch(batch.position, batch.len, batch.first, batch.last);
        for txn in &batch.txns {
            draft.key(&txn.key, txn.digest, txn.tid);
            txn.each(|cell, slot| self.add(draft, view, cell, txn.tid, slot))?;
        }
        Ok(())
    }

    /// Takes a revision into a draft; `view` is the index as it was when the draft was begun.
    pub(crate) fn add(
        &self,
        draft: &mut Draft,
        view: &dyn View,
        cell: &Cell,
        tid: Tid,
        slot: &Slot,
    ) -> Result<(), StoreError> {
        let inline_max = if cell.is_object() { self.inline_max.1 } else { self.inline_max.0 };
        let row = Revision::of(slot, inline_max).encode();
        draft.revisions.push((Table::Revisions, keys::revision(cell, tid), Some(row)));
        if slot.kind != KindId::NONE && !self.counts.contains_key(&slot.kind) {
            draft.kinds_new.insert(slot.kind);
        }
        if cell.is_object() {
            let after = slot.place.map(|_| slot.kind);
            match draft.objects.get_mut(&cell.oid) {
                Some(fate) => fate.after = after,
                None => {
                    let new = cell.oid.0 > self.covered.oid_max;
                    let before = if new { None } else { live_kind(view, cell)? };
                    draft.objects.insert(cell.oid, Fate { before, after });
                }
            }
        }
        draft.covered.oid_max = draft.covered.oid_max.max(cell.oid.0);
        Ok(())
    }

    /// Commits a draft. On an error the index and the writer are as before.
    pub(crate) fn commit(
        &mut self,
        index: &LiveIndex,
        kinds: &Kinds,
        draft: Draft,
        durable: bool,
    ) -> Result<(), StoreError> {
        let Draft {
            mut revisions, kinds_new, objects, places, keys, mut covered, generations, place, log_bytes, ..
        } = draft;
        let count = revisions.len() as u64;
        index.make_room((count * CHANGE_BYTES).min(ROOM_BYTES_MAX))?;
        // Also a kind that no object has now: the rows of entries and of older revisions name it.
        let mut deltas: hash::Map<KindId, i64> = kinds_new.into_iter().map(|kind| (kind, 0)).collect();
        revisions.extend(places);
        for (oid, fate) in objects.into_iter().filter(|(_, fate)| fate.before != fate.after) {
            if let Some(kind) = fate.before {
                *deltas.entry(kind).or_default() -= 1;
                revisions.push((Table::Objects, keys::object(kind.0, oid), None));
            }
            if let Some(kind) = fate.after {
                *deltas.entry(kind).or_default() += 1;
                revisions.push((Table::Objects, keys::object(kind.0, oid), Some(Vec::new())));
            }
        }
        let counts: Vec<_> = deltas
            .iter()
            .map(|(id, delta)| (*id, self.counts.get(id).copied().unwrap_or(0).saturating_add_signed(*delta)))
            .collect();
        for (id, count) in &counts {
            let kind = kinds.kind(*id).ok_or_else(|| bad_row(Table::Kinds))?;
            let row = rows::encode_kind(&kind, *count);
            revisions.push((Table::Kinds, id.0.to_be_bytes().to_vec(), Some(row)));
        }
        let (chunk, dropped) = self.keys_window(&keys, &mut revisions);
        let forgotten = self.chunks.iter().take(dropped).map(|chunk| chunk.last).max();
        covered.keys_floor = covered.keys_floor.max(self.keys_forgotten).max(forgotten.unwrap_or(Tid::NONE));
        covered.lived_ms = self.lived_ms;
        self.name_generations(generations.as_ref(), &mut revisions);
        revisions.push((Table::Meta, rows::COVERED.to_vec(), Some(covered.encode())));
        revisions.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        index.commit(&revisions, durable)?;
        self.counts.extend(counts);
        self.chunks.drain(..dropped);
        self.chunks.extend(chunk);
        self.covered = covered;
        self.generations = generations.unwrap_or_else(|| std::mem::take(&mut self.generations));
        self.generations_saved = true;
        self.place = place;
        let unsaved = (self.unsaved_bytes + log_bytes, self.unsaved_revisions + count);
        (self.unsaved_bytes, self.unsaved_revisions) = if durable { (0, 0) } else { unsaved };
        Ok(())
    }

    /// Makes everything committed durable.
    pub(crate) fn checkpoint(&mut self, index: &LiveIndex) -> Result<(), StoreError> {
        index.make_room(CHANGE_BYTES)?;
        let keys_floor = self.covered.keys_floor.max(self.keys_forgotten);
        let covered = Covered { lived_ms: self.lived_ms, keys_floor, ..self.covered };
        index.commit(&[(Table::Meta, rows::COVERED.to_vec(), Some(covered.encode()))], true)?;
        self.covered = covered;
        (self.unsaved_bytes, self.unsaved_revisions) = (0, 0);
        Ok(())
    }

    // The rows that say in which generations records are found.
    fn name_generations(&self, next: Option<&BTreeSet<(u32, u16)>>, changes: &mut Vec<Change>) {
        let none = BTreeSet::new();
        let saved = if self.generations_saved { &self.generations } else { &none };
        let next = next.unwrap_or(&self.generations);
        let mut row = |(number, generation): &(u32, u16), value| {
            changes.push((Table::Meta, rows::generation_key(*number, *generation), value));
        };
        saved.difference(next).for_each(|gone| row(gone, None));
        next.difference(saved).for_each(|new| row(new, Some(Vec::new())));
    }

    // Adds the row of the new keys and removes those that fell out of the window: by number, or by age.
    fn keys_window(&self, keys: &[KnownKey], changes: &mut Vec<Change>) -> (Option<KeyChunk>, usize) {
        let oldest_ms = self.lived_ms.saturating_sub(self.keys_age_ms);
        let mut left: u64 = self.chunks.iter().map(|chunk| chunk.count).sum::<u64>() + keys.len() as u64;
        let mut dropped = 0;
        for chunk in &self.chunks {
            if left - chunk.count < self.keys_count_max && chunk.lived_ms >= oldest_ms {
                break;
            }
            changes.push((Table::Keys, rows::tid_key(chunk.first), None));
            left -= chunk.count;
            dropped += 1;
        }
        let chunk = KeyChunk::of(keys).inspect(|chunk| {
            let row = rows::encode_keys(chunk.lived_ms, keys);
            changes.push((Table::Keys, rows::tid_key(chunk.first), Some(row)));
        });
        (chunk, dropped)
    }
}

impl KeyChunk {
    fn of(keys: &[KnownKey]) -> Option<KeyChunk> {
        let (first, last) = keys.first().zip(keys.last())?;
        Some(KeyChunk { first: first.tid, last: last.tid, count: keys.len() as u64, lived_ms: first.lived_ms })
    }
}

impl Draft {
    /// Takes a batch as covered: where it lies, how long it is, its first and last tid and where the next one begins.
    pub(crate) fn batch(&mut self, at: Position, len: u64, first: Tid, last: Tid) {
        let near = self.place.is_some_and(|place| {
            (place.segment, place.generation) == (at.segment, at.generation)
                && at.offset < place.offset + PLACE_EVERY_BYTES
        });
        if !near {
            self.places.push((Table::Places, rows::tid_key(first), Some(rows::encode_position(at))));
            self.place = Some(at);
        }
        self.covered.position = Position { offset: at.offset + len, ..at };
        self.covered.last = last;
        self.log_bytes += len;
    }

    /// Takes a transaction's commit key.
    pub(crate) fn key(&mut self, key: &CommitKey, digest: u64, tid: Tid) {
        self.keys.push(KnownKey { key: *key, digest, tid, lived_ms: self.lived_ms });
    }

    /// How many revisions it has.
    pub(crate) fn len(&self) -> usize {
        self.revisions.len()
    }

    /// How much log it covers.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes
    }
}
