//! Owns the memory of requests and of their answers: what is read and not answered yet, and what is answered and not sent, is counted in
//! bytes, of each connection and of all together.
//!
//! ```text
//!   length read ──> whole (`meter`) ──> decoded ──> Charge ──> queues, mergers, writer ──> answer ──> sent: Charge dropped
//!        └── no room: Busy, nothing is kept           └── no room: Busy                       └── no room: Busy instead of it
//! ```
//! Queues behind this are bounded in numbers, and a draft may have hundreds of megabytes; so a number alone bounds nothing. A charge
//! goes with its request wherever that goes, and ends with it. One connection has a share only, so that it cannot make
//! all others' requests `Busy`; and so that several cannot either, the first 64 KiB of each are its own.
//!
//! The pool of long calls is shared in the same way: one connection has half of its places at most. What is counted and outlives its
//! request (sessions, pins, prepared drafts) is the engine's `Share`, which goes with the connection as well.
//!
//! Not counted here: what HTTP/2 buffers for a connection (its window, see docs/operations.md, Memory); what stays of a request after its answer has bounds of its own (overlay, caches, prepared drafts).

use crate::auth::Visitor;
use crate::engine::Share;
use crate::settings::SessionSettings;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::{Fault, FaultKind};

/// When to come back after there was no room.
const RETRY_AFTER_MS: u64 = 200;

/// What a decoded part of a draft, or a cell of a load, takes in memory beside its bytes.
pub(crate) const PART_BYTES: usize = 160;

/// What weighs more than this is not worked on where it was read.
pub(super) const LONG_BYTES: usize = 64 << 10;

/// What every request is counted as at least.
const REQUEST_BYTES: usize = 256;

/// So many bytes of each connection are its own and not taken from what all share: small requests go on, whatever others send.
pub(crate) const OWN_BYTES: usize = 64 << 10;

/// The bytes of the requests of all connections.
pub(crate) struct Budget {
    /// What is left of what all share.
    left: AtomicUsize,
    used: AtomicUsize,
    bytes_max: usize,
    connection_bytes_max: usize,
    connection_calls_max: usize,
    connection_share_percent: usize,
}

impl Budget {
    /// Nothing is used.
    pub(crate) fn new(sessions: &SessionSettings) -> Arc<Budget> {
        let SessionSettings { requests_bytes_max: bytes_max, connection_bytes_max, long_calls_max, .. } = *sessions;
        Arc::new(Budget {
            left: AtomicUsize::new(bytes_max),
            used: AtomicUsize::new(0),
            bytes_max,
            connection_bytes_max,
            connection_calls_max: (long_calls_max / 2).max(1),
            connection_share_percent: sessions.connection_share_percent,
        })
    }

    /// The share of a new connection.
    pub(crate) fn account(self: &Arc<Self>) -> Account {
        let long_calls = Arc::new(Semaphore::new(self.connection_calls_max));
        let counted = Share::new(self.connection_share_percent);
        Account(Arc::new(Allotted { budget: self.clone(), used: Mutex::new(0), long_calls, counted }))
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

struct Allotted {
    budget: Arc<Budget>,
    used: Mutex<usize>,
    long_calls: Arc<Semaphore>,
    counted: Share,
}

impl Allotted {
    fn take(&self, bytes: usize) -> Result<(), Fault> {
        let budget = &*self.budget;
        let busy = |what: &str, max: usize, setting: &str| {
            let message = format!(
                "{what} that are not answered yet, and answers that are not sent, hold {max} bytes, the limit (sessions.{setting}); \
                 send it again later"
            );
            Err(Fault::new(FaultKind::Busy, message).after_ms(RETRY_AFTER_MS))
        };
        let mut used = self.used.lock();
        let after = used.saturating_add(bytes);
        if after > budget.connection_bytes_max {
            return busy("requests of this connection", budget.connection_bytes_max, "connection_bytes_max");
        }
        let shared = shared(after) - shared(*used);
        if budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(shared)).is_err() {
            return busy("requests of all connections", budget.bytes_max, "requests_bytes_max");
        }
        *used = after;
        budget.used.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        let mut used = self.used.lock();
        let after = *used - bytes;
        self.budget.left.fetch_add(shared(*used) - shared(after), Ordering::Relaxed);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        *used = after;
    }
}

/// How much of what a connection uses is not its own.
fn shared(used: usize) -> usize {
    used.saturating_sub(OWN_BYTES)
}

/// The share of one connection.
#[derive(Clone)]
pub(crate) struct Account(Arc<Allotted>);

impl Account {
    /// Takes room for a request; it is free again when the charge is dropped.
    pub(super) fn take(&self, bytes: usize) -> Result<Charge, Fault> {
        let mut charge = Charge { share: self.0.clone(), bytes: 0 };
        charge.add(bytes)?;
        Ok(charge)
    }

    /// Its share of what is counted, and not in bytes of requests.
    pub(super) fn share(&self) -> &Share {
        &self.0.counted
    }

    /// The same for what must be done in any case: the only thing that a connection has may be of any size.
    pub(super) fn take_for(&self, bytes: usize) -> Result<Charge, Fault> {
        let mut charge = Charge { share: self.0.clone(), bytes: 0 };
        charge.becomes(bytes)?;
        Ok(charge)
    }

    /// Waits until the connection may run one more long call. The semaphore is never closed, so there is always one.
    pub(super) async fn long_call(&self) -> Option<OwnedSemaphorePermit> {
        self.0.long_calls.clone().acquire_owned().await.ok()
    }
}

/// Room that a request has taken.
pub(super) struct Charge {
    share: Arc<Allotted>,
    bytes: usize,
}

impl Charge {
    /// Takes more.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), Fault> {
        self.share.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// The request is gone and its answer is there. The only thing that a connection has may be of any size.
    pub(super) fn becomes(&mut self, bytes: usize) -> Result<(), Fault> {
        let Some(more) = bytes.checked_sub(self.bytes) else {
            self.share.give_back(self.bytes - bytes);
            self.bytes = bytes;
            return Ok(());
        };
        let is_only_one = *self.share.used.lock() == self.bytes;
        self.add(more).or_else(|fault| if is_only_one { Ok(()) } else { Err(fault) })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.share.give_back(self.bytes);
    }
}

/// Who is at the other end of a connection, and its share; each request of the connection carries it.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) visitor: Visitor,
    pub(crate) account: Account,
}

/// What a request takes in memory, about.
pub(super) trait Weight {
    fn weight(&self) -> usize;
}

impl Weight for v2::Draft {
    fn weight(&self) -> usize {
        let parts = self.writes.len() + self.read_cells.len() + self.read_ranges.len();
        let cell = |cell: &Option<v2::Cell>| cell.as_ref().map_or(0, |cell| cell.key.len());
        let writes =
            self.writes.iter().map(|write| cell(&write.cell) + write.change.as_ref().map_or(0, Weight::weight));
        let reads = self.read_cells.iter().map(|read| cell(&read.cell));
        let ranges = self.read_ranges.iter().map(|range| range.from.len() + range.to.len());
        let note = self.note.as_ref().map_or(0, |note| note.user.len() + note.description.len() + note.extension.len());
        REQUEST_BYTES + parts * PART_BYTES + note + writes.chain(reads).chain(ranges).sum::<usize>()
    }
}

impl Weight for v2::write::Change {
    fn weight(&self) -> usize {
        match self {
            v2::write::Change::Put(bytes) => bytes.len(),
            v2::write::Change::Delete(_) => 0,
            v2::write::Change::Apply(apply) => apply.class.len() + apply.operation.len(),
        }
    }
}

impl Weight for Option<v2::Draft> {
    fn weight(&self) -> usize {
        self.as_ref().map_or(REQUEST_BYTES, Weight::weight)
    }
}

fn cells(cells: &[v2::Cell]) -> usize {
    REQUEST_BYTES + cells.iter().map(|cell| PART_BYTES + cell.key.len()).sum::<usize>()
}

impl Weight for v2::LoadRequest {
    fn weight(&self) -> usize {
        cells(&self.cells)
    }
}

impl Weight for v2::PrepareRequest {
    fn weight(&self) -> usize {
        self.draft.weight()
    }
}

impl Weight for v2::AmendRequest {
    fn weight(&self) -> usize {
        self.draft.weight() + cells(&self.withdrawn)
    }
}

/// Requests of names, keys and numbers.
macro_rules! small {
    ($($message:ident),*) => {
        $(impl Weight for v2::$message {
            fn weight(&self) -> usize {
                REQUEST_BYTES
            }
        })*
    };
}

small!(HistoryRequest, ObjectsRequest, KindsRequest, FinishRequest, AbortRequest, NewOidsRequest);

impl Weight for v2::UndoRequest {
    /// Whatever the transaction has: it is made here.
    fn weight(&self) -> usize {
        LONG_BYTES + 1
    }
}

impl Weight for Request {
    fn weight(&self) -> usize {
        match self {
            Request::Commit(draft) => draft.weight(),
            Request::Load(load) => load.weight(),
            Request::Prepare(prepare) => prepare.weight(),
            Request::Amend(amend) => amend.weight(),
            Request::Undo(undo) => undo.weight(),
            // Names, keys, numbers.
            _ => REQUEST_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_its_share_and_all_have_theirs() {
        let (requests_bytes_max, connection_bytes_max) = (1_000_000, 600_000);
        let settings = SessionSettings { requests_bytes_max, connection_bytes_max, ..SessionSettings::default() };
        let budget = Budget::new(&settings);
        let (one, other, third) = (budget.account(), budget.account(), budget.account());
        let mut first = one.take(500_000).expect("room");
        assert!(first.add(200_000).is_err_and(|fault| fault.message.contains("connection_bytes_max")));
        assert!(one.take(200_000).is_err_and(|fault| fault.kind == FaultKind::Busy && fault.retry_after_ms > 0));
        let second = other.take(500_000).expect("another connection is not the worse for it");
        assert!(third.take(200_000).is_err_and(|fault| fault.message.contains("requests_bytes_max")));
        let small = third.take(OWN_BYTES).expect("this is its own, whatever others have");
        assert_eq!(budget.used(), 1_000_000 + OWN_BYTES);
        drop((first, small));
        let again = one.take(500_000).expect("free again");
        drop((second, again));
        assert_eq!((budget.used(), budget.left.load(Ordering::Relaxed)), (0, requests_bytes_max));
        assert!(one.take(600_000).is_ok());
        let mut answered = one.take(10).expect("room");
        answered.becomes(1_000_000).expect("the only thing there is");
        let mut another = one.take(200_000).expect("room");
        assert!(another.becomes(600_001).is_err() && another.becomes(400_000).is_ok() && another.becomes(5).is_ok());
        assert_eq!(budget.used(), 15);
        drop((answered, another));
        assert_eq!((budget.used(), budget.left.load(Ordering::Relaxed)), (0, requests_bytes_max));
    }
}
