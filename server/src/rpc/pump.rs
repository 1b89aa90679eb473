//! Owns the waking of sessions that have feed to send.
//!
//! Every batch goes to every session. To wake a session for each is to wake, frame, write and read once for every batch
//! and session, thousands of times a second with a few dozen of them, and by the one thread that everybody waits for. So a
//! push only notes the session here; a moment later (`sessions.feed_delay_ms`) all that were noted are woken together,
//! by a task. A session that gets an answer meanwhile is woken by that, and sends its feed with it: in most cases
//! nothing is left to do.
//!
//! Order and promises do not depend on it: what waits is already in the outbox, before anything that shows it.

use super::outbox::{Outbox, Pushed};
use crate::engine::FeedBatch;
use crate::engine::feed::FeedSink;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The sessions to be woken. At most each session stands here once.
pub(super) struct Pump {
    noted: Mutex<Vec<Arc<Outbox>>>,
    bell: Notify,
}

/// The pump's task; it ends with this.
pub(super) struct Pumping(JoinHandle<()>);

impl Drop for Pumping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pump {
    /// A pump and its task.
    pub(super) fn start(delay: Duration) -> (Arc<Pump>, Pumping) {
        let pump = Arc::new(Pump { noted: Mutex::default(), bell: Notify::new() });
        let task = pump.clone();
        let task = tokio::spawn(async move {
            loop {
                task.bell.notified().await;
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                let noted = std::mem::take(&mut *task.noted.lock());
                noted.iter().for_each(|outbox| outbox.feed_is_due());
            }
        });
        (pump, Pumping(task))
    }

    /// Notes a session whose feed waits. Called by the engine's writer thread.
    fn note(&self, outbox: Arc<Outbox>) {
        let first = {
            let mut noted = self.noted.lock();
            noted.push(outbox);
            noted.len() == 1
        };
        if first {
            self.bell.notify_one();
        }
    }
}

/// What the engine's writer thread holds of a session.
pub(super) struct SessionFeed {
    pub(super) outbox: Arc<Outbox>,
    pub(super) pump: Arc<Pump>,
}

impl FeedSink for SessionFeed {
    fn push(&self, batch: &Arc<FeedBatch>) -> bool {
        match self.outbox.push_batch(batch) {
            Pushed::Queued { first } => {
                if first {
                    self.pump.note(self.outbox.clone());
                }
                true
            }
            Pushed::Cut => {
                self.outbox.drop_later();
                false
            }
            Pushed::Over => false,
        }
    }
}
