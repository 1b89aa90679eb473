//! Owns the leash of a connection: how long it may live from now on. Whoever is served longer (an open page) gets a new one with each thing
//! that it takes; who takes nothing is cut.
//!
//! HTTP asks a body for more only when there is room in the socket. So a reader that stands still stops asking, gets no new leash, and
//! ends: nothing waits for it in memory but one event.

use std::time::Duration;
use tokio::sync::watch;

/// Handed to whoever answers.
#[derive(Clone)]
pub(super) struct Leash(watch::Sender<Duration>);

impl Leash {
    /// It ends after this much.
    pub(super) fn new(length: Duration) -> Leash {
        Leash(watch::Sender::new(length))
    }

    /// From now on it is so long.
    pub(super) fn is_now(&self, length: Duration) {
        self.0.send_replace(length);
    }

    /// Ready when it has ended.
    pub(super) async fn ended(&self) {
        let mut lengths = self.0.subscribe();
        loop {
            let length = *lengths.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep(length) => return,
                _ = lengths.changed() => {}
            }
        }
    }
}
