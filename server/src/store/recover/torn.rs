//! Owns what is cut off the end of the log: it is kept in a file beside the segments, so that somebody who knows better can look
//! at it. A crash cannot be told from a bit that rotted in the last batch.

use crate::store::disk::Disk;
use crate::store::log::segments::{LOG_DIR, Segment};
use std::io;

/// What the names of these files end with.
const TORN: &str = ".torn";
// The newest ones are kept.
const KEPT_MAX: usize = 8;
const WINDOW_BYTES: u64 = 1 << 20;

/// Keeps the end of a segment, durably, and lets the oldest of what was kept go.
pub(super) fn keep(disk: &dyn Disk, segment: &Segment, offset: u64) -> io::Result<()> {
    let path = format!("{LOG_DIR}/{:010}.{offset:010}{TORN}", segment.header.number);
    let file = disk.open(&path, true)?;
    file.set_len(0)?;
    let (mut at, end) = (offset, segment.end());
    while at < end {
        let mut bytes = vec![0; WINDOW_BYTES.min(end - at) as usize];
        segment.file.get()?.read_exact_at(&mut bytes, at)?;
        file.write_all_at(&bytes, at - offset)?;
        at += bytes.len() as u64;
    }
    file.sync_data()?;
    let names = names(disk)?;
    for name in &names[..names.len().saturating_sub(KEPT_MAX)] {
        disk.remove(&format!("{LOG_DIR}/{name}"))?;
    }
    disk.sync_dir(LOG_DIR)
}

/// How many are kept.
pub(crate) fn count(disk: &dyn Disk) -> u64 {
    names(disk).map_or(0, |names| names.len() as u64)
}

// In the order of the log.
fn names(disk: &dyn Disk) -> io::Result<Vec<String>> {
    Ok(disk.list(LOG_DIR)?.into_iter().filter(|name| name.ends_with(TORN)).collect())
}
