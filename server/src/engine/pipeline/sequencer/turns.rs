//! Owns the sequencer's turns: one ask at a time, what is to be done beside them, and the end.

use super::Sequencer;
use crate::engine::faults::shutting_down;
use crate::engine::pipeline::admission::is_short;
use crate::engine::pipeline::ask::{Ask, PrepareAsk, ROUNDS_MAX};
use crate::engine::pipeline::intake::Taken;
use crate::engine::turn::Turn;
use std::time::Duration;

/// Between two looks at deadlines, at most.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// So many times its bounds the memory of recent writes may be while a draft is out, or was made ready.
const WHILE_OUT_TIMES: usize = 4;

/// Who turns the sequencer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// Its own thread: it may wait for room in the writer's hop.
    Thread,
    /// Who has brought something, and has no time for what is large.
    Caller,
    /// A test, by hand: nothing is held back.
    Hand,
}

impl Sequencer {
    /// One step: at most one ask.
    pub(crate) fn turn(&mut self, by: By) -> Turn {
        let wait = by == By::Thread;
        self.start_epoch_if_refused();
        if let Some(sealed) = self.stuck.take()
            && !self.hand_over(sealed, wait)
        {
            return Turn::Idle;
        }
        self.endings.settle(self.engine.visible());
        self.expire_prepared();
        if let Some(sealed) = self.stuck.take() {
            self.hand_over(sealed, wait);
            return Turn::Worked;
        }
        match self.intake.take(by != By::Hand) {
            Taken::Ask(ask) if by == By::Caller && !self.is_short(&ask) => {
                self.intake.give_back(ask);
                Turn::Idle
            }
            Taken::Ask(ask) => {
                self.work(*ask);
                if let Some(sealed) = self.stuck.take() {
                    self.hand_over(sealed, wait);
                }
                self.forget();
                Turn::Worked
            }
            // A caller leaves that to the thread, which looks now and then.
            Taken::Empty if by != By::Caller && self.forget() => Turn::Worked,
            Taken::Closed if by != By::Caller => self.end(wait),
            Taken::Empty | Taken::Closed => Turn::Idle,
        }
    }

    /// Whether it is done in the time that it would take to wake a thread, or not much more.
    fn is_short(&self, ask: &Ask) -> bool {
        match ask {
            // One that merges no more elsewhere is merged here, whatever that takes; so is what amends.
            Ask::Commit(admitted) | Ask::Prepare(PrepareAsk { admitted, .. }) => {
                admitted.is_short() && admitted.rounds < ROUNDS_MAX
            }
            // What has another number now is looked for by its key.
            Ask::Finish { prepared, .. } | Ask::Abort { prepared, .. } => {
                self.holds.get(*prepared).is_some_and(|prepared| is_short(prepared.bytes, prepared.writes.len()))
            }
            _ => false,
        }
    }

    /// There is something to do that comes by no queue, and may be large: what was refused, or is to be aborted soon.
    pub(crate) fn needs_its_thread(&self) -> bool {
        self.stuck.is_some() || self.is_refused() || self.sleep_for() < LONGEST_SLEEP
    }

    /// Whether what was sealed of this epoch was refused.
    pub(super) fn is_refused(&self) -> bool {
        self.engine.health.refused_epoch() >= self.epoch
    }

    /// What was looked up for a draft that is out, or was made ready, counts only as long as everything since is remembered: so meanwhile more is. Says
    /// whether there is more to forget.
    fn forget(&mut self) -> bool {
        let times = if self.engine.pipeline.is_looked_up() { WHILE_OUT_TIMES } else { 1 };
        let more = self.recent.trim(self.engine.visible(), times);
        self.engine.pipeline.set_recent_floor(self.recent.floor());
        more
    }

    /// When it has to look at deadlines again.
    pub(crate) fn sleep_for(&self) -> Duration {
        let until = |at: Duration| at.saturating_sub(self.engine.clock().steady()).min(LONGEST_SLEEP);
        self.holds.next_deadline().map_or(LONGEST_SLEEP, until)
    }

    fn end(&mut self, wait: bool) -> Turn {
        // Mergers hold a way back into the intake: while one of them works, its draft counts as queued. A loop that has panicked
        // brings nothing back.
        if self.engine.pipeline.out_merging() > 0 && !self.engine.health.has_died() {
            return self.wait_for_the_last(wait);
        }
        if self.keep_over_restart() {
            return Turn::Worked;
        }
        if self.is_in_doubt() && !self.engine.health.has_died() && !self.engine.has_waited_to_the_end() {
            return self.wait_for_the_last(wait);
        }
        let (prepared, parked) = self.holds.drain();
        // A durable one is there at the next start.
        let lost = prepared.into_iter().filter(|prepared| prepared.durable.is_none());
        lost.for_each(|prepared| self.lose(prepared.key, "the server went down"));
        parked.into_iter().for_each(|draft| self.engine.refuse_draft(draft, shutting_down()));
        self.engine.end_intake();
        Turn::Ended
    }

    /// What is being finished may be refused, and is kept then; and until the store has what keeps a draft, or has refused it, the blobs
    /// that it names are held by the draft alone.
    fn is_in_doubt(&self) -> bool {
        let is_on_its_way = self.kept_in == Some(self.epoch) && self.newest > self.engine.visible();
        self.endings.len() > 0 || (is_on_its_way && self.engine.health.unwritable().is_none())
    }

    fn wait_for_the_last(&self, wait: bool) -> Turn {
        if wait {
            self.intake.wait_for_the_last(Duration::from_millis(1));
        }
        Turn::Idle
    }
}
