//! Owns the tail: the end of the log in memory, for followers.
//!
//! ```text
//!   log   ... ───────────────────────┤ base     batch │ batch │ batch       newest
//!             read from the disk       kept here: what the writer had, for all streams
//! ```
//! What is not visible yet cannot be read from the log: it is here for certain, since nothing is forgotten before it is visible. What is
//! visible is forgotten, the oldest first, when there is more than `replication.tail_bytes_max`.

use crate::engine::pipeline::ask;
use crate::storage::Txn;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use zeolite_proto::Tid;

/// The newest batches.
pub(crate) struct Tail {
    bytes_max: usize,
    state: Mutex<State>,
}

struct State {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// Everything behind this is here.
    base: Tid,
    newest: Tid,
    /// Transactions in all, in this life of the server.
    written: u64,
}

/// What one sync has covered.
pub(crate) struct Batch {
    pub(crate) txns: Arc<Vec<Txn>>,
    /// Transactions before it.
    before: u64,
    bytes: usize,
}

impl Batch {
    pub(crate) fn last(&self) -> Tid {
        self.txns.last().map_or(Tid::NONE, |txn| txn.tid)
    }

    /// What of it is behind a tid: a follower's own batches end elsewhere, and it may have a part.
    fn behind(self: &Arc<Batch>, tid: Tid) -> Arc<Batch> {
        let had = self.txns.partition_point(|txn| txn.tid <= tid);
        if had == 0 {
            return self.clone();
        }
        let (txns, before) = (Arc::new(self.txns[had..].to_vec()), self.before + had as u64);
        Arc::new(Batch { txns, before, bytes: 0 })
    }
}

/// What there is behind a tid.
pub(crate) enum After {
    /// Nothing.
    Nothing,
    /// The next batches, which are here: as many as a message is to hold, one at least. `more`: there are others.
    Batches { next: Vec<Arc<Batch>>, more: bool },
    /// It is to be read from the log, up to this tid.
    OnDisk(Tid),
}

impl Tail {
    pub(crate) fn new(bytes_max: usize, last: Tid) -> Tail {
        let state = State { batches: VecDeque::new(), bytes: 0, base: last, newest: last, written: 0 };
        Tail { bytes_max, state: Mutex::new(state) }
    }

    /// A batch is on the disk. `wanted`: somebody follows, or is waited for.
    pub(crate) fn push(&self, txns: &Arc<Vec<Txn>>, wanted: bool, visible: Tid) {
        let Some(last) = txns.last().map(|txn| txn.tid) else { return };
        let mut state = self.state.lock();
        let (before, count) = (state.written, txns.len() as u64);
        (state.newest, state.written) = (last, before + count);
        if !wanted {
            state.batches.clear();
            (state.bytes, state.base) = (0, last);
            return;
        }
        let bytes = txns.iter().map(ask::size).sum();
        state.batches.push_back(Arc::new(Batch { txns: txns.clone(), before, bytes }));
        state.bytes += bytes;
        while state.bytes > self.bytes_max
            && let Some(oldest) = state.batches.front().filter(|oldest| oldest.last() <= visible).cloned()
        {
            state.batches.pop_front();
            state.bytes -= oldest.bytes;
            state.base = oldest.last();
        }
    }

    /// The newest transaction on the disk.
    pub(crate) fn newest(&self) -> Tid {
        self.state.lock().newest
    }

    /// What comes behind a tid, until that is as much as a message is to hold.
    pub(crate) fn after(&self, tid: Tid, message_bytes: usize) -> After {
        let state = self.state.lock();
        if tid >= state.newest {
            return After::Nothing;
        }
        if tid < state.base {
            return After::OnDisk(state.base);
        }
        let at = state.batches.partition_point(|batch| batch.last() <= tid);
        let mut left = Some(message_bytes);
        let fits = |batch: &&Arc<Batch>| {
            let fits = left.is_some();
            left = left.and_then(|left| left.checked_sub(batch.bytes));
            fits
        };
        let next: Vec<_> = state.batches.range(at..).take_while(fits).map(|batch| batch.behind(tid)).collect();
        let more = at + next.len() < state.batches.len();
        if next.is_empty() { After::Nothing } else { After::Batches { next, more } }
    }

    /// How many transactions there are behind a tid, and whether there are more than could be counted.
    pub(crate) fn count_after(&self, tid: Tid) -> (u64, bool) {
        let state = self.state.lock();
        if tid >= state.newest {
            return (0, false);
        }
        let at = state.batches.partition_point(|batch| batch.last() <= tid);
        let Some(batch) = state.batches.get(at) else { return (1, true) };
        let had = batch.txns.partition_point(|txn| txn.tid <= tid) as u64;
        (state.written - batch.before - had, tid < state.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use zeolite_proto::CommitKey;

    fn txn(tid: u64) -> Txn {
        let note = Bytes::from(vec![0; 60]);
        Txn { tid: Tid(tid), key: CommitKey([0; 16]), digest: 0, own: false, note, writes: Vec::new().into() }
    }

    /// Of the next batch only.
    fn after(tail: &Tail, tid: u64) -> Result<Option<Tid>, Tid> {
        match tail.after(Tid(tid), 0) {
            After::Nothing => Ok(None),
            After::Batches { next, .. } => Ok(next.first().map(|batch| batch.last())),
            After::OnDisk(to) => Err(to),
        }
    }

    #[test]
    fn what_is_not_visible_stays_and_what_is_goes_when_there_is_too_much() {
        let tail = Tail::new(250, Tid(5));
        assert_eq!((after(&tail, 5), after(&tail, 4)), (Ok(None), Err(Tid(5))));
        tail.push(&Arc::new(vec![txn(6)]), false, Tid(6));
        assert_eq!((after(&tail, 5), after(&tail, 6)), (Err(Tid(6)), Ok(None)), "nobody wanted it");
        for tid in [7, 8, 9] {
            tail.push(&Arc::new(vec![txn(tid), txn(tid * 10)]), true, Tid(6));
        }
        assert_eq!(
            (after(&tail, 6), after(&tail, 7), after(&tail, 70)),
            (Ok(Some(Tid(70))), Ok(Some(Tid(70))), Ok(Some(Tid(80))))
        );
        assert_eq!(
            (tail.count_after(Tid(7)), tail.count_after(Tid(5)), tail.count_after(Tid(90))),
            ((5, false), (6, true), (0, false))
        );
        tail.push(&Arc::new(vec![txn(100)]), true, Tid(80));
        assert_eq!(
            (after(&tail, 70), after(&tail, 80)),
            (Err(Tid(80)), Ok(Some(Tid(90)))),
            "no more than is visible goes"
        );
        assert_eq!(tail.newest(), Tid(100));
        let tail = Tail::new(1000, Tid(5));
        tail.push(&Arc::new(vec![txn(6), txn(7), txn(8)]), true, Tid(5));
        let After::Batches { next, .. } = tail.after(Tid(6), 0) else { panic!("it is here") };
        assert_eq!(next[0].txns.iter().map(|txn| txn.tid.0).collect::<Vec<_>>(), [7, 8], "nothing comes twice");
    }

    #[test]
    fn what_goes_together_is_in_order_whole_and_bounded_in_bytes() {
        let tail = Tail::new(1 << 20, Tid(5));
        (6..=15).for_each(|tid| tail.push(&Arc::new(vec![txn(10 * tid), txn(10 * tid + 1)]), true, Tid(5)));
        // Each batch has 200 bytes.
        let together = |tid, bytes| match tail.after(Tid(tid), bytes) {
            After::Batches { next, more } => {
                (next.iter().flat_map(|batch| batch.txns.iter().map(|txn| txn.tid.0)).collect::<Vec<_>>(), more)
            }
            After::Nothing | After::OnDisk(_) => panic!("it is here"),
        };
        assert_eq!(together(5, 0), (vec![60, 61], true), "one at least");
        assert_eq!(together(5, 500), (vec![60, 61, 70, 71, 80, 81], true), "until it is full");
        assert_eq!(together(60, 500).0, [61, 70, 71, 80, 81], "the first may have come in part");
        assert_eq!(together(131, 1 << 20), (vec![140, 141, 150, 151], false));
    }
}
