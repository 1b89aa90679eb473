//! Owns the leash of a connection: how long it may live from now on. Whoever is served longer (an open page) gets a new one with each thing
//! that it takes; who takes nothing is cut.
//!
//! HTTP asks a body for more only when there is room in the socket. So a reader that stands still stops asking, gets no new leash, and
//! ends: nothing waits for it in memory but one event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Handed to whoever answers.
#[derive(Clone)]
pub(super) struct Leash {
    length: watch::Sender<Duration>,
    has_asked: Arc<AtomicBool>,
}

impl Leash {
    /// It ends after this much.
    pub(super) fn new(length: Duration) -> Leash {
        Leash { length: watch::Sender::new(length), has_asked: Arc::default() }
    }

    /// From now on it is so long.
    pub(super) fn is_now(&self, length: Duration) {
        self.length.send_replace(length);
    }

    /// The request is there, all of it.
    pub(super) fn is_asked(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// Whether it is; who has not asked makes room for others.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Ready when it has ended.
    pub(super) async fn ended(&self) {
        let mut lengths = self.length.subscribe();
        loop {
            let length = *lengths.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep(length) => return,
                _ = lengths.changed() => {}
            }
        }
    }
}
