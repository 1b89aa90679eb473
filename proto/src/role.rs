//! Owns the role: what a principal is for, and so what it may do.
//!
//! ```text
//!   read ⊂ write ⊂ evolve ⊂ admin        read ⊂ replicate ⊂ admin
//! ```
//! Which verb needs which role is the server's table (`server/src/auth/rights.rs`, and in words docs/protocol.md).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the token of a user begins.
pub const TOKEN_PREFIX: &str = "zlt_";

/// What a principal is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Looks, and changes nothing.
    Read,
    /// An application: reads and commits.
    Write,
    /// A batch worker of an evolve: writes in the mode evolve-only too, and is told the pressure.
    Evolve,
    /// A follower or a copier: the log out, and transactions with their own tids in.
    Replicate,
    /// An operator: everything.
    #[default]
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 5] = [Role::Read, Role::Write, Role::Evolve, Role::Replicate, Role::Admin];

    /// The role as it is written.
    pub fn text(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Write => "write",
            Role::Evolve => "evolve",
            Role::Replicate => "replicate",
            Role::Admin => "admin",
        }
    }

    /// Whether everything that `other` may do is allowed to this role too: then a principal may act as `other`.
    pub fn includes(self, other: Role) -> bool {
        match self {
            Role::Admin => true,
            Role::Evolve => matches!(other, Role::Evolve | Role::Write | Role::Read),
            Role::Write => matches!(other, Role::Write | Role::Read),
            Role::Replicate => matches!(other, Role::Replicate | Role::Read),
            Role::Read => other == Role::Read,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.text())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        let known = Role::ALL.into_iter().find(|role| role.text() == text);
        known.ok_or_else(|| format!("{text:?} is no role; use read, write, evolve, replicate or admin"))
    }
}
