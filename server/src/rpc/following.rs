//! Owns the follower's way in: what its primary sends is decoded, joined, and given to the engine, which takes it as it came.
//!
//! Whoever runs the server keeps the connection to the primary (`zeolite follow`), and has one of these for each database. It sees the log
//! as bytes, so that it is decoded once: here.
//!
//! ```text
//!   page of bytes ──> transactions, missing blobs ──> blobs are brought ──> engine ──> on the disk: `have` moves
//! ```
//! The page goes in runs of [`RUN_MAX`] transactions at most: a run is let in as one, and is said to be on the disk when the last of it is.

use super::restore::weight;
use super::transactions::Joiner;
use super::{Rpc, encode};
use crate::databases::Database;
use crate::engine::{Course, Engine, Heard, Restoring};
use crate::storage::{Txn, blobs_of_record};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use zeolite_proto::wire::v2;
use zeolite_proto::{BlobId, Fault, FaultKind, Promoted, Replication, Seat, Tid};

/// Transactions that are on their way at once, and their bytes.
const IN_FLIGHT_MAX: usize = 1024;
const IN_FLIGHT_KIB_MAX: usize = 64 << 10;
/// Transactions that are let in, and said to be on the disk, as one.
const RUN_MAX: usize = 256;

/// An operator's word that a follower is to be the primary.
pub struct Promotion {
    /// Also where another copy has more, or cannot be asked.
    pub anyway: bool,
    /// The primary gives all it has first.
    pub hand_over: bool,
    /// To be told how it went.
    pub done: oneshot::Sender<Result<Promoted, Fault>>,
}

impl Promotion {
    /// It is not done.
    pub fn refuse(self, why: &str) {
        // Who has gone away wants no answer.
        drop(self.done.send(Err(Fault::invalid(why))));
    }
}

/// What a follower says of itself to its primary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyStanding {
    /// Which copy.
    pub id: [u8; 16],
    /// That it was begun with, also while it has nothing.
    pub store_id: u64,
    /// The life of the store.
    pub timeline: u64,
    /// Everything up to here is on the disk.
    pub have: Tid,
    /// The newest term that it has met.
    pub term: u64,
    /// History is packed up to here where its copy began.
    pub packed_said: Tid,
    /// Which life of this server.
    pub life: u64,
}

/// One database, for whoever follows with it.
pub struct Following {
    database: Arc<Database>,
    promotions: Mutex<Option<mpsc::Receiver<Promotion>>>,
    seat: watch::Receiver<Seat>,
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

impl Following {
    pub(crate) fn new(rpc: &Rpc, database: Arc<Database>) -> Following {
        let (sender, promotions) = mpsc::channel(1);
        rpc.promoters.lock().insert(database.name().clone(), sender);
        let (told, seat) = watch::channel(database.engine().seat());
        let engine = Arc::downgrade(database.engine());
        database.engine().on_seat_change(move || {
            if let Some(engine) = engine.upgrade() {
                told.send_replace(engine.seat());
            }
        });
        Following {
            database,
            promotions: Mutex::new(Some(promotions)),
            seat,
            places: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            room: Arc::new(Semaphore::new(IN_FLIGHT_KIB_MAX)),
        }
    }

    fn engine(&self) -> &Arc<Engine> {
        self.database.engine()
    }

    /// Which database.
    pub fn database(&self) -> &str {
        self.database.name()
    }

    /// What it is, as it changes.
    pub fn seat(&self) -> watch::Receiver<Seat> {
        self.seat.clone()
    }

    /// What it says of itself.
    pub fn standing(&self) -> CopyStanding {
        let engine = self.engine();
        let have = engine.written();
        CopyStanding {
            id: engine.copy_id(),
            store_id: engine.store_id(),
            timeline: engine.timeline(),
            have,
            term: engine.met_term(),
            packed_said: engine.packed_said(),
            life: engine.copy_life(),
        }
    }

    /// What the primary had when it was last heard, perhaps in a life of this server before this one.
    pub fn heard(&self) -> Heard {
        self.engine().heard()
    }

    /// Keeps that for the next one; durable when this returns.
    pub async fn keep_heard(&self, heard: Heard) -> Result<(), Fault> {
        let engine = self.engine().clone();
        tokio::task::spawn_blocking(move || engine.keep_heard(heard)).await.unwrap_or_else(|_| Err(encode::lost()))
    }

    /// Another server is the same copy: this one becomes another.
    pub async fn renew_id(&self) -> Result<(), Fault> {
        let engine = self.engine().clone();
        tokio::task::spawn_blocking(move || engine.renew_copy_id()).await.unwrap_or_else(|_| Err(encode::lost()))
    }

    /// The store's identity.
    pub fn store_id(&self) -> u64 {
        self.engine().store_id()
    }

    /// How it stands among its copies.
    pub fn replication(&self) -> Replication {
        self.engine().replication()
    }

    /// History is packed up to here.
    pub fn packed_to(&self) -> Tid {
        self.engine().packed_to()
    }

    /// Its transactions behind a tid, the oldest first: a few, and how many there are in all, up to a thousand.
    pub fn own_behind(&self, tid: Tid) -> (Vec<Tid>, usize) {
        let engine = self.engine();
        let page = engine.log_page(tid.next(), Tid::NONE, 1000).unwrap_or_default();
        (page.iter().map(|txn| txn.tid).take(5).collect(), page.len())
    }

    /// Tells how it goes, for status, metrics and check.
    pub fn tell(&self, change: impl FnOnce(&mut Course)) {
        self.engine().course(change);
    }

    /// Another copy was promoted.
    pub fn fence(&self, term: u64, by: &str) -> Result<bool, Fault> {
        self.engine().fence(term, by)
    }

    /// It was promoted before its start, and asks whether somebody else was since.
    pub fn is_returning(&self) -> bool {
        self.engine().is_returning()
    }

    /// Nobody was.
    pub fn resume(&self) {
        self.engine().resume_seat();
    }

    /// Begins a new term: durable when this returns.
    pub async fn promote(&self) -> Result<(u64, Tid), Fault> {
        promote(self.engine()).await
    }

    /// An operator's words that it is to be promoted; for one who listens.
    pub fn promotions(&self) -> Option<mpsc::Receiver<Promotion>> {
        self.promotions.lock().take()
    }

    /// Waits until nothing that was taken, or was written as the primary, is on its way.
    pub async fn settled(&self) {
        drop(self.places.acquire_many(IN_FLIGHT_MAX as u32).await);
        written_at_last(self.engine()).await;
    }

    /// The primary has everything that this copy has up to a tid, also what was held back here when this was the primary.
    pub fn is_shared(&self, tid: Tid) {
        self.engine().is_shared(tid);
    }

    /// Begins to follow a primary of a term; kept before anything of it is taken.
    pub fn meet(&self, term: u64) -> Result<(), Fault> {
        self.engine().meet_term(term)
    }

    /// Asks at any time whether the primary of a term is still to be followed.
    pub fn of_term(&self, term: u64) -> OfTerm {
        OfTerm { engine: self.engine().clone(), term }
    }

    /// Begins to take what a primary sends.
    pub fn begin(&self) -> Taking {
        let (have, _) = watch::channel(self.engine().written());
        Taking {
            engine: self.engine().clone(),
            restoring: None,
            joiner: Joiner::default(),
            packed_to: Tid::NONE,
            have: Arc::new(have),
            failed: Arc::default(),
            places: self.places.clone(),
            room: self.room.clone(),
        }
    }
}

/// Begins a new term, whoever asks for it.
pub(super) async fn promote(engine: &Arc<Engine>) -> Result<(u64, Tid), Fault> {
    if engine.seat() != Seat::Primary {
        // What was held back while it was the primary goes along.
        let has = written_at_last(engine).await;
        engine.is_shared(has);
    }
    let term = engine.next_term();
    let (done, answer) = oneshot::channel();
    engine.promote(term, Box::new(move |result| drop(done.send(result))));
    let receipt = answer.await.unwrap_or_else(|_| Err(encode::lost()))?;
    Ok((term, receipt.tid))
}

/// What is on the disk, when the write that there may be is over.
async fn written_at_last(engine: &Arc<Engine>) -> Tid {
    let writing = engine.clone();
    tokio::task::spawn_blocking(move || writing.written_at_last()).await.unwrap_or_else(|_| engine.written())
}

/// The term of the primary that a connection is to.
#[derive(Clone)]
pub struct OfTerm {
    engine: Arc<Engine>,
    term: u64,
}

impl OfTerm {
    /// Why that primary is not followed any more, and nothing is confirmed to it; none: it is.
    pub fn is_over(&self) -> Option<String> {
        let (met, term) = (self.engine.met_term(), self.term);
        if met > term {
            return Some(format!(
                "the primary of term {term} was followed, and term {met} has begun: its primary is looked for"
            ));
        }
        (self.engine.seat() == Seat::Primary).then(|| "this server is the primary itself now".to_owned())
    }
}

/// One connection to a primary, as far as it is taken.
pub struct Taking {
    engine: Arc<Engine>,
    restoring: Option<(u64, Restoring)>,
    joiner: Joiner,
    packed_to: Tid,
    have: Arc<watch::Sender<Tid>>,
    failed: Arc<Mutex<Option<Fault>>>,
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// What a page has brought.
pub struct Page {
    timeline: u64,
    txns: Vec<(Txn, Tid)>,
    /// Blobs that these name, and that are not whole here.
    pub missing: Vec<BlobId>,
}

impl Taking {
    /// What is on the disk, as it moves.
    pub fn have(&self) -> watch::Receiver<Tid> {
        self.have.subscribe()
    }

    /// Why the engine has refused one: none behind it is taken.
    pub fn failed(&self) -> Option<Fault> {
        self.failed.lock().clone()
    }

    /// Reads a page.
    pub fn read(&mut self, log: Bytes) -> Result<Page, Fault> {
        let page = v2::LogPage::decode(log).map_err(|error| Fault::invalid(format!("a page of the log: {error}")))?;
        let (mut txns, mut missing) = (Vec::new(), Vec::new());
        for message in page.transactions {
            self.packed_to = self.packed_to.max(Tid(message.packed_to));
            if let Some(txn) = self.joiner.add(message, self.engine.limits()).map_err(larger_here)? {
                let records = txn.writes.iter().filter_map(|write| write.record.as_ref());
                missing.extend(records.flat_map(|record| blobs_of_record(record)));
                txns.push((txn, std::mem::take(&mut self.packed_to)));
            }
        }
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|id| self.engine.hold_named(vec![*id]).is_err());
        Ok(Page { timeline: page.timeline, txns, missing })
    }

    /// Gives what a page has brought to the engine, as fast as that takes it.
    pub async fn add(&mut self, page: Page) {
        if self.restoring.as_ref().is_none_or(|(timeline, _)| *timeline != page.timeline) {
            self.restoring = Some((page.timeline, self.engine.following(page.timeline)));
        }
        let Some((_, restoring)) = &self.restoring else { return };
        let mut txns = page.txns.into_iter().peekable();
        while txns.peek().is_some() {
            let run: Vec<_> = txns.by_ref().take(RUN_MAX).collect();
            let permits = Arc::new(self.permits(&run).await);
            let last = run.last().map_or(Tid::NONE, |(txn, _)| txn.tid);
            for (txn, packed_to) in run {
                let (permits, have, failed) = (permits.clone(), self.have.clone(), self.failed.clone());
                let is_last = txn.tid == last;
                let done = move |result: Result<Tid, Fault>| {
                    drop(permits);
                    match result {
                        // Who waits for it is this connection's, which may be over.
                        Ok(tid) if is_last => drop(have.send_replace(tid)),
                        Ok(_) => {}
                        Err(fault) => {
                            failed.lock().get_or_insert(fault);
                            have.send_modify(|_| {});
                        }
                    }
                };
                restoring.add(txn, packed_to, Box::new(done));
            }
        }
    }

    async fn permits(&self, run: &[(Txn, Tid)]) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let kib = run.iter().map(|(txn, _)| weight(txn) / 1024 + 1).sum::<usize>().min(IN_FLIGHT_KIB_MAX) as u32;
        let place = self.places.clone().acquire_many_owned(run.len() as u32).await.ok()?;
        Some((place, self.room.clone().acquire_many_owned(kib).await.ok()?))
    }
}

fn larger_here(fault: Fault) -> Fault {
    match fault.kind {
        FaultKind::TooLarge => {
            let message =
                format!("{}; a follower needs the limits of its primary ([limits] in its settings)", fault.message);
            Fault { message, ..fault }
        }
        _ => fault,
    }
}
