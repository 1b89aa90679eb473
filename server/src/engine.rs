//! The engine: drafts in, an order, durable revisions out.
//!
//! ```text
//!   commit() ── admit, commit key ──> intake ──> sequencer ──> writer ──> overlay, feed, visible, receipts
//!    caller's task, parallel         bounded     owns order    owns the appender
//!                                                   │ ▲
//!                                                   ▼ │ expensive resolvers
//!                                                  mergers              settle loop: overlay ──> index
//! ```
//! Two threads own state, in a line, never a ring: the sequencer owns order, the writer owns the appender. Each loop is a
//! `turn()` that its thread repeats and a test calls by hand. Lock order: none is held while another is taken, except
//! that the feed's is held while a session's outgoing queue takes a batch.

mod backlog;
mod caller;
mod check;
pub mod clock;
mod commit;
mod condemned;
mod draft;
pub mod feed;
mod gates;
mod head;
mod heat;
mod histogram;
mod intake;
mod job;
mod keeper;
mod keys;
mod loops;
mod merge;
mod mergers;
mod mode;
pub mod note;
mod oids;
mod pack;
mod prepare;
mod pressure;
mod read;
mod recent;
mod sequencer;
mod settings;
mod slow;
mod snapshot;
mod status;
mod system;
mod undo;
mod verify;
mod writer;

use crate::store::Progress;
use crate::store::disk::Disk;
use crate::store::{Appender, IndexKind, Opened, Reader, Recovered, Settler, Store, StoreError, StoreSettings, Txn};
use backlog::Backlog;
use clock::Clock;
use feed::{Feed, FeedSink};
use gates::Gates;
use heat::Heat;
use intake::Intake;
use job::{Answer, DraftJob, Hop, Origin};
use keys::Keys;
use mode::Modes;
use oids::{Oids, Raise};
use pack::LongWork;
use parking_lot::Mutex;
use pressure::Gauge;
use slow::{Journey, SlowLog};
use snapshot::Pins;
use std::any::Any;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use zeolite_proto::record::Header;
use zeolite_proto::{
    Fault, FaultKind, Limits, Merged, Mode, Oid, Pressure, Priority, Receipt, Registry, StaleCell, Tid,
};

pub use caller::{Caller, Client};
pub use feed::{FeedBatch, FeedItem};
pub use gates::Closing;
pub use histogram::{Counts, Histogram, Summary};
pub use loops::{Loops, Running};
pub use mode::Role;
pub use oids::SYSTEM_OID;
pub use pack::{PackOptions, PackProgress, PackReport};
pub use read::{Loaded, ObjectsPage, Page};
pub use sequencer::Turn;
pub use settings::EngineSettings;
pub use snapshot::PinInfo;
pub use status::{ClassCounts, Stats, Status};
pub use verify::{VerifyProgress, VerifyReport, verify_offline};

/// Called exactly once with the outcome, from any thread; must not block.
pub type Done<T> = Box<dyn FnOnce(Result<T, Fault>) + Send>;

/// How to prepare a draft.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Preparing {
    /// After it the draft is aborted; 0: the default.
    pub time_limit_ms: u64,
    /// Take and hold it even if some of its cells have moved on; these are to be amended.
    pub hold: bool,
}

/// What the holder of a prepared draft gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreparedReceipt {
    /// For amend, finish and abort.
    pub prepared: u64,
    /// What the resolvers made; a finish changes nothing of it.
    pub merged: Vec<Merged>,
    /// Cells that must be amended before it can be finished, in order.
    pub stale: Vec<StaleCell>,
}

/// Where a commit key stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// No commit with this key, as far as the window reaches.
    Unknown,
    /// Its draft is on its way.
    InFlight,
    /// Committed.
    Committed(Receipt),
}

/// The shared part of the engine: what callers, sequencer, writer and settle loop all see.
pub struct Engine {
    limits: Limits,
    registry: Registry,
    settings: EngineSettings,
    seed: u64,
    clock: Arc<dyn Clock>,
    opened_at: Duration,
    reader: Reader,
    intake: Arc<Intake>,
    keys: Keys,
    feed: Feed,
    pins: Pins,
    oids: Oids,
    modes: Modes,
    gates: Gates,
    gauge: Gauge,
    heat: Heat,
    slow: SlowLog,
    backlog: Backlog,
    stats: Stats,
    disk: Arc<dyn Disk>,
    index_name: &'static str,
    poisoned: OnceLock<String>,
    refused_epoch: AtomicU64,
    why_refused: Mutex<Option<Fault>>,
    recent_floor: AtomicU64,
    merging: AtomicUsize,
    long_work: Arc<LongWork>,
    keys_age_s: u64,
    own_keys: AtomicU64,
    /// The last field: dropped after all that uses the store.
    kept_to_the_end: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// What the loops are made of; see [`Loops`].
struct Parts {
    appender: Appender,
    settler: Settler,
    last: Tid,
}

impl Engine {
    /// Opens the store on a disk and makes the engine and its loops. Nothing runs before the loops are turned.
    /// `seed` makes ids that must differ between two lives of the server.
    #[expect(clippy::too_many_arguments, reason = "the components of a server, named once, by its composition")]
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        store: StoreSettings,
        settings: EngineSettings,
        limits: Limits,
        registry: Registry,
        seed: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Arc<Engine>, Loops), StoreError> {
        let index_name = match store.index {
            IndexKind::Redb => "redb",
            IndexKind::Sled => "sled",
        };
        let (keys_count_max, keys_age_s, overlay_bytes_max) =
            (store.keys_count_max, store.keys_age_s, store.overlay_bytes_max);
        let Opened { appender, reader, settler, recovered } = Store::open(disk.clone(), store, seed, progress)?;
        let Recovered { last_tid, oid_max, keys, .. } = recovered;
        let ceiling = stored_ceiling(&reader, last_tid)?;
        let now_unix_ms = (clock.unix_nanos() / 1_000_000).max(0) as u64;
        let mode = mode::stored(&reader, last_tid, now_unix_ms)?;
        let gates = gates::stored(&reader, last_tid)?;
        let engine = Arc::new(Engine {
            opened_at: clock.steady(),
            intake: Arc::new(Intake::new(settings.intake_bounds())),
            keys: Keys::new(keys_count_max as usize, keys_age_s, keys),
            feed: Feed::new(last_tid),
            pins: Pins::new(clock.clone(), settings.pins_max, limits.pin_ms_max, seed, reader.packed_to()),
            oids: Oids::new(ceiling, Oid(oid_max)),
            modes: Modes::new(mode),
            gates: Gates::new(gates),
            gauge: Gauge::new(clock.steady()),
            heat: Heat::new(),
            slow: SlowLog::new(settings.slow_commit_ms),
            own_keys: AtomicU64::new(0),
            kept_to_the_end: OnceLock::new(),
            backlog: Backlog::new(overlay_bytes_max / 2),
            index_name,
            stats: Stats::default(),
            poisoned: OnceLock::new(),
            refused_epoch: AtomicU64::new(0),
            why_refused: Mutex::new(None),
            recent_floor: AtomicU64::new(last_tid.0),
            merging: AtomicUsize::new(0),
            long_work: Arc::default(),
            keys_age_s,
            limits,
            registry,
            settings,
            seed,
            clock,
            reader,
            disk,
        });
        let loops = Loops::new(engine.clone(), Parts { appender, settler, last: last_tid });
        Ok((engine, loops))
    }

    /// New drafts are refused from now on; what was admitted is finished, then the loops end.
    pub fn shut_down(&self) {
        self.intake.close();
        self.long_work.stop();
    }

    /// Keeps a value until the engine is gone, and with it the store and its lock: the drop of the value tells that. Only
    /// the first one is kept, any other is dropped at once.
    pub(crate) fn keep_to_the_end(&self, value: impl Any + Send + Sync) {
        drop(self.kept_to_the_end.set(Box::new(value)));
    }

    /// The newest tid that may be read.
    pub fn visible(&self) -> Tid {
        self.feed.visible()
    }

    /// The store's identity: a copy that is restored somewhere else gets another.
    pub fn store_id(&self) -> u64 {
        self.reader.store_id()
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The resolvers.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counters and stage times.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Hands out `count` consecutive oids; gives the first.
    pub fn new_oids(self: &Arc<Self>, count: u32, done: Done<Oid>) {
        if count == 0 || count > self.limits.oids_max {
            let message = format!("ask for 1 to {} oids at once, not {count}", self.limits.oids_max);
            return done(Err(Fault::invalid(message)));
        }
        let raise = self.oids.take(u64::from(count), done);
        self.raise_ceiling(raise);
    }

    /// Pins a snapshot ([`Tid::NONE`]: the newest) for a lease (0: the default), so that pack keeps what it sees.
    pub fn pin(&self, snapshot: Tid, lease_ms: u64) -> Result<PinInfo, Fault> {
        self.pins.pin(self.snapshot(snapshot)?, lease_ms)
    }

    /// Makes a pin's lease begin anew.
    pub fn renew(&self, pin: u64, lease_ms: u64) -> Result<PinInfo, Fault> {
        self.pins.renew(pin, lease_ms)
    }

    /// Ends a pin.
    pub fn unpin(&self, pin: u64) {
        self.pins.unpin(pin);
    }

    /// Registers a sink for the feed; gives the visible tid: everything later is pushed to it.
    pub fn subscribe(&self, sink: Arc<dyn FeedSink>) -> Tid {
        self.feed.subscribe(sink)
    }

    /// What live traffic feels: the window as of the keeper's last turn, the queues as of now.
    pub fn pressure(&self) -> Pressure {
        let (live, batch) = self.intake.waiting();
        Pressure { queue_live: live as u64, queue_batch: batch as u64, ..self.gauge.read() }
    }

    /// About how often an object was written lately by live commits.
    pub fn heat(&self, oid: Oid) -> u32 {
        self.heat.of(oid)
    }

    /// Why nothing is written any more.
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.get().map(String::as_str)
    }

    /// The state of the whole engine.
    pub fn status(&self) -> Status {
        let (pins, oldest_pin) = self.pins.oldest();
        let (live, batch) = self.intake.waiting();
        let store = self.reader.stats();
        Status {
            store_id: self.store_id(),
            visible: self.visible(),
            packed_to: self.reader.packed_to(),
            uptime_ms: self.clock.steady().saturating_sub(self.opened_at).as_millis() as u64,
            poisoned: self.poisoned.get().cloned(),
            index: self.index_name.to_owned(),
            objects: self.reader.kinds().map_or(0, |kinds| kinds.iter().map(|kind| kind.objects).sum()),
            log_bytes: store.log_bytes,
            index_bytes: store.index_bytes,
            segments: store.segments,
            free_bytes: self.disk.free_bytes().unwrap_or(0),
            feeds: self.feed.subscribers() as u64,
            pins: pins as u64,
            oldest_pin,
            prepared: self.stats.prepared(),
            commits: self.stats.commits.get(),
            batches: self.stats.batches.get(),
            conflicts: self.stats.conflicts.get(),
            merges: self.stats.merges.get(),
            loads: self.stats.loads.get(),
            queue_live: live as u64,
            queue_batch: batch as u64,
            cache_bytes: store.cache_bytes,
            cache_hits: store.cache_hits,
            cache_misses: store.cache_misses,
            unsettled_bytes: self.backlog.bytes(),
            stages: self.stats.stages(),
            pack: self.long_work.text(),
            mode: Mode::clone(&self.mode()),
            pressure: self.pressure(),
            pinned_bytes: oldest_pin.map_or(0, |oldest| self.reader.log_bytes_since(oldest).unwrap_or(0)),
            disk_bytes: self.disk.size_bytes().unwrap_or(0),
            classes: self.stats.classes(),
            gates: self.gates(),
        }
    }

    /// Writes a higher ceiling of oids through the pipeline, then serves who waits for it. Two are never on their way at once.
    fn raise_ceiling(self: &Arc<Self>, raise: Raise) {
        let Raise::To(ceiling) = raise else { return };
        let engine = self.clone();
        let done = Box::new(move |result: Result<Receipt, Fault>| {
            let again = engine.oids.raised(result.map(|_| ceiling));
            engine.raise_ceiling(again);
        });
        let record = oids::ceiling_record(ceiling);
        self.write_system(oids::ceiling_cell(), Some(record), "oids handed out up to here", done);
    }

    fn nanos_since(&self, started: Duration) -> u64 {
        self.clock.steady().saturating_sub(started).as_nanos() as u64
    }

    /// Keeps the first reason; true for that one.
    fn poison(&self, reason: &str) -> bool {
        let first = self.poisoned.set(reason.to_owned()).is_ok();
        if first {
            tracing::error!(reason, "the store is poisoned: reads go on, nothing is written any more");
        }
        first
    }

    fn refused_epoch(&self) -> u64 {
        self.refused_epoch.load(Ordering::Acquire)
    }

    fn refuse_epoch(&self, epoch: u64, why: Fault) {
        *self.why_refused.lock() = Some(why);
        self.refused_epoch.fetch_max(epoch, Ordering::AcqRel);
        self.intake.nudge();
    }

    fn why_refused(&self) -> Fault {
        let why = self.why_refused.lock().clone();
        why.unwrap_or_else(|| Fault::new(FaultKind::Internal, "a batch was refused without a reason"))
    }

    fn refuse_hop(&self, hop: Hop, why: Fault) {
        match hop {
            Hop::Sealed(sealed) => self.answer(sealed.txn, sealed.answer, Journey::default(), Err(why)),
            Hop::After { tell, .. } => tell(Some(why)),
            // A new segment may begin at any time.
            Hop::Roll { done, .. } => done(Err(StoreError::Stopped)),
        }
    }

    fn refuse_draft(&self, draft: DraftJob, fault: Fault) {
        match draft {
            DraftJob::Commit(admitted) => self.keys.complete(admitted.draft.key, Err(fault)),
            DraftJob::Prepare(job) => {
                self.keys.complete(job.admitted.draft.key, Err(fault.clone()));
                (job.done)(Err(fault));
            }
        }
    }

    /// Tells the committer of a transaction: durable, or why not.
    fn answer(&self, txn: Txn, answer: Answer, journey: Journey, result: Result<(), Fault>) {
        match answer {
            Answer::Key(origin) => {
                if result.is_ok() {
                    self.measure(&txn, &origin, journey);
                }
                self.keys.complete(txn.key, result.map(|()| writer::receipt_of(&txn)));
            }
            Answer::Restored(done) => done(result.map(|()| txn.tid)),
        }
    }

    /// What a durable transaction adds to the counts, the gauge and the heat.
    fn measure(&self, txn: &Txn, origin: &Origin, journey: Journey) {
        for write in txn.writes.iter().filter(|write| write.merged) {
            let header = write.record.as_deref().map(Header::parse);
            self.stats.merged(header.and_then(Result::ok).map_or("", |header| header.class));
        }
        let Some(queued_ns) = origin.queued_ns else { return };
        self.stats.slow_commits.add(u64::from(self.slow.look(txn, origin, journey, self.clock.steady())));
        if origin.priority == Priority::Batch {
            return self.gauge.batch();
        }
        self.gauge.live(self.nanos_since(Duration::from_nanos(queued_ns)));
        let mut before = None;
        for oid in txn.writes.iter().map(|write| write.cell.oid) {
            if before.replace(oid) != Some(oid) {
                self.heat.written(oid);
            }
        }
    }

    fn merging_started(&self) {
        self.merging.fetch_add(1, Ordering::AcqRel);
    }

    fn merging_ended(&self) {
        self.merging.fetch_sub(1, Ordering::AcqRel);
    }

    fn out_merging(&self) -> usize {
        self.merging.load(Ordering::Acquire)
    }
}

fn stored_ceiling(reader: &Reader, last: Tid) -> Result<u64, StoreError> {
    let record = system::stored(reader, &oids::ceiling_cell(), last)?;
    Ok(record.as_ref().and_then(oids::read_ceiling).unwrap_or(0))
}

fn poisoned_fault(reason: &str) -> Fault {
    let message = format!("nothing is written any more since a write failed: {reason}; check the disk, then restart");
    Fault::new(FaultKind::Poisoned, message)
}

/// A store error as the wire knows it.
fn fault_of(error: StoreError) -> Fault {
    let kind = match &error {
        StoreError::Damaged { .. } => FaultKind::Damaged,
        StoreError::DiskFull => FaultKind::DiskFull,
        StoreError::Behind { .. } | StoreError::Stopped => FaultKind::Busy,
        StoreError::Refused { .. } => FaultKind::Invalid,
        StoreError::Poisoned { reason } => return poisoned_fault(reason),
        StoreError::Packed { .. } => FaultKind::SnapshotPacked,
        StoreError::Locked { .. } | StoreError::Format { .. } | StoreError::Index(_) | StoreError::Io { .. } => {
            FaultKind::Internal
        }
    };
    let retry_after_ms = match kind {
        FaultKind::DiskFull => 1000,
        FaultKind::Busy => 50,
        _ => 0,
    };
    Fault::new(kind, error.to_string()).after_ms(retry_after_ms)
}
