//! Owns the cache's second level: a file of a bounded size, kept over restarts of the process.
//!
//! ```text
//!   read    shard: in memory? ─ no ─> its place in the file ─> read it there ─> still its place? ─> into memory
//!   load    shard: into memory ──> [queue, bounded] ──> writer (a thread): behind the last entry; then its place to the shard
//!   feed    shard: closed in memory, its place forgotten ──> [queue] ──> writer: marked dead in the file
//!   start   header: store, life, position P ─> every entry's place to its shard ─> hello: what was written since P?
//! ```
//!
//! In memory are places alone ([`super::places`]). The rule of [`super::shard`] holds for the file as well, because it is asked under the
//! same lock in the moment in which a place becomes known: what has a place is *open*, and whatever ends it takes the place away. So nothing
//! that has ended need be found in the file, and nothing there be changed but a mark.
//!
//! What makes it right after a restart is one sentence: **every entry that is live in the file has its place in a shard, or waits to be marked;
//! and position P is written only when all that ended up to P is marked, and on the disk.** A process that is killed, or whose machine is, leaves
//! a file that is right as of its last P, and the server tells what was written since, as it does after any lost connection, before anybody
//! reads. If it does not (too much, packed away, another store or another life of it), the file is emptied.
//!
//! The runtime's threads never wait for the disk: reads take what the system has in memory, and go to the pool for blocking work when it has not;
//! writes are the writer's. What comes faster than it writes is not kept. Whatever goes wrong with the file ends its use, with a line in the
//! log: the client goes on with its memory.
//!
//! Not kept: what is not there (it costs the server little), what has ended, records that are larger than a chunk (a 64th of the file).

mod layout;
mod open;
mod queue;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use layout::Header;
pub(crate) use open::{Kept, Scanned, open};
pub(crate) use queue::{Of, Pending};
pub(crate) use writer::{Seen, Writer};

use bytes::Bytes;
use layout::{Shape, decode_entry, entry_length, place_at};
use queue::Queue;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zeolite_proto::{Cell, Tid};

/// As much is read at once; most entries are smaller.
const READ_BYTES: usize = 1024;

/// The file, as readers and writer share it.
#[derive(Debug)]
pub(crate) struct CacheFile {
    file: File,
    path: PathBuf,
    shape: Shape,
    /// Of each chunk; 0: void.
    salts: Box<[AtomicU64]>,
    /// Bytes in use, of each chunk.
    used: Box<[AtomicU64]>,
    pub(crate) queue: Queue,
    is_off: AtomicBool,
    #[cfg(test)]
    trial: tests::Trial,
}

/// What is at a place.
#[derive(Debug)]
pub(crate) enum Looked {
    Found(Found),
    /// Another cell, or a revision that has ended.
    Other,
    /// No whole entry.
    Bad,
    /// The system would have to read the disk.
    Waits,
}

/// A revision, and in which turn of its chunk it was read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) tid: Tid,
    pub(crate) record: Bytes,
    salt: u64,
}

impl CacheFile {
    fn new(file: File, path: PathBuf, shape: Shape) -> CacheFile {
        let zeros = || std::iter::repeat_with(AtomicU64::default).take(shape.chunks()).collect();
        CacheFile {
            file,
            path,
            shape,
            salts: zeros(),
            used: zeros(),
            queue: Queue::new(shape.bytes),
            is_off: AtomicBool::new(false),
            #[cfg(test)]
            trial: tests::Trial::default(),
        }
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        self.trial.before_write()?;
        self.file.write_all_at(bytes, at)
    }

    /// For another turn of a chunk.
    fn new_salt(&self) -> io::Result<u64> {
        #[cfg(test)]
        if let Some(salt) = *self.trial.salt.lock() {
            return Ok(salt);
        }
        let mut salt = [0; 8];
        getrandom::fill(&mut salt).map_err(|error| io::Error::other(format!("no randomness: {error}")))?;
        Ok(u64::from_le_bytes(salt) | 1)
    }

    /// What was written is on the disk.
    fn sync(&self) -> io::Result<()> {
        #[cfg(not(test))]
        self.file.sync_data()?;
        // There the test is the disk.
        #[cfg(test)]
        self.trial.is_synced(&self.path);
        Ok(())
    }

    /// Looks for a cell at a place; one who is not patient does not wait for the disk.
    pub(crate) fn look(&self, place: u32, cell: &Cell, is_patient: bool) -> Looked {
        if self.is_off() {
            return Looked::Other;
        }
        match self.read(place, cell, is_patient) {
            Ok(looked) => looked,
            Err(error) => {
                self.fail(&error);
                Looked::Other
            }
        }
    }

    fn read(&self, place: u32, cell: &Cell, is_patient: bool) -> io::Result<Looked> {
        let (salt, at) = (self.salt_at(place), place_at(place));
        let mut first = [0; READ_BYTES];
        let got = self.read_at(&mut first, at, is_patient)?;
        let short = if is_patient { Looked::Bad } else { Looked::Waits };
        let Some(length) = entry_length(&first[..got]) else { return Ok(short) };
        if length > self.shape.chunk_bytes {
            return Ok(Looked::Bad);
        }
        let length = length as usize;
        let mut whole = Vec::new();
        let bytes = if length <= READ_BYTES {
            if got < length {
                return Ok(short);
            }
            &first[..length]
        } else {
            whole.resize(length, 0);
            whole[..got].copy_from_slice(&first[..got]);
            if got + self.read_at(&mut whole[got..], at + got as u64, is_patient)? < length {
                return Ok(short);
            }
            &whole[..]
        };
        Ok(match decode_entry(bytes, salt, place) {
            Some(entry) if entry.is_live && entry.is_of(cell) => {
                Looked::Found(Found { tid: entry.tid, record: Bytes::copy_from_slice(entry.record), salt })
            }
            Some(_) => Looked::Other,
            None => Looked::Bad,
        })
    }

    fn salt_at(&self, place: u32) -> u64 {
        self.salts[self.shape.chunk_of(place)].load(Ordering::Acquire)
    }

    /// Whether the chunk is in the turn still in which this was read. Asked under the lock of the shard that has the place: a turn begins when all
    /// places in it are forgotten, so a place that is known now is of the turn that is told now.
    pub(crate) fn is_there(&self, found: &Found, place: u32) -> bool {
        self.salt_at(place) == found.salt
    }

    /// How many bytes there are, up to as many as fit; of one who is not patient those that the system has in memory.
    fn read_at(&self, to: &mut [u8], at: u64, is_patient: bool) -> io::Result<usize> {
        if !is_patient {
            return read_now(&self.file, to, at);
        }
        let mut got = 0;
        while got < to.len() {
            match self.file.read_at(&mut to[got..], at + got as u64) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(got)
    }

    /// Ends the use of the file.
    fn fail(&self, error: &io::Error) {
        if !self.is_off.swap(true, Ordering::AcqRel) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the file of the cache cannot be used any more; the client goes on with its memory");
            self.queue.end();
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Acquire)
    }

    /// Bytes in use, what has ended since it was written included.
    pub(crate) fn bytes(&self) -> u64 {
        if self.is_off() { 0 } else { self.used.iter().map(|used| used.load(Ordering::Relaxed)).sum() }
    }
}

#[cfg(target_os = "linux")]
fn read_now(file: &File, to: &mut [u8], at: u64) -> io::Result<usize> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    match preadv2(file, &mut [io::IoSliceMut::new(to)], at, ReadWriteFlags::NOWAIT) {
        Ok(got) => Ok(got),
        // Not every file system can tell.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn read_now(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Ok(0)
}
