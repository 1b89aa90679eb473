//! Owns what a server knows of its users at this moment: whose a token is, who has which role where, and what was refused.
//!
//! ```text
//!   users.toml ── every second, when its bytes differ (`watched`) ──> Known (users, whose each token is)
//! ```
//! A user who is gone from the file is gone within a second or two: whoever keeps connections asks [`Authority::holds`] then for
//! all that was granted on them. A file that is gone takes nobody's right: then one slip of an operator would stop the site.
//!
//! A refusal is the same for every reason. Tries at tokens cannot succeed; what they cost is bounded elsewhere (`visitor`), and
//! what they write into the log here.

use super::quota::{Quota, Quotas};
use super::seldom::Seldom;
use super::token::{Sha256, Token};
use super::users::Users;
use super::watched::Watched;
use crate::clock::Clock;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Role};

/// Between two lines about refused tokens.
const REFUSED_EVERY: Duration = Duration::from_secs(10);

/// What this process is called where it is a client of its own; no user can be.
const INSIDE: &str = "(the server)";

/// What is looked at, for the log.
const WHAT: &str = "the users are";

/// What somebody has proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    /// Nothing.
    Anonymous,
    /// Nothing, and need not: it is this very process, doing what is scheduled.
    Inside,
    /// That the token is his which has this id.
    Token { user: Arc<str>, id: Arc<str> },
    /// That he has the key of a certificate with this user's name, which ends then.
    Certificate { user: Arc<str>, until_unix_s: u64 },
}

impl Who {
    pub(crate) fn user(&self) -> Option<&str> {
        match self {
            Who::Anonymous => None,
            Who::Inside => Some(INSIDE),
            Who::Token { user, .. } | Who::Certificate { user, .. } => Some(user),
        }
    }
}

/// What the certificate of a client says, which was verified; none was shown: nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certified {
    /// The first that is a user's counts.
    pub(crate) names: Vec<String>,
    pub(crate) until_unix_s: u64,
}

/// That somebody works on a database in a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    pub(crate) who: Who,
    pub(crate) database: Box<str>,
    pub(crate) role: Role,
}

/// Knows who there is.
pub(crate) struct Authority {
    /// The role of whoever proves nothing.
    anonymous: Option<Role>,
    file: Option<PathBuf>,
    known: Watched<Known>,
    quotas: Quotas,
    clock: Arc<dyn Clock>,
    refused: Seldom,
}

#[derive(Default)]
struct Known {
    users: Users,
    /// By the short ids of tokens.
    owners: HashMap<String, Arc<str>>,
}

impl Known {
    fn of(users: Users) -> Known {
        let mut owners = HashMap::new();
        for (name, user) in &users.users {
            let name: Arc<str> = name.as_str().into();
            owners.extend(user.tokens.keys().map(|id| (id.clone(), name.clone())));
        }
        Known { users, owners }
    }
}

impl Authority {
    /// Of the users of a file; `None`: there are none.
    pub(crate) fn open(
        anonymous: Option<Role>,
        file: Option<PathBuf>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Authority>, String> {
        let known = match &file {
            Some(path) => {
                let bytes = Users::bytes(path)?;
                let known = Known::of(Users::of_file(path, &bytes)?);
                Watched::new(WHAT, vec![bytes], known)
            }
            None => Watched::new(WHAT, Vec::new(), Known::default()),
        };
        let (quotas, refused) = (Quotas::new(clock.clone()), Seldom::new(REFUSED_EVERY));
        Ok(Arc::new(Authority { anonymous, file, known, quotas, clock, refused }))
    }

    /// Why the file of users as it is now does not count; `None`: it does.
    pub(crate) fn problem(&self) -> Option<String> {
        self.known.problem()
    }

    /// Takes the file in if it has changed. Reads the disk.
    pub(crate) fn look_again(&self) {
        let Some(path) = &self.file else { return };
        let files = Users::bytes(path).map(|bytes| vec![bytes]);
        let make = |files: &[Vec<u8>]| Users::of_file(path, &files[0]).map(Known::of);
        self.known.look_again(files, make, |former, now| tell_changes(&former.users, &now.users));
        // Behind it: whoever comes in between has the new limits, or is given them here.
        self.quotas.look_again(&self.known.now().users.users);
    }

    /// Whose a token is. The answer to a wrong one is always the same.
    pub(crate) fn by_token(&self, text: &str, from: Option<SocketAddr>) -> Result<Who, Fault> {
        let token = Token::of(text);
        let found = match &token {
            None => Err("it has not the form of a token"),
            Some(token) => self.find(token),
        };
        found.map_err(|why| {
            self.tell_refused(token.as_ref().map(Token::id), why, from);
            let message = "the token is not valid here: it is wrong, revoked or expired; ask the operator for a new one \
                           (zeolite user token NAME)";
            Fault::new(FaultKind::Unauthenticated, message)
        })
    }

    fn find(&self, token: &Token) -> Result<Who, &'static str> {
        let sum = token.sha256();
        let known = self.known.now();
        let user = known.owners.get(token.id()).ok_or("there is no token of this id")?;
        self.check(&known, user, token.id(), Some(&sum))?;
        Ok(Who::Token { user: user.clone(), id: token.id().into() })
    }

    fn check(&self, known: &Known, user: &str, id: &str, sum: Option<&Sha256>) -> Result<(), &'static str> {
        let kept = known.users.users.get(user).and_then(|user| user.tokens.get(id)).ok_or("it is revoked")?;
        if sum.is_some_and(|sum| !kept.is(sum)) {
            return Err("the secret is another one");
        }
        if kept.is_valid(self.unix_s()) { Ok(()) } else { Err("it has expired") }
    }

    fn unix_s(&self) -> u64 {
        u64::try_from(self.clock.unix_nanos() / 1_000_000_000).unwrap_or(0)
    }

    /// The user whom a certificate names; the first of its names that is one counts.
    pub(crate) fn by_certificate(&self, certified: &Certified) -> Who {
        let known = self.known.now();
        let user = certified.names.iter().find(|name| known.users.users.contains_key(*name));
        let until_unix_s = certified.until_unix_s;
        user.map_or(Who::Anonymous, |name| Who::Certificate { user: name.as_str().into(), until_unix_s })
    }

    /// The role of whoever proves nothing; `None`: nobody may do anything without proof.
    pub(crate) fn anonymous(&self) -> Option<Role> {
        self.anonymous
    }

    /// How many users there are; `None`: there is no file of them.
    pub(crate) fn users(&self) -> Option<u64> {
        self.file.as_ref().map(|_| self.known.now().users.users.len() as u64)
    }

    /// The role on a database.
    pub(crate) fn role(&self, who: &Who, database: &str) -> Result<Role, Fault> {
        if *who == Who::Inside {
            return Ok(Role::Admin);
        }
        let Some(user) = who.user() else {
            return self.anonymous.ok_or_else(|| {
                let message = "this server takes nobody without a token or a certificate of a user; give one (token-file, \
                               ZEOLITE_TOKEN_FILE), the operator makes it with `zeolite user token NAME`";
                Fault::new(FaultKind::Unauthenticated, message)
            });
        };
        let known = self.known.now();
        self.counts(&known, who).map_err(|why| {
            let message =
                format!("what {user} has shown here counts no more: {why}; come with another token or certificate");
            Fault::new(FaultKind::Unauthenticated, message)
        })?;
        known.users.users.get(user).and_then(|user| user.role(database)).ok_or_else(|| {
            let message = format!(
                "the user {user} has no role on the database {database:?}; the operator gives one: zeolite user grant {user} --role read \
                 --on DATABASE"
            );
            Fault::new(FaultKind::Denied, message)
        })
    }

    /// What somebody may have and do at most; `None`: he is no user.
    pub(crate) fn quota(&self, who: &Who) -> Option<Arc<Quota>> {
        let known = self.known.now();
        let name = who.user()?;
        known.users.users.get(name).map(|user| self.quotas.of(name, &user.limits))
    }

    /// Whether what somebody has proved still counts.
    fn counts(&self, known: &Known, who: &Who) -> Result<(), &'static str> {
        match who {
            Who::Token { user, id } => self.check(known, user, id, None),
            Who::Certificate { until_unix_s, .. } if self.unix_s() >= *until_unix_s => Err("it has expired"),
            Who::Certificate { .. } | Who::Anonymous | Who::Inside => Ok(()),
        }
    }

    /// Whether what was granted would be granted now.
    pub(crate) fn holds(&self, grant: &Grant) -> bool {
        self.role(&grant.who, &grant.database).is_ok_and(|role| role.includes(grant.role))
    }

    fn tell_refused(&self, token: Option<&str>, why: &str, from: Option<SocketAddr>) {
        if let Some(untold) = self.refused.may_tell(self.clock.steady()) {
            let address = from.map_or_else(String::new, |from| from.to_string());
            tracing::warn!(address, token = token.unwrap_or("-"), why, untold, "a token was refused");
        }
    }
}

/// Each user that is new, gone or another, for the log.
fn tell_changes(former: &Users, now: &Users) {
    let names: std::collections::BTreeSet<&String> = former.users.keys().chain(now.users.keys()).collect();
    for user in names {
        let change = match (former.users.get(user), now.users.get(user)) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(former), Some(now)) if former.roles != now.roles => "roles changed",
            (Some(former), Some(now)) if former.tokens != now.tokens => "tokens changed",
            (Some(former), Some(now)) if former.limits != now.limits => "limits changed",
            _ => continue,
        };
        super::audit::user(user, change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;

    fn written(path: &std::path::Path, role: Role, expires_unix_s: Option<u64>) -> Token {
        let token = Token::new().expect("randomness");
        let changed = Users::change(path, |users| {
            users.add("shop", role, &["main".to_owned()])?;
            users.keep("shop", &token, 0, expires_unix_s)
        });
        changed.expect("written");
        token
    }

    #[test]
    fn a_token_counts_until_it_expires_is_revoked_or_its_user_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users.toml");
        let (token, clock) = (written(&path, Role::Write, Some(100)), Arc::new(HandClock::at(0)));
        let authority = Authority::open(None, Some(path.clone()), clock.clone()).expect("opens");
        let who = authority.by_token(token.secret(), None).expect("it is his");
        assert_eq!(authority.role(&who, "main"), Ok(Role::Write));
        assert_eq!(authority.role(&who, "other").map_err(|fault| fault.kind), Err(FaultKind::Denied));
        let grant = Grant { who: who.clone(), database: "main".into(), role: Role::Write };
        assert!(authority.holds(&grant));
        let kind = |text: &str| authority.by_token(text, None).map(|_| ()).map_err(|fault| (fault.kind, fault.message));
        let wrong = format!("{}{}", &token.secret()[..token.secret().len() - 1], "x");
        let of_another = Token::new().expect("randomness");
        let refusals = [kind(&wrong), kind(of_another.secret()), kind("")];
        assert!(refusals.iter().all(|told| told.is_err() && *told == refusals[0]), "{refusals:?}");

        let wide = Users::change(&path, |users| users.grant("shop", Role::Read, &["main".to_owned()]));
        wide.expect("written");
        authority.look_again();
        assert!(!authority.holds(&grant), "it has less now");
        Users::change(&path, |users| users.grant("shop", Role::Admin, &["main".to_owned()])).expect("written");
        authority.look_again();
        assert!(authority.holds(&grant));
        clock.advance(Duration::from_secs(100));
        assert!(!authority.holds(&grant) && kind(token.secret()) == refusals[0], "it has expired");
        clock.set_wall(0);
        assert!(authority.holds(&grant));
        Users::change(&path, |users| users.revoke(token.id())).expect("written");
        authority.look_again();
        assert!(!authority.holds(&grant) && kind(token.secret()) == refusals[0], "it is revoked");
        let by_name =
            authority.by_certificate(&Certified { names: vec!["nobody".into(), "shop".into()], until_unix_s: 50 });
        assert_eq!(authority.role(&by_name, "main"), Ok(Role::Admin));
        let grant = Grant { who: by_name.clone(), database: "main".into(), role: Role::Admin };
        assert!(authority.holds(&grant));
        clock.set_wall(50_000_000_000);
        assert!(!authority.holds(&grant), "the certificate has ended");
        clock.set_wall(0);
        Users::change(&path, |users| users.remove("shop")).expect("written");
        authority.look_again();
        assert!(authority.role(&by_name, "main").is_err());
    }

    #[test]
    fn a_file_that_is_wrong_or_gone_keeps_the_former_users_and_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users.toml");
        let token = written(&path, Role::Write, None);
        let authority = Authority::open(None, Some(path.clone()), Arc::new(HandClock::at(0))).expect("opens");
        let whole = std::fs::read(&path).expect("reads");
        std::fs::write(&path, &whole[..whole.len() / 2]).expect("half of it");
        authority.look_again();
        assert!(authority.problem().is_some_and(|why| why.contains("users.toml")));
        assert!(authority.by_token(token.secret(), None).is_ok());
        std::fs::remove_file(&path).expect("goes");
        authority.look_again();
        assert!(authority.problem().is_some() && authority.by_token(token.secret(), None).is_ok());
        std::fs::write(&path, whole).expect("whole");
        authority.look_again();
        assert_eq!(authority.problem(), None);
    }
}
