//! Owns the writing of a large file in slices, so that whoever else waits for the same disk hardly feels it.
//!
//! ```text
//!   all at once   ████████████████████ sync   a commit that comes now waits for all of it
//!   in slices     ██ sync ········ ██ sync ········ ██ sync ········   or for one slice; the rests are nine times as long as what they rest from
//! ```
//! A disk takes what it is given in order: behind sixteen megabytes a sync of a page stands for as long as they take. docs/benchmarks.md has what that is.
//! Like the store's own files this one is written beside, as `NAME#1`, synced, and renamed; so nobody meets half of one.

use bytes::Bytes;
use std::fs::File;
use std::io::{ErrorKind, Result, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// As long as the disk takes for some of its syncs anyway.
pub(crate) const SLICE_BYTES: usize = 256 << 10;
/// So many times as long as a slice took nothing is written behind it; at most this long, for a disk that is slow.
const RESTS: u32 = 9;
const REST_MAX: Duration = Duration::from_millis(100);

/// Puts a file there, whole and synced, over one that is there. Dropped before, it ends with the next slice, and nothing is there.
pub(crate) async fn put(path: PathBuf, bytes: Bytes) -> Result<()> {
    let wanted = Wanted(Arc::new(AtomicBool::new(true)));
    let is_wanted = wanted.0.clone();
    match tokio::task::spawn_blocking(move || write(&path, &bytes, &is_wanted)).await {
        Ok(written) => written,
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// Somebody waits for the file.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn write(path: &Path, bytes: &[u8], is_wanted: &AtomicBool) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    make(dir)?;
    let mut staged = path.as_os_str().to_owned();
    staged.push("#1");
    let written = write_slices(Path::new(&staged), bytes, is_wanted).and_then(|()| std::fs::rename(&staged, path));
    if written.is_err() {
        // One that stays is known by its name, and removed with what its run has left.
        drop(std::fs::remove_file(&staged));
        return written;
    }
    File::open(dir)?.sync_all()
}

#[expect(clippy::disallowed_methods, reason = "the rest is what this is for: the disk is left to others")]
fn write_slices(path: &Path, bytes: &[u8], is_wanted: &AtomicBool) -> Result<()> {
    let mut file = File::create(path)?;
    for slice in bytes.chunks(SLICE_BYTES) {
        if !is_wanted.load(Ordering::Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        let begun = Instant::now();
        file.write_all(slice)?;
        file.sync_data()?;
        std::thread::sleep((begun.elapsed() * RESTS).min(REST_MAX));
    }
    file.sync_all()
}

/// Makes a directory and those above it; each is synced into the one above.
fn make(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = dir.parent().unwrap_or(Path::new("/"));
    make(above)?;
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(above)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{Place, Reach};

    #[tokio::test]
    async fn a_file_is_there_whole_and_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("main/chain/run/000001.log");
        for len in [0, 1, SLICE_BYTES, 2 * SLICE_BYTES + 1] {
            let bytes: Bytes = (0..len).map(|n| (n / 7) as u8).collect();
            put(path.clone(), bytes.clone()).await.expect("is put");
            assert_eq!(std::fs::read(&path).expect("reads"), bytes);
        }
        let names: Vec<_> = std::fs::read_dir(path.parent().expect("one")).expect("there").flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        // As a place does it while it is gentle, and the store finds it.
        let place = Place::open(dir.path().to_str().expect("plain"), Reach::default()).expect("opens");
        place.be_gentle(true);
        let bytes = Bytes::from(vec![7; 3 * SLICE_BYTES]);
        place.put("main/chain/run/000002.log", bytes.clone()).await.expect("is put");
        assert_eq!(place.get("main/chain/run/000002.log").await.expect("reads"), Some(bytes));
        assert_eq!(place.listing("main/chain/run").await.expect("lists").0.len(), 2);
        // Nobody waits any more.
        let (gone, bytes) = (dir.path().join("main/gone"), vec![7; 3 * SLICE_BYTES]);
        assert!(write(&gone, &bytes, &AtomicBool::new(false)).is_err());
        assert_eq!(std::fs::read_dir(dir.path().join("main")).expect("there").count(), 1, "the chains");
        // A directory of that name is no file, and what was begun is gone.
        let taken = dir.path().join("main");
        put(taken, Bytes::from_static(b"x")).await.expect_err("there is one");
        assert!(!dir.path().join("main#1").exists());
    }
}
