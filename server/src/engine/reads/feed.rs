//! Owns what is visible, and the feed that tells it: one ordered stream of (tid, cells) to every subscriber.
//!
//! Three orders make stale reads impossible (the family's worst bugs were loads overtaken by invalidations):
//! - a batch is pushed to every subscriber *before* its tids become visible, so no answer can show a tid whose
//!   invalidations are not already where a session takes them before it sends an answer (`rpc::fan`);
//! - a subscriber registers under the same lock, so it gets every batch after the visible tid that it is told;
//! - whoever notes that a session may hold a cell (`rpc::interest`) does so *between* two batches, before what is visible is looked at.
//!   So a commit was visible when the cell was noted, and the read sees it, or it is pushed later and finds the note. There is no third
//!   case: nothing is noted from when a batch is looked at until it is visible.

use crate::engine::keep::system::SYSTEM_OID;
use crate::storage::{Txn, Writes};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_proto::{Cell, Tid};

/// What one commit wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedItem {
    /// The commit.
    pub tid: Tid,
    /// The cells.
    pub cells: Cells,
}

/// Cells that were written. A large transaction's are not copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cells {
    list: Vec<Cell>,
    large: Option<Writes>,
}

impl Cells {
    /// How many.
    pub fn len(&self) -> usize {
        self.list.len() + self.large.as_ref().map_or(0, |writes| writes.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = &Cell> {
        self.list.iter().chain(self.large.iter().flat_map(|writes| writes.iter().map(|write| &write.cell)))
    }
}

impl From<Vec<Cell>> for Cells {
    fn from(list: Vec<Cell>) -> Cells {
        Cells { list, large: None }
    }
}

impl FromIterator<Cell> for Cells {
    fn from_iter<I: IntoIterator<Item = Cell>>(cells: I) -> Cells {
        Vec::from_iter(cells).into()
    }
}

impl FeedItem {
    /// What a transaction says in a feed. The server's own cells are in nobody's cache, and not everybody may know of them.
    pub fn of(txn: &Txn) -> FeedItem {
        if txn.writes.run().is_some() {
            // None of the server's own is made ready so.
            let large = Some(txn.writes.clone());
            return FeedItem { tid: txn.tid, cells: Cells { list: Vec::new(), large } };
        }
        let others = txn.writes.iter().map(|write| &write.cell).filter(|cell| cell.oid != SYSTEM_OID);
        FeedItem { tid: txn.tid, cells: others.cloned().collect() }
    }
}

/// The commits of one batch, in order.
#[derive(Clone, Debug)]
pub struct FeedBatch {
    /// In tid order, never empty.
    pub items: Vec<FeedItem>,
    /// The life of the store that they are of.
    pub timeline: u64,
}

/// Takes the feed. Called by the writer's thread: it must not block.
pub trait FeedSink: Send + Sync + 'static {
    /// Takes a batch; false: never again.
    fn push(&self, batch: &FeedBatch) -> bool;

    /// How many listen by it.
    fn listeners(&self) -> usize {
        1
    }
}

/// The visible tid and the subscribers.
pub(crate) struct Feed {
    visible: AtomicU64,
    /// Shared by those who note, alone by who pushes or joins.
    sinks: RwLock<Vec<Arc<dyn FeedSink>>>,
}

impl Feed {
    pub(crate) fn new(visible: Tid) -> Feed {
        Feed { visible: AtomicU64::new(visible.0), sinks: RwLock::default() }
    }

    /// The newest tid that may be read.
    pub(crate) fn visible(&self) -> Tid {
        Tid(self.visible.load(Ordering::Acquire))
    }

    /// Registers the sink that `join` gives, if it gives one, and gives the visible tid: everything later is pushed. Nothing is
    /// published meanwhile.
    pub(crate) fn join(&self, join: impl FnOnce(Tid) -> Option<Arc<dyn FeedSink>>) -> Tid {
        let mut sinks = self.sinks.write();
        let visible = self.visible();
        sinks.extend(join(visible));
        visible
    }

    /// Notes what the next batch must find: no batch is between being looked at and being visible meanwhile. It is short.
    pub(crate) fn between(&self, note: impl FnOnce()) {
        let _between = self.sinks.read();
        note();
    }

    pub(crate) fn listeners(&self) -> usize {
        self.sinks.read().iter().map(|sink| sink.listeners()).sum()
    }

    /// Pushes a batch to everybody, then makes its tids visible. Only the writer calls this, in order.
    pub(crate) fn publish(&self, last: Tid, timeline: u64, items: impl FnOnce() -> Vec<FeedItem>) {
        // Only who joins meanwhile makes others wait until it is made.
        let items = if self.sinks.read().is_empty() { Err(items) } else { Ok(items()) };
        let mut sinks = self.sinks.write();
        if !sinks.is_empty() {
            let batch = FeedBatch { items: items.unwrap_or_else(|make| make()), timeline };
            sinks.retain(|sink| sink.push(&batch));
        }
        self.visible.store(last.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use zeolite_proto::Oid;

    struct Recorder {
        feed: Arc<Feed>,
        seen: Mutex<Vec<(Tid, Tid)>>,
    }

    impl FeedSink for Recorder {
        fn push(&self, batch: &FeedBatch) -> bool {
            let last = batch.items.last().expect("a batch is never empty").tid;
            self.seen.lock().push((last, self.feed.visible()));
            last < Tid(3)
        }
    }

    #[test]
    fn a_batch_is_pushed_before_it_is_visible_and_a_cut_sink_gets_no_more() {
        let feed = Arc::new(Feed::new(Tid(1)));
        let recorder = Arc::new(Recorder { feed: feed.clone(), seen: Mutex::default() });
        assert_eq!(feed.join(|_| Some(recorder.clone())), Tid(1));
        for tid in [2, 3, 4] {
            feed.publish(Tid(tid), 7, || vec![FeedItem { tid: Tid(tid), cells: vec![Cell::object(Oid(1))].into() }]);
        }
        assert_eq!(*recorder.seen.lock(), [(Tid(2), Tid(1)), (Tid(3), Tid(2))]);
        assert_eq!((feed.visible(), feed.listeners()), (Tid(4), 0));
    }
}
