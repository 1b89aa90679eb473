//! Owns the seat of a database: primary, follower or fenced, and the term that it knows.
//!
//! ```text
//!   primary ── meets a newer term ──> fenced ── follows, and has that term in its log ──> follower
//!      ^                                                                                     │
//!      └──────────────────────── promoted: a new term in its own log ────────────────────────┘
//! ```
//! The term is in the log (`keep::term_cell`); what is not the log's is in a file beside it (`seat_file`). Whose name the newest term
//! has is the primary of that term. A follower that was promoted and is told to follow when it starts again waits until it has asked
//! whether somebody else was promoted since (*returning*).

use super::seat_file::{Heard, Known, SeatFile};
use crate::clock::Clock;
use crate::engine::ids;
use crate::engine::keep::term_cell::Term;
use crate::storage::StoreError;
use crate::storage::disk::Disk;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use zeolite_proto::{Behind, Fault, FaultKind, Replication, Seat};

/// When to come back.
const RETRY_AFTER_MS: u64 = 100;

type Listener = Box<dyn Fn() + Send + Sync>;

/// The seat in force.
pub(crate) struct Seats {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    seed: u64,
    /// A copy of what is decided under the lock.
    seat: AtomicU8,
    term: AtomicU64,
    state: Mutex<State>,
    listeners: Mutex<Vec<Listener>>,
}

struct State {
    file: SeatFile,
    /// The file is there.
    kept: bool,
    by: [u8; 16],
    returning: bool,
    /// It was fenced by a follower that is given all there is.
    hands_over: bool,
    /// Why the fence in force is not on the disk; none: it is.
    not_kept: Option<String>,
    course: Course,
    /// When it last had all that its primary had.
    whole_at: Duration,
}

/// How following goes, as whoever does it tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Course {
    /// Whom it follows.
    pub primary: String,
    /// It hears him.
    pub connected: bool,
    /// Why it does not, and what to do.
    pub problem: Option<String>,
    /// How far behind it is.
    pub behind: Behind,
}

impl Seats {
    /// As the log and the file say it; `follows`: the settings want it to follow.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        term: Term,
        follows: bool,
        seed: u64,
    ) -> Result<Seats, StoreError> {
        let found = SeatFile::read(disk.as_ref())?;
        let kept = found.is_some();
        let file = found.unwrap_or_else(|| SeatFile::new(new_id(seed, 0)));
        let promoted = kept && term.by == file.id;
        let whole_at = clock.steady();
        let state = State {
            file,
            kept,
            by: term.by,
            returning: follows && promoted,
            hands_over: false,
            not_kept: None,
            course: Course::default(),
            whole_at,
        };
        let seats = Seats {
            disk,
            clock,
            seed,
            seat: AtomicU8::new(0),
            term: AtomicU64::new(term.number),
            state: Mutex::new(state),
            listeners: Mutex::default(),
        };
        let mut state = seats.state.lock();
        if follows && !state.file.follows {
            state.keep(seats.disk.as_ref(), |file| file.follows = true)?;
        }
        seats.decide(&state);
        drop(state);
        Ok(seats)
    }

    fn decide(&self, state: &State) -> bool {
        let seat = if state.file.fenced_term > self.term() {
            Seat::Fenced
        } else if state.returning || (state.file.follows && !(state.kept && state.by == state.file.id)) {
            Seat::Follower
        } else {
            Seat::Primary
        };
        self.seat.swap(seat as u8, Ordering::SeqCst) != seat as u8
    }

    /// What it is.
    pub(crate) fn seat(&self) -> Seat {
        match self.seat.load(Ordering::SeqCst) {
            0 => Seat::Primary,
            1 => Seat::Follower,
            _ => Seat::Fenced,
        }
    }

    /// The newest in the log.
    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::SeqCst)
    }

    /// The newest that it has met, in the log or not.
    pub(crate) fn met(&self) -> u64 {
        let state = self.state.lock();
        self.term().max(state.file.fenced_term).max(state.file.met_term)
    }

    /// Begins to follow a primary of a term: kept before anything of it is taken, so that a promotion here is never of the same number.
    pub(crate) fn meet(&self, term: u64) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        match term > self.term().max(state.file.met_term) {
            true => state.keep(self.disk.as_ref(), |file| file.met_term = term),
            false => Ok(()),
        }
    }

    /// Which copy this is.
    pub(crate) fn id(&self) -> [u8; 16] {
        self.state.lock().file.id
    }

    /// Becomes another copy: the one of this id is a different server, of whose data directory this one's is a copy.
    pub(crate) fn renew_id(&self) -> Result<(), StoreError> {
        let id = new_id(self.seed, self.clock.steady().as_nanos() as u64 | 1);
        let mut state = self.state.lock();
        let kept = state.keep(self.disk.as_ref(), |file| (file.id, file.follows) = (id, true));
        let changed = self.decide(&state);
        drop(state);
        self.tell(changed);
        kept
    }

    /// Which life of the process this is.
    pub(crate) fn life(&self) -> u64 {
        ids::public(self.seed, "life", 0)
    }

    /// What its primary had when it was last heard.
    pub(crate) fn heard(&self) -> Heard {
        self.state.lock().file.heard
    }

    /// The same, for the next life of the process.
    pub(crate) fn keep_heard(&self, heard: Heard) -> Result<(), StoreError> {
        self.state.lock().keep(self.disk.as_ref(), |file| file.heard = heard)
    }

    /// The followers that it knew as a primary.
    pub(super) fn followers(&self) -> Vec<Known> {
        self.state.lock().file.followers.clone()
    }

    /// The same, for the next life of the process.
    pub(super) fn keep_followers(&self, followers: Vec<Known>) -> Result<(), StoreError> {
        self.state.lock().keep(self.disk.as_ref(), |file| file.followers = followers)
    }

    /// Calls back whenever the seat changes: it must not block.
    pub(crate) fn on_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.listeners.lock().push(Box::new(listener));
    }

    /// What fences it next is a follower that it gives its place to.
    pub(crate) fn hand_over(&self, begins: bool) {
        self.state.lock().hands_over = begins;
    }

    /// Whether that is so.
    pub(crate) fn hands_over(&self) -> bool {
        self.state.lock().hands_over
    }

    /// The log has a new term.
    pub(crate) fn took(&self, term: Term) {
        let mut state = self.state.lock();
        self.term.store(term.number, Ordering::SeqCst);
        state.by = term.by;
        (state.returning, state.hands_over) = (false, false);
        if term.by == state.file.id {
            state.course = Course::default();
        }
        let changed = self.decide(&state);
        drop(state);
        self.tell(changed);
    }

    /// Nobody else was promoted since this copy was: it is the primary.
    pub(crate) fn resume(&self) {
        let mut state = self.state.lock();
        state.returning = false;
        let changed = self.decide(&state);
        drop(state);
        self.tell(changed);
    }

    /// Whether it was promoted, and has to ask whether that still holds.
    pub(crate) fn is_returning(&self) -> bool {
        self.state.lock().returning
    }

    /// Meets a term; true: it is newer than any before. Where the disk does not take that, it is fenced all the same, says so, and tries
    /// again when it is told again.
    pub(crate) fn fence(&self, term: u64, by: &str) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        if term <= self.term().max(state.file.fenced_term) {
            return if state.not_kept.is_some() {
                state.keep(self.disk.as_ref(), |_| ()).map(|()| false)
            } else {
                Ok(false)
            };
        }
        let by: String = by.chars().take(200).collect();
        // Whether the disk takes it or not, this server takes no writes any more.
        let kept = state.keep(self.disk.as_ref(), |file| (file.fenced_term, file.fenced_by) = (term, by.clone()));
        let before = self.seat();
        state.not_kept = kept.as_ref().err().map(ToString::to_string);
        state.returning = false;
        let changed = self.decide(&state);
        drop(state);
        if before == Seat::Primary {
            tracing::error!(
                term = self.term(),
                newer = term,
                by,
                "this server is fenced: another copy was promoted, and nothing is written here any more; see docs/follower.md, the way back"
            );
        }
        self.tell(changed);
        if !changed {
            // Whoever looks for the primary of an older term has a newer one to look for.
            self.wake();
        }
        kept.map(|()| true)
    }

    fn tell(&self, changed: bool) {
        if changed {
            tracing::info!(seat = %self.seat(), term = self.term(), "the seat has changed");
            self.wake();
        }
    }

    fn wake(&self) {
        self.listeners.lock().iter().for_each(|listener| listener());
    }

    /// Refuses what only a primary may do.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let message = match self.seat() {
            Seat::Primary => return Ok(()),
            Seat::Follower => {
                let primary = self.state.lock().course.primary.clone();
                let of = if primary.is_empty() { String::new() } else { format!(" of {primary}") };
                format!(
                    "this server is a follower{of} and takes no writes: write to the primary, or promote this one if that is lost \
                     (zeolite promote)"
                )
            }
            Seat::Fenced => {
                let state = self.state.lock();
                let (by, term) = (state.file.fenced_by.clone(), state.file.fenced_term);
                let by = if by.is_empty() { "another copy".to_owned() } else { by };
                format!(
                    "this server is fenced: {by} was promoted (term {term}, and here is {}); write there, and make this one its follower \
                     (zeolite follow)",
                    self.term()
                )
            }
        };
        Err(Fault::new(FaultKind::NotPrimary, message).after_ms(RETRY_AFTER_MS))
    }

    /// Tells how following goes.
    pub(crate) fn follows(&self, change: impl FnOnce(&mut Course)) {
        let mut state = self.state.lock();
        change(&mut state.course);
        if state.course.connected && state.course.behind == Behind::default() {
            state.whole_at = self.clock.steady();
        }
    }

    /// How it stands, but for what others know.
    pub(crate) fn told(&self) -> Replication {
        let state = self.state.lock();
        let seat = self.seat();
        let is_whole = state.course.connected && state.course.behind == Behind::default();
        let behind_ms = if seat == Seat::Follower && !is_whole {
            self.clock.steady().saturating_sub(state.whole_at).as_millis() as u64
        } else {
            0
        };
        let primary = match seat {
            Seat::Fenced if state.course.primary.is_empty() => state.file.fenced_by.clone(),
            Seat::Primary => String::new(),
            _ => state.course.primary.clone(),
        };
        let alone = || {
            Some(
                "nobody is followed: this is a follower, and no primary is named (zeolite follow, or promote)"
                    .to_owned(),
            )
        };
        let fenced = || self.check().err().map(|fault| fault.message);
        let problem = match seat {
            Seat::Primary => None,
            Seat::Follower => state.course.problem.clone().or_else(|| if primary.is_empty() { alone() } else { None }),
            Seat::Fenced => {
                let not_kept = state.not_kept.as_ref().map(|why| {
                    format!(
                        "it is fenced, and its disk has not taken that ({why}): started again as it is it would take itself for the \
                         primary; see to the disk, then make it a follower (zeolite follow)"
                    )
                });
                let problem = not_kept.or(state.course.problem.clone());
                drop(state);
                return Replication {
                    seat,
                    term: self.term(),
                    primary,
                    problem: problem.or_else(fenced),
                    ..Replication::default()
                };
            }
        };
        let Course { connected, behind, .. } = state.course.clone();
        Replication {
            seat,
            term: self.term(),
            primary,
            problem,
            connected,
            behind,
            behind_ms,
            ..Replication::default()
        }
    }
}

fn new_id(seed: u64, count: u64) -> [u8; 16] {
    let half = |which| u128::from(ids::public(seed, which, count));
    (half("copy") << 64 | half("copy's other half")).to_be_bytes()
}

impl State {
    fn keep(&mut self, disk: &dyn Disk, change: impl FnOnce(&mut SeatFile)) -> Result<(), StoreError> {
        change(&mut self.file);
        self.file.write(disk)?;
        (self.kept, self.not_kept) = (true, None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;
    use crate::storage::disk::SimDisk;

    fn open(disk: &Arc<SimDisk>, term: Term, follows: bool) -> Seats {
        Seats::open(disk.clone(), Arc::new(HandClock::at(0)), term, follows, 5).expect("opens")
    }

    #[test]
    fn a_seat_outlives_a_restart() {
        let disk = Arc::new(SimDisk::new());
        assert_eq!(open(&disk, Term::default(), false).seat(), Seat::Primary);
        let follower = open(&disk, Term::default(), true);
        assert_eq!(follower.seat(), Seat::Follower);
        assert_eq!(open(&disk, Term::default(), false).seat(), Seat::Follower, "whoever starts it without saying so");
        follower.meet(4).expect("kept");
        assert_eq!((open(&disk, Term::default(), true).met(), follower.seat()), (4, Seat::Follower));
        let mine = Term { number: 5, by: follower.id() };
        follower.took(mine);
        assert_eq!((follower.seat(), follower.term()), (Seat::Primary, 5));
        assert_eq!(open(&disk, mine, false).seat(), Seat::Primary);
        let returning = open(&disk, mine, true);
        assert_eq!((returning.seat(), returning.is_returning()), (Seat::Follower, true), "it asks first");
        returning.resume();
        assert_eq!(returning.seat(), Seat::Primary);
        assert!(returning.fence(6, "b").expect("kept"));
        assert!(!returning.fence(6, "c").expect("known"));
        assert_eq!(open(&disk, mine, false).seat(), Seat::Fenced);
        let back = open(&disk, mine, true);
        assert_eq!(back.seat(), Seat::Fenced, "until its log has the term");
        back.took(Term { number: 6, by: [9; 16] });
        assert_eq!(back.seat(), Seat::Follower);
    }
}
