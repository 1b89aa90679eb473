//! Owns the simulated disk: a data directory in memory that can lose unsynced bytes, tear writes, run full, run out of
//! open files and fail.
//!
//! It keeps, for each file, what is durable and the list of what was done since the last sync. [`SimDisk::crash`] makes
//! the disk that a power cut could leave behind:
//!
//! ```text
//!   durable bytes  +  none | all | a prefix, its last write torn | any sectors of the unsynced writes
//!   durable names  +  a prefix of the creations, renames and removals since the directory's last `sync_dir`
//! ```
//! A failed `sync_data` forgets its unsynced writes without making them durable, as Linux does: a later sync that
//! succeeds does not bring them back. Everything follows from the seed, so a failure can be run again.
//!
//! What is not simulated: reordering between synced and later writes (a sync is a barrier), bits that rot by themselves
//! (use [`SimDisk::edit`]), and slow calls.

mod crash;

use self::crash::{Change, Content, NameChange, dir_of};
use super::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

const BLOCK_BYTES: u64 = 4096;
// What Linux says to a process that has no more files.
const EMFILE: i32 = 24;

/// A call that changes something, or reads: what a fault is aimed at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SimOp {
    /// `read_exact_at`
    Read,
    /// `write_all_at`
    Write,
    /// `set_len`
    SetLen,
    /// `sync_data`
    Sync,
    /// `open` that creates
    Create,
    /// `rename`
    Rename,
    /// `remove`
    Remove,
    /// `sync_dir`
    SyncDir,
}

/// A disk in memory. Clones and open files share it; a crash gives a new one and leaves this one as it was.
#[derive(Clone, Default)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Clone, Default)]
struct World {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    names_durable: BTreeMap<String, u64>,
    names_unsynced: Vec<NameChange>,
    next_id: u64,
    calls: u64,
    reads: u64,
    syncs: u64,
    written_bytes: u64,
    stop_at: Option<u64>,
    faults: Vec<Fault>,
    room_bytes: Option<u64>,
    size_bytes: Option<u64>,
    opens: u64,
    open_files: usize,
    open_files_max: Option<usize>,
}

#[derive(Clone)]
struct Fault {
    op: SimOp,
    prefix: String,
    skip: u64,
    kind: io::ErrorKind,
}

impl SimDisk {
    /// An empty disk without faults.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// The disk after a power cut now; the seed chooses what of the unsynced survives. Faults are not carried over.
    pub fn crash(&self, seed: u64) -> SimDisk {
        let mut dice = fastrand::Rng::with_seed(seed);
        let world = self.world.lock();
        let mut names = world.names_durable.clone();
        let kept = dice.usize(..=world.names_unsynced.len());
        world.names_unsynced[..kept].iter().for_each(|change| change.apply(&mut names));
        let ids: BTreeSet<u64> = names.values().copied().collect();
        let survive = |(id, content): (&u64, &Content)| (*id, content.survive(&mut dice));
        let files = world.files.iter().filter(|(id, _)| ids.contains(id)).map(survive).collect();
        let after = World { files, names_durable: names.clone(), names, next_id: world.next_id, ..World::default() };
        SimDisk { world: Arc::new(Mutex::new(after)) }
    }

    /// A copy of the disk as it is now, unsynced bytes and faults included: what another process finds after this one is
    /// killed, or a picture to crash later.
    pub fn fork(&self) -> SimDisk {
        let world = World { open_files: 0, ..self.world.lock().clone() };
        SimDisk { world: Arc::new(Mutex::new(world)) }
    }

    /// How many changing calls (all of [`SimOp`] but reads) were made: the boundaries at which a run can be stopped.
    pub fn calls(&self) -> u64 {
        self.world.lock().calls
    }

    /// How many reads were made.
    pub fn reads(&self) -> u64 {
        self.world.lock().reads
    }

    /// How many syncs of files and directories were made.
    pub fn syncs(&self) -> u64 {
        self.world.lock().syncs
    }

    /// How many bytes were written.
    pub fn written_bytes(&self) -> u64 {
        self.world.lock().written_bytes
    }

    /// From the changing call number `call` on (counted as [`SimDisk::calls`] does) every changing call fails and does
    /// nothing, as if the machine had stopped: run until it fails, then [`SimDisk::crash`].
    pub fn stop_at(&self, call: u64) {
        self.world.lock().stop_at = Some(call);
    }

    /// Lets one call fail: after `skip` calls of this kind on paths with this prefix. A write fails after half its bytes.
    pub fn fail(&self, op: SimOp, prefix: &str, skip: u64, kind: io::ErrorKind) {
        self.world.lock().faults.push(Fault { op, prefix: prefix.to_owned(), skip, kind });
    }

    /// No call fails any more, whatever was asked for.
    pub fn heal(&self) {
        self.world.lock().faults.clear();
    }

    /// Leaves room for this many more bytes, in blocks of 4 KiB; `None`: no limit.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.world.lock().room_bytes = bytes;
    }

    /// How large the disk is said to be.
    pub fn set_size(&self, bytes: u64) {
        self.world.lock().size_bytes = Some(bytes);
    }

    /// Lets so many files be open at once: more fail as for a process that has no more; `None`: no limit.
    pub fn set_open_files_max(&self, files: Option<usize>) {
        self.world.lock().open_files_max = files;
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.world.lock().open_files
    }

    /// How many were opened in all.
    pub fn opens(&self) -> u64 {
        self.world.lock().opens
    }

    /// Changes the bytes of a file behind everybody's back, durably; whether there is such a file.
    pub fn edit(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut world = self.world.lock();
        let Some(id) = world.names.get(path).copied() else { return false };
        let Some(content) = world.files.get_mut(&id) else { return false };
        change(&mut content.now);
        content.durable = content.now.clone();
        content.unsynced.clear();
        true
    }

    /// Puts a file there, durably; its name is made if there is none.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        let mut world = self.world.lock();
        let id = world.next_id;
        world.next_id += 1;
        let blocks = (0..(bytes.len() as u64).div_ceil(BLOCK_BYTES)).collect();
        let content =
            Content { path: path.to_owned(), now: bytes.clone(), durable: bytes, unsynced: Vec::new(), blocks };
        world.files.insert(id, content);
        world.names.insert(path.to_owned(), id);
        world.names_durable.insert(path.to_owned(), id);
    }

    /// The bytes of a file as a reader sees them now.
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let world = self.world.lock();
        world.files.get(world.names.get(path)?).map(|content| content.now.clone())
    }
}

impl World {
    // Counts a changing call and says whether it is to fail.
    fn enter(&mut self, op: SimOp, path: &str) -> io::Result<()> {
        if op != SimOp::Read {
            if self.stop_at.is_some_and(|stop| self.calls >= stop) {
                return Err(io::Error::other("the simulated machine has stopped"));
            }
            self.calls += 1;
        } else {
            self.reads += 1;
        }
        let mut failed = None;
        self.faults.retain_mut(|fault| {
            if failed.is_some() || fault.op != op || !path.starts_with(&fault.prefix) {
                return true;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                return true;
            }
            failed = Some(fault.kind);
            false
        });
        failed.map_or(Ok(()), |kind| Err(io::Error::new(kind, format!("simulated failure of {op:?} on {path}"))))
    }

    fn write(&mut self, id: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        let path = self.files.get(&id).map(|content| content.path.clone()).unwrap_or_default();
        let calls = self.calls;
        let entered = self.enter(SimOp::Write, &path);
        if entered.is_err() && self.calls == calls {
            return entered;
        }
        let wanted = if entered.is_err() { bytes.len() / 2 } else { bytes.len() };
        let Some(content) = self.files.get_mut(&id) else { return Err(io::ErrorKind::NotFound.into()) };
        let mut fits = wanted;
        for block in offset / BLOCK_BYTES..(offset + wanted as u64).div_ceil(BLOCK_BYTES) {
            if content.blocks.contains(&block) {
                continue;
            }
            match &mut self.room_bytes {
                Some(room) if *room < BLOCK_BYTES => {
                    fits = (block * BLOCK_BYTES).saturating_sub(offset) as usize;
                    break;
                }
                Some(room) => *room -= BLOCK_BYTES,
                None => {}
            }
            content.blocks.insert(block);
        }
        if fits > 0 {
            let change = Change::Write { offset: offset as usize, bytes: bytes[..fits].to_vec() };
            change.apply(&mut content.now);
            content.unsynced.push(change);
            self.written_bytes += fits as u64;
        }
        entered?;
        if fits < wanted { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn rename_apply(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.names_unsynced.push(change);
    }

    fn free_blocks(&mut self, id: u64, from: u64) {
        if let Some(content) = self.files.get_mut(&id) {
            let freed = content.blocks.split_off(&from).len() as u64 * BLOCK_BYTES;
            self.room_bytes = self.room_bytes.map(|room| room + freed);
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world.lock();
        if world.open_files_max.is_some_and(|max| world.open_files >= max) {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        let id = match world.names.get(path) {
            Some(id) => *id,
            None if create => {
                world.enter(SimOp::Create, path)?;
                let id = world.next_id;
                world.next_id += 1;
                world.files.insert(id, Content { path: path.to_owned(), ..Content::default() });
                world.rename_apply(NameChange::Create { path: path.to_owned(), id });
                id
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        world.opens += 1;
        world.open_files += 1;
        Ok(Arc::new(SimFile { world: self.world.clone(), id }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let world = self.world.lock();
        let inside = world.names.keys().filter(|path| dir_of(path) == dir);
        Ok(inside.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect())
    }

    // Directories are always there: losing one that was just made is the same as losing what is in it.
    fn make_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.enter(SimOp::Rename, from)?;
        let Some(id) = world.names.get(from).copied() else { return Err(io::ErrorKind::NotFound.into()) };
        world.rename_apply(NameChange::Rename { from: from.to_owned(), to: to.to_owned() });
        if let Some(content) = world.files.get_mut(&id) {
            content.path = to.to_owned();
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.enter(SimOp::Remove, path)?;
        if let Some(id) = world.names.get(path).copied() {
            world.free_blocks(id, 0);
            world.rename_apply(NameChange::Remove { path: path.to_owned() });
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.enter(SimOp::SyncDir, dir)?;
        world.syncs += 1;
        let World { names_durable, names_unsynced, .. } = &mut *world;
        names_unsynced.retain(|change| {
            if change.dir() == dir {
                change.apply(names_durable);
            }
            change.dir() != dir
        });
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.world.lock().room_bytes.unwrap_or(1 << 50))
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.world.lock().size_bytes.unwrap_or(1 << 50))
    }

    fn real_path(&self, _path: &str) -> Option<std::path::PathBuf> {
        None
    }
}

struct SimFile {
    world: Arc<Mutex<World>>,
    id: u64,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.world.lock().open_files -= 1;
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        let path = world.files.get(&self.id).map(|content| content.path.clone()).unwrap_or_default();
        world.enter(SimOp::Read, &path)?;
        let now = world.files.get(&self.id).map_or(&[][..], |content| &content.now);
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = now.get(at..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.world.lock().write(self.id, bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.world.lock().files.get(&self.id).map_or(0, |content| content.now.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        let path = world.files.get(&self.id).map(|content| content.path.clone()).unwrap_or_default();
        world.enter(SimOp::SetLen, &path)?;
        if let Some(content) = world.files.get_mut(&self.id) {
            let change = Change::SetLen(len as usize);
            change.apply(&mut content.now);
            content.unsynced.push(change);
        }
        world.free_blocks(self.id, len.div_ceil(BLOCK_BYTES));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        let path = world.files.get(&self.id).map(|content| content.path.clone()).unwrap_or_default();
        let calls = world.calls;
        let entered = world.enter(SimOp::Sync, &path);
        let stopped = entered.is_err() && world.calls == calls;
        world.syncs += 1;
        if let Some(content) = world.files.get_mut(&self.id)
            && !stopped
        {
            let unsynced = std::mem::take(&mut content.unsynced);
            if entered.is_ok() {
                unsynced.iter().for_each(|change| change.apply(&mut content.durable));
            }
        }
        entered
    }
}

#[cfg(test)]
mod tests;
