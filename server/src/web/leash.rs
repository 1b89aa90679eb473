//! Owns the leash of a connection: until when it may live. Whoever is served longer (an open page) gets a longer one with each thing that it
//! takes; who takes nothing is cut.
//!
//! HTTP asks a body for more only when there is room in the socket. So a reader that stands still stops asking, its leash is not made
//! longer, and it ends: nothing waits for it in memory but one event.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Handed to whoever answers.
#[derive(Clone)]
pub(super) struct Leash(watch::Sender<Instant>);

impl Leash {
    /// It ends after this much.
    pub(super) fn new(length: Duration) -> Leash {
        Leash(watch::Sender::new(Instant::now() + length))
    }

    /// From now on it is so long.
    pub(super) fn is_now(&self, length: Duration) {
        self.0.send_replace(Instant::now() + length);
    }

    /// Ready when it has ended.
    pub(super) async fn ended(&self) {
        loop {
            let until = *self.0.borrow();
            tokio::time::sleep_until(until).await;
            // It may have become longer meanwhile.
            if *self.0.borrow() <= Instant::now() {
                return;
            }
        }
    }
}
