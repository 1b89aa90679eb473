//! Owns what an open page is told, as it happens: server-sent events.
//!
//! ```text
//!   about      once: who looks, what he may do, the past of the plots      sample   each second
//!   state      every other second: status, evolves, sessions               over     the login counts no more; then the stream ends
//! ```
//! Nothing is pushed: each event is made when the one before it was taken, so a slow reader misses some, and one that stands still is cut
//! (`leash`). At most `metrics.viewers_max` are open. Whose login or token counts no more is told within a second.

use super::history::Sample;
use super::leash::Leash;
use super::{Site, reply};
use crate::auth::Visitor;
use crate::auth::rights::Verb;
use crate::metrics::{Evolves, Process};
use crate::rpc::desk::Desk;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures_util::stream;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Response};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use zeolite_proto::{Fault, FaultKind};

/// The state is told with every so many-th sample.
pub(super) const STATE_EVERY: u64 = 2;

/// Something comes each second, so a shorter one would cut everybody.
pub(super) const LEASH_MIN: Duration = Duration::from_secs(2);

/// One that looks.
struct Viewer {
    site: Arc<Site>,
    /// With the login, if that is by what he looks.
    headers: HeaderMap,
    has_login: bool,
    desk: Arc<Desk>,
    leash: Leash,
    rounds: watch::Receiver<u64>,
    seen: u64,
    /// The number of the newest sample that it was told.
    told: u64,
    waiting: VecDeque<Event>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

/// The stream of a database, for somebody who may look.
pub(super) async fn open(
    site: Arc<Site>,
    of: &Visitor,
    headers: &HeaderMap,
    leash: Leash,
    database: &str,
) -> Response<Body> {
    let desk = match site.desk_of(of, headers, database).await {
        Ok(desk) => desk,
        Err(refusal) => return *refusal,
    };
    let Ok(place) = site.viewers.clone().try_acquire_owned() else {
        let words = "as many pages are open as metrics.viewers_max allows; close one";
        let mut full = reply::fault(&Fault::new(FaultKind::Busy, words));
        full.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
        return full;
    };
    let (samples, told) = site.histories.since(desk.database(), 0);
    let mut viewer = Viewer {
        rounds: site.histories.rounds(),
        has_login: site.login(headers).is_some(),
        headers: headers.clone(),
        desk,
        leash,
        seen: 0,
        told,
        waiting: VecDeque::new(),
        is_over: false,
        site,
        _place: place,
    };
    viewer.waiting.push_back(event("about", &viewer.about(&samples)));
    let events = stream::unfold(viewer, |mut viewer| async move {
        viewer.next().await.map(|event| (Ok::<_, Infallible>(event), viewer))
    });
    let mut response = Sse::new(events).into_response();
    // Proxies pass it on as it comes.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn event(name: &str, value: &Value) -> Event {
    Event::default().event(name).data(value.to_string())
}

impl Viewer {
    async fn next(&mut self) -> Option<Event> {
        // Asked for more: it has read what was there.
        self.leash.is_now(Duration::from_millis(self.site.settings.request_timeout_ms).max(LEASH_MIN));
        while self.waiting.is_empty() {
            if self.is_over || self.rounds.changed().await.is_err() {
                return None;
            }
            self.look().await;
        }
        self.waiting.pop_front()
    }

    /// What a round has brought.
    async fn look(&mut self) {
        self.seen += 1;
        if let Err(why) = self.still() {
            self.is_over = true;
            return self.waiting.push_back(event("over", &json!({ "message": why.message })));
        }
        let (samples, told) = self.site.histories.since(self.desk.database(), self.told);
        self.told = told;
        if !samples.is_empty() {
            self.waiting.push_back(event("sample", &json!(samples)));
        }
        // The first one at once.
        if self.seen % STATE_EVERY == 1 {
            let (site, round) = (self.site.clone(), *self.rounds.borrow());
            match self.desk.look(move |desk| state(desk, &site, round)).await {
                Ok(state) => self.waiting.push_back(event("state", &state)),
                Err(fault) => tracing::warn!(%fault, "an open page could not be told how things are"),
            }
        }
    }

    /// Whether he may look still.
    fn still(&self) -> Result<(), Fault> {
        if self.has_login && self.site.login(&self.headers).is_none() {
            return Err(Fault::new(FaultKind::Unauthenticated, "the login has ended; log in again"));
        }
        self.desk.again()
    }

    fn about(&self, samples: &[Sample]) -> Value {
        let who = self.desk.who();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "database": &**self.desk.database(),
            "user": who.owner().name(),
            "role": who.role().text(),
            "may": {
                "mode": self.desk.may(Verb::SetMode),
                "sessions": self.desk.may(Verb::Sessions),
                "evolves": self.desk.may(Verb::Gate),
            },
            "history_s": self.site.settings.history_s,
            "samples": samples,
        })
    }
}

/// All but the plots. Reads the disk.
fn state(desk: &Desk, site: &Site, round: u64) -> Value {
    let evolves = site.jobs.at(desk.database(), round, || Evolves::read(desk.engine()));
    let (each, left_out) = evolves.each();
    let process = Process::now();
    json!({
        "status": desk.status(),
        "evolves": each,
        "evolves_left_out": left_out,
        // None: he may not see them.
        "sessions": desk.sessions().ok(),
        "memory_bytes": process.resident_bytes,
        "cpu_seconds": process.cpu_seconds,
    })
}
