//! Owns the questions that wait for a process, and the end of all of them: once the program is known not to work, nobody waits.

use super::answer::Answer;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use zeolite_client::{Cell, Error};

/// One object that is asked for.
pub(super) struct Asked {
    pub(super) cell: Cell,
    /// As JSON.
    pub(super) question: Bytes,
    /// How often a process has failed while it was asked alone.
    pub(super) failed: u32,
    /// A process has failed with it.
    alone: bool,
    reply: oneshot::Sender<Result<Answer, Error>>,
}

impl Asked {
    pub(super) fn new(cell: Cell, question: Bytes, reply: oneshot::Sender<Result<Answer, Error>>) -> Asked {
        Asked { cell, question, failed: 0, alone: false, reply }
    }

    pub(super) fn answer(self, answer: Result<Answer, Error>) {
        // Whoever asked may have gone on without it.
        let _ = self.reply.send(answer);
    }
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Asked>,
    broken: Option<String>,
    closed: bool,
    /// Some process has answered once.
    works: bool,
    /// Processes that have failed since.
    failed: u32,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, asked: Asked) {
        let mut state = self.state();
        if let Some(why) = &state.broken {
            return asked.answer(Err(Error::worker(why)));
        }
        state.waiting.push_back(asked);
        drop(state);
        self.changed.notify_one();
    }

    /// Asked again behind all others, so that these are answered meanwhile.
    pub(super) fn push_alone(&self, mut asked: Asked) {
        asked.alone = true;
        self.push(asked);
    }

    /// So many of the next ones, as soon as there is one; those that a process has failed with come alone. None: it is over.
    pub(super) async fn take(&self, most: usize) -> Option<Vec<Asked>> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if state.closed {
                    return None;
                }
                // Those that were given up by whoever asked.
                state.waiting.retain(|asked| !asked.reply.is_closed());
                let alone = state.waiting.iter().position(|asked| asked.alone).unwrap_or(state.waiting.len());
                let count = if alone == 0 { 1 } else { alone.min(most) };
                let taken: Vec<Asked> = (0..count).map_while(|_| state.waiting.pop_front()).collect();
                if !taken.is_empty() {
                    if !state.waiting.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(taken);
                }
            }
            changed.await;
        }
    }

    /// A process has answered.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        (state.works, state.failed) = (true, 0);
    }

    /// A process has failed; how many have since one has answered, and whether one ever has.
    pub(super) fn failed(&self) -> (u32, bool) {
        let mut state = self.state();
        state.failed += 1;
        (state.failed, state.works)
    }

    /// The program does not work: nobody waits for it from now on. Gives the first reason that there was.
    pub(super) fn break_off(&self, why: &str) -> String {
        let mut state = self.state();
        let why = state.broken.get_or_insert_with(|| why.to_owned()).clone();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|asked| asked.answer(Err(Error::worker(&why))));
        why
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        // Each runner that waits, and each that comes later.
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_client::Oid;

    fn asked(oid: u64) -> (Asked, oneshot::Receiver<Result<Answer, Error>>) {
        let (reply, answered) = oneshot::channel();
        (Asked::new(Cell::object(Oid(oid)), Bytes::new(), reply), answered)
    }

    fn oids(taken: Option<Vec<Asked>>) -> Vec<u64> {
        taken.expect("not closed").iter().map(|asked| asked.cell.oid.0).collect()
    }

    #[tokio::test]
    async fn what_a_process_failed_with_comes_alone_and_last() {
        let queue = Queue::default();
        let mut waiting = Vec::new();
        for oid in 1..=5 {
            let (asked, answered) = asked(oid);
            match oid {
                1 | 2 => queue.push_alone(asked),
                _ => queue.push(asked),
            }
            waiting.push(answered);
        }
        drop(waiting.pop());
        assert_eq!(oids(queue.take(9).await), [1]);
        assert_eq!(oids(queue.take(9).await), [2]);
        assert_eq!(oids(queue.take(9).await), [3, 4], "nobody waits for the last one");
        let (late, answered) = asked(6);
        assert_eq!(queue.break_off("no program"), "no program");
        assert_eq!(queue.break_off("something else"), "no program");
        queue.push(late);
        let told = answered.await.expect("told").expect_err("broken");
        assert!(told.to_string().contains("no program"), "{told}");
        queue.close();
        assert!(queue.take(1).await.is_none());
    }
}
