//! Owns the question which index fits which log: one that does not is dropped, unless that would hide that synced
//! transactions are gone.

use super::Store;
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::frame::SEGMENT_HEADER_LEN;
use crate::store::index::live::LiveIndex;
use crate::store::index::rows::{self, Covered};
use crate::store::index::writer::IndexWriter;
use crate::store::index::{Table, engines};
use crate::store::kinds::Kinds;
use crate::store::log::Position;
use crate::store::log::batches::{Batches, Stop};
use crate::store::log::room::zeros_from;
use crate::store::log::segments::Segment;
use crate::store::recover::{self, Found};
use crate::store::settings::StoreSettings;
use std::ops::Bound;
use std::sync::Arc;
use zeolite_proto::Tid;

/// An index and the segments it fits.
pub(super) struct Fitted {
    pub(super) index: LiveIndex,
    pub(super) writer: IndexWriter,
    pub(super) kinds: Kinds,
    pub(super) chosen: Vec<Arc<Segment>>,
    // Generations that pack was changing over from.
    pub(super) older: Vec<Arc<Segment>>,
    // Nothing is in it yet.
    pub(super) is_fresh: bool,
    pub(super) rebuilt: Option<String>,
    // The log may be a copy, put back.
    pub(super) is_put_back: bool,
}

/// Opens the index; one that is unreadable or does not fit the log is dropped, with the reason.
pub(super) fn fit_index(
    disk: &Arc<dyn Disk>,
    settings: &StoreSettings,
    found: &Found,
    store_id: u64,
    put_back: bool,
) -> Result<Fitted, StoreError> {
    let existed = engines::exists(disk.as_ref(), settings.index)?;
    let mut reason = "it was missing".to_owned();
    let mut says_nothing = false;
    if existed {
        match try_index(disk, settings, found, store_id, put_back) {
            Ok(Ok(fitted)) => return Ok(fitted),
            Ok(Err(Unfit::Nothing)) => {
                reason = "it is empty, or of another format".to_owned();
                says_nothing = true;
            }
            Ok(Err(Unfit::Not(why))) => reason = why,
            Err(StoreError::Index(why)) => {
                reason = why;
                says_nothing = true;
            }
            Err(other) => return Err(other),
        }
        tracing::warn!(%reason, "dropping the index; it is rebuilt from the log");
        Store::remove_index(disk.as_ref())?;
    }
    let chosen = found.choose(None).map_err(missing)?;
    let first = chosen.first().ok_or_else(|| missing(1))?;
    let is_new = chosen.len() == 1 && first.end() == SEGMENT_HEADER_LEN as u64;
    Ok(Fitted {
        index: LiveIndex::new(engines::open(disk, settings)?),
        writer: fresh_writer(store_id, &chosen, settings)?,
        kinds: Kinds::default(),
        chosen,
        older: Vec::new(),
        is_fresh: true,
        is_put_back: !is_new && !says_nothing,
        rebuilt: (existed || !is_new).then_some(reason),
    })
}

/// The writer of an index that has nothing of these segments yet.
pub(in crate::store) fn fresh_writer(
    store_id: u64,
    chosen: &[Arc<Segment>],
    settings: &StoreSettings,
) -> Result<IndexWriter, StoreError> {
    let first = &chosen.first().ok_or_else(|| missing(1))?.header;
    let generations = chosen.iter().map(|segment| (segment.header.number, segment.header.generation));
    let generations = generations.filter(|(_, generation)| *generation > 0).collect();
    let packed_to = packed_said(chosen);
    let position = Position { segment: first.number, generation: first.generation, offset: SEGMENT_HEADER_LEN as u64 };
    let covered = Covered {
        store_id,
        position,
        last: first.base,
        packed_to,
        oid_max: 0,
        // Pack takes transactions of which nothing is left, with their keys.
        keys_floor: packed_to,
        lived_ms: 0,
    };
    Ok(IndexWriter::new(covered, generations, settings))
}

/// Up to where the segments say that history is packed.
pub(super) fn packed_said(chosen: &[Arc<Segment>]) -> Tid {
    chosen.iter().map(|segment| segment.packed_to()).max().unwrap_or(Tid::NONE)
}

fn missing(segment: u32) -> StoreError {
    StoreError::Damaged { segment, offset: 0, what: "there is no such segment".to_owned() }
}

// Why an index is of no use.
enum Unfit {
    Nothing,
    Not(String),
}

// The existing index, if it fits.
fn try_index(
    disk: &Arc<dyn Disk>,
    settings: &StoreSettings,
    found: &Found,
    store_id: u64,
    put_back: bool,
) -> Result<Result<Fitted, Unfit>, StoreError> {
    let index = LiveIndex::new(engines::open(disk, settings)?);
    let kinds = Kinds::default();
    let writer = IndexWriter::load(index.view()?.as_ref(), settings, &kinds)?;
    let Some(writer) = writer else { return Ok(Err(Unfit::Nothing)) };
    let covered = writer.covered();
    if covered.store_id != store_id {
        return Ok(Err(Unfit::Not("it belongs to another store".to_owned())));
    }
    let named = writer.generations();
    let both = found.choose(Some(named)).and_then(|chosen| found.older(named, &chosen).map(|older| (chosen, older)));
    let fits = match &both {
        Ok((chosen, _)) => fits(&index, covered, chosen)?,
        Err(segment) => Fits::No(format!("segment {segment} was packed without it")),
    };
    match (fits, both) {
        (Fits::Yes, Ok((chosen, older))) => {
            let (is_fresh, is_put_back) = (false, false);
            Ok(Ok(Fitted { index, writer, kinds, chosen, older, is_fresh, rebuilt: None, is_put_back }))
        }
        (Fits::Short(_), _) if put_back => Ok(Err(Unfit::Not("an older log was put back".to_owned()))),
        (Fits::Short(offset), _) => {
            let what = format!(
                "the log ends here, but the index has seen it synced up to offset {}, transaction {} (if an older log was \
                 put here on purpose, start once with --put-back)",
                covered.position.offset, covered.last
            );
            Err(StoreError::Damaged { segment: covered.position.segment, offset, what })
        }
        (Fits::No(why), _) if put_back => Ok(Err(Unfit::Not(why))),
        (Fits::No(why), _) => {
            // Before it is dropped, it says whether synced transactions are gone.
            let last = recover::last_tid(&found.choose(None).map_err(missing)?);
            if last >= covered.last {
                return Ok(Err(Unfit::Not(why)));
            }
            let what = format!(
                "{why}, and the log ends with transaction {last}, but the index has seen it synced up to {} (if an older \
                 log was put here on purpose, start once with --put-back)",
                covered.last
            );
            Err(StoreError::Damaged { segment: covered.position.segment, offset: 0, what })
        }
        (Fits::Yes, Err(segment)) => Err(missing(segment)),
    }
}

// Whether a log is the one that an index covers.
enum Fits {
    Yes,
    // It ends at an offset of the segment where it should go on.
    Short(u64),
    No(String),
}

fn fits(index: &LiveIndex, covered: &Covered, chosen: &[Arc<Segment>]) -> Result<Fits, StoreError> {
    let at = covered.position;
    let Some(segment) = chosen.iter().find(|segment| segment.header.numbers().contains(&at.segment)) else {
        return Ok(Fits::Short(0));
    };
    if segment.header.number == at.segment && segment.end() < at.offset {
        return Ok(Fits::Short(segment.end()));
    }
    if (segment.header.number, segment.header.generation) != (at.segment, at.generation) {
        return Ok(Fits::No(format!("segment {} was packed without it", at.segment)));
    }
    // The transaction before the position is the one that the index ends with, or the log is of another life.
    let mut near = None;
    index.view()?.range(
        Table::Places,
        Bound::Unbounded,
        Bound::Included(&rows::tid_key(covered.last)),
        true,
        &mut |_, row| {
            near = rows::parse_position(row);
            false
        },
    )?;
    let near = near.filter(|near| (near.segment, near.generation) == (at.segment, at.generation));
    let from = near.map_or(SEGMENT_HEADER_LEN as u64, |near| near.offset);
    if at.offset == SEGMENT_HEADER_LEN as u64 || from >= at.offset {
        return Ok(Fits::Yes);
    }
    let mut batches = Batches::new(segment.clone(), from, Tid::NONE);
    while batches.at() < at.offset {
        match batches.next() {
            Ok(Some(_)) => {}
            // Room that was never written over, where the end of a batch should be.
            Err(Stop::Bad { offset, .. }) if zeros_from(segment, offset)? < at.offset => {
                return Ok(Fits::Short(offset));
            }
            // Bad bytes are not judged here: whoever reads them names them.
            Ok(None) | Err(_) => return Ok(Fits::Yes),
        }
    }
    match (batches.at(), batches.last()) == (at.offset, covered.last) {
        true => Ok(Fits::Yes),
        false => Ok(Fits::No("it belongs to another life of this store".to_owned())),
    }
}
