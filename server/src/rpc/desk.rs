//! Owns the operator's desk: what the page may ask of a database, in the words of `zeolite-proto`; the same rights, calls and audit as behind
//! the doors of the protocol.

use super::calls::Calls;
use super::{Rpc, encode};
use crate::auth::rights::{self, Verb};
use crate::auth::{Principal, Visitor};
use std::sync::Arc;
use tokio::sync::oneshot;
use zeolite_proto::{Fault, FaultKind, Mode, ModeEnd, ModeKind, Role, SessionInfo, Status};

/// What an operator may ask, on one database.
pub(crate) struct Desk {
    rpc: Arc<Rpc>,
    visitor: Visitor,
    who: Principal,
    calls: Calls,
}

impl Rpc {
    /// The desk of a visitor at a database (empty: `main`); `at_most`: he acts as no more than that.
    pub(crate) fn desk(
        self: &Arc<Self>,
        visitor: &Visitor,
        database: &str,
        at_most: Option<Role>,
    ) -> Result<Desk, Fault> {
        // Who he is comes first: a stranger is not told which databases there are.
        let who = visitor.on(database)?;
        let who = match at_most {
            Some(role) if who.role().includes(role) => who.acting_as(role.text())?,
            _ => who,
        };
        who.check(Verb::Look)?;
        let calls = self.calls(self.databases.find(database)?, who.clone(), self.budget.account());
        Ok(Desk { rpc: self.clone(), visitor: visitor.clone(), who, calls })
    }
}

impl Desk {
    /// Who sits there.
    pub(crate) fn who(&self) -> &Principal {
        &self.who
    }

    /// Refuses when what he has proved counts no more, or for less than it did.
    pub(crate) fn again(&self) -> Result<(), Fault> {
        let now = self.visitor.on(self.database())?;
        match now.role().includes(self.who.role()) {
            true => Ok(()),
            false => Err(Fault::new(FaultKind::Denied, "the role has changed; open the page again")),
        }
    }

    /// The database's name.
    pub(crate) fn database(&self) -> &Arc<str> {
        self.calls.database().name()
    }

    /// Whether he may do that.
    pub(crate) fn may(&self, verb: Verb) -> bool {
        rights::may(self.who.role(), verb)
    }

    /// Runs `look` beside the traffic, where the disk may be asked; at most a few at once.
    pub(crate) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Desk) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let desk = self.clone();
        self.rpc.look(move || Ok(look(&desk))).await
    }

    /// What the server says of itself.
    pub(crate) fn status(&self) -> Status {
        let names = self.rpc.databases.names().filter(|name| self.visitor.has_a_role_on(name));
        Status { databases: names.map(|name| name.to_string()).collect(), ..self.rpc.status(self.calls.database()) }
    }

    /// The database, for what only reads.
    pub(crate) fn engine(&self) -> &crate::engine::Engine {
        self.calls.engine()
    }

    /// The open sessions.
    pub(crate) fn sessions(&self) -> Result<Vec<SessionInfo>, Fault> {
        self.calls.may(Verb::Sessions).map(|()| self.rpc.list_sessions(self.calls.database()))
    }

    /// Ends one.
    pub(crate) fn cut_session(&self, id: u64) -> Result<(), Fault> {
        let cut = self.calls.may(Verb::Sessions).and_then(|()| self.rpc.cut_session(self.calls.database(), id));
        self.note("cut session", &cut);
        cut
    }

    /// Switches the mode.
    pub(crate) async fn set_mode(&self, kind: ModeKind, banner: String, end: ModeEnd) -> Result<Mode, Fault> {
        let (told, answer) = oneshot::channel();
        // Whoever has gone away hears nothing; the mode is switched all the same.
        self.calls.switch_mode(kind, banner, Ok(end), move |result| drop(told.send(result)));
        answer.await.unwrap_or_else(|_| Err(encode::lost()))
    }

    /// Refuses what he may not do.
    pub(crate) fn check(&self, verb: Verb) -> Result<(), Fault> {
        self.calls.may(verb)
    }

    /// Notes in the audit what came of something.
    pub(crate) fn note<T>(&self, verb: &'static str, result: &Result<T, Fault>) {
        crate::auth::audit::call(&self.who, verb, self.database(), result);
    }
}
