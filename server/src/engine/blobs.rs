//! Owns the engine's side of blobs: who may upload, what a draft must hold of what it names, and the loop that sweeps.
//!
//! Bytes do not pass through the pipeline: an upload is whole and durable before the draft that names it is admitted, so that a commit
//! is never slower for the blobs that it names. From its admission until it is published, or refused, a draft holds them.

use crate::engine::Engine;
use crate::engine::caller::Caller;
use crate::engine::faults::fault_of;
use crate::engine::keep::keeper::Stop;
use crate::engine::share::{Counted, Place, Share};
use crate::engine::turn::Turn;
use crate::storage::{BlobCounts, BlobHold, BlobReader, StoreError, Upload, blobs_of_record};
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::record::Header;
use zeolite_proto::{BlobId, BlobStanding, Change, Draft, Fault, Role};

/// A draft names at most so many blobs.
const BLOBS_OF_DRAFT_MAX: usize = 10_000;

/// Between two turns of the sweeper.
const PAUSE: Duration = Duration::from_secs(1);

impl Engine {
    /// How many blobs there are.
    pub fn blob_counts(&self) -> BlobCounts {
        self.blobs.counts()
    }

    /// How far a blob has got.
    pub fn blob_standing(&self, id: BlobId) -> Result<BlobStanding, Fault> {
        self.blobs.standing(id).map_err(fault_of)
    }

    /// A place among the blobs that may be open, out of a connection's share.
    pub(crate) fn blob_place(&self, share: &Share) -> Result<Place, Fault> {
        share.take(Counted::OpenBlobs, 1, self.blobs.open_max())
    }

    /// Opens a blob to read it.
    pub fn read_blob(&self, id: BlobId) -> Result<BlobReader, Fault> {
        self.blobs.read(id).map_err(fault_of)
    }

    /// Begins an upload, or goes on with it; the mode may refuse it. `None` for the upload: it is whole already.
    pub fn upload(&self, caller: &Caller, id: BlobId) -> Result<(Option<Upload>, BlobStanding), Fault> {
        self.may_upload(caller.role)?;
        self.blobs.upload(id, caller.share.uploader(), self.clock().steady()).map_err(|error| self.upload_failed(error))
    }

    /// Takes the next bytes of an upload.
    pub fn append_blob(&self, upload: &Upload, bytes: &[u8]) -> Result<(), Fault> {
        let length = upload.length().map_err(fault_of)?.saturating_add(bytes.len() as u64);
        if length > self.limits().blob_bytes_max {
            return Err(Fault::too_large("size of a blob", length as usize, self.limits().blob_bytes_max as usize));
        }
        upload.append(bytes, self.clock().steady()).map_err(|error| self.upload_failed(error))
    }

    /// Ends an upload: when this returns, it is whole and durable.
    pub fn finish_blob(&self, upload: Upload, len: u64, crc: u32) -> Result<(), Fault> {
        upload.finish(len, crc, self.clock().steady()).map_err(|error| self.upload_failed(error))
    }

    fn may_upload(&self, role: Role) -> Result<(), Fault> {
        match self.health.unwritable() {
            Some(fault) => Err(fault),
            // A copy goes on through the modes that it copies.
            None if matches!(role, Role::Replicate | Role::Admin) => self.check_own_mode(),
            None => self.check_mode(role),
        }
    }

    // A failed sync is the store's end, whichever file it was of.
    fn upload_failed(&self, error: StoreError) -> Fault {
        if let StoreError::Poisoned { reason } = &error {
            self.health.poison(reason);
        }
        fault_of(error)
    }

    /// Keeps what a draft names: all of it must be whole.
    pub(super) fn hold_blobs(&self, draft: &Draft) -> Result<Option<Arc<BlobHold>>, Fault> {
        let mut ids = Vec::new();
        for write in &draft.writes {
            match &write.change {
                Change::Put(record) => ids.extend(blobs_of_record(record)),
                // An operation may bring a whole record of its class.
                Change::Apply { class, operation } => {
                    let header = Header::parse(operation).ok().filter(|header| header.class == class);
                    ids.extend(header.into_iter().flat_map(|header| header.blobs()));
                }
                Change::Delete => {}
            }
        }
        self.hold_named(ids)
    }

    /// Keeps these blobs, if they are whole.
    pub(crate) fn hold_named(&self, mut ids: Vec<BlobId>) -> Result<Option<Arc<BlobHold>>, Fault> {
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(None);
        }
        if ids.len() > BLOBS_OF_DRAFT_MAX {
            return Err(Fault::too_large("number of blobs of one draft", ids.len(), BLOBS_OF_DRAFT_MAX));
        }
        self.blobs.hold(ids).map(|hold| Some(Arc::new(hold))).map_err(fault_of)
    }
}

/// Removes uploads that nobody went on with or named, a while after.
pub(crate) struct Sweeper {
    engine: Arc<Engine>,
}

impl Sweeper {
    pub(crate) fn new(engine: Arc<Engine>) -> Sweeper {
        Sweeper { engine }
    }

    /// One look at what is staged.
    pub(crate) fn turn(&mut self) -> Turn {
        let engine = &self.engine;
        let Ok(upkeep) = engine.long_work().upkeep() else { return Turn::Idle };
        let mut registered = None;
        let mut may_look = || {
            registered = engine.long_work().begin("looking for uploads that nothing names").ok();
            registered.is_some()
        };
        match upkeep.sweep_blobs(engine.clock().steady(), &mut may_look) {
            Ok(swept) if swept.blobs > 0 => {
                let (blobs, bytes) = (swept.blobs, swept.bytes);
                tracing::info!(blobs, bytes, "removed uploads that no commit has named for store.staged_keep_s");
                Turn::Worked
            }
            Ok(_) => Turn::Idle,
            Err(error) => {
                tracing::warn!(%error, "uploads could not be swept; it is tried again");
                Turn::Idle
            }
        }
    }

    pub(crate) fn run(mut self, stop: &Stop) {
        loop {
            self.turn();
            if stop.wait(PAUSE) {
                return;
            }
        }
    }
}
