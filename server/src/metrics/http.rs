//! Owns the HTTP side of the numbers: the listener, its limits, and the pages: `/metrics` (of `main`), `/metrics/NAME` (of
//! any database), `/healthz` (of all; `/healthz?seat=primary` is well only there).
//!
//! One request per connection, HTTP/1 without encryption. Beyond `connections_max` a connection is closed as soon as it is
//! accepted; a head over `header_bytes_max` gets 431; what takes longer than `request_timeout_ms`, from the first byte to
//! the last, is closed.

use super::numbers::{Numbers, Opening};
use crate::databases::{Database, Databases, MAIN};
use crate::rpc::Rpc;
use crate::settings::MetricsSettings;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::registry::Registry;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the numbers are written in.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// How long accepting rests after an error: it goes away with a connection.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// The pages: one for each database that is open or being opened.
pub(super) struct Pages {
    pub(super) databases: Arc<Databases>,
    pub(super) rpc: Arc<Rpc>,
}

impl Pages {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path != "/healthz" && self.database(path).is_none() {
            let names = self.databases.names().map(|name| format!(", /metrics/{name}")).collect::<String>();
            return page(StatusCode::NOT_FOUND, TEXT, format!("there are /healthz, /metrics{names}\n"));
        }
        match (request.method(), self.database(path).map(str::to_owned)) {
            (&Method::GET | &Method::HEAD, Some(name)) => self.metrics(name).await,
            (&Method::GET | &Method::HEAD, None) => match self.sick() {
                None => self.seats(request.uri().query().unwrap_or_default()),
                Some(why) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
            },
            _ => {
                let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".into());
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                refused
            }
        }
    }

    /// What each database is among its copies; `seat=primary` (or another) asked for: whether all are that.
    fn seats(&self, query: &str) -> Response<Full<Bytes>> {
        let asked = query.split('&').find_map(|part| part.strip_prefix("seat="));
        let (mut text, mut all) = ("ok\n".to_owned(), true);
        for database in self.databases.all() {
            let seat = database.engine().seat();
            all &= asked.is_none_or(|asked| asked == seat.text());
            text += &format!("{} {seat}\n", database.name());
        }
        let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        page(status, TEXT, if all { text } else { text.replacen("ok", "another seat is asked for", 1) })
    }

    fn sick(&self) -> Option<String> {
        let sick = || self.databases.all().find_map(|database| self.numbers(database.clone()).sick());
        self.databases.not_open().map(|why| why.message).or_else(sick)
    }

    fn numbers(&self, database: Arc<Database>) -> Numbers {
        Numbers { database, rpc: self.rpc.clone() }
    }

    /// The database whose numbers a path names.
    fn database<'a>(&self, path: &'a str) -> Option<&'a str> {
        let name = match path.strip_prefix("/metrics")? {
            "" => MAIN,
            named => named.strip_prefix('/')?,
        };
        self.collector(name).is_some().then_some(name)
    }

    /// `None`: it is not known, or could not be opened.
    fn collector(&self, name: &str) -> Option<Box<dyn Collector>> {
        // Asked for first: it may be opened in between.
        let opening = self.databases.opening(name).map(|progress| Box::new(Opening { progress }) as Box<dyn Collector>);
        let open = || self.databases.find(name).ok().map(|it| Box::new(self.numbers(it.clone())) as Box<dyn Collector>);
        opening.or_else(open)
    }

    /// Sizes and free bytes are asked of the disk: off the tasks that serve clients.
    async fn metrics(self: Arc<Self>, database: String) -> Response<Full<Bytes>> {
        let text = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            let mut registry = Registry::default();
            registry.register_collector(self.collector(&database).ok_or(std::fmt::Error)?);
            prometheus_client::encoding::text::encode(&mut text, &registry).map(|()| text)
        });
        match text.await {
            Ok(Ok(text)) => page(StatusCode::OK, OPENMETRICS, text),
            Ok(Err(_)) | Err(_) => {
                tracing::error!("the numbers could not be written");
                page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the numbers could not be written; see the log\n".into())
            }
        }
    }
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Accepts and answers until it is dropped, which closes every connection as well.
pub(super) async fn serve(listener: TcpListener, settings: MetricsSettings, pages: Arc<Pages>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < settings.connections_max => {
                    connections.spawn(connection(stream, settings.clone(), pages.clone()));
                }
                Ok(_) => tracing::warn!("too many readers of metrics: one is closed; see metrics.connections_max"),
                Err(error) => {
                    tracing::warn!(%error, "a reader of metrics could not be accepted");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, settings: MetricsSettings, pages: Arc<Pages>) {
    let limit = Duration::from_millis(settings.request_timeout_ms);
    let service = service_fn(move |request| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(pages.answer(request).await) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_buf_size(settings.header_bytes_max)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(limit, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a reader of metrics"),
        Err(_) => tracing::debug!("a reader of metrics took too long and is closed"),
    }
}
