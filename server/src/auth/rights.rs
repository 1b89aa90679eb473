//! Owns the rights: which role may do what. One pure table, asked under every door.
//!
//! docs/protocol.md has the same table in words; a test compares the two, and every verb is tried with every role.

use zeolite_proto::{Fault, FaultKind, Role};

/// What is asked of a server. Each call of the protocol is one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Verb {
    /// Load, Scan, History, Objects, Kinds, Heat, GetBlob, ping.
    Read,
    /// Pin, Renew, Unpin.
    Pin,
    /// Commit, Undo.
    Commit,
    /// Prepare, Amend, Finish, Abort.
    Prepare,
    /// Outcome.
    Outcome,
    /// NewOids.
    NewOids,
    /// PutBlob, BlobStatus.
    Upload,
    /// Log.
    Log,
    /// Restore.
    Restore,
    /// Follow, Fence.
    Follow,
    /// Status, Resolvers, Gates.
    Look,
    /// CloseGate, OpenGate.
    Gate,
    /// SetMode.
    SetMode,
    /// Pack, Verify.
    Upkeep,
    /// ListPrepared, FinishPrepared, AbortPrepared: of anybody's drafts.
    OthersPrepared,
    /// ListSessions, CutSession.
    Sessions,
    /// Promote.
    Promote,
}

impl Verb {
    /// Every verb, in the order of the table.
    pub const ALL: [Verb; 17] = [
        Verb::Read,
        Verb::Pin,
        Verb::Commit,
        Verb::Prepare,
        Verb::Outcome,
        Verb::NewOids,
        Verb::Upload,
        Verb::Log,
        Verb::Restore,
        Verb::Follow,
        Verb::Look,
        Verb::Gate,
        Verb::SetMode,
        Verb::Upkeep,
        Verb::OthersPrepared,
        Verb::Sessions,
        Verb::Promote,
    ];

    /// What it is called in a refusal.
    pub fn text(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::Pin => "pin snapshots",
            Verb::Commit => "commit",
            Verb::Prepare => "prepare drafts",
            Verb::Outcome => "ask for outcomes",
            Verb::NewOids => "take oids",
            Verb::Upload => "upload blobs",
            Verb::Log => "read the log",
            Verb::Restore => "restore transactions",
            Verb::Follow => "follow a primary",
            Verb::Look => "look at the server",
            Verb::Gate => "move gates",
            Verb::SetMode => "switch the mode",
            Verb::Upkeep => "pack or verify",
            Verb::OthersPrepared => "see or end what others have prepared",
            Verb::Sessions => "see or cut sessions",
            Verb::Promote => "promote a copy",
        }
    }
}

/// Whether a role may do it.
pub fn may(role: Role, verb: Verb) -> bool {
    let (read, write, evolve, replicate) = match verb {
        //                                  read   write  evolve replicate; admin may do everything
        Verb::Read | Verb::Pin | Verb::Look => (true, true, true, true),
        Verb::Commit | Verb::Prepare => (false, true, true, false),
        Verb::Outcome | Verb::NewOids => (false, true, true, false),
        // Whoever writes needs the log for a list of what can be undone; a reader is not told who did what.
        Verb::Log => (false, true, true, true),
        Verb::Restore | Verb::Follow => (false, false, false, true),
        // A copy brings the blobs with the log.
        Verb::Upload => (false, true, true, true),
        // An evolve ends by closing its gate.
        Verb::Gate => (false, false, true, false),
        Verb::SetMode | Verb::Upkeep | Verb::OthersPrepared | Verb::Sessions | Verb::Promote => {
            (false, false, false, false)
        }
    };
    match role {
        Role::Read => read,
        Role::Write => write,
        Role::Evolve => evolve,
        Role::Replicate => replicate,
        Role::Admin => true,
        // A role of a newer program.
        _ => false,
    }
}

/// Refuses what a role may not do, and says which roles may.
pub fn check(role: Role, verb: Verb) -> Result<(), Fault> {
    if may(role, verb) {
        return Ok(());
    }
    let able: Vec<&str> = Role::ALL.into_iter().filter(|role| may(*role, verb)).map(Role::text).collect();
    let message = format!("the role {role} may not {}; that takes the role {}", verb.text(), able.join(" or "));
    Err(Fault::new(FaultKind::Denied, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_includes_another_may_do_all_that_the_other_may() {
        for role in Role::ALL {
            for other in Role::ALL {
                let covers = Verb::ALL.into_iter().all(|verb| may(role, verb) || !may(other, verb));
                assert_eq!(role.includes(other), covers, "{role} and {other}");
            }
        }
    }

    #[test]
    fn a_refusal_names_the_roles_that_may() {
        assert_eq!(check(Role::Admin, Verb::Upkeep), Ok(()));
        let refused = check(Role::Read, Verb::Commit).expect_err("a reader");
        assert_eq!(refused.kind, FaultKind::Denied);
        assert_eq!(refused.message, "the role read may not commit; that takes the role write or evolve or admin");
    }
}
