//! Owns the settings of a client.

use super::jittered;
use crate::credentials::{self, Tls, Token};
use crate::errors::Result;
use crate::wire::{Acting, Inside, TracedBy};
use std::path::PathBuf;
use std::time::Duration;
use zeolite_proto::Registry;

/// The settings of a client. Take the defaults and change what differs:
///
/// ```
/// let options = zeolite_client::Options::new().name("web-3").cache_bytes(256 << 20);
/// assert!(options.feed && !options.wait_for_server);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Shown in the server's status and logs.
    pub name: String,
    /// As what the client acts: `"read"`, `"write"`, `"evolve"` (a batch worker of an evolve), `"replicate"` or `"admin"`; `""`:
    /// with all the rights that its principal has.
    pub role: String,
    /// Which of the server's databases; `""`: `main`.
    pub database: String,
    /// What proves for which user the client works; none: nothing does, beside a certificate.
    pub token: Option<Token>,
    /// How connections are encrypted.
    pub tls: Tls,
    /// The way to a server in this process, whatever the address says; none: over the network.
    pub inside: Option<Inside>,
    /// Who traces what the program does: told to the server with each request of the session, for traces; none: nobody.
    pub traced_by: Option<TracedBy>,
    /// Whether the server pushes invalidations. Without them nothing newer than a reply is ever assumed: every
    /// transaction begins with a round trip, and the cache only helps reads at old snapshots.
    pub feed: bool,
    /// The budget of the shared cache, in memory.
    pub cache_bytes: u64,
    /// A directory for files in which the cache is kept over restarts: each client that is connected has one of its own there. What memory has no
    /// room for is read from there. None: memory alone.
    pub cache_dir: Option<PathBuf>,
    /// How large the file is that this client takes there; it never grows. Another size than it had makes it anew. 1 MiB to 32 GiB.
    pub cache_file_bytes: u64,
    /// For one attempt to connect, the hello included.
    pub connect_timeout: Duration,
    /// Whether [`crate::Db::connect_with`] goes on trying when nobody is at the address, for `request_timeout`. Once connected,
    /// a client always does.
    pub wait_for_server: bool,
    /// For a request with all its repetitions; it includes waiting for a connection and for a busy server.
    pub request_timeout: Duration,
    /// The first pause between two attempts to connect; each further one is twice as long.
    pub backoff_min: Duration,
    /// The longest pause between two attempts to connect; while a request waits for the connection, none to a server that is not there
    /// is longer than a quarter of a second.
    pub backoff_max: Duration,
    /// Requests that may be in flight at once; further callers wait.
    pub in_flight_max: usize,
    /// Oids of objects that others changed lately which are remembered for [`crate::Db::changes`]; 0: none.
    pub changed_oids_max: usize,
    /// Further addresses of the same database, `http://host:port` or `host:port`: all are asked each time that a connection is made, and
    /// the primary of the newest term is taken; of equals the first.
    pub other_addresses: Vec<String>,
    /// Changes that a watcher may be behind before it is told that it missed some.
    pub watch_backlog: usize,
    /// Resolvers that this client runs itself: for reading its own operations before they are committed, and for conflicts
    /// of classes that the server has no resolver for.
    pub resolvers: Registry,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            name: format!("pid {}", std::process::id()),
            role: String::new(),
            database: String::new(),
            token: None,
            tls: Tls::default(),
            inside: None,
            traced_by: None,
            feed: true,
            cache_bytes: 64 << 20,
            cache_dir: None,
            cache_file_bytes: 256 << 20,
            connect_timeout: Duration::from_secs(5),
            wait_for_server: false,
            request_timeout: Duration::from_secs(30),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            in_flight_max: 1024,
            changed_oids_max: 0,
            other_addresses: Vec::new(),
            watch_backlog: 1024,
            resolvers: Registry::built_in(),
        }
    }
}

zeolite_proto::setters! { Options {
    name: impl Into<String>,
    role: impl Into<String>,
    database: impl Into<String>,
    token: impl Into<Option<Token>>,
    tls: Tls,
    inside: impl Into<Option<Inside>>,
    traced_by: impl Into<Option<TracedBy>>,
    feed: bool,
    cache_bytes: u64,
    cache_dir: impl Into<Option<PathBuf>>,
    cache_file_bytes: u64,
    connect_timeout: Duration,
    wait_for_server: bool,
    request_timeout: Duration,
    backoff_min: Duration,
    backoff_max: Duration,
    in_flight_max: usize,
    changed_oids_max: usize,
    other_addresses: impl Into<Vec<String>>,
    watch_backlog: usize,
    resolvers: Registry,
} }

impl Options {
    /// The defaults.
    pub fn new() -> Options {
        Options::default()
    }

    pub(crate) fn acting(&self) -> Acting {
        Acting {
            database: self.database.clone(),
            role: self.role.clone(),
            token: self.token.clone(),
            tls: self.tls.clone(),
            inside: self.inside.clone(),
            traced_by: self.traced_by.clone(),
        }
    }

    /// These, with what is not given of token and TLS from the environment (`ZEOLITE_TOKEN`, `ZEOLITE_TOKEN_FILE`, `ZEOLITE_CA`,
    /// `ZEOLITE_CERT`, `ZEOLITE_KEY`), or else from the credentials file, by the server's address.
    pub fn with_credentials_for(self, address: &str) -> Result<Options> {
        let (token, tls) = credentials::found(address, self.token, self.tls)?;
        Ok(Options { token, tls, ..self })
    }

    /// The pause after this many failures to connect: doubled each time, up to the longest, then jittered.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let (first, longest) = (self.backoff_min.as_millis() as u64, self.backoff_max.as_millis() as u64);
        jittered((first << failures.saturating_sub(1).min(16)).clamp(1, longest.max(1)))
    }

    /// The failures in a row after a session that lived so long: one that is cut as soon as it is there is a failure to connect
    /// like any other.
    pub(super) fn failures_after(&self, failures: u32, lived: Duration) -> u32 {
        if lived > self.backoff(failures + 1) { 0 } else { failures }
    }

    /// The pause before a busy server is asked again: as it says, or grown with the number of refusals.
    pub(super) fn wait(&self, retry_after_ms: u64, refusals: u32) -> Duration {
        let own = 2u64 << refusals.min(8);
        jittered(if retry_after_ms == 0 { own } else { retry_after_ms.max(1) * 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_limit() {
        let options = Options::default();
        let mut last = Duration::ZERO;
        for failures in 1..100 {
            let pause = options.backoff(failures);
            assert!(pause <= options.backoff_max, "{pause:?}");
            assert!(pause >= Duration::from_millis(25) && pause >= last / 4, "{failures}: {pause:?}");
            last = pause;
        }
        assert!(last >= options.backoff_max / 2);
    }

    #[test]
    fn a_session_that_is_cut_at_once_does_not_make_the_next_pause_short() {
        let options = Options::default();
        let mut failures = 0;
        for _ in 0..20 {
            failures = options.failures_after(failures, Duration::from_millis(1)) + 1;
        }
        assert_eq!(failures, 20);
        assert_eq!(options.failures_after(failures, Duration::from_secs(1)), failures, "not yet");
        assert_eq!(options.failures_after(failures, Duration::from_secs(6)), 0);
    }
}
