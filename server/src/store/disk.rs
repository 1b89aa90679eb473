//! Owns the two traits through which the store touches the world: `Disk` (a data directory) and `DiskFile`.
//!
//! They are components given to the store, so that a test can run it on a disk that loses unsynced bytes, tears writes or
//! fails its n-th call. Paths are relative to the data directory, with `/`.

pub mod apart;
pub mod holder;
pub mod real;
pub mod sim;
pub mod watched;

use std::io;
use std::sync::Arc;

pub use apart::ApartDisk;
pub use real::RealDisk;
pub use sim::SimDisk;
pub use watched::WatchedDisk;

/// Who writes much beside live commits writes so much between two syncs. A disk takes what it is given in order, and a commit's sync stands behind
/// whatever was given before: with this, behind as much as the disk takes for some of its syncs anyway. Less in tests, so that they see the seams.
pub(crate) const SLICE_BYTES: usize = if cfg!(test) { 16 << 10 } else { 256 << 10 };

/// So much of a large file is freed at once: a disk that is told takes a millisecond or some for it. Little in tests, so that they see the seams.
pub(crate) const FREED_BYTES: u64 = if cfg!(test) { 1024 } else { 4 << 20 };

/// Frees the room of a file that has no name any more and that nobody else has, in slices; `step` is told what is left, and may stop.
pub(crate) fn shorten<E>(file: &dyn DiskFile, mut step: impl FnMut(u64) -> Result<(), E>) -> Result<(), E> {
    let mut left = file.len().unwrap_or(0);
    while left > 0 {
        left = left.saturating_sub(FREED_BYTES);
        // Synced, or the file system gathers them into one transaction. What fails here fails nothing: the file is gone all the same.
        if file.set_len(left).and_then(|()| file.sync_data()).is_err() {
            break;
        }
        step(left)?;
    }
    Ok(())
}

/// A data directory.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file for reading and writing; with `create` it is made when missing.
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// The names of the files in a directory, sorted; empty when the directory does not exist.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes a directory and its parents.
    fn make_dir(&self, dir: &str) -> io::Result<()>;
    /// Renames a file over whatever is there. Durable after `sync_dir`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; it is no error when there is none. Open handles stay readable.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
    /// The size of the whole disk.
    fn size_bytes(&self) -> io::Result<u64>;
    /// The real path of a file, for an engine that opens its files itself; `None` on a disk that has no real files.
    fn real_path(&self, path: &str) -> Option<std::path::PathBuf>;
}

/// An open file. All calls are positioned, so that readers share one handle.
pub trait DiskFile: Send + Sync + 'static {
    /// Fills the buffer from an offset; `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all bytes at an offset. `StorageFull` when there is no room; some of the bytes may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// What it occupies on the disk: less than its length when it was extended and not written there.
    fn occupied_bytes(&self) -> io::Result<u64> {
        self.len()
    }
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) to a length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// fdatasync: when it returns Ok, everything written before is on the disk.
    fn sync_data(&self) -> io::Result<()>;
}
