//! Owns the commit keys: one key, one receipt.
//!
//! A key is *in flight* from admission until its draft is refused or durable, then *committed* for as long as the window
//! reaches back (by count and by age, whichever ends first), then *forgotten*. A second draft with a key in flight does not enter:
//! it waits for the first one's answer. One with a committed key gets the receipt told again from the log, if it is the
//! same draft by its digest. The window survives a restart: the log holds the keys, and opening hands them in.
//!
//! ```text
//!    forgotten            |  remembered                  now
//!   ----------------- floor ------------------------------|
//!         ^ a key that exists since here may have been        ^ a key that exists since here was not
//! ```
//! Every commit under a key is newer than the tid since when the key exists. So a key that is not known and exists since before
//! the *floor*, the newest transaction whose key was forgotten, may have been committed: such a draft is refused as
//! `OUTCOME_UNKNOWN`, never committed. Age is time that has passed for servers on this store, not what the wall clock says.

use crate::clock::Clock;
use crate::engine::answers::Done;
use crate::storage::KnownKey;
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{CommitKey, Draft, Fault, FaultKind, Receipt, Tid};

/// What programs without commit keys write; nobody asks for its outcome.
pub(crate) const NO_KEY: CommitKey = CommitKey([0; 16]);

/// A key with what it is known by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Keyed {
    pub(crate) key: CommitKey,
    /// Of the draft; 0: not known.
    pub(crate) digest: u64,
    /// The key was made after this one was committed; `None`: not known.
    pub(crate) since: Option<Tid>,
}

impl Keyed {
    /// The key of a draft.
    pub(crate) fn of(draft: &Draft) -> Keyed {
        Keyed { key: draft.key, digest: draft.digest(), since: Some(draft.key_since) }
    }

    /// A key that was made just now.
    pub(crate) fn new(key: CommitKey) -> Keyed {
        Keyed { key, digest: 0, since: Some(Tid::MAX) }
    }
}

/// What entering a key finds.
pub(crate) enum Entered {
    /// The key is new and now in flight; `done` is kept until `complete`.
    New,
    /// The key is in flight; `done` waits for the same answer.
    Joined,
    /// The key was committed: tell the receipt of this tid again.
    Committed(Tid, Done<Receipt>),
    /// It is another draft's key, or may have been forgotten.
    Refused(Fault, Done<Receipt>),
}

/// What reserving a key finds.
pub(crate) enum Reserved {
    /// The key is new and now in flight.
    New,
    /// The same draft has the key: it is prepared, or on its way.
    Again,
}

/// Where a key stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Unknown,
    Forgotten,
    InFlight,
    Committed(Tid),
}

/// How long keys are remembered, and what was remembered before.
pub(crate) struct Window {
    pub(crate) count_max: usize,
    pub(crate) age_s: u64,
    pub(crate) keys: Vec<KnownKey>,
    pub(crate) floor: Tid,
    /// For how long servers had run on the store when this one opened it.
    pub(crate) lived_ms: u64,
}

/// The keys in flight and the window of the committed ones.
pub(crate) struct Keys {
    count_max: usize,
    age_max_ms: u64,
    clock: Arc<dyn Clock>,
    opened: Duration,
    lived_before_ms: u64,
    state: Mutex<State>,
}

struct InFlight {
    digest: u64,
    /// Prepared for as long as it takes: nobody waits for it who does not finish it.
    kept: bool,
    waiting: Vec<Done<Receipt>>,
}

// Keys are chosen by clients, so the maps are hashed with a seed.
#[derive(Default)]
struct State {
    in_flight: HashMap<CommitKey, InFlight>,
    committed: HashMap<CommitKey, (Tid, u64)>,
    order: VecDeque<KnownKey>,
    floor: Tid,
}

impl Keys {
    pub(crate) fn new(clock: Arc<dyn Clock>, window: Window) -> Keys {
        let Window { count_max, age_s, keys, floor, lived_ms } = window;
        let committed = keys.iter().map(|known| (known.key, (known.tid, known.digest))).collect();
        let state = State { committed, order: keys.into(), floor, ..State::default() };
        let age_max_ms = age_s.saturating_mul(1000);
        let opened = clock.steady();
        Keys { count_max, age_max_ms, clock, opened, lived_before_ms: lived_ms, state: Mutex::new(state) }
    }

    /// For how long servers have run on the store: what the age of keys is counted in.
    pub(crate) fn lived_ms(&self) -> u64 {
        let here = self.clock.steady().saturating_sub(self.opened).as_millis();
        self.lived_before_ms.saturating_add(u64::try_from(here).unwrap_or(u64::MAX))
    }

    /// The newest transaction whose key was forgotten.
    pub(crate) fn floor(&self) -> Tid {
        let mut state = self.state.lock();
        self.trim(&mut state);
        state.floor
    }

    /// Keys of transactions up to here may never have been known.
    pub(crate) fn raise_floor(&self, to: Tid) {
        let mut state = self.state.lock();
        state.floor = state.floor.max(to);
    }

    pub(crate) fn standing(&self, keyed: &Keyed) -> Standing {
        let mut state = self.state.lock();
        self.trim(&mut state);
        match state.committed.get(&keyed.key) {
            Some((tid, _)) => Standing::Committed(*tid),
            None if state.in_flight.contains_key(&keyed.key) => Standing::InFlight,
            None if state.may_have_forgotten(keyed) => Standing::Forgotten,
            None => Standing::Unknown,
        }
    }

    /// A draft with this key wants to enter.
    pub(crate) fn enter(&self, keyed: &Keyed, done: Done<Receipt>) -> Entered {
        let mut state = self.state.lock();
        self.trim(&mut state);
        if let Some((tid, digest)) = state.committed.get(&keyed.key).copied() {
            return match is_another(digest, keyed.digest) {
                true => Entered::Refused(of_another_draft(), done),
                false => Entered::Committed(tid, done),
            };
        }
        let forgotten = state.may_have_forgotten(keyed);
        match state.in_flight.entry(keyed.key) {
            Entry::Occupied(waiting) if is_another(waiting.get().digest, keyed.digest) => {
                Entered::Refused(of_another_draft(), done)
            }
            Entry::Occupied(waiting) if waiting.get().kept => Entered::Refused(is_prepared(), done),
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().waiting.push(done);
                Entered::Joined
            }
            Entry::Vacant(_) if forgotten => Entered::Refused(forgotten_key(), done),
            Entry::Vacant(slot) => {
                slot.insert(InFlight { waiting: vec![done], ..InFlight::of(keyed.digest) });
                Entered::New
            }
        }
    }

    /// The same for a draft to be prepared: in flight with nobody waiting yet.
    pub(crate) fn reserve(&self, keyed: &Keyed) -> Result<Reserved, Fault> {
        let mut state = self.state.lock();
        self.trim(&mut state);
        if state.committed.contains_key(&keyed.key) {
            return Err(Fault::invalid("the draft of this commit key is committed already; ask for its outcome"));
        }
        if let Some(in_flight) = state.in_flight.get(&keyed.key) {
            return if is_another(in_flight.digest, keyed.digest) {
                Err(of_another_draft())
            } else {
                Ok(Reserved::Again)
            };
        }
        if state.may_have_forgotten(keyed) {
            return Err(forgotten_key());
        }
        state.in_flight.insert(keyed.key, InFlight::of(keyed.digest));
        Ok(Reserved::New)
    }

    /// The same for a transaction to be restored: its key may have been forgotten, since its tid tells whether it is here.
    pub(crate) fn reserve_restored(&self, key: CommitKey, digest: u64) -> Result<(), Fault> {
        let mut state = self.state.lock();
        self.trim(&mut state);
        if let Some((tid, _)) = state.committed.get(&key) {
            let message = format!("the commit key {key} is that of transaction {tid} here; a key is committed once");
            return Err(Fault::invalid(message));
        }
        match state.in_flight.entry(key) {
            Entry::Occupied(_) => {
                let message = format!("a draft under the commit key {key} is on its way, or prepared; come back");
                Err(Fault::new(FaultKind::Busy, message).after_ms(50))
            }
            Entry::Vacant(slot) => {
                slot.insert(InFlight::of(digest));
                Ok(())
            }
        }
    }

    /// The draft of this key is prepared until somebody ends it.
    pub(crate) fn keep(&self, key: CommitKey, digest: u64) {
        let mut state = self.state.lock();
        state.in_flight.entry(key).or_insert(InFlight::of(digest)).kept = true;
    }

    /// Waits for the answer of a key that `reserve` took.
    pub(crate) fn enter_reserved(&self, key: CommitKey, done: Done<Receipt>) {
        let mut state = self.state.lock();
        state.in_flight.entry(key).or_insert(InFlight::of(0)).waiting.push(done);
    }

    /// The digest of the draft whose key is in flight; 0: not known.
    pub(crate) fn digest(&self, key: CommitKey) -> u64 {
        self.state.lock().in_flight.get(&key).map_or(0, |in_flight| in_flight.digest)
    }

    /// Everybody who waits for a key is refused; the key stays in flight, because its draft is still prepared.
    pub(crate) fn refuse_waiting(&self, key: CommitKey, why: &Fault) {
        let waiting = self.state.lock().in_flight.get_mut(&key).map(|in_flight| std::mem::take(&mut in_flight.waiting));
        waiting.into_iter().flatten().for_each(|done| done(Err(why.clone())));
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
            let Some(InFlight { digest, waiting, .. }) = state.in_flight.remove(&key) else { return };
            if let Ok(receipt) = &result {
                state.committed.insert(key, (receipt.tid, digest));
                state.order.push_back(KnownKey { key, digest, tid: receipt.tid, lived_ms: self.lived_ms() });
                self.trim(&mut state);
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

    fn trim(&self, state: &mut State) {
        let oldest_ms = self.lived_ms().saturating_sub(self.age_max_ms);
        while let Some(known) = state.order.front().copied() {
            if state.order.len() <= self.count_max && known.lived_ms >= oldest_ms {
                break;
            }
            state.order.pop_front();
            if state.committed.get(&known.key).is_some_and(|(tid, _)| *tid == known.tid) {
                state.committed.remove(&known.key);
            }
            state.floor = state.floor.max(known.tid);
        }
    }
}

impl InFlight {
    fn of(digest: u64) -> InFlight {
        InFlight { digest, kept: false, waiting: Vec::new() }
    }
}

impl State {
    fn may_have_forgotten(&self, keyed: &Keyed) -> bool {
        match keyed.since {
            Some(since) => since < self.floor,
            None => self.floor > Tid::NONE,
        }
    }
}

fn is_another(known: u64, digest: u64) -> bool {
    known != 0 && digest != 0 && known != digest
}

fn is_prepared() -> Fault {
    Fault::invalid("the draft of this commit key is prepared; finish or abort it")
}

fn of_another_draft() -> Fault {
    Fault::invalid("this commit key belongs to another draft; make a new key for each draft")
}

/// The fault of a draft that may have been committed, long ago.
pub(crate) fn forgotten_key() -> Fault {
    let message = "keys as old as this one are forgotten: whether its draft was committed is not known, and it is not \
                   committed now; look at the data, then decide under a new key";
    Fault::new(FaultKind::OutcomeUnknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;
    use std::sync::mpsc;

    const START: i128 = 1_700_000_000_000_000_000;

    fn key(n: u8) -> Keyed {
        Keyed { key: CommitKey([n; 16]), digest: u64::from(n), since: Some(Tid::MAX) }
    }

    fn keys(count_max: usize, age_s: u64) -> (Keys, Arc<HandClock>) {
        let clock = Arc::new(HandClock::at(START));
        let window = Window { count_max, age_s, keys: Vec::new(), floor: Tid::NONE, lived_ms: 0 };
        (Keys::new(clock.clone(), window), clock)
    }

    fn waiter() -> (Done<Receipt>, mpsc::Receiver<Result<Receipt, Fault>>) {
        let (tell, told) = mpsc::channel();
        (Box::new(move |result| drop(tell.send(result))), told)
    }

    fn commit(keys: &Keys, n: u8, tid: u64) {
        keys.enter(&key(n), waiter().0);
        keys.complete(key(n).key, Ok(Receipt { tid: Tid(tid), merged: Vec::new() }));
    }

    #[test]
    fn the_same_key_in_flight_gets_the_same_answer() {
        let (keys, _) = keys(10, 600);
        let (first, first_told) = waiter();
        let (second, second_told) = waiter();
        assert!(matches!(keys.enter(&key(1), first), Entered::New));
        assert!(matches!(keys.enter(&key(1), second), Entered::Joined));
        let receipt = Receipt { tid: Tid(7), merged: Vec::new() };
        keys.complete(key(1).key, Ok(receipt.clone()));
        assert_eq!(first_told.recv(), Ok(Ok(receipt.clone())));
        assert_eq!(second_told.recv(), Ok(Ok(receipt.clone())));
        assert_eq!(keys.standing(&key(1)), Standing::Committed(receipt.tid));
    }

    #[test]
    fn another_draft_under_a_known_key_is_refused_and_an_unknown_digest_is_not() {
        let (keys, _) = keys(10, 600);
        let other = Keyed { digest: 99, ..key(1) };
        assert!(matches!(keys.enter(&key(1), waiter().0), Entered::New));
        assert!(
            matches!(keys.enter(&other, waiter().0), Entered::Refused(fault, _) if fault.kind == FaultKind::Invalid)
        );
        keys.complete(key(1).key, Ok(Receipt { tid: Tid(7), merged: Vec::new() }));
        assert!(matches!(keys.enter(&other, waiter().0), Entered::Refused(..)));
        assert!(matches!(keys.enter(&Keyed { digest: 0, ..other }, waiter().0), Entered::Committed(Tid(7), _)));
    }

    #[test]
    fn a_refused_key_may_come_again() {
        let (keys, _) = keys(10, 600);
        let (first, told) = waiter();
        keys.enter(&key(1), first);
        keys.complete(key(1).key, Err(Fault::invalid("no")));
        assert!(told.recv().is_ok_and(|answer| answer.is_err()));
        assert!(matches!(keys.enter(&Keyed { digest: 99, ..key(1) }, waiter().0), Entered::New));
    }

    #[test]
    fn the_window_ends_by_count_and_by_time_passed_and_not_by_the_wall_clock() {
        let (keys, clock) = keys(3, 100);
        (0..5).for_each(|n| commit(&keys, n, 10 + u64::from(n)));
        assert_eq!(keys.floor(), Tid(11));
        assert!(matches!(keys.standing(&key(2)), Standing::Committed(_)));
        clock.set_wall(START + 1_000_000_000_000_000);
        assert!(matches!(keys.standing(&key(2)), Standing::Committed(_)), "the wall clock was set");
        clock.set_wall(START - 1_000_000_000_000_000);
        clock.advance(Duration::from_secs(100));
        assert!(matches!(keys.standing(&key(4)), Standing::Committed(_)));
        clock.advance(Duration::from_millis(1));
        assert_eq!((keys.standing(&key(4)), keys.floor()), (Standing::Unknown, Tid(14)));
    }

    #[test]
    fn a_key_that_may_have_been_forgotten_is_refused_and_one_made_since_is_not() {
        let (keys, _) = keys(1, 100);
        commit(&keys, 1, 10);
        commit(&keys, 2, 20);
        for (since, forgotten) in [(None, true), (Some(Tid(9)), true), (Some(Tid(10)), false), (Some(Tid(15)), false)] {
            let keyed = Keyed { since, ..key(1) };
            let expected = if forgotten { Standing::Forgotten } else { Standing::Unknown };
            assert_eq!(keys.standing(&keyed), expected, "{since:?}");
            let refused = matches!(keys.enter(&keyed, waiter().0), Entered::Refused(fault, _)
                if fault.kind == FaultKind::OutcomeUnknown);
            assert_eq!(refused, forgotten, "{since:?}");
            keys.complete(key(1).key, Err(Fault::invalid("no")));
            assert_eq!(keys.reserve(&keyed).is_err(), forgotten, "{since:?}");
            keys.complete(key(1).key, Err(Fault::invalid("no")));
        }
        assert!(matches!(keys.standing(&Keyed { since: None, ..key(2) }), Standing::Committed(_)));
    }
}
