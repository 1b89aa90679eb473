//! Owns the connections of the listener: accepted, encrypted if the settings say so, bounded in number and in time.
//!
//! One request per connection, HTTP/1. A head over `header_bytes_max` gets 431; what takes longer than `request_timeout_ms`, from the first
//! byte to the last, is closed. An open page is one long answer, and lives as long as it reads (`leash`).
//!
//! ```text
//!   all `connections_max` places taken ──> the oldest that has not asked yet (half a handshake, head or body) is closed for the one that comes
//!                                     └──> all have asked: the one that comes is closed, and the log tells now and then
//! ```
//! So who says half a thing on every place keeps nobody out. The system's buffer for what is sent is small, and one whose machine does not say
//! in time that it has come is closed: an answer that nobody reads would wait there otherwise, and look taken.

use super::leash::Leash;
use super::stream::LEASH_MIN;
use super::{Site, routes};
use crate::auth::Visitor;
use crate::auth::authority::Certified;
use crate::auth::seldom::Seldom;
use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

/// How long accepting rests after an error: it goes away with a connection.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Between two lines about connections that had no place, or could not be accepted.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What the system keeps of what is sent; it takes twice as much for its own accounts.
const SEND_BUFFER_BYTES: usize = 32 << 10;

/// Accepts and answers until it is dropped, which closes every connection as well.
pub(super) async fn serve(listener: TcpListener, site: Arc<Site>) {
    let mut places = Places::default();
    let (full, failed) = (Seldom::new(TOLD_EVERY), Seldom::new(TOLD_EVERY));
    let router = routes::router(site.clone());
    loop {
        tokio::select! {
            Some(_) = places.connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) if places.has_room(site.settings.connections_max).await => {
                    let leash = Leash::new(Duration::from_millis(site.settings.request_timeout_ms));
                    places.take(leash.clone(), connection(stream, address, site.clone(), router.clone(), leash));
                }
                Ok(_) => {
                    if let Some(untold) = full.may_tell(site.shown.clock.steady()) {
                        tracing::warn!(
                            untold,
                            "too many readers of page and metrics: one is closed; see metrics.connections_max"
                        );
                    }
                }
                Err(error) => {
                    if let Some(untold) = failed.may_tell(site.shown.clock.steady()) {
                        tracing::warn!(%error, untold, "a reader of page and metrics could not be accepted");
                    }
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            },
        }
    }
}

/// Who is connected.
#[derive(Default)]
struct Places {
    connections: JoinSet<()>,
    /// Those that have not asked yet, the oldest first; one that has is taken out when the next comes.
    beginning: VecDeque<(AbortHandle, Leash)>,
}

impl Places {
    /// Whether there is a place for one more, if need be that of one that has not asked yet.
    async fn has_room(&mut self, most: usize) -> bool {
        self.beginning.retain(|(task, leash)| !task.is_finished() && !leash.has_asked());
        if self.connections.len() < most {
            return true;
        }
        let Some((oldest, _)) = self.beginning.pop_front() else { return false };
        oldest.abort();
        // It ends as soon as it waits for anything.
        while self.connections.len() >= most && self.connections.join_next().await.is_some() {}
        true
    }

    fn take(&mut self, leash: Leash, connection: impl Future<Output = ()> + Send + 'static) {
        let task = self.connections.spawn(connection);
        self.beginning.push_back((task, leash));
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, site: Arc<Site>, router: Router, leash: Leash) {
    // Small events go out at once. One that is gone already says so at its first read.
    let _ = stream.set_nodelay(true);
    let unread = Duration::from_millis(site.settings.request_timeout_ms).max(LEASH_MIN);
    let unread_ms = u32::try_from(unread.as_millis()).unwrap_or(u32::MAX);
    let _ = sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
    let _ = sockopt::set_tcp_user_timeout(&stream, unread_ms);
    let served = async {
        let Some(encryption) = &site.shown.encryption else {
            return answered(stream, &site, router, visitor(&site, address, &Certified::default()), &leash).await;
        };
        match TlsAcceptor::from((encryption.config)()).accept(stream).await {
            Ok(stream) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let certified = shown.map(encryption.certified).unwrap_or_default();
                answered(stream, &site, router, visitor(&site, address, &certified), &leash).await;
            }
            Err(error) => tracing::debug!(%address, %error, "no TLS with a reader of page and metrics"),
        }
    };
    tokio::select! {
        () = served => {}
        () = leash.ended() => tracing::debug!(%address, "a reader of page and metrics took too long and is closed"),
    }
}

fn visitor(site: &Site, address: SocketAddr, certified: &Certified) -> Visitor {
    Visitor::new(&site.shown.authority, Some(address), certified, &Arc::default())
}

async fn answered(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    site: &Site,
    router: Router,
    visitor: Visitor,
    leash: &Leash,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        if request.body().is_end_stream() {
            leash.is_asked();
        }
        request.extensions_mut().insert(visitor.clone());
        request.extensions_mut().insert(leash.clone());
        router.clone().call(request.map(Body::new))
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(site.settings.request_timeout_ms))
        .max_buf_size(site.settings.header_bytes_max)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a reader of page and metrics");
    }
}
