//! Owns the way into the sequencer: bounded queues, live before batch, first come, first served within each.
//!
//! ```text
//!   control (come back, go on)     first; unbounded in name, bounded by what was admitted before
//!   asked   (finish, abort, list)  in turn with drafts, one and one: they free what drafts wait for, but may as well name nothing
//!   live    ─────────────────────> one after the other
//!   batch   ──── one when live is empty, or after `live_per_batch` live ones: late, never starved ──>
//! ```
//! Full means `Busy`, at once: nobody waits in front of the door. A batch draft delays a live one by at most itself.

use crate::engine::faults::shutting_down;
use crate::engine::pipeline::ask::Ask;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Priority};

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
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    control: VecDeque<Box<Ask>>,
    asked: VecDeque<Box<Ask>>,
    asked_was_last: bool,
    live: VecDeque<(Box<Ask>, usize)>,
    batch: VecDeque<(Box<Ask>, usize)>,
    bytes: usize,
    live_since_batch: u32,
    closed: bool,
    ended: bool,
    sleeping: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.control.is_empty() && self.asked.is_empty() && self.live.is_empty() && self.batch.is_empty()
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
        Intake { bounds, state: Mutex::default(), arrived: Condvar::new() }
    }

    /// Queues an ask of `bytes`; gives it back with the fault when there is no room or the door is closed.
    pub(crate) fn push(&self, ask: Ask, priority: Priority, bytes: usize) -> Result<(), Box<NotTaken>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Box::new(NotTaken { ask, fault: shutting_down() }));
        }
        let (waiting, max) = match priority {
            Priority::Live => (state.live.len(), self.bounds.live_max),
            Priority::Batch => (state.batch.len(), self.bounds.batch_max),
        };
        // An empty intake takes anything: a single draft is bounded by its own limit.
        if waiting >= max || (state.bytes > 0 && state.bytes + bytes > self.bounds.bytes_max) {
            let message = format!("{waiting} drafts ({} bytes) wait already; come back", state.bytes);
            let fault = Fault::new(FaultKind::Busy, message).after_ms(20);
            return Err(Box::new(NotTaken { ask, fault }));
        }
        state.bytes += bytes;
        match priority {
            Priority::Live => state.live.push_back((Box::new(ask), bytes)),
            Priority::Batch => state.batch.push_back((Box::new(ask), bytes)),
        }
        self.wake(state);
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
        self.wake(state);
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
        self.wake(state);
        Ok(())
    }

    /// Nobody takes anything any more: gives what is left.
    pub(crate) fn end(&self) -> Vec<Ask> {
        let mut state = self.state.lock();
        (state.closed, state.ended, state.bytes) = (true, true, 0);
        let State { control, asked, live, batch, .. } = &mut *state;
        let drafts = live.drain(..).chain(batch.drain(..)).map(|(ask, _)| ask);
        let left = control.drain(..).chain(asked.drain(..)).chain(drafts).map(|ask| *ask).collect();
        self.wake(state);
        left
    }

    /// The sequencer looks at deadlines and refused epochs too: let it turn.
    pub(crate) fn nudge(&self) {
        self.wake(self.state.lock());
    }

    /// No more drafts from now on.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.wake(state);
    }

    /// The next ask by the rule above.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.state.lock();
        if let Some(ask) = state.control.pop_front() {
            return Taken::Ask(ask);
        }
        let drafts_wait = !state.live.is_empty() || !state.batch.is_empty();
        let is_their_turn = !(state.asked_was_last && drafts_wait);
        state.asked_was_last = false;
        if is_their_turn && let Some(ask) = state.asked.pop_front() {
            state.asked_was_last = true;
            return Taken::Ask(ask);
        }
        let batch_turn = state.live.is_empty() || state.live_since_batch >= self.bounds.live_per_batch;
        let next = if batch_turn && !state.batch.is_empty() {
            state.live_since_batch = 0;
            state.batch.pop_front()
        } else {
            let live = state.live.pop_front();
            state.live_since_batch = state.live_since_batch.saturating_add(u32::from(live.is_some()));
            live
        };
        match next {
            Some((ask, bytes)) => {
                state.bytes -= bytes;
                Taken::Ask(ask)
            }
            None if state.closed => Taken::Closed,
            None => Taken::Empty,
        }
    }

    /// Sleeps until something arrives, `nudge`, `close`, or at most this long.
    pub(crate) fn wait(&self, at_most: Duration) {
        let mut state = self.state.lock();
        if state.is_empty() && !state.closed {
            state.sleeping = true;
            self.arrived.wait_for(&mut state, at_most);
            state.sleeping = false;
        }
    }

    /// The same when no drafts come any more: until what is out comes back, or at most this long.
    pub(crate) fn wait_for_the_last(&self, at_most: Duration) {
        let mut state = self.state.lock();
        if state.is_empty() {
            state.sleeping = true;
            self.arrived.wait_for(&mut state, at_most);
            state.sleeping = false;
        }
    }

    /// Drafts waiting: live, batch.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.live.len(), state.batch.len())
    }

    fn wake(&self, state: parking_lot::MutexGuard<'_, State>) {
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
    use zeolite_proto::{CommitKey, Draft, Note, Tid};

    fn abort_of_nothing() -> Ask {
        Ask::Abort { whose: Whose::Of(Owner::anonymous()), prepared: 7, key: None, since: None, done: Box::new(|_| {}) }
    }

    fn commit() -> Ask {
        let key = CommitKey([1; 16]);
        let (read_cells, read_ranges, writes) = (Vec::new(), Vec::new(), Vec::new());
        let (key_since, priority, note) = (Tid::NONE, Priority::Live, Note::default());
        Ask::Commit(Admitted::new(Draft { key, key_since, priority, read_cells, read_ranges, writes, note }, 64))
    }

    #[test]
    fn requests_to_end_what_is_not_there_are_bounded_and_let_drafts_through() {
        let bounds = IntakeBounds { live_max: 100, batch_max: 1, bytes_max: 1 << 20, live_per_batch: 4 };
        let intake = Intake::new(bounds);
        let taken = (0..200).filter(|_| intake.push_asked(abort_of_nothing()).is_ok()).count();
        assert_eq!(taken, 100);
        let Err(not_taken) = intake.push_asked(abort_of_nothing()) else { panic!("too many") };
        assert!(not_taken.fault.kind == FaultKind::Busy && not_taken.fault.retry_after_ms > 0);
        assert!(intake.push(commit(), Priority::Live, 64).is_ok());
        let is_commit = || matches!(intake.take(), Taken::Ask(ask) if matches!(*ask, Ask::Commit(_)));
        assert!(is_commit() || is_commit(), "a draft is the first or the second");
        intake.close();
        let rest = std::iter::from_fn(|| if let Taken::Ask(ask) = intake.take() { Some(ask) } else { None });
        assert!((98..=100).contains(&rest.count()));
        assert!(matches!(intake.take(), Taken::Closed));
        assert!(intake.push_asked(abort_of_nothing()).is_ok(), "it may end what was prepared");
    }
}
