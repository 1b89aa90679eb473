//! Owns what is visible, and the feed that tells it: one ordered stream of (tid, cells) to every subscriber.
//!
//! Two orders make stale reads impossible (the family's worst bugs were loads overtaken by invalidations):
//! - a batch is pushed to every subscriber *before* its tids become visible, so no answer can show a tid whose
//!   invalidations are not already in the same outgoing queue;
//! - a subscriber registers under the same lock, so it gets every batch after the visible tid that it is told.

use crate::engine::keep::system::SYSTEM_OID;
use crate::storage::Txn;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use zeolite_proto::{Cell, Tid};

/// What one commit wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedItem {
    /// The commit.
    pub tid: Tid,
    /// The cells.
    pub cells: Vec<Cell>,
}

impl FeedItem {
    /// What a transaction says in a feed. The server's own cells are in nobody's cache, and not everybody may know of them.
    pub fn of(txn: &Txn) -> FeedItem {
        let others = txn.writes.iter().map(|write| &write.cell).filter(|cell| cell.oid != SYSTEM_OID);
        FeedItem { tid: txn.tid, cells: others.cloned().collect() }
    }
}

/// The commits of one batch, in order. Shared by all sessions, encoded once for all of them.
#[derive(Debug)]
pub struct FeedBatch {
    /// In tid order, never empty.
    pub items: Vec<FeedItem>,
    /// The life of the store that they are of.
    pub timeline: u64,
    encoded: OnceLock<Vec<Bytes>>,
}

impl FeedBatch {
    /// A batch of these items, of a life of the store.
    pub fn new(items: Vec<FeedItem>, timeline: u64) -> FeedBatch {
        FeedBatch { items, timeline, encoded: OnceLock::new() }
    }

    /// The encoded form, in pieces; the first caller encodes it.
    pub fn encoded(&self, encode: impl FnOnce(&[FeedItem], u64) -> Vec<Bytes>) -> &[Bytes] {
        self.encoded.get_or_init(|| encode(&self.items, self.timeline))
    }

    /// The last tid of the batch.
    pub fn last(&self) -> Tid {
        self.items.last().map_or(Tid::NONE, |item| item.tid)
    }
}

/// Takes the feed for one session. Called by the writer's thread: it must not block.
pub trait FeedSink: Send + Sync + 'static {
    /// Takes a batch; false: never again.
    fn push(&self, batch: &Arc<FeedBatch>) -> bool;
}

/// The visible tid and the subscribers.
pub(crate) struct Feed {
    visible: AtomicU64,
    subscribers: AtomicUsize,
    sinks: Mutex<Vec<Arc<dyn FeedSink>>>,
}

impl Feed {
    pub(crate) fn new(visible: Tid) -> Feed {
        Feed { visible: AtomicU64::new(visible.0), subscribers: AtomicUsize::new(0), sinks: Mutex::default() }
    }

    /// The newest tid that may be read.
    pub(crate) fn visible(&self) -> Tid {
        Tid(self.visible.load(Ordering::Acquire))
    }

    /// Registers a sink; gives the visible tid: everything later is pushed.
    pub(crate) fn subscribe(&self, sink: Arc<dyn FeedSink>) -> Tid {
        let mut sinks = self.sinks.lock();
        sinks.push(sink);
        self.subscribers.store(sinks.len(), Ordering::Release);
        self.visible()
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Acquire)
    }

    /// Pushes a batch to everybody, then makes its tids visible. Only the writer calls this, in order.
    pub(crate) fn publish(&self, last: Tid, timeline: u64, items: impl FnOnce() -> Vec<FeedItem>) {
        let mut sinks = self.sinks.lock();
        if !sinks.is_empty() {
            let batch = Arc::new(FeedBatch::new(items(), timeline));
            sinks.retain(|sink| sink.push(&batch));
            self.subscribers.store(sinks.len(), Ordering::Release);
        }
        self.visible.store(last.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::Oid;

    struct Recorder {
        feed: Arc<Feed>,
        seen: Mutex<Vec<(Tid, Tid)>>,
    }

    impl FeedSink for Recorder {
        fn push(&self, batch: &Arc<FeedBatch>) -> bool {
            self.seen.lock().push((batch.last(), self.feed.visible()));
            batch.last() < Tid(3)
        }
    }

    #[test]
    fn a_batch_is_pushed_before_it_is_visible_and_a_cut_sink_gets_no_more() {
        let feed = Arc::new(Feed::new(Tid(1)));
        let recorder = Arc::new(Recorder { feed: feed.clone(), seen: Mutex::default() });
        assert_eq!(feed.subscribe(recorder.clone()), Tid(1));
        for tid in [2, 3, 4] {
            feed.publish(Tid(tid), 7, || vec![FeedItem { tid: Tid(tid), cells: vec![Cell::object(Oid(1))] }]);
        }
        assert_eq!(*recorder.seen.lock(), [(Tid(2), Tid(1)), (Tid(3), Tid(2))]);
        assert_eq!((feed.visible(), feed.subscribers()), (Tid(4), 0));
    }
}
