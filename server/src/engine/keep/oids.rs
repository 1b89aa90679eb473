//! Owns the oids: handed out in blocks, never twice, also not across a crash.
//!
//! Memory hands out oids below a *ceiling* that is on the disk: a record in the system object, written through the
//! ordinary pipeline a block at a time, before the first oid of the block is handed out. After a restart the next oid is
//! the ceiling; what was left of the block is skipped.

use crate::engine::Engine;
use crate::engine::answers::Done;
use crate::engine::keep::system::{self, SYSTEM_OID};
use crate::storage::{Read, StoreError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_proto::{Cell, Fault, FaultKind, Oid, Receipt, Record, Tid};

/// The first oid that is handed out; those below are the root's and the server's.
pub(crate) const FIRST_OID: Oid = Oid(16);
/// The class of the ceiling's record.
const CLASS: &str = "zeolite.Oids";
const BLOCK: u64 = 65_536;
/// Oids end here, so that they fit a signed number everywhere.
pub(crate) const OIDS_END: u64 = 1 << 63;

/// The allocator.
pub(crate) struct Oids {
    /// The next oid to hand out; read without the lock by `is_given_out`.
    next: AtomicU64,
    state: Mutex<State>,
}

struct State {
    ceiling: u64,
    /// A ceiling that is being written.
    raising_to: Option<u64>,
    waiting: Vec<(u64, Done<Oid>)>,
}

/// What the engine has to do after a request.
pub(crate) enum Raise {
    /// Write this ceiling, then call `raised`.
    To(u64),
    Nothing,
}

/// The cell that holds the ceiling.
pub(crate) fn ceiling_cell() -> Cell {
    Cell::entry(SYSTEM_OID, "oids")
}

/// The record of a ceiling: data = u64 little endian.
pub(crate) fn ceiling_record(ceiling: u64) -> Record {
    Record::new(CLASS, 1, Bytes::copy_from_slice(&ceiling.to_le_bytes()))
}

/// Reads the ceiling back.
pub(crate) fn read_ceiling(record: &Record) -> Result<u64, String> {
    system::check_class(record, CLASS)?;
    let ceiling = record.data.as_ref().try_into().map(u64::from_le_bytes).ok().filter(|ceiling| *ceiling <= OIDS_END);
    ceiling.ok_or_else(|| "the number of oids handed out is not one".to_owned())
}

/// The ceiling as stored; 0: none yet.
pub(crate) fn stored(reader: &dyn Read, at: Tid) -> Result<u64, StoreError> {
    let record = system::stored(reader, &ceiling_cell(), at)?;
    record.as_ref().map_or(Ok(0), read_ceiling).map_err(StoreError::Index)
}

impl Engine {
    /// Hands out `count` consecutive oids; gives the first.
    pub fn new_oids(self: &Arc<Self>, count: u32, done: Done<Oid>) {
        if let Err(fault) = self.check_seat() {
            return done(Err(fault));
        }
        if count == 0 || count > self.limits().oids_max {
            let message = format!("ask for 1 to {} oids at once, not {count}", self.limits().oids_max);
            return done(Err(Fault::invalid(message)));
        }
        let raise = self.keep.oids.take(u64::from(count), done);
        self.raise_ceiling(raise);
    }

    /// A client brings an oid that nobody handed out: it counts as handed out from now on, with all below it.
    pub fn take_oids(&self, greatest: Oid) -> Result<(), Fault> {
        self.keep.oids.take_up_to(greatest)
    }

    /// Writes a higher ceiling of oids through the pipeline, then serves who waits for it. Two are never on their way at once.
    fn raise_ceiling(self: &Arc<Self>, raise: Raise) {
        let Raise::To(ceiling) = raise else { return };
        let engine = self.clone();
        let done = Box::new(move |result: Result<Receipt, Fault>| {
            let again = engine.keep.oids.raised(result.map(|_| ()));
            engine.raise_ceiling(again);
        });
        let record = ceiling_record(ceiling);
        self.write_system(ceiling_cell(), Some(record), "oids handed out up to here", done);
    }
}

impl Oids {
    /// `ceiling` as stored (0: none yet), `max_seen` the greatest oid of the log.
    pub(crate) fn new(ceiling: u64, max_seen: Oid) -> Oids {
        let next = ceiling.max(max_seen.0.saturating_add(1)).max(FIRST_OID.0);
        let state = State { ceiling: next, raising_to: None, waiting: Vec::new() };
        Oids { next: AtomicU64::new(next), state: Mutex::new(state) }
    }

    /// Whether a client may name this oid.
    pub(crate) fn is_given_out(&self, oid: Oid) -> bool {
        oid == Oid::ROOT || (oid >= FIRST_OID && oid.0 < self.next.load(Ordering::Acquire))
    }

    /// Hands out `count` oids, now or when the ceiling is high enough. A second block is asked for before the first ends.
    pub(crate) fn take(&self, count: u64, done: Done<Oid>) -> Raise {
        let mut state = self.state.lock();
        let next = self.next.load(Ordering::Relaxed);
        let waiting: u64 = state.waiting.iter().map(|(count, _)| count).sum();
        let Some(after) = next.checked_add(waiting + count).filter(|after| *after <= OIDS_END) else {
            drop(state);
            done(Err(none_left(next)));
            return Raise::Nothing;
        };
        if waiting == 0 && after <= state.ceiling {
            self.next.store(after, Ordering::Release);
            let raise = if after + BLOCK / 4 > state.ceiling { state.raise(after) } else { Raise::Nothing };
            drop(state);
            done(Ok(Oid(next)));
            return raise;
        }
        state.waiting.push((count, done));
        state.raise(after)
    }

    /// The ceiling is on the disk, or could not be written: who waits is served or told.
    pub(crate) fn raised(&self, result: Result<(), Fault>) -> Raise {
        let mut state = self.state.lock();
        state.raising_to = None;
        let mut answers: Vec<(Done<Oid>, Result<Oid, Fault>)> = Vec::new();
        match result {
            Err(fault) => {
                answers.extend(state.waiting.drain(..).map(|(_, done)| (done, Err(fault.clone()))));
            }
            Ok(()) => {
                let mut next = self.next.load(Ordering::Relaxed);
                let fits = |next: u64, count: u64, ceiling: u64| next.saturating_add(count) <= ceiling;
                let mut served = 0;
                while let Some((count, _)) = state.waiting.get(served)
                    && fits(next, *count, state.ceiling)
                {
                    next += *count;
                    served += 1;
                }
                let mut first = self.next.swap(next, Ordering::AcqRel);
                for (count, done) in state.waiting.drain(..served) {
                    answers.push((done, Ok(Oid(first))));
                    first += count;
                }
            }
        }
        let wanted: u64 = state.waiting.iter().map(|(count, _)| count).sum();
        let after = self.next.load(Ordering::Relaxed).saturating_add(wanted);
        if after > OIDS_END {
            answers.extend(state.waiting.drain(..).map(|(_, done)| (done, Err(none_left(after - wanted)))));
        }
        let raise = if state.waiting.is_empty() { Raise::Nothing } else { state.raise(after) };
        drop(state);
        answers.into_iter().for_each(|(done, answer)| done(answer));
        raise
    }

    /// Everything up to an oid counts as handed out, unless that leaves a gap that cannot be meant.
    fn take_up_to(&self, greatest: Oid) -> Result<(), Fault> {
        let most = self.next.load(Ordering::Acquire).saturating_add(1 << 32);
        if greatest.0 >= most.min(1 << 63) {
            let message = format!("oid {greatest} is too far above those handed out; take oids below {}", Oid(most));
            return Err(Fault::invalid(message));
        }
        self.observe(greatest);
        Ok(())
    }

    /// A restored transaction brings oids of its own: everything up to `seen` counts as handed out.
    pub(crate) fn observe(&self, seen: Oid) {
        let _state = self.state.lock();
        self.next.fetch_max(seen.0.saturating_add(1), Ordering::AcqRel);
    }

    /// What is on the disk, or on its way there: a ceiling below it would hand out again what was handed out.
    pub(crate) fn ceiling(&self) -> u64 {
        let state = self.state.lock();
        state.raising_to.unwrap_or(0).max(state.ceiling)
    }

    /// A ceiling is on the disk. One that is not our own was that of another server, which may have handed out everything
    /// below it.
    pub(crate) fn stored_ceiling(&self, ceiling: u64) {
        let mut state = self.state.lock();
        if ceiling > state.ceiling && state.raising_to != Some(ceiling) {
            self.next.fetch_max(ceiling, Ordering::AcqRel);
        }
        state.ceiling = state.ceiling.max(ceiling);
    }
}

fn none_left(next: u64) -> Fault {
    let message =
        format!("so many oids are not left behind {}; a restored transaction has taken the last ones", Oid(next));
    Fault::new(FaultKind::TooLarge, message)
}

impl State {
    // A block further than what is wanted.
    fn raise(&mut self, wanted: u64) -> Raise {
        if self.raising_to.is_some() {
            return Raise::Nothing;
        }
        let to = wanted.max(self.ceiling).saturating_add(BLOCK).min(OIDS_END);
        if to == self.ceiling {
            return Raise::Nothing;
        }
        self.raising_to = Some(to);
        Raise::To(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex as StdMutex;

    fn taker(into: &Arc<StdMutex<Vec<u64>>>) -> Done<Oid> {
        let into = into.clone();
        Box::new(move |oid| into.lock().expect("no panic holds it").push(oid.map_or(0, |oid| oid.0)))
    }

    #[test]
    fn nothing_is_handed_out_above_the_written_ceiling() {
        let got = Arc::new(StdMutex::new(Vec::new()));
        let oids = Oids::new(0, Oid(0));
        let Raise::To(to) = oids.take(10, taker(&got)) else { panic!("the first block must be written first") };
        assert!(matches!(oids.take(5, taker(&got)), Raise::Nothing));
        assert!(got.lock().expect("lock").is_empty());
        oids.stored_ceiling(to);
        assert!(matches!(oids.raised(Ok(())), Raise::Nothing));
        assert_eq!(*got.lock().expect("lock"), [16, 26]);
        assert!(oids.is_given_out(Oid(30)) && !oids.is_given_out(Oid(31)));
        let reopened = Oids::new(to, Oid(30));
        assert!(matches!(reopened.take(1, taker(&got)), Raise::To(_)));
        assert_eq!(reopened.next.load(Ordering::Relaxed), to);
    }

    #[test]
    fn who_waits_is_told_when_the_ceiling_cannot_be_written() {
        let got = Arc::new(StdMutex::new(Vec::new()));
        let oids = Oids::new(0, Oid(0));
        oids.take(10, taker(&got));
        assert!(matches!(oids.raised(Err(Fault::invalid("no"))), Raise::Nothing));
        assert_eq!(*got.lock().expect("lock"), [0]);
        assert!(matches!(oids.take(1, taker(&got)), Raise::To(_)));
    }

    #[test]
    fn a_restored_ceiling_counts_as_handed_out_and_a_lower_one_takes_nothing_back() {
        let got = Arc::new(StdMutex::new(Vec::new()));
        let oids = Oids::new(0, Oid(0));
        let Raise::To(to) = oids.take(10, taker(&got)) else { panic!("the first block must be written first") };
        oids.stored_ceiling(to);
        oids.raised(Ok(()));
        oids.stored_ceiling(5);
        assert_eq!(oids.ceiling(), to);
        oids.stored_ceiling(1_000_000);
        assert!(matches!(oids.take(1, taker(&got)), Raise::To(_)), "what another server has handed out is skipped");
        oids.observe(Oid(2_000_000));
        let Raise::Nothing = oids.take(1, taker(&got)) else { panic!("one is on its way") };
        oids.stored_ceiling(oids.ceiling());
        let Raise::To(to) = oids.raised(Ok(())) else { panic!("the block is below what was observed") };
        oids.stored_ceiling(to);
        oids.raised(Ok(()));
        assert_eq!(*got.lock().expect("lock"), [16, 2_000_001, 2_000_002]);
    }

    #[test]
    fn oids_end_and_never_begin_again() {
        let got = Arc::new(StdMutex::new(Vec::new()));
        let oids = Oids::new(0, Oid(0));
        oids.observe(Oid(OIDS_END - 2));
        assert!(matches!(oids.take(2, taker(&got)), Raise::Nothing));
        let Raise::To(to) = oids.take(1, taker(&got)) else { panic!("one is left") };
        assert_eq!(to, OIDS_END);
        oids.stored_ceiling(to);
        oids.raised(Ok(()));
        oids.take(1, taker(&got));
        assert_eq!(*got.lock().expect("lock"), [0, OIDS_END - 1, 0], "0: refused");
    }
}
