//! The server: what it is made of, and in which order it starts and stops.
//!
//! ```text
//!   start   settings checked › open files › listener, page and metrics › each store opened, engine › loops
//!   stop    listener closed › sessions told › engine: no new drafts, those in flight finish › loops end, checkpoint
//!           › sessions ended, after their last receipts › page and metrics closed › connections closed, after the grace cut
//!           › engine and store gone, the data directory's lock is free
//! ```
//!
//! It listens before its databases are open: who asks for one meanwhile is told how far that is (`BUSY`). [`Server::begin`] gives a
//! server that listens, [`Server::start`] one whose databases are open.
//!
//! A server is a function of a listener and a shutdown future ([`serve`]); [`Server`] is the same for a program that
//! keeps it inside of itself: a test, a demo. Time, disk and chance come in through [`Components`].

mod accept;
mod certificate;
mod connection;
mod files;
mod guard;
mod inside;
mod looked;
mod revoked;
mod socket;
mod tls;

use crate::auth::Authority;
use crate::auth::standing::{Standing, Told};
use crate::clock::{Clock, SystemClock};
pub use crate::databases::CopyOf;
use crate::databases::{Database, Databases, MAIN, Shared};
pub use crate::engine::Heard;
use crate::engine::{Engine, Leaving};
use crate::rpc::Rpc;
use crate::rpc::budget::Budget;
pub use crate::rpc::following::{CopyStanding, Following, OfTerm, Page, Promotion, Taking};
use crate::schedules::Board;
use crate::settings::{AuthSettings, DatabasePlan, SessionSettings, Settings, TlsSettings};
use crate::store::disk::Disk;
use crate::store::disk::real::RealDisk;
use crate::store::{Opening, Progress, StoreError};
use crate::traces::Traces;
use crate::web::{Encryption, Shown, Steering, Web};
use connection::Connections;
use guard::{Guard, Guarded};
pub use inside::Inside;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tls::Tls;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zeolite_proto::{Fault, Registry};

const HTTP_FRAME_BYTES: u32 = 64 << 10;
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// How long connections have to close when another server waits for the store: clients come back at once, and send again.
const MAKE_WAY_GRACE: Duration = Duration::from_millis(200);

/// How long a stop waits for what still uses the engine when its connection is gone: a long call between two portions.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// Why there is no server, or why it did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings do not make sense.
    #[error("the settings are wrong: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// The store cannot be opened, or not be closed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The listener is not what the settings allow, or failed.
    #[error("listening: {0}")]
    Listen(String),
    /// Without randomness nothing can be told apart from what another life of the server made.
    #[error("the operating system has no randomness: {0}")]
    Randomness(getrandom::Error),
    /// A task of the server died.
    #[error("the server's {0} died; look at its log, and report this")]
    Died(&'static str),
}

/// The doors through which the world comes in.
pub struct Components {
    /// The data directory of `main`.
    pub disk: Arc<dyn Disk>,
    /// Those of the other databases, by name, or why there is none.
    pub disks: BTreeMap<String, Result<Arc<dyn Disk>, StoreError>>,
    /// Wall time and steady time.
    pub clock: Arc<dyn Clock>,
    /// Makes what must differ between two lives of a server: a new store's id, pin numbers.
    pub seed: u64,
    /// Which stores they are to be copies of; none: of no others.
    pub copies: Option<CopyOf>,
    /// An operator's word that the data directory was put back from a copy.
    pub put_back: bool,
    /// Told how far opening is.
    pub progress: Box<dyn FnMut(Progress) + Send>,
}

impl Components {
    /// These, for one database, and nobody who wants to hear of the opening.
    pub fn new(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, seed: u64) -> Components {
        Components {
            disk,
            disks: BTreeMap::new(),
            clock,
            seed,
            copies: None,
            put_back: false,
            progress: Box::new(|_| {}),
        }
    }

    /// Whether another process has one of the data directories.
    pub fn has_locked(&self) -> bool {
        self.disks.values().any(|disk| disk.as_ref().is_err_and(|why| matches!(why, StoreError::Locked { .. })))
    }

    /// The machine's disk and clock.
    pub fn real(settings: &Settings) -> Result<Components, ServerError> {
        let mut disks: BTreeMap<String, Result<Arc<dyn Disk>, StoreError>> = BTreeMap::new();
        // The directory of `main` first: those of the others lie in it unless told otherwise.
        let disk = Arc::new(RealDisk::open(&settings.data_dir)?);
        for (name, database) in &settings.databases {
            // One that is not to be had keeps one database down.
            let opened = RealDisk::open(database.data_dir(name, &settings.data_dir));
            disks.insert(name.clone(), opened.map(|disk| Arc::new(disk) as Arc<dyn Disk>));
        }
        Ok(Components {
            disk,
            disks,
            clock: Arc::new(SystemClock::new()),
            seed: seed()?,
            copies: None,
            put_back: false,
            progress: Box::new(logged()),
        })
    }
}

/// Writes into the log how far an opening is, now and then.
fn logged() -> impl FnMut(Progress) {
    let mut last = None;
    move |Progress { done_bytes, all_bytes, anew }| {
        // A twentieth of it, and none for nothing.
        let part = (all_bytes, done_bytes.saturating_mul(20).checked_div(all_bytes).unwrap_or(20));
        if last.replace(part) != Some(part) {
            tracing::info!(done_bytes, all_bytes, anew, "opening the store");
        }
    }
}

/// A random number, for what must differ between two lives of a server or of a store.
pub fn seed() -> Result<u64, ServerError> {
    getrandom::u64().map_err(ServerError::Randomness)
}

/// Serves on a listener until the shutdown future is ready, then stops in order.
pub async fn serve(
    settings: Settings,
    registry: Registry,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let mut server = Server::start(settings, registry, listener).await?;
    tokio::select! {
        () = shutdown => {}
        _ = &mut server.serving => return Err(ServerError::Died("listener")),
    }
    server.stop().await
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    databases: Arc<Databases>,
    rpc: Arc<Rpc>,
    /// Says when all databases are open or down, and what is wrong with `main`; none: that was said.
    opening: Option<oneshot::Receiver<Result<(), StoreError>>>,
    stop_accepting: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    connections: Arc<Connections>,
    /// None: there are neither certificates nor users.
    guard: Option<Guard>,
    web: Option<Web>,
    inside: Inside,
    board: Arc<Board>,
    grace: Duration,
}

impl Server {
    /// Starts on the machine's disk and clock. Must be called inside of a multi-threaded tokio runtime.
    pub async fn start(settings: Settings, registry: Registry, listener: TcpListener) -> Result<Server, ServerError> {
        settings.check().map_err(ServerError::Settings)?;
        let components = Components::real(&settings)?;
        Server::start_with(components, settings, registry, listener).await
    }

    /// Whether a server could begin with these settings on this listener, as far as that can be known without a data directory: what they
    /// say, and the files of certificates and users.
    pub fn check_files(settings: &Settings, address: SocketAddr) -> Result<(), ServerError> {
        settings.check().map_err(ServerError::Settings)?;
        settings.may_listen(address).map_err(ServerError::Listen)?;
        who_comes(&settings.auth, &settings.tls, Arc::new(SystemClock::new())).map(drop)
    }

    /// Starts on these components; gives the server when its databases are open.
    pub async fn start_with(
        components: Components,
        settings: Settings,
        registry: Registry,
        listener: TcpListener,
    ) -> Result<Server, ServerError> {
        let mut server = Server::begin(components, settings, registry, listener).await?;
        match server.opened().await {
            Ok(()) => Ok(server),
            Err(why) => {
                // Why there is no server was told already.
                drop(server.stop().await);
                Err(why)
            }
        }
    }

    /// Starts on these components; gives the server when it listens.
    pub async fn begin(
        components: Components,
        settings: Settings,
        registry: Registry,
        listener: TcpListener,
    ) -> Result<Server, ServerError> {
        settings.check().map_err(ServerError::Settings)?;
        let address = listener.local_addr().map_err(|error| ServerError::Listen(error.to_string()))?;
        settings.may_listen(address).map_err(ServerError::Listen)?;
        let plans = settings.plans().map_err(|problem| ServerError::Settings(vec![problem]))?;
        let Settings { sessions, metrics, auth, tls, traces, .. } = settings;
        let connections_max = files::for_connections(sessions.connections_max, &plans, &metrics);
        let (tls, authority) = who_comes(&auth, &tls, components.clock.clone())?;
        // Before a store is opened: a port that is taken is told at once.
        let web_listener = Web::bind(&metrics).await.map_err(ServerError::Listen)?;
        let databases = Arc::new(Databases::new(&plans, components.clock.clone()));
        let grace = Duration::from_millis(sessions.shutdown_grace_ms);
        let budget = Budget::new(&sessions);
        let standing = Arc::new(Standing::default());
        standing.tell(Told { anonymous: auth.anonymous(), ..Told::default() });
        let board = Arc::new(Board::default());
        let traces = Traces::start(&traces, components.clock.clone()).map_err(ServerError::Listen)?;
        let rpc =
            Rpc::new(databases.clone(), sessions.clone(), budget.clone(), (standing.clone(), board.clone()), traces);
        let (stop_accepting, stopped) = oneshot::channel::<()>();
        let (opening_lasts, open_now) = oneshot::channel::<()>();
        let preface_within = Duration::from_millis(sessions.keepalive_timeout_ms);
        let connections =
            Connections::new(connections_max, preface_within, authority.clone(), budget, components.clock.clone());
        let encryption = tls.as_ref().filter(|_| metrics.tls).map(encryption);
        let shown = Shown {
            databases: databases.clone(),
            rpc: rpc.clone(),
            authority: authority.clone(),
            clock: components.clock.clone(),
            encryption,
        };
        let (tls_shown, cuts, clock) = (tls.clone(), connections.clone(), components.clock.clone());
        let guarded =
            Guarded { authority, tls: tls_shown, connections: cuts, standing, clock, expiry_told: Default::default() };
        let guard = (tls.is_some() || auth.has_users()).then(|| Guard::start(guarded));
        let (inside, from_inside) = inside::door();
        let serving = tokio::spawn({
            let router = http2(&sessions).add_routes(rpc.routes().await);
            let incoming = accept::incoming((listener, from_inside), connections.clone(), tls, open_now);
            // Only the handle's drop or its `stop` ends the wait; both mean: stop.
            router.serve_with_incoming_shutdown(incoming, async { drop(stopped.await) })
        });
        let web = web_listener.map(|listener| Web::start(listener, metrics, shown));
        let web = web.transpose().map_err(|error| ServerError::Listen(error.to_string()))?;
        tracing::info!(%address, "listening; the databases are being opened");
        let opening = Some(open(components, plans, registry, (databases.clone(), rpc.clone()), opening_lasts)?);
        Ok(Server {
            address,
            databases,
            rpc,
            opening,
            stop_accepting,
            serving,
            connections,
            guard,
            web,
            inside,
            board,
            grace,
        })
    }

    /// Waits until every database is open, or down. Without `main` it is an error, and the server is to be stopped.
    pub async fn opened(&mut self) -> Result<(), ServerError> {
        let Some(opening) = &mut self.opening else { return Ok(()) };
        let opened = opening.await;
        self.opening = None;
        opened.map_err(|_| ServerError::Died("start"))??;
        self.rpc.health_is_told().await;
        for database in self.databases.all() {
            let (address, visible) = (self.address, database.engine().visible());
            tracing::info!(%address, database = &**database.name(), %visible, "serving");
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the page and the numbers for monitoring are; `None`: nowhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.web.as_ref().map(Web::address)
    }

    /// How evolves are steered from the page: by the program that keeps the server, as a client.
    pub fn steered_by(&self, steering: Steering) {
        if let Some(web) = &self.web {
            web.steered_by(steering);
        }
    }

    /// What tells whether it moves.
    pub fn pulse(&self) -> Pulse {
        Pulse(Arc::downgrade(&self.databases))
    }

    /// Looks at the files of certificates and users now; otherwise it does so every second.
    pub fn look_at_files(&self) {
        if let Some(guard) = &self.guard {
            guard.look_now();
        }
    }

    /// A way in for this program as a client that is an admin: what a schedule does.
    pub fn inside(&self) -> Inside {
        self.inside.clone()
    }

    /// Where whoever does what is scheduled tells how that goes.
    pub fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// The way in for whoever follows a primary with a database.
    pub fn following(&self, database: &str) -> Result<Following, Fault> {
        Ok(Following::new(&self.rpc, self.databases.find(database)?.clone()))
    }

    /// The engine of `main`, which is open, for a program that wants to reach it without a connection.
    pub fn engine(&self) -> &Arc<Engine> {
        self.databases.find(MAIN).expect("who asks has waited until it is open").engine()
    }

    /// The same of any database, by its name.
    pub fn engine_of(&self, database: &str) -> Result<&Arc<Engine>, Fault> {
        self.databases.find(database).map(|database| database.engine())
    }

    /// Stops in order: what was admitted is finished and answered, then the store is closed. Afterwards it can be opened
    /// again, unless this program keeps the engine.
    pub async fn stop(self) -> Result<(), ServerError> {
        self.end(Leaving::Settled).await
    }

    /// The same for a server that another one takes the place of right now: nobody waits for a checkpoint, and connections
    /// that are slow to close are cut soon.
    pub async fn make_way(mut self) -> Result<(), ServerError> {
        self.grace = self.grace.min(MAKE_WAY_GRACE);
        self.end(Leaving::AtOnce).await
    }

    async fn end(self, leaving: Leaving) -> Result<(), ServerError> {
        let Server { databases, rpc, opening, stop_accepting, mut serving, connections, web, grace, .. } = self;
        tracing::info!("stopping");
        if stop_accepting.send(()).is_err() {
            tracing::warn!("the listener had died before");
        }
        rpc.announce_shutdown();
        databases.shut_down();
        if let Some(opening) = opening {
            // What is half open is opened first; what it says is of no use any more.
            drop(opening.await);
        }
        let running = databases.clone();
        let closed = tokio::task::spawn_blocking(move || running.join(leaving)).await;
        rpc.end_sessions();
        if let Some(web) = web {
            web.stop().await;
        }
        let in_time = tokio::time::timeout(grace, &mut serving).await.is_ok();
        if !in_time {
            let count = connections.cut();
            tracing::warn!(count, "connections did not close in time; they are cut");
        }
        let gone: Vec<_> = databases
            .all()
            .map(|database| {
                let (kept, gone) = oneshot::channel::<()>();
                database.engine().keep_to_the_end(kept);
                gone
            })
            .collect();
        drop((databases, rpc));
        let released = async {
            if !in_time {
                // How serving has ended says nothing that matters here.
                drop(serving.await);
            }
            for one in gone {
                drop(one.await);
            }
        };
        if tokio::time::timeout(RELEASE_MAX, released).await.is_err() {
            tracing::warn!("something still uses the engine; the store stays locked until that ends");
        }
        closed.map_err(|_| ServerError::Died("loops"))??;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The certificates of the database's own port, for the listener for monitoring.
fn encryption(tls: &Arc<Tls>) -> Encryption {
    let tls = tls.clone();
    Encryption { config: Arc::new(move || tls.http1_config()), certified: certificate::certified }
}

/// The files of certificates and users.
fn who_comes(
    auth: &AuthSettings,
    tls: &TlsSettings,
    clock: Arc<dyn Clock>,
) -> Result<(Option<Arc<Tls>>, Arc<Authority>), ServerError> {
    let wrong = |problem| ServerError::Settings(vec![problem]);
    let users_file = auth.has_users().then(|| auth.users_file.clone());
    let tls = Tls::open(tls).map_err(wrong)?;
    Ok((tls, Authority::open(auth.anonymous(), users_file, clock).map_err(wrong)?))
}

/// Tells whether a server moves; it keeps nothing of it.
pub struct Pulse(Weak<Databases>);

impl Pulse {
    /// Comes back when the databases that are open decide on commits, or have stopped to and say so, or are gone; not when one of them stands
    /// still.
    pub async fn beats(&self) {
        let ask = |databases: Arc<Databases>| -> Vec<oneshot::Receiver<Result<_, Fault>>> {
            let ask = |database: &Arc<Database>| {
                let (tell, told) = oneshot::channel();
                // Whatever the answer is, and whoever still waits for it.
                database.engine().prepared(Box::new(move |answer| drop(tell.send(answer))));
                told
            };
            databases.all().map(ask).collect()
        };
        for told in self.0.upgrade().map(ask).unwrap_or_default() {
            drop(told.await);
        }
    }
}

/// Opens every database on its disk and starts its loops, on a thread of its own: a process that ends does not wait for it.
fn open(
    components: Components,
    plans: Vec<DatabasePlan>,
    registry: Registry,
    (databases, rpc): (Arc<Databases>, Arc<Rpc>),
    lasts: oneshot::Sender<()>,
) -> Result<oneshot::Receiver<Result<(), StoreError>>, ServerError> {
    let Components { disk, mut disks, seed, copies, put_back, progress, .. } = components;
    disks.insert(MAIN.into(), Ok(disk));
    let on_disks = plans.into_iter().map(|plan| match disks.remove(&plan.name) {
        Some(disk) => Ok((plan, disk)),
        None => Err(ServerError::Settings(vec![format!("the database {} was given no disk", plan.name)])),
    });
    let on_disks = on_disks.collect::<Result<Vec<_>, _>>()?;
    let shared = Shared { registry, opening: Opening { put_back, ..Opening::from(seed) }, copies, progress };
    let (tell, told) = oneshot::channel();
    let work = move || {
        let opened = databases.open(on_disks, shared, |name, opened| rpc.opened(name, opened));
        // Before it is told: who stops the server then waits for nobody but its clients.
        drop((databases, rpc, lasts));
        drop(tell.send(opened));
    };
    let thread = std::thread::Builder::new().name("zeolite-open".to_owned()).spawn(work);
    thread.map(|_| told).map_err(|_| ServerError::Died("start"))
}

fn http2(sessions: &SessionSettings) -> tonic::transport::Server {
    // Never 64 KiB, and never adaptive: with many frames in flight h2 then cuts the connection.
    tonic::transport::Server::builder()
        .initial_connection_window_size(sessions.window_bytes)
        .initial_stream_window_size(sessions.window_bytes / 2)
        .max_frame_size(HTTP_FRAME_BYTES)
        .max_concurrent_streams(sessions.streams_max)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(Duration::from_millis(sessions.keepalive_interval_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(sessions.keepalive_timeout_ms)))
}
