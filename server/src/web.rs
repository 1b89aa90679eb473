//! Owns the listener for monitoring: a page for people, numbers for programs, over HTTP.
//!
//! ```text
//!   connection ──> listener ──> routes: host, origin ──> entry: who is it ──┬─> assets        the page's files, in the binary
//!    TLS, limits, leash          headers                 token, login,      ├─> stream        what the page shows, as it happens
//!                                                        certificate        ├─> actions       what its buttons do: rights, audit
//!                                                                           └─> numbers       /metrics, /healthz
//!   sampler ── each second ──> history (bounded) ──> stream
//! ```
//! The page is one of the doors to a server: who comes through it has the rights of the one table (`auth::rights`), and what he does goes
//! through the same calls as behind the protocol's doors (`rpc::desk`). It asks nothing of other hosts, and lets no other site ask it
//! anything (`forgery`). Every name in what it shows was made by somebody else, and is text there, never markup.
//!
//! Everything has a limit: connections, the head and the body of a request, the time of an answer, open pages, logins, the past that is kept;
//! see [`MetricsSettings`].

mod actions;
mod assets;
mod entry;
mod forgery;
mod history;
mod jobs;
mod leash;
mod listener;
mod logins;
mod numbers;
mod reply;
mod routes;
mod sampler;
mod steering;
mod strangers;
mod stream;

pub use steering::{Steer, Steering};

use crate::auth::Authority;
use crate::auth::authority::Certified;
use crate::clock::Clock;
use crate::databases::Databases;
use crate::rpc::Rpc;
use crate::settings::MetricsSettings;
use history::Histories;
use jobs::Jobs;
use logins::Logins;
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use strangers::Strangers;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// How connections are encrypted, and what a client's certificate says.
#[derive(Clone)]
pub(crate) struct Encryption {
    /// For one more connection.
    pub(crate) config: Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>,
    pub(crate) certified: fn(&CertificateDer<'_>) -> Certified,
}

/// What the listener shows and asks.
pub(crate) struct Shown {
    pub(crate) databases: Arc<Databases>,
    pub(crate) rpc: Arc<Rpc>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) clock: Arc<dyn Clock>,
    /// None: it is not encrypted.
    pub(crate) encryption: Option<Encryption>,
}

/// What all requests share.
struct Site {
    shown: Shown,
    settings: MetricsSettings,
    is_loopback: bool,
    logins: Logins,
    strangers: Strangers,
    histories: Histories,
    jobs: Jobs,
    viewers: Arc<Semaphore>,
    /// What the program that keeps the server can do with evolves.
    steering: OnceLock<Steering>,
}

/// The running listener; dropping it without `stop` leaves it running.
pub(crate) struct Web {
    address: SocketAddr,
    site: Arc<Site>,
    tasks: Vec<JoinHandle<()>>,
}

impl Web {
    /// Listens where the settings say; `None`: they say nowhere.
    pub(crate) async fn bind(settings: &MetricsSettings) -> Result<Option<TcpListener>, String> {
        let Some(address) = settings.listen_addr()? else { return Ok(None) };
        let bound = TcpListener::bind(address).await;
        bound
            .map(Some)
            .map_err(|error| format!("metrics.listen = {address}: {error}; is another server running there?"))
    }

    /// Answers on a listener until `stop`; must be called inside of the runtime that serves it.
    pub(crate) fn start(listener: TcpListener, settings: MetricsSettings, shown: Shown) -> io::Result<Web> {
        let address = listener.local_addr()?;
        let site = Arc::new(Site {
            is_loopback: address.ip().is_loopback(),
            logins: Logins::new(settings.login_s, address.port()),
            strangers: Strangers::new(settings.connections_max),
            histories: Histories::new(shown.databases.names(), settings.history_s),
            jobs: Jobs::new(shown.databases.names(), stream::STATE_EVERY),
            viewers: Arc::new(Semaphore::new(settings.viewers_max)),
            steering: OnceLock::new(),
            shown,
            settings,
        });
        let scheme = if site.shown.encryption.is_some() { "https" } else { "http" };
        tracing::info!(%address, scheme, "page and metrics");
        let serving = tokio::spawn(listener::serve(listener, site.clone()));
        let sampling = tokio::spawn(sampler::run(site.clone()));
        Ok(Web { address, site, tasks: vec![serving, sampling] })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How evolves are steered from the page; without it that is refused. Said once.
    pub(crate) fn steered_by(&self, steering: Steering) {
        if self.site.steering.set(steering).is_err() {
            tracing::debug!("how evolves are steered was said before");
        }
    }

    /// Closes the listener and every connection.
    pub(crate) async fn stop(self) {
        for task in self.tasks {
            task.abort();
            // It was aborted: that it says so is no news.
            drop(task.await);
        }
    }
}
