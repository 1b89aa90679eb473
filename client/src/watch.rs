//! Owns the watchers: streams of what commits write, straight from the feed.
//!
//! A watcher has a bounded backlog. One that falls behind by more is told so ([`Change::Missed`]) and goes on from what is
//! still there; nobody waits for it. The same is told when the connection was away too long for the feed to be replayed.
//!
//! A session is told only of what it may hold, until somebody watches: then it asks to be told everything, and the watch begins with
//! the answer.
//!
//! ```text
//!   watch() ............ answer(t) ──> everything behind t
//!      └── what is committed here is told in part: instead of it, that something was missed
//! ```
//!
//! So it stays until the session ends. The next one says in its hello whether somebody watches.

use futures_util::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::{Notify, broadcast, watch};
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
    /// With how often something had been missed before.
    Written(Tid, u64, Arc<[Cell]>),
    Missed(Tid),
}

/// Behind which commit everything is told. What comes behind something missed may be of another store, whose tids mean something else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Behind {
    misses: u64,
    tid: Tid,
}

#[derive(Debug)]
pub(crate) struct Watchers {
    told: broadcast::Sender<Notice>,
    /// The newest commit that was told.
    newest: Arc<AtomicU64>,
    /// How often something was missed.
    misses: AtomicU64,
    /// All commits behind this one are told, by this session and those that follow; none: only what is held.
    whole: watch::Sender<Option<Behind>>,
    wanted: Notify,
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
    start: Start,
}

#[derive(Debug)]
enum Start {
    /// It waits for the session to be told everything; where the client was when it was made.
    Waits { whole: WatchStream<Option<Behind>>, at: Behind },
    /// It has begun behind this commit. What it was not told before that it is told first.
    Begun { behind: Behind, missed: bool },
}

impl Watchers {
    pub(crate) fn new(backlog: usize) -> Watchers {
        Watchers {
            told: broadcast::Sender::new(backlog.max(1)),
            newest: Arc::default(),
            misses: AtomicU64::new(0),
            whole: watch::Sender::new(None),
            wanted: Notify::new(),
        }
    }

    pub(crate) fn changed(&self, tid: Tid, cells: Vec<Cell>) {
        self.newest.fetch_max(tid.0, Ordering::AcqRel);
        if self.told.receiver_count() > 0 {
            // A key is a part of the message that it came in: kept as it is, it would keep the whole of that.
            let own = |cell: Cell| Cell { key: bytes::Bytes::copy_from_slice(&cell.key), ..cell };
            let cells: Vec<Cell> = cells.into_iter().map(own).collect();
            // Somebody may just have left: then nobody hears it, which is right.
            let misses = self.misses.load(Ordering::Acquire);
            let _ = self.told.send(Notice::Written(tid, misses, cells.into()));
        }
    }

    /// All up to this one may have been missed; of another store it may be an older one than what was told.
    pub(crate) fn missed(&self, tid: Tid) {
        self.newest.store(tid.0, Ordering::Release);
        self.misses.fetch_add(1, Ordering::AcqRel);
        let _ = self.told.send(Notice::Missed(tid));
    }

    /// A watch of these objects, none: of everything, for a client that is at this tid.
    pub(crate) fn watch(&self, oids: Option<hash::Set<Oid>>, at: Tid) -> Watch {
        let mut told = None;
        // Together with the question whether nobody watches.
        self.whole.send_if_modified(|_| {
            told = Some(self.told.subscribe());
            false
        });
        let told = BroadcastStream::new(told.unwrap_or_else(|| self.told.subscribe()));
        let start = match *self.whole.borrow() {
            Some(_) => Start::Begun { behind: Behind::default(), missed: false },
            None => {
                let at = Behind { misses: self.misses.load(Ordering::Acquire), tid: at };
                Start::Waits { whole: WatchStream::new(self.whole.subscribe()), at }
            }
        };
        self.wanted.notify_one();
        Watch { told, oids, newest: self.newest.clone(), start }
    }

    /// All commits behind this one are told.
    pub(crate) fn whole_behind(&self, tid: Tid) {
        self.whole.send_if_modified(|whole| {
            let is_new = whole.is_none();
            whole.get_or_insert(Behind { misses: self.misses.load(Ordering::Acquire), tid });
            is_new
        });
    }

    /// Whether nobody watches: then a new session need not be told everything.
    pub(crate) fn are_none(&self) -> bool {
        let mut none = false;
        self.whole.send_if_modified(|whole| {
            none = self.told.receiver_count() == 0;
            none && whole.take().is_some()
        });
        none
    }

    /// Comes back while somebody watches and not everything is told.
    pub(crate) async fn are_wanting(&self) {
        while self.whole.borrow().is_some() || self.told.receiver_count() == 0 {
            self.wanted.notified().await;
        }
    }
}

impl Watch {
    /// The next change; none once the `Db` is gone.
    pub async fn next(&mut self) -> Option<Change> {
        StreamExt::next(self).await
    }

    /// Waits until everything that is committed from then on is told; false when the `Db` is gone.
    pub async fn begun(&mut self) -> bool {
        std::future::poll_fn(|cx| self.poll_start(cx)).await
    }

    fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while let Start::Waits { whole, at } = &mut self.start {
            match ready!(whole.poll_next_unpin(cx)) {
                None => return Poll::Ready(false),
                Some(None) => {}
                Some(Some(behind)) => {
                    // Of what the connection has missed meanwhile there is a notice.
                    let missed = behind.misses == at.misses && behind.tid > at.tid;
                    self.start = Start::Begun { behind, missed };
                }
            }
        }
        Poll::Ready(true)
    }

    /// What a notice is for this watcher; none: nothing that it watches.
    fn heard(&self, notice: Result<Notice, BroadcastStreamRecvError>, behind: Behind) -> Option<Change> {
        match notice {
            Ok(Notice::Written(tid, misses, _)) if (Behind { misses, tid }) <= behind => None,
            Ok(Notice::Written(tid, _, cells)) => {
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
        if !ready!(self.poll_start(cx)) {
            return Poll::Ready(None);
        }
        let behind = match &mut self.start {
            Start::Begun { behind, missed: true } => {
                let behind = *behind;
                self.start = Start::Begun { behind, missed: false };
                return Poll::Ready(Some(Change::Missed { tid: behind.tid }));
            }
            Start::Begun { behind, .. } => *behind,
            Start::Waits { at, .. } => *at,
        };
        loop {
            match ready!(self.told.poll_next_unpin(cx)) {
                None => return Poll::Ready(None),
                Some(notice) => {
                    if let Some(change) = self.heard(notice, behind) {
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
        watchers.whole_behind(Tid(3));
        let mut one = watchers.watch(Some([Oid(1)].into_iter().collect()), Tid(4));
        let mut all = watchers.watch(None, Tid(4));
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

    #[tokio::test]
    async fn a_watch_begins_where_everything_is_told() {
        let watchers = Watchers::new(10);
        let cells = |oid| vec![Cell::object(Oid(oid))];
        assert!(watchers.are_none());
        let (mut early, mut late) = (watchers.watch(None, Tid(4)), watchers.watch(None, Tid(6)));
        assert!(!watchers.are_none(), "a new session would be told everything");
        watchers.are_wanting().await;
        watchers.changed(Tid(5), cells(1));
        assert!(futures_util::poll!(std::pin::pin!(early.next())).is_pending(), "5 is told in part");
        watchers.whole_behind(Tid(6));
        watchers.changed(Tid(6), cells(2));
        watchers.changed(Tid(7), cells(3));
        assert!(early.begun().await && late.begun().await);
        assert_eq!(early.next().await, Some(Change::Missed { tid: Tid(6) }));
        assert_eq!(early.next().await, Some(Change::Written { tid: Tid(7), cells: cells(3) }));
        assert_eq!(late.next().await, Some(Change::Written { tid: Tid(7), cells: cells(3) }), "it has missed nothing");
        let mut third = watchers.watch(None, Tid(7));
        watchers.changed(Tid(8), cells(4));
        assert_eq!(third.next().await, Some(Change::Written { tid: Tid(8), cells: cells(4) }), "it begins at once");
        drop((early, late, third));
        assert!(watchers.are_none() && watchers.whole.borrow().is_none(), "the next session is told what it holds");
        // Another store: its tids are smaller.
        let mut moved = watchers.watch(None, Tid(8));
        watchers.changed(Tid(9), cells(1));
        watchers.missed(Tid(2));
        watchers.whole_behind(Tid(2));
        watchers.changed(Tid(3), cells(5));
        assert_eq!(moved.next().await, Some(Change::Missed { tid: Tid(2) }));
        assert_eq!(moved.next().await, Some(Change::Written { tid: Tid(3), cells: cells(5) }));
        drop(moved);
        assert!(watchers.are_none());
        let mut gone = watchers.watch(None, Tid(8));
        drop(watchers);
        assert_eq!((gone.begun().await, gone.next().await), (false, None));
    }
}
