//! Owns the disk that is only looked at: what is written goes apart, into files of the system's directory for temporary ones,
//! and whoever wrote it reads it there. The disk behind is never asked to change anything, so it may refuse to.
//!
//! ```text
//!   read ── written here? ── yes ─> scratch file       a file that was never written has none
//!                        └── no ──> the disk behind
//! ```
//! So a store can be opened as always, with all that an opening mends, and the directory stays what it was. Scratch files
//! have no names: they are gone with the process, however it ends. What they take is the index at most, when the log has to
//! be replayed. Not done: two openings that share what they write.

use super::real::RealFile;
use super::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A disk before one that is only read.
pub struct ApartDisk {
    behind: Arc<dyn Disk>,
    scratch: Arc<Scratch>,
    /// What was opened here; `None`: removed.
    files: Mutex<BTreeMap<String, Option<Arc<ApartFile>>>>,
}

impl ApartDisk {
    /// Before this disk.
    pub fn new(behind: Arc<dyn Disk>) -> ApartDisk {
        ApartDisk { behind, scratch: Arc::new(Scratch { dir: std::env::temp_dir() }), files: Mutex::default() }
    }

    fn file(&self, path: &str, create: bool) -> io::Result<Arc<ApartFile>> {
        let mut files = self.files.lock();
        let there = match files.get(path) {
            Some(Some(file)) => return Ok(file.clone()),
            Some(None) => Err(io::ErrorKind::NotFound.into()),
            None => self.behind.open(path, false),
        };
        let file = match there {
            Ok(behind) => ApartFile::of(Some(behind), &self.scratch)?,
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => ApartFile::of(None, &self.scratch)?,
            Err(error) => return Err(error),
        };
        let file = Arc::new(file);
        files.insert(path.to_owned(), Some(file.clone()));
        Ok(file)
    }
}

impl Disk for ApartDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, create)?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = self.behind.list(dir)?;
        for (path, file) in self.files.lock().iter() {
            let (of, name) = path.rsplit_once('/').unwrap_or(("", path));
            if of == dir {
                names.retain(|other| other != name);
                names.extend(file.is_some().then(|| name.to_owned()));
            }
        }
        names.sort();
        Ok(names)
    }

    fn make_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.file(from, false)?;
        let mut files = self.files.lock();
        files.insert(to.to_owned(), Some(file));
        files.insert(from.to_owned(), None);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.files.lock().insert(path.to_owned(), None);
        Ok(())
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.scratch.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.behind.size_bytes()
    }

    // An engine that opens its files itself would write there.
    fn real_path(&self, _path: &str) -> Option<PathBuf> {
        None
    }
}

/// Where what is written goes.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn file(&self) -> io::Result<Arc<dyn DiskFile>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = self.dir.join(format!("zeolite-{}-{number}", std::process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => {
                    std::fs::remove_file(&path)?;
                    return Ok(Arc::new(RealFile(file)));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // Its kind stays: whoever meets it knows a full disk by it.
                Err(error) => return Err(io::Error::new(error.kind(), NoScratch { path, error })),
            }
        }
    }
}

/// The file that it was needed for has nothing to do with it.
#[derive(Debug, thiserror::Error)]
#[error("no file can be made at {} for what is written meanwhile ({error}); set TMPDIR to a directory that takes it", path.display())]
struct NoScratch {
    path: PathBuf,
    error: io::Error,
}

/// A file of which some bytes may be apart.
struct ApartFile {
    behind: Option<Arc<dyn DiskFile>>,
    scratch: Arc<Scratch>,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    len: u64,
    /// Up to here the file behind shows, but for what is written over it; beyond, all is in the scratch file.
    shows: u64,
    /// What is written over it: where each piece begins and ends. They do not touch.
    over: BTreeMap<u64, u64>,
    own: Option<Arc<dyn DiskFile>>,
}

impl ApartFile {
    fn of(behind: Option<Arc<dyn DiskFile>>, scratch: &Arc<Scratch>) -> io::Result<ApartFile> {
        let len = behind.as_ref().map_or(Ok(0), |file| file.len())?;
        let parts = Parts { len, shows: len, ..Parts::default() };
        Ok(ApartFile { behind, scratch: scratch.clone(), parts: Mutex::new(parts) })
    }

    fn own(&self, parts: &mut Parts) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(own) = &parts.own {
            return Ok(own.clone());
        }
        let own = self.scratch.file()?;
        own.set_len(parts.len)?;
        parts.own = Some(own.clone());
        Ok(own)
    }
}

impl Parts {
    fn put_over(&mut self, mut from: u64, mut to: u64) {
        while let Some((begins, ends)) = self.over.range(..=to).next_back().map(|(begins, ends)| (*begins, *ends))
            && ends >= from
        {
            self.over.remove(&begins);
            (from, to) = (from.min(begins), to.max(ends));
        }
        self.over.insert(from, to);
    }

    /// Whether a byte is in the scratch file, and where that changes at the earliest.
    fn piece(&self, at: u64) -> (bool, u64) {
        if at >= self.shows {
            return (true, u64::MAX);
        }
        if let Some((_, ends)) = self.over.range(..=at).next_back().filter(|(_, ends)| **ends > at) {
            return (true, *ends);
        }
        let next = self.over.range(at..).next().map_or(self.shows, |(begins, _)| *begins);
        (false, next.min(self.shows))
    }
}

impl DiskFile for ApartFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let parts = self.parts.lock();
        let end = offset + buffer.len() as u64;
        if end > parts.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = offset;
        while at < end {
            let (is_own, until) = parts.piece(at);
            let until = until.min(end);
            let file = if is_own { parts.own.as_ref() } else { self.behind.as_ref() };
            let file = file.ok_or(io::ErrorKind::NotFound)?;
            file.read_exact_at(&mut buffer[(at - offset) as usize..(until - offset) as usize], at)?;
            at = until;
        }
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut parts = self.parts.lock();
        let end = offset + bytes.len() as u64;
        self.own(&mut parts)?.write_all_at(bytes, offset)?;
        parts.len = parts.len.max(end);
        let over = end.min(parts.shows);
        if offset < over {
            parts.put_over(offset, over);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.parts.lock().len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut parts = self.parts.lock();
        self.own(&mut parts)?.set_len(len)?;
        (parts.len, parts.shows) = (len, parts.shows.min(len));
        let shows = parts.shows;
        parts.over.retain(|begins, _| *begins < shows);
        parts.over.values_mut().for_each(|ends| *ends = shows.min(*ends));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::SimDisk;
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_the_disk_behind_stays_as_it_was() {
        let (behind, model) = (SimDisk::new(), SimDisk::new());
        let base: Vec<u8> = (0..200u8).collect();
        for disk in [&behind, &model] {
            disk.put("log/a", base.clone());
        }
        let (before, seed) = (behind.calls(), 11);
        let apart = ApartDisk::new(Arc::new(behind.clone()));
        let mut dice = fastrand::Rng::with_seed(seed);
        let (file, expected) = (apart.open("log/a", false).expect("opens"), model.open("log/a", false).expect("opens"));
        for round in 0..3000 {
            let (at, len) = (dice.u64(..300), dice.usize(..60));
            match dice.u8(..10) {
                0 => {
                    file.set_len(at).expect("cuts");
                    expected.set_len(at).expect("cuts");
                }
                1..5 => {
                    let bytes = vec![dice.u8(..); len];
                    file.write_all_at(&bytes, at).expect("writes");
                    expected.write_all_at(&bytes, at).expect("writes");
                }
                _ => {
                    let (mut found, mut wanted) = (vec![0; len], vec![0; len]);
                    let read = file.read_exact_at(&mut found, at).is_ok();
                    assert_eq!(read, expected.read_exact_at(&mut wanted, at).is_ok(), "seed {seed}, round {round}");
                    assert!(!read || found == wanted, "seed {seed}, round {round}: {found:?} {wanted:?}");
                }
            }
            assert_eq!(file.len().expect("tells"), expected.len().expect("tells"), "seed {seed}, round {round}");
        }
        assert_eq!(behind.calls(), before);
        let mut bytes = vec![0; 200];
        behind.open("log/a", false).expect("opens").read_exact_at(&mut bytes, 0).expect("reads");
        assert_eq!(bytes, base);
    }

    #[test]
    fn names_are_made_changed_and_removed_here_alone() {
        let behind = SimDisk::new();
        behind.put("log/a", vec![1]);
        let apart = ApartDisk::new(Arc::new(behind.clone()));
        apart.rename("log/a", "log/b").expect("renames");
        apart.open("log/c", true).expect("makes").write_all_at(&[3], 0).expect("writes");
        apart.open("top", true).expect("makes");
        assert_eq!(apart.list("log").expect("lists"), ["b", "c"]);
        assert_eq!(apart.list("").expect("lists"), ["top"]);
        apart.remove("log/b").expect("removes");
        assert!(apart.open("log/b", false).is_err() && apart.open("log/a", false).is_err());
        assert_eq!(apart.open("log/a", true).expect("makes it anew").len().expect("tells"), 0);
        assert_eq!(behind.list("log").expect("lists"), ["a"]);
    }
}
