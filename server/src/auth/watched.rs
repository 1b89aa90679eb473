//! Owns files that may be written anew while the server runs: what was made of them is in force until something better is there.
//!
//! ```text
//!   look ── bytes as before ──> nothing
//!     ├──── others, and right ──> in force from now on
//!     └──── not to be read, half written, wrong ──> the former stays, and why is told (log, status, check) for as long as it lasts
//! ```
//! Files that belong together (a certificate and its key) are read and judged together. They are compared byte by byte: no time stamp can
//! hide a change, and they are small.

use parking_lot::{Mutex, RwLock};
use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// A longer file is refused.
pub(crate) const FILE_BYTES_MAX: u64 = 16 << 20;

/// What the files say, as far as it counts.
pub(crate) struct Watched<T> {
    what: &'static str,
    now: RwLock<Now<T>>,
    /// Why the files as they are do not count.
    problem: Mutex<Option<String>>,
}

struct Now<T> {
    files: Vec<Vec<u8>>,
    made: Arc<T>,
}

impl<T> Watched<T> {
    /// Of these files, called so in the log.
    pub(crate) fn new(what: &'static str, files: Vec<Vec<u8>>, made: T) -> Watched<T> {
        Watched { what, now: RwLock::new(Now { files, made: Arc::new(made) }), problem: Mutex::default() }
    }

    /// What is in force.
    pub(crate) fn now(&self) -> Arc<T> {
        self.now.read().made.clone()
    }

    /// Why the files as they are now do not count; `None`: they do.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// Takes the files in if they have changed; `changed` hears of the former and the new. Only one looks at a time.
    pub(crate) fn look_again(
        &self,
        files: Result<Vec<Vec<u8>>, String>,
        make: impl FnOnce(&[Vec<u8>]) -> Result<T, String>,
        changed: impl FnOnce(&T, &T),
    ) {
        let made = match files {
            Ok(files) if files == self.now.read().files => Ok(None),
            Ok(files) => make(&files).map(|made| Some(Now { files, made: Arc::new(made) })),
            Err(why) => Err(why),
        };
        let problem = match made {
            Ok(now) => {
                if let Some(now) = now {
                    changed(&self.now(), &now.made);
                    *self.now.write() = now;
                }
                None
            }
            Err(why) => Some(format!("{why}; {} as before until that is put right", self.what)),
        };
        let mut told = self.problem.lock();
        if *told != problem {
            match &problem {
                Some(why) => tracing::error!("{why}"),
                None => tracing::info!("in order again: {}", self.what),
            }
            *told = problem;
        }
    }
}

/// A file of a bounded length. What is no regular file (a pipe, a device) is refused, and not waited for: who reads here looks after
/// everything else that is revoked.
pub(crate) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let without_waiting = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(without_waiting).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
