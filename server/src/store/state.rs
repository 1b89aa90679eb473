//! Owns what the store's parts share: the catalogue of segments, overlay, index, cache, and the tids that say how far
//! each has come.
//!
//! ```text
//!   packed_to <= ... history ... <= settled (in the index) <= published (readers may see) <= appended (durable)
//! ```
//! A restore that is on its way says up to where history is packed before what it brings has come as far: what is said takes
//! force as far as it has, so that the newest snapshot can always be read.
//!
//! Who may change what: the appender raises `published`; the settler raises `settled` and replaces nothing else; pack
//! raises `packed_to` before it takes history away.

use super::blobs::Blobs;
use super::cache::Cache;
use super::disk::Disk;
use super::index::live::LiveIndex;
use super::kinds::Kinds;
use super::log::ahead_file::Files;
use super::log::handles::Handles;
use super::log::segments::Segments;
use super::overlay::Overlay;
use super::recent::Recent;
use super::recover::torn;
use super::settings::StoreSettings;
use super::timelines::Timelines;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zeolite_proto::Tid;

/// The shared part of an open store.
pub(crate) struct State {
    pub(crate) settings: StoreSettings,
    pub(crate) store_id: u64,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) handles: Arc<Handles>,
    pub(crate) segments: Segments,
    pub(crate) ahead: Arc<Files>,
    pub(crate) timelines: Timelines,
    pub(crate) overlay: Overlay,
    pub(crate) index: LiveIndex,
    pub(crate) kinds: Kinds,
    pub(crate) cache: Cache,
    pub(crate) recent: Recent,
    /// How many cut ends of the log are kept.
    pub(crate) torn: u64,
    /// What is kept beside the log.
    pub(crate) blobs: Arc<Blobs>,
    /// The first failure after which nothing is appended any more.
    pub(crate) poison: Arc<OnceLock<String>>,
    published: AtomicU64,
    packed_said: AtomicU64,
    // A restore has said that its source was packed up to here.
    restored_to: AtomicU64,
    /// Batches that were read for their notes.
    #[cfg(test)]
    pub(crate) batches_read: AtomicU64,
    // A pack was begun before the store was opened, and there is no room to end it.
    half_packed: AtomicBool,
    // No oid in the index is greater: a new object's cells need no look into it.
    index_oid_max: AtomicU64,
}

/// What opening the store found out about itself.
pub(crate) struct Facts {
    pub(crate) store_id: u64,
    pub(crate) last: Tid,
    pub(crate) settled: Tid,
    pub(crate) packed_said: Tid,
    pub(crate) restored_to: Tid,
    pub(crate) oid_max: u64,
}

impl State {
    /// Puts the parts of an opened store together.
    pub(crate) fn new(
        settings: StoreSettings,
        handles: Arc<Handles>,
        segments: Segments,
        index: LiveIndex,
        kinds: Kinds,
        blobs: Arc<Blobs>,
        facts: &Facts,
    ) -> State {
        State {
            store_id: facts.store_id,
            torn: torn::count(handles.disk().as_ref()),
            disk: handles.disk().clone(),
            handles,
            timelines: Timelines::of(&segments.current()),
            segments,
            ahead: Arc::default(),
            overlay: Overlay::new(facts.settled, settings.overlay_bytes_max),
            index,
            kinds,
            cache: Cache::new(settings.cache_bytes),
            recent: Recent::new(facts.settled, settings.recent_entries_max),
            poison: blobs.poison().clone(),
            blobs,
            published: AtomicU64::new(facts.last.0),
            packed_said: AtomicU64::new(facts.packed_said.0),
            restored_to: AtomicU64::new(facts.restored_to.0),
            #[cfg(test)]
            batches_read: AtomicU64::new(0),
            half_packed: AtomicBool::new(false),
            index_oid_max: AtomicU64::new(facts.oid_max),
            settings,
        }
    }

    /// The newest tid that readers may see.
    pub(crate) fn published(&self) -> Tid {
        Tid(self.published.load(Ordering::SeqCst))
    }

    /// Lets readers see up to a tid; the appender's alone.
    pub(crate) fn set_published(&self, tid: Tid) {
        self.published.store(tid.0, Ordering::SeqCst);
    }

    /// The oldest snapshot whose revisions are all there.
    pub(crate) fn packed_to(&self) -> Tid {
        self.packed_said().min(self.published())
    }

    /// Up to where history is said to be packed: that may be ahead of what is there.
    pub(crate) fn packed_said(&self) -> Tid {
        Tid(self.packed_said.load(Ordering::SeqCst))
    }

    /// Refuses older snapshots from now on: pack calls it before it takes the first revision away, the appender before readers see what
    /// was packed where it comes from.
    pub(crate) fn set_packed_to(&self, tid: Tid) {
        self.packed_said.fetch_max(tid.0, Ordering::SeqCst);
    }

    /// What was packed where a restore comes from had commit keys that nobody knows here: up to this tid.
    pub(crate) fn keys_unknown_to(&self) -> Tid {
        Tid(self.restored_to.load(Ordering::SeqCst)).min(self.published())
    }

    /// What is published next was restored, and packed up to here where it comes from; the appender's alone.
    pub(crate) fn set_restored_to(&self, tid: Tid) {
        self.restored_to.fetch_max(tid.0, Ordering::SeqCst);
    }

    /// Whether nothing may be appended, because it might name what a pack of an earlier life is about to take.
    pub(crate) fn is_half_packed(&self) -> bool {
        self.half_packed.load(Ordering::SeqCst)
    }

    /// Opening could not end a pack; or it is ended now.
    pub(crate) fn set_half_packed(&self, half_packed: bool) {
        self.half_packed.store(half_packed, Ordering::SeqCst);
    }

    /// The greatest oid in the index.
    pub(crate) fn index_oid_max(&self) -> u64 {
        self.index_oid_max.load(Ordering::SeqCst)
    }

    /// Raises the greatest oid in the index; the settler's alone, before it removes the cells from the overlay.
    pub(crate) fn raise_index_oid_max(&self, oid: u64) {
        self.index_oid_max.fetch_max(oid, Ordering::SeqCst);
    }
}
