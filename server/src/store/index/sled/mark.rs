//! Owns the mark of a clean close: a file that names sled's files with their lengths and checksums.
//!
//! ```text
//!   text, a line each:  zeolite sled index 1
//!                       crc32 length name
//! ```
//! It is written under another name, synced and renamed, so that there is all of it or none.

use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::index::files::{SLED_BLOBS, SLED_DIR, list};
use std::fmt::Write;
use std::io;

const FIRST_LINE: &str = "zeolite sled index 1";
const MARK: &str = "clean";
const PART: &str = "clean.part";
const READ_BYTES: u64 = 1 << 20;

/// Whether the mark is there.
pub(super) struct Mark {
    there: bool,
}

impl Mark {
    /// Compares the mark with the files, if there are any, and removes it.
    pub(super) fn take(disk: &dyn Disk) -> Result<Mark, StoreError> {
        let mut mark = Mark { there: true };
        let names = list(disk, SLED_DIR)?;
        let files = names.iter().any(|name| name != MARK && name != PART);
        if names.iter().any(|name| name == MARK) {
            // What cannot be read does not fit either.
            if !read(disk).and_then(|text| Ok(text == describe(disk)?)).unwrap_or(false) {
                return Err(StoreError::Index("the files of sled are not those of its last clean close".to_owned()));
            }
            mark.remove(disk)?;
        } else if files {
            return Err(StoreError::Index("sled was not closed cleanly".to_owned()));
        }
        mark.there = false;
        Ok(mark)
    }

    /// Removes it, durably: from now on sled may write.
    pub(super) fn remove(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        if self.there {
            let removed = disk.remove(&format!("{SLED_DIR}/{MARK}")).and_then(|()| disk.sync_dir(SLED_DIR));
            removed.map_err(io("removing"))?;
            self.there = false;
        }
        Ok(())
    }

    /// Makes everything that sled has written durable, and puts the mark there. sled is at rest.
    pub(super) fn put(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        if !self.there {
            write(disk).map_err(io("writing"))?;
            self.there = true;
        }
        Ok(())
    }
}

fn io(what: &str) -> impl Fn(io::Error) -> StoreError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull => StoreError::DiskFull,
        _ => StoreError::Io { what: format!("{what} {SLED_DIR}/{MARK}"), error },
    }
}

fn write(disk: &dyn Disk) -> io::Result<()> {
    for path in files(disk)? {
        disk.open(&path, false)?.sync_data()?;
    }
    if !disk.list(SLED_BLOBS)?.is_empty() {
        disk.sync_dir(SLED_BLOBS)?;
    }
    disk.sync_dir(SLED_DIR)?;
    let text = describe(disk)?;
    let part = format!("{SLED_DIR}/{PART}");
    let file = disk.open(&part, true)?;
    file.set_len(0)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.sync_data()?;
    disk.rename(&part, &format!("{SLED_DIR}/{MARK}"))?;
    disk.sync_dir(SLED_DIR)
}

fn read(disk: &dyn Disk) -> io::Result<String> {
    let file = disk.open(&format!("{SLED_DIR}/{MARK}"), false)?;
    let mut text = vec![0; usize::try_from(file.len()?.min(READ_BYTES)).unwrap_or(0)];
    file.read_exact_at(&mut text, 0)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

// What the mark says about the files as they are.
fn describe(disk: &dyn Disk) -> io::Result<String> {
    let mut text = format!("{FIRST_LINE}\n");
    for path in files(disk)? {
        let file = disk.open(&path, false)?;
        let (len, mut crc, mut at) = (file.len()?, crc32fast::Hasher::new(), 0);
        let mut bytes = vec![0; READ_BYTES.min(len) as usize];
        while at < len {
            let part = &mut bytes[..READ_BYTES.min(len - at) as usize];
            file.read_exact_at(part, at)?;
            crc.update(part);
            at += part.len() as u64;
        }
        // A text in memory takes every line.
        let _ = writeln!(text, "{:08x} {len} {path}", crc.finalize());
    }
    Ok(text)
}

// sled's own files.
fn files(disk: &dyn Disk) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    for dir in [SLED_DIR, SLED_BLOBS] {
        let names = disk.list(dir)?.into_iter().filter(|name| name != MARK && name != PART);
        paths.extend(names.map(|name| format!("{dir}/{name}")));
    }
    Ok(paths)
}
