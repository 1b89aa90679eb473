//! Owns the real data directory: files of the operating system, under a lock that keeps a second process out.

use super::holder::{Holder, LOCK_FILE};
use super::{Disk, DiskFile};
use crate::store::StoreError;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A data directory on a real file system. It is locked as long as this value lives; the operating system frees the lock
/// when the process ends, however it ends, so a left-over lock file means nothing.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    may_write: bool,
    // Held for their locks: the file first, and the directory, which stays the same one when somebody removes the file.
    locks: Vec<File>,
}

impl RealDisk {
    /// Opens (and makes, when missing) a data directory and locks it.
    pub fn open(root: impl Into<PathBuf>) -> Result<RealDisk, StoreError> {
        let root = root.into();
        let failed = |what: &str| {
            let what = format!("{what} {}", root.display());
            move |error| StoreError::Io { what, error }
        };
        make_dirs(&root).map_err(failed("making the data directory"))?;
        let path = root.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("opening the lock file in"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { path: root.display().to_string(), holder: holder(&lock, &lock) });
            }
            Err(TryLockError::Error(error)) => return Err(failed("locking")(error)),
        }
        let dir = File::open(&root).map_err(failed("opening"))?;
        // A file system that cannot lock a directory has the file alone.
        if matches!(dir.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(StoreError::Locked { path: root.display().to_string(), holder: holder(&dir, &lock) });
        }
        let noted = lock.set_len(0).and_then(|()| lock.rewind());
        noted
            .and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()))
            .map_err(failed("writing the lock file in"))?;
        Ok(RealDisk { root, may_write: true, locks: vec![lock, dir] })
    }

    /// Opens one that there is to read it, beside others who read it: nothing is written, not even a lock file. On a file
    /// system that cannot lock, as read-only ones may be, nobody is kept out.
    pub fn look(root: impl Into<PathBuf>) -> Result<RealDisk, StoreError> {
        let root = root.into();
        let dir = File::open(&root).map_err(|error| StoreError::Io {
            what: format!("opening the data directory {}", root.display()),
            error,
        })?;
        // A copy has none, and one that may not be read is somebody's whom the directory's own lock tells of.
        let lock = File::open(root.join(LOCK_FILE)).ok();
        let locks: Vec<File> = lock.into_iter().chain([dir]).collect();
        for lock in &locks {
            if matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)) {
                return Err(StoreError::Locked { path: root.display().to_string(), holder: holder(lock, lock) });
            }
        }
        Ok(RealDisk { root, may_write: false, locks })
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn check_may_write(&self) -> io::Result<()> {
        if self.may_write { Ok(()) } else { Err(io::ErrorKind::ReadOnlyFilesystem.into()) }
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

// Who has the lock of this file, as the lock file says if a server has it, or the system.
fn holder(held: &File, lock: &File) -> String {
    if let Some(holder) = Holder::noted(lock).ok().flatten() {
        return format!(" (pid {})", holder.pid);
    }
    match Holder::all(held).as_slice() {
        [] => String::new(),
        pids => format!(" (pid {}, which is no server: it looks at the directory, or has locked it)", pids.join(", ")),
    }
}

// Makes a directory and its parents, each durable in the one above. What is in there is its owner's alone.
fn make_dirs(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

impl Drop for RealDisk {
    /// Who is told later that the directory is in use must not be told of this process. One that is killed leaves its pid.
    fn drop(&mut self) {
        if let Some(lock) = self.locks.first().filter(|_| self.may_write) {
            // The lock is what counts, the pid is for people.
            let _ = lock.set_len(0);
        }
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let (may_write, path) = (self.may_write, self.at(path));
        let file =
            OpenOptions::new().read(true).write(may_write).create(may_write && create).truncate(false).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.at(dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        let path = self.at(dir);
        if path.is_dir() {
            return Ok(());
        }
        self.check_may_write()?;
        // Never the data directory itself: one that is gone, with a disk that was unmounted or because somebody has deleted it, does not come up
        // again, empty, under a store that is open.
        let missing: Vec<&Path> = path.ancestors().take_while(|at| *at != self.root && !at.is_dir()).collect();
        for at in missing.into_iter().rev() {
            match DirBuilder::new().mode(0o700).create(at) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => File::open(at.parent().unwrap_or(&self.root))?.sync_all()?,
            }
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_may_write()?;
        std::fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.check_may_write()?;
        match std::fs::remove_file(self.at(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.at(dir))?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn size_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn real_path(&self, path: &str) -> Option<PathBuf> {
        Some(self.at(path))
    }
}

/// A file of the operating system.
#[derive(Debug)]
pub(super) struct RealFile(pub(super) File);

impl DiskFile for RealFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn occupied_bytes(&self) -> io::Result<u64> {
        // Blocks of 512 bytes, whatever the file system's are.
        Ok(self.0.metadata()?.blocks().saturating_mul(512))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_told_who_has_the_directory() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = RealDisk::open(dir.path().join("data")).expect("opens");
        let Err(StoreError::Locked { holder, .. }) = RealDisk::open(first.root()) else {
            panic!("a second process got in")
        };
        assert_eq!(holder, format!(" (pid {})", std::process::id()));
        let root = first.root().to_owned();
        drop(first);
        RealDisk::open(root).expect("free again");
    }

    #[test]
    fn a_second_opener_is_kept_out_also_when_somebody_has_removed_the_lock_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = RealDisk::open(dir.path().join("new/data")).expect("opens, and makes both");
        std::fs::remove_file(first.root().join(LOCK_FILE)).expect("removes");
        for _ in 0..2 {
            assert!(matches!(RealDisk::open(first.root()), Err(StoreError::Locked { .. })));
        }
        let root = first.root().to_owned();
        drop(first);
        RealDisk::open(root).expect("free again");
    }

    #[test]
    fn who_only_looks_shares_the_directory_with_those_who_look_and_with_nobody_who_writes() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let server = RealDisk::open(dir.path()).expect("opens");
        server.open("a", true).expect("makes").write_all_at(b"x", 0).expect("writes");
        let Err(StoreError::Locked { holder, .. }) = RealDisk::look(dir.path()) else { panic!("it is in use") };
        assert_eq!(holder, format!(" (pid {})", std::process::id()));
        let gone = dir.path().join("gone");
        std::fs::rename(dir.path().join(LOCK_FILE), &gone).expect("takes it away");
        assert!(matches!(RealDisk::look(dir.path()), Err(StoreError::Locked { .. })));
        std::fs::rename(gone, dir.path().join(LOCK_FILE)).expect("puts it back");
        drop(server);
        let looks = [RealDisk::look(dir.path()).expect("opens"), RealDisk::look(dir.path()).expect("beside it")];
        let Err(StoreError::Locked { holder, .. }) = RealDisk::open(dir.path()) else { panic!("it is looked at") };
        let me = format!(" (pid {}, which is no server", std::process::id());
        assert!(holder.starts_with(&me), "the server that was there has ended: {holder}");
        let file = looks[0].open("a", false).expect("opens");
        assert!(file.write_all_at(b"y", 0).is_err() && looks[0].open("b", true).is_err());
        assert!(looks[0].remove("a").is_err() && looks[0].rename("a", "b").is_err() && looks[0].make_dir("d").is_err());
        assert!(!dir.path().join("b").exists());
        drop(looks);
        RealDisk::open(dir.path()).expect("free again");
    }

    #[test]
    fn a_directory_that_is_gone_is_not_made_anew_by_what_is_made_in_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let disk = RealDisk::open(dir.path().join("data")).expect("opens");
        disk.make_dir("blobs/00").expect("makes both");
        disk.make_dir("blobs/00").expect("is there");
        assert!(disk.root().join("blobs/00").is_dir());
        std::fs::remove_dir_all(disk.root()).expect("removes");
        for made in ["log", "blobs/01"] {
            assert_eq!(disk.make_dir(made).expect_err("there is nowhere").kind(), io::ErrorKind::NotFound);
        }
        assert!(!disk.root().exists());
    }

    #[test]
    fn files_are_made_written_renamed_and_removed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let disk = RealDisk::open(dir.path()).expect("opens");
        assert_eq!(disk.list("log").expect("lists"), Vec::<String>::new());
        disk.make_dir("log").expect("makes");
        assert!(disk.open("log/a", false).is_err());
        let file = disk.open("log/a", true).expect("opens");
        file.write_all_at(b"hello", 3).expect("writes");
        assert_eq!(file.len().expect("length"), 8);
        disk.rename("log/a", "log/b").expect("renames");
        disk.sync_dir("log").expect("syncs");
        assert_eq!(disk.list("log").expect("lists"), ["b"]);
        disk.remove("log/b").expect("removes");
        disk.remove("log/b").expect("no error when gone");
        let mut buffer = [0; 5];
        file.read_exact_at(&mut buffer, 3).expect("an open handle stays readable");
        assert_eq!(&buffer, b"hello");
        assert!(file.read_exact_at(&mut buffer, 4).is_err());
        assert!(disk.free_bytes().expect("free") > 0);
    }
}
