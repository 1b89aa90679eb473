//! The engine: drafts in, an order, durable revisions out.
//!
//! ```text
//!   commit() ── admit, commit key ──> intake ──> sequencer ──> writer ──> overlay, feed, visible, receipts
//!    caller's task, parallel         bounded     owns order    owns the appender
//!                                                   │ ▲
//!                                                   ▼ │ expensive resolvers
//!                                                  mergers              settle loop: overlay ──> index
//! ```
//! Two threads own state, in a line: the sequencer owns order, the writer owns the appender. Two words go back to the
//! sequencer: that an epoch was refused (`refused_epoch`), and that a gate which tries to close may count (`Hop::After`).
//! The settle loop owns the way into the index, the keeper what needs a look at the clock.
//! Each loop is a `turn()` that its thread repeats and a test calls by hand.
//!
//! Lock order: a lock is not held while another is taken, except that the feed's is held while a sink takes a batch
//! and while a session joins (feed > fan, feed > outgoing queue, feed > a table of interest), a session's queue while it takes from the fan (queue > fan), and the mode's parts while the mode in force is set and its listeners (each session's queue) are told.

mod answers;
mod blobs;
mod caller;
mod disk_errors;
mod faults;
mod health;
mod ids;
mod keep;
mod loops;
pub mod note;
mod numbers;
mod pipeline;
mod reads;
mod replication;
mod sealed_write;
mod settings;
mod share;
mod turn;
mod work;

use crate::clock::Clock;
use crate::storage::disk::{Disk, WatchedDisk};
use crate::storage::{self, Ahead, Blobs, Opened, Opening, Progress, Recovered, StoreError, StoreSettings};
use disk_errors::{DiskErrors, Looks};
use health::Health;
use keep::mode::Now;
use keep::{Keep, prepared_cell, system, term_cell};
use loops::Parts;
use numbers::Numbers;
use pipeline::Pipeline;
use pipeline::admission::RestoreEnd;
use pipeline::intake::Intake;
use pipeline::keys::{Keys, Window};
use reads::Reads;
use reads::age::Age;
use reads::pins::{PinBounds, Pins};
use reads::since::Since;
use replication::Copies;
use replication::seat::Seats;
use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use work::Work;
use zeolite_proto::{Fault, FaultKind, Limits, Oid, Registry, Tid};

pub use crate::clock;
pub use crate::storage::{BlobReader, Upload};
pub use answers::{Closing, Done, Outcome, PreparedReceipt, Preparing};
pub use caller::{Caller, Client, Mark, Owner, RequestId};
pub(crate) use faults::fault_of;
pub use keep::system::SYSTEM_OID;
pub use loops::{Leaving, Loops, Running};
pub use numbers::histogram::{Counts, Histogram};
pub use numbers::status::Stats;
pub use numbers::traced::Traced;
pub use pipeline::restore::Restoring;
pub use reads::feed::{self, Cells, FeedBatch, FeedItem};
pub use reads::pins::PinInfo;
pub use reads::read::{Loaded, ObjectsPage, Page};
pub use replication::seat::Course;
pub(crate) use replication::tail::After;
pub use replication::{Heard, ReplicationSettings};
pub(crate) use replication::{Twice, hex};
pub use settings::EngineSettings;
pub use share::Share;
pub(crate) use share::UserShare;
pub(crate) use share::{Counted, Place};
pub use turn::Turn;
pub(crate) use work::giving_way::beside_the_traffic;
pub use work::long_work::WorkProgress;
pub use work::pack::PackReport;
pub use work::verify::{VerifyReport, verify_offline};

/// The engine: a handle over what callers, sequencer, writer, settle loop and keeper all see, in groups; each group is its
/// room's, which alone sees its fields.
pub struct Engine {
    setup: Setup,
    health: Health,
    pipeline: Pipeline,
    blobs: Arc<Blobs>,
    reads: Reads,
    keep: Keep,
    work: Work,
    numbers: Numbers,
    copies: Copies,
    /// The last field: dropped after all that uses the store.
    kept_to_the_end: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// What the engine was given; never changes.
struct Setup {
    limits: Limits,
    registry: Registry,
    settings: EngineSettings,
    seed: u64,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    ahead: Arc<dyn Ahead>,
    disk_errors: Arc<DiskErrors>,
    opened_at: Duration,
}

impl Setup {
    fn restore_end(&self) -> RestoreEnd {
        let (now, ahead_max_s) = (self.clock.unix_nanos(), self.settings.restore_ahead_max_s);
        let newest = Tid::from_unix_nanos(now.saturating_add(i128::from(ahead_max_s) * 1_000_000_000));
        RestoreEnd { now: Tid::from_unix_nanos(now), newest, ahead_max_s }
    }
}

impl Engine {
    /// Opens the store on a disk and makes the engine and its loops. Nothing runs before the loops are turned.
    /// The opening's number makes ids that must differ between two lives of the server.
    #[expect(clippy::too_many_arguments, reason = "the components of a server, named once, by its composition")]
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        store: StoreSettings,
        settings: EngineSettings,
        limits: Limits,
        registry: Registry,
        opening: impl Into<Opening>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Arc<Engine>, Loops), StoreError> {
        let opening = opening.into();
        let disk_errors = DiskErrors::new(clock.clone());
        let disk: Arc<dyn Disk> = Arc::new(WatchedDisk::new(disk, Looks(disk_errors.clone())));
        // The number itself is the secret of this life: what is told to everybody is made of it.
        let seed = opening.new_id;
        let opening = Opening { new_id: ids::public(seed, "store", 0), ..opening };
        let (keys_count_max, keys_age_s, overlay_bytes_max) =
            (store.keys_count_max, store.keys_age_s, store.overlay_bytes_max);
        let Opened { append, ahead, read, upkeep, blobs, recovered } =
            storage::open(disk.clone(), clock.clone(), store, opening, progress)?;
        let Recovered { last_tid, oid_max, keys, keys_floor, lived_ms, .. } = recovered;
        let last_of_others = system::last_of_others(read.as_ref(), last_tid)?;
        let opened_at = clock.steady();
        let prepared = prepared_cell::stored(read.as_ref(), last_tid)?;
        let unix_ms = (clock.unix_nanos() / 1_000_000).max(0) as u64;
        let keep = Keep::open(read.as_ref(), last_tid, Oid(oid_max), Now { unix_ms, steady: opened_at })?;
        let (count_max, floor) = (keys_count_max as usize, keys_floor);
        let keys = Keys::new(clock.clone(), Window { count_max, age_s: keys_age_s, keys, floor, lived_ms });
        // In a store in which nothing was ever committed nobody has pinned anything.
        let grace = Duration::from_secs(if last_tid == Tid::NONE { 0 } else { settings.pin_grace_s });
        let bounds = PinBounds { pins_max: settings.pins_max, lease_ms_max: limits.pin_ms_max, grace };
        let pins = Pins::new(clock.clone(), bounds, seed, read.packed_to());
        let age = Age::new(clock.clone(), settings.history_min_s, last_tid);
        let largest = limits.draft_bytes_max.max(settings.batch_bytes_max);
        let term = term_cell::stored(read.as_ref(), last_tid)?;
        let seats = Seats::open(disk.clone(), clock.clone(), term, settings.replication.follows, seed)?;
        let copies = Copies::new(settings.replication.clone(), seats, clock.clone(), last_tid);
        let engine = Arc::new(Engine {
            health: Health::default(),
            pipeline: Pipeline::new(Intake::new(settings.intake_bounds()), keys, last_tid),
            blobs,
            reads: Reads::new(read, last_tid, age, Since::new(clock.clone(), last_tid), pins),
            keep,
            work: Work::new(overlay_bytes_max / 2, overlay_bytes_max + largest as u64),
            numbers: Numbers::new(opened_at, settings.slow_commit_ms),
            copies,
            setup: Setup { limits, registry, settings, seed, clock, disk, ahead, disk_errors, opened_at },
            kept_to_the_end: OnceLock::new(),
        });
        let loops = Loops::new(engine.clone(), Parts { append, upkeep, last: last_tid, last_of_others, prepared });
        Ok((engine, loops))
    }

    /// New drafts are refused from now on; what was admitted is finished, then the loops end.
    pub fn shut_down(&self) {
        self.intake().close();
        self.long_work().stop();
    }

    /// A loop has panicked: nothing is decided any more, and everybody who waits is told so.
    fn die(&self, what: &str) {
        self.health.die(what);
        self.end_intake();
        let message = format!("the {what} of the server met a bug; after its restart ask for the outcome");
        self.keys().abandon(&Fault::new(FaultKind::OutcomeUnknown, message));
    }

    /// Keeps a value until the engine is gone, and with it the store and its lock: the drop of the value tells that. Only
    /// the first one is kept, any other is dropped at once.
    pub(crate) fn keep_to_the_end(&self, value: impl Any + Send + Sync) {
        drop(self.kept_to_the_end.set(Box::new(value)));
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.setup.limits
    }

    /// The resolvers.
    pub fn registry(&self) -> &Registry {
        &self.setup.registry
    }

    /// What can be done before its turn.
    fn ahead(&self) -> &dyn Ahead {
        self.setup.ahead.as_ref()
    }

    /// The clock.
    pub fn clock(&self) -> &dyn Clock {
        self.setup.clock.as_ref()
    }

    /// The time of day, in milliseconds since 1970.
    pub(crate) fn unix_ms(&self) -> u64 {
        (self.clock().unix_nanos() / 1_000_000).max(0) as u64
    }

    /// The steady time, in nanoseconds.
    fn steady_ns(&self) -> u64 {
        self.clock().steady().as_nanos() as u64
    }

    fn settings(&self) -> &EngineSettings {
        &self.setup.settings
    }

    /// Why nothing is written any more.
    pub fn poisoned(&self) -> Option<&str> {
        self.health.poisoned()
    }

    /// Refuses everything sealed in an epoch, and lets the sequencer know.
    fn refuse_epoch(&self, epoch: u64, why: Fault) {
        self.health.refuse_epoch(epoch, why);
        self.intake().nudge();
    }
}
