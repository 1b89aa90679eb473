//! Owns the visitor: who is at the other end of a connection, and what was granted there, so that it can be taken back.
//!
//! One connection may carry calls with different tokens. A grant is noted with the connection (`Guests`), and when one of them holds
//! no more, the connection is cut: its streams, whatever they are, end with it.
//!
//! Whoever shows wrong tokens waits for the answer, the longer the more of them the connection has shown, and then the connection is cut. With the
//! bounds on calls at once (`sessions.streams_max`) that bounds what a flood of them costs; `server::connection` sees to it that it takes nobody's place.

use super::Principal;
use super::authority::{Authority, Certified, Grant, Who};
use crate::databases::MAIN;
use crate::engine::Owner;
use parking_lot::Mutex;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind};

/// Users and databases that one connection may be used for.
const GRANTS_MAX: usize = 64;

/// How much longer each further wrong token waits for its answer, and the longest.
const DELAY_STEP: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// How long the answer to a wrong token takes after so many others.
pub(crate) fn delay_after(wrong: u32) -> Duration {
    (DELAY_STEP * wrong.min(1000)).min(DELAY_MAX)
}

/// A connection that has shown so many wrong tokens is cut.
const WRONG_MAX: u32 = 8;

/// The metadata that a token comes in, and what stands before it.
pub(crate) const AUTHORIZATION: &str = "authorization";
const BEARER: &str = "bearer ";

/// Who is at the other end of a connection, as far as he has proved it.
#[derive(Clone)]
pub(crate) struct Visitor {
    authority: Arc<Authority>,
    who: Who,
    address: Option<SocketAddr>,
    guests: Arc<Guests>,
}

/// What was granted on a connection, and how often a token was wrong there.
#[derive(Default)]
pub(crate) struct Guests {
    grants: Mutex<Vec<Grant>>,
    /// Whoever it is need not prove it.
    proved: AtomicBool,
    refused: AtomicU32,
}

impl fmt::Debug for Visitor {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Visitor").field("who", &self.who).field("address", &self.address).finish_non_exhaustive()
    }
}

impl Guests {
    /// Whether all that was granted still holds, and not too many wrong tokens were shown.
    pub(crate) fn may_stay(&self, authority: &Authority) -> bool {
        self.wrong() < WRONG_MAX && self.grants.lock().iter().all(|grant| authority.holds(grant))
    }

    /// Whether nobody has proved here who he is.
    pub(crate) fn is_unproved(&self) -> bool {
        !self.proved.load(Ordering::Relaxed) && self.grants.lock().is_empty()
    }

    /// Nobody has to.
    pub(crate) fn are_proved(&self) {
        self.proved.store(true, Ordering::Relaxed);
    }

    /// How many wrong tokens were shown.
    pub(crate) fn wrong(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    fn note(&self, grant: Grant) -> Result<(), Fault> {
        let mut grants = self.grants.lock();
        if grants.contains(&grant) {
            return Ok(());
        }
        if grants.len() >= GRANTS_MAX {
            let message =
                format!("this connection was used for {GRANTS_MAX} users and databases, the limit; open another");
            return Err(Fault::new(FaultKind::Busy, message));
        }
        grants.push(grant);
        Ok(())
    }
}

impl Visitor {
    /// Of a new connection, on which that is noted.
    pub(crate) fn new(
        authority: &Arc<Authority>,
        address: Option<SocketAddr>,
        certified: &Certified,
        guests: &Arc<Guests>,
    ) -> Visitor {
        let who = authority.by_certificate(certified);
        Visitor { authority: authority.clone(), who, address, guests: guests.clone() }
    }

    /// Of a connection that this very process has opened.
    pub(crate) fn inside(authority: &Arc<Authority>, guests: &Arc<Guests>) -> Visitor {
        Visitor { authority: authority.clone(), who: Who::Inside, address: None, guests: guests.clone() }
    }

    /// The same with the token that a request shows (`Bearer ...`).
    pub(crate) fn showing(&self, authorization: &[u8]) -> Result<Visitor, Fault> {
        let text = std::str::from_utf8(authorization).unwrap_or_default();
        let is_bearer = text.get(..BEARER.len()).is_some_and(|word| word.eq_ignore_ascii_case(BEARER));
        let token = if is_bearer { text[BEARER.len()..].trim() } else { "" };
        let who = self.authority.by_token(token, self.address)?;
        Ok(Visitor { who, ..self.clone() })
    }

    /// The same as somebody who has proved it before.
    pub(crate) fn known_as(&self, who: Who) -> Visitor {
        Visitor { who, ..self.clone() }
    }

    /// What he has proved.
    pub(crate) fn who(&self) -> &Who {
        &self.who
    }

    /// Where he is.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// How long the answer to one more wrong token takes.
    pub(crate) fn delay(&self) -> Duration {
        delay_after(self.guests.refused.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether he is anything on a database.
    pub(crate) fn has_a_role_on(&self, database: &str) -> bool {
        self.authority.role(&self.who, database).is_ok()
    }

    /// What he is on a database; empty: `main`.
    pub(crate) fn on(&self, database: &str) -> Result<Principal, Fault> {
        let database = if database.is_empty() { MAIN } else { database };
        let role = self.authority.role(&self.who, database)?;
        let owner = match self.who.user() {
            None => Owner::anonymous(),
            Some(user) => {
                self.guests.note(Grant { who: self.who.clone(), database: database.into(), role })?;
                Owner::named(user)
            }
        };
        Ok(Principal::new(owner, role, self.address).within(self.authority.quota(&self.who)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::token::Token;
    use crate::auth::users::Users;
    use crate::clock::HandClock;
    use zeolite_proto::Role;

    #[test]
    fn a_token_is_read_from_its_metadata_and_its_grant_is_noted_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users.toml");
        let token = Token::new().expect("randomness");
        let written = Users::change(&path, |users| {
            users.add("shop", Role::Write, &[])?;
            users.keep("shop", &token, 0, None)
        });
        written.expect("written");
        let authority = Authority::open(None, Some(path.clone()), Arc::new(HandClock::at(0))).expect("opens");
        let visitor = Visitor::new(&authority, None, &Certified::default(), &Arc::default());
        assert_eq!(visitor.on("main").map(|_| ()).map_err(|fault| fault.kind), Err(FaultKind::Unauthenticated));
        for said in ["Bearer ", "bearer  ", "BEARER "] {
            let shown = visitor.showing(format!("{said}{}", token.secret()).as_bytes()).expect("his");
            assert_eq!(shown.on("").expect("has a role").name(), "shop");
        }
        assert_eq!(visitor.guests.grants.lock().len(), 1);
        for wrong in [token.secret(), "Basic x", "Bearer", "", "Bearer \u{e9}"] {
            assert!(visitor.showing(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(visitor.showing(&[0xff, 0xfe]).is_err());
        let shown = visitor.showing(format!("Bearer {}", token.secret()).as_bytes()).expect("his");
        let refused = (0..GRANTS_MAX).map(|number| shown.on(&format!("d{number}"))).filter(Result::is_err).count();
        assert_eq!(refused, 1, "the limit, and one was there");
        assert!(visitor.guests.may_stay(&authority));
        Users::change(&path, |users| users.remove("shop")).expect("written");
        authority.look_again();
        assert!(!visitor.guests.may_stay(&authority));
    }

    #[test]
    fn wrong_tokens_wait_longer_and_longer() {
        let authority = Authority::open(None, None, Arc::new(HandClock::at(0))).expect("opens");
        let (visitor, other) = (
            Visitor::new(&authority, None, &Certified::default(), &Arc::default()),
            Visitor::new(&authority, None, &Certified::default(), &Arc::default()),
        );
        let delays: Vec<Duration> = (0..200).map(|_| visitor.delay()).collect();
        assert!(delays.is_sorted() && delays[0].is_zero() && delays[199] == DELAY_MAX);
        assert!(other.delay().is_zero(), "of each connection");
        assert!(other.guests.may_stay(&authority) && !visitor.guests.may_stay(&authority), "and in the end it is cut");
    }
}
