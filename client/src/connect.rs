//! Owns the connection's life: connecting, reconnecting in the background, resending, waiting out a busy server.
//!
//! ```text
//!   supervisor (one task)    connect ─> hello ─> run the reader until the session ends ─> back off, again
//!   Core::call (any task)    wait for a link ─> send ─┬─ reply                      => done
//!                                                     ├─ busy, not the primary      => wait as told, again
//!                                                     └─ session lost, server down  => again on the next link
//! ```
//!
//! What may be sent again is said by [`Resend`]. Reads are harmless. A commit is sent again under the *same* commit key, and
//! the server gives one receipt per key, so that it happens once; if no answer comes within the time limit, its outcome
//! is unknown and the error says so. A prepare is never sent twice.
//!
//! The number of requests in flight is bounded; beyond it callers wait their turn.

mod address;
mod changes;
mod db;
mod oids;
mod options;
mod pins;
mod position;
mod root_names;

pub use db::{Db, ServerInfo};
pub use options::Options;
pub(crate) use pins::{LEASE_MS, LivePin};
pub(crate) use position::{Life, Position};
pub(crate) use root_names::IndexNames;

use crate::cache::{Cache, Kept, Of, Opened, Seen};
use crate::credentials::Tls;
use crate::errors::{Error, Result};
use crate::revision::Revision;
use crate::watch::Watchers;
use crate::wire::{Ended, Failure, Hello, Inbox, Incoming, Link, Welcome};
pub(crate) use changes::Changes;
use oids::Oids;
use parking_lot::Mutex;
use pins::Pins;
use root_names::RootNames;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use zeolite_proto::interest::Held;
use zeolite_proto::{Cell, CommitKey, Fault, FaultKind, Mode, Oid, Pressure, Tid};

/// How often a request is sent again that was ahead of the server by a commit which the feed has told already.
const AHEAD_TRIES_MAX: u32 = 100;
/// While somebody waits for a connection no pause between two attempts is longer.
const EAGER_MS: u64 = 250;

/// Whoever wants to be told everything and is not heard asks again after about this time.
const ASKS_AGAIN_MS: u64 = 100;

/// What a hello has beside what the client holds, at most.
const HELLO_BYTES: usize = 8 << 10;

/// Whether a request may be sent again after the session was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resend {
    /// Harmless to repeat.
    Always,
    /// Repeated under its key: happens once.
    UnderKey(CommitKey),
    /// Never repeated.
    Never,
}

/// The state of the connection, as the supervisor tells it.
#[derive(Clone, Debug)]
enum State {
    Connecting {
        last: Option<Error>,
    },
    Connected(Arc<Attached>),
    /// The `Db` is gone.
    Closed,
}

/// A link with the generation of the store behind it.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) link: Arc<Link>,
    pub(crate) generation: u64,
    /// A request found the link dead before the reader did.
    dead: Notify,
}

impl Attached {
    /// Refuses what is about another store, or another life of it, than the one behind the link.
    pub(crate) fn is_of(&self, life: Life) -> Result<(), Failure> {
        if self.generation == life.generation { Ok(()) } else { Err(Failure::Elsewhere) }
    }
}

/// What all handles of one `Db` share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) url: String,
    pub(crate) cache: Cache,
    /// The store that the cache's file is of; 0: none is known.
    kept_store_id: u64,
    pub(crate) position: Arc<Position>,
    pub(crate) watchers: Watchers,
    pub(crate) changes: Changes,
    pub(crate) root_names: RootNames,
    /// What its answers have told of, or may: whoever says hello names it, and is told of that alone.
    held: Arc<Mutex<Held>>,
    /// What the server takes in one message.
    message_bytes_max: AtomicUsize,
    pub(crate) oids: Oids,
    pub(crate) pins: Pins,
    in_flight: Semaphore,
    state: watch::Sender<State>,
    /// Requests that wait for a connection.
    waiting: watch::Sender<usize>,
    /// The server's mode, as of the last hello or push.
    pub(crate) mode: watch::Sender<Mode>,
    /// The store of the last hello, and its life then; 0: none yet.
    store_id: AtomicU64,
    timeline: AtomicU64,
    /// The newest term of that store that was met.
    term: AtomicU64,
    /// The other store that was last seen at one of several addresses, and told in the log.
    strangers: Mutex<BTreeMap<String, u64>>,
    /// The server's limit.
    load_cells_max: AtomicUsize,
    key_bytes_max: AtomicUsize,
    /// The newest that the server has told; only sessions with the role `evolve` are told.
    pressure: Mutex<Option<Pressure>>,
    /// Where the session's tasks run; a forked child has none of them.
    process: u32,
}

impl Core {
    fn new(url: String, options: Options, opened: Opened) -> std::io::Result<Core> {
        let (position, changes, root_names) =
            (Arc::new(Position::default()), Changes::new(options.changed_oids_max), RootNames::default());
        let kept_store_id = opened.kept.map_or(0, |kept| kept.store_id);
        if let Some(Kept { timeline, position: at, .. }) = opened.kept {
            // As after a lost connection: what was committed since is told before anybody reads.
            position.restart(Life { generation: 0, timeline }, at);
            changes.restart(0, at);
            root_names.restart(0, at);
        }
        let (held, seen) = (opened.held.clone(), position.clone());
        let cache = opened.begin(move || {
            let (tid, Life { generation, timeline }) = seen.snapshot();
            Seen { generation, tid, timeline }
        })?;
        Ok(Core {
            cache,
            kept_store_id,
            position,
            watchers: Watchers::new(options.watch_backlog),
            changes,
            root_names,
            held: Arc::new(Mutex::new(held)),
            message_bytes_max: AtomicUsize::new(usize::MAX),
            oids: Oids::default(),
            pins: Pins::default(),
            in_flight: Semaphore::new(options.in_flight_max),
            state: watch::Sender::new(State::Connecting { last: None }),
            waiting: watch::Sender::default(),
            mode: watch::Sender::new(Mode::default()),
            store_id: AtomicU64::new(0),
            timeline: AtomicU64::new(0),
            term: AtomicU64::new(0),
            strangers: Mutex::default(),
            load_cells_max: AtomicUsize::new(1),
            key_bytes_max: AtomicUsize::new(usize::MAX),
            pressure: Mutex::new(None),
            process: std::process::id(),
            url,
            options,
        })
    }

    /// Of the store behind the address; 0: nobody has answered yet.
    pub(crate) fn store_id(&self) -> u64 {
        self.store_id.load(Ordering::Acquire)
    }

    /// Refuses in a forked child: nobody there reads answers, and the cache has no feed that keeps it right.
    pub(crate) fn here(&self) -> Result<()> {
        if std::process::id() == self.process { Ok(()) } else { Err(Error::Forked { made_by: self.process }) }
    }

    /// Waits for a connection.
    pub(crate) async fn attached(&self, deadline: Instant) -> Result<Arc<Attached>> {
        if let State::Connected(attached) = &*self.state.borrow() {
            return Ok(attached.clone());
        }
        let mut state = self.state.subscribe();
        let _waits = Waits::new(&self.waiting);
        // Who is not let in need not be waited for; the supervisor goes on trying, a token may be another one then.
        let ready = state.wait_for(|state| match state {
            State::Connecting { last } => last.as_ref().is_some_and(is_shut_out),
            _ => true,
        });
        if let Ok(Ok(state)) = tokio::time::timeout_at(deadline, ready).await
            && let State::Connected(attached) = &*state
        {
            return Ok(attached.clone());
        }
        Err(match &*self.state.borrow() {
            State::Connecting { last: Some(error) } => error.clone(),
            State::Closed => self.disconnected("this Db was closed"),
            _ => self.disconnected("no answer within the time limit"),
        })
    }

    /// How long a key may be.
    pub(crate) fn key_bytes_max(&self) -> usize {
        self.key_bytes_max.load(Ordering::Relaxed)
    }

    /// How many cells one load may name.
    pub(crate) fn load_cells_max(&self) -> usize {
        self.load_cells_max.load(Ordering::Relaxed)
    }

    fn disconnected(&self, reason: &str) -> Error {
        Error::Disconnected { url: self.url.clone(), reason: reason.to_owned() }
    }

    /// One request, sent until it is answered or the time is over.
    pub(crate) async fn call<T, F>(&self, resend: Resend, ask: impl Fn(Arc<Link>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.call_attached(resend, |attached| ask(attached.link.clone())).await
    }

    /// Like `call`, for requests that need to know which store answers.
    pub(crate) async fn call_attached<T, F>(&self, resend: Resend, ask: impl Fn(Arc<Attached>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.here()?;
        let deadline = Instant::now() + self.options.request_timeout;
        let _turn = match tokio::time::timeout_at(deadline, self.in_flight.acquire()).await {
            Ok(Ok(turn)) => turn,
            _ => return Err(Fault::new(FaultKind::Busy, self.too_many()).into()),
        };
        // Whether an earlier sending may have been taken in by a server that could not answer any more.
        let mut in_doubt = false;
        let mut waits = 0;
        loop {
            let attached = match self.attached(deadline).await {
                Ok(attached) => attached,
                Err(error) => return Err(self.gave_up(resend, in_doubt, error)),
            };
            let failure = match tokio::time::timeout_at(deadline, ask(attached.clone())).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(failure)) => failure,
                Err(_) => {
                    let late = Error::NoAnswer { url: self.url.clone(), within: self.options.request_timeout };
                    return Err(self.gave_up(resend, true, late));
                }
            };
            let again = match failure {
                Failure::Fault(fault) if fault.kind == FaultKind::ShuttingDown => {
                    self.leave(&attached, fault.into());
                    continue;
                }
                Failure::Fault(fault) if fault.kind == FaultKind::NotPrimary && self.has_choice() => {
                    if self.is_primary(attached.link.welcome()) {
                        // It was, until just now.
                        self.leave(&attached, fault.clone().into());
                        attached.dead.notify_one();
                    }
                    let wait = self.options.wait(fault.retry_after_ms, 1);
                    if Instant::now() + wait >= deadline {
                        return Err(self.gave_up(resend, in_doubt, fault.into()));
                    }
                    Instant::now() + wait
                }
                Failure::Fault(fault) if fault.kind == FaultKind::Busy => {
                    waits += 1;
                    let wait = self.options.wait(fault.retry_after_ms, waits);
                    if Instant::now() + wait >= deadline {
                        return Err(self.gave_up(resend, in_doubt, fault.into()));
                    }
                    Instant::now() + wait
                }
                Failure::Fault(fault) => return Err(refused(resend, fault)),
                // In doubt, it may have happened where nobody can ask any more, or be a part of what was put back.
                Failure::Elsewhere => return Err(self.gave_up(resend, in_doubt, Failure::elsewhere().into())),
                Failure::Lost(_) if resend == Resend::Never => {
                    return Err(self.disconnected("the connection was lost; this request is never sent twice"));
                }
                Failure::Lost(_) => {
                    in_doubt = true;
                    self.leave(&attached, self.disconnected("the connection was lost"));
                    attached.dead.notify_one();
                    continue;
                }
            };
            tokio::time::sleep_until(again).await;
        }
    }

    /// Like `call_attached`, for requests at a snapshot. The feed tells a commit just before the server makes it visible; a
    /// request that is faster than that is refused as being ahead, and simply sent again.
    pub(crate) async fn call_at<T, F>(&self, resend: Resend, at: Tid, ask: impl Fn(Arc<Attached>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut tries = 0;
        loop {
            match self.call_attached(resend, &ask).await {
                Err(Error::Fault(fault))
                    if fault.kind == FaultKind::SnapshotAhead
                        && at <= self.position.get()
                        && tries < AHEAD_TRIES_MAX =>
                {
                    tries += 1;
                    tokio::time::sleep(jittered(2)).await;
                }
                result => return result,
            }
        }
    }

    fn too_many(&self) -> String {
        format!(
            "{} requests are in flight already; send fewer at once or raise in_flight_max",
            self.options.in_flight_max
        )
    }

    fn gave_up(&self, resend: Resend, in_doubt: bool, error: Error) -> Error {
        match resend {
            Resend::UnderKey(key) if in_doubt => Error::OutcomeUnknown { key, reason: error.to_string() },
            _ => error,
        }
    }

    /// Takes in what a load told of a cell at a snapshot of a generation of the store: for the cache, if it is to keep it.
    pub(crate) fn loaded(&self, cell: &Cell, revision: &Revision, (at, generation): (Tid, u64), keep: bool) {
        if let Some(end) = revision.end {
            // The feed may have told that before anybody asked for the cell: then it has not.
            self.changes.ended(generation, end, cell.oid);
        }
        // The server's own cells are in no feed: nobody would tell that they have ended.
        if keep && cell.oid != Oid::SYSTEM {
            self.cache.insert(cell, revision, at, generation);
        }
    }

    /// A request found that this link takes no more: nobody else needs to try it.
    fn leave(&self, link: &Arc<Attached>, why: Error) {
        self.state.send_if_modified(|state| match state {
            State::Connected(now) if Arc::ptr_eq(now, link) => {
                *state = State::Connecting { last: Some(why) };
                true
            }
            _ => false,
        });
    }

    fn hello(&self) -> Hello {
        let (cache, store_id) = (self.cache.stats(), self.store_id());
        Hello {
            client: self.options.name.clone(),
            acting: self.options.acting(),
            feed: self.options.feed,
            resume_from: if self.options.feed { self.position.get() } else { Tid::NONE },
            cached_bytes: cache.bytes + cache.file_bytes,
            store_id: if store_id == 0 { self.kept_store_id } else { store_id },
            timeline: match self.position.timeline() {
                0 => self.timeline.load(Ordering::Acquire),
                fed => fed,
            },
            term: self.term.load(Ordering::Acquire),
            interest: false,
            held: self.held.clone(),
        }
    }

    /// Whether the next session may be told only of what this client holds: nobody watches, and it can be said what that is.
    fn may_be_left_out(&self) -> bool {
        let fits = self.held.lock().bytes() + HELLO_BYTES <= self.message_bytes_max.load(Ordering::Relaxed);
        self.options.feed && fits && self.watchers.are_none()
    }

    /// After the hello: keep the cache, or drop it, as the server's answer demands. Gives the generation.
    fn adopt(&self, hello: &Hello, welcome: &Welcome) -> u64 {
        // In another life of the store, tids that are known mean something else; what was replayed is of one life.
        let same_life = hello.timeline == welcome.timeline || welcome.replayed;
        let same_store = hello.store_id == welcome.store_id && welcome.visible >= hello.resume_from && same_life;
        let generation = self.position.generation() + u64::from(!same_store);
        let kept = same_store && welcome.replayed && hello.resume_from != Tid::NONE;
        if !kept {
            // Without a feed no invalidation will ever come, so nothing may be kept open.
            let floor = if self.options.feed { welcome.visible } else { Tid::MAX };
            self.cache.reset(generation, floor);
            self.changes.restart(generation, floor);
            self.root_names.restart(generation, floor);
            self.oids.generation(generation);
        }
        if !same_store {
            *self.pressure.lock() = None;
        }
        self.position.restart(Life { generation, timeline: welcome.timeline }, welcome.visible);
        self.mode(welcome.mode.clone());
        // Who was here when nothing had been committed has missed whatever there is now.
        let is_behind_nothing = self.options.feed && hello.store_id != 0 && welcome.visible > Tid::NONE;
        if !kept && (hello.resume_from != Tid::NONE || is_behind_nothing) {
            tracing::info!(url = self.url, same_store, "the feed could not be resumed; the cache starts anew");
            self.watchers.missed(welcome.visible);
        }
        if !welcome.interest {
            self.watchers.whole_behind(welcome.visible);
        }
        match self.store_id.swap(welcome.store_id, Ordering::AcqRel) == welcome.store_id {
            true => self.term.fetch_max(welcome.term, Ordering::AcqRel),
            false => self.term.swap(welcome.term, Ordering::AcqRel),
        };
        self.timeline.store(welcome.timeline, Ordering::Release);
        self.cache.is_of(Of { generation, store_id: welcome.store_id, timeline: welcome.timeline });
        self.message_bytes_max.store(welcome.limits.message_bytes_max, Ordering::Relaxed);
        self.load_cells_max.store(welcome.limits.load_cells_max.max(1), Ordering::Relaxed);
        self.key_bytes_max.store(welcome.limits.key_bytes_max, Ordering::Relaxed);
        generation
    }
}

impl Inbox for Core {
    fn changed(&self, tid: Tid, timeline: u64, cells: Vec<Cell>) {
        self.cache.invalidate(tid, &cells);
        self.changes.changed(tid, &cells);
        self.root_names.changed(tid, &cells);
        // Behind what is kept, before who is told: a watcher who reads then has what he was told of.
        self.position.reached(tid, timeline);
        self.watchers.changed(tid, cells);
    }

    fn reached(&self, tid: Tid, timeline: u64) {
        self.position.reached(tid, timeline);
    }

    fn mode(&self, mode: Mode) {
        self.mode.send_if_modified(|now| {
            let changed = *now != mode;
            *now = mode;
            changed
        });
    }

    fn going_down(&self, why: Fault) {
        let now = match &*self.state.borrow() {
            State::Connected(attached) => Some(attached.clone()),
            _ => None,
        };
        if let Some(attached) = now {
            self.leave(&attached, why.into());
        }
    }

    fn pressed(&self, pressure: Pressure) {
        *self.pressure.lock() = Some(pressure);
    }
}

/// Whether the server knows this client, and wants it not to come.
fn is_shut_out(error: &Error) -> bool {
    matches!(error.kind(), Some(FaultKind::Unauthenticated | FaultKind::Denied))
}

/// A refusal that is told as one. That the outcome is not known has one shape, whoever finds it out.
fn refused(resend: Resend, fault: Fault) -> Error {
    match resend {
        Resend::UnderKey(key) if fault.kind == FaultKind::OutcomeUnknown => {
            Error::OutcomeUnknown { key, reason: fault.message }
        }
        _ => fault.into(),
    }
}

/// An address as the transport wants it.
pub(crate) fn url_of(address: String, tls: &Tls) -> String {
    let scheme = if tls.is_given() { "https" } else { "http" };
    if address.contains("://") { address } else { format!("{scheme}://{address}") }
}

/// Lives a session to its end, and tells why it ended. It is given out once the pins are there.
async fn attend(core: &Arc<Core>, link: Link, incoming: Incoming, generation: u64) -> Ended {
    let attached = Arc::new(Attached { link: Arc::new(link), generation, dead: Notify::new() });
    let reading = incoming.run(&**core);
    tokio::pin!(reading);
    let pinned = core.pins.renew_all(&attached.link, generation);
    tokio::select! {
        ended = &mut reading => return ended,
        _ = tokio::time::timeout(core.options.connect_timeout, pinned) => {}
    }
    core.state.send_replace(State::Connected(attached.clone()));
    tokio::select! {
        ended = reading => ended,
        () = address::found_primary(core), if core.looks_on(attached.link.welcome()) => {
            Ended { why: "the primary was found at another address".to_owned(), goes_down: true }
        }
        never = tell_watchers(core, &attached.link) => match never {},
        () = attached.dead.notified() => Ended { why: "the connection is dead".to_owned(), goes_down: false },
    }
}

/// Asks to be told everything when somebody watches.
async fn tell_watchers(core: &Core, link: &Link) -> Infallible {
    loop {
        core.watchers.are_wanting().await;
        match link.everything().await {
            Ok(newest) => {
                // Who is told that something up to there was missed reads it again: the feed is to have come as far, as it does in moments.
                core.position.wait_for(newest, Instant::now() + core.options.request_timeout).await;
                core.watchers.whole_behind(newest);
            }
            // It has no room, or is about to end.
            Err(_) => tokio::time::sleep(jittered(ASKS_AGAIN_MS)).await,
        }
    }
}

/// Connects, reads until the session ends, and again, until the task is ended.
async fn supervise(core: Arc<Core>) {
    let mut failures = 0;
    loop {
        let hello = Hello { interest: core.may_be_left_out(), ..core.hello() };
        let mut at_once = false;
        let last = match address::open(&core, &hello).await {
            Ok((link, incoming)) => {
                let generation = core.adopt(&hello, link.welcome());
                tracing::debug!(url = core.url, session = link.welcome().session_id, "connected");
                let began = Instant::now();
                let Ended { why: reason, goes_down } = attend(&core, link, incoming, generation).await;
                tracing::info!(url = core.url, reason, "the session ended; reconnecting");
                failures = core.options.failures_after(failures, began.elapsed());
                // Whoever stops a server in order starts the next one right away.
                at_once = goes_down && failures == 0;
                Error::Disconnected { url: core.url.clone(), reason }
            }
            Err(error) => {
                tracing::debug!(url = core.url, %error, "cannot connect");
                if error.kind() == Some(FaultKind::TooLarge) {
                    // Another server, which takes less than the last one: what is held is not said, and everything told.
                    core.message_bytes_max.store(0, Ordering::Relaxed);
                }
                error
            }
        };
        failures += 1;
        let pause = match &last {
            _ if at_once => Duration::ZERO,
            Error::Fault(fault) => core.options.backoff(failures).max(Duration::from_millis(fault.retry_after_ms)),
            _ => core.options.backoff(failures),
        };
        // A busy server says when to come again; one that is not there may be back at any moment.
        let eager = if matches!(last, Error::Fault(_)) { pause } else { pause.min(jittered(EAGER_MS)) };
        core.state.send_replace(State::Connecting { last: Some(last) });
        tokio::time::sleep(eager).await;
        let mut waiting = core.waiting.subscribe();
        tokio::select! {
            () = tokio::time::sleep(pause.saturating_sub(eager)) => {}
            _ = waiting.wait_for(|waiting| *waiting > 0) => {}
        }
    }
}

/// A request that waits for a connection.
struct Waits<'a>(&'a watch::Sender<usize>);

impl Waits<'_> {
    fn new(waiting: &watch::Sender<usize>) -> Waits<'_> {
        waiting.send_modify(|waiting| *waiting += 1);
        Waits(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// A duration of this many milliseconds, somewhere between half of it and the whole.
#[expect(clippy::disallowed_methods, reason = "only the length of pauses depends on it, and no test on those")]
pub(crate) fn jittered(ms: u64) -> Duration {
    Duration::from_micros(fastrand::u64(ms * 500..=ms * 1000))
}
