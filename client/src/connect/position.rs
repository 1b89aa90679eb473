//! Owns the feed's position: the newest tid up to which every invalidation has been applied to the cache, and of which life of
//! which store it is.
//!
//! It is the snapshot that a new transaction reads at. The session's reader moves it, after the cache was told; it
//! never runs back, except when the store itself is another one (then the generation changes as well).

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::time::Instant;
use zeolite_proto::Tid;

/// Of which store something is known, and in which of its lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life {
    /// Counts the stores (and rolled back stores) that were behind the address.
    pub(crate) generation: u64,
    /// As the server tells it; 0: not told.
    pub(crate) timeline: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Position {
    tid: AtomicU64,
    generation: AtomicU64,
    timeline: AtomicU64,
    moved: Notify,
}

impl Position {
    /// The newest snapshot that can be read.
    pub(crate) fn get(&self) -> Tid {
        Tid(self.tid.load(Ordering::Acquire))
    }

    /// Of the store behind the address.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The life that the position is of, or a later one that has it as well.
    pub(crate) fn timeline(&self) -> u64 {
        self.timeline.load(Ordering::Acquire)
    }

    /// The newest snapshot and its life, of one moment.
    pub(crate) fn snapshot(&self) -> (Tid, Life) {
        loop {
            let generation = self.generation();
            let tid = self.get();
            let life = Life { generation, timeline: self.timeline() };
            if self.generation() == generation {
                return (tid, life);
            }
        }
    }

    /// The life of any snapshot: of one that the feed has not told, the timeline is not known.
    pub(crate) fn life_at(&self, snapshot: Tid) -> Life {
        let (tid, life) = self.snapshot();
        if snapshot <= tid { life } else { Life { timeline: 0, ..life } }
    }

    /// Everything up to this tid has been applied; of which life it is, if that was told. Called by the session's reader alone.
    pub(crate) fn reached(&self, tid: Tid, timeline: u64) {
        if self.get() >= tid {
            return;
        }
        // First: whoever reads the older tid may name the newer life, which has all of the older one up to there.
        self.timeline.store(timeline, Ordering::Release);
        self.tid.store(tid.0, Ordering::Release);
        self.moved.notify_waiters();
    }

    /// A session begins; called when no reader runs. The generation moves twice around the rest, so that `snapshot` never pairs
    /// the tid of one store with the generation of another.
    pub(crate) fn restart(&self, life: Life, visible: Tid) {
        if life.generation == self.generation() {
            self.timeline.store(life.timeline, Ordering::Release);
            self.reached(visible, life.timeline);
            return;
        }
        self.generation.store(u64::MAX, Ordering::SeqCst);
        self.timeline.store(life.timeline, Ordering::SeqCst);
        self.tid.store(visible.0, Ordering::SeqCst);
        self.generation.store(life.generation, Ordering::SeqCst);
        self.moved.notify_waiters();
    }

    /// Waits until the position is at least there; false when the time is over first.
    pub(crate) async fn wait_for(&self, tid: Tid, deadline: Instant) -> bool {
        loop {
            let moved = self.moved.notified();
            if self.get() >= tid {
                return true;
            }
            if tokio::time::timeout_at(deadline, moved).await.is_err() {
                return self.get() >= tid;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_of_the_life_that_was_told_with_it() {
        let position = Position::default();
        let life = |generation, timeline| Life { generation, timeline };
        position.restart(life(0, 7), Tid(10));
        position.reached(Tid(20), 7);
        assert_eq!(position.snapshot(), (Tid(20), life(0, 7)));
        assert_eq!((position.life_at(Tid(5)), position.life_at(Tid(21))), (life(0, 7), life(0, 0)));
        // Restored into, under a session that goes on.
        position.reached(Tid(30), 8);
        position.reached(Tid(25), 0);
        assert_eq!(position.snapshot(), (Tid(30), life(0, 8)));
        // Without a feed an answer moves it, and does not say of which life it is.
        position.reached(Tid(40), 0);
        assert_eq!(position.snapshot(), (Tid(40), life(0, 0)));
        position.restart(life(1, 9), Tid(3));
        assert_eq!(position.snapshot(), (Tid(3), life(1, 9)));
    }
}
