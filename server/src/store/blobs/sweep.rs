//! Owns the removal of blobs: uploads that nobody went on with or named, and, after a pack, what no revision names any more.
//!
//! ```text
//!   from here on what is held is noted ── everything published is in the index ── the index is gone over: named
//!     ── each file that is not named, not noted, not held: condemned ── removed ── condemned no more
//! ```
//! A draft holds what it names before it is sealed, and a batch until it is published: so whatever names a blob that is not marked
//! here was held since the beginning, and its blob stays until the next time.

use super::file::failed;
use super::marks::{Named, named};
use super::upload::Part;
use super::{Blobs, EARLIER, Naming, StagedAs, kept_path, shard_dir, staged_path};
use crate::store::StoreError;
use crate::store::reader::Reader;
use crate::store::settle::Settler;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{BlobId, hash};

// Transactions settled at once before the look at what is named.
const SETTLE_TXNS: usize = 4096;

/// What a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Blobs removed, whole or not.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// As long as it lives, what is held is noted.
pub(super) struct Noting<'a>(&'a Blobs);

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        self.0.registry.lock().touched = None;
    }
}

/// Is told how far the look at what is named has come.
type Step<'a> = dyn FnMut(u64, u64) -> Result<(), StoreError> + 'a;

/// Removes what was named once and is named by no revision any more. No pack may run beside it.
pub fn sweep_kept(reader: &Reader, settler: &Mutex<Settler>, step: &mut Step<'_>) -> Result<Swept, StoreError> {
    let blobs = reader.state.blobs.clone();
    let _sweeping = blobs.sweeping.lock();
    blobs.move_named()?;
    let mut swept = Swept::default();
    if !blobs.has_kept()? {
        return Ok(swept);
    }
    let _noting = blobs.note_holds();
    let marks = blobs.marks(reader, settler, step)?;
    for shard in 0..=255 {
        for id in blobs.kept_in(shard)? {
            if !is_named(&marks, id)
                && let Some(bytes) = blobs.remove_unless_held(id, &kept_path(id))?
            {
                (swept.blobs, swept.bytes) = (swept.blobs + 1, swept.bytes + bytes);
                blobs.uncount(bytes);
            }
        }
    }
    Ok(swept)
}

/// Moves what was named to its place, and removes what is staged for too long and named by nothing. `may_look`: whether the index may
/// be gone over now, which an upload from an earlier life needs. No pack may run beside that.
pub fn sweep_staged(
    reader: &Reader,
    settler: &Mutex<Settler>,
    now: Duration,
    may_look: &mut dyn FnMut() -> bool,
) -> Result<Swept, StoreError> {
    let blobs = reader.state.blobs.clone();
    let _sweeping = blobs.sweeping.lock();
    if !blobs.is_counted() {
        blobs.count_kept()?;
    }
    blobs.begin_time(now);
    blobs.move_named()?;
    let mut swept = Swept::default();
    for (id, part) in blobs.old_parts(now) {
        swept.add(blobs.end_old_part(id, &part, now)?);
    }
    let _noting = blobs.note_holds();
    if blobs.has_unknown() && may_look() {
        let marks = blobs.marks(reader, settler, &mut |_, _| Ok(()))?;
        blobs.learn(&marks);
    }
    for id in blobs.old_whole(now) {
        swept.add(blobs.remove_staged(id)?);
    }
    blobs.move_named()?;
    Ok(swept)
}

fn is_named(marks: &[Named], id: BlobId) -> bool {
    marks.binary_search_by_key(&id, |named| named.id).is_ok()
}

impl Swept {
    fn add(&mut self, bytes: Option<u64>) {
        self.blobs += u64::from(bytes.is_some());
        self.bytes += bytes.unwrap_or(0);
    }
}

impl Blobs {
    pub(super) fn note_holds(&self) -> Noting<'_> {
        let mut registry = self.registry.lock();
        let held: hash::Set<BlobId> = registry.holds.keys().copied().collect();
        registry.touched = Some(held);
        Noting(self)
    }

    fn marks(&self, reader: &Reader, settler: &Mutex<Settler>, step: &mut Step<'_>) -> Result<Vec<Named>, StoreError> {
        let state = reader.state.as_ref();
        let published = state.published();
        while state.overlay.settled() < published {
            settler.lock().settle(SETTLE_TXNS)?;
            step(0, 0)?;
        }
        named(state, step)
    }

    fn has_kept(&self) -> Result<bool, StoreError> {
        for shard in 0..=255 {
            if !self.kept_in(shard)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    // Removes a file, if nobody holds it or has held it meanwhile; how large it was.
    fn remove_unless_held(&self, id: BlobId, path: &str) -> Result<Option<u64>, StoreError> {
        {
            let mut registry = self.registry.lock();
            let is_held = registry.holds.contains_key(&id);
            if is_held || registry.touched.as_ref().is_none_or(|touched| touched.contains(&id)) {
                return Ok(None);
            }
            registry.condemned.insert(id);
        }
        let length = self.disk.open(path, false).and_then(|file| file.len());
        let removed = length.and_then(|bytes| self.disk.remove(path).map(|()| bytes));
        self.registry.lock().condemned.remove(&id);
        match removed {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("removing", path, error)),
        }
    }

    pub(super) fn remove_staged(&self, id: BlobId) -> Result<Option<u64>, StoreError> {
        let removed = self.remove_unless_held(id, &staged_path(id))?;
        if removed.is_some() {
            self.forget_staged(id);
        }
        Ok(removed)
    }

    fn uncount(&self, bytes: u64) {
        let mut registry = self.registry.lock();
        registry.kept = (registry.kept.0.saturating_sub(1), registry.kept.1.saturating_sub(bytes));
    }

    // The time of what is from an earlier life begins now.
    fn begin_time(&self, now: Duration) {
        let mut registry = self.registry.lock();
        registry.staged.values_mut().filter(|staged| staged.since == EARLIER).for_each(|staged| staged.since = now);
    }

    fn is_old(&self, since: Duration, now: Duration) -> bool {
        now.saturating_sub(since) >= self.keep
    }

    fn old_parts(&self, now: Duration) -> Vec<(BlobId, Arc<Mutex<Part>>)> {
        let registry = self.registry.lock();
        let old = registry.staged.iter().filter(|(_, staged)| self.is_old(staged.since, now));
        let parts = old.filter_map(|(id, staged)| match &staged.what {
            StagedAs::Part(part) => Some((*id, part.clone())),
            StagedAs::Whole(_) => None,
        });
        parts.collect()
    }

    fn end_old_part(&self, id: BlobId, part: &Mutex<Part>, now: Duration) -> Result<Option<u64>, StoreError> {
        let mut part = part.lock();
        // It may have been gone on with, or be whole, by now.
        let bytes = self.registry.lock().staged.get(&id).and_then(|staged| {
            let is_part = matches!(staged.what, StagedAs::Part(_));
            (is_part && self.is_old(staged.since, now)).then_some(staged.bytes)
        });
        if bytes.is_some() && !part.is_over {
            self.end_part(id, &mut part)?;
        }
        Ok(bytes)
    }

    // What is whole, staged for too long, and named by nothing.
    fn old_whole(&self, now: Duration) -> Vec<BlobId> {
        let registry = self.registry.lock();
        let old = registry.staged.iter().filter(|(_, staged)| self.is_old(staged.since, now));
        old.filter(|(_, staged)| matches!(staged.what, StagedAs::Whole(Naming::Not))).map(|(id, _)| *id).collect()
    }

    fn has_unknown(&self) -> bool {
        let registry = self.registry.lock();
        registry.staged.values().any(|staged| matches!(staged.what, StagedAs::Whole(Naming::Unknown)))
    }

    // What is from an earlier life is named or not, as the log says. What a commit has named meanwhile is known.
    fn learn(&self, marks: &[Named]) {
        let mut registry = self.registry.lock();
        let mut known = Vec::new();
        for (id, staged) in &mut registry.staged {
            if let StagedAs::Whole(naming @ Naming::Unknown) = &mut staged.what {
                *naming = Naming::Not;
                known.extend(is_named(marks, *id).then_some(*id));
            }
        }
        known.into_iter().for_each(|id| registry.set_named(id));
    }

    // Moves what was named to its place. A crash leaves it here or there, and it is found in both.
    fn move_named(&self) -> Result<(), StoreError> {
        let is_named = |staged: &super::Staged| matches!(staged.what, StagedAs::Whole(Naming::Named));
        let named: Vec<BlobId> = {
            let registry = self.registry.lock();
            registry.staged.iter().filter(|(_, staged)| is_named(staged)).map(|(id, _)| *id).collect()
        };
        for id in named {
            let (from, to) = (staged_path(id), kept_path(id));
            self.disk.make_dir(&shard_dir(id)).map_err(|error| failed("making", &shard_dir(id), error))?;
            let moved = self.disk.rename(&from, &to);
            moved.map_err(|error| failed("moving", &from, error))?;
            let mut registry = self.registry.lock();
            if let Some(staged) = registry.staged.remove(&id) {
                registry.staged_bytes -= staged.bytes;
                registry.kept = (registry.kept.0 + 1, registry.kept.1 + staged.bytes);
            }
        }
        Ok(())
    }
}
