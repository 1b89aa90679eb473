//! Owns a server inside of this process, on a port that the system chooses: for the demo and for measurements.
//!
//! It is the server that `zeolite serve` runs, reached over TCP like any other.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use zeolite_proto::Registry;
use zeolite_server::server::Server;
use zeolite_server::settings::Settings;

/// A running server.
pub(crate) struct Host {
    server: Server,
}

impl Host {
    /// Starts on a data directory with these resolvers, and settings that are the default but for what `change` does.
    pub(crate) async fn start(dir: &Path, registry: Registry, change: impl FnOnce(&mut Settings)) -> Result<Host> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port of this machine can be listened on")?;
        let mut settings = Settings { data_dir: dir.to_owned(), ..Settings::default() };
        change(&mut settings);
        let server = Server::start(settings, registry, listener).await?;
        Ok(Host { server })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// For clients.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Stops in order: everything acknowledged or refused, the index up to date.
    pub(crate) async fn stop(self) -> Result<()> {
        Ok(self.server.stop().await?)
    }
}
