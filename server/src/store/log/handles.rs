//! Owns the open files of the log: how many there are follows a bound, not the size of the log.
//!
//! ```text
//!   read of a segment ──> open already? ──> its handle
//!                    └──> the one that was not used for longest is closed ──> opened
//!   kept open besides: the segment that is appended to, and retired ones that somebody still reads
//! ```
//! A handle that is closed while somebody reads through it stays open until that read is done. When the system has no more
//! files the log gives up its own before it gives up the read; what it is told then passes by itself and is no damage.

use crate::store::StoreError;
use crate::store::disk::{Disk, DiskFile};
use parking_lot::{Mutex, RwLock};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

// What the system says when the process, or the machine, has no more files: EMFILE and ENFILE.
const NO_FILES: [i32; 2] = [24, 23];

/// The handles of a log.
pub(crate) struct Handles {
    disk: Arc<dyn Disk>,
    max: usize,
    // Those that may be closed. Who holds this may lock a slot, never the other way round.
    open: Mutex<Vec<Arc<Slot>>>,
    reads: AtomicU64,
}

/// A file of the log, opened when it is read.
pub(crate) struct LogFile {
    handles: Arc<Handles>,
    slot: Arc<Slot>,
}

struct Slot {
    path: String,
    state: RwLock<State>,
    // Which of the reads was the last one of it.
    used: AtomicU64,
}

enum State {
    Closed,
    Open(Arc<dyn DiskFile>),
    Kept(Arc<dyn DiskFile>),
}

impl Handles {
    /// At most so many are open that could be closed.
    pub(crate) fn new(disk: Arc<dyn Disk>, max: usize) -> Arc<Handles> {
        Arc::new(Handles { disk, max: max.max(1), open: Mutex::new(Vec::new()), reads: AtomicU64::new(0) })
    }

    /// The disk that the files are on.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// A file that is opened when it is read.
    pub(crate) fn lazy(self: &Arc<Self>, path: String) -> LogFile {
        self.file(path, State::Closed)
    }

    /// A file that is open and stays so.
    pub(crate) fn kept(self: &Arc<Self>, path: String, file: Arc<dyn DiskFile>) -> LogFile {
        self.file(path, State::Kept(file))
    }

    fn file(self: &Arc<Self>, path: String, state: State) -> LogFile {
        let slot = Slot { path, state: RwLock::new(state), used: AtomicU64::new(0) };
        LogFile { handles: self.clone(), slot: Arc::new(slot) }
    }

    /// Opens a file that the caller looks after; others are closed when the system has no more.
    pub(crate) fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.open_among(&mut self.open.lock(), path, create)
    }

    fn open_among(&self, open: &mut Vec<Arc<Slot>>, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        loop {
            match self.disk.open(path, create) {
                Err(error) if is_out_of_files(&error) && close_oldest(open) => {}
                other => return other,
            }
        }
    }

    // Opens a file unless it is, and lets it stay so or not.
    fn ready(&self, slot: &Arc<Slot>, keep: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut open = self.open.lock();
        let found = match &*slot.state.read() {
            State::Closed => None,
            State::Open(file) => Some((file.clone(), true)),
            State::Kept(file) => return Ok(file.clone()),
        };
        let (file, listed) = match found {
            Some(found) => found,
            None => {
                while !keep && open.len() >= self.max && close_oldest(&mut open) {}
                (self.open_among(&mut open, &slot.path, false)?, false)
            }
        };
        if keep {
            open.retain(|other| !Arc::ptr_eq(other, slot));
        } else if !listed {
            open.push(slot.clone());
        }
        *slot.state.write() = if keep { State::Kept(file.clone()) } else { State::Open(file.clone()) };
        Ok(file)
    }
}

// Closes the one that was not used for longest, if there is one.
fn close_oldest(open: &mut Vec<Arc<Slot>>) -> bool {
    let used = |(_, slot): &(usize, &Arc<Slot>)| slot.used.load(Ordering::Relaxed);
    let Some((at, _)) = open.iter().enumerate().min_by_key(used) else { return false };
    *open.swap_remove(at).state.write() = State::Closed;
    true
}

impl LogFile {
    /// The open file; do not hold it longer than a read.
    pub(crate) fn get(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.slot.used.store(self.handles.reads.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        match &*self.slot.state.read() {
            State::Open(file) | State::Kept(file) => return Ok(file.clone()),
            State::Closed => {}
        }
        self.handles.ready(&self.slot, false)
    }

    /// Keeps it open: it is written to, or its name is about to go.
    pub(crate) fn keep(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.handles.ready(&self.slot, true)
    }

    /// It may be closed from now on.
    pub(crate) fn let_go(&self) {
        let mut open = self.handles.open.lock();
        let mut state = self.slot.state.write();
        if let State::Kept(file) = &*state {
            let file = file.clone();
            *state = State::Open(file);
            drop(state);
            open.push(self.slot.clone());
            while open.len() > self.handles.max && close_oldest(&mut open) {}
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &str {
        &self.slot.path
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.handles.open.lock().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}

/// Whether an error means that the process, or the machine, has no more files.
pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NO_FILES.contains(&code))
}

/// The error of an open or a read of the log that is not damage.
pub(crate) fn failed(what: String, error: io::Error) -> StoreError {
    if is_out_of_files(&error) { StoreError::NoFiles { what } } else { StoreError::Io { what, error } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::SimDisk;

    fn files(count: usize, max: usize) -> (SimDisk, Arc<Handles>, Vec<LogFile>) {
        let disk = SimDisk::new();
        let handles = Handles::new(Arc::new(disk.clone()), max);
        let names: Vec<String> = (0..count).map(|number| format!("log/{number}")).collect();
        names.iter().for_each(|name| disk.put(name, name.clone().into_bytes()));
        let files = names.into_iter().map(|name| handles.lazy(name)).collect();
        (disk, handles, files)
    }

    fn read(file: &LogFile) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; file.path().len()];
        file.get()?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    #[test]
    fn no_more_are_open_than_the_bound_and_the_one_not_used_for_longest_goes_first() {
        let (disk, _, files) = files(9, 3);
        for file in &files {
            assert_eq!(read(file).expect("reads"), file.path().as_bytes());
            assert!(disk.open_files() <= 3, "{}", disk.open_files());
        }
        let opens = disk.opens();
        [8, 7, 6, 6].into_iter().for_each(|at| drop(read(&files[at]).expect("reads")));
        assert_eq!(disk.opens(), opens, "these are open");
        read(&files[0]).expect("reads");
        [6, 7].into_iter().for_each(|at| drop(read(&files[at]).expect("reads")));
        assert_eq!(disk.opens(), opens + 1, "8 was closed for 0");
        drop(files);
        assert_eq!(disk.open_files(), 0);
    }

    #[test]
    fn a_kept_one_is_not_counted_and_outlives_its_name() {
        let (disk, _, files) = files(6, 2);
        files[0].keep().expect("opens");
        disk.remove("log/0").expect("removes");
        files[1..].iter().for_each(|file| drop(read(file).expect("reads")));
        assert_eq!((disk.open_files(), read(&files[0]).expect("reads")), (3, b"log/0".to_vec()));
        files[1].keep().expect("opens");
        files[1].let_go();
        assert_eq!(disk.open_files(), 3);
    }

    #[test]
    fn when_the_system_has_no_more_the_log_gives_up_its_own_and_a_failure_passes() {
        let (disk, handles, files) = files(6, 100);
        disk.set_open_files_max(Some(2));
        files.iter().for_each(|file| drop(read(file).expect("reads")));
        let held = [handles.open("log/0", false).expect("opens"), handles.open("log/1", false).expect("opens")];
        let error = read(&files[3]).expect_err("no more files");
        assert!(is_out_of_files(&error), "{error}");
        drop(held);
        assert_eq!(read(&files[3]).expect("reads"), b"log/3");
    }
}
