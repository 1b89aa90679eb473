//! Owns whose an upload is that no commit has named yet, and how much of what may be staged one uploader may have.
//!
//! ```text
//!   all that may be staged ├────────────────────────────────────────┤   store.staged_blobs_max, staged_bytes_max
//!   one uploader           ├─────────┤                                  a percentage of each; the first upload has any size
//! ```
//! Whoever goes on with an upload has it from then on. Where there is no room, what was *left* goes first, the longest ago before the
//! others: what nobody has touched for an hour, and after a minute already what is of an uploader who is gone. As long as there is room
//! both stay for `staged_keep_s`, to be gone on with.

use super::{Blobs, Naming, Registry, Staged, StagedAs};
use crate::store::StoreError;
use std::sync::{Arc, Weak};
use std::time::Duration;
use zeolite_proto::BlobId;

/// An uploader who is gone may come back within this.
const GONE: Duration = Duration::from_secs(60);
/// One who is there may use what he has uploaded within this.
const IDLE: Duration = Duration::from_secs(3600);
/// So much is removed at most to make room for one upload.
const REMOVED_MAX: usize = 64;

/// What is said where there is no room.
const HINT: &str = "commit what names some, or come back: what was left makes room in time";

/// Who uploads; by default somebody without a bound.
#[derive(Clone, Debug, Default)]
pub struct Uploader(Option<Line>);

#[derive(Clone, Debug)]
struct Line {
    number: u64,
    percent: usize,
    alive: Weak<()>,
}

/// What one uploader has.
#[derive(Clone, Copy, Default)]
pub(super) struct Has {
    blobs: usize,
    bytes: u64,
}

impl Uploader {
    /// One of that number, which nobody else has, as long as `alive` is.
    pub fn new(number: u64, percent: usize, alive: &Arc<()>) -> Uploader {
        Uploader(Some(Line { number, percent, alive: Arc::downgrade(alive) }))
    }

    /// Of an earlier life.
    pub(super) fn gone() -> Uploader {
        Uploader(Some(Line { number: 0, percent: 100, alive: Weak::new() }))
    }

    pub(super) fn is(&self, other: &Uploader) -> bool {
        self.0.as_ref().map(|line| line.number) == other.0.as_ref().map(|line| line.number)
    }

    fn left_after(&self) -> Duration {
        match &self.0 {
            Some(line) if line.alive.strong_count() == 0 => GONE,
            _ => IDLE,
        }
    }
}

impl Registry {
    /// An uploader has so much more.
    pub(super) fn give(&mut self, by: &Uploader, blobs: usize, bytes: u64) {
        if let Some(line) = &by.0 {
            let has = self.uploaders.entry(line.number).or_default();
            (has.blobs, has.bytes) = (has.blobs + blobs, has.bytes + bytes);
        }
    }

    /// An upload is its uploader's no more: it was named, or it is gone.
    pub(super) fn take(&mut self, by: &Uploader, bytes: u64) {
        let Some(line) = &by.0 else { return };
        if let Some(has) = self.uploaders.get_mut(&line.number) {
            (has.blobs, has.bytes) = (has.blobs.saturating_sub(1), has.bytes.saturating_sub(bytes));
            if has.blobs == 0 {
                self.uploaders.remove(&line.number);
            }
        }
    }

    fn has(&self, by: &Uploader) -> Has {
        by.0.as_ref().and_then(|line| self.uploaders.get(&line.number)).copied().unwrap_or_default()
    }
}

/// Why there is no room: for this uploader, or for anybody.
pub(super) struct NoRoom {
    is_own: bool,
    busy: StoreError,
}

impl NoRoom {
    fn for_all(what: String) -> NoRoom {
        NoRoom { is_own: false, busy: StoreError::BlobsBusy { what } }
    }
}

impl Blobs {
    /// Whether there is room for one upload more, of this uploader.
    pub(super) fn room(&self, registry: &Registry, by: &Uploader) -> Result<(), NoRoom> {
        let staged = registry.staged.len();
        if staged >= self.staged_max {
            let what =
                format!("{staged} uploads are not named by a commit yet, the limit (store.staged_blobs_max); {HINT}");
            return Err(NoRoom::for_all(what));
        }
        self.room_of(registry, by, 0)
    }

    /// Whether an uploader may have an upload of so many bytes beside what is counted for him, and for all.
    pub(super) fn room_of(&self, registry: &Registry, by: &Uploader, bytes: u64) -> Result<(), NoRoom> {
        let (staged, most) = (registry.staged_bytes, self.staged_bytes_max);
        if bytes > 0 && staged + bytes > most {
            let what = format!(
                "uploads that no commit has named yet have {staged} bytes, at most {most} may be (store.staged_bytes_max); {HINT}"
            );
            return Err(NoRoom::for_all(what));
        }
        let (Some(line), has) = (&by.0, registry.has(by)) else { return Ok(()) };
        let of = |all: u64| (u128::from(all) * line.percent as u128 / 100) as u64;
        let (blobs_max, bytes_max) = (of(self.staged_max as u64).max(1) as usize, of(most));
        if has.blobs == 0 || (has.blobs < blobs_max && has.bytes + bytes <= bytes_max) {
            return Ok(());
        }
        let what = format!(
            "this connection has {} uploads of {} bytes that no commit has named yet, and may have {blobs_max} of {bytes_max} bytes: \
             {} % of what all may have together (sessions.connection_share_percent); {HINT}",
            has.blobs, has.bytes, line.percent
        );
        Err(NoRoom { is_own: true, busy: StoreError::BlobsBusy { what } })
    }

    /// Removes what was left, but for this one, until `has_room` says so; what it says at last.
    pub(super) fn make_room(
        &self,
        id: BlobId,
        by: &Uploader,
        now: Duration,
        mut has_room: impl FnMut(&mut Registry) -> Result<(), NoRoom>,
    ) -> Result<(), StoreError> {
        let Err(NoRoom { is_own, mut busy }) = has_room(&mut self.registry.lock()) else { return Ok(()) };
        // Not while somebody sweeps: what is held would not be noted for both.
        let Some(_sweeping) = self.sweeping.try_lock() else { return Err(busy) };
        let _noting = self.note_holds();
        for left in self.left_longest(id, is_own.then_some(by), now) {
            if !self.remove_left(left, now)? {
                continue;
            }
            tracing::info!(id = %left, "removed an upload that was left and that no commit had named, to make room");
            match has_room(&mut self.registry.lock()) {
                Ok(()) => return Ok(()),
                Err(full) => busy = full.busy,
            }
        }
        Err(busy)
    }

    /// Whether it was; somebody may have gone on with it, or hold it, by now.
    fn remove_left(&self, id: BlobId, now: Duration) -> Result<bool, StoreError> {
        let part = {
            let registry = self.registry.lock();
            match registry.staged.get(&id) {
                Some(staged) if registry.is_left(id, staged, now) => match &staged.what {
                    StagedAs::Part(part) => Some(part.clone()),
                    StagedAs::Whole(_) => None,
                },
                _ => return Ok(false),
            }
        };
        let Some(part) = part else { return Ok(self.remove_staged(id)?.is_some()) };
        // Whoever is at it goes on, and whoever was there first has said so under this lock.
        let Some(mut part) = part.try_lock() else { return Ok(false) };
        let is_left = {
            let registry = self.registry.lock();
            registry.staged.get(&id).is_some_and(|staged| registry.is_left(id, staged, now))
        };
        if part.is_over || !is_left {
            return Ok(false);
        }
        self.end_part(id, &mut part).map(|()| true)
    }

    /// What was left, of one uploader or of anybody: what has been longest, first.
    fn left_longest(&self, but: BlobId, of: Option<&Uploader>, now: Duration) -> Vec<BlobId> {
        let registry = self.registry.lock();
        let counts = |staged: &Staged| of.is_none_or(|by| staged.by.is(by));
        let left = registry
            .staged
            .iter()
            .filter(|(id, staged)| **id != but && counts(staged) && registry.is_left(**id, staged, now));
        let mut left: Vec<(Duration, BlobId)> = left.map(|(id, staged)| (staged.since, *id)).collect();
        left.sort_unstable();
        left.into_iter().take(REMOVED_MAX).map(|(_, id)| id).collect()
    }
}

impl Registry {
    fn is_left(&self, id: BlobId, staged: &Staged, now: Duration) -> bool {
        let idle = now.checked_sub(staged.since).is_some_and(|idle| idle >= staged.by.left_after());
        idle && !self.holds.contains_key(&id)
            && !matches!(staged.what, StagedAs::Whole(Naming::Named | Naming::Unknown))
    }
}
