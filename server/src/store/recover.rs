//! Owns reading the log at open: which segment files there are, where the log ends, what of its tail a crash tore.
//!
//! The writer syncs each batch before it writes the next, so a crash leaves at most one bad batch, at the very end:
//!
//! ```text
//!   ... | batch | batch | bad ~~~~~ end of file          a crash tore it: cut, it was never acknowledged
//!   ... | batch | bad | batch | ...                      no crash does that: damage, named, nothing is cut
//!   ... | batch | bad ~~~   in a segment before the last damage
//! ```
//! Zeros up to the end of the file are neither: that is room which was never written over (`log::room`); a torn batch ends with its last byte that is none.
//!
//! A segment that is last and has no whole header was being made: it is removed. Every number is stood for by a segment, and
//! each names the last tid before it, so a missing file or a missing end of one is noticed as well.

pub(super) mod torn;

use super::StoreError;
use super::disk::Disk;
use super::frame::{BATCH_HEADER_LEN, BATCH_MAGIC, BadFrame, BatchHeader, SEGMENT_HEADER_LEN, SegmentHeader};
use super::log::batches::{Batch, Batches, Stop};
use super::log::handles::{self, Handles};
use super::log::room::zeros_from;
use super::log::segments::{self, LOG_DIR, PART, Segment, segment_path};
use super::log::walk::follows;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zeolite_proto::Tid;

// By number and generation.
type Files = BTreeMap<u32, BTreeMap<u16, Arc<Segment>>>;

/// The segment files found.
pub(crate) struct Found {
    all: Files,
}

/// Where the log ends.
pub(crate) struct LogEnd {
    pub(crate) segment: Arc<Segment>,
    pub(crate) last: Tid,
    pub(crate) torn_bytes_cut: u64,
}

impl Found {
    /// Finds the segments, removes what a crash left of unfinished ones, and checks that none is missing or foreign.
    pub(crate) fn find(handles: &Arc<Handles>) -> Result<Found, StoreError> {
        let disk = handles.disk().as_ref();
        let io = |error| StoreError::Io { what: "listing the log".to_owned(), error };
        let names = disk.list(LOG_DIR).map_err(io)?;
        for name in names.iter().filter(|name| name.ends_with(PART)) {
            let path = format!("{LOG_DIR}/{name}");
            disk.remove(&path).map_err(|error| StoreError::Io { what: format!("removing {path}"), error })?;
        }
        let files: Vec<_> = names.iter().filter_map(|name| segments::parse_name(name)).collect();
        let last = files.iter().map(|(number, _)| *number).max();
        let mut all = Files::new();
        let mut unfinished = Vec::new();
        for (number, generation) in files {
            match segments::find(handles, number, generation)? {
                Some(segment) => drop(all.entry(number).or_default().insert(generation, Arc::new(segment))),
                None => unfinished.push((number, generation)),
            }
        }
        for (number, generation) in unfinished {
            let being_made = Some(number) == last && generation == 0;
            let stood_for = || segments_of(&all).any(|other| other.header.numbers().contains(&number));
            if !being_made && !stood_for() {
                let what = "the file has no segment header".to_owned();
                return Err(StoreError::Damaged { segment: number, offset: 0, what });
            }
            tracing::warn!(number, generation, "removing a segment that was not finished when the server stopped");
            remove(disk, number, generation)?;
        }
        let found = Found { all };
        found.check()?;
        found.see_room()?;
        Ok(found)
    }

    /// Whether there is no log.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The id in the headers.
    pub(crate) fn store_id(&self) -> Option<u64> {
        segments_of(&self.all).next().map(|segment| segment.header.store_id)
    }

    /// Takes for each number the newest generation that is wanted (0 when the wish names none), or, when `wanted` is `None`,
    /// the newest that there is; one that stands for several numbers stands for all of them. In order; `Err`: the number of
    /// a segment that is lacking.
    pub(crate) fn choose(&self, wanted: Option<&BTreeSet<(u32, u16)>>) -> Result<Vec<Arc<Segment>>, u32> {
        let mut chosen = Vec::new();
        // From the end on: it is the last of its numbers that a segment is named by.
        let mut number = self.all.keys().next_back().copied().unwrap_or(0);
        while number > 0 {
            let generations = self.all.get(&number).ok_or(number)?;
            let found = match wanted {
                None => generations.values().next_back(),
                Some(wanted) => {
                    let named = wanted.range((number, 0)..=(number, u16::MAX)).next_back();
                    generations.get(&named.map_or(0, |(_, wanted)| *wanted))
                }
            };
            let segment = found.ok_or(number)?;
            number = segment.header.from.saturating_sub(1);
            chosen.push(segment.clone());
        }
        chosen.reverse();
        Ok(chosen)
    }

    /// The wanted generations that are not the newest of their segment: pack was changing over from them.
    pub(crate) fn older(
        &self,
        wanted: &BTreeSet<(u32, u16)>,
        chosen: &[Arc<Segment>],
    ) -> Result<Vec<Arc<Segment>>, u32> {
        let chosen: BTreeSet<_> = chosen.iter().map(|new| (new.header.number, new.header.generation)).collect();
        let is_chosen = |id: &(u32, u16)| chosen.contains(id);
        let find = |(number, generation): &(u32, u16)| {
            self.all.get(number).and_then(|all| all.get(generation)).cloned().ok_or(*number)
        };
        wanted.iter().filter(|id| !is_chosen(id)).map(find).collect()
    }

    /// Removes the files of the generations that are not kept.
    pub(crate) fn remove_others(&self, disk: &dyn Disk, kept: &[&Arc<Segment>]) -> Result<(), StoreError> {
        let others: Vec<_> =
            segments_of(&self.all).filter(|segment| !kept.iter().any(|kept| Arc::ptr_eq(kept, segment))).collect();
        if others.is_empty() {
            return Ok(());
        }
        for segment in others {
            remove(disk, segment.header.number, segment.header.generation)?;
        }
        // Durably: one that came back would count as the newest if the index were lost, and it lacks what was written since.
        disk.sync_dir(LOG_DIR).map_err(|error| StoreError::Io { what: format!("syncing {LOG_DIR}"), error })
    }

    // A last segment of room alone holds nothing yet.
    fn see_room(&self) -> Result<(), StoreError> {
        let last = self.all.values().next_back().into_iter().flat_map(BTreeMap::values);
        for segment in last.filter(|segment| segment.header.generation == 0) {
            let begin = SEGMENT_HEADER_LEN as u64;
            let first = segment.end().min(begin + BATCH_HEADER_LEN as u64);
            let mut bytes = vec![0; (first - begin) as usize];
            segment.read(&mut bytes, begin)?;
            if bytes.iter().all(|byte| *byte == 0) && zeros_from(segment, begin)? == begin {
                segment.set_end(begin);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), StoreError> {
        let store_id = self.store_id();
        let mut stood_for = BTreeSet::new();
        for segment in segments_of(&self.all) {
            if Some(segment.header.store_id) != store_id {
                return Err(segment.damaged(0, "a segment of another store"));
            }
            self.check_len(segment)?;
            stood_for.insert((segment.header.from, segment.header.number));
        }
        let mut next = 1;
        for (from, number) in stood_for {
            if from > next {
                let what = format!("the file {} is missing", segment_path(next, 0));
                return Err(StoreError::Damaged { segment: next, offset: 0, what });
            }
            next = next.max(number.saturating_add(1));
        }
        Ok(())
    }

    // A segment that is not appended to any more is as long as is written of it: in its own header by pack, else in the next one's.
    fn check_len(&self, segment: &Segment) -> Result<(), StoreError> {
        let SegmentHeader { number, generation, len, .. } = segment.header;
        let behind = number.saturating_add(1);
        let next =
            || self.all.range(behind..).flat_map(|(_, all)| all.values()).find(|next| next.header.from == behind);
        let written = if generation > 0 { len } else { next().map_or(0, |next| next.header.len_before) };
        if written == 0 || u64::from(written) == segment.end() {
            return Ok(());
        }
        let what = format!("the file has {} bytes, and {written} were written", segment.end());
        Err(segment.damaged(segment.end().min(u64::from(written)), what))
    }
}

fn segments_of(all: &Files) -> impl Iterator<Item = &Arc<Segment>> {
    all.values().flat_map(BTreeMap::values)
}

fn remove(disk: &dyn Disk, number: u32, generation: u16) -> Result<(), StoreError> {
    let path = segment_path(number, generation);
    disk.remove(&path).map_err(|error| StoreError::Io { what: format!("removing {path}"), error })
}

/// The last tid of segments that are in order.
pub(crate) fn last_tid(chosen: &[Arc<Segment>]) -> Tid {
    let Some(segment) = chosen.last() else { return Tid::NONE };
    let mut batches = Batches::new(segment.clone(), SEGMENT_HEADER_LEN as u64, segment.header.base);
    // Where it stops is the end, or a tail that opening will judge.
    while let Ok(Some(_)) = batches.next() {}
    batches.last()
}

/// Reads the segments in order, from an offset of the first on, gives each batch to `visit`, and cuts a torn tail.
///
/// `last` is the tid before that offset. Whether the log must reach further is for the caller to know.
pub(crate) fn replay(
    disk: &dyn Disk,
    chosen: &[Arc<Segment>],
    from: u64,
    last: Tid,
    visit: &mut dyn FnMut(Batch) -> Result<(), StoreError>,
) -> Result<LogEnd, StoreError> {
    let (mut from, mut last, mut torn_bytes_cut) = (from, last, 0);
    let mut segments = chosen.iter().peekable();
    while let Some(segment) = segments.next() {
        let mut batches = Batches::new(segment.clone(), from, last);
        loop {
            match batches.next() {
                Ok(Some(batch)) => visit(batch)?,
                Ok(None) => break,
                Err(Stop::Bad { offset, bad: BadFrame::Torn(what) }) if segments.peek().is_none() => {
                    torn_bytes_cut = cut_tail(disk, segment, offset, batches.last(), what)?;
                    break;
                }
                Err(stop) => return Err(stop.damage(segment)),
            }
        }
        last = batches.last();
        from = SEGMENT_HEADER_LEN as u64;
        if let Some(next) = segments.peek() {
            last = follows(segment, &batches, next)?;
        } else {
            return Ok(LogEnd { segment: segment.clone(), last, torn_bytes_cut });
        }
    }
    Err(StoreError::Damaged { segment: 1, offset: 0, what: "there is no segment".to_owned() })
}

// Cuts the segment at a bad batch, if nothing valid comes after it; how many bytes went.
fn cut_tail(disk: &dyn Disk, segment: &Segment, offset: u64, last: Tid, what: &'static str) -> Result<u64, StoreError> {
    if let Some(valid) = valid_batch_after(segment, offset, last)? {
        return Err(segment.damaged(offset, format!("{what}, and a good batch follows at {valid}")));
    }
    let bytes_end = zeros_from(segment, offset)?;
    segment.set_end(bytes_end);
    if bytes_end == offset {
        return Ok(0);
    }
    let torn = bytes_end - offset;
    tracing::warn!(segment = segment.header.number, offset, torn, "cutting the end of the log that a crash tore");
    if let Err(error) = torn::keep(disk, segment, offset) {
        tracing::warn!(%error, "what is cut off the log could not be kept");
    }
    let io = |error| handles::failed(format!("cutting segment {}", segment.header.number), error);
    let file = segment.file.get().map_err(io)?;
    file.set_len(offset).map_err(io)?;
    file.sync_data().map_err(io)?;
    segment.set_end(offset);
    Ok(torn)
}

// Where after an offset a whole batch lies whose checksum holds and which is newer than `last`.
fn valid_batch_after(segment: &Segment, offset: u64, last: Tid) -> Result<Option<u64>, StoreError> {
    const WINDOW_BYTES: u64 = 1 << 20;
    // Bytes of a client's record can look like headers, but each look costs a checksum: so much of it, and no more.
    let mut budget = (segment.end() - offset).saturating_mul(64).max(1 << 30);
    let read = |at: u64, len: u64| {
        let mut bytes = vec![0; len as usize];
        segment.read(&mut bytes, at).map(|()| bytes)
    };
    let mut at = offset + 1;
    while at + BATCH_HEADER_LEN as u64 <= segment.end() {
        let window = read(at, WINDOW_BYTES.min(segment.end() - at))?;
        let starts = window.windows(BATCH_MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == BATCH_MAGIC);
        for start in starts.map(|(start, _)| at + start as u64) {
            let left = segment.end() - start;
            if left < BATCH_HEADER_LEN as u64 {
                break;
            }
            let Ok(header) = BatchHeader::parse(&read(start, BATCH_HEADER_LEN as u64)?) else { continue };
            if header.len() > left || header.first <= last || header.last < header.first {
                continue;
            }
            let Some(after) = budget.checked_sub(header.len()) else {
                return Err(segment.damaged(offset, "a bad batch, followed by too much that looks like batches"));
            };
            budget = after;
            let payload = read(start + BATCH_HEADER_LEN as u64, u64::from(header.payload_len))?;
            if header.fits(segment.salt, &payload) {
                return Ok(Some(start));
            }
        }
        // Windows overlap by a magic less one byte, so that none hides between two.
        at += (window.len() as u64).saturating_sub(BATCH_MAGIC.len() as u64 - 1).max(1);
    }
    Ok(None)
}
