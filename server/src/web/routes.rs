//! Owns the paths of the listener, and what every request goes through first.
//!
//! | path | method | asks for |
//! |---|---|---|
//! | `/`, `/page/...` | GET | nothing: the page's files, which hold no data |
//! | `/api/who` | GET | nothing: whether one must log in, and as whom one is taken |
//! | `/api/events?database=NAME` | GET | look |
//! | `/api/login`, `/api/logout` | POST | a token; nothing |
//! | `/api/mode`, `/api/session/cut`, `/api/evolve` | POST | the verb's role |
//! | `/metrics`, `/metrics/NAME` | GET | look, unless `metrics.open` |
//! | `/healthz` | GET | nothing |

use super::leash::Leash;
use super::{Site, actions, assets, forgery, reply, stream};
use crate::auth::Visitor;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::{HeaderMap, Method, Response, StatusCode, Uri};
use std::sync::Arc;

type Whole = State<Arc<Site>>;
type Of = Extension<Visitor>;

/// Every path.
pub(super) fn router(site: Arc<Site>) -> Router {
    let index = || async { assets::answer("index.html") };
    Router::new()
        .route("/", get(index))
        .route("/page/{name}", get(|Path(name): Path<String>| async move { assets::answer(&name) }))
        .route("/api/who", get(actions::who))
        .route("/api/events", get(events))
        .route("/api/login", post(actions::login))
        .route("/api/logout", post(actions::logout))
        .route("/api/mode", post(actions::mode))
        .route("/api/session/cut", post(actions::cut))
        .route("/api/evolve", post(actions::evolve))
        .route(
            "/metrics",
            get(|State(site): Whole, Extension(of): Of, headers: HeaderMap| async move {
                site.metrics(&of, &headers, "").await
            }),
        )
        .route("/metrics/{name}", get(metrics))
        .route(
            "/healthz",
            get(|State(site): Whole, Extension(of): Of, RawQuery(query): RawQuery, headers: HeaderMap| async move {
                site.health(&of, &headers, query.as_deref().unwrap_or_default())
            }),
        )
        .fallback(|| async {
            reply::text(StatusCode::NOT_FOUND, "there are /, /metrics, /metrics/DATABASE and /healthz")
        })
        .method_not_allowed_fallback(|| async {
            reply::text(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method")
        })
        .layer(from_fn_with_state(site.clone(), guard))
        .with_state(site)
}

async fn metrics(
    State(site): Whole,
    Extension(of): Of,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    site.metrics(&of, &headers, &name).await
}

async fn events(
    State(site): Whole,
    Extension(of): Of,
    Extension(leash): Extension<Leash>,
    headers: HeaderMap,
    uri: Uri,
) -> Response<Body> {
    let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    // Names of databases are of letters, digits, - and _: nothing in them is ever encoded.
    let database = pairs.find(|(key, _)| *key == "database").map_or("", |(_, name)| name).to_owned();
    stream::open(site, &of, &headers, leash, &database).await
}

/// Before and after every request.
async fn guard(State(site): Whole, request: Request, next: Next) -> Response<Body> {
    let headers = request.headers();
    let meant = match site.is_loopback {
        true => forgery::check_host(headers, &site.settings.host_name),
        false => Ok(()),
    };
    let meant = meant.and_then(|()| match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => forgery::check_origin(headers),
    });
    reply::guarded(match meant {
        Ok(()) => next.run(request).await,
        Err(fault) => reply::fault(&fault),
    })
}
