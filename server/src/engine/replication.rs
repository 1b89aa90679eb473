//! The database among its copies: its seat (who takes writes), its followers (what they have), and the end of the log that is kept in
//! memory for them.
//!
//! ```text
//!   writer ── batch is on the disk here ──> tail ──> each follower's stream        (rpc::follow)
//!     │                                                     │
//!     └── held, until enough followers have it <── have ────┘
//!   publish: feed, visible, receipts
//! ```
//! Without followers, and with `replication.sync = 0`, nothing of this is in a commit's way.

pub(crate) mod followers;
pub(crate) mod seat;
mod seat_file;
mod settings;
pub(crate) mod tail;

pub use seat_file::Heard;
pub(crate) use seat_file::hex;
pub use settings::ReplicationSettings;

use super::Engine;
use crate::clock::Clock;
use crate::engine::answers::Done;
use crate::engine::keep::term_cell::Term;
use crate::engine::pipeline::ask::Ask;
use crate::storage::Txn;
use followers::Followers;
pub(crate) use followers::Twice;
use parking_lot::{Mutex, MutexGuard};
use seat::{Course, Seats};
use std::sync::Arc;
use tail::{After, Tail};
use zeolite_proto::{Behind, Fault, FaultKind, Oid, Receipt, Replication, Seat, Tid};

/// What the loops and the callers share of it.
pub(super) struct Copies {
    pub(super) seats: Seats,
    pub(super) followers: Followers,
    pub(super) tail: Tail,
    settings: ReplicationSettings,
    /// Held while a batch is written: whoever is not the primary any more knows then what it has.
    writing: Mutex<()>,
}

impl Copies {
    pub(super) fn new(settings: ReplicationSettings, seats: Seats, clock: Arc<dyn Clock>, last: Tid) -> Copies {
        let is_primary = seats.seat() == Seat::Primary;
        let unix_ms = unix_ms(clock.as_ref());
        let followers = Followers::new(&settings, clock, if is_primary { last } else { Tid::NONE });
        followers.take_up(seats.followers(), unix_ms);
        let tail = Tail::new(settings.tail_bytes_max, last);
        Copies { tail, seats, followers, settings, writing: Mutex::new(()) }
    }

    /// A batch is about to be written, if this is still who may.
    pub(super) fn write(&self) -> MutexGuard<'_, ()> {
        self.writing.lock()
    }

    /// A batch is on the disk: whoever follows is to have it.
    pub(super) fn written(&self, txns: &Arc<Vec<Txn>>, visible: Tid) {
        let wanted = self.settings.sync > 0 || self.followers.is_followed();
        self.tail.push(txns, wanted, visible);
        self.followers.wake();
    }

    /// What is sealed from now on waits for followers.
    pub(super) fn waits(&self) -> bool {
        self.settings.sync > 0 && self.seats.seat() == Seat::Primary
    }

    /// Why this is not asked of a copy; `None`: it may be.
    pub(super) fn refuses(&self, ask: &Ask) -> Option<Fault> {
        let is_primary = self.seats.seat() == Seat::Primary;
        match ask {
            Ask::Condemn { .. } | Ask::Roll(_) | Ask::ListPrepared(_) => None,
            Ask::Restore(ask) if ask.life.is_some() => is_primary.then(was_promoted),
            Ask::Promote { .. } => None,
            _ => self.seats.check().err(),
        }
    }
}

/// The fault of what comes from a primary that is followed no more.
pub(crate) fn was_promoted() -> Fault {
    Fault::invalid("this copy was promoted, and follows nobody any more")
}

fn unix_ms(clock: &dyn Clock) -> u64 {
    (clock.unix_nanos() / 1_000_000).max(0) as u64
}

impl Engine {
    pub(super) fn copies(&self) -> &Copies {
        &self.copies
    }

    /// What the database is among its copies.
    pub fn seat(&self) -> Seat {
        self.copies.seats.seat()
    }

    /// The newest promotion that it knows; 0: there was none.
    pub fn term(&self) -> u64 {
        self.copies.seats.term()
    }

    /// Refuses what only a primary may do.
    pub(crate) fn check_seat(&self) -> Result<(), Fault> {
        self.copies.seats.check()
    }

    /// Refuses everything of a primary whose followers have not said yet that they have what is in its log since before its start.
    pub(crate) fn check_confirmed(&self) -> Result<(), Fault> {
        match self.copies.waits() && self.copies.followers.awaits_start() {
            false => Ok(()),
            true => {
                let message = format!(
                    "after a start nothing is told before {} of the followers have what is in the log (replication.sync); start a \
                     follower, or start this server with replication.sync = 0",
                    self.copies.settings.sync
                );
                Err(Fault::new(FaultKind::Busy, message).after_ms(50))
            }
        }
    }

    /// Meets a newer term: from now on this is not the primary any more, and after a restart neither. False: it is not newer.
    pub fn fence(&self, term: u64, by: &str) -> Result<bool, Fault> {
        Term::check(term, self.met_term())?;
        let fenced = self.copies.seats.fence(term, by);
        // Also where the disk has not taken it: nothing is written here any more, and whoever waits is told so.
        if !matches!(fenced, Ok(false)) {
            self.copies.followers.wake_writer();
            self.intake().nudge();
        }
        fenced.map_err(super::fault_of)
    }

    /// The same for one that gives its place to a follower: what was admitted is finished, and its followers are given all of it. `done` is
    /// called when that is on the disk, and visible.
    pub(crate) fn hand_over(&self, term: u64, by: &str, done: Box<dyn FnOnce(Vec<Oid>) + Send>) -> Result<(), Fault> {
        self.check_seat()?;
        Term::check(term, self.met_term())?;
        self.copies.seats.hand_over(true);
        let fenced = self.fence(term, by);
        if !matches!(fenced, Ok(true)) {
            self.copies.seats.hand_over(false);
        }
        if !fenced? {
            return Err(Fault::invalid(format!("term {term} is not newer than what this primary knows; it goes on")));
        }
        // Whatever was sealed is before this.
        self.push_control(Ask::Condemn { oids: None, done });
        Ok(())
    }

    /// Whether followers are given what there is: by a primary, also while it hands over.
    pub(crate) fn check_followed(&self) -> Result<(), Fault> {
        if self.copies.seats.hands_over() { Ok(()) } else { self.check_seat() }
    }

    /// How far a follower is behind that has everything up to a tid.
    pub(crate) fn behind_of(&self, have: Tid) -> Behind {
        let (transactions, more) = self.copies.tail.count_after(have);
        let bytes = if transactions == 0 && !more { 0 } else { self.reader().log_bytes_since(have).unwrap_or(0) };
        Behind { transactions, more, bytes }
    }

    /// The newest transaction on the disk; readers may not be told of it yet.
    pub fn written(&self) -> Tid {
        self.copies.tail.newest()
    }

    /// The same, when what a primary that is one no more was about to write is written: from then on nothing comes but what it follows.
    pub(crate) fn written_at_last(&self) -> Tid {
        drop(self.copies.write());
        self.written()
    }

    /// The primary has all of this as well, or there is none and this copy is to be it: what was held back is told.
    pub(crate) fn is_shared(&self, tid: Tid) {
        self.copies.followers.need_not_confirm(tid);
    }

    /// What comes behind a tid, for a follower: as much as a message is to hold.
    pub(crate) fn after(&self, tid: Tid, message_bytes: usize) -> After {
        self.copies.tail.after(tid, message_bytes)
    }

    /// Whether commits wait for what a follower says to have.
    pub(crate) fn waits_for_followers(&self) -> bool {
        self.copies.settings.sync > 0
    }

    /// A follower is there; see [`Followers::join`].
    pub(crate) fn follower_joins(
        &self,
        who: ([u8; 16], u64),
        about: (&str, Tid),
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Result<u64, Twice>, Fault> {
        self.copies.followers.join(who, about, wake)
    }

    /// Keeps who follows for the next life of the server, if there is news of it.
    pub(super) fn keep_followers(&self, at_once: bool) {
        let Some(known) = self.copies.followers.to_keep(unix_ms(self.clock()), at_once) else { return };
        if let Err(error) = self.copies.seats.keep_followers(known) {
            self.copies.followers.not_kept();
            tracing::warn!(%error, "who follows is not kept: after a restart a pack does not wait for one that is away");
        }
    }

    /// It says what it has; false: it has come anew since.
    pub(crate) fn follower_has(&self, id: [u8; 16], number: u64, have: Tid) -> bool {
        self.copies.followers.has(id, number, have)
    }

    /// What it has said to have; none: it has come anew since.
    pub(crate) fn follower_have(&self, id: [u8; 16], number: u64) -> Option<Tid> {
        self.copies.followers.have(id, number)
    }

    /// A connection of it has ended.
    pub(crate) fn follower_left(&self, id: [u8; 16], number: u64) {
        self.copies.followers.left(id, number);
    }

    /// The server stops, and what is to be had was written: streams to followers end.
    pub(crate) fn end_followers(&self) {
        self.copies.followers.end();
    }

    /// Whether they do.
    pub(crate) fn followers_end(&self) -> bool {
        self.copies.followers.is_ending()
    }

    /// The newest tid of another copy's life that is the same here.
    pub(crate) fn shared_to(&self, timeline: u64, tid: Tid) -> Tid {
        self.reader().shared_to(timeline, tid)
    }

    /// The life of the store that a transaction is of.
    pub(crate) fn timeline_of(&self, tid: Tid) -> u64 {
        self.reader().timeline_of(tid)
    }

    /// History is said to be packed up to here where this copy began.
    pub(crate) fn packed_said(&self) -> Tid {
        self.reader().packed_said()
    }

    /// What its primary had when it was last heard, perhaps in a life before this one.
    pub(crate) fn heard(&self) -> Heard {
        self.copies.seats.heard()
    }

    /// Keeps that for the next one.
    pub(crate) fn keep_heard(&self, heard: Heard) -> Result<(), Fault> {
        self.copies.seats.keep_heard(heard).map_err(super::fault_of)
    }

    /// Which life of the server this is, for the primary that it follows.
    pub(crate) fn copy_life(&self) -> u64 {
        self.copies.seats.life()
    }

    /// Another server has this one's copy id: it takes a new one.
    pub(crate) fn renew_copy_id(&self) -> Result<(), Fault> {
        self.copies.seats.renew_id().map_err(super::fault_of)
    }

    /// Which copy this is.
    pub(crate) fn copy_id(&self) -> [u8; 16] {
        self.copies.seats.id()
    }

    /// The newest term that it has met.
    pub(crate) fn met_term(&self) -> u64 {
        self.copies.seats.met()
    }

    /// Begins to follow a primary of a term.
    pub(crate) fn meet_term(&self, term: u64) -> Result<(), Fault> {
        Term::check(term, self.met_term())?;
        self.copies.seats.meet(term).map_err(super::fault_of)
    }

    /// Of a promotion of this copy now.
    pub(crate) fn next_term(&self) -> u64 {
        Term::after(self.met_term(), self.copy_id())
    }

    /// Calls back whenever the seat changes: it must not block.
    pub(crate) fn on_seat_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.copies.seats.on_change(listener);
    }

    /// Tells how following goes.
    pub(crate) fn course(&self, change: impl FnOnce(&mut Course)) {
        self.copies.seats.follows(change);
    }

    /// Whether it was promoted before its start, and has to ask whether that still holds.
    pub(crate) fn is_returning(&self) -> bool {
        self.copies.seats.is_returning()
    }

    /// It does.
    pub(crate) fn resume_seat(&self) {
        self.copies.seats.resume();
    }

    /// A new term begins, with a life of its own: durable, and in force, when `done` is called.
    pub(crate) fn promote(&self, term: u64, done: Done<Receipt>) {
        self.push_control(Ask::Promote { term, done });
    }

    /// How the database stands among its copies.
    pub fn replication(&self) -> Replication {
        let mut told = self.copies.seats.told();
        told.store_id = self.store_id();
        told.newest = self.written();
        told.sync = self.copies.settings.sync;
        told.keep_s = self.copies.settings.keep_s;
        (told.waiting, told.waiting_ms) = self.copies.followers.waiting();
        told.problem = told.problem.or_else(|| self.check_confirmed().err().map(|fault| fault.message));
        told.followers = self.copies.followers.told(&|have| self.behind_of(have));
        told
    }
}

#[cfg(test)]
mod tests;
