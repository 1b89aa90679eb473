//! Owns the numbers for monitoring: an HTTP listener of its own that tells them in the OpenMetrics text format.
//!
//! ```text
//!   scraper ── GET /metrics, /metrics/NAME ──> http ──> numbers ── asks ──> engine status, stage histograms, session queues
//!              GET /healthz                 │    ── reads ─> the records of evolves
//!                                           families: names, types and labels    process: memory, cpu, files
//! ```
//! Nothing is counted here: each answer is made of what engine and sessions know at that moment, so the numbers cannot
//! differ from `zeolite status`, and a server that nobody scrapes pays nothing.
//!
//! Everything has a limit: readers at once, the head of a request, the time of one answer; see [`MetricsSettings`]. There is
//! no encryption and no login: whoever reaches the port can read, and only read.

mod evolves;
mod families;
mod http;
mod numbers;
mod process;
mod replication;

use crate::databases::Databases;
use crate::rpc::Rpc;
use crate::settings::MetricsSettings;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The running listener; dropping it without `stop` leaves it running.
pub(crate) struct Metrics {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Metrics {
    /// Listens where the settings say; `None`: they say nowhere.
    pub(crate) async fn bind(settings: &MetricsSettings) -> Result<Option<TcpListener>, String> {
        let Some(address) = settings.listen_addr()? else { return Ok(None) };
        let bound = TcpListener::bind(address).await;
        bound
            .map(Some)
            .map_err(|error| format!("metrics.listen = {address}: {error}; is another server running there?"))
    }

    /// Answers on a listener until `stop`; must be called inside of the runtime that serves it.
    pub(crate) fn start(
        listener: TcpListener,
        settings: MetricsSettings,
        databases: Arc<Databases>,
        rpc: Arc<Rpc>,
    ) -> io::Result<Metrics> {
        let address = listener.local_addr()?;
        let pages = Arc::new(http::Pages { databases, rpc });
        tracing::info!(%address, "metrics");
        Ok(Metrics { address, task: tokio::spawn(http::serve(listener, settings, pages)) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and every connection.
    pub(crate) async fn stop(self) {
        self.task.abort();
        // It was aborted: that it says so is no news.
        drop(self.task.await);
    }
}
