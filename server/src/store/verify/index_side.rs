//! Owns the index's side of verify: one pass over its revisions at one moment, against the log's sums, and the lists and
//! counts of objects that must follow from them.

use super::log_side::LogSide;
use super::tally::{Tally, bucket_of, mixed};
use super::{Verified, VerifyStage, VerifyStepper};
use crate::store::StoreError;
use crate::store::index::rows::{self, Revision};
use crate::store::index::{Table, View, keys};
use crate::store::kinds::KindId;
use crate::store::reader::Reader;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use zeolite_proto::{Cell, Oid, Tid, hash};

// Rows between two reports.
const STEP_ROWS: u64 = 16_384;

/// The objects of a kind: how many, and the sum of their mixed oids.
type Objects = BTreeMap<KindId, (u64, u64)>;

/// Goes over the index.
pub(super) fn compare(
    reader: &Reader,
    log: &LogSide,
    found: &mut Verified,
    step: &mut VerifyStepper<'_>,
) -> Result<(), StoreError> {
    // One view: revisions, lists and counts of one moment.
    let view = reader.state.index.view()?;
    let (tally, objects) = revisions(view.as_ref(), found, step)?;
    let differing: BTreeSet<usize> = tally.differing(&log.tally).into_iter().collect();
    if !differing.is_empty() {
        unknown_to_the_log(reader, view.as_ref(), log, &differing, found)?;
    }
    lists(view.as_ref(), &objects, found)?;
    found.objects = objects.values().map(|(count, _)| count).sum();
    counts(reader, view.as_ref(), &objects, found)
}

// Adds up the revisions, and what the newest of each object says.
fn revisions(
    view: &dyn View,
    found: &mut Verified,
    step: &mut VerifyStepper<'_>,
) -> Result<(Tally, Objects), StoreError> {
    let (mut tally, mut objects) = (Tally::new(), Objects::new());
    let (mut rows, mut stopped, mut object) = (0, Ok(()), None);
    view.range(Table::Revisions, Bound::Unbounded, Bound::Unbounded, false, &mut |key, row| {
        rows += 1;
        if rows % STEP_ROWS == 0 {
            stopped = step(VerifyStage::Index, rows, found.revisions.max(rows));
        }
        let (Some((cell, tid)), Some(_)) = (keys::parse_revision(key), Revision::parse(row)) else {
            found.problem(|| "a row of the index cannot be read; run `zeolite reindex`".to_owned());
            return stopped.is_ok();
        };
        if tid <= found.upto {
            tally.add(&cell, tid);
        }
        // Of an object the newest comes first.
        if cell.is_object()
            && object.replace(cell.oid) != Some(cell.oid)
            && let Some(kind) = Revision::live_kind(row)
        {
            add(&mut objects, kind, cell.oid);
        }
        stopped.is_ok()
    })?;
    stopped.map(|()| (tally, objects))
}

fn add(objects: &mut Objects, kind: KindId, oid: Oid) {
    let of = objects.entry(kind).or_default();
    of.0 += 1;
    of.1 = of.1.wrapping_add(mixed(oid.0));
}

// Names the revisions that only the index has. Those that only the log has were named when it was read.
fn unknown_to_the_log(
    reader: &Reader,
    view: &dyn View,
    log: &LogSide,
    differing: &BTreeSet<usize>,
    found: &mut Verified,
) -> Result<(), StoreError> {
    let mut suspects: BTreeMap<Tid, Vec<Cell>> = BTreeMap::new();
    view.range(Table::Revisions, Bound::Unbounded, Bound::Unbounded, false, &mut |key, _| {
        if let Some((cell, tid)) = keys::parse_revision(key)
            && tid <= found.upto
            && differing.contains(&bucket_of(tid))
        {
            suspects.entry(tid).or_default().push(cell);
        }
        // Enough to tell; the rest is of the same kind.
        suspects.len() < 100_000
    })?;
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

// The lists of objects by kind are what the revisions say.
fn lists(view: &dyn View, objects: &Objects, found: &mut Verified) -> Result<(), StoreError> {
    let mut listed = Objects::new();
    view.range(Table::Objects, Bound::Unbounded, Bound::Unbounded, false, &mut |key, _| {
        let kind = key.first_chunk::<4>().map_or(KindId::NONE, |kind| KindId(u32::from_be_bytes(*kind)));
        match rows::object_oid(key) {
            Some(oid) => add(&mut listed, kind, oid),
            None => found.problem(|| "a row of objects in the index cannot be read; run `zeolite reindex`".to_owned()),
        }
        true
    })?;
    let kinds: BTreeSet<KindId> = objects.keys().chain(listed.keys()).copied().collect();
    for kind in kinds {
        let (there, told) = (objects.get(&kind).copied(), listed.get(&kind).copied());
        if there != told {
            let (there, told) = (there.unwrap_or_default().0, told.unwrap_or_default().0);
            found.problem(|| {
                format!("the index lists {told} objects of kind {}, and has {there}; run `zeolite reindex`", kind.0)
            });
        }
    }
    Ok(())
}

// The counts of objects by kind are what the revisions say.
fn counts(reader: &Reader, view: &dyn View, objects: &Objects, found: &mut Verified) -> Result<(), StoreError> {
    let mut counted: hash::Map<KindId, u64> = hash::Map::default();
    view.range(Table::Kinds, Bound::Unbounded, Bound::Unbounded, false, &mut |key, row| {
        match rows::parse_kind(key, row) {
            Some((id, _, count)) => drop(counted.insert(id, count)),
            None => found.problem(|| "a row of kinds in the index cannot be read; run `zeolite reindex`".to_owned()),
        }
        true
    })?;
    let kinds: BTreeSet<KindId> = objects.keys().chain(counted.keys()).copied().collect();
    for id in kinds {
        let (there, told) = (objects.get(&id).map_or(0, |(count, _)| *count), counted.get(&id).copied().unwrap_or(0));
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
