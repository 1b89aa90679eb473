//! Owns the commit keys: one key, one receipt.
//!
//! A key is *in flight* from admission until its draft is refused or durable, then *committed* for as long as the window
//! reaches back (by count and by age, whichever ends first). A second draft with a key in flight does not enter: it waits
//! for the first one's answer. One with a committed key gets the receipt told again from the log. The window survives a
//! restart: the log holds the keys, and opening hands them in.

use crate::engine::answers::Done;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use zeolite_proto::{CommitKey, Fault, Receipt, Tid};

/// What entering a key finds.
pub(crate) enum Entered {
    /// The key is new and now in flight; `done` is kept until `complete`.
    New,
    /// The key is in flight; `done` waits for the same answer.
    Joined,
    /// The key was committed: tell the receipt of this tid again.
    Committed(Tid, Done<Receipt>),
}

/// Where a key stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Unknown,
    InFlight,
    Committed(Tid),
}

/// The keys in flight and the window of the committed ones.
pub(crate) struct Keys {
    count_max: usize,
    age_max_nanos: i128,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_flight: FxHashMap<CommitKey, Vec<Done<Receipt>>>,
    committed: FxHashMap<CommitKey, Tid>,
    order: VecDeque<(CommitKey, Tid)>,
}

impl Keys {
    pub(crate) fn new(count_max: usize, age_s: u64, recovered: Vec<(CommitKey, Tid)>) -> Keys {
        let mut state = State::default();
        for (key, tid) in recovered {
            state.committed.insert(key, tid);
            state.order.push_back((key, tid));
        }
        Keys { count_max, age_max_nanos: i128::from(age_s) * 1_000_000_000, state: Mutex::new(state) }
    }

    pub(crate) fn standing(&self, key: CommitKey) -> Standing {
        let state = self.state.lock();
        match state.committed.get(&key) {
            Some(tid) => Standing::Committed(*tid),
            None if state.in_flight.contains_key(&key) => Standing::InFlight,
            None => Standing::Unknown,
        }
    }

    /// A draft with this key wants to enter.
    pub(crate) fn enter(&self, key: CommitKey, done: Done<Receipt>) -> Entered {
        let mut state = self.state.lock();
        if let Some(tid) = state.committed.get(&key) {
            return Entered::Committed(*tid, done);
        }
        match state.in_flight.entry(key) {
            std::collections::hash_map::Entry::Occupied(mut waiting) => {
                waiting.get_mut().push(done);
                Entered::Joined
            }
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(vec![done]);
                Entered::New
            }
        }
    }

    /// The same for a draft to be prepared: in flight with nobody waiting yet. False: the key is taken.
    pub(crate) fn reserve(&self, key: CommitKey) -> bool {
        let mut state = self.state.lock();
        if state.committed.contains_key(&key) || state.in_flight.contains_key(&key) {
            return false;
        }
        state.in_flight.insert(key, Vec::new());
        true
    }

    /// The same for a transaction to be restored, whose key may have been committed before. False: it is in flight.
    pub(crate) fn reserve_again(&self, key: CommitKey) -> bool {
        let mut state = self.state.lock();
        let free = !state.in_flight.contains_key(&key);
        if free {
            state.in_flight.insert(key, Vec::new());
        }
        free
    }

    /// Waits for the answer of a key that `reserve` took.
    pub(crate) fn enter_reserved(&self, key: CommitKey, done: Done<Receipt>) {
        self.state.lock().in_flight.entry(key).or_default().push(done);
    }

    /// Nothing will be decided any more: everybody who waits is told.
    pub(crate) fn abandon(&self, fault: &Fault) {
        let in_flight: Vec<CommitKey> = self.state.lock().in_flight.keys().copied().collect();
        in_flight.into_iter().for_each(|key| self.complete(key, Err(fault.clone())));
    }

    /// The draft of this key is durable or refused: everybody who waits is told. A key that is not in flight is ignored.
    pub(crate) fn complete(&self, key: CommitKey, result: Result<Receipt, Fault>) {
        let waiting = {
            let mut state = self.state.lock();
            let Some(waiting) = state.in_flight.remove(&key) else { return };
            if let Ok(receipt) = &result {
                state.committed.insert(key, receipt.tid);
                state.order.push_back((key, receipt.tid));
                state.trim(self.count_max, receipt.tid.unix_nanos() - self.age_max_nanos);
            }
            waiting
        };
        let last = waiting.len().saturating_sub(1);
        let mut result = Some(result);
        for (at, done) in waiting.into_iter().enumerate() {
            let answer = if at == last { result.take() } else { result.clone() };
            if let Some(answer) = answer {
                done(answer);
            }
        }
    }
}

impl State {
    fn trim(&mut self, count_max: usize, oldest_unix_nanos: i128) {
        let oldest = Tid::from_unix_nanos(oldest_unix_nanos);
        while let Some((key, tid)) = self.order.front().copied() {
            if self.order.len() <= count_max && tid >= oldest {
                break;
            }
            self.order.pop_front();
            if self.committed.get(&key) == Some(&tid) {
                self.committed.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn key(n: u8) -> CommitKey {
        CommitKey([n; 16])
    }

    fn waiter() -> (Done<Receipt>, mpsc::Receiver<Result<Receipt, Fault>>) {
        let (tell, told) = mpsc::channel();
        (Box::new(move |result| drop(tell.send(result))), told)
    }

    #[test]
    fn the_same_key_in_flight_gets_the_same_answer() {
        let keys = Keys::new(10, 600, Vec::new());
        let (first, first_told) = waiter();
        let (second, second_told) = waiter();
        assert!(matches!(keys.enter(key(1), first), Entered::New));
        assert!(matches!(keys.enter(key(1), second), Entered::Joined));
        let receipt = Receipt { tid: Tid::from_unix_nanos(1_700_000_000_000_000_000), merged: Vec::new() };
        keys.complete(key(1), Ok(receipt.clone()));
        assert_eq!(first_told.recv(), Ok(Ok(receipt.clone())));
        assert_eq!(second_told.recv(), Ok(Ok(receipt.clone())));
        assert_eq!(keys.standing(key(1)), Standing::Committed(receipt.tid));
    }

    #[test]
    fn a_refused_key_may_come_again() {
        let keys = Keys::new(10, 600, Vec::new());
        let (first, told) = waiter();
        keys.enter(key(1), first);
        keys.complete(key(1), Err(Fault::invalid("no")));
        assert!(told.recv().is_ok_and(|answer| answer.is_err()));
        assert!(matches!(keys.enter(key(1), waiter().0), Entered::New));
    }

    #[test]
    fn the_window_ends_by_count_and_by_age() {
        let second = 1_000_000_000i128;
        let start = 1_700_000_000 * second;
        let keys = Keys::new(3, 100, Vec::new());
        for n in 0..5u8 {
            keys.enter(key(n), waiter().0);
            let tid = Tid::from_unix_nanos(start + i128::from(n) * second);
            keys.complete(key(n), Ok(Receipt { tid, merged: Vec::new() }));
        }
        assert_eq!(keys.standing(key(1)), Standing::Unknown);
        assert!(matches!(keys.standing(key(2)), Standing::Committed(_)));
        keys.enter(key(9), waiter().0);
        let late = Tid::from_unix_nanos(start + 200 * second);
        keys.complete(key(9), Ok(Receipt { tid: late, merged: Vec::new() }));
        assert_eq!(keys.standing(key(4)), Standing::Unknown);
    }
}
