//! Owns an upload: bytes behind each other under an id, gone on with from where it got to, whole at the end.
//!
//! Whoever goes on with an upload has its turn: an older connection that was thought dead, and is not, finds that it has lost it.

use super::file::{PartFile, Stopped, failed, file_len};
use super::{Blobs, Naming, OpenPlace, PART, STAGED_DIR, Staged, StagedAs, Uploader, staged_path};
use crate::store::StoreError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{BlobId, BlobStanding};

/// An upload on its way, with whoever has its turn.
#[derive(Default)]
pub(super) struct Part {
    /// `None`: not opened yet in this life, or it was ended.
    file: Option<PartFile>,
    turn: u64,
    /// It is whole now, or was removed.
    pub(super) is_over: bool,
}

/// Somebody's turn with an upload.
pub struct Upload {
    id: BlobId,
    part: Arc<Mutex<Part>>,
    turn: u64,
    by: Uploader,
    place: OpenPlace,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut part = self.part.lock();
        if part.turn == self.turn
            && let Some(file) = &mut part.file
        {
            file.rest();
        }
    }
}

pub(super) fn part_path(id: BlobId) -> String {
    format!("{}{PART}", staged_path(id))
}

impl Blobs {
    /// Begins an upload, or goes on with it: from where it says it stands. `None` for the upload: the blob is whole already.
    pub fn upload(
        self: &Arc<Self>,
        id: BlobId,
        by: Uploader,
        now: Duration,
    ) -> Result<(Option<Upload>, BlobStanding), StoreError> {
        if let Some(reason) = self.poison.get() {
            return Err(StoreError::Poisoned { reason: reason.clone() });
        }
        loop {
            // Before anything is begun: what is refused for want of a file must not count.
            let place = self.open_place()?;
            let part = match self.begun(id)? {
                Some(part) => part,
                None => match self.open_file(id)? {
                    Some(file) => return Ok((None, BlobStanding::Whole(file.len()))),
                    None => match self.begin(id, &by, now)? {
                        Some(part) => part,
                        None => continue,
                    },
                },
            };
            let mut open = part.lock();
            if open.is_over {
                continue;
            }
            let at = self.open_part(id, &mut open)?;
            self.take_room(id, at, &by, now)?;
            open.turn += 1;
            let turn = open.turn;
            drop(open);
            return Ok((Some(Upload { id, part, turn, by, place }), BlobStanding::Begun(at)));
        }
    }

    fn begun(&self, id: BlobId) -> Result<Option<Arc<Mutex<Part>>>, StoreError> {
        let registry = self.registry.lock();
        if registry.condemned.contains(&id) {
            let what = format!("blob {id} is being removed; upload it under a new id");
            return Err(StoreError::BlobsBusy { what });
        }
        Ok(match registry.staged.get(&id).map(|staged| &staged.what) {
            Some(StagedAs::Part(part)) => Some(part.clone()),
            _ => None,
        })
    }

    // `None`: it is whole by now.
    fn begin(&self, id: BlobId, by: &Uploader, now: Duration) -> Result<Option<Arc<Mutex<Part>>>, StoreError> {
        let dir = self.disk.make_dir(STAGED_DIR);
        dir.map_err(|error| failed("making", STAGED_DIR, error))?;
        let mut begun = None;
        self.make_room(id, by, now, |registry| {
            match registry.staged.get(&id).map(|staged| &staged.what) {
                Some(StagedAs::Part(part)) => begun = Some(part.clone()),
                Some(StagedAs::Whole(_)) => {}
                None => {
                    self.room(registry, by)?;
                    let part: Arc<Mutex<Part>> = Arc::default();
                    begun = Some(part.clone());
                    registry
                        .staged
                        .insert(id, Staged { what: StagedAs::Part(part), by: by.clone(), bytes: 0, since: now });
                    registry.give(by, 1, 0);
                }
            }
            Ok(())
        })?;
        Ok(begun)
    }

    /// Where an upload stands; `None`: it is over.
    pub(super) fn part_at(&self, id: BlobId, part: &Mutex<Part>) -> Result<Option<u64>, StoreError> {
        let mut part = part.lock();
        if part.is_over {
            return Ok(None);
        }
        if let Some(file) = &part.file {
            return Ok(Some(file.at()));
        }
        let at = self.open_part(id, &mut part)?;
        if let Some(file) = &mut part.file {
            file.rest();
        }
        Ok(Some(at))
    }

    // Opens the file, if it is not, and forgets what is no whole frame: it is sent again.
    fn open_part(&self, id: BlobId, part: &mut Part) -> Result<u64, StoreError> {
        let path = part_path(id);
        let open = || self.disk.open(&path, true).map_err(Stopped::from);
        let opened = match part.file.take() {
            None => open().and_then(|file| PartFile::resume(file, path.clone(), id)),
            Some(mut resting) => open().and_then(|file| resting.wake(file)).map(|()| resting),
        };
        let file = opened.map_err(|stopped| self.stopped(id, stopped))?;
        let at = file.at();
        part.file = Some(file);
        Ok(at)
    }

    fn stopped(&self, id: BlobId, stopped: Stopped) -> StoreError {
        match stopped {
            Stopped::Full => StoreError::DiskFull,
            Stopped::Sync(error) => self.poisoned("syncing a blob", &error),
            Stopped::Write(error) => failed("writing", &part_path(id), error),
        }
    }

    // An upload has so many bytes from now on, and this uploader, if there is room.
    fn take_room(&self, id: BlobId, bytes: u64, by: &Uploader, now: Duration) -> Result<(), StoreError> {
        self.make_room(id, by, now, |registry| {
            let Some(staged) = registry.staged.get_mut(&id) else { return Ok(()) };
            let (former, before) = (std::mem::take(&mut staged.by), staged.bytes);
            // What it has is not counted twice.
            registry.take(&former, before);
            registry.staged_bytes -= before;
            let room = if bytes > before || !former.is(by) { self.room_of(registry, by, bytes) } else { Ok(()) };
            let (by, bytes) = if room.is_ok() { (by, bytes) } else { (&former, before) };
            registry.give(by, 1, bytes);
            registry.staged_bytes += bytes;
            if let Some(staged) = registry.staged.get_mut(&id) {
                (staged.by, staged.bytes) = (by.clone(), bytes);
                staged.since = if room.is_ok() { now } else { staged.since };
            }
            room
        })
    }
}

impl Upload {
    /// Takes the next bytes.
    pub fn append(&self, bytes: &[u8], now: Duration) -> Result<(), StoreError> {
        let mut part = self.mine()?;
        let Some(file) = &mut part.file else { return Err(self.lost()) };
        let blobs = self.blobs();
        blobs.take_room(self.id, file.len() + bytes.len() as u64, &self.by, now)?;
        let appended = file.append(bytes);
        if appended.is_err() {
            part.file = None;
        }
        appended.map_err(|stopped| blobs.stopped(self.id, stopped))
    }

    /// So many bytes came.
    pub fn length(&self) -> Result<u64, StoreError> {
        Ok(self.mine()?.file.as_ref().map_or(0, PartFile::len))
    }

    /// Lets it rest, to be gone on with by another: from where that one begins.
    pub fn rest(self) -> u64 {
        self.part.lock().file.as_ref().map_or(0, PartFile::at)
    }

    /// Ends it: what came is what was sent, by its length and CRC-32. When this returns, the blob is whole and durable. What does not
    /// fit is removed.
    pub fn finish(self, len: u64, crc: u32, now: Duration) -> Result<(), StoreError> {
        let blobs = self.blobs();
        let mut part = self.mine()?;
        let Some(file) = &mut part.file else { return Err(self.lost()) };
        if !file.matches(len, crc) {
            let came = file.len();
            blobs.end_part(self.id, &mut part)?;
            let what = format!(
                "{came} bytes came of blob {}, and {len} with another checksum were sent, so it was removed; upload it anew",
                self.id
            );
            return Err(StoreError::Refused { what });
        }
        if let Err(stopped) = file.finish() {
            part.file = None;
            return Err(blobs.stopped(self.id, stopped));
        }
        let (from, to) = (file.path().to_owned(), staged_path(self.id));
        part.file = None;
        blobs.disk.rename(&from, &to).map_err(|error| failed("renaming", &from, error))?;
        blobs.disk.sync_dir(STAGED_DIR).map_err(|error| blobs.poisoned("syncing the directory of blobs", &error))?;
        part.is_over = true;
        let mut registry = blobs.registry.lock();
        if let Some(staged) = registry.staged.get_mut(&self.id) {
            let (before, bytes, by) = (staged.bytes, file_len(len).unwrap_or(len), self.by.clone());
            *staged = Staged { what: StagedAs::Whole(Naming::Not), by, bytes, since: now };
            registry.staged_bytes = registry.staged_bytes - before + bytes;
            registry.take(&self.by, before);
            registry.give(&self.by, 1, bytes);
        }
        Ok(())
    }

    fn blobs(&self) -> &Blobs {
        &self.place.0
    }

    fn mine(&self) -> Result<parking_lot::MutexGuard<'_, Part>, StoreError> {
        let part = self.part.lock();
        if part.turn == self.turn && !part.is_over { Ok(part) } else { Err(self.lost()) }
    }

    fn lost(&self) -> StoreError {
        let what =
            format!("somebody else goes on with the upload of blob {}, or it was removed; ask how far it is", self.id);
        StoreError::BlobsBusy { what }
    }
}

impl Blobs {
    /// Removes an upload that is not whole.
    pub(super) fn end_part(&self, id: BlobId, part: &mut Part) -> Result<(), StoreError> {
        let path = part_path(id);
        part.file = None;
        self.disk.remove(&path).map_err(|error| failed("removing", &path, error))?;
        part.is_over = true;
        self.forget_staged(id);
        Ok(())
    }

    /// It is staged no more.
    pub(super) fn forget_staged(&self, id: BlobId) {
        let mut registry = self.registry.lock();
        if let Some(staged) = registry.staged.remove(&id) {
            registry.staged_bytes -= staged.bytes;
            registry.take(&staged.by, staged.bytes);
        }
    }
}
