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
use crate::store::disk::shorten;
use crate::store::log::segments::Segment;
use std::sync::Arc;

/// Gives back the room of retired segments that nobody else has. `step` may rest behind each slice, and may want to stop.
pub(super) fn give_back(retired: Vec<Arc<Segment>>, step: &mut Stepper<'_>) -> Result<(), StoreError> {
    let all = retired.iter().map(|segment| segment.end()).sum();
    let mut done = 0;
    for segment in retired {
        let end = segment.end();
        if let Some(file) = Arc::into_inner(segment).and_then(|segment| segment.file.keep().ok()) {
            shorten(file.as_ref(), |left| step(Stage::GiveBack, done + end.saturating_sub(left), all))?;
        }
        done += end;
    }
    Ok(())
}
