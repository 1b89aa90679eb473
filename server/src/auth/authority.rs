//! Owns what a server knows of its users at this moment: whose a token is, who has which role where, and what was refused.
//!
//! ```text
//!   users.toml ── every second, when its bytes differ ──> Known (users, whose each token is)
//!                   └── not readable, wrong: the former users stay, and that is told (log, status, check)
//! ```
//! A user who is gone from the file is gone within a second or two: whoever keeps connections asks [`Authority::holds`] then for
//! all that was granted on them. A file that is gone takes nobody's right: then one slip of an operator would stop the site.
//!
//! A refusal is the same for every reason. Tries at tokens cannot succeed; what they cost is bounded elsewhere (`visitor`), and
//! what they write into the log here.

use super::token::{Sha256, Token};
use super::users::{self, Users};
use crate::clock::Clock;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind, Role};

/// Between two lines about refused tokens.
const REFUSED_EVERY: Duration = Duration::from_secs(10);

/// What somebody has proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    /// Nothing.
    Anonymous,
    /// That the token is his which has this id.
    Token { user: Arc<str>, id: Arc<str> },
    /// That he has the key of a certificate with this user's name.
    Certificate { user: Arc<str> },
}

impl Who {
    pub(crate) fn user(&self) -> Option<&str> {
        match self {
            Who::Anonymous => None,
            Who::Token { user, .. } | Who::Certificate { user } => Some(user),
        }
    }
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
    known: RwLock<Arc<Known>>,
    /// Why the file as it is now does not count.
    problem: Mutex<Option<String>>,
    clock: Arc<dyn Clock>,
    refused: Mutex<Refused>,
}

#[derive(Default)]
struct Known {
    bytes: Vec<u8>,
    users: Users,
    /// By the short ids of tokens.
    owners: HashMap<String, Arc<str>>,
}

/// What was refused since the last line about it.
#[derive(Default)]
struct Refused {
    told: Option<Duration>,
    untold: u64,
}

impl Known {
    fn of(bytes: Vec<u8>) -> Result<Known, String> {
        let users = Users::parse(&bytes)?;
        let mut owners = HashMap::new();
        for (name, user) in &users.users {
            let name: Arc<str> = name.as_str().into();
            owners.extend(user.tokens.keys().map(|id| (id.clone(), name.clone())));
        }
        Ok(Known { bytes, users, owners })
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
                // What is wrong with it is told in full by its owner.
                Users::read(path)?;
                users::bytes(path).map_err(|error| error.to_string()).and_then(Known::of)?
            }
            None => Known::default(),
        };
        let (known, problem, refused) = (RwLock::new(Arc::new(known)), Mutex::default(), Mutex::default());
        Ok(Arc::new(Authority { anonymous, file, known, problem, clock, refused }))
    }

    /// Why the file of users as it is now does not count; `None`: it does.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// Takes the file in if it has changed. Reads the disk.
    pub(crate) fn look_again(&self) {
        let Some(path) = &self.file else { return };
        let former = self.known.read().clone();
        let read = users::bytes(path).map_err(|error| error.to_string());
        let known = match read {
            Ok(bytes) if bytes == former.bytes => None,
            Ok(bytes) => Some(Known::of(bytes)),
            Err(why) => Some(Err(why)),
        };
        let problem = match known {
            None => None,
            Some(Ok(known)) => {
                tell_changes(&former.users, &known.users);
                *self.known.write() = Arc::new(known);
                None
            }
            Some(Err(why)) => Some(format!(
                "the file of users {}: {why}; the former users stay until that is put right",
                path.display()
            )),
        };
        let mut told = self.problem.lock();
        if *told != problem {
            match &problem {
                Some(why) => tracing::error!("{why}"),
                None => tracing::info!("the file of users is in order again"),
            }
            *told = problem;
        }
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
        let known = self.known.read().clone();
        let user = known.owners.get(token.id()).ok_or("there is no token of this id")?;
        self.check(&known, user, token.id(), Some(&sum))?;
        Ok(Who::Token { user: user.clone(), id: token.id().into() })
    }

    fn check(&self, known: &Known, user: &str, id: &str, sum: Option<&Sha256>) -> Result<(), &'static str> {
        let kept = known.users.users.get(user).and_then(|user| user.tokens.get(id)).ok_or("it is revoked")?;
        if sum.is_some_and(|sum| !kept.is(sum)) {
            return Err("the secret is another one");
        }
        let unix_s = u64::try_from(self.clock.unix_nanos() / 1_000_000_000).unwrap_or(0);
        if kept.is_valid(unix_s) { Ok(()) } else { Err("it has expired") }
    }

    /// The user whom a certificate names; the first of its names that is one counts.
    pub(crate) fn by_certificate(&self, names: &[String]) -> Who {
        let known = self.known.read();
        let user = names.iter().find(|name| known.users.users.contains_key(*name));
        user.map_or(Who::Anonymous, |name| Who::Certificate { user: name.as_str().into() })
    }

    /// Whether whoever proves nothing may nothing.
    pub(crate) fn wants_proof(&self) -> bool {
        self.anonymous.is_none()
    }

    /// The role on a database.
    pub(crate) fn role(&self, who: &Who, database: &str) -> Result<Role, Fault> {
        let Some(user) = who.user() else {
            return self.anonymous.ok_or_else(|| {
                let message = "this server takes nobody without a token or a certificate of a user; give one (token-file, \
                               ZEOLITE_TOKEN_FILE), the operator makes it with `zeolite user token NAME`";
                Fault::new(FaultKind::Unauthenticated, message)
            });
        };
        self.role_of(who, database).ok_or_else(|| {
            let message = format!(
                "the user {user} has no role on the database {database}; the operator gives one: zeolite user grant {user} --role read \
                 --on {database}"
            );
            Fault::new(FaultKind::Denied, message)
        })
    }

    fn role_of(&self, who: &Who, database: &str) -> Option<Role> {
        let known = self.known.read().clone();
        if let Who::Token { user, id } = who {
            self.check(&known, user, id, None).ok()?;
        }
        known.users.users.get(who.user()?)?.role(database)
    }

    /// Whether what was granted would be granted now.
    pub(crate) fn holds(&self, grant: &Grant) -> bool {
        self.role_of(&grant.who, &grant.database).is_some_and(|role| role.includes(grant.role))
    }

    fn tell_refused(&self, token: Option<&str>, why: &str, from: Option<SocketAddr>) {
        let now = self.clock.steady();
        let mut refused = self.refused.lock();
        if refused.told.is_some_and(|told| now < told + REFUSED_EVERY) {
            refused.untold += 1;
            return;
        }
        let untold = std::mem::take(&mut refused.untold);
        refused.told = Some(now);
        drop(refused);
        let address = from.map_or_else(String::new, |from| from.to_string());
        tracing::warn!(address, token = token.unwrap_or("-"), why, untold, "a token was refused");
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
        let by_name = authority.by_certificate(&["nobody".into(), "shop".into()]);
        assert_eq!(authority.role(&by_name, "main"), Ok(Role::Admin));
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
