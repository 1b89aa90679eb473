//! Owns the audit: a line of the log for each thing that an operator does, with who, from where, what, on which database, and what came of it.
//!
//! The lines have the target `zeolite::audit`, so a filter keeps them apart (`ZEOLITE_LOG=info,zeolite::audit=info`). Commits are not
//! among them: the database's own log has each with its note. docs/security.md lists what is told.

use super::Principal;
use zeolite_proto::Fault;

/// Notes what came of a call.
pub(crate) fn call<T>(who: &Principal, verb: &'static str, database: &str, result: &Result<T, Fault>) {
    let address = who.address().map_or_else(String::new, |address| address.to_string());
    let result = match result {
        Ok(_) => "done",
        Err(fault) => fault.kind.text(),
    };
    tracing::info!(target: "zeolite::audit", principal = who.name(), address, verb, database, result);
}

/// Notes that the file of users says something else of a user.
pub(crate) fn user(user: &str, change: &'static str) {
    tracing::info!(target: "zeolite::audit", verb = "users", user, change);
}
