//! Owns the way into the sequencer: bounded queues, live before bulk, first come, first served within each.
//!
//! ```text
//!   control (come back, go on)     first; unbounded in name, bounded by what was admitted before
//!   asked   (finish, abort, list)  in turn with drafts, one and one: they free what drafts wait for, but may as well name nothing
//!   live    ─────────────────────> one after the other
//!   bulk    ──── one when live is empty, or after `live_per_batch` live ones: late, never starved ──>
//! ```
//! Bulk is what has batch priority, and what is large whoever sends it: to put it in order, to write and to publish it takes long, and whatever is
//! sealed behind it waits. So
//! - little of it is on its way at once ([`ON_ITS_WAY_BYTES`], or one draft);
//! - none is let in while live drafts are on their way, which would share its batch, or after [`LIVE_PER_BULK_APART`] more of them;
//! - none while the index is behind by half of what it may be: the other half is for live drafts. Where these alone keep it behind, one bulk
//!   draft comes after [`LIVE_PER_HELD_BULK`] of them.
//!
//! Not done: the second phase of a large prepared draft comes by `asked`, past all of this, since others wait for what it holds; what it writes is on the way like
//! other bulk work and holds up the next.
//!
//! Who brings a draft, or ends one, turns the sequencer himself while its thread sleeps (`turning`).
//!
//! Full means `Busy`, at once: nobody waits in front of the door. A bulk draft delays a live one by at most what is on its way.

use crate::engine::faults::shutting_down;
use crate::engine::pipeline::ask::Ask;
use crate::engine::pipeline::way::{Line, Way};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind};

/// So much of bulk work is on its way to the disk at once, or a single draft of it.
const ON_ITS_WAY_BYTES: usize = 1 << 20;
/// Live drafts that go before a large one for which there is no room in memory.
const LIVE_PER_HELD_BULK: u32 = 4096;
/// Live drafts that go before bulk work while some of them are always on their way.
const LIVE_PER_BULK_APART: u32 = 16;

/// Bounds of the queues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntakeBounds {
    pub(crate) live_max: usize,
    pub(crate) batch_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) live_per_batch: u32,
}

/// The queues between the callers and the sequencer.
pub(crate) struct Intake {
    bounds: IntakeBounds,
    state: Mutex<State>,
    way: Arc<Way>,
    arrived: Condvar,
    /// None: the loops are turned by hand. It has the engine, which has this.
    helper: OnceLock<Weak<dyn Helper>>,
}

/// What takes out what has come, in the thread of who brought it.
pub(crate) trait Helper: Send + Sync {
    /// Calls [`Intake::help_ends`] when it is done.
    fn help(&self);
}

/// Who brings something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bringer {
    /// Holds nothing that what is asked could need: the sequencer may turn in his thread.
    Helps,
    /// Leaves it to the sequencer's thread.
    Leaves,
}

#[derive(Default)]
struct State {
    control: VecDeque<Box<Ask>>,
    asked: VecDeque<Box<Ask>>,
    asked_was_last: bool,
    live: VecDeque<(Box<Ask>, usize)>,
    bulk: VecDeque<(Box<Ask>, usize)>,
    bytes: usize,
    /// The index is too far behind for bulk work.
    no_room: bool,
    live_since_bulk: u32,
    /// Live drafts that went before the bulk work that waits.
    live_before_bulk: u32,
    closed: bool,
    ended: bool,
    sleeping: bool,
    /// There is something for the thread that is in no queue: it does not go to sleep before it has looked.
    nudged: bool,
    /// Somebody turns the sequencer in its thread's place, and looks here again before he goes.
    helped: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.control.is_empty() && self.asked.is_empty() && self.live.is_empty() && self.bulk.is_empty()
    }

    /// Whether the next of the bulk work may come now. `holds`: it waits for the index and for live drafts.
    fn may_bulk(&self, holds: bool, way: &Way) -> bool {
        let Some((_, bytes)) = self.bulk.front() else { return false };
        let on_its_way = way.bulk_bytes();
        let fits = on_its_way == 0 || on_its_way + bytes <= ON_ITS_WAY_BYTES;
        let has_room = !self.no_room || self.live_before_bulk >= LIVE_PER_HELD_BULK;
        let is_apart = way.has_no_live() || self.live_before_bulk >= LIVE_PER_BULK_APART;
        fits && (!holds || self.closed || (has_room && is_apart))
    }

    fn has_live(&self) -> bool {
        !(self.control.is_empty() && self.asked.is_empty() && self.live.is_empty())
    }
}

/// What the sequencer takes out.
pub(crate) enum Taken {
    Ask(Box<Ask>),
    /// Nothing now.
    Empty,
    /// Nothing, and nothing will come any more.
    Closed,
}

/// An ask that found no room, given back with the reason.
pub(crate) struct NotTaken {
    pub(crate) ask: Ask,
    pub(crate) fault: Fault,
}

impl Intake {
    pub(crate) fn new(bounds: IntakeBounds) -> Intake {
        Intake {
            bounds,
            state: Mutex::default(),
            way: Arc::default(),
            arrived: Condvar::new(),
            helper: OnceLock::new(),
        }
    }

    /// From here on who brings something may turn the sequencer.
    pub(crate) fn is_helped_by(&self, helper: Weak<dyn Helper>) {
        drop(self.helper.set(helper));
    }

    /// Whoever has helped is done. `goes_on`: there is something for the thread beside what is in the queues.
    pub(crate) fn help_ends(&self, goes_on: bool) {
        let mut state = self.state.lock();
        state.helped = false;
        state.nudged |= goes_on;
        if goes_on || state.has_live() || state.may_bulk(true, &self.way) {
            self.wake(state);
        }
    }

    /// Queues an ask of `bytes`; gives it back with the fault when there is no room or the door is closed.
    pub(crate) fn push(&self, ask: Ask, (line, bytes): (Line, usize), bringer: Bringer) -> Result<(), Box<NotTaken>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Box::new(NotTaken { ask, fault: shutting_down() }));
        }
        let (waiting, max) = match line {
            Line::Live => (state.live.len(), self.bounds.live_max),
            Line::Bulk => (state.bulk.len(), self.bounds.batch_max),
        };
        // An empty intake takes anything: a single draft is bounded by its own limit.
        if waiting >= max || (state.bytes > 0 && state.bytes + bytes > self.bounds.bytes_max) {
            let message = format!("{waiting} drafts ({} bytes) wait already; come back", state.bytes);
            let fault = Fault::new(FaultKind::Busy, message).after_ms(20);
            return Err(Box::new(NotTaken { ask, fault }));
        }
        state.bytes += bytes;
        match line {
            Line::Live => state.live.push_back((Box::new(ask), bytes)),
            Line::Bulk => state.bulk.push_back((Box::new(ask), bytes)),
        }
        self.brought(state, bringer);
        Ok(())
    }

    /// Queues what concludes or resumes something admitted before: taken first, and given back only when nobody takes
    /// anything any more.
    pub(crate) fn push_control(&self, ask: Ask) -> Result<(), Box<Ask>> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(Box::new(ask));
        }
        state.control.push_back(Box::new(ask));
        self.brought(state, Bringer::Leaves);
        Ok(())
    }

    /// Queues what anybody may ask of prepared drafts, whether there are any. Also when no drafts come any more: it may end one.
    pub(crate) fn push_asked(&self, ask: Ask) -> Result<(), Box<NotTaken>> {
        let mut state = self.state.lock();
        let waiting = state.asked.len();
        if state.ended {
            return Err(Box::new(NotTaken { ask, fault: shutting_down() }));
        }
        if waiting >= self.bounds.live_max {
            let message = format!("{waiting} requests to end prepared drafts wait already; come back");
            let fault = Fault::new(FaultKind::Busy, message).after_ms(20);
            return Err(Box::new(NotTaken { ask, fault }));
        }
        state.asked.push_back(Box::new(ask));
        self.brought(state, Bringer::Helps);
        Ok(())
    }

    /// What was taken out is the next one again.
    pub(crate) fn give_back(&self, ask: Box<Ask>) {
        self.state.lock().control.push_front(ask);
    }

    /// Nobody takes anything any more: gives what is left.
    pub(crate) fn end(&self) -> Vec<Ask> {
        let mut state = self.state.lock();
        (state.closed, state.ended, state.bytes) = (true, true, 0);
        let State { control, asked, live, bulk, .. } = &mut *state;
        let drafts = live.drain(..).chain(bulk.drain(..)).map(|(ask, _)| ask);
        let left = control.drain(..).chain(asked.drain(..)).chain(drafts).map(|ask| *ask).collect();
        self.wake(state);
        left
    }

    /// The sequencer looks at deadlines and refused epochs too: let it turn.
    pub(crate) fn nudge(&self) {
        let mut state = self.state.lock();
        state.nudged = true;
        self.wake(state);
    }

    /// What is sealed is counted there.
    pub(crate) fn way(&self) -> &Arc<Way> {
        &self.way
    }

    /// Something has left the way, or the index has moved: `room`, whether it is near enough for bulk work.
    pub(crate) fn set_room(&self, room: bool) {
        let mut state = self.state.lock();
        state.no_room = !room;
        if state.may_bulk(true, &self.way) {
            self.wake(state);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// No more drafts from now on.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.wake(state);
    }

    /// The next ask by the rule above; `holds`: bulk work waits for the index.
    pub(crate) fn take(&self, holds: bool) -> Taken {
        let mut state = self.state.lock();
        if let Some(ask) = state.control.pop_front() {
            return Taken::Ask(ask);
        }
        let may_bulk = state.may_bulk(holds, &self.way);
        let drafts_wait = !state.live.is_empty() || may_bulk;
        let is_their_turn = !(state.asked_was_last && drafts_wait);
        state.asked_was_last = false;
        if is_their_turn && let Some(ask) = state.asked.pop_front() {
            state.asked_was_last = true;
            return Taken::Ask(ask);
        }
        let bulk_turn = state.live.is_empty() || state.live_since_bulk >= self.bounds.live_per_batch;
        let next = if bulk_turn && may_bulk {
            (state.live_since_bulk, state.live_before_bulk) = (0, 0);
            state.bulk.pop_front()
        } else {
            let live = state.live.pop_front();
            let one = u32::from(live.is_some());
            state.live_since_bulk = state.live_since_bulk.saturating_add(one);
            if !state.bulk.is_empty() {
                state.live_before_bulk = state.live_before_bulk.saturating_add(one);
            }
            live
        };
        match next {
            Some((ask, bytes)) => {
                state.bytes -= bytes;
                Taken::Ask(ask)
            }
            None if state.closed && state.bulk.is_empty() => Taken::Closed,
            None => Taken::Empty,
        }
    }

    /// Sleeps until something arrives, `nudge`, `close`, or at most this long.
    pub(crate) fn wait(&self, at_most: Duration) {
        let state = self.state.lock();
        let is_over = state.closed && state.is_empty();
        if !(state.has_live() || state.may_bulk(true, &self.way) || is_over) {
            self.sleep(state, at_most);
        }
    }

    /// The same when no drafts come any more: until what is out comes back, or at most this long.
    pub(crate) fn wait_for_the_last(&self, at_most: Duration) {
        let state = self.state.lock();
        if state.is_empty() {
            self.sleep(state, at_most);
        }
    }

    fn sleep(&self, mut state: MutexGuard<'_, State>, at_most: Duration) {
        if !std::mem::take(&mut state.nudged) {
            state.sleeping = true;
            self.arrived.wait_for(&mut state, at_most);
            (state.sleeping, state.nudged) = (false, false);
        }
    }

    /// Drafts waiting: live, bulk.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.live.len(), state.bulk.len())
    }

    /// Something has come.
    fn brought(&self, mut state: MutexGuard<'_, State>, bringer: Bringer) {
        if state.helped {
            return;
        }
        let may_help = bringer == Bringer::Helps && state.sleeping && !state.closed;
        match self.helper.get().filter(|_| may_help).and_then(Weak::upgrade) {
            Some(helper) => {
                state.helped = true;
                drop(state);
                helper.help();
            }
            None => self.wake(state),
        }
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let sleeping = state.sleeping;
        drop(state);
        if sleeping {
            self.arrived.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::caller::{Owner, Whose};
    use crate::engine::pipeline::admission::Admitted;
    use crate::engine::pipeline::way::LARGE_BYTES;
    use zeolite_proto::{CommitKey, Draft, Note, Priority, Tid};

    fn abort_of_nothing() -> Ask {
        Ask::Abort { whose: Whose::Of(Owner::anonymous()), prepared: 7, key: None, since: None, done: Box::new(|_| {}) }
    }

    fn draft() -> Draft {
        let key = CommitKey([1; 16]);
        let (read_cells, read_ranges, writes) = (Vec::new(), Vec::new(), Vec::new());
        let (key_since, priority, note) = (Tid::NONE, Priority::Live, Note::default());
        Draft { key, key_since, priority, read_cells, read_ranges, writes, note }
    }

    fn commit() -> Ask {
        Ask::Commit(Admitted::new(draft(), 64))
    }

    fn intake() -> Intake {
        Intake::new(IntakeBounds { live_max: 10_000, batch_max: 100, bytes_max: 1 << 30, live_per_batch: 2 })
    }

    /// Queues a draft of so many bytes, which tells it from others.
    fn push(intake: &Intake, priority: Priority, bytes: usize) {
        let ask = Ask::Commit(Admitted { bytes, ..Admitted::new(draft(), 0) });
        assert!(intake.push(ask, (Line::of(priority, bytes), bytes), Bringer::Leaves).is_ok());
    }

    /// The bytes of what comes next; none: nothing now.
    fn next(intake: &Intake) -> Option<usize> {
        match intake.take(true) {
            Taken::Ask(ask) => match *ask {
                Ask::Commit(admitted) => Some(admitted.bytes),
                _ => panic!("only commits were queued"),
            },
            Taken::Empty | Taken::Closed => None,
        }
    }

    #[test]
    fn what_is_large_lets_live_drafts_go_first_and_is_not_starved_by_them() {
        let intake = intake();
        push(&intake, Priority::Live, LARGE_BYTES);
        (1..=4).for_each(|n| push(&intake, Priority::Live, n));
        let order: Vec<usize> = std::iter::from_fn(|| next(&intake)).collect();
        assert_eq!(order, [1, 2, LARGE_BYTES, 3, 4]);
    }

    #[test]
    fn little_of_bulk_work_is_on_its_way_at_once_and_live_drafts_do_not_wait_for_it() {
        let intake = intake();
        (0..3).for_each(|_| push(&intake, Priority::Batch, ON_ITS_WAY_BYTES / 2));
        push(&intake, Priority::Batch, 8 * ON_ITS_WAY_BYTES);
        let mut on_their_way = Vec::new();
        while let Some(bytes) = next(&intake) {
            on_their_way.push(intake.way().enter(Line::Bulk, bytes));
        }
        assert_eq!(on_their_way.len(), 2);
        push(&intake, Priority::Live, 7);
        assert_eq!(next(&intake), Some(7));
        on_their_way.pop();
        assert_eq!(next(&intake), Some(ON_ITS_WAY_BYTES / 2));
        assert_eq!(next(&intake), None, "the large one waits until nothing else is on its way");
        on_their_way.clear();
        assert_eq!(next(&intake), Some(8 * ON_ITS_WAY_BYTES));
    }

    #[test]
    fn bulk_work_comes_when_no_live_draft_is_on_its_way_or_some_have_gone_before_it() {
        let intake = intake();
        let on_its_way = intake.way().enter(Line::Live, 1);
        push(&intake, Priority::Batch, 7);
        assert_eq!(next(&intake), None);
        drop(on_its_way);
        assert_eq!(next(&intake), Some(7));
        let _on_its_way = intake.way().enter(Line::Live, 1);
        push(&intake, Priority::Batch, 8);
        for _ in 0..LIVE_PER_BULK_APART {
            push(&intake, Priority::Live, 1000);
            assert_eq!(next(&intake), Some(1000));
        }
        assert_eq!(next(&intake), Some(8));
    }

    #[test]
    fn bulk_work_waits_for_the_index_but_not_for_ever() {
        let intake = intake();
        push(&intake, Priority::Batch, 1);
        intake.set_room(false);
        assert_eq!(next(&intake), None);
        assert!(matches!(intake.take(false), Taken::Ask(_)), "loops that are turned by hand do not hold it back");
        push(&intake, Priority::Batch, 2);
        for n in 0..LIVE_PER_HELD_BULK {
            push(&intake, Priority::Live, 1000);
            assert_eq!(next(&intake), Some(1000), "live draft {n}");
        }
        assert_eq!(next(&intake), Some(2), "now it is let in");
        push(&intake, Priority::Batch, 3);
        assert_eq!(next(&intake), None, "and the next one waits again");
        intake.set_room(true);
        assert_eq!(next(&intake), Some(3));
        push(&intake, Priority::Batch, 4);
        intake.set_room(false);
        intake.close();
        assert_eq!(next(&intake), Some(4), "whoever was let in is answered before the end");
    }

    #[test]
    fn a_nudge_before_the_sleep_is_not_lost() {
        let intake = Intake::new(IntakeBounds { live_max: 1, batch_max: 1, bytes_max: 1 << 20, live_per_batch: 4 });
        let long = Duration::from_secs(3600);
        // This would not end otherwise.
        intake.nudge();
        intake.wait(long);
        intake.help_ends(true);
        intake.wait(long);
        intake.nudge();
        intake.wait_for_the_last(long);
    }

    #[test]
    fn requests_to_end_what_is_not_there_are_bounded_and_let_drafts_through() {
        let bounds = IntakeBounds { live_max: 100, batch_max: 1, bytes_max: 1 << 20, live_per_batch: 4 };
        let intake = Intake::new(bounds);
        let taken = (0..200).filter(|_| intake.push_asked(abort_of_nothing()).is_ok()).count();
        assert_eq!(taken, 100);
        let Err(not_taken) = intake.push_asked(abort_of_nothing()) else { panic!("too many") };
        assert!(not_taken.fault.kind == FaultKind::Busy && not_taken.fault.retry_after_ms > 0);
        assert!(intake.push(commit(), (Line::Live, 64), Bringer::Leaves).is_ok());
        let is_commit = || matches!(intake.take(true), Taken::Ask(ask) if matches!(*ask, Ask::Commit(_)));
        assert!(is_commit() || is_commit(), "a draft is the first or the second");
        intake.close();
        let rest = std::iter::from_fn(|| if let Taken::Ask(ask) = intake.take(true) { Some(ask) } else { None });
        assert!((98..=100).contains(&rest.count()));
        assert!(matches!(intake.take(true), Taken::Closed));
        assert!(intake.push_asked(abort_of_nothing()).is_ok(), "it may end what was prepared");
    }
}
