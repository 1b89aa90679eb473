//! Owns the harm: a disk of which one call goes wrong, counted from its first.
//!
//! Every call counts, also those that only look: a run in one thread makes the same ones each time, until one goes wrong.

use parking_lot::Mutex;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use zeolite_server::store::disk::{Disk, DiskFile};

/// How a call goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harm {
    /// It fails, and nothing is done.
    Fails(ErrorKind),
    /// A write does half, and fails.
    Short,
    /// A bit of what is read is another one; the disk is right.
    FlipsRead,
    /// A bit of what is written is another one, and nobody says so.
    FlipsWritten,
}

impl Harm {
    /// Every way in which a call can go wrong.
    pub fn ways(call: &str) -> &'static [Harm] {
        match call.split(' ').next() {
            Some("read") => &[Harm::Fails(ErrorKind::Other), Harm::FlipsRead],
            Some("write") => {
                &[Harm::Fails(ErrorKind::Other), Harm::Fails(ErrorKind::StorageFull), Harm::Short, Harm::FlipsWritten]
            }
            Some("create" | "set_len") => &[Harm::Fails(ErrorKind::Other), Harm::Fails(ErrorKind::StorageFull)],
            _ => &[Harm::Fails(ErrorKind::Other)],
        }
    }
}

/// A disk with a call that goes wrong.
#[derive(Clone)]
pub struct HarmedDisk {
    disk: Arc<dyn Disk>,
    plan: Arc<Plan>,
}

struct Plan {
    harm: Option<(usize, Harm)>,
    calls: Mutex<Vec<String>>,
}

impl Plan {
    /// Takes a call down, and says how it goes wrong.
    fn next(&self, call: &str, path: &str) -> Option<Harm> {
        let mut calls = self.calls.lock();
        calls.push(format!("{call} {path}"));
        self.harm.filter(|(at, _)| at + 1 == calls.len()).map(|(_, harm)| harm)
    }

    /// The same, for a call that can only fail.
    fn may(&self, call: &str, path: &str) -> io::Result<()> {
        match self.next(call, path) {
            Some(Harm::Fails(kind)) => Err(kind.into()),
            _ => Ok(()),
        }
    }
}

impl HarmedDisk {
    /// `None`: all goes well, and is counted.
    pub fn new(disk: Arc<dyn Disk>, harm: Option<(usize, Harm)>) -> HarmedDisk {
        HarmedDisk { disk, plan: Arc::new(Plan { harm, calls: Mutex::default() }) }
    }

    /// What was called so far, one after the other.
    pub fn calls(&self) -> Vec<String> {
        self.plan.calls.lock().clone()
    }
}

impl Disk for HarmedDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.plan.may(if create { "create" } else { "open" }, path)?;
        let file = self.disk.open(path, create)?;
        Ok(Arc::new(HarmedFile { file, path: path.to_owned(), plan: self.plan.clone() }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.plan.may("list", dir)?;
        self.disk.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.plan.may("make_dir", dir)?;
        self.disk.make_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.may("rename", to)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.plan.may("remove", path)?;
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.plan.may("sync_dir", dir)?;
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.plan.may("free_bytes", "")?;
        self.disk.free_bytes()
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.disk.size_bytes()
    }

    fn real_path(&self, path: &str) -> Option<PathBuf> {
        self.disk.real_path(path)
    }
}

struct HarmedFile {
    file: Arc<dyn DiskFile>,
    path: String,
    plan: Arc<Plan>,
}

impl DiskFile for HarmedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let harm = self.plan.next("read", &self.path);
        if let Some(Harm::Fails(kind)) = harm {
            return Err(kind.into());
        }
        self.file.read_exact_at(buffer, offset)?;
        if harm == Some(Harm::FlipsRead) {
            flip(buffer);
        }
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.plan.next("write", &self.path) {
            Some(Harm::Fails(kind)) => Err(kind.into()),
            Some(Harm::Short) => {
                self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                Err(ErrorKind::StorageFull.into())
            }
            Some(Harm::FlipsWritten) => {
                let mut bytes = bytes.to_vec();
                flip(&mut bytes);
                self.file.write_all_at(&bytes, offset)
            }
            Some(Harm::FlipsRead) | None => self.file.write_all_at(bytes, offset),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.plan.may("len", &self.path)?;
        self.file.len()
    }

    fn occupied_bytes(&self) -> io::Result<u64> {
        self.file.occupied_bytes()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.plan.may("set_len", &self.path)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plan.may("sync", &self.path)?;
        self.file.sync_data()
    }
}

// Somewhere that depends on the bytes alone, so that a run can be had again.
fn flip(bytes: &mut [u8]) {
    let sum = bytes.iter().fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let len = bytes.len();
    if let Some(byte) = bytes.get_mut(sum % len.max(1)) {
        *byte ^= 1 << (sum % 8);
    }
}
