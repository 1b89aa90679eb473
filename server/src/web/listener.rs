//! Owns the connections of the listener: accepted, encrypted if the settings say so, bounded in number and in time.
//!
//! One request per connection, HTTP/1. Beyond `connections_max` a connection is closed as soon as it is accepted; a head over
//! `header_bytes_max` gets 431; what takes longer than `request_timeout_ms`, from the first byte to the last, is closed. An open page is
//! one long answer, and lives as long as it reads (`leash`).

use super::leash::Leash;
use super::{Site, routes};
use crate::auth::Visitor;
use crate::auth::authority::Certified;
use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

/// How long accepting rests after an error: it goes away with a connection.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Accepts and answers until it is dropped, which closes every connection as well.
pub(super) async fn serve(listener: TcpListener, site: Arc<Site>) {
    let mut connections = JoinSet::new();
    let router = routes::router(site.clone());
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) if connections.len() < site.settings.connections_max => {
                    connections.spawn(connection(stream, address, site.clone(), router.clone()));
                }
                Ok(_) => tracing::warn!("too many readers of page and metrics: one is closed; see metrics.connections_max"),
                Err(error) => {
                    tracing::warn!(%error, "a reader of page and metrics could not be accepted");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, site: Arc<Site>, router: Router) {
    let leash = Leash::new(Duration::from_millis(site.settings.request_timeout_ms));
    // Small events go out at once. One that is gone already says so at its first read.
    let _ = stream.set_nodelay(true);
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
