//! Owns who asks: by the token that a request shows, or the login of its browser, or the certificate of its connection, or nobody.
//!
//! ```text
//!   authorization: Bearer ... ──> a user    cookie ──> the user who logged in    certificate ──> its user    else: anonymous
//! ```
//! The anonymous one has the role that the settings give it (`auth.anonymous_role`). Where the listener is open to other machines he looks and
//! changes nothing, whatever that role is.

use super::{Site, reply};
use crate::auth::Visitor;
use crate::auth::authority::Who;
use crate::auth::visitor::AUTHORIZATION;
use crate::rpc::desk::Desk;
use axum::body::Body;
use hyper::{HeaderMap, Response, StatusCode};
use std::sync::Arc;
use zeolite_proto::{Fault, Role};

/// An answer instead of what was asked for.
pub(super) type Refusal = Box<Response<Body>>;

impl Site {
    /// Who sends a request. A wrong token waits for its answer.
    pub(super) async fn visitor(&self, of_connection: &Visitor, headers: &HeaderMap) -> Result<Visitor, Refusal> {
        if let Some(shown) = headers.get(AUTHORIZATION) {
            return self.showing(of_connection, shown.as_bytes()).await;
        }
        Ok(self.login(headers).map_or_else(|| of_connection.clone(), |who| of_connection.known_as(who)))
    }

    /// Whose login a request shows; none if it shows a token, which counts before it.
    pub(super) fn login(&self, headers: &HeaderMap) -> Option<Who> {
        let shows_token = headers.contains_key(AUTHORIZATION);
        (!shows_token).then(|| self.logins.find(headers, self.shown.clock.steady())).flatten()
    }

    /// Who shows this (`Bearer ...`).
    pub(super) async fn showing(&self, of_connection: &Visitor, shown: &[u8]) -> Result<Visitor, Refusal> {
        let address = of_connection.address().map(|address| address.ip());
        match of_connection.showing(shown) {
            Ok(visitor) => {
                self.strangers.forget(address);
                Ok(visitor)
            }
            Err(fault) if self.strangers.wait(address).await => Err(Box::new(reply::fault(&fault))),
            Err(_) => {
                let words = "too many wrong tokens wait for their answer; come back later";
                Err(Box::new(reply::text(StatusCode::TOO_MANY_REQUESTS, words)))
            }
        }
    }

    /// The desk of a visitor at a database.
    pub(super) fn desk(&self, visitor: &Visitor, database: &str) -> Result<Arc<Desk>, Fault> {
        let proved_nothing = *visitor.who() == Who::Anonymous;
        let at_most = (proved_nothing && !self.is_loopback).then_some(Role::Read);
        self.shown.rpc.desk(visitor, database, at_most).map(Arc::new)
    }

    /// The same of a request.
    pub(super) async fn desk_of(
        &self,
        of_connection: &Visitor,
        headers: &HeaderMap,
        database: &str,
    ) -> Result<Arc<Desk>, Refusal> {
        let visitor = self.visitor(of_connection, headers).await?;
        self.desk(&visitor, database).map_err(|fault| Box::new(reply::fault(&fault)))
    }

    /// Whether whoever proves nothing is nobody here.
    pub(super) fn wants_login(&self) -> bool {
        self.shown.authority.anonymous().is_none()
    }
}
