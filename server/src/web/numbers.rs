//! Owns `/metrics` (of `main`), `/metrics/NAME` (of any database) and `/healthz` (of all).
//!
//! Where there are users, numbers want a token with the role `read` on that database, unless `metrics.open` says otherwise: names of classes and
//! of evolves are in them. `/healthz` is for balancers, which have none: it says to everybody whether the server is well (with
//! `?seat=primary`, also whether it takes the writes), and to those alone who may look why not, and what each database is among its copies.

use super::{Site, reply};
use crate::auth::Visitor;
use crate::databases::{Database, MAIN};
use crate::metrics::{self, Numbers, OPENMETRICS, Opening};
use axum::body::Body;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Response, StatusCode};
use prometheus_client::collector::Collector;
use std::sync::Arc;

impl Site {
    /// The numbers of a database. Sizes and free bytes are asked of the disk: off the tasks that serve clients.
    pub(super) async fn metrics(
        self: Arc<Self>,
        of_connection: &Visitor,
        headers: &HeaderMap,
        name: &str,
    ) -> Response<Body> {
        let name = if name.is_empty() { MAIN } else { name }.to_owned();
        let visitor = match self.visitor(of_connection, headers).await {
            Ok(visitor) => visitor,
            Err(refusal) => return *refusal,
        };
        // One that is being opened has no desk yet, and its numbers say so.
        if !self.settings.open
            && let Err(fault) = visitor.on(&name)
        {
            return reply::fault(&fault);
        }
        let Some(collector) = self.collector(&name) else {
            let names = self.shown.databases.names().map(|name| format!(", /metrics/{name}")).collect::<String>();
            return reply::text(StatusCode::NOT_FOUND, &format!("there are /healthz, /metrics{names}"));
        };
        match tokio::task::spawn_blocking(move || metrics::text(collector)).await {
            Ok(Ok(text)) => reply::of(StatusCode::OK, OPENMETRICS, text),
            Ok(Err(_)) | Err(_) => {
                tracing::error!("the numbers could not be written");
                reply::text(StatusCode::INTERNAL_SERVER_ERROR, "the numbers could not be written; see the log")
            }
        }
    }

    /// Whether the server is well, and, if a seat is asked for, whether all databases have it.
    pub(super) fn health(&self, of_connection: &Visitor, headers: &HeaderMap, query: &str) -> Response<Body> {
        // A wrong token waits for nothing here: the answer without one is everybody's, and a balancer must have it in time.
        let shown = headers.get(AUTHORIZATION).map(|token| of_connection.showing(token.as_bytes()));
        let may_look = self.settings.open
            || match &shown {
                Some(Ok(visitor)) => visitor.on(MAIN).is_ok(),
                Some(Err(_)) => false,
                None => of_connection.on(MAIN).is_ok(),
            };
        if let Some(why) = self.sick() {
            let why = if may_look { why } else { "not well; show a token to be told why".to_owned() };
            return reply::text(StatusCode::SERVICE_UNAVAILABLE, &why);
        }
        let asked = query.split('&').find_map(|part| part.strip_prefix("seat="));
        let all: Vec<_> = self.shown.databases.all().map(|it| (it.name().clone(), it.engine().seat())).collect();
        let fits = all.iter().all(|(_, seat)| asked.is_none_or(|asked| asked == seat.text()));
        let (status, mut text) = match fits {
            true => (StatusCode::OK, "ok".to_owned()),
            false => (StatusCode::SERVICE_UNAVAILABLE, "another seat is asked for".to_owned()),
        };
        if may_look {
            text.extend(all.iter().map(|(name, seat)| format!("\n{name} {seat}")));
        }
        reply::text(status, &text)
    }

    fn sick(&self) -> Option<String> {
        let databases = &self.shown.databases;
        let sick = || databases.all().find_map(|database| self.numbers(database.clone()).sick());
        databases.not_open().map(|why| why.message).or_else(sick)
    }

    fn numbers(&self, database: Arc<Database>) -> Numbers {
        Numbers { database, rpc: self.shown.rpc.clone() }
    }

    /// `None`: it is not known, or could not be opened.
    fn collector(&self, name: &str) -> Option<Box<dyn Collector>> {
        let databases = &self.shown.databases;
        // Asked for first: it may be opened in between.
        let opening = databases.opening(name).map(|progress| Box::new(Opening { progress }) as Box<dyn Collector>);
        let open = || databases.find(name).ok().map(|it| Box::new(self.numbers(it.clone())) as Box<dyn Collector>);
        opening.or_else(open)
    }
}
