//! Owns what the page's buttons do: each names its verb, which the one table of rights is asked for, and each is noted in the audit, with what
//! came of it.

use super::entry::Refusal;
use super::leash::Leash;
use super::{Site, Steer, reply};
use crate::auth::Visitor;
use crate::auth::rights::Verb;
use crate::rpc::desk::Desk;
use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use hyper::header::{CONTENT_TYPE, HeaderValue, SET_COOKIE};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::sync::Arc;
use zeolite_proto::{Fault, FaultKind, ModeEnd, ModeKind};

/// The body of a request.
const BODY_BYTES_MAX: usize = 16 << 10;
/// What is told to all users of a site, or kept as a reason.
const WORDS_BYTES_MAX: usize = 1000;

type Whole = State<Arc<Site>>;
type Of = Extension<Visitor>;
type Answer = Result<Response<Body>, Refusal>;

fn answer(of: Answer) -> Response<Body> {
    of.unwrap_or_else(|refusal| *refusal)
}

fn fault(fault: Fault) -> Refusal {
    Box::new(reply::fault(&fault))
}

/// The body as what it should be.
async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let is_json = request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/json");
    if !is_json {
        return Err(fault(Fault::invalid("the body is application/json")));
    }
    let leash = request.extensions().get::<Leash>().cloned();
    let bytes = to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| {
        fault(Fault::new(FaultKind::TooLarge, format!("the body is over {BODY_BYTES_MAX} bytes, or was cut off")))
    })?;
    leash.iter().for_each(Leash::is_asked);
    serde_json::from_slice(&bytes)
        .map_err(|error| fault(Fault::invalid(format!("the body is not what it should be: {error}"))))
}

/// `GET /api/who`
pub(super) async fn who(State(site): Whole, Extension(of): Of, headers: HeaderMap) -> Response<Body> {
    let visitor = match site.visitor(&of, &headers).await {
        Ok(visitor) => visitor,
        Err(refusal) => return *refusal,
    };
    let names = site.shown.databases.names().filter(|name| visitor.has_a_role_on(name));
    let databases: Vec<&str> = names.map(AsRef::as_ref).collect();
    let user = visitor.who().user();
    let login = databases.is_empty() && site.wants_login();
    reply::json(StatusCode::OK, &json!({ "user": user, "databases": databases, "login": login }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

/// `POST /api/login`
pub(super) async fn login(State(site): Whole, Extension(of): Of, request: Request) -> Response<Body> {
    answer(log_in(&site, &of, request).await)
}

async fn log_in(site: &Site, of: &Visitor, request: Request) -> Answer {
    let headers = request.headers().clone();
    let Login { token } = body(request).await?;
    let visitor = site.showing(of, format!("bearer {}", token.trim()).as_bytes()).await?;
    let is_encrypted = site.shown.encryption.is_some();
    let cookie =
        site.logins.begin(visitor.who().clone(), &headers, site.shown.clock.steady(), is_encrypted).map_err(fault)?;
    let user = visitor.who().user().unwrap_or_default();
    tracing::info!(target: "zeolite::audit", principal = user, address = address(of), verb = "log in", result = "done");
    Ok(with_cookie(&cookie))
}

/// `POST /api/logout`
pub(super) async fn logout(State(site): Whole, headers: HeaderMap) -> Response<Body> {
    with_cookie(&site.logins.end(&headers, site.shown.encryption.is_some()))
}

fn address(of: &Visitor) -> String {
    of.address().map_or_else(String::new, |address| address.to_string())
}

fn with_cookie(cookie: &str) -> Response<Body> {
    let mut response = reply::json(StatusCode::OK, &json!({}));
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    database: String,
    mode: ModeKind,
    #[serde(default)]
    banner: String,
    /// 0: it does not end by itself.
    #[serde(default)]
    for_ms: u64,
}

/// `POST /api/mode`
pub(super) async fn mode(
    State(site): Whole,
    Extension(of): Of,
    headers: HeaderMap,
    request: Request,
) -> Response<Body> {
    answer(switch(&site, &of, headers, request).await)
}

async fn switch(site: &Site, of: &Visitor, headers: HeaderMap, request: Request) -> Answer {
    let Switch { database, mode, banner, for_ms } = body(request).await?;
    let desk = site.desk_of(of, &headers, &database).await?;
    let end = if for_ms == 0 { ModeEnd::Never } else { ModeEnd::After(for_ms) };
    let banner = words(banner).map_err(fault)?;
    let mode = desk.set_mode(mode, banner, end).await.map_err(fault)?;
    Ok(reply::json(StatusCode::OK, &mode))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    database: String,
    id: u64,
}

/// `POST /api/session/cut`
pub(super) async fn cut(State(site): Whole, Extension(of): Of, headers: HeaderMap, request: Request) -> Response<Body> {
    answer(cut_one(&site, &of, headers, request).await)
}

async fn cut_one(site: &Site, of: &Visitor, headers: HeaderMap, request: Request) -> Answer {
    let Cut { database, id } = body(request).await?;
    let desk = site.desk_of(of, &headers, &database).await?;
    desk.cut_session(id).map_err(fault)?;
    Ok(reply::json(StatusCode::OK, &json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Steering {
    database: String,
    name: String,
    verb: Way,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Way {
    Pause,
    Resume,
    Cancel,
}

/// `POST /api/evolve`
pub(super) async fn evolve(
    State(site): Whole,
    Extension(of): Of,
    headers: HeaderMap,
    request: Request,
) -> Response<Body> {
    answer(steer(&site, &of, headers, request).await)
}

async fn steer(site: &Site, of: &Visitor, headers: HeaderMap, request: Request) -> Answer {
    let Steering { database, name, verb, reason } = body(request).await?;
    let desk = site.desk_of(of, &headers, &database).await?;
    let audited = match verb {
        Way::Pause => "pause evolve",
        Way::Resume => "resume evolve",
        Way::Cancel => "cancel evolve",
    };
    let steered = steered(site, &desk, name, verb, reason).await;
    desk.note(audited, &steered);
    steered.map_err(fault)?;
    Ok(reply::json(StatusCode::OK, &json!({})))
}

/// What an evolve ends with moves a gate, so it takes the role for that.
async fn steered(site: &Site, desk: &Desk, name: String, way: Way, reason: String) -> Result<(), Fault> {
    desk.check(Verb::Gate)?;
    let reason = words(reason)?;
    let reason = if reason.is_empty() { format!("by {}, on the page", desk.who().name()) } else { reason };
    let what = match way {
        Way::Pause => Steer::Pause { reason },
        Way::Resume => Steer::Resume,
        Way::Cancel => Steer::Cancel { reason },
    };
    let steering = site.steering.get().ok_or_else(|| {
        let message = "this program does not steer evolves from the page, or does not yet; use `zeolite evolve`";
        Fault::new(FaultKind::Busy, message)
    })?;
    steering(desk.database().to_string(), name, what).await
}

fn words(text: String) -> Result<String, Fault> {
    match text.len() {
        length if length > WORDS_BYTES_MAX => Err(Fault::too_large("text", length, WORDS_BYTES_MAX)),
        _ => Ok(text),
    }
}
