//! Owns the jittering disk: every call may let other threads run first, as the seed says.
//!
//! Threads on a quiet machine take turns at the same few places. A disk call is where a real server is interrupted, so here
//! each one yields a random number of times; with one seed after the other the threads meet in many orders.

use parking_lot::Mutex;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use zeolite_server::store::disk::{Disk, DiskFile};

/// Yields at random.
#[derive(Clone)]
pub struct Jitter {
    dice: Arc<Mutex<fastrand::Rng>>,
}

impl Jitter {
    /// The seed decides how often.
    pub fn new(seed: u64) -> Jitter {
        Jitter { dice: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))) }
    }

    /// Lets others run, perhaps.
    pub fn pause(&self) {
        let times = self.dice.lock().u32(0..6);
        (0..times).for_each(|_| std::thread::yield_now());
    }
}

/// A disk behind which there is jitter.
pub struct JitterDisk {
    /// The disk itself.
    pub disk: Arc<dyn Disk>,
    /// Its jitter.
    pub jitter: Jitter,
}

impl Disk for JitterDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, create)?;
        Ok(Arc::new(JitterFile { file, jitter: self.jitter.clone() }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.make_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.disk.size_bytes()
    }

    fn real_path(&self, path: &str) -> Option<PathBuf> {
        self.disk.real_path(path)
    }
}

struct JitterFile {
    file: Arc<dyn DiskFile>,
    jitter: Jitter,
}

impl DiskFile for JitterFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.jitter.pause();
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.jitter.pause();
        self.file.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.jitter.pause();
        let synced = self.file.sync_data();
        self.jitter.pause();
        synced
    }
}
