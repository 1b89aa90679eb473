//! Owns the watchers: streams of what commits write, straight from the feed.
//!
//! A watcher has a bounded backlog. One that falls behind by more is told so ([`Change::Missed`]) and goes on from what is
//! still there; nobody waits for it. The same is told when the connection was away too long for the feed to be replayed.

use futures_util::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, WatchStream};
use zeolite_proto::{Cell, Mode, Oid, Tid, hash};

/// What a watcher is told.
///
/// ```
/// use zeolite_client::{Cell, Change, Record};
///
/// # zeolite_testing::with_db(async |db| {
/// let cell = Cell::object(db.new_oid().await?);
/// let mut watch = db.watch([cell.oid]);
/// db.run(async |tx| tx.put(cell.clone(), &Record::new("Text", 1, "hello"))).await?;
/// match watch.next().await {
///     Some(Change::Written { cells, .. }) => assert_eq!(cells, [cell]),
///     missed => println!("read again: {missed:?}"),
/// }
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A commit wrote these cells.
    Written {
        /// The commit.
        tid: Tid,
        /// The cells, only the watched ones.
        cells: Vec<Cell>,
    },
    /// Changes were missed: read again what matters, at this tid or a newer one.
    Missed {
        /// All of the missed commits are up to this one.
        tid: Tid,
    },
}

/// Changes of the server's mode; see [`crate::Db::on_mode_change`]. It is a [`Stream`] too.
///
/// ```
/// use zeolite_client::{ModeEnd, ModeKind};
///
/// # zeolite_testing::with_db(async |db| {
/// let mut modes = db.on_mode_change();
/// db.admin().set_mode(ModeKind::ReadOnly, "back at five", ModeEnd::Never).await?;
/// assert_eq!(modes.next().await.expect("is told").banner, "back at five");
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct ModeWatch {
    told: WatchStream<Mode>,
}

impl ModeWatch {
    pub(crate) fn new(told: watch::Receiver<Mode>) -> ModeWatch {
        ModeWatch { told: WatchStream::from_changes(told) }
    }

    /// Waits for the next change; only the newest is told when several came meanwhile. `None`: the `Db` is gone.
    pub async fn next(&mut self) -> Option<Mode> {
        self.told.next().await
    }
}

impl Stream for ModeWatch {
    type Item = Mode;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Mode>> {
        self.told.poll_next_unpin(cx)
    }
}

#[derive(Clone, Debug)]
enum Notice {
    Written(Tid, Arc<[Cell]>),
    Missed(Tid),
}

#[derive(Debug)]
pub(crate) struct Watchers {
    told: broadcast::Sender<Notice>,
    /// The newest commit that was told.
    newest: Arc<AtomicU64>,
}

/// A stream of changes; see [`crate::Db::watch`]. It is a [`Stream`] too.
///
/// ```
/// use zeolite_client::{Cell, Change, Record};
///
/// # zeolite_testing::with_db(async |db| {
/// let cell = Cell::object(db.new_oid().await?);
/// let mut watch = db.watch([cell.oid]);
/// db.run(async |tx| tx.put(cell.clone(), &Record::new("Text", 1, "hello"))).await?;
/// match watch.next().await {
///     Some(Change::Written { cells, .. }) => assert_eq!(cells, [cell]),
///     missed => println!("read again: {missed:?}"),
/// }
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct Watch {
    told: BroadcastStream<Notice>,
    /// None: everything.
    oids: Option<hash::Set<Oid>>,
    newest: Arc<AtomicU64>,
}

impl Watchers {
    pub(crate) fn new(backlog: usize) -> Watchers {
        Watchers { told: broadcast::Sender::new(backlog.max(1)), newest: Arc::default() }
    }

    pub(crate) fn changed(&self, tid: Tid, cells: Vec<Cell>) {
        self.newest.fetch_max(tid.0, Ordering::AcqRel);
        if self.told.receiver_count() > 0 {
            // A key is a part of the message that it came in: kept as it is, it would keep the whole of that.
            let own = |cell: Cell| Cell { key: bytes::Bytes::copy_from_slice(&cell.key), ..cell };
            let cells: Vec<Cell> = cells.into_iter().map(own).collect();
            // Somebody may just have left: then nobody hears it, which is right.
            let _ = self.told.send(Notice::Written(tid, cells.into()));
        }
    }

    /// All up to this one may have been missed; of another store it may be an older one than what was told.
    pub(crate) fn missed(&self, tid: Tid) {
        self.newest.store(tid.0, Ordering::Release);
        let _ = self.told.send(Notice::Missed(tid));
    }

    pub(crate) fn watch(&self, oids: Option<hash::Set<Oid>>) -> Watch {
        Watch { told: BroadcastStream::new(self.told.subscribe()), oids, newest: self.newest.clone() }
    }
}

impl Watch {
    /// The next change; none once the `Db` is gone.
    pub async fn next(&mut self) -> Option<Change> {
        StreamExt::next(self).await
    }

    /// What a notice is for this watcher; none: nothing that it watches.
    fn heard(&self, notice: Result<Notice, BroadcastStreamRecvError>) -> Option<Change> {
        match notice {
            Ok(Notice::Written(tid, cells)) => {
                let watched = |cell: &&Cell| self.oids.as_ref().is_none_or(|oids| oids.contains(&cell.oid));
                let cells: Vec<Cell> = cells.iter().filter(watched).cloned().collect();
                (!cells.is_empty()).then_some(Change::Written { tid, cells })
            }
            Ok(Notice::Missed(tid)) => Some(Change::Missed { tid }),
            // What pushed them out may be told already: that is not before any of them.
            Err(BroadcastStreamRecvError::Lagged(_)) => {
                Some(Change::Missed { tid: Tid(self.newest.load(Ordering::Acquire)) })
            }
        }
    }
}

impl Stream for Watch {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        loop {
            match ready!(self.told.poll_next_unpin(cx)) {
                None => return Poll::Ready(None),
                Some(notice) => {
                    if let Some(change) = self.heard(notice) {
                        return Poll::Ready(Some(change));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_hears_its_oids_and_is_told_what_it_missed() {
        let watchers = Watchers::new(2);
        let mut one = watchers.watch(Some([Oid(1)].into_iter().collect()));
        let mut all = watchers.watch(None);
        let cells = |oid| vec![Cell::object(Oid(oid))];
        watchers.changed(Tid(5), cells(2));
        watchers.changed(Tid(6), cells(1));
        assert_eq!(one.next().await, Some(Change::Written { tid: Tid(6), cells: cells(1) }));
        assert_eq!(all.next().await, Some(Change::Written { tid: Tid(5), cells: cells(2) }));
        (7..12).for_each(|tid| watchers.changed(Tid(tid), cells(1)));
        // The commits 6 to 9 are gone: whoever reads again as of this one has all that they wrote.
        assert_eq!(all.next().await, Some(Change::Missed { tid: Tid(11) }));
        assert_eq!(all.next().await, Some(Change::Written { tid: Tid(10), cells: cells(1) }));
        watchers.missed(Tid(20));
        drop(watchers);
        assert_eq!(all.next().await, Some(Change::Written { tid: Tid(11), cells: cells(1) }));
        assert_eq!(all.next().await, Some(Change::Missed { tid: Tid(20) }));
        assert_eq!(all.next().await, None);
    }
}
