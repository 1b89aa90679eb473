//! Owns opening the store: find the log, open or rebuild the index, read what it lacks, hand out the three parts.
//!
//! ```text
//!   segments ─ headers ─┐
//!                       ├─ does the index fit the log? ── yes ─> what it lacks is read into memory, and settled beside the traffic
//!   index ─ covered ────┘                              └─ no ──> drop it, replay everything
//! ```
//! An index that claims more log than there is was right when it was made durable, and the log was synced before: so
//! then it is the *log* that has lost synced bytes, which is damage and named, not a reason to rebuild.
//!
//! A log whose index is missing, or is not its own, may have been put back from a copy: so then a new timeline begins, and
//! what clients know of the life that was lost is not taken for true. An index that says nothing (of an older format; sled's
//! after a kill) does not make one.

mod fit;

use super::blobs::Blobs;
use super::disk::Disk;
use super::fill::{Filled, Filler};
use super::frame::SegmentHeader;
use super::index::live::LiveIndex;
use super::index::rows::{self, Covered};
use super::index::{Table, bad_row, engines};
use super::log::appender::Appender;
use super::log::handles::{self, Handles};
use super::log::segments::{self, LOG_DIR, Segment, Segments};
use super::overlay::Prepared;
use super::reader::Reader;
use super::recover::Found;
use super::settings::{IndexKind, StoreSettings};
use super::settle::Settler;
use super::state::{Facts, State};
use super::{KnownKey, Progress, StoreError, pack};
pub(in crate::store) use fit::fresh_writer;
use fit::{Fitted, fit_index};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use zeolite_proto::Tid;

/// The store: a log and its index in one data directory.
pub struct Store;

/// What an opening may need to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// A random number: the id of a store that is made, the timeline of a life that begins.
    pub new_id: u64,
    /// The id of a store that is made: that of the one which it is to be a copy of.
    pub store_id: Option<u64>,
    /// An operator's word that the directory was put back from a copy: a new timeline begins, and a log that is shorter than
    /// the index has seen it is taken as it is.
    pub put_back: bool,
}

impl From<u64> for Opening {
    fn from(new_id: u64) -> Opening {
        Opening { new_id, store_id: None, put_back: false }
    }
}

/// The parts of an open store. Each goes to whom it belongs; they share what is below.
pub struct Opened {
    /// For the writer thread.
    pub appender: Appender,
    /// For everybody.
    pub reader: Reader,
    /// For the thread that settles.
    pub settler: Settler,
    /// What was found.
    pub recovered: Recovered,
}

/// What opening found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The id of the store.
    pub store_id: u64,
    /// The newest transaction.
    pub last_tid: Tid,
    /// The greatest oid that was ever written.
    pub oid_max: u64,
    /// The commit keys that were not forgotten, oldest first.
    pub keys: Vec<KnownKey>,
    /// The newest transaction whose commit key may have been forgotten.
    pub keys_floor: Tid,
    /// For how long servers have run on the store.
    pub lived_ms: u64,
    /// The timeline that the store is on; it is a new one if it had to be.
    pub timeline: u64,
    /// Log that the index lacked.
    pub replayed_bytes: u64,
    /// What a crash left of an unfinished batch, cut off.
    pub torn_bytes_cut: u64,
    /// Why the index was rebuilt from the whole log, if it was.
    pub index_rebuilt: Option<String>,
}

impl Store {
    /// Opens the store in a data directory, or makes one under the opening's id when there is none.
    pub fn open(
        disk: Arc<dyn Disk>,
        settings: StoreSettings,
        opening: impl Into<Opening>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Opened, StoreError> {
        let opening = opening.into();
        settings.check()?;
        let io = |error| StoreError::Io { what: "making the log directory".to_owned(), error };
        disk.make_dir(LOG_DIR).map_err(io)?;
        let handles = Handles::new(disk.clone(), settings.open_files_max);
        let mut found = Found::find(&handles)?;
        if found.is_empty() {
            begin(&handles, opening.store_id.unwrap_or(opening.new_id))?;
            found = Found::find(&handles)?;
        }
        let opened = match Store::attempt(&handles, &settings, &found, opening, progress) {
            // What was read of the index at first looked right and was not; from the log it is made new.
            Err(StoreError::Index(why)) if engines::exists(disk.as_ref(), settings.index)? => {
                tracing::warn!(%why, "dropping the index; it is rebuilt from the log");
                Store::remove_index(disk.as_ref())?;
                let found = Found::find(&handles)?;
                let mut opened = Store::attempt(&handles, &settings, &found, opening, progress)?;
                opened.recovered.index_rebuilt = Some(why);
                opened
            }
            other => other?,
        };
        engines::remove(disk.as_ref(), Some(settings.index))?;
        Ok(opened)
    }

    /// The id of the store in a data directory, as the headers of its log say it; nothing is changed. None: there is no log.
    pub fn id_in(disk: Arc<dyn Disk>) -> Result<Option<u64>, StoreError> {
        let handles = Handles::new(disk, 1);
        let io = |error| StoreError::Io { what: "listing the log".to_owned(), error };
        let names = handles.disk().list(LOG_DIR).map_err(io)?;
        for (number, generation) in names.iter().filter_map(|name| segments::parse_name(name)) {
            if let Some(segment) = segments::find(&handles, number, generation)? {
                return Ok(Some(segment.header.store_id));
            }
        }
        Ok(None)
    }

    fn attempt(
        handles: &Arc<Handles>,
        settings: &StoreSettings,
        found: &Found,
        opening: Opening,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Opened, StoreError> {
        let disk = handles.disk();
        let store_id = found.store_id().unwrap_or(opening.new_id);
        let fitted = fit_index(disk, settings, found, store_id, opening.put_back)?;
        let Fitted { index, mut writer, kinds, chosen, older, is_fresh, rebuilt, is_put_back } = fitted;
        found.remove_others(disk.as_ref(), &chosen.iter().chain(&older).collect::<Vec<_>>())?;
        let (disk_ref, chosen_ref) = (disk.as_ref(), &chosen);
        let filler =
            Filler { disk: disk_ref, index: &index, writer: &mut writer, kinds: &kinds, settings, chosen: chosen_ref };
        let Filled { end, replayed_bytes, waiting } = filler.fill(rebuilt.is_some(), progress)?;
        if is_fresh && waiting.is_empty() {
            // Also what covers nothing yet is told durably: an index without it would be taken for a foreign one.
            let draft = writer.draft();
            writer.commit(&index, &kinds, draft, true)?;
            if rebuilt.is_some() {
                index.compact()?;
            }
        }
        let covered = *writer.covered();
        let facts = facts_of(store_id, &chosen, &covered, end.last);
        let (keys, keys_floor) = keys_within(&index, settings, &covered, &waiting)?;
        // What is committed from now on is newer than all that is there.
        let keys_floor = keys_floor.max(facts.restored_to).min(end.last);
        let mut recovered = Recovered {
            store_id,
            last_tid: end.last,
            oid_max: waiting.iter().map(Prepared::oid_max).fold(covered.oid_max, u64::max),
            keys,
            keys_floor,
            lived_ms: covered.lived_ms,
            timeline: 0,
            replayed_bytes,
            torn_bytes_cut: end.torn_bytes_cut,
            index_rebuilt: rebuilt,
        };
        let segments = Segments::new(chosen);
        let blobs = Blobs::open(disk.clone(), settings)?;
        let state = Arc::new(State::new(settings.clone(), handles.clone(), segments, index, kinds, blobs, &facts));
        for prepared in waiting {
            state.overlay.publish(prepared, || ());
        }
        older.into_iter().for_each(|segment| state.segments.register(segment));
        let settler = Mutex::new(Settler::new(state.clone(), writer));
        match pack::finish_begun(&state, &settler, &mut |_, _, _| Ok(())) {
            // Both generations can be read, and nothing is appended until it can be ended.
            Err(StoreError::DiskFull) => {
                tracing::warn!(
                    "a pack stays half-way until there is room on the disk; until then nothing is committed"
                );
                state.set_half_packed(true);
            }
            done => done?,
        }
        let mut appender = Appender::new(state.clone(), end.segment, end.last)?;
        if is_put_back || opening.put_back {
            appender.begin_timeline(opening.new_id, Tid::NONE)?;
        }
        recovered.timeline = state.timelines.now();
        Ok(Opened { appender, reader: Reader::new(state.clone()), settler: settler.into_inner(), recovered })
    }

    /// Whether there is an index of a kind.
    pub fn has_index(disk: &dyn Disk, kind: IndexKind) -> Result<bool, StoreError> {
        engines::exists(disk, kind)
    }

    /// Removes the index of a store that is not open: the next opening rebuilds it.
    pub fn remove_index(disk: &dyn Disk) -> Result<(), StoreError> {
        engines::remove(disk, None)
    }
}

// Makes the first segment of a new store.
fn begin(handles: &Arc<Handles>, store_id: u64) -> Result<(), StoreError> {
    if engines::any_exists(handles.disk().as_ref())? {
        let what = "the log is gone, but its index is still there (to begin an empty store, remove the index too)";
        return Err(StoreError::Damaged { segment: 1, offset: 0, what: what.to_owned() });
    }
    match segments::create(handles, SegmentHeader::first(store_id)) {
        Ok(_) => Ok(()),
        Err(error) if super::log::appender::is_full(&error) => Err(StoreError::DiskFull),
        Err(error) => Err(handles::failed("making the first segment".to_owned(), error)),
    }
}

fn facts_of(store_id: u64, chosen: &[Arc<Segment>], covered: &Covered, last: Tid) -> Facts {
    Facts {
        store_id,
        last,
        settled: covered.last,
        packed_said: packed_said(chosen, covered, last),
        restored_to: chosen.iter().map(|segment| segment.restored_to()).max().unwrap_or(Tid::NONE),
        oid_max: covered.oid_max,
    }
}

// Up to where history is said to be packed.
fn packed_said(chosen: &[Arc<Segment>], covered: &Covered, last: Tid) -> Tid {
    // An index is told of what is there. One that says more was made by an older program, of a restore that brought nothing.
    let packed = Some(covered.packed_to).filter(|packed_to| *packed_to <= last).unwrap_or(Tid::NONE);
    let packed_said = fit::packed_said(chosen).max(packed);
    let told = chosen.iter().map(|segment| segment.header.packed_to).max().unwrap_or(Tid::NONE);
    if told > last {
        tracing::warn!(
            packed_to = %told,
            %last,
            "a restore has ended before it came as far as its source was packed: what is there can be read as of its newest \
             transaction; the restore can go on behind that one, or begin anew in an empty database"
        );
    }
    packed_said
}

// The commit keys that a client may still ask about, and the newest transaction whose key is none of them.
fn keys_within(
    index: &LiveIndex,
    settings: &StoreSettings,
    covered: &Covered,
    waiting: &VecDeque<Prepared>,
) -> Result<(Vec<KnownKey>, Tid), StoreError> {
    let mut keys: Vec<KnownKey> = Vec::new();
    let mut bad = false;
    index.view()?.range(Table::Keys, Bound::Unbounded, Bound::Unbounded, false, &mut |_, row| {
        match rows::parse_keys(row) {
            Some(chunk) => keys.extend(chunk),
            None => bad = true,
        }
        !bad
    })?;
    if bad {
        return Err(bad_row(Table::Keys));
    }
    keys.extend(waiting.iter().flat_map(|batch| batch.keys(covered.lived_ms)));
    let oldest_ms = covered.lived_ms.saturating_sub(settings.keys_age_s.saturating_mul(1000));
    let excess = keys.len().saturating_sub(usize::try_from(settings.keys_count_max).unwrap_or(usize::MAX));
    let old = keys.iter().take_while(|known| known.lived_ms < oldest_ms).count();
    let forgotten = keys.drain(..excess.max(old)).next_back().map_or(Tid::NONE, |known| known.tid);
    Ok((keys, covered.keys_floor.max(forgotten)))
}
