//! Owns who asks: the visitor of a connection, what he has proved, and his principal on a database, asked before every verb.
//!
//! ```text
//!   connection ──> Visitor: certificate, or nobody        authority: users.toml, looked at every second
//!   request ─────> the token in its metadata, if any   ──────────┘ │
//!   database ────> Principal (name, role there) ──> rights ──> engine: Caller (owner, client, evolve?)
//!                     └── "zeolite-role", hello.role: act as less
//! ```
//! Who proves nothing is the anonymous principal, whose role the operator sets (`auth.anonymous_role`): all rights where there are no
//! users, none where there are. What a principal may do is [`rights`]; what belongs to it (pins, prepared drafts) carries its
//! [`Owner`], and nobody else can end or extend it.
//!
//! A principal may act as a role that its own includes: a worker of an evolve says so, and a careful program takes only
//! what it needs. That is said in a session's hello or in the metadata of a unary call, and read here alone.

pub(crate) mod audit;
pub(crate) mod authority;
pub(crate) mod quota;
pub mod rights;
pub(crate) mod seldom;
pub(crate) mod standing;
pub mod token;
pub mod users;
pub(crate) mod visitor;
pub(crate) mod watched;

pub(crate) use authority::Authority;
pub(crate) use visitor::Visitor;

use crate::engine::{Caller, Client, Counted, Mark, Owner, Share};
use quota::Quota;
use rights::Verb;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Role};

/// Who asks, on one database.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    owner: Owner,
    role: Role,
    client: Client,
    address: Option<SocketAddr>,
    /// Of the user, if it is one.
    quota: Option<Arc<Quota>>,
}

/// What a program calls itself is cut here, in bytes.
const CLIENT_BYTES_MAX: usize = 255;

impl Principal {
    /// In its own role, at this address.
    pub(crate) fn new(owner: Owner, role: Role, address: Option<SocketAddr>) -> Principal {
        Principal { owner, role, client: Client::new("", address), address, quota: None }
    }

    /// The same within what its user may have and do.
    pub(crate) fn within(self, quota: Option<Arc<Quota>>) -> Principal {
        Principal { quota, ..self }
    }

    /// The same principal in a role that its own includes; empty: in its own.
    pub(crate) fn acting_as(&self, role: &str) -> Result<Principal, Fault> {
        if role.is_empty() {
            return Ok(self.clone());
        }
        let role: Role = role.parse().map_err(Fault::invalid)?;
        if !self.role.includes(role) {
            let message = format!("a principal with the role {} may not act as {role}; ask for less", self.role);
            return Err(Fault::new(FaultKind::Denied, message));
        }
        Ok(Principal { role, ..self.clone() })
    }

    /// The same principal under the name that its program gives itself, for logs and status; empty: as before. The name is kept
    /// for as long as the session, so it is short.
    pub(crate) fn called(self, client: &str) -> Principal {
        let client = &client[..client.floor_char_boundary(CLIENT_BYTES_MAX)];
        if client.is_empty() { self } else { Principal { client: Client::new(client, None), ..self } }
    }

    /// Refuses what its role may not do.
    pub(crate) fn check(&self, verb: Verb) -> Result<(), Fault> {
        rights::check(self.role, verb)
    }

    /// Whether it acts as a worker of an evolve: such a one is told the pressure.
    pub(crate) fn is_evolve(&self) -> bool {
        self.role == Role::Evolve
    }

    /// Whether it may read the server's own cells: what everybody has prepared is in them.
    pub(crate) fn sees_own_cells(&self) -> bool {
        matches!(self.role, Role::Replicate | Role::Admin)
    }

    /// Whose what it makes will be.
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// As what it acts.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// The name that its program gives itself.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What it is called in the log.
    pub(crate) fn name(&self) -> &str {
        self.owner.name().unwrap_or("anonymous")
    }

    /// Where it is.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The share of a connection where it acts.
    pub(crate) fn share(&self, of_connection: &Share) -> Share {
        of_connection.of_user(self.quota.as_ref().map(|quota| quota.share()))
    }

    /// Refuses a commit of so many bytes to whom writes too fast.
    pub(crate) fn spend_commit(&self, bytes: impl FnOnce() -> usize) -> Result<(), Fault> {
        self.quota.as_ref().map_or(Ok(()), |quota| quota.commit(bytes()))
    }

    /// Whether what it has prepared may become larger by so many bytes.
    pub(crate) fn prepared_room(&self, bytes: usize) -> Result<(), Fault> {
        self.quota.as_ref().map_or(Ok(()), |quota| quota.share().room(Counted::PreparedBytes, bytes))
    }

    /// Whether the bytes that it writes count for anything.
    pub(crate) fn counts_bytes(&self) -> bool {
        self.quota.as_ref().is_some_and(|quota| quota.counts_bytes())
    }

    /// An upload has brought so many bytes.
    pub(crate) fn uploaded(&self, bytes: usize) {
        if let Some(quota) = &self.quota {
            quota.uploaded(bytes);
        }
    }

    /// How long its uploads must rest before they go on.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.quota.as_ref().and_then(|quota| quota.rest())
    }

    /// How the engine knows it, on a connection with this share.
    pub(crate) fn caller(&self, of_connection: &Share, mark: Mark) -> Caller {
        let share = self.share(of_connection);
        Caller { owner: self.owner.clone(), role: self.role, client: self.client.clone(), share, mark }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymous(role: Role) -> Principal {
        Principal::new(Owner::anonymous(), role, None)
    }

    #[test]
    fn a_principal_acts_as_less_and_never_as_more() {
        let writer = anonymous(Role::Write);
        assert!(writer.check(Verb::Commit).is_ok() && writer.acting_as("").is_ok_and(|same| same.role == Role::Write));
        let reader = writer.acting_as("read").expect("less");
        assert_eq!(reader.check(Verb::Commit).map_err(|fault| fault.kind), Err(FaultKind::Denied));
        for more in ["evolve", "replicate", "admin"] {
            assert_eq!(
                writer.acting_as(more).map(|_| ()).map_err(|fault| fault.kind),
                Err(FaultKind::Denied),
                "{more}"
            );
        }
        assert_eq!(writer.acting_as("boss").map(|_| ()).map_err(|fault| fault.kind), Err(FaultKind::Invalid));
        assert!(!writer.is_evolve() && anonymous(Role::Admin).acting_as("evolve").is_ok_and(|it| it.is_evolve()));
    }
}
