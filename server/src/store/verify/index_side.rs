//! Owns the index's side of verify: its revisions against the log's sums, and the lists and counts of objects that must follow from
//! them.
//!
//! ```text
//!   revisions   a piece ── its objects' rows in the lists, under the same view ── the next piece ...     sums over all pieces
//!   lists       a kind ── its count, under the same view ── the next kind ...
//! ```
//! Commits go on meanwhile, and a view that lasts keeps every page that they replace: a long one would double the index. So each
//! is of some thousand rows, and what is compared with each other is read under one. Revisions up to where verify looks do not
//! change (no pack runs), so their sums may be of many moments.

use super::log_side::LogSide;
use super::tally::{Tally, bucket_of, mixed};
use super::{Verified, VerifyStage, VerifyStepper};
use crate::store::StoreError;
use crate::store::index::rows::{self, Revision};
use crate::store::index::{Table, View, bad_row, keys};
use crate::store::kinds::KindId;
use crate::store::reader::Reader;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use zeolite_proto::{Cell, Oid, Tid};

// Rows of revisions under one view.
const VIEW_ROWS: usize = if cfg!(test) { 16 } else { 50_000 };

// Transactions that are looked at one by one.
const SUSPECTS_MAX: usize = 100_000;

/// The objects of a kind: how many, and the sum of their mixed oids.
type Objects = BTreeMap<KindId, (u64, u64)>;

/// Goes over the index.
pub(super) fn compare(
    reader: &Reader,
    log: &LogSide,
    found: &mut Verified,
    step: &mut VerifyStepper<'_>,
) -> Result<(), StoreError> {
    let mut side = IndexSide::default();
    let (mut from, mut rows) = (Vec::new(), 0);
    while let Some(next) = side.piece(reader, &from, found)? {
        from = next;
        rows += VIEW_ROWS as u64;
        step(VerifyStage::Index, rows, found.revisions.max(rows))?;
    }
    let IndexSide { tally, objects, listed, .. } = side;
    let differing: BTreeSet<usize> = tally.differing(&log.tally).into_iter().collect();
    if !differing.is_empty() {
        unknown_to_the_log(reader, log, &differing, found)?;
    }
    let named = lists(&objects, &listed, found);
    found.objects = objects.values().map(|(count, _)| count).sum();
    counts(reader, &named, found)
}

/// What was found up to where the pieces have come.
#[derive(Default)]
struct IndexSide {
    tally: Tally,
    objects: Objects,
    listed: Objects,
    /// The last object of which something was in a piece; all before it are in the sums.
    last: Option<Oid>,
}

impl IndexSide {
    // Adds up the next revisions, what the newest of each object says, and which of these objects are listed; where to go on.
    fn piece(&mut self, reader: &Reader, from: &[u8], found: &mut Verified) -> Result<Option<Vec<u8>>, StoreError> {
        let view = reader.state.index.view()?;
        let (before, mut rows, mut next) = (self.last, 0, None);
        view.range(Table::Revisions, Bound::Included(from), Bound::Unbounded, false, &mut |key, row| {
            rows += 1;
            if rows >= VIEW_ROWS {
                // The key directly behind this one.
                next = Some([key, &[0]].concat());
            }
            self.revision(key, row, found);
            next.is_none()
        })?;
        let to = if next.is_some() { self.last } else { Some(Oid(u64::MAX)) };
        self.list(view.as_ref(), (before, to), found)?;
        Ok(next)
    }

    fn revision(&mut self, key: &[u8], row: &[u8], found: &mut Verified) {
        let (Some((cell, tid)), Some(_)) = (keys::parse_revision(key), Revision::parse(row)) else {
            return found.problem(|| "a row of the index cannot be read; run `zeolite reindex`".to_owned());
        };
        if tid <= found.upto {
            self.tally.add(&cell, tid);
        }
        // Of an object its own record comes before its entries, and the newest first.
        if self.last.replace(cell.oid) != Some(cell.oid)
            && cell.is_object()
            && let Some(kind) = Revision::live_kind(row)
        {
            add(&mut self.objects, kind, cell.oid);
        }
    }

    // Which objects behind one and up to another are listed.
    fn list(
        &mut self,
        view: &dyn View,
        (behind, to): (Option<Oid>, Option<Oid>),
        found: &mut Verified,
    ) -> Result<(), StoreError> {
        let first = behind.map_or(Some(0), |oid| oid.0.checked_add(1));
        let (Some(first), Some(to)) = (first, to) else { return Ok(()) };
        for kind in kinds_listed(view)? {
            let (from, to) = (keys::object(kind.0, Oid(first)), keys::object(kind.0, to));
            view.range(Table::Objects, Bound::Included(&from), Bound::Included(&to), false, &mut |key, _| {
                match rows::object_oid(key) {
                    Some(oid) => add(&mut self.listed, kind, oid),
                    None => found
                        .problem(|| "a row of objects in the index cannot be read; run `zeolite reindex`".to_owned()),
                }
                true
            })?;
        }
        Ok(())
    }
}

// The kinds of which there are lists.
fn kinds_listed(view: &dyn View) -> Result<Vec<KindId>, StoreError> {
    let mut kinds: Vec<KindId> = Vec::new();
    loop {
        let from = match kinds.last() {
            None => Some(0),
            Some(last) => last.0.checked_add(1),
        };
        let (Some(from), mut next) = (from, None) else { return Ok(kinds) };
        let from = keys::object(from, Oid(0));
        view.range(Table::Objects, Bound::Included(&from), Bound::Unbounded, false, &mut |key, _| {
            next = Some(key.first_chunk::<4>().map(|kind| KindId(u32::from_be_bytes(*kind))));
            false
        })?;
        match next {
            None => return Ok(kinds),
            Some(kind) => kinds.push(kind.ok_or_else(|| bad_row(Table::Objects))?),
        }
    }
}

fn add(objects: &mut Objects, kind: KindId, oid: Oid) {
    let of = objects.entry(kind).or_default();
    of.0 += 1;
    of.1 = of.1.wrapping_add(mixed(oid.0));
}

// Names the revisions that only the index has. Those that only the log has were named when it was read.
fn unknown_to_the_log(
    reader: &Reader,
    log: &LogSide,
    differing: &BTreeSet<usize>,
    found: &mut Verified,
) -> Result<(), StoreError> {
    let mut suspects: BTreeMap<Tid, Vec<Cell>> = BTreeMap::new();
    let mut from = Some(Vec::new());
    while let Some(begin) = from.take() {
        let mut rows = 0;
        let view = reader.state.index.view()?;
        view.range(Table::Revisions, Bound::Included(&begin), Bound::Unbounded, false, &mut |key, _| {
            rows += 1;
            if let Some((cell, tid)) = keys::parse_revision(key)
                && tid <= found.upto
                && differing.contains(&bucket_of(tid))
            {
                suspects.entry(tid).or_default().push(cell);
            }
            from = (rows >= VIEW_ROWS).then(|| [key, &[0]].concat());
            from.is_none()
        })?;
        // Enough to tell; the rest is of the same kind.
        if suspects.len() >= SUSPECTS_MAX {
            break;
        }
    }
    for (tid, cells) in suspects {
        if log.unread.iter().any(|(first, last)| *first <= tid && tid <= *last) {
            continue;
        }
        let written: BTreeSet<Cell> = match reader.txn(tid) {
            Ok(txn) => txn.into_iter().flat_map(|txn| txn.writes).map(|write| write.cell).collect(),
            // Named when the log was read.
            Err(StoreError::Damaged { .. }) => continue,
            Err(other) => return Err(other),
        };
        for cell in cells.into_iter().filter(|cell| !written.contains(cell)) {
            found
                .problem(|| format!("the index has revision {tid} of {cell}, the log does not; run `zeolite reindex`"));
        }
    }
    Ok(())
}

// The lists of objects by kind are what the revisions say; those that are not.
fn lists(objects: &Objects, listed: &Objects, found: &mut Verified) -> BTreeSet<KindId> {
    let mut kinds: BTreeSet<KindId> = objects.keys().chain(listed.keys()).copied().collect();
    kinds.retain(|kind| objects.get(kind) != listed.get(kind));
    for kind in &kinds {
        let of = |all: &Objects| all.get(kind).copied().unwrap_or_default().0;
        let (there, told) = (of(objects), of(listed));
        found.problem(|| {
            format!("the index lists {told} objects of kind {}, and has {there}; run `zeolite reindex`", kind.0)
        });
    }
    kinds
}

// The counts of objects by kind are what the lists say, but for those that were named.
fn counts(reader: &Reader, named: &BTreeSet<KindId>, found: &mut Verified) -> Result<(), StoreError> {
    let (mut kinds, mut bad) = (BTreeSet::new(), 0);
    let view = reader.state.index.view()?;
    view.range(Table::Kinds, Bound::Unbounded, Bound::Unbounded, false, &mut |key, row| {
        match rows::parse_kind(key, row) {
            Some((id, ..)) => drop(kinds.insert(id)),
            None => bad += 1,
        }
        true
    })?;
    kinds.extend(kinds_listed(view.as_ref())?);
    drop(view);
    for _ in 0..bad {
        found.problem(|| "a row of kinds in the index cannot be read; run `zeolite reindex`".to_owned());
    }
    for id in kinds.difference(named).copied() {
        let (there, told) = count(reader, id)?;
        if there != told {
            let kind = reader.state.kinds.kind(id);
            let name = kind
                .map_or_else(|| format!("kind {}", id.0), |kind| format!("{:?} version {}", kind.class, kind.version));
            found.problem(|| {
                format!("the index counts {told} objects of {name}, and has {there}; run `zeolite reindex`")
            });
        }
    }
    Ok(())
}

// How many objects of a kind are listed, and how many are counted, at one moment.
fn count(reader: &Reader, id: KindId) -> Result<(u64, u64), StoreError> {
    let view = reader.state.index.view()?;
    let (mut there, from, to) = (0, keys::object(id.0, Oid(0)), keys::object(id.0, Oid(u64::MAX)));
    view.range(Table::Objects, Bound::Included(&from), Bound::Included(&to), false, &mut |_, _| {
        there += 1;
        true
    })?;
    let key = id.0.to_be_bytes();
    let told = view.get(Table::Kinds, &key)?.and_then(|row| rows::parse_kind(&key, &row)).map_or(0, |(.., told)| told);
    Ok((there, told))
}
