//! Owns the mode: who may write, by an operator's word or by the server's own caution, and who is told of it.
//!
//! ```text
//!   set_mode ── system cell ──> durable ──> in force ──> listeners (every session)
//!   keeper   ── time is over / disk is low / store is poisoned ──> in force ──> listeners
//! ```
//! The operator's mode is a system cell, so it outlives a restart. What the server sets itself is not stored: its reason
//! is found again. While there is such a reason it hides the operator's mode, and it is taken back by itself.
//!
//! A mode ends at a time of the wall clock, or after a span of steady time, which no clock that is set changes. Of a span
//! that was begun by an earlier life of the server only its end by the clock is known, and that no more than all is left.
//!
//! A mode is looked at when a draft is admitted: drafts that are in flight when it changes finish. The server's own cells
//! are written in every mode.

use crate::engine::Engine;
use crate::engine::answers::Done;
use crate::engine::keep::system;
use crate::storage::{Read, StoreError};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Mode, ModeEnd, ModeKind, Record, Role, Tid};

/// A banner is at most so long.
const BANNER_BYTES_MAX: usize = 1000;
/// A mode that ends after a span lasts at most so long: ten years, in milliseconds.
const SPAN_MS_MAX: u64 = 10 * 366 * 86_400 * 1000;
/// The class of its record.
const CLASS: &str = "zeolite.Mode";
/// When to come back when the mode has no end, in milliseconds.
const RETRY_AFTER_MS: u64 = 5_000;

/// What there is on the disk for the log to grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DiskRoom {
    Enough,
    Low { free_bytes: u64 },
}

type Listener = Box<dyn Fn(&Mode) + Send + Sync>;

/// The mode in force, what it is made of, and who is told when it changes.
pub(crate) struct Modes {
    in_force: RwLock<Arc<Mode>>,
    // Held while the mode in force is changed and told, so that listeners hear of changes in their order.
    parts: Mutex<Parts>,
    listeners: Mutex<Vec<Listener>>,
}

struct Parts {
    operator: Mode,
    /// When that ends by the steady clock.
    ends: Option<Duration>,
    /// Begun in this life with a span: its end by the wall clock is only shown.
    spans: bool,
    automatic: Option<(Cause, String)>,
}

/// Why the server makes itself read-only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Poisoned,
    LowDisk,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMode {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    banner: String,
    #[prost(uint64, tag = "3")]
    until_unix_ms: u64,
    #[prost(uint64, tag = "4")]
    since_unix_ms: u64,
    #[prost(uint64, tag = "5")]
    for_ms: u64,
}

/// What an operator has set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct OperatorMode {
    pub(crate) mode: Mode,
    /// The span that it was given.
    for_ms: Option<u64>,
}

/// What the server's clock says.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) unix_ms: u64,
    pub(crate) steady: Duration,
}

impl Modes {
    /// As stored by an earlier life.
    pub(crate) fn new(stored: OperatorMode, now: Now) -> Modes {
        let OperatorMode { mode: operator, for_ms } = stored;
        let ends = for_ms.map(|ms| now.steady + Duration::from_millis(ms));
        Modes {
            in_force: RwLock::new(Arc::new(operator.clone())),
            parts: Mutex::new(Parts { operator, ends, spans: false, automatic: None }),
            listeners: Mutex::default(),
        }
    }

    /// The operator's mode was written: it is in force, unless its time is over.
    pub(crate) fn stored(&self, mode: Option<OperatorMode>, now: Now) {
        let OperatorMode { mode, for_ms } =
            mode.filter(|stored| !is_over(&stored.mode, now.unix_ms)).unwrap_or_else(|| ordinary(now.unix_ms));
        self.change(now.unix_ms, |parts| {
            parts.operator = mode;
            parts.ends = for_ms.map(|ms| now.steady + Duration::from_millis(ms));
            parts.spans = for_ms.is_some();
        });
    }

    fn change(&self, now_unix_ms: u64, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock();
        change(&mut parts);
        let next = match &parts.automatic {
            None => parts.operator.clone(),
            Some((_, why)) => Mode {
                kind: ModeKind::ReadOnly,
                banner: parts.operator.banner.clone(),
                until_unix_ms: None,
                automatic: Some(why.clone()),
                since_unix_ms: now_unix_ms,
            },
        };
        let before = self.in_force.read().clone();
        let same = Mode { since_unix_ms: before.since_unix_ms, ..next.clone() } == *before;
        if same && parts.automatic.is_some() {
            return;
        }
        let changed = next != *before;
        let next = Arc::new(next);
        *self.in_force.write() = next.clone();
        if changed {
            tracing::info!(mode = %next.kind, banner = next.banner, automatic = next.automatic, "the mode has changed");
            self.listeners.lock().iter().for_each(|listener| listener(&next));
        }
    }
}

impl Engine {
    /// The mode in force.
    pub fn mode(&self) -> Arc<Mode> {
        self.keep.modes.in_force.read().clone()
    }

    /// Calls back whenever the mode changes, from the engine's threads: it must not block.
    pub fn on_mode_change(&self, listener: impl Fn(&Mode) + Send + Sync + 'static) {
        self.keep.modes.listeners.lock().push(Box::new(listener));
    }

    /// Switches the operator's mode: durable and in force when `done` is called with it.
    pub fn set_mode(self: &Arc<Self>, kind: ModeKind, banner: String, end: ModeEnd, done: Done<Mode>) {
        if let Some(fault) = self.health.unwritable() {
            return done(Err(fault));
        }
        if let Err(fault) = check_banner(&banner) {
            return done(Err(fault));
        }
        let now = self.unix_ms();
        let (until_unix_ms, for_ms) = match end.parts() {
            (0, 0) => (None, None),
            (until, 0) if until <= now => {
                return done(Err(Fault::invalid("the mode would end in the past; name a time to come")));
            }
            (until, 0) => (Some(until), None),
            (_, ms) if ms > SPAN_MS_MAX => {
                return done(Err(Fault::too_large("for_ms", ms as usize, SPAN_MS_MAX as usize)));
            }
            (_, ms) => (Some(now + ms), Some(ms)),
        };
        let mode = Mode { kind, banner, until_unix_ms, automatic: None, since_unix_ms: now };
        let operator = OperatorMode { mode, for_ms };
        let record = (operator != ordinary(now)).then(|| record_of(&operator));
        let engine = self.clone();
        let written = Box::new(move |result: Result<_, Fault>| {
            done(result.map(|_| Mode::clone(&engine.mode())));
        });
        self.write_system(cell(), record, "the mode was switched", written);
    }

    /// What the keeper looks after: the mode's end, and reasons of the server's own.
    pub(crate) fn keep_mode(self: &Arc<Self>, room: DiskRoom) {
        let now = self.now();
        let cause = match (self.poisoned(), room) {
            (Some(_), _) => Some(Cause::Poisoned),
            (None, DiskRoom::Low { .. }) => Some(Cause::LowDisk),
            (None, DiskRoom::Enough) => None,
        };
        let over = |parts: &Parts| parts.are_over(now);
        let (is_over, is_new) = {
            let parts = self.keep.modes.parts.lock();
            (over(&parts), parts.automatic.as_ref().map(|(cause, _)| *cause) != cause)
        };
        if is_over || is_new {
            self.keep.modes.change(now.unix_ms, |parts| {
                parts.automatic = cause.map(|cause| (cause, self.reason(room)));
                if over(parts) {
                    (parts.operator, parts.ends) = (ordinary(now.unix_ms).mode, None);
                }
            });
        }
    }

    fn reason(&self, room: DiskRoom) -> String {
        match (self.poisoned(), room) {
            (Some(reason), _) if self.health.has_died() => format!("nothing can be written because of a bug: {reason}"),
            (Some(reason), _) => format!("nothing can be written since a write failed: {reason}"),
            (None, DiskRoom::Low { free_bytes }) if free_bytes < 10 << 20 => {
                format!("only {} KiB of the disk are free", free_bytes >> 10)
            }
            (None, DiskRoom::Low { free_bytes }) => format!("only {} MiB of the disk are free", free_bytes >> 20),
            (None, DiskRoom::Enough) => String::new(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now { unix_ms: self.unix_ms(), steady: self.clock().steady() }
    }

    /// Refuses a write that the server's own caution does not allow.
    pub(crate) fn check_own_mode(&self) -> Result<(), Fault> {
        let automatic = self.keep.modes.in_force.read().automatic.is_some();
        if automatic { self.check_modes(Role::Write) } else { Ok(()) }
    }

    /// Refuses a write that the mode does not allow.
    pub(crate) fn check_mode(&self, role: Role) -> Result<(), Fault> {
        self.check_seat()?;
        self.check_modes(role)
    }

    fn check_modes(&self, role: Role) -> Result<(), Fault> {
        let mode = self.mode();
        if mode.lets_write(role == Role::Evolve) {
            return Ok(());
        }
        let now = self.now();
        let ends = mode.until_unix_ms.map(|_| self.keep.modes.parts.lock().left_ms(now).max(1));
        let retry_after_ms = ends.unwrap_or(RETRY_AFTER_MS);
        let mut message = format!("the database is {}", mode.kind);
        if let Some(why) = &mode.automatic {
            message += &format!(" ({why})");
        }
        if !mode.banner.is_empty() {
            message += &format!(": {}", mode.banner);
        }
        message += "; reading goes on, write again later";
        Err(Fault::new(FaultKind::ReadOnly, message).after_ms(retry_after_ms))
    }
}

pub(crate) fn check_banner(banner: &str) -> Result<(), Fault> {
    match banner.len() > BANNER_BYTES_MAX {
        true => Err(Fault::too_large("banner length", banner.len(), BANNER_BYTES_MAX)),
        false => Ok(()),
    }
}

/// The cell that holds the operator's mode.
pub(crate) fn cell() -> zeolite_proto::Cell {
    system::cell("mode")
}

// Data = the message above.
fn record_of(OperatorMode { mode, for_ms }: &OperatorMode) -> Record {
    let stored = StoredMode {
        kind: mode.kind.text().into(),
        banner: mode.banner.clone(),
        until_unix_ms: mode.until_unix_ms.unwrap_or(0),
        since_unix_ms: mode.since_unix_ms,
        for_ms: for_ms.unwrap_or(0),
    };
    Record::new(CLASS, 1, stored.encode_to_vec())
}

/// Reads it back.
pub(crate) fn read(record: &Record) -> Result<OperatorMode, String> {
    system::check_class(record, CLASS)?;
    let stored = StoredMode::decode(record.data.clone()).map_err(|error| format!("the mode is unreadable: {error}"))?;
    let StoredMode { kind, banner, until_unix_ms, since_unix_ms, for_ms } = stored;
    // A mode of a newer program that this one does not know: the careful guess.
    let kind = kind.parse().unwrap_or(ModeKind::ReadOnly);
    let until_unix_ms = (until_unix_ms != 0).then_some(until_unix_ms);
    let mode = Mode { kind, banner, until_unix_ms, automatic: None, since_unix_ms };
    Ok(OperatorMode { mode, for_ms: (for_ms != 0).then_some(for_ms.min(SPAN_MS_MAX)) })
}

/// The operator's mode as stored; normal if its time is over.
pub(crate) fn stored(reader: &dyn Read, at: Tid, now_unix_ms: u64) -> Result<OperatorMode, StoreError> {
    let Some(record) = system::stored(reader, &cell(), at)? else { return Ok(OperatorMode::default()) };
    let stored = read(&record).map_err(StoreError::Index)?;
    Ok(if is_over(&stored.mode, now_unix_ms) { OperatorMode::default() } else { stored })
}

fn ordinary(now_unix_ms: u64) -> OperatorMode {
    OperatorMode { mode: Mode { since_unix_ms: now_unix_ms, ..Mode::default() }, for_ms: None }
}

impl Parts {
    fn left_ms(&self, now: Now) -> u64 {
        let by_the_clock = self.operator.until_unix_ms.filter(|_| !self.spans);
        let by_the_clock = by_the_clock.map(|until| until.saturating_sub(now.unix_ms));
        let steady = self.ends.map(|ends| ends.saturating_sub(now.steady).as_millis() as u64);
        by_the_clock.into_iter().chain(steady).min().unwrap_or(0)
    }

    fn are_over(&self, now: Now) -> bool {
        let by_the_clock = !self.spans && is_over(&self.operator, now.unix_ms);
        by_the_clock || self.ends.is_some_and(|ends| ends <= now.steady)
    }
}

fn is_over(mode: &Mode, now_unix_ms: u64) -> bool {
    mode.until_unix_ms.is_some_and(|until| until <= now_unix_ms)
}
