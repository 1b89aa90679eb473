//! The pipeline: what happens to a draft between the call that brings it and the disk.
//!
//! ```text
//!   commit ── admission, keys ──> intake ──> sequencer ──> writer          undo: an ordinary draft
//!    ask: what travels between them          │   ▲  check · head · recent · merge · yields · holds · endings · condemned · kinds · replays
//!                                            ▼   │
//!                                           mergers
//! ```

pub(crate) mod admission;
pub(crate) mod ahead;
pub(crate) mod ahead_of_clock;
pub(crate) mod answering;
pub(crate) mod ask;
pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod condemned;
pub(crate) mod course;
pub(crate) mod endings;
pub(crate) mod head;
pub(crate) mod holds;
pub(crate) mod intake;
pub(crate) mod keys;
pub(crate) mod kinds;
pub(crate) mod merge;
pub(crate) mod mergers;
pub(crate) mod own;
pub(crate) mod ranges;
pub(crate) mod ready;
pub(crate) mod recent;
pub(crate) mod replayed;
pub(crate) mod replays;
pub(crate) mod restore;
pub(crate) mod second_look;
pub(crate) mod sequencer;
pub(crate) mod turning;
pub(crate) mod undo;
pub(crate) mod way;
pub(crate) mod wide;
pub(crate) mod writer;
pub(crate) mod yields;

use super::Engine;
use intake::Intake;
use keys::Keys;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use yields::Yields;
use zeolite_proto::Tid;

/// What callers, sequencer, mergers and writer share.
pub(super) struct Pipeline {
    intake: Arc<Intake>,
    keys: Keys,
    /// What the sequencer remembers of recent writes reaches back to here.
    recent_floor: AtomicU64,
    /// Drafts that the mergers have.
    merging: AtomicUsize,
    /// Each draft that is made ready, or was and waits for its turn, has one of these.
    made_ready: Arc<()>,
    yields: Yields,
    /// Until then followers are waited for when the server stops.
    end_by: OnceLock<Duration>,
}

impl Pipeline {
    pub(super) fn new(intake: Intake, keys: Keys, last: Tid) -> Pipeline {
        let (recent_floor, merging) = (AtomicU64::new(last.0), AtomicUsize::new(0));
        Pipeline {
            intake: Arc::new(intake),
            keys,
            recent_floor,
            merging,
            made_ready: Arc::default(),
            yields: Yields::new(last),
            end_by: OnceLock::new(),
        }
    }

    fn recent_floor(&self) -> Tid {
        Tid(self.recent_floor.load(Ordering::Acquire))
    }

    fn set_recent_floor(&self, floor: Tid) {
        self.recent_floor.store(floor.0, Ordering::Release);
    }

    fn merging_started(&self) {
        self.merging.fetch_add(1, Ordering::AcqRel);
    }

    fn merging_ended(&self) {
        self.merging.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether what was found out about a draft counts only as long as what was sealed since is remembered.
    fn is_looked_up(&self) -> bool {
        self.out_merging() > 0 || Arc::strong_count(&self.made_ready) > 1
    }

    fn out_merging(&self) -> usize {
        self.merging.load(Ordering::Acquire)
    }
}

impl Engine {
    pub(super) fn intake(&self) -> &Arc<Intake> {
        &self.pipeline.intake
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.pipeline.keys
    }

    /// Whether the server stops and has waited for followers as long as anybody does: what is only on this disk stays there, and is, or
    /// is not, at the next start, as whoever was let go was told.
    fn has_waited_to_the_end(&self) -> bool {
        if self.settings().replication.sync == 0 || !self.intake().is_closed() {
            return false;
        }
        let now = self.clock().steady();
        let wait = Duration::from_millis(self.settings().replication.wait_ms);
        *self.pipeline.end_by.get_or_init(|| now + wait) <= now
    }
}
