//! Owns the feed's position: the newest tid up to which every invalidation has been applied to the cache.
//!
//! It is the snapshot that a new transaction reads at. The session's reader moves it, after the cache was told; it
//! never runs back, except when the store itself is another one (then the generation changes as well).

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::time::Instant;
use zeolite_proto::Tid;

#[derive(Debug, Default)]
pub(crate) struct Position {
    tid: AtomicU64,
    generation: AtomicU64,
    moved: Notify,
}

impl Position {
    /// The newest snapshot that can be read.
    pub(crate) fn get(&self) -> Tid {
        Tid(self.tid.load(Ordering::Acquire))
    }

    /// Counts the stores (and rolled back stores) that were behind the address.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Both, of one moment.
    pub(crate) fn snapshot(&self) -> (Tid, u64) {
        loop {
            let generation = self.generation();
            let tid = self.get();
            if self.generation() == generation {
                return (tid, generation);
            }
        }
    }

    /// Everything up to this tid has been applied.
    pub(crate) fn reached(&self, tid: Tid) {
        if self.tid.fetch_max(tid.0, Ordering::AcqRel) < tid.0 {
            self.moved.notify_waiters();
        }
    }

    /// A session begins; called when no reader runs. The generation moves twice around the tid, so that `snapshot` never pairs
    /// the tid of one store with the generation of another.
    pub(crate) fn restart(&self, generation: u64, visible: Tid) {
        if generation == self.generation() {
            self.reached(visible);
            return;
        }
        self.generation.store(u64::MAX, Ordering::SeqCst);
        self.tid.store(visible.0, Ordering::SeqCst);
        self.generation.store(generation, Ordering::SeqCst);
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
