//! The rpc layer: requests in, answers out. Only this layer knows the generated types; beside it, tonic is known to what
//! accepts connections (`server`, `server/connection`).
//!
//! ```text
//!   session (fast path) ──┐
//!                         ├──> calls: decode › engine › encode        admin: status, pack, verify, resolvers
//!   unary ────────────────┘
//!   outbox   one outgoing queue per session      greeting   hello, and the replay of what was missed
//!   pump     wakes sessions for their feed, together
//!   parts    drafts larger than a frame          health NOT_SERVING when poisoned or going down
//!   transactions, restore   the log as messages, both ways
//! ```
//!
//! What is shared by all sessions is here: the calls, the number of sessions, the bound on long calls, the memory for
//! drafts in parts, and what the health service says. Nothing here holds data: the engine does.

mod admin;
mod calls;
mod decode;
mod encode;
mod greeting;
mod health;
mod holding;
mod outbox;
mod parts;
mod pump;
mod restore;
mod session;
mod transactions;
mod unary;

use crate::engine::Engine;
use crate::settings::SessionSettings;
use calls::Calls;
use outbox::{Outbox, fault_reply};
use parking_lot::Mutex;
use pump::{Pump, Pumping};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tonic::service::Routes;
use zeolite_proto::wire::DESCRIPTORS;
use zeolite_proto::wire::fault::to_status;
use zeolite_proto::wire::v2::admin_server::AdminServer;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::wire::v2::zeolite_server::ZeoliteServer;
use zeolite_proto::{Fault, FaultKind, Mode};

/// Room for what surrounds a record in a message.
const FRAME_ROOM_BYTES: usize = 1 << 20;

/// When to come back after the sessions were found full.
const SESSIONS_RETRY_AFTER_MS: u64 = 1000;

/// What all sessions and unary calls share.
pub(crate) struct Rpc {
    calls: Calls,
    settings: SessionSettings,
    server_name: String,
    runtime: tokio::runtime::Handle,
    /// The open sessions by number. Locked for a look-up only; may be held while an outbox is locked.
    sessions: Mutex<HashMap<u64, Arc<Outbox>>>,
    next_session: AtomicU64,
    long_calls: Arc<Semaphore>,
    parts_budget: Arc<parts::Budget>,
    health: watch::Sender<Serving>,
    pump: Arc<Pump>,
    _pumping: Pumping,
}

/// What the queues of all sessions hold at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SessionLoad {
    /// Open sessions.
    pub(crate) sessions: u64,
    /// Requests that are not answered yet.
    pub(crate) in_flight: u64,
    /// Answers that wait to be sent.
    pub(crate) reply_bytes: u64,
    /// Invalidations that wait to be sent.
    pub(crate) feed_bytes: u64,
    /// The same of the session that has most.
    pub(crate) feed_bytes_longest: u64,
    /// Batches of them in the session that has most.
    pub(crate) feed_batches_longest: u64,
}

/// What the health service says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Serving {
    Yes,
    Poisoned,
    ShuttingDown,
}

impl Rpc {
    /// The rpc layer over an engine; must be called inside of the runtime that serves it.
    pub(crate) fn new(engine: Arc<Engine>, settings: SessionSettings) -> Arc<Rpc> {
        let (pump, pumping) = Pump::start(Duration::from_millis(settings.feed_delay_ms));
        let rpc = Arc::new(Rpc {
            calls: Calls::new(engine, settings.inline_cells_max),
            server_name: format!("zeolite {}", env!("CARGO_PKG_VERSION")),
            runtime: tokio::runtime::Handle::current(),
            sessions: Mutex::new(HashMap::new()),
            next_session: AtomicU64::new(1),
            long_calls: Arc::new(Semaphore::new(settings.long_calls_max)),
            parts_budget: parts::Budget::new(settings.parts_bytes_max),
            health: watch::Sender::new(Serving::Yes),
            pump,
            _pumping: pumping,
            settings,
        });
        let told = Arc::downgrade(&rpc);
        rpc.calls.engine.on_mode_change(move |mode| {
            if let Some(rpc) = told.upgrade() {
                rpc.push_mode(mode);
            }
        });
        rpc
    }

    /// Every service of the server.
    pub(crate) async fn routes(self: &Arc<Self>) -> Routes {
        let limits = self.calls.engine.limits();
        let (decode_max, encode_max) = (limits.message_bytes_max, reply_bytes_max(limits));
        let zeolite = ZeoliteServer::new(unary::Unary::new(self.clone()))
            .max_decoding_message_size(decode_max)
            .max_encoding_message_size(encode_max);
        let admin = AdminServer::new(admin::Administration::new(self.clone()))
            .max_decoding_message_size(decode_max)
            .max_encoding_message_size(encode_max);
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .build_v1()
            .expect("the descriptors were generated with the code");
        let mut routes = Routes::builder();
        routes.add_service(zeolite).add_service(admin).add_service(reflection);
        routes.add_service(health::service(self.health.subscribe()).await);
        routes.routes()
    }

    /// Tells every session that the server is going down; what is in flight is still answered.
    pub(crate) fn announce_shutdown(&self) {
        self.health.send_replace(Serving::ShuttingDown);
        let fault = Fault::new(FaultKind::ShuttingDown, "the server is going down; connect again and resend");
        for outbox in self.sessions.lock().values() {
            outbox.notice(fault_reply(&fault));
        }
    }

    /// Tells every session the mode. One that is being opened meanwhile is told by its hello as well.
    fn push_mode(&self, mode: &Mode) {
        // A poisoned store changes the mode, by the engine's own hand.
        self.look_at_health();
        for outbox in self.sessions.lock().values() {
            outbox.notice(Reply::Mode(mode.into()));
        }
    }

    /// Ends every session after what is queued for it.
    pub(crate) fn end_sessions(&self) {
        for outbox in self.sessions.lock().values() {
            outbox.end();
        }
    }

    /// Sessions open now.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// What the sessions' queues hold now.
    pub(crate) fn session_load(&self) -> SessionLoad {
        // Each queue has a lock of its own: the list's is let go first.
        let outboxes: Vec<Arc<Outbox>> = self.sessions.lock().values().cloned().collect();
        let mut load = SessionLoad { sessions: outboxes.len() as u64, ..SessionLoad::default() };
        for outbox in outboxes {
            let queued = outbox.queued();
            load.in_flight += queued.in_flight as u64;
            load.reply_bytes += queued.reply_bytes as u64;
            load.feed_bytes += queued.feed_bytes as u64;
            load.feed_bytes_longest = load.feed_bytes_longest.max(queued.feed_bytes as u64);
            load.feed_batches_longest = load.feed_batches_longest.max(queued.feed_batches as u64);
        }
        load
    }

    /// Whether the end was announced.
    pub(crate) fn is_shutting_down(&self) -> bool {
        *self.health.borrow() == Serving::ShuttingDown
    }

    fn open_session(&self) -> Result<(u64, Arc<Outbox>), Fault> {
        if *self.health.borrow() == Serving::ShuttingDown {
            return Err(Fault::new(FaultKind::ShuttingDown, "the server is going down; connect again"));
        }
        let mut sessions = self.sessions.lock();
        if sessions.len() >= self.settings.sessions_max {
            let limit = self.settings.sessions_max;
            return Err(Fault::new(
                FaultKind::Busy,
                format!("{limit} sessions are open, the limit; close one, or raise sessions.sessions_max"),
            )
            .after_ms(SESSIONS_RETRY_AFTER_MS));
        }
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        let outbox = Outbox::new(&self.settings, self.runtime.clone());
        sessions.insert(id, outbox.clone());
        Ok((id, outbox))
    }

    /// A result as the answer of a session.
    fn answer<T>(&self, result: Result<T, Fault>, wrap: fn(T) -> Reply) -> Reply {
        match result {
            Ok(answer) => wrap(answer),
            Err(fault) => {
                self.note(&fault);
                fault_reply(&fault)
            }
        }
    }

    /// A fault as the status of a unary call.
    fn refusal(&self, fault: &Fault) -> tonic::Status {
        self.note(fault);
        to_status(fault)
    }

    /// Looks at every fault that leaves the server: the first one of a poisoned store changes what the health service says.
    fn note(&self, fault: &Fault) {
        // A draft in the very batch that failed is told that its outcome is unknown, all later ones that the store is poisoned.
        if matches!(fault.kind, FaultKind::Poisoned | FaultKind::OutcomeUnknown) {
            self.look_at_health();
        }
    }

    /// Tells the health service when the store is poisoned; nobody needs to have been refused for it.
    fn look_at_health(&self) {
        if self.calls.engine.poisoned().is_some() {
            self.health.send_if_modified(|serving| {
                let first = *serving == Serving::Yes;
                if first {
                    *serving = Serving::Poisoned;
                }
                first
            });
        }
    }

    /// Runs a long call on the blocking pool; at most `sessions.long_calls_max` at once, the others wait their turn.
    async fn off_thread<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = self.long_calls.clone().acquire_owned().await;
        let task = self.runtime.spawn_blocking(move || {
            let _permit = permit;
            call()
        });
        task.await.unwrap_or_else(|error| {
            Err(Fault::new(FaultKind::Internal, format!("a call died ({error}); look at the server's log")))
        })
    }

    /// Runs a long call on the blocking pool without waiting for it; bounded like `off_thread`. How many wait is bounded
    /// by the requests in flight of each session.
    fn detach(self: &Arc<Self>, call: impl FnOnce() + Send + 'static) {
        let permits = self.long_calls.clone();
        self.runtime.spawn(async move {
            let permit = permits.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                call();
            });
        });
    }
}

/// The largest message that this server sends: a record of the largest size, or a receipt whose merged cells are as
/// large as the largest draft.
fn reply_bytes_max(limits: &zeolite_proto::Limits) -> usize {
    limits.record_bytes_max.max(limits.draft_bytes_max) + FRAME_ROOM_BYTES
}
