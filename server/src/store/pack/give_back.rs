//! Owns the giving back of what a pack has replaced: the room of a large file goes back to the disk in slices.
//!
//! ```text
//!   at once     unlink ─> ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒   all of it is freed in one transaction of the file system, which may tell the disk what is
//!                                                free: the next fdatasync, a live commit's, stands behind that
//!   in slices   unlink ─> ▒▒ sync ·· ▒▒ sync ·· ▒▒ sync ··   or behind one slice
//! ```
//! The name goes first, durably, and nobody else has the file: so whatever happens in between, nobody ever meets a file that was
//! made shorter. What a crash, a kill, an error or a caller who wants to stop leaves of it the system frees at once.
//!
//! Not done: one that somebody still reads goes whole when the last of them is done with it.

use super::{Stage, Stepper};
use crate::store::StoreError;
use crate::store::disk::DiskFile;
use crate::store::log::segments::Segment;
use std::sync::Arc;

/// So much is freed at once: a disk that is told takes a millisecond or some for it. Little in tests, so that they see the seams.
pub(super) const FREED_BYTES: u64 = if cfg!(test) { 1024 } else { 4 << 20 };

/// Gives back the room of retired segments that nobody else has. `step` may rest behind each slice, and may want to stop.
pub(super) fn give_back(retired: Vec<Arc<Segment>>, step: &mut Stepper<'_>) -> Result<(), StoreError> {
    let all = retired.iter().map(|segment| segment.end()).sum();
    let mut done = 0;
    for segment in retired {
        let end = segment.end();
        if let Some(file) = Arc::into_inner(segment).and_then(|segment| segment.file.keep().ok()) {
            shorten(file.as_ref(), &mut |left| step(Stage::GiveBack, done + end.saturating_sub(left), all))?;
        }
        done += end;
    }
    Ok(())
}

/// Frees the room of a file that has no name, and that nobody else has.
pub(crate) fn shorten(
    file: &dyn DiskFile,
    step: &mut dyn FnMut(u64) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
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
