//! Owns the feed of one database on its way to its sessions: kept once for all of them, sent in as few frames as can be.
//!
//! Every commit is told to every session: its cells, or that the order has come so far (`batch`). A queue for each would cost the thread that everybody waits for one push a commit and
//! session, and each session one frame, one wake and one write a commit; with some hundred processes that mostly listen nothing
//! else would be done. So what is told stands here once, and a session only knows how far it has come:
//!
//! ```text
//!   writer ── push ──> [ 71 | 72 | 73 | 74 | 75 ]        before 75 becomes visible
//!                         ^              ^     ^
//!                         slow           A     B, C      a cursor for each session, in its outbox
//! ```
//!
//! A session that has something to send anyway takes what it has not sent yet with it, as one frame or in the answer itself. Who is idle is woken
//! a little later together with all others (`sessions.feed_delay_ms`), and the later the more had to be woken the last time: so
//! waking takes about a tenth of a processor at most ([`WAKE_APART`]), unless the setting is 0.
//!
//! What all have taken goes. Beyond the limits the oldest goes whether it was taken or not, the largest batch aside: nobody
//! is too slow for what has just been made, however much it is. Whose cursor stands before the oldest is cut.

mod batch;
mod frame;

use super::interest::{Concern, Interest, Interests, Place};
use crate::engine::FeedBatch;
use crate::engine::feed::{Feed, FeedSink};
use crate::settings::SessionSettings;
use batch::{Batch, Share};
use frame::Taken;
pub(super) use frame::Taking;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use zeolite_proto::Tid;

/// A wake costs about 10 µs: the session's task, a frame, a write. This is how much time each has at least.
const WAKE_APART: Duration = Duration::from_micros(100);

/// However many listeners there are, none is told later for that.
const DELAY_MAX: Duration = Duration::from_millis(20);

/// So many turns, of [`DELAY_MAX`] each unless the setting is longer, how far the order has come waits at most for an answer.
pub(super) const PUT_OFF_MAX: u8 = 5;

/// Sessions woken before others get a turn of the thread.
const WAKES_PER_TURN: usize = 32;

/// A frame is ended behind the piece that reaches this.
const FRAME_BYTES: usize = 64 << 10;

/// The feed of one database.
pub(super) struct Fan {
    state: Mutex<State>,
    interests: Interests,
    told: AtomicU64,
    left_out: AtomicU64,
    bell: Notify,
    bytes_max: usize,
    batches_max: usize,
    put_off_max: u8,
}

struct State {
    batches: VecDeque<Batch>,
    /// The number of the first of them.
    first: u64,
    /// Of each size that is larger than all behind it, the number of the batch: the front is the largest of all.
    peaks: VecDeque<(u64, usize)>,
    bytes: usize,
    /// Bytes that were ever pushed.
    pushed: u64,
    members: Vec<Member>,
    /// The engine pushes here; it does not while nobody listens.
    pushed_to: bool,
    /// What went last although somebody had not taken it, went for this.
    over: &'static str,
}

struct Member {
    listener: Arc<dyn Listener>,
    /// None: it is told everything.
    interest: Option<Arc<Interest>>,
}

/// What the feed has cost: a cell counts once for each session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cost {
    pub(super) cells_told: u64,
    pub(super) cells_left_out: u64,
    /// Sessions that are told everything now.
    pub(super) told_everything: u64,
}

/// How far a session has come: the next piece that it takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Cursor {
    batch: u64,
    piece: usize,
}

/// A session, as its feed sees it.
pub(super) trait Listener: Send + Sync {
    /// From here on it gets the feed: what the fan has for its column from this place on, which is what comes after this tid.
    fn feed_begins(&self, fan: Arc<Fan>, at: Cursor, place: Option<Place>, after: Tid);

    /// The feed has waited long enough for an answer to go with it.
    fn feed_is_due(self: Arc<Self>) -> Due;
}

/// What became of that.
pub(super) struct Due {
    /// Up to where it has taken the feed; none: it gets none, or no more.
    pub(super) at: Option<Cursor>,
    /// It is woken, or waits for an answer that takes along how far the order has come: it is to be asked again.
    pub(super) again: bool,
}

/// Whether there is something that a session has not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Has {
    Nothing,
    More,
    /// Not any more, because of this limit.
    Gone(&'static str),
}

/// How much a session has not taken.
#[derive(Clone, Copy, Default)]
pub(super) struct Untaken {
    pub(super) bytes: usize,
    pub(super) batches: usize,
}

/// The task that wakes the sessions; it ends with this.
pub(super) struct Waking(JoinHandle<()>);

impl Drop for Waking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Fan {
    /// The feed of a database nobody listens to yet, and the task that will wake its sessions.
    pub(super) fn start(settings: &SessionSettings) -> (Arc<Fan>, Waking) {
        let fan = Arc::new(Fan {
            state: Mutex::new(State {
                batches: VecDeque::new(),
                first: 0,
                peaks: VecDeque::new(),
                bytes: 0,
                pushed: 0,
                members: Vec::new(),
                pushed_to: false,
                over: "",
            }),
            interests: Interests::default(),
            told: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            bell: Notify::new(),
            bytes_max: settings.feed_queue_bytes_max,
            batches_max: settings.feed_queue_batches_max,
            put_off_max: if settings.feed_delay_ms == 0 { 0 } else { PUT_OFF_MAX },
        });
        let (task, least) = (fan.clone(), Duration::from_millis(settings.feed_delay_ms));
        let task = tokio::spawn(async move {
            let mut again = 0;
            loop {
                // Who was woken takes what there is after that: so it is looked once more, and what all have goes.
                if again == 0 {
                    task.bell.notified().await;
                }
                if !least.is_zero() {
                    tokio::time::sleep((WAKE_APART * again).min(DELAY_MAX).max(least)).await;
                }
                again = task.wake().await;
            }
        });
        (fan, Waking(task))
    }

    /// So often how far the order has come may be put off; never where nothing is to wait.
    pub(super) fn put_off_max(&self) -> u8 {
        self.put_off_max
    }

    /// The columns of its sessions.
    pub(super) fn interests(&self) -> &Interests {
        &self.interests
    }

    /// From here on a session is told, of what its interest holds or everything. Gives the visible tid: everything later is.
    pub(super) fn join(
        self: &Arc<Fan>,
        feed: &Feed,
        listener: Arc<dyn Listener>,
        interest: Option<Arc<Interest>>,
    ) -> Tid {
        feed.join(|visible| {
            let place = interest.as_ref().map(|interest| interest.listens());
            let (cursor, pushed_to) = {
                let mut state = self.state.lock();
                state.members.push(Member { listener: listener.clone(), interest });
                (state.end(), std::mem::replace(&mut state.pushed_to, true))
            };
            listener.feed_begins(self.clone(), cursor, place, visible);
            (!pushed_to).then(|| self.clone() as Arc<dyn FeedSink>)
        })
    }

    /// A session is over.
    pub(super) fn leave(&self, listener: &dyn Listener) {
        let mut state = self.state.lock();
        let is_it = |member: &mut Member| std::ptr::addr_eq(Arc::as_ptr(&member.listener), listener);
        // They go when the lock is free again.
        let gone: Vec<Member> = state.members.extract_if(.., is_it).collect();
        gone.iter().filter_map(|member| member.interest.as_ref()).for_each(|interest| interest.leaves());
        if state.members.is_empty() {
            let end = state.end();
            state.let_go(end);
        }
        drop(state);
    }

    /// Whether there is something for a session.
    pub(super) fn has(&self, from: Cursor) -> Has {
        self.state.lock().has(from)
    }

    /// Whether all that there is for a session is how far the order has come.
    pub(super) fn is_place_alone(&self, from: Cursor, place: Option<Place>) -> bool {
        let state = self.state.lock();
        let Some(at) = from.batch.checked_sub(state.first) else { return false };
        state.batches.iter().skip(at as usize).all(|batch| batch.is_nothing_for(place))
    }

    /// What comes next for a session, if it [has](Self::has) more.
    pub(super) fn take(&self, from: Cursor, place: Option<Place>) -> Result<Taking, Has> {
        let state = self.state.lock();
        match state.has(from) {
            Has::More => Ok(state.taking(from, place)),
            other => Err(other),
        }
    }

    /// How much is here that a session has not taken.
    pub(super) fn untaken(&self, from: Cursor, place: Option<Place>) -> Untaken {
        let state = self.state.lock();
        let before = match from.batch.checked_sub(state.first).map(|at| state.batches.get(at as usize)) {
            Some(None) => state.pushed,
            Some(Some(batch)) => batch.pushed_before + batch.bytes_before(place, from.piece) as u64,
            None => state.pushed - state.bytes as u64,
        };
        Untaken {
            bytes: (state.pushed - before) as usize,
            batches: (state.end().batch - from.batch.max(state.first)) as usize,
        }
    }

    /// What telling has cost so far.
    pub(super) fn cost(&self) -> Cost {
        let everything = |member: &&Member| member.interest.as_ref().is_none_or(|own| own.is_everything());
        Cost {
            cells_told: self.told.load(Ordering::Relaxed),
            cells_left_out: self.left_out.load(Ordering::Relaxed),
            told_everything: self.state.lock().members.iter().filter(everything).count() as u64,
        }
    }

    /// Counts what a batch costs with so many members, some of which are told everything and have no column.
    fn count(&self, batch: &FeedBatch, concern: &Concern, members: usize, plain: usize) {
        let cells = batch.items.iter().map(|item| item.cells.len() as u64).sum::<u64>();
        let sum = |masks: &[u64]| masks.iter().map(|mask| u64::from(mask.count_ones())).sum::<u64>();
        let told = cells * plain as u64
            + match &concern.held {
                None => cells * sum(&concern.who),
                Some(held) => cells * sum(&concern.everything) + held.iter().map(|held| sum(&held.who)).sum::<u64>(),
            };
        self.told.fetch_add(told, Ordering::Relaxed);
        self.left_out.fetch_add((cells * members as u64).saturating_sub(told), Ordering::Relaxed);
    }

    /// Wakes who is idle and has not taken everything, cuts who is behind, and lets go what all have taken. How many are to be asked again.
    async fn wake(&self) -> u32 {
        let (members, end) = {
            let state = self.state.lock();
            (state.members.iter().map(|member| member.listener.clone()).collect::<Vec<_>>(), state.end())
        };
        let (mut again, mut all_have) = (0, end);
        for (at, member) in members.into_iter().enumerate() {
            let due = member.feed_is_due();
            again += u32::from(due.again);
            all_have = due.at.map_or(all_have, |cursor| all_have.min(cursor));
            if at % WAKES_PER_TURN == WAKES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        self.state.lock().let_go(all_have);
        again
    }
}

impl FeedSink for Fan {
    fn push(&self, batch: &FeedBatch) -> bool {
        let (members, plain) = {
            let mut state = self.state.lock();
            if state.members.is_empty() {
                // Whoever joins next brings this back.
                state.pushed_to = false;
                return false;
            }
            (state.members.len(), state.members.iter().filter(|member| member.interest.is_none()).count())
        };
        // It may be a million cells, and whoever sends an answer looks here.
        let concern = self.interests.of(&batch.items);
        self.count(batch, &concern, members, plain);
        let batch = Batch::of(batch, concern, plain > 0);
        let mut state = self.state.lock();
        state.push(batch);
        while let Some(limit) = state.is_over(self.bytes_max, self.batches_max) {
            state.over = limit;
            state.pop();
        }
        drop(state);
        self.bell.notify_one();
        true
    }

    fn listeners(&self) -> usize {
        self.state.lock().members.len()
    }
}

impl State {
    fn end(&self) -> Cursor {
        Cursor { batch: self.first + self.batches.len() as u64, piece: 0 }
    }

    fn has(&self, from: Cursor) -> Has {
        if from == self.end() {
            Has::Nothing
        } else if from.batch < self.first {
            Has::Gone(self.over)
        } else {
            Has::More
        }
    }

    fn push(&mut self, mut batch: Batch) {
        let bytes = batch.bytes;
        while self.peaks.pop_back_if(|(_, smaller)| *smaller <= bytes).is_some() {}
        self.peaks.push_back((self.end().batch, bytes));
        batch.pushed_before = self.pushed;
        self.batches.push_back(batch);
        self.bytes += bytes;
        self.pushed += bytes as u64;
    }

    /// All have come so far.
    fn let_go(&mut self, all_have: Cursor) {
        while self.first < all_have.batch {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some(batch) = self.batches.pop_front() else { return };
        self.peaks.pop_front_if(|(number, _)| *number == self.first);
        self.bytes -= batch.bytes;
        self.first += 1;
    }

    /// The limit that it is over.
    fn is_over(&self, bytes_max: usize, batches_max: usize) -> Option<&'static str> {
        let largest = self.peaks.front().map_or(0, |(_, bytes)| *bytes);
        if self.bytes - largest > bytes_max {
            Some("feed_queue_bytes_max")
        } else if self.batches.len() > batches_max {
            Some("feed_queue_batches_max")
        } else {
            None
        }
    }

    /// What one frame has. A piece that says `more` ends a frame: it says so of the frame's last commit. So does another life of the
    /// store: a frame has one.
    fn taking(&self, from: Cursor, place: Option<Place>) -> Taking {
        let (mut taken, mut bytes, mut next) = (Vec::new(), 0, from);
        let (mut timeline, mut passed) = (None, None);
        while let Some(batch) = self.batches.get((next.batch - self.first) as usize) {
            if *timeline.get_or_insert(batch.timeline) != batch.timeline {
                break;
            }
            let (one, pieces) = match (batch.share(place), place) {
                (Share::Pieces(pieces), _) => (pieces.get(next.piece).cloned().map(Taken::Piece), pieces.len()),
                (Share::Parts(parts), Some(place)) => {
                    (parts.get(next.piece).map(|part| Taken::Part(part.clone(), place)), parts.len())
                }
                _ => (None, 0),
            };
            next.piece += 1;
            if next.piece >= pieces {
                next = Cursor { batch: next.batch + 1, piece: 0 };
            }
            passed = one.is_none().then_some((batch.last, batch.timeline));
            let Some(one) = one else { continue };
            let (more, size) = one.more_and_bytes();
            bytes += size;
            taken.push(one);
            if more || bytes >= FRAME_BYTES {
                break;
            }
        }
        taken.extend(passed.map(|(last, timeline)| Taken::UpTo(last, timeline)));
        Taking { taken, next, all: next == self.end() }
    }
}

#[cfg(test)]
mod tests;
