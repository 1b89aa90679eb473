//! Owns the blobs of a store: large bytes in files of their own beside the log, each named by records.
//!
//! ```text
//!   upload    blobs/staged/<id>.part ── whole, synced, renamed ──> blobs/staged/<id>      no commit has named it
//!   commit    names it: the file is held from the draft's admission until the batch is published
//!   later     blobs/staged/<id> ── renamed ──> blobs/<first two digits>/<id>              was named once
//!   pack      the log first; then every file there that no revision names, and nobody holds, is removed
//! ```
//! Which blobs are named is said by the log alone, and asked of the index by going over it (`marks`): a file's directory is only a hint
//! at what needs no look. So a crash between two of these steps leaves a file too much, never one too little.
//!
//! A *hold* keeps a file from being removed while a draft, a batch or a reader names it. Who removes looks first at what is named,
//! and then takes only what was not held since before that look; what it takes is *condemned* until it is gone, and cannot be held.
//!
//! Lock order: an upload before the registry. Nothing is removed but files whose names this room makes.

mod counting;
mod file;
mod marks;
mod shares;
mod sweep;
mod upload;

use super::StoreError;
use super::disk::Disk;
use super::settings::StoreSettings;
use file::{WholeFile, failed};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use zeolite_proto::record::{Header, RECORD_FORMAT_BLOBS};
use zeolite_proto::{BlobId, BlobStanding, hash};

pub(crate) use marks::{Named, named};
pub use shares::Uploader;
pub use sweep::{Swept, sweep_kept, sweep_staged};
use upload::Part;
pub use upload::Upload;

const STAGED_DIR: &str = "blobs/staged";
const PART: &str = ".part";
// Of an earlier life: its time begins with the first sweep.
const EARLIER: Duration = Duration::MAX;

/// How many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlobCounts {
    /// Blobs that were named; those of an earlier life are counted when the sweeper has come by.
    pub blobs: u64,
    /// Their bytes on the disk.
    pub bytes: u64,
    /// Uploads that no commit has named yet, whole or not.
    pub staged: u64,
    /// Their bytes.
    pub staged_bytes: u64,
}

/// The blobs of a store, for everybody.
pub struct Blobs {
    disk: Arc<dyn Disk>,
    staged_bytes_max: u64,
    staged_max: usize,
    keep: Duration,
    open_max: usize,
    poison: Arc<OnceLock<String>>,
    registry: Mutex<Registry>,
    // One look at what is named at a time.
    sweeping: Mutex<()>,
}

#[derive(Default)]
struct Registry {
    staged: BTreeMap<BlobId, Staged>,
    staged_bytes: u64,
    // What each uploader has of what is not named.
    uploaders: hash::Map<u64, shares::Has>,
    holds: hash::Map<BlobId, usize>,
    // While somebody looks at what is named: what was held since before.
    touched: Option<hash::Set<BlobId>>,
    condemned: hash::Set<BlobId>,
    open: usize,
    kept: (u64, u64),
    is_counted: bool,
}

struct Staged {
    what: StagedAs,
    by: Uploader,
    bytes: u64,
    /// When it was last gone on with, in the steady time of this life.
    since: Duration,
}

enum StagedAs {
    Part(Arc<Mutex<Part>>),
    Whole(Naming),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Naming {
    /// It came in this life, and nothing names it.
    Not,
    /// It is from an earlier life: the log knows.
    Unknown,
    Named,
}

/// Blobs that are not removed as long as this lives.
#[must_use = "what is not held may be removed"]
pub struct BlobHold {
    blobs: Arc<Blobs>,
    ids: Vec<BlobId>,
}

impl std::fmt::Debug for BlobHold {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_tuple("BlobHold").field(&self.ids).finish()
    }
}

impl Drop for BlobHold {
    fn drop(&mut self) {
        let mut registry = self.blobs.registry.lock();
        for id in &self.ids {
            if let Some(count) = registry.holds.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    registry.holds.remove(id);
                }
            }
        }
    }
}

/// A blob that is being read.
pub struct BlobReader {
    file: WholeFile,
    _hold: BlobHold,
    _place: OpenPlace,
}

/// One of the files that may be open.
struct OpenPlace(Arc<Blobs>);

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.0.registry.lock().open -= 1;
    }
}

impl BlobReader {
    /// Its bytes in all.
    pub fn length(&self) -> u64 {
        self.file.len()
    }

    /// The CRC-32 of all of it.
    pub fn crc(&self) -> u32 {
        self.file.crc()
    }

    /// The next bytes from an offset, checked: some of those asked for; none at the end.
    pub fn read(&self, offset: u64, len: u64) -> Result<bytes::Bytes, StoreError> {
        self.file.read(offset, len)
    }
}

/// The directory of what was named.
fn shard_dir(id: BlobId) -> String {
    format!("blobs/{:02x}", id.0[0])
}

fn kept_path(id: BlobId) -> String {
    format!("{}/{id}", shard_dir(id))
}

fn staged_path(id: BlobId) -> String {
    format!("{STAGED_DIR}/{id}")
}

impl Registry {
    fn set_named(&mut self, id: BlobId) {
        if let Some(Staged { what: StagedAs::Whole(naming), by, bytes, .. }) = self.staged.get_mut(&id) {
            *naming = Naming::Named;
            let (by, bytes) = (std::mem::take(by), *bytes);
            self.take(&by, bytes);
        }
    }
}

impl Blobs {
    /// Finds what is staged. Other files in the directory are nobody's here, and left alone.
    pub fn open(disk: Arc<dyn Disk>, settings: &StoreSettings) -> Result<Arc<Blobs>, StoreError> {
        let mut registry = Registry::default();
        let listed = disk.list(STAGED_DIR).map_err(|error| failed("listing", STAGED_DIR, error))?;
        for name in listed {
            let path = format!("{STAGED_DIR}/{name}");
            let (id, is_part) = name.strip_suffix(PART).map_or((name.as_str(), false), |id| (id, true));
            let Ok(id) = id.parse::<BlobId>() else { continue };
            let length = disk.open(&path, false).and_then(|file| file.len());
            let bytes = length.map_err(|error| failed("measuring", &path, error))?;
            let what = if is_part { StagedAs::Part(Arc::default()) } else { StagedAs::Whole(Naming::Unknown) };
            // A whole one is listed first; a part beside it is what a crash left of its renaming.
            if registry.staged.contains_key(&id) {
                continue;
            }
            registry.staged_bytes += bytes;
            registry.staged.insert(id, Staged { what, by: Uploader::gone(), bytes, since: EARLIER });
            registry.give(&Uploader::gone(), 1, bytes);
        }
        if !registry.staged.is_empty() {
            // Who was killed after a renaming may not have synced it; from here on it is built upon.
            disk.sync_dir(STAGED_DIR).map_err(|error| failed("syncing", STAGED_DIR, error))?;
        }
        Ok(Arc::new(Blobs {
            disk,
            staged_bytes_max: settings.staged_bytes_max,
            staged_max: settings.staged_blobs_max,
            keep: Duration::from_secs(settings.staged_keep_s),
            open_max: settings.open_blobs_max,
            poison: Arc::default(),
            registry: Mutex::new(registry),
            sweeping: Mutex::new(()),
        }))
    }

    /// Why nothing is written to the store any more; shared with the log.
    pub(crate) fn poison(&self) -> &Arc<OnceLock<String>> {
        &self.poison
    }

    /// How many may be open at once.
    pub fn open_max(&self) -> usize {
        self.open_max
    }

    /// How many there are.
    pub fn counts(&self) -> BlobCounts {
        let registry = self.registry.lock();
        let named = registry.staged.values().filter(|staged| matches!(staged.what, StagedAs::Whole(Naming::Named)));
        let named = named.fold((0, 0), |sum, staged| (sum.0 + 1, sum.1 + staged.bytes));
        BlobCounts {
            blobs: registry.kept.0 + named.0,
            bytes: registry.kept.1 + named.1,
            staged: registry.staged.len() as u64 - named.0,
            staged_bytes: registry.staged_bytes - named.1,
        }
    }

    /// Keeps blobs that somebody is about to name: all of them are whole and durable, or it says which is not, and what to do.
    pub fn hold(self: &Arc<Self>, ids: Vec<BlobId>) -> Result<BlobHold, StoreError> {
        let hold = self.keep(ids)?;
        for id in &hold.ids {
            match self.standing(*id)? {
                BlobStanding::Whole(_) => {}
                BlobStanding::Begun(at) => {
                    let what =
                        format!("the upload of blob {id} has come to byte {at}; go on with it, then send this again");
                    return Err(StoreError::NoBlob { what });
                }
                BlobStanding::Unknown => return Err(StoreError::NoBlob { what: unknown(*id) }),
            }
        }
        Ok(hold)
    }

    /// The same for what is known to be there, or was when it was asked for.
    fn keep(self: &Arc<Self>, ids: Vec<BlobId>) -> Result<BlobHold, StoreError> {
        let mut registry = self.registry.lock();
        if let Some(id) = ids.iter().find(|id| registry.condemned.contains(id)) {
            return Err(StoreError::NoBlob { what: unknown(*id) });
        }
        for id in &ids {
            *registry.holds.entry(*id).or_default() += 1;
            if let Some(touched) = &mut registry.touched {
                touched.insert(*id);
            }
        }
        Ok(BlobHold { blobs: self.clone(), ids })
    }

    /// Keeps what a batch of records names until it is published, whether it is there or not: it was looked at before.
    pub(crate) fn keep_named<'a>(
        self: &Arc<Self>,
        records: impl Iterator<Item = &'a bytes::Bytes>,
    ) -> Option<BlobHold> {
        let ids: Vec<BlobId> = records.flat_map(|record| of_record(record)).collect();
        if ids.is_empty() { None } else { self.keep(ids).ok() }
    }

    /// A durable batch names these.
    pub(crate) fn set_named(&self, hold: &BlobHold) {
        let mut registry = self.registry.lock();
        for id in &hold.ids {
            registry.set_named(*id);
        }
    }

    /// How far a blob has got.
    pub fn standing(&self, id: BlobId) -> Result<BlobStanding, StoreError> {
        let part = match self.registry.lock().staged.get(&id).map(|staged| &staged.what) {
            Some(StagedAs::Part(part)) => Some(part.clone()),
            _ => None,
        };
        if let Some(part) = part
            && let Some(at) = self.part_at(id, &part)?
        {
            return Ok(BlobStanding::Begun(at));
        }
        Ok(self.open_file(id)?.map_or(BlobStanding::Unknown, |file| BlobStanding::Whole(file.len())))
    }

    /// Opens a blob to read it.
    pub fn read(self: &Arc<Self>, id: BlobId) -> Result<BlobReader, StoreError> {
        let (place, hold) = (self.open_place()?, self.hold(vec![id])?);
        let file = self.open_file(id)?.ok_or_else(|| StoreError::NoBlob { what: unknown(id) })?;
        Ok(BlobReader { file, _hold: hold, _place: place })
    }

    fn open_place(self: &Arc<Self>) -> Result<OpenPlace, StoreError> {
        let mut registry = self.registry.lock();
        if registry.open >= self.open_max {
            let what = format!("{} blobs are open, the limit (store.open_blobs_max); come back", self.open_max);
            return Err(StoreError::BlobsBusy { what });
        }
        registry.open += 1;
        Ok(OpenPlace(self.clone()))
    }

    /// Opens a whole blob where it is; `None`: it is not.
    pub(crate) fn open_file(&self, id: BlobId) -> Result<Option<WholeFile>, StoreError> {
        // It moves in one direction only, so it is looked for there again.
        for path in [kept_path(id), staged_path(id), kept_path(id)] {
            match self.disk.open(&path, false) {
                Ok(file) => return WholeFile::open(file, path, id).map(Some),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("opening", &path, error)),
            }
        }
        Ok(None)
    }

    fn poisoned(&self, what: &str, error: &io::Error) -> StoreError {
        let reason = self.poison.get_or_init(|| format!("{what}: {error}"));
        tracing::error!(%reason, "the store is poisoned");
        StoreError::Poisoned { reason: reason.clone() }
    }
}

/// The blobs that an encoded record names; none, if it cannot be read. Most records name none, which their first byte says: every commit
/// comes by here.
pub fn of_record(record: &[u8]) -> impl Iterator<Item = BlobId> + use<'_> {
    let names = record.first() == Some(&RECORD_FORMAT_BLOBS);
    let header = names.then(|| Header::parse(record).ok()).flatten();
    header.into_iter().flat_map(|header| header.blobs())
}

fn unknown(id: BlobId) -> String {
    format!(
        "blob {id} is not here: it was never uploaded whole, or nothing named it and it was removed; upload it, then send this again"
    )
}
