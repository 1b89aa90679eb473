//! The rpc layer: requests in, answers out. Only this layer knows the generated types; beside it, tonic is known to what
//! accepts connections (`server`, `server/connection`).
//!
//! ```text
//!   session › requests (fast path) ──┐
//!                                    ├──> calls: right? › decode › engine › encode       admin: status, pack, modes ...
//!   unary, replicate ────────────────┘
//!   outbox   one outgoing queue per session      greeting   hello, and the replay of what was missed
//!   fan      the feed of a database, once for all its sessions, which it wakes together
//!   interest which of them may hold a cell, so that it is told to those
//!   budget   the memory of requests and answers, by connection; meter: of messages that are not whole yet
//!   parts    drafts larger than a frame          health NOT_SERVING when poisoned or going down
//!   transactions, restore   the log as messages, both ways
//!   follow, following       the log as it grows: to a follower, and from a primary
//!   blobs    bytes beside the records, in and out as streams
//! ```
//!
//! What is shared by all sessions is here: the calls, the number of sessions, the bound on long calls, the memory of
//! requests, and what the health service says. Nothing here holds data: the engine does.

mod admin;
mod blobs;
pub(crate) mod budget;
mod calls;
mod decode;
pub(crate) mod desk;
mod encode;
mod fan;
mod follow;
pub(crate) mod following;
mod greeting;
mod health;
mod holding;
mod interest;
mod meter;
mod outbox;
mod parts;
mod pieces;
mod replicate;
mod requests;
mod restore;
mod session;
mod transactions;
mod unary;

use crate::auth::Principal;
use crate::auth::standing::Standing;
use crate::databases::{Database, Databases};
use crate::engine::{Counted, Mark, Place, RequestId, Share};
use crate::schedules::Board;
use crate::settings::SessionSettings;
use crate::traces::Traces;
use budget::{Account, Budget, Peer};
use calls::Calls;
use fan::{Fan, Waking};
use following::Promotion;
use health::Health;
use meter::Metered;
use outbox::{Outbox, fault_reply};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tonic::service::Routes;
use tonic::{Request, Status};
use zeolite_proto::wire::DESCRIPTORS;
use zeolite_proto::wire::fault::to_status;
use zeolite_proto::wire::v2::admin_server::AdminServer;
use zeolite_proto::wire::v2::reader_server::ReaderServer;
use zeolite_proto::wire::v2::replicator_server::ReplicatorServer;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_proto::wire::v2::writer_server::WriterServer;
use zeolite_proto::wire::v2::zeolite_server::ZeoliteServer;
use zeolite_proto::{Fault, FaultKind, Mode, Promoted, Seat, SessionInfo, TraceContext};

/// Room for what surrounds a record in a message.
const FRAME_ROOM_BYTES: usize = 1 << 20;

/// When to come back after sessions, or streams of the log, were found full.
const RETRY_AFTER_MS: u64 = 1000;

/// Operators that look at once.
const LOOKS_MAX: usize = 4;

/// What all sessions and unary calls share.
pub(crate) struct Rpc {
    databases: Arc<Databases>,
    settings: SessionSettings,
    server_name: String,
    runtime: tokio::runtime::Handle,
    /// The open sessions by number. Locked for a look-up only; may be held while an outbox is locked.
    sessions: Mutex<HashMap<u64, Member>>,
    next_session: AtomicU64,
    long_calls: Arc<Semaphore>,
    looks: Arc<Semaphore>,
    log_streams: Arc<Semaphore>,
    budget: Arc<Budget>,
    /// Of the files of certificates and users.
    standing: Arc<Standing>,
    board: Arc<Board>,
    traces: Option<Arc<Traces>>,
    /// Calls without a session, for their names.
    next_call: AtomicU64,
    /// Of each database, whoever follows with it: he is told to stop.
    promoters: Mutex<HashMap<Arc<str>, mpsc::Sender<Promotion>>>,
    health: watch::Sender<Health>,
    /// What of it the health service says already.
    health_told: watch::Sender<Health>,
    /// Of each database.
    fans: HashMap<Arc<str>, (Arc<Fan>, Waking)>,
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
    /// Written cells that sessions were told of, and that were left out; each counts once for each session.
    pub(crate) feed_cells_told: u64,
    pub(crate) feed_cells_left_out: u64,
    /// Sessions that are told everything.
    pub(crate) feed_everything: u64,
}

/// An open session; none of a database before its hello.
struct Member {
    outbox: Arc<Outbox>,
    database: Option<Arc<str>>,
    /// Who it is; since its hello.
    who: Option<Principal>,
    since_unix_ms: u64,
    /// Of its connection; since its hello, of its user too.
    place: Place,
}

impl Member {
    fn told(&self, id: u64) -> Option<SessionInfo> {
        let (who, queued) = (self.who.as_ref()?, self.outbox.queued());
        Some(SessionInfo {
            id,
            client: who.client().to_string(),
            principal: who.owner().name().map(str::to_owned),
            address: who.address().map_or_else(String::new, |address| address.to_string()),
            role: Some(who.role()),
            since_unix_ms: self.since_unix_ms,
            in_flight: queued.in_flight as u64,
            reply_bytes: queued.reply_bytes as u64,
            feed_bytes: queued.feed.bytes as u64,
        })
    }
}

impl Rpc {
    /// The rpc layer over the databases; must be called inside of the runtime that serves it.
    pub(crate) fn new(
        databases: Arc<Databases>,
        settings: SessionSettings,
        budget: Arc<Budget>,
        (standing, board): (Arc<Standing>, Arc<Board>),
        traces: Option<Arc<Traces>>,
    ) -> Arc<Rpc> {
        let fans = databases.names().map(|name| (name.clone(), Fan::start(&settings))).collect();
        Arc::new(Rpc {
            server_name: format!("zeolite {}", env!("CARGO_PKG_VERSION")),
            runtime: tokio::runtime::Handle::current(),
            sessions: Mutex::new(HashMap::new()),
            next_session: AtomicU64::new(1),
            long_calls: Arc::new(Semaphore::new(settings.long_calls_max)),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            log_streams: Arc::new(Semaphore::new(settings.log_streams_max)),
            budget,
            standing,
            board,
            traces,
            next_call: AtomicU64::new(1),
            promoters: Mutex::default(),
            health: watch::Sender::new(Health { out: databases.names().cloned().collect(), ..Health::default() }),
            health_told: watch::Sender::default(),
            fans,
            settings,
            databases,
        })
    }

    /// A database is open, or cannot be opened.
    pub(crate) fn opened(self: &Arc<Self>, name: &Arc<str>, opened: &Result<Arc<Database>, Fault>) {
        let Ok(database) = opened else { return };
        let (told, of) = (Arc::downgrade(self), name.clone());
        database.engine().on_mode_change(move |mode| {
            if let Some(rpc) = told.upgrade() {
                rpc.push_mode(&of, mode);
            }
        });
        if let Some(traces) = self.traces.clone() {
            database.engine().on_traced(move |traced| traces.commit(traced));
        }
        let (told, of) = (Arc::downgrade(self), name.clone());
        database.engine().on_seat_change(move || {
            if let Some(rpc) = told.upgrade() {
                rpc.end_sessions_of(&of);
            }
        });
        self.health.send_if_modified(|health| health.out.remove(name));
        // It may have met a failed write already.
        self.look_at_health();
    }

    /// Waits until the health service says what is so.
    pub(crate) async fn health_is_told(&self) {
        let now = self.health.borrow().clone();
        // The service is gone with the server.
        drop(self.health_told.subscribe().wait_for(|told| *told == now).await);
    }

    /// Who sends this request: what its connection carries.
    fn peer<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        let of_connection = request.extensions().get::<Peer>().cloned();
        of_connection.ok_or_else(|| self.refusal(&Fault::new(FaultKind::Internal, "a connection without a visitor")))
    }

    /// The calls that a unary request may make: on the database and in the role that its metadata name.
    fn called<T>(&self, request: &Request<T>) -> Result<Calls, Status> {
        let calls = self.called_at_start(request)?;
        calls.engine().check_confirmed().map_err(|fault| self.refusal(&fault))?;
        Ok(calls)
    }

    /// The same, also while a primary waits for its followers after its start.
    fn called_at_start<T>(&self, request: &Request<T>) -> Result<Calls, Status> {
        let said = |name: &str| match request.metadata().get(name).map(|value| value.to_str()) {
            None => Ok(""),
            Some(Ok(text)) => Ok(text),
            Some(Err(_)) => Err(Fault::invalid(format!("the metadata {name} is not ASCII text"))),
        };
        let peer = self.peer(request)?;
        let calls = said("zeolite-database").and_then(|database| {
            // Who he is comes first: a stranger is not told which databases there are.
            let who = peer.visitor.on(database)?.acting_as(said("zeolite-role")?)?;
            let mut calls = self.calls(self.databases.find(database)?, who, peer.account);
            calls.mark(self.mark_of_call(said("traceparent"), said("x-request-id")));
            Ok(calls)
        });
        calls.map_err(|fault| self.refusal(&fault))
    }

    /// What a call without a session is called, and who traces it; what is said wrongly is as good as not said.
    fn mark_of_call(&self, traceparent: Result<&str, Fault>, id: Result<&str, Fault>) -> Mark {
        let number = || RequestId::Numbered { session: 0, id: self.next_call.fetch_add(1, Ordering::Relaxed) };
        let id = id.ok().and_then(RequestId::given).unwrap_or_else(number);
        let trace = traceparent.ok().and_then(TraceContext::parse).filter(|trace| trace.sampled);
        Mark { id, trace: trace.filter(|_| self.traces.is_some()).map(Box::new) }
    }

    /// Spans that wait, that were sent, and that were dropped.
    pub(crate) fn spans(&self) -> [u64; 3] {
        self.traces.as_ref().map_or([0; 3], |traces| traces.counted().told())
    }

    /// The databases on which whoever asks has a role.
    fn databases_of<T>(&self, request: &Request<T>) -> Vec<String> {
        let Ok(peer) = self.peer(request) else { return Vec::new() };
        self.databases.names().filter(|name| peer.visitor.has_a_role_on(name)).map(|name| name.to_string()).collect()
    }

    fn calls(&self, database: &Arc<Database>, who: Principal, account: Account) -> Calls {
        Calls::new(database.clone(), who, account, self.settings.inline_cells_max)
    }

    /// Every service of the server.
    pub(crate) async fn routes(self: &Arc<Self>) -> Routes {
        let decode_max = self.databases.message_bytes_max();
        let replies = self.databases.limits().map(reply_bytes_max);
        let encode_max = replies.max().unwrap_or(0);
        let unary = unary::Unary::new(self.clone());
        // Every service has the same bounds.
        macro_rules! bounded {
            ($server:ident, $service:expr) => {
                Metered::new(
                    $server::new($service).max_decoding_message_size(decode_max).max_encoding_message_size(encode_max),
                    decode_max,
                )
            };
        }
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .build_v1()
            .expect("the descriptors were generated with the code");
        let mut routes = Routes::builder();
        routes.add_service(bounded!(ZeoliteServer, unary.clone())).add_service(bounded!(ReaderServer, unary.clone()));
        routes.add_service(bounded!(WriterServer, unary.clone())).add_service(bounded!(ReplicatorServer, unary));
        routes
            .add_service(bounded!(AdminServer, admin::Administration::new(self.clone())))
            .add_service(Metered::new(reflection, decode_max));
        let names = self.databases.names().cloned().collect();
        let health = health::service(self.health.subscribe(), names, self.health_told.clone()).await;
        routes.add_service(Metered::new(health, decode_max));
        routes.routes()
    }

    /// Tells every session that the server is going down; what is in flight is still answered.
    pub(crate) fn announce_shutdown(&self) {
        self.health.send_modify(|health| health.shutting_down = true);
        let fault = Fault::new(FaultKind::ShuttingDown, "the server is going down; connect again and resend");
        for member in self.sessions.lock().values() {
            member.outbox.notice(fault_reply(&fault));
        }
    }

    /// Another server takes writes now, or this one: clients come again, and are told so by its hello. What they had in flight they send again.
    fn end_sessions_of(&self, database: &Arc<str>) {
        let fault = Fault::new(FaultKind::ShuttingDown, "another copy is the primary now; connect again and resend");
        for member in self.sessions.lock().values().filter(|member| member.database.as_ref() == Some(database)) {
            member.outbox.notice(fault_reply(&fault));
            member.outbox.end();
        }
    }

    /// Tells the sessions of a database its mode. One that is being opened meanwhile is told by its hello as well.
    fn push_mode(&self, database: &Arc<str>, mode: &Mode) {
        // A poisoned store changes the mode, by the engine's own hand.
        self.look_at_health();
        for member in self.sessions.lock().values().filter(|member| member.database.as_ref() == Some(database)) {
            member.outbox.notice(Reply::Mode(mode.into()));
        }
    }

    /// A copy becomes the primary: by whoever follows with it, or, where nobody does, right here.
    async fn promote(&self, calls: &Calls, anyway: bool, hand_over: bool) -> Result<Promoted, Fault> {
        let engine = calls.engine();
        if engine.seat() == Seat::Primary && !engine.is_returning() {
            return Err(Fault::invalid("this server is the primary already"));
        }
        let promoter = self.promoters.lock().get(calls.database().name()).cloned();
        if let Some(promoter) = promoter.filter(|promoter| !promoter.is_closed()) {
            let (done, answer) = oneshot::channel();
            let full = |_| Fault::new(FaultKind::Busy, "a promotion is at work already; come back").after_ms(1000);
            promoter.try_send(Promotion { anyway, hand_over, done }).map_err(full)?;
            return answer.await.unwrap_or_else(|_| Err(encode::lost()));
        }
        if hand_over {
            return Err(Fault::invalid(
                "this server follows nobody, so that nothing can be handed over to it: start it with zeolite follow PRIMARY first",
            ));
        }
        if engine.seat() == Seat::Fenced && !anyway {
            let fenced = engine.check_seat().err().map(|fault| fault.message).unwrap_or_default();
            return Err(Fault::invalid(format!(
                "{fenced}; nobody is followed here, so that nobody can be asked who has more: say --anyway to take the place of that \
                 one all the same, and lose what this one has not"
            )));
        }
        if !anyway {
            return Err(Fault::invalid(
                "this server is a follower that was started to follow nobody, so that nobody can be asked who has more: start it with zeolite \
                 follow PRIMARY,COPY and promote it then, or say --anyway to promote it without asking",
            ));
        }
        let (term, tid) = following::promote(engine).await?;
        Ok(Promoted { term, tid, ..Promoted::default() })
    }

    /// Ends every session after what is queued for it, and every follower's stream.
    pub(crate) fn end_sessions(&self) {
        self.databases.all().for_each(|database| database.engine().end_followers());
        for member in self.sessions.lock().values() {
            member.outbox.end();
        }
    }

    /// What the queues of a database's sessions hold now.
    pub(crate) fn session_load(&self, database: &Database) -> SessionLoad {
        let of_it = |member: &&Member| member.database.as_ref() == Some(database.name());
        // Each queue has a lock of its own: the list's is let go first.
        let outboxes: Vec<Arc<Outbox>> =
            self.sessions.lock().values().filter(of_it).map(|member| member.outbox.clone()).collect();
        let cost = self.fan(database).cost();
        let mut load = SessionLoad {
            sessions: outboxes.len() as u64,
            feed_cells_told: cost.cells_told,
            feed_cells_left_out: cost.cells_left_out,
            feed_everything: cost.told_everything,
            ..SessionLoad::default()
        };
        for outbox in outboxes {
            let queued = outbox.queued();
            load.in_flight += queued.in_flight as u64;
            load.reply_bytes += queued.reply_bytes as u64;
            load.feed_bytes += queued.feed.bytes as u64;
            load.feed_bytes_longest = load.feed_bytes_longest.max(queued.feed.bytes as u64);
            load.feed_batches_longest = load.feed_batches_longest.max(queued.feed.batches as u64);
        }
        load
    }

    /// What a database's server says about itself: the engine's part, and what it cannot know.
    pub(crate) fn status(&self, database: &Database) -> zeolite_proto::Status {
        let told = self.standing.told();
        zeolite_proto::Status {
            sessions: self.session_load(database).sessions,
            certificate_expires_unix_ms: told.certificate_expires_unix_ms,
            security_problem: told.problem,
            users: told.users,
            anonymous_role: told.anonymous,
            schedules: self.board.of(database.name()),
            ..database.engine().status()
        }
    }

    /// What the requests of all connections hold now, in bytes.
    pub(crate) fn requests_bytes(&self) -> u64 {
        self.budget.used() as u64
    }

    /// Whether the end was announced.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.health.borrow().shutting_down
    }

    fn open_session(&self, account: &Account) -> Result<(u64, Arc<Outbox>), Fault> {
        if self.is_shutting_down() {
            return Err(Fault::new(FaultKind::ShuttingDown, "the server is going down; connect again"));
        }
        let mut sessions = self.sessions.lock();
        if sessions.len() >= self.settings.sessions_max {
            let limit = self.settings.sessions_max;
            return Err(Fault::new(
                FaultKind::Busy,
                format!("{limit} sessions are open, the limit; close one, or raise sessions.sessions_max"),
            )
            .after_ms(RETRY_AFTER_MS));
        }
        let place = account.share().take(Counted::Sessions, 1, self.settings.sessions_max)?;
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        let outbox = Outbox::new(&self.settings, self.runtime.clone());
        let member = Member { outbox: outbox.clone(), database: None, who: None, since_unix_ms: 0, place };
        sessions.insert(id, member);
        Ok((id, outbox))
    }

    /// A place for a stream of the log, for as long as it is sent.
    fn log_stream(&self, share: &Share) -> Result<(Place, OwnedSemaphorePermit), Fault> {
        let limit = self.settings.log_streams_max;
        let place = share.take(Counted::LogStreams, 1, limit)?;
        let permit = self.log_streams.clone().try_acquire_owned().map_err(|_| {
            let message =
                format!("{limit} streams of the log are open, the limit; come back, or raise sessions.log_streams_max");
            Fault::new(FaultKind::Busy, message).after_ms(RETRY_AFTER_MS)
        })?;
        Ok((place, permit))
    }

    /// The feed of a database.
    fn fan(&self, database: &Database) -> &Arc<Fan> {
        &self.fans.get(database.name()).expect("every database has one since the start").0
    }

    /// The session's client has named its database and shown who it is: from here on it counts as one of its user's too.
    fn enter_session(&self, id: u64, database: &Database, who: &Principal) -> Result<(), Fault> {
        let mut sessions = self.sessions.lock();
        let Some(member) = sessions.get_mut(&id) else { return Ok(()) };
        member.place.also(&who.share(&Share::default()))?;
        (member.database, member.who) = (Some(database.name().clone()), Some(who.clone()));
        member.since_unix_ms = database.engine().unix_ms();
        Ok(())
    }

    /// The open sessions of a database, the oldest first.
    fn list_sessions(&self, database: &Database) -> Vec<SessionInfo> {
        let sessions = self.sessions.lock();
        let of_it = sessions.iter().filter(|(_, member)| member.database.as_ref() == Some(database.name()));
        let mut all: Vec<SessionInfo> = of_it.filter_map(|(id, member)| member.told(*id)).collect();
        all.sort_by_key(|session| session.id);
        all
    }

    /// Ends a session of a database. Its client is told, and may come again.
    fn cut_session(&self, database: &Database, id: u64) -> Result<(), Fault> {
        let sessions = self.sessions.lock();
        let member = sessions.get(&id).filter(|member| member.database.as_ref() == Some(database.name()));
        let member = member.ok_or_else(|| {
            let message = format!("there is no session {id} of this database; `zeolite sessions list` shows them");
            Fault::new(FaultKind::NotFound, message)
        })?;
        member.outbox.cut_by_operator();
        Ok(())
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
    fn refusal(&self, fault: &Fault) -> Status {
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

    /// Tells the health service which stores are poisoned; nobody needs to have been refused for it.
    fn look_at_health(&self) {
        for database in self.databases.all().filter(|database| database.engine().poisoned().is_some()) {
            self.health.send_if_modified(|health| health.out.insert(database.name().clone()));
        }
    }

    /// Runs a long call on the blocking pool; at most `sessions.long_calls_max` at once, half of them of one connection. The
    /// others wait their turn.
    async fn off_thread<T: Send + 'static>(
        &self,
        account: &Account,
        call: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let of_connection = account.long_call().await;
        let permit = self.long_calls.clone().acquire_owned().await;
        self.on_pool((of_connection, permit), call).await
    }

    /// Runs what an operator looks at, whatever else is running: it has a few places of its own.
    async fn look<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = self.looks.clone().acquire_owned().await;
        self.on_pool(permit, call).await
    }

    async fn on_pool<T: Send + 'static>(
        &self,
        permit: impl Send + 'static,
        call: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let task = self.runtime.spawn_blocking(move || {
            let _permit = permit;
            call()
        });
        task.await.unwrap_or_else(|error| {
            Err(Fault::new(FaultKind::Internal, format!("a call died ({error}); look at the server's log")))
        })
    }

    /// Runs a long call on the blocking pool without waiting for it; bounded like `off_thread`. How many wait is bounded
    /// by the requests in flight of each session, and by what they weigh.
    fn detach(self: &Arc<Self>, account: &Account, call: impl FnOnce() + Send + 'static) {
        let (permits, account) = (self.long_calls.clone(), account.clone());
        self.runtime.spawn(async move {
            let permits = (account.long_call().await, permits.acquire_owned().await);
            tokio::task::spawn_blocking(move || {
                let _permits = permits;
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
