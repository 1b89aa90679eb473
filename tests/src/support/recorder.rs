//! Owns the recorder: a disk that keeps a copy of itself before every call that changes something.
//!
//! A run on it is a film of the disk. Any picture of the film is a moment at which the power can go: `crash` of the picture
//! then chooses what of the unsynced bytes survives, the last write torn or not.

use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zeolite_server::store::disk::Disk;
use zeolite_server::store::disk::sim::{SimDisk, SimOp};
use zeolite_server::store::disk::watched::{Call, Watch, WatchedDisk};

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

/// Takes the pictures.
struct Camera {
    disk: SimDisk,
    film: Arc<Film>,
}

impl Recorder {
    /// Films this disk, as far as it is used through the door.
    pub fn new(disk: SimDisk) -> Recorder {
        Recorder { disk, film: Arc::default() }
    }

    /// The disk with the camera before it.
    pub fn door(&self) -> Arc<dyn Disk> {
        let camera = Camera { disk: self.disk.clone(), film: self.film.clone() };
        Arc::new(WatchedDisk::new(Arc::new(self.disk.clone()), camera))
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

impl Watch for Camera {
    fn before(&self, call: Call<'_>) -> io::Result<()> {
        if call.op != SimOp::Read {
            let next_call = format!("{:?} {} {}+{}", call.op, call.path, call.offset, call.len);
            self.film.take(&self.disk, next_call);
        }
        Ok(())
    }
}
