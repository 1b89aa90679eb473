//! Owns the acceptance of connections: without delay for small writes, bounded in number, undisturbed by errors.
//!
//! Beyond the bound a connection is closed at once: its client learns that now, instead of waiting in a queue that
//! nobody serves. An error of accepting (no file descriptors left) is waited out, because it goes away with a connection.
//!
//! ```text
//!   accept ──> place? ──┬── plain ───────────────────────────────> connection
//!                       └── TLS: a task of its own, with a limit of time ──> connection, with the names of its certificate
//! ```
//! A client that shakes hands slowly holds up nobody, and has its place meanwhile.
//!
//! While the databases are being opened, which takes a moment mostly, who connects waits in the queue of the listener; when it takes longer, he
//! is let in and told how far it is.

use super::connection::{Connection, Connections};
use super::tls::Tls;
use futures_util::Stream;
use futures_util::stream;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How long accepting rests after an error.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// For so long whoever connects waits for the databases.
const OPENING_WAITED: Duration = Duration::from_millis(500);

struct Acceptor {
    listener: TcpListener,
    connections: Arc<Connections>,
    tls: Option<Arc<Tls>>,
    inside: mpsc::Receiver<DuplexStream>,
    /// Those that shake hands.
    beginning: JoinSet<Option<Connection>>,
}

/// The connections that a listener accepts.
pub(super) fn incoming(
    (listener, inside): (TcpListener, mpsc::Receiver<DuplexStream>),
    connections: Arc<Connections>,
    tls: Option<Arc<Tls>>,
    open: oneshot::Receiver<()>,
) -> impl Stream<Item = io::Result<Connection>> {
    let acceptor = Acceptor { listener, inside, connections, tls, beginning: JoinSet::new() };
    stream::unfold((acceptor, Some(open)), |(mut acceptor, mut open)| async move {
        if let Some(open) = open.take() {
            // Open, down, or late.
            drop(tokio::time::timeout(OPENING_WAITED, open).await);
        }
        let connection = acceptor.next().await;
        Some((Ok(connection), (acceptor, open)))
    })
}

impl Acceptor {
    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        if let Some(connection) = self.accepted(stream) {
                            return connection;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ERROR_PAUSE).await;
                    }
                },
                Some(stream) = self.inside.recv() => {
                    if let Some(place) = self.connections.place() {
                        return self.connections.admit_inside(stream, place);
                    }
                }
                Some(begun) = self.beginning.join_next() => {
                    if let Ok(Some(connection)) = begun {
                        return connection;
                    }
                }
            }
        }
    }

    /// A connection that can be used at once.
    fn accepted(&mut self, stream: TcpStream) -> Option<Connection> {
        // A connection that is already gone says so at its first read.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no nodelay");
        }
        let place = self.connections.place()?;
        let Some(tls) = &self.tls else { return Some(self.connections.admit(stream, place)) };
        let (connections, config) = (self.connections.clone(), tls.config());
        self.beginning.spawn(async move { connections.admit_tls(stream, place, config).await });
        None
    }
}
