//! Owns the acceptance of connections: without delay for small writes, bounded in number, undisturbed by errors.
//!
//! Beyond the bound a connection is closed at once: its client learns that now, instead of waiting in a queue that
//! nobody serves. An error of accepting (no file descriptors left) is waited out, because it goes away with a connection.

use super::connection::{Connection, Connections};
use futures_util::Stream;
use futures_util::stream;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long accepting rests after an error.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// The connections that a listener accepts.
pub(super) fn incoming(
    listener: TcpListener,
    connections: Arc<Connections>,
) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold((listener, connections), |(listener, connections)| async {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            // A connection that is already gone says so at its first read.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "no nodelay");
            }
            let Some(connection) = connections.admit(stream) else {
                tracing::warn!(
                    "too many connections: one is closed; raise sessions.connections_max and the limit of open files if they \
                     are wanted"
                );
                continue;
            };
            return Some((Ok(connection), (listener, connections)));
        }
    })
}
