//! Owns the recorder: a disk that keeps a copy of itself before every call that changes something.
//!
//! A run on it is a film of the disk. Any picture of the film is a moment at which the power can go: `crash` of the picture
//! then chooses what of the unsynced bytes survives, the last write torn or not.

use parking_lot::Mutex;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zeolite_server::store::disk::sim::SimDisk;
use zeolite_server::store::disk::{Disk, DiskFile};

/// The disk as it was before a call.
#[derive(Clone)]
pub struct Picture {
    /// A copy of its own.
    pub disk: SimDisk,
    /// How many commits the test had been told of by then.
    pub told: usize,
    /// The call that came next.
    pub next_call: String,
}

/// A disk that is filmed.
pub struct Recorder {
    disk: SimDisk,
    film: Arc<Film>,
}

#[derive(Default)]
struct Film {
    told: AtomicUsize,
    pictures: Mutex<Vec<Picture>>,
}

impl Film {
    fn take(&self, disk: &SimDisk, next_call: String) {
        let told = self.told.load(Ordering::SeqCst);
        self.pictures.lock().push(Picture { disk: disk.fork(), told, next_call });
    }
}

impl Recorder {
    /// Films this disk from now on.
    pub fn new(disk: SimDisk) -> Recorder {
        Recorder { disk, film: Arc::default() }
    }

    /// The test was told of one more commit.
    pub fn told(&self) {
        self.film.told.fetch_add(1, Ordering::SeqCst);
    }

    /// How many pictures there are so far.
    pub fn pictures(&self) -> usize {
        self.film.pictures.lock().len()
    }

    /// The film, with a last picture of the end.
    pub fn film(&self) -> Vec<Picture> {
        self.film.take(&self.disk, "the end".into());
        std::mem::take(&mut *self.film.pictures.lock())
    }
}

impl Disk for Recorder {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        if create {
            self.film.take(&self.disk, format!("open {path}"));
        }
        let file = self.disk.open(path, create)?;
        Ok(Arc::new(Filmed { file, path: path.to_owned(), disk: self.disk.clone(), film: self.film.clone() }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.make_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.film.take(&self.disk, format!("rename {from} {to}"));
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.film.take(&self.disk, format!("remove {path}"));
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.film.take(&self.disk, format!("sync_dir {dir}"));
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

struct Filmed {
    file: Arc<dyn DiskFile>,
    path: String,
    disk: SimDisk,
    film: Arc<Film>,
}

impl DiskFile for Filmed {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.film.take(&self.disk, format!("write {} {offset}+{}", self.path, bytes.len()));
        self.file.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.film.take(&self.disk, format!("set_len {} {len}", self.path));
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.film.take(&self.disk, format!("sync {}", self.path));
        self.file.sync_data()
    }
}
