//! Owns a large transaction that is written before its turn: to a file of its own, which becomes the next segment of the log when its turn comes.
//!
//! ```text
//!   caller's thread   ......................| all that it writes, encoded, synced in slices     log/ahead-7.part
//!   appender          header | batch | tid  |                                                   log/0000000012.0000.seg
//! ```
//! What only its turn tells are the first hundred bytes: number and base of the segment, the tid, the batch's checksum (of which the part that
//! covers the rest is known). So whoever waits behind it waits for these, not for the rest; and on the disk it is what it would have been:
//! a segment that begins with a batch.
//!
//! A file that has no segment's name is no part of the log: one that is not needed is removed, here or at the next start. When it cannot be made,
//! for want of room or because [`FILES_MAX`] are there, the transaction is written in its turn like others.

use crate::store::log::ahead_file::{AheadFile, FILES_MAX, Unsealed};
use crate::store::state::State;
use crate::store::{StoreError, TxnWrite, Writes};
use std::io;
use std::sync::Arc;

/// So much is left for other commits: more than that below which a database is made read-only.
const ROOM_LEFT_BYTES: u64 = 512 << 20;

/// Makes large transactions ready; from any thread.
pub struct Ahead {
    state: Arc<State>,
}

impl Ahead {
    pub(crate) fn new(state: Arc<State>) -> Ahead {
        Ahead { state }
    }

    /// Sorts a large transaction's writes, and writes them if they are worth it. Refuses what the log cannot hold.
    pub fn large(&self, writes: Vec<TxnWrite>, of: Unsealed) -> Result<Writes, StoreError> {
        self.state.ahead.remove_gone(self.state.disk.as_ref());
        let mut writes = Writes::large(writes, of.note.len())?;
        let len = writes.run().map_or(0, |run| run.batch_len());
        if len < self.state.settings.ahead_bytes_min || !self.has_room(len) {
            return Ok(writes);
        }
        match self.write(&writes, of) {
            Ok(Some(file)) => writes.set_ahead(file),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "a large transaction is written in its turn"),
        }
        Ok(writes)
    }

    fn has_room(&self, len: u64) -> bool {
        let State { poison, disk, ahead, .. } = self.state.as_ref();
        let free = || disk.free_bytes().unwrap_or(u64::MAX);
        let left = disk.size_bytes().map_or(ROOM_LEFT_BYTES, |size| ROOM_LEFT_BYTES.min(size / 16));
        // Others as large may look at the same room right now.
        let all = len.saturating_mul(FILES_MAX as u64).saturating_add(left);
        poison.get().is_none() && ahead.has_place() && free() >= all
    }

    fn write(&self, writes: &Writes, of: Unsealed) -> io::Result<Option<AheadFile>> {
        let State { handles, disk, ahead, .. } = self.state.as_ref();
        let open = |path: &str| handles.open(path, true);
        let Some(mut file) = AheadFile::begin(ahead, disk, of, &open)? else { return Ok(None) };
        file.fill(writes)?;
        Ok(Some(file))
    }
}
