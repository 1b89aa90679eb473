//! Owns the directory of a drill: made for one, removed behind it, and what a killed one has left removed by the next.
//!
//! ```text
//!   SCRATCH/zeolite-drill-…/   drill   the words below; locked as long as the drill lives
//!                              data/   the restored database
//! ```
//! What is removed is proven to be a drill's: a directory of this user with that name and the marker, nothing in it beside these two, and
//! no process that has the lock. Everything else stays.

use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PREFIX: &str = "zeolite-drill-";
const MARKER: &str = "drill";
const DATA: &str = "data";
const WORDS: &str = "zeolite backup drill: this directory may be removed when no drill runs\n";

/// A directory for one drill.
pub(super) struct Scratch {
    dir: TempDir,
    /// Held for its lock.
    _marker: File,
}

impl Scratch {
    /// Makes one.
    pub(super) fn make(within: &Path) -> Result<Scratch> {
        let failed = || format!("no temporary directory can be made in {}", within.display());
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(within).with_context(failed)?;
        let mut marker = File::create_new(dir.path().join(MARKER)).with_context(failed)?;
        marker.lock().with_context(failed)?;
        marker.write_all(WORDS.as_bytes()).with_context(failed)?;
        Ok(Scratch { dir, _marker: marker })
    }

    /// For the database.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join(DATA)
    }
}

/// Removes what drills that were killed have left there; these.
pub(super) fn sweep(within: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(within).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)));
    let left = named.map(|entry| entry.path()).filter(|dir| remove(dir).unwrap_or(false));
    left.collect()
}

/// Whether it was a killed drill's, and is gone.
fn remove(dir: &Path) -> std::io::Result<bool> {
    let data = dir.symlink_metadata()?;
    if !data.is_dir() || data.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    let names: Vec<_> = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
    if names.iter().any(|name| name != MARKER && name != DATA) {
        return Ok(false);
    }
    let mut marker = OpenOptions::new().read(true).open(dir.join(MARKER))?;
    let mut words = String::new();
    (&mut marker).take(2 * WORDS.len() as u64).read_to_string(&mut words)?;
    if words != WORDS || marker.try_lock().is_err() {
        return Ok(false);
    }
    if names.iter().any(|name| name == DATA) {
        std::fs::remove_dir_all(dir.join(DATA))?;
    }
    std::fs::remove_file(dir.join(MARKER))?;
    std::fs::remove_dir(dir)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_provably_a_killed_drills_stays() {
        let within = tempfile::tempdir().expect("a directory");
        let make = |name: &str, words: &str, more: &str| {
            let dir = within.path().join(name);
            std::fs::create_dir_all(dir.join(more)).expect("makes");
            std::fs::write(dir.join(MARKER), words).expect("writes");
        };
        make("zeolite-drill-foreign", "mine", "data/log");
        make("zeolite-drill-more", WORDS, "something/else");
        make("other", WORDS, "data/log");
        make("zeolite-drill-killed", WORDS, "data/log");
        std::fs::create_dir(within.path().join("zeolite-drill-bare")).expect("makes");
        let living = Scratch::make(within.path()).expect("makes");
        std::fs::create_dir(living.data()).expect("makes");
        assert_eq!(sweep(within.path()), [within.path().join("zeolite-drill-killed")]);
        assert!(living.data().exists());
        drop(living);
        assert_eq!(std::fs::read_dir(within.path()).expect("lists").count(), 4);
    }
}
