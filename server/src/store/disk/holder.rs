//! Owns what the lock file of a data directory says: which process has it, and how that one stands.
//!
//! ```text
//!   1234             it has the directory
//!   1234 served      a server, and it answers
//!   1234 served !    once for each process that was to follow it and did not become ready
//! ```
//! That somebody has the directory is told by the system's lock on the file alone; the words are for people, and for `zeolite restart`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The name of the lock file in the data directory.
pub const LOCK_FILE: &str = "lock";

/// A server answers.
pub const SERVED: &str = " served";

/// A process that was to follow did not become ready.
pub const NOT_FOLLOWED: &str = " !";

/// More is not read of it.
const BYTES_MAX: u64 = 4096;

/// Who has a data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The number of its process.
    pub pid: u32,
    /// It is a server, and answers.
    pub serves: bool,
    /// How often a process that was to follow it did not become ready.
    pub not_followed: usize,
}

impl Holder {
    /// Of a data directory; none: nobody has it, or somebody is just taking it.
    pub fn of(root: &Path) -> io::Result<Option<Holder>> {
        let file = match File::open(root.join(LOCK_FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Holder::noted(&file),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// As the file says, whether its lock is held or not.
    pub(super) fn noted(file: &File) -> io::Result<Option<Holder>> {
        let mut noted = String::new();
        file.take(BYTES_MAX).read_to_string(&mut noted)?;
        let pid = noted.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let (serves, not_followed) = (noted.contains(SERVED), noted.matches(NOT_FOLLOWED).count());
        Ok(pid.map(|pid| Holder { pid, serves, not_followed }))
    }

    /// The numbers of all processes that have locked a file, as the system tells them (proc(5), `/proc/locks`); those of other containers are
    /// not told.
    pub(super) fn all(file: &File) -> Vec<String> {
        let Ok(data) = file.metadata() else { return Vec::new() };
        let device = (rustix::fs::major(data.dev()), rustix::fs::minor(data.dev()));
        let place = format!("{:02x}:{:02x}:{}", device.0, device.1, data.ino());
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        let of_it = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        // Who waits for one has an arrow before his kind, and so another number of words.
        let mut pids: Vec<String> = of_it
            .filter(|words| words.len() == 8 && words[5] == place)
            .filter_map(|words| words[4].parse::<u32>().ok().filter(|pid| *pid != 0))
            .map(|pid| pid.to_string())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Adds a word about this process, which has the directory: [`SERVED`], [`NOT_FOLLOWED`].
    pub fn note(root: &Path, word: &str) -> io::Result<()> {
        OpenOptions::new().append(true).open(root.join(LOCK_FILE))?.write_all(word.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::real::RealDisk;

    #[test]
    fn what_is_noted_is_told_as_long_as_the_directory_is_held() {
        let dir = tempfile::tempdir().expect("a directory");
        let told = || Holder::of(dir.path()).expect("reads");
        assert_eq!(told(), None);
        let disk = RealDisk::open(dir.path()).expect("opens");
        let plain = Holder { pid: std::process::id(), serves: false, not_followed: 0 };
        assert_eq!(told(), Some(plain));
        for word in [SERVED, NOT_FOLLOWED, NOT_FOLLOWED] {
            Holder::note(dir.path(), word).expect("notes");
        }
        assert_eq!(told(), Some(Holder { serves: true, not_followed: 2, ..plain }));
        drop(disk);
        assert_eq!(told(), None);
        let _again = RealDisk::open(dir.path()).expect("opens");
        assert_eq!(told(), Some(plain), "another life begins anew");
    }
}
