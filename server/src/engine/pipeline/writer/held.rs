//! Owns what is on this disk and not told yet, because too few followers have it: batches in order, each published when they do.
//!
//! ```text
//!   appended here ──> held ──> followers have it ──> published, told
//!                        └── after replication.wait_ms ──> whoever waits is told that the outcome is unknown; it stays held
//! ```
//! The writer goes on appending meanwhile, up to `replication.held_bytes_max`.

use super::batch::Batch;
use crate::engine::Engine;
use std::collections::VecDeque;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Seat, Tid};

#[derive(Default)]
pub(super) struct HeldBack {
    batches: VecDeque<Held>,
    bytes: usize,
    commits: u64,
}

struct Held {
    batch: Batch,
    bytes: usize,
    since: Duration,
    /// Then whoever waits for it is let go.
    until: Duration,
}

impl HeldBack {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, batch: Batch, bytes: usize, engine: &Engine) {
        let since = engine.clock().steady();
        let until = since + wait(engine);
        self.bytes += bytes;
        self.commits += batch.txns.len() as u64;
        self.batches.push_back(Held { batch, bytes, since, until });
        self.tell(engine);
    }

    /// The next one that enough followers have. `to`: what they have.
    pub(super) fn next(&mut self, to: Tid, engine: &Engine) -> Option<Batch> {
        let next = self.batches.pop_front_if(|held| held.batch.last() <= to)?;
        self.bytes -= next.bytes;
        self.commits -= next.batch.txns.len() as u64;
        self.tell(engine);
        Some(next.batch)
    }

    /// Lets go whoever has waited long enough.
    pub(super) fn let_go(&mut self, engine: &Engine) {
        let (now, is_fenced) = (engine.clock().steady(), engine.check_followed().is_err());
        for held in self.batches.iter_mut().filter(|held| is_fenced || held.until <= now) {
            held.batch.let_go(engine, &unknown(engine));
            // Whoever asks again meanwhile waits as long.
            held.until = now + wait(engine);
        }
    }

    /// The server stops: nobody is waited for any more.
    pub(super) fn give_up(&mut self, engine: &Engine) {
        for held in self.batches.drain(..) {
            // Also whoever waits for the end of a prepared draft, which would come back to be tried again if the server went on.
            held.batch.let_go(engine, &unknown(engine));
            held.batch.refuse(engine, &unknown(engine));
        }
        (self.bytes, self.commits) = (0, 0);
        self.tell(engine);
    }

    /// When the oldest is let go.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.batches.front().map(|held| held.until)
    }

    fn tell(&self, engine: &Engine) {
        engine.copies().followers.wait(self.commits, self.batches.front().map(|held| held.since));
    }
}

fn wait(engine: &Engine) -> Duration {
    Duration::from_millis(engine.settings().replication.wait_ms)
}

fn unknown(engine: &Engine) -> Fault {
    let message = match engine.seat() {
        Seat::Primary => format!(
            "the commit is on the primary's disk, and fewer than {} followers (replication.sync) have said that they have it; it comes to \
             be when they do: ask for the outcome",
            engine.settings().replication.sync
        ),
        _ => "the commit is on the disk of a server that is not the primary any more; ask the new one for the outcome"
            .to_owned(),
    };
    Fault::new(FaultKind::OutcomeUnknown, message)
}
