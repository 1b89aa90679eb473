//! Owns what is known of calls to the disk that have failed: how many, and the newest, for whoever looks at the server.
//!
//! A read that fails is told to the one who reads, and nobody else would learn of it; yet a disk that has begun to fail is news for whoever
//! looks after it. So each is counted, told in the log (one a second at most), and the newest of the last hour stands in the status.
//! A full disk, a file that is not there or too short, and too few open files are no failures of a disk: they are told elsewhere.

use crate::clock::Clock;
use crate::storage::disk::watched::{Call, Watch};
use parking_lot::Mutex;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TOLD_FOR: Duration = Duration::from_secs(3600);
const LOGGED_EVERY: Duration = Duration::from_secs(1);
// What Linux says to a process that has no more files, and when the system has none.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

struct Newest {
    what: String,
    at: Duration,
    logged: Duration,
}

/// Those of one data directory.
pub(crate) struct DiskErrors {
    clock: Arc<dyn Clock>,
    count: AtomicU64,
    newest: Mutex<Option<Newest>>,
}

impl DiskErrors {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<DiskErrors> {
        Arc::new(DiskErrors { clock, count: AtomicU64::new(0), newest: Mutex::new(None) })
    }

    /// Since the start.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The newest of the last hour, in words.
    pub(crate) fn newest(&self) -> Option<String> {
        let newest = self.newest.lock();
        let newest = newest.as_ref().filter(|newest| self.clock.steady().saturating_sub(newest.at) < TOLD_FOR)?;
        Some(newest.what.clone())
    }

    fn tell(&self, call: Call<'_>, error: &io::Error) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let (at, mut newest) = (self.clock.steady(), self.newest.lock());
        let what = format!("{:?} of {} at {}: {error}", call.op, call.path, call.offset);
        let logged = newest.as_ref().map(|newest| newest.logged);
        let logged = match logged.filter(|logged| at.saturating_sub(*logged) < LOGGED_EVERY) {
            Some(logged) => logged,
            None => {
                tracing::error!(what, count, "the disk has failed");
                at
            }
        };
        *newest = Some(Newest { what, at, logged });
    }
}

/// Stands before the disk.
pub(crate) struct Looks(pub(crate) Arc<DiskErrors>);

impl Watch for Looks {
    fn before(&self, _call: Call<'_>) -> io::Result<()> {
        Ok(())
    }

    fn failed(&self, call: Call<'_>, error: &io::Error) {
        let is_told_elsewhere = matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::StorageFull | ErrorKind::Interrupted
        ) || matches!(error.raw_os_error(), Some(EMFILE | ENFILE));
        if !is_told_elsewhere {
            self.0.tell(call, error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;
    use crate::storage::disk::sim::SimOp;
    use crate::storage::disk::{Disk, SimDisk, WatchedDisk};

    #[test]
    fn what_a_disk_fails_at_is_counted_and_told_for_an_hour_and_no_room_is_not() {
        let clock = Arc::new(HandClock::at(0));
        let errors = DiskErrors::new(clock.clone());
        let sim = SimDisk::new();
        let disk = WatchedDisk::new(Arc::new(sim.clone()), Looks(errors.clone()));
        let file = disk.open("log/a", true).expect("makes");
        file.write_all_at(b"hello", 0).expect("writes");
        sim.fail(SimOp::Write, "", 0, ErrorKind::StorageFull);
        assert!(file.write_all_at(b"x", 0).is_err() && file.read_exact_at(&mut [0; 9], 0).is_err());
        assert!(disk.open("log/b", false).is_err());
        assert_eq!((errors.count(), errors.newest()), (0, None));
        sim.fail(SimOp::Read, "log/", 0, ErrorKind::Other);
        assert!(file.read_exact_at(&mut [0; 2], 3).is_err());
        assert_eq!(errors.count(), 1);
        assert!(errors.newest().is_some_and(|what| what.starts_with("Read of log/a at 3: ")), "{:?}", errors.newest());
        clock.advance(TOLD_FOR);
        assert_eq!((errors.count(), errors.newest()), (1, None));
    }
}
