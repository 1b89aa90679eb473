//! Owns opening the store: find the log, open or rebuild the index, replay what it lacks, hand out the three parts.
//!
//! ```text
//!   segments ─ headers ─┐
//!                       ├─ does the index fit the log? ── yes ─> replay from where it ends
//!   index ─ covered ────┘                              └─ no ──> drop it, replay everything
//! ```
//! An index that claims more log than there is was right when it was made durable, and the log was synced before: so
//! then it is the *log* that has lost synced bytes, which is damage and named, not a reason to rebuild.

use super::disk::Disk;
use super::fill::{Filled, Filler};
use super::frame::{SEGMENT_HEADER_LEN, SegmentHeader};
use super::index::rows::{self, Covered};
use super::index::writer::IndexWriter;
use super::index::{Index, Table, bad_row, engines};
use super::kinds::Kinds;
use super::log::Position;
use super::log::appender::Appender;
use super::log::segments::{self, LOG_DIR, Segment, Segments};
use super::overlay::Prepared;
use super::reader::Reader;
use super::recover::Found;
use super::settings::StoreSettings;
use super::settle::Settler;
use super::state::{Facts, State};
use super::{Progress, StoreError, pack};
use parking_lot::Mutex;
use std::ops::Bound;
use std::sync::Arc;
use zeolite_proto::{CommitKey, Tid};

/// The store: a log and its index in one data directory.
pub struct Store;

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
    /// The commit keys within the window, oldest first.
    pub keys: Vec<(CommitKey, Tid)>,
    /// Log that the index lacked.
    pub replayed_bytes: u64,
    /// What a crash left of an unfinished batch, cut off.
    pub torn_bytes_cut: u64,
    /// Why the index was rebuilt from the whole log, if it was.
    pub index_rebuilt: Option<String>,
}

impl Store {
    /// Opens the store in a data directory, or makes one under the new id when there is none.
    pub fn open(
        disk: Arc<dyn Disk>,
        settings: StoreSettings,
        new_store_id: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Opened, StoreError> {
        settings.check()?;
        let io = |error| StoreError::Io { what: "making the log directory".to_owned(), error };
        disk.make_dir(LOG_DIR).map_err(io)?;
        let mut found = Found::find(disk.as_ref())?;
        if found.is_empty() {
            begin(disk.as_ref(), new_store_id)?;
            found = Found::find(disk.as_ref())?;
        }
        let store_id = found.store_id().unwrap_or(new_store_id);
        let opened = match Store::attempt(&disk, &settings, &found, store_id, progress) {
            // What was read of the index at first looked right and was not; from the log it is made new.
            Err(StoreError::Index(why)) if engines::exists(disk.as_ref(), settings.index)? => {
                tracing::warn!(%why, "dropping the index; it is rebuilt from the log");
                Store::remove_index(disk.as_ref())?;
                let mut opened = Store::attempt(&disk, &settings, &Found::find(disk.as_ref())?, store_id, progress)?;
                opened.recovered.index_rebuilt = Some(why);
                opened
            }
            other => other?,
        };
        engines::remove(disk.as_ref(), Some(settings.index))?;
        Ok(opened)
    }

    fn attempt(
        disk: &Arc<dyn Disk>,
        settings: &StoreSettings,
        found: &Found,
        store_id: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Opened, StoreError> {
        let fitted = fit_index(disk, settings, found, store_id)?;
        let Fitted { mut index, mut writer, kinds, chosen, older, is_fresh, rebuilt } = fitted;
        found.remove_others(disk.as_ref(), &chosen.iter().chain(&older).collect::<Vec<_>>())?;
        let filler = Filler { index: index.as_ref(), writer: &mut writer, kinds: &kinds, settings, chosen: &chosen };
        let Filled { end, replayed_bytes, waiting } = filler.fill(progress)?;
        if is_fresh && waiting.is_empty() {
            // Also what covers nothing yet is told durably: an index without it would be taken for a foreign one.
            let draft = writer.draft();
            writer.commit(index.as_ref(), &kinds, draft, true)?;
            if rebuilt.is_some() {
                index.compact()?;
            }
        }
        let covered = writer.covered();
        let packed_to = chosen.iter().map(|segment| segment.header.packed_to).max().unwrap_or(Tid::NONE);
        let facts = Facts {
            store_id,
            last: end.last,
            settled: covered.last,
            packed_to: packed_to.max(covered.packed_to),
            oid_max: covered.oid_max,
        };
        let recovered = Recovered {
            store_id,
            last_tid: end.last,
            oid_max: waiting.iter().map(Prepared::oid_max).fold(covered.oid_max, u64::max),
            keys: keys_within(index.as_ref(), settings, end.last, &waiting)?,
            replayed_bytes,
            torn_bytes_cut: end.torn_bytes_cut,
            index_rebuilt: rebuilt,
        };
        let segments = Segments::new(chosen);
        let state = Arc::new(State::new(settings.clone(), disk.clone(), segments, index, kinds, &facts));
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
        Ok(Opened {
            appender: Appender::new(state.clone(), end.segment, end.last),
            reader: Reader::new(state.clone()),
            settler: settler.into_inner(),
            recovered,
        })
    }

    /// Removes the index of a store that is not open: the next opening rebuilds it.
    pub fn remove_index(disk: &dyn Disk) -> Result<(), StoreError> {
        engines::remove(disk, None)
    }
}

// Makes the first segment of a new store.
fn begin(disk: &dyn Disk, store_id: u64) -> Result<(), StoreError> {
    if engines::any_exists(disk)? {
        let what = "the log is gone, but its index is still there (to begin an empty store, remove the index too)";
        return Err(StoreError::Damaged { segment: 1, offset: 0, what: what.to_owned() });
    }
    let header = SegmentHeader { number: 1, generation: 0, store_id, packed_to: Tid::NONE, base: Tid::NONE };
    match segments::create(disk, header) {
        Ok(_) => Ok(()),
        Err(error) if super::log::appender::is_full(&error) => Err(StoreError::DiskFull),
        Err(error) => Err(StoreError::Io { what: "making the first segment".to_owned(), error }),
    }
}

// An index and the segments it fits.
struct Fitted {
    index: Box<dyn Index>,
    writer: IndexWriter,
    kinds: Kinds,
    chosen: Vec<Arc<Segment>>,
    // Generations that pack was changing over from.
    older: Vec<Arc<Segment>>,
    // Nothing is in it yet.
    is_fresh: bool,
    rebuilt: Option<String>,
}

// Opens the index; one that is unreadable or does not fit the log is dropped, with the reason.
fn fit_index(
    disk: &Arc<dyn Disk>,
    settings: &StoreSettings,
    found: &Found,
    store_id: u64,
) -> Result<Fitted, StoreError> {
    let existed = engines::exists(disk.as_ref(), settings.index)?;
    let mut reason = "it was missing".to_owned();
    if existed {
        match try_index(disk, settings, found, store_id) {
            Ok(Ok(fitted)) => return Ok(fitted),
            Ok(Err(why)) => reason = why,
            Err(StoreError::Index(why)) => reason = why,
            Err(other) => return Err(other),
        }
        tracing::warn!(%reason, "dropping the index; it is rebuilt from the log");
        Store::remove_index(disk.as_ref())?;
    }
    let chosen = found.choose(None).map_err(missing)?;
    let first = chosen.first().ok_or_else(|| missing(1))?;
    let is_new = chosen.len() == 1 && first.end() == SEGMENT_HEADER_LEN as u64;
    let generations = chosen.iter().map(|segment| (segment.header.number, segment.header.generation));
    let covered = Covered {
        store_id,
        position: Position {
            segment: first.header.number,
            generation: first.header.generation,
            offset: SEGMENT_HEADER_LEN as u64,
        },
        last: first.header.base,
        packed_to: chosen.iter().map(|segment| segment.header.packed_to).max().unwrap_or(Tid::NONE),
        oid_max: 0,
        generations: generations.filter(|(_, generation)| *generation > 0).collect(),
    };
    Ok(Fitted {
        index: engines::open(disk, settings)?,
        writer: IndexWriter::new(covered, settings),
        kinds: Kinds::default(),
        chosen,
        older: Vec::new(),
        is_fresh: true,
        rebuilt: (existed || !is_new).then_some(reason),
    })
}

fn missing(segment: u32) -> StoreError {
    StoreError::Damaged { segment, offset: 0, what: "there is no such segment".to_owned() }
}

// The existing index, if it fits; `Ok(Err(why))`: it does not.
fn try_index(
    disk: &Arc<dyn Disk>,
    settings: &StoreSettings,
    found: &Found,
    store_id: u64,
) -> Result<Result<Fitted, String>, StoreError> {
    let index = engines::open(disk, settings)?;
    let kinds = Kinds::default();
    let writer = IndexWriter::load(index.view()?.as_ref(), settings, &kinds)?;
    let Some(writer) = writer else { return Ok(Err("it is empty, or of another format".to_owned())) };
    let covered = writer.covered();
    if covered.store_id != store_id {
        return Ok(Err("it belongs to another store".to_owned()));
    }
    let named = &covered.generations;
    let both = found.choose(Some(named)).and_then(|chosen| found.older(named, &chosen).map(|older| (chosen, older)));
    let (chosen, older) = match both {
        Ok(both) => both,
        Err(segment) => return Ok(Err(format!("segment {segment} was packed without it"))),
    };
    let at = covered.position;
    let short = |offset| StoreError::Damaged {
        segment: at.segment,
        offset,
        what: format!(
            "the log ends here, but the index has seen it synced up to offset {} (if an older log was put here on \
             purpose, remove the index)",
            at.offset
        ),
    };
    match chosen.iter().find(|segment| segment.header.number == at.segment) {
        None => Err(short(0)),
        Some(segment) if segment.end() < at.offset => Err(short(segment.end())),
        Some(segment) if segment.header.generation != at.generation => {
            Ok(Err(format!("segment {} was packed without it", at.segment)))
        }
        Some(_) => Ok(Ok(Fitted { index, writer, kinds, chosen, older, is_fresh: false, rebuilt: None })),
    }
}

// The commit keys that a client may still ask about.
fn keys_within(
    index: &dyn Index,
    settings: &StoreSettings,
    newest: Tid,
    waiting: &[Prepared],
) -> Result<Vec<(CommitKey, Tid)>, StoreError> {
    let mut keys = Vec::new();
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
    keys.extend(waiting.iter().flat_map(Prepared::keys));
    let oldest_ns = newest.unix_nanos() - i128::from(settings.keys_age_s) * 1_000_000_000;
    keys.retain(|(_, tid)| tid.unix_nanos() >= oldest_ns);
    let excess = keys.len().saturating_sub(usize::try_from(settings.keys_count_max).unwrap_or(usize::MAX));
    keys.drain(..excess);
    Ok(keys)
}
