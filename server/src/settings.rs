//! Owns the settings of a server: plain data, where each value comes from, and what is wrong with it in words.
//!
//! Later layers win: defaults < `zeolite.toml` < environment < flags.
//!
//! ```text
//!   zeolite.toml            environment                       flag override (dotted name)
//!   listen = "..."          ZEOLITE_LISTEN=...                listen=...
//!   [sessions]
//!   sessions_max = 100      ZEOLITE_SESSIONS_SESSIONS_MAX=100 sessions.sessions_max=100
//! ```
//!
//! A name that is not a setting is an error wherever it stands, never ignored; `check` collects every problem, each with
//! the setting's name and what would be right. Settings are data: components (disk, clock, listener) are given to the
//! server beside them.

mod auth;
mod bounds;
mod databases;
mod follow;
mod layers;
mod machine;
mod memory;
mod metrics;
mod schedules;
mod traces;
mod units;
mod zodb;

use crate::engine::{EngineSettings, ReplicationSettings};
use crate::store::StoreSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use zeolite_proto::Limits;

pub use auth::{AnonymousRole, AuthSettings, TlsSettings};
pub use bounds::{bounds, shown};
pub(crate) use databases::database_name;
pub use databases::{DatabasePlan, DatabaseSettings};
pub use follow::FollowSettings;
pub use layers::SettingsError;
pub use machine::memory_bytes as machine_memory_bytes;
pub use memory::Part;
pub use metrics::MetricsSettings;
pub use schedules::{BackupSettings, PackSettings};
pub use traces::TracesSettings;
pub use zodb::ZodbSettings;

/// Where a server listens unless told otherwise.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7878";

/// Variables that begin like settings and are something else: for the program's own options and its log.
pub const OTHER_VARIABLES: &[&str] = &[
    "ZEOLITE_CA",
    "ZEOLITE_CERT",
    "ZEOLITE_CONFIG",
    "ZEOLITE_HANDOVER",
    "ZEOLITE_HANDOVER_PROGRAM",
    "ZEOLITE_CREDENTIALS",
    "ZEOLITE_DATABASE",
    "ZEOLITE_KEY",
    "ZEOLITE_LOG",
    "ZEOLITE_SERVER",
    "ZEOLITE_TOKEN",
    "ZEOLITE_TOKEN_FILE",
];

/// The settings of a server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The data directory; made when missing.
    pub data_dir: PathBuf,
    /// Address and port to listen on. Anything but a loopback address needs encryption and users (`tls`, `auth.users_file`), or
    /// `listen_publicly = true`.
    pub listen: String,
    /// Says in so many words that others than this machine may connect although nothing is encrypted, or nobody has to say who he is.
    pub listen_publicly: bool,
    /// The log, the index and the caches.
    pub store: StoreSettings,
    /// The queues of the commit pipeline, pins.
    pub engine: EngineSettings,
    /// What clients may send.
    pub limits: Limits,
    /// Connections, sessions and their queues.
    pub sessions: SessionSettings,
    /// The page and the numbers for monitoring.
    pub metrics: MetricsSettings,
    /// Where the spans of requests are sent that somebody traces.
    pub traces: TracesSettings,
    /// Who may what.
    pub auth: AuthSettings,
    /// How connections are encrypted.
    pub tls: TlsSettings,
    /// What is done with ZODB's records.
    pub zodb: ZodbSettings,
    /// Backups that the server takes by itself.
    pub backup: BackupSettings,
    /// Packs that it does by itself.
    pub pack: PackSettings,
    /// What it does for copies that follow it.
    pub replication: ReplicationSettings,
    /// Whom it follows itself.
    pub follow: FollowSettings,
    /// Databases beside `main`, by name; set in the file or by flags.
    pub databases: BTreeMap<String, DatabaseSettings>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            data_dir: PathBuf::from("zeolite-data"),
            listen: LISTEN_DEFAULT.into(),
            listen_publicly: false,
            store: StoreSettings::default(),
            engine: EngineSettings::default(),
            limits: Limits::default(),
            sessions: SessionSettings::default(),
            metrics: MetricsSettings::default(),
            traces: TracesSettings::default(),
            zodb: ZodbSettings::default(),
            backup: BackupSettings::default(),
            pack: PackSettings::default(),
            replication: ReplicationSettings::default(),
            follow: FollowSettings::default(),
            auth: AuthSettings::default(),
            tls: TlsSettings::default(),
            databases: BTreeMap::new(),
        }
    }
}

/// The bounds of connections, of sessions and of their queues.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// Connections at once, fewer if the process may not have so many open files; one more is closed as soon as it is accepted.
    pub connections_max: usize,
    /// Unary calls and sessions at once on one connection; HTTP/2 makes the client wait for more.
    pub streams_max: u32,
    /// Sessions at once; one more gets `Busy`.
    pub sessions_max: usize,
    /// How much one connection may have of what all have together, in percent: sessions, streams of the log, pins, prepared drafts and staged
    /// uploads and the bytes of both; one of each at least. Beyond it the connection gets `Busy`, and others go on.
    pub connection_share_percent: usize,
    /// Streams of the log at once; one more gets `Busy`.
    pub log_streams_max: usize,
    /// Requests of one session that are not answered, or whose answer is not sent; beyond it no more is read from it.
    pub in_flight_max: usize,
    /// Bytes of answers that wait in one session; beyond it no more is read from it.
    pub reply_queue_bytes_max: usize,
    /// Bytes of invalidations that are kept for the sessions of a database, the largest commit aside; who has not taken what is beyond it is cut.
    pub feed_queue_bytes_max: usize,
    /// Batches of invalidations that are kept for the sessions of a database; who has not taken what is beyond it is cut.
    pub feed_queue_batches_max: usize,
    /// How long invalidations wait for an answer to be sent with, or for more of their kind, in milliseconds; 0: not at all. With more than ten
    /// idle sessions it is 0.1 ms for each, up to 20 ms.
    pub feed_delay_ms: u64,
    /// How long what a cut session has not read is kept for it, in milliseconds.
    pub cut_linger_ms: u64,
    /// How long a new session may take to say hello, in milliseconds.
    pub hello_timeout_ms: u64,
    /// What a client missed is replayed if that reads at most this many times the bytes that its cache holds.
    pub replay_cost_factor: u64,
    /// Requests that name or may find at most this many cells are answered where they are read; larger ones on the
    /// blocking pool.
    pub inline_cells_max: usize,
    /// Large requests (and pages of streams) that run at once, of all sessions; more wait their turn.
    pub long_calls_max: usize,
    /// Drafts in parts that may be open at once in a session; one more gets `TooLarge`.
    pub open_drafts_max: usize,
    /// Bytes of all requests that are being read or not answered yet, drafts in parts included, and of answers that are not sent; beyond it
    /// they get `Busy`.
    pub requests_bytes_max: usize,
    /// The same of one connection.
    pub connection_bytes_max: usize,
    /// Bytes that a client may send ahead of what the server has read of its connection (HTTP/2 flow control), and half as many of one
    /// call; what is kept for a connection in any case. More is faster over long distances.
    pub window_bytes: u32,
    /// A connection on which nothing was heard for this long is asked for a sign of life, in milliseconds.
    pub keepalive_interval_ms: u64,
    /// A connection that gives none within this is closed, in milliseconds; also a new one on which nothing is said.
    pub keepalive_timeout_ms: u64,
    /// How long connections have for their last frames when the server goes down, in milliseconds.
    pub shutdown_grace_ms: u64,
}

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        SessionSettings {
            connections_max: 1024,
            streams_max: 128,
            sessions_max: 1024,
            connection_share_percent: 25,
            log_streams_max: 32,
            in_flight_max: 1024,
            reply_queue_bytes_max: 16 << 20,
            feed_queue_bytes_max: 8 << 20,
            feed_queue_batches_max: 16 << 10,
            feed_delay_ms: 1,
            cut_linger_ms: 10_000,
            hello_timeout_ms: 10_000,
            replay_cost_factor: 4,
            inline_cells_max: 64,
            long_calls_max: 16,
            open_drafts_max: 4,
            requests_bytes_max: 1 << 30,
            connection_bytes_max: 512 << 20,
            window_bytes: 1 << 20,
            keepalive_interval_ms: 20_000,
            keepalive_timeout_ms: 20_000,
            shutdown_grace_ms: 5_000,
        }
    }
}

impl Settings {
    /// The settings of all layers. `file` must exist if it is named; `overrides` are flags as (dotted name, value).
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Settings, SettingsError> {
        layers::load(file, environment, overrides)
    }

    /// The address to listen on; a host's name is looked up.
    pub fn listen_addr(&self) -> Result<SocketAddr, String> {
        address(&self.listen).ok_or_else(|| {
            format!("listen = {:?} is no address with a port; write it like \"{LISTEN_DEFAULT}\"", self.listen)
        })
    }

    /// Refuses an address that other machines reach, unless they must say who they are and nobody listens, or the operator wants it so.
    pub fn may_listen(&self, address: SocketAddr) -> Result<(), String> {
        // Users count for nothing where whoever proves nothing has a role all the same.
        let has_users_only = self.auth.has_users() && self.auth.anonymous().is_none();
        let is_guarded = self.tls.is_on() && (has_users_only || self.tls.knows_clients());
        if address.ip().is_loopback() || is_guarded || self.listen_publicly {
            return Ok(());
        }
        let lacks = match (self.tls.is_on(), self.auth.has_users()) {
            (false, false) => "without encryption and without users",
            (false, true) => "without encryption",
            (true, _) => "and nobody has to say who he is",
        };
        Err(format!(
            "listen = {address} lets other machines connect, {lacks}; set tls.cert, tls.key and auth.users_file, use a loopback \
             address, or say listen_publicly = true if it is meant so"
        ))
    }

    /// Everything that is wrong, each problem in words with the setting's name.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        match self.listen_addr() {
            Ok(address) => problems.extend(self.may_listen(address).err()),
            Err(problem) => problems.push(problem),
        }
        if self.data_dir.as_os_str().is_empty() {
            problems.push("data_dir is empty; name a directory".into());
        }
        problems.extend(self.plan_of_main().check(&self.sessions));
        bounds::check("sessions", &self.sessions, &mut problems);
        bounds::check("metrics", &self.metrics, &mut problems);
        bounds::check("traces", &self.traces, &mut problems);
        self.traces.check(&mut problems);
        if self.sessions.connection_bytes_max > self.sessions.requests_bytes_max {
            problems.push("sessions.connection_bytes_max must not be greater than sessions.requests_bytes_max".into());
        }
        bounds::check("backup", &self.backup, &mut problems);
        bounds::check("pack", &self.pack, &mut problems);
        bounds::check("replication", &self.replication, &mut problems);
        self.backup.check(&mut problems);
        self.metrics.check(&self.tls, &self.auth, &mut problems);
        self.tls.check(&mut problems);
        self.check_databases(&mut problems);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    text.to_socket_addrs().ok()?.next()
}
