//! Owns the share of one connection: how much it may have of what is counted for all together.
//!
//! ```text
//!   all of it ├──────────────────────────────────────────┤  sessions.sessions_max, engine.pins_max ...
//!   one conn. ├─────────┤                                   sessions.connection_share_percent of each, one at least
//! ```
//! Without it a client that forgets to let go has everything, and everybody else gets `Busy`. What is taken counts until it is gone, also
//! when its connection has gone before: pins and prepared drafts outlive it. What is not taken over a connection has no share to keep to.
//!
//! It is a connection's and not a principal's, since without a login everybody is the same one: who opens many connections
//! has as many shares. That is bounded by `sessions.connections_max` alone.

use crate::storage::Uploader;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use zeolite_proto::{Fault, FaultKind};

/// When to come back.
const RETRY_AFTER_MS: u64 = 1000;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    Sessions,
    LogStreams,
    Pins,
    PreparedDrafts,
    PreparedBytes,
    OpenBlobs,
}

impl Counted {
    const ALL: usize = 6;

    /// In words, and how to have less of it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Counted::Sessions => ("open sessions", "close one"),
            Counted::LogStreams => ("streams of the log", "end one"),
            Counted::Pins => ("pinned snapshots", "unpin some"),
            Counted::PreparedDrafts => ("prepared drafts", "finish or abort some"),
            Counted::PreparedBytes => ("bytes of prepared drafts", "finish or abort some"),
            Counted::OpenBlobs => ("blobs open", "end an upload or a read"),
        }
    }
}

/// The share of a connection; by default, of nobody's: without a bound.
#[derive(Clone, Debug, Default)]
pub struct Share(Option<Line>);

#[derive(Clone, Debug)]
struct Line {
    counts: Arc<Counts>,
    // What was taken does not keep this.
    alive: Arc<()>,
}

/// Each connection has its number.
static LINES: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
struct Counts {
    number: u64,
    percent: usize,
    taken: [AtomicUsize; Counted::ALL],
}

impl Share {
    /// Of a new connection.
    pub(crate) fn new(percent: usize) -> Share {
        let number = LINES.fetch_add(1, Ordering::Relaxed);
        let counts = Arc::new(Counts { number, percent, taken: Default::default() });
        Share(Some(Line { counts, alive: Arc::default() }))
    }

    /// Whose its uploads are.
    pub(crate) fn uploader(&self) -> Uploader {
        let line = self.0.as_ref();
        line.map(|line| Uploader::new(line.counts.number, line.counts.percent, &line.alive)).unwrap_or_default()
    }

    fn counts(&self) -> Option<&Arc<Counts>> {
        self.0.as_ref().map(|line| &line.counts)
    }

    /// Takes a part of what is `all` together, unless it has its share; the first thing fits in any case.
    pub(crate) fn take(&self, what: Counted, count: usize, all: usize) -> Result<Place, Fault> {
        self.room(what, count, all).map(|()| self.have(what, count))
    }

    /// Whether it may take that.
    pub(crate) fn room(&self, what: Counted, count: usize, all: usize) -> Result<(), Fault> {
        let Some(counts) = self.counts() else { return Ok(()) };
        let (taken, most) =
            (counts.taken(what).load(Ordering::Relaxed), (all.saturating_mul(counts.percent) / 100).max(1));
        if taken == 0 || taken.saturating_add(count) <= most {
            return Ok(());
        }
        let ((name, less), percent) = (what.words(), counts.percent);
        let message = format!(
            "this connection has {taken} {name}, and may have {most}: {percent} % of what all may have together \
             (sessions.connection_share_percent); {less}, or come back"
        );
        Err(Fault::new(FaultKind::Busy, message).after_ms(RETRY_AFTER_MS))
    }

    /// Takes it, whether there is room or not.
    pub(crate) fn have(&self, what: Counted, count: usize) -> Place {
        let counts = self.counts().cloned();
        if let Some(counts) = &counts {
            counts.taken(what).fetch_add(count, Ordering::Relaxed);
        }
        Place { counts, what, count }
    }
}

impl Counts {
    fn taken(&self, what: Counted) -> &AtomicUsize {
        &self.taken[what as usize]
    }
}

/// Shares are those of the same connection or not.
impl PartialEq for Share {
    fn eq(&self, other: &Share) -> bool {
        self.counts().map(Arc::as_ptr) == other.counts().map(Arc::as_ptr)
    }
}

impl Eq for Share {}

/// Something that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    counts: Option<Arc<Counts>>,
    what: Counted,
    count: usize,
}

impl Place {
    /// It is more now.
    pub(crate) fn grow(&mut self, count: usize) {
        if let Some(counts) = &self.counts {
            counts.taken(self.what).fetch_add(count, Ordering::Relaxed);
            self.count += count;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(counts) = &self.counts {
            counts.taken(self.what).fetch_sub(self.count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_part_of_all_and_free_again_when_its_places_are_gone() {
        let share = Share::new(25);
        let places: Vec<Place> = (0..3).map(|_| share.take(Counted::Pins, 1, 12).expect("room")).collect();
        let fault = share.take(Counted::Pins, 1, 12).map(|_| ()).expect_err("a quarter of 12 is 3");
        assert!(fault.kind == FaultKind::Busy && fault.retry_after_ms > 0, "{fault}");
        assert!(fault.message.contains("3 pinned snapshots") && fault.message.contains("unpin some"), "{fault}");
        assert!(share.take(Counted::Sessions, 1, 2).is_ok(), "others are counted apart, and one there always is");
        assert!(Share::new(25).take(Counted::Pins, 1, 12).is_ok(), "another connection has its own");
        drop(places);
        let mut large = share.take(Counted::PreparedBytes, 500, 1000).expect("the first fits, whatever its size");
        assert!(share.room(Counted::PreparedBytes, 1, 1000).is_err());
        large.grow(10);
        drop(large);
        assert!(share.room(Counted::PreparedBytes, 250, 1000).is_ok());
        let nobodys = Share::default();
        assert!((0..100).all(|_| nobodys.take(Counted::Pins, 1, 12).is_ok()));
    }
}
