//! Owns the file of users: who there is, in which role on which database, and what is kept of their tokens.
//!
//! ```text
//!   zeolite user add, grant, token, ... ──> users.toml (whole, synced, renamed) ──> the server looks every second
//! ```
//! It is a file beside the databases and no cell in one of them: it is needed before a database is open, counts for all of them, can
//! be written where no server runs, and is in no copy of the data, no history and no feed. Who may write it is whoever may write in
//! that directory of the server's machine; nobody can over the network. docs/format.md has its form; a program that does not know
//! its number refuses it.
//!
//! Writers of the file take turns by a lock on a file beside it.

use super::token::{Sha256, Token};
use super::watched::{FILE_BYTES_MAX, bytes};
use crate::engine::Counted;
use crate::settings::database_name;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeolite_proto::Role;

/// The number of this form of the file. It is written when a user has limits, so that programs which know none refuse the file then alone.
const FORMAT: u32 = 2;

/// The same without limits.
const FORMAT_WITHOUT_LIMITS: u32 = 1;

/// Tokens that one user may have; a new one wants an old one revoked.
const TOKENS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 64;

/// Stands for every database.
pub const EVERY_DATABASE: &str = "*";

/// All users.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    format: u32,
    /// By their names.
    #[serde(default)]
    pub users: BTreeMap<String, User>,
    end: End,
}

/// The last table of the file, an empty one: a file that is cut off between two tables reads well, and has lost users.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {}

impl Default for Users {
    fn default() -> Users {
        Users { format: FORMAT_WITHOUT_LIMITS, users: BTreeMap::new(), end: End {} }
    }
}

/// One user.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// By database; [`EVERY_DATABASE`] for those that are not named.
    pub roles: BTreeMap<String, Role>,
    /// By their short ids.
    #[serde(default)]
    pub tokens: BTreeMap<String, KeptToken>,
    /// Over all connections and databases.
    #[serde(default, skip_serializing_if = "Limits::are_none")]
    pub limits: Limits,
}

/// What a user may have at once, and do in a second; what is not named is bounded for all users together alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u64>,
    /// Pinned snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pins: Option<u64>,
    /// Prepared drafts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepared_drafts: Option<u64>,
    /// The bytes of all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepared_bytes: Option<u64>,
    /// Blobs on their way up or down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_blobs: Option<u64>,
    /// Streams of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_streams: Option<u64>,
    /// Commits, drafts to prepare, amendments, and undos, in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commits_per_s: Option<u64>,
    /// Bytes of drafts and of uploads, in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes_per_s: Option<u64>,
}

impl Limits {
    fn are_none(&self) -> bool {
        *self == Limits::default()
    }

    /// By name, for lists.
    pub fn named(&self) -> [(&'static str, Option<u64>); 8] {
        [
            ("sessions", self.sessions),
            ("pins", self.pins),
            ("prepared_drafts", self.prepared_drafts),
            ("prepared_bytes", self.prepared_bytes),
            ("open_blobs", self.open_blobs),
            ("log_streams", self.log_streams),
            ("commits_per_s", self.commits_per_s),
            ("written_bytes_per_s", self.written_bytes_per_s),
        ]
    }

    /// What is counted.
    pub(crate) fn counted(&self) -> [(Counted, Option<u64>); Counted::ALL] {
        [
            (Counted::Sessions, self.sessions),
            (Counted::Pins, self.pins),
            (Counted::PreparedDrafts, self.prepared_drafts),
            (Counted::PreparedBytes, self.prepared_bytes),
            (Counted::OpenBlobs, self.open_blobs),
            (Counted::LogStreams, self.log_streams),
        ]
    }
}

/// What is kept of a token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptToken {
    /// In hexadecimal digits.
    pub sha256: String,
    /// When it was made, in seconds since 1970.
    pub made_unix_s: u64,
    /// When it ends; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_s: Option<u64>,
}

impl KeptToken {
    /// Whether it counts at this moment.
    pub fn is_valid(&self, unix_s: u64) -> bool {
        self.expires_unix_s.is_none_or(|expires| unix_s < expires)
    }

    pub(crate) fn is(&self, sum: &Sha256) -> bool {
        Sha256::parse(&self.sha256).is_some_and(|kept| kept == *sum)
    }
}

impl User {
    /// Its role on a database.
    pub fn role(&self, database: &str) -> Option<Role> {
        self.roles.get(database).or_else(|| self.roles.get(EVERY_DATABASE)).copied()
    }
}

impl Users {
    /// Those of a file.
    pub fn read(path: &Path) -> Result<Users, String> {
        Users::of_file(path, &Users::bytes(path)?)
    }

    /// What a file holds.
    pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, String> {
        let anybody_writes = std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o002 != 0);
        if anybody_writes {
            return Err(wrong(path, "everybody on this machine may write it, and so make users; chmod o-w it"));
        }
        bytes(path).map_err(|error| unreadable(path, &error))
    }

    /// Those of what a file holds.
    pub(crate) fn of_file(path: &Path, bytes: &[u8]) -> Result<Users, String> {
        Users::parse(bytes).map_err(|why| wrong(path, &why))
    }

    fn parse(bytes: &[u8]) -> Result<Users, String> {
        #[derive(Deserialize)]
        struct Numbered {
            format: u32,
            end: Option<End>,
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
        let told = |error: toml::de::Error| error.message().to_owned();
        let Numbered { format, end } = toml::from_str(text).map_err(told)?;
        if !(FORMAT_WITHOUT_LIMITS..=FORMAT).contains(&format) {
            return Err(format!(
                "its format is {format}, and this program knows up to {FORMAT}; use the program that wrote it"
            ));
        }
        if end.is_none() {
            return Err("it is not whole: its last line must be [end]".to_owned());
        }
        let users: Users = toml::from_str(text).map_err(told)?;
        users.check()?;
        Ok(users)
    }

    fn check(&self) -> Result<(), String> {
        let mut ids = BTreeMap::new();
        for (name, user) in &self.users {
            check_name(name)?;
            if self.format < FORMAT && !user.limits.are_none() {
                return Err(format!("{name} has limits, which format {FORMAT} has first; write format = {FORMAT}"));
            }
            if user.limits.commits_per_s == Some(0) || user.limits.written_bytes_per_s == Some(0) {
                return Err(format!("{name} may write nothing in a second; take the role read for that"));
            }
            for (id, token) in &user.tokens {
                if let Some(other) = ids.insert(id, name) {
                    return Err(format!("the token {id} is there twice, of {other} and of {name}; remove one"));
                }
                if Sha256::parse(&token.sha256).is_none() {
                    return Err(format!("the token {id} of {name} has no SHA-256 sum; revoke it and make a new one"));
                }
            }
        }
        Ok(())
    }

    /// Changes a file, which is made when it is not there, under its lock: whole, or not at all.
    pub fn change<T>(path: &Path, change: impl FnOnce(&mut Users) -> Result<T, String>) -> Result<T, String> {
        let failed = |error: io::Error| {
            let helps = match error.kind() {
                io::ErrorKind::PermissionDenied => "; run this as the user that the server runs as",
                io::ErrorKind::NotFound => "; make its directory first",
                _ => "",
            };
            format!("{} cannot be written: {error}{helps}", path.display())
        };
        // A link stays one: others may use the file by it.
        let followed = path.canonicalize();
        let path = followed.as_deref().unwrap_or(path);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(beside(path, "lock"));
        let lock = lock.map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let mut users = match bytes(path) {
            Ok(bytes) => Users::of_file(path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Users::default(),
            Err(error) => return Err(unreadable(path, &error)),
        };
        let told = change(&mut users)?;
        let have_limits = users.users.values().any(|user| !user.limits.are_none());
        users.format = if have_limits { FORMAT } else { FORMAT_WITHOUT_LIMITS };
        users.check()?;
        let text = toml::to_string(&users).map_err(|error| format!("the users cannot be written as TOML: {error}"))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("the users would take more than {FILE_BYTES_MAX} bytes; remove some first"));
        }
        replace(path, text.as_bytes()).map_err(failed)?;
        Ok(told)
    }

    /// A new user, who has no token yet.
    pub fn add(&mut self, name: &str, role: Role, databases: &[String]) -> Result<(), String> {
        check_name(name)?;
        check_databases(databases)?;
        if self.users.contains_key(name) {
            return Err(format!("there is a user {name} already; `zeolite user grant` changes what it may do"));
        }
        self.users.insert(name.to_owned(), User::default());
        self.grant(name, role, databases)
    }

    /// The role of a user on these databases; none named: on all that are not named.
    pub fn grant(&mut self, name: &str, role: Role, databases: &[String]) -> Result<(), String> {
        check_databases(databases)?;
        let user = self.user(name)?;
        if databases.is_empty() {
            user.roles.insert(EVERY_DATABASE.to_owned(), role);
        }
        user.roles.extend(databases.iter().map(|database| (database.clone(), role)));
        Ok(())
    }

    /// Takes a user's roles on these databases away.
    pub fn withdraw(&mut self, name: &str, databases: &[String]) -> Result<(), String> {
        let user = self.user(name)?;
        for database in databases {
            let gone = user.roles.remove(database);
            gone.ok_or_else(|| format!("{name} has no role of its own on {database:?}; see `zeolite user list`"))?;
        }
        Ok(())
    }

    /// Other limits for a user.
    pub fn limit(&mut self, name: &str, change: impl FnOnce(&mut Limits)) -> Result<(), String> {
        change(&mut self.user(name)?.limits);
        Ok(())
    }

    /// A user is gone, with all tokens.
    pub fn remove(&mut self, name: &str) -> Result<(), String> {
        self.user(name)?;
        self.users.remove(name);
        Ok(())
    }

    /// Keeps a new token of a user.
    pub fn keep(
        &mut self,
        name: &str,
        token: &Token,
        made_unix_s: u64,
        expires_unix_s: Option<u64>,
    ) -> Result<(), String> {
        let user = self.user(name)?;
        user.tokens.retain(|_, token| token.is_valid(made_unix_s));
        if user.tokens.len() >= TOKENS_MAX {
            return Err(format!("{name} has {TOKENS_MAX} tokens, the limit; revoke some: `zeolite user revoke ID`"));
        }
        let kept = KeptToken { sha256: token.sha256().to_string(), made_unix_s, expires_unix_s };
        match user.tokens.insert(token.id().to_owned(), kept) {
            None => Ok(()),
            Some(_) => Err("the new token has the id of an old one; try again".to_owned()),
        }
    }

    /// A token counts no more; says whose it was.
    pub fn revoke(&mut self, id: &str) -> Result<String, String> {
        let owner = self.users.iter_mut().find_map(|(name, user)| user.tokens.remove(id).map(|_| name.clone()));
        owner.ok_or_else(|| format!("there is no token {id:?}; `zeolite user list` has their ids"))
    }

    fn user(&mut self, name: &str) -> Result<&mut User, String> {
        let user = self.users.get_mut(name);
        user.ok_or_else(|| format!("there is no user {name:?}; `zeolite user list` shows who there is"))
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:/".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) || name == "anonymous" {
        let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
        return Err(format!(
            "{shown:?} cannot be a user's name; use up to {NAME_BYTES_MAX} letters, digits and any of . _ - @ : /"
        ));
    }
    Ok(())
}

fn check_databases(names: &[String]) -> Result<(), String> {
    names.iter().filter(|name| *name != EVERY_DATABASE).try_for_each(|name| database_name(name))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "the file of users {path} is not there; make the first user: zeolite user --file {path} add NAME --role admin"
            )
        }
        _ => format!("the file of users {path} cannot be read: {error}; it must be readable for the server"),
    }
}

fn wrong(path: &Path, why: &str) -> String {
    format!("the file of users {} is wrong: {why}; put it right, or name another file", path.display())
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

/// Puts a file in the place of another, durably. It belongs to whom the other belonged, or else the directory: the server must be able
/// to read it when root has written it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let owner = std::fs::metadata(path).or_else(|_| std::fs::metadata(directory))?;
    let new = beside(path, "new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) {
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const FIXTURE: &str = include_str!("../../tests/fixtures/users-1.toml");

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_known_as_one() {
        let whole = FIXTURE.trim_end().len();
        for cut in (0..whole).filter(|cut| FIXTURE.is_char_boundary(*cut)) {
            assert!(Users::parse(&FIXTURE.as_bytes()[..cut]).is_err(), "cut at {cut}:\n{}", &FIXTURE[..cut]);
        }
        assert!(Users::parse(&FIXTURE.as_bytes()[..whole]).is_ok());
    }

    #[test]
    fn a_link_to_the_file_stays_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("real.toml"), dir.path().join("users.toml"));
        Users::change(&file, |users| users.add("one", Role::Read, &[])).expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        Users::change(&link, |users| users.add("two", Role::Read, &[])).expect("written");
        assert!(std::fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(Users::read(&file).expect("reads").users.len(), 2);
    }

    #[test]
    fn what_would_block_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("users.toml");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        assert!(Users::read(&pipe).is_err_and(|why| why.contains("no regular file")));
        assert!(Users::read(dir.path()).is_err());
    }

    #[test]
    fn a_file_that_anybody_may_write_makes_no_users() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users.toml");
        Users::change(&path, |users| users.add("one", Role::Read, &["main".to_owned()])).expect("written");
        let chmod = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("ours");
        chmod(0o662);
        assert!(Users::read(&path).is_err_and(|why| why.contains("chmod o-w")));
        chmod(0o664);
        assert!(Users::read(&path).is_ok());
    }

    #[test]
    fn a_role_is_on_what_can_be_a_database() {
        let mut users = Users::default();
        for wrong in ["Main", "", "a b", "../x"] {
            assert!(users.add("one", Role::Read, &[wrong.to_owned()]).is_err_and(|why| why.contains("database")));
            assert!(users.users.is_empty(), "nothing was changed");
        }
        users.add("one", Role::Read, &["main".to_owned(), EVERY_DATABASE.to_owned()]).expect("both are");
    }

    #[test]
    fn a_file_of_format_1_is_read_and_written_as_it_is() {
        let users = Users::parse(FIXTURE.as_bytes()).expect("the fixture");
        assert_eq!(toml::to_string(&users).expect("plain data"), FIXTURE);
        let shop = &users.users["shop"];
        assert_eq!((shop.role("main"), shop.role("other")), (Some(Role::Write), Some(Role::Read)));
        assert_eq!(users.users["web.example.org"].role("other"), None);
        let sum = Token::of("zlt_1f0c9a3e_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
        let kept = &shop.tokens["1f0c9a3e"];
        assert!(kept.is(&sum.expect("a token").sha256()), "the sum of the fixture is that of its token");
        assert!(kept.is_valid(1_799_999_999) && !kept.is_valid(1_800_000_000));
    }

    #[test]
    fn a_file_of_format_2_has_limits_and_without_them_it_is_of_format_1() {
        const LIMITED: &str = include_str!("../../tests/fixtures/users-2.toml");
        let users = Users::parse(LIMITED.as_bytes()).expect("the fixture");
        assert_eq!(toml::to_string(&users).expect("plain data"), LIMITED);
        let limits = users.users["shop"].limits;
        assert_eq!((limits.sessions, limits.commits_per_s, limits.pins), (Some(50), Some(200), None));
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users.toml");
        std::fs::write(&path, LIMITED).expect("written");
        let format = || std::fs::read_to_string(&path).expect("reads").lines().next().map(str::to_owned);
        Users::change(&path, |users| users.limit("shop", |limits| limits.pins = Some(3))).expect("written");
        assert_eq!(format().as_deref(), Some("format = 2"));
        Users::change(&path, |users| users.limit("shop", |limits| *limits = Limits::default())).expect("written");
        assert_eq!(format().as_deref(), Some("format = 1"), "a former program reads it again");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, told) in [
            ("", "format"),
            ("format = 3\n", "format is 3"),
            ("format = 1\n[users.a]\nroles = {}\nlimits = { pins = 1 }\n[end]\n", "format = 2"),
            ("format = 2\n[users.a]\nroles = {}\nlimits = { commits_per_s = 0 }\n[end]\n", "role read"),
            ("format = 2\n[users.a]\nroles = {}\nlimits = { pens = 1 }\n[end]\n", "pens"),
            ("format = 1\nmore = 1\n[end]\n", "more"),
            ("format = 1\n[users.\"a b\"]\nroles = {}\n[end]\n", "\"a b\""),
            ("format = 1\n[users.anonymous]\nroles = {}\n[end]\n", "anonymous"),
            ("format = 1\n[users.a]\nroles = { main = \"boss\" }\n[end]\n", "boss"),
            (
                "format = 1\n[users.a]\nroles = {}\ntokens.x = { sha256 = \"00\", made_unix_s = 1 }\n[end]\n",
                "no SHA-256",
            ),
            ("format = 1\n", "not whole"),
        ] {
            let why = Users::parse(text.as_bytes()).expect_err(text);
            assert!(why.contains(told), "{text}: {why}");
        }
    }

    #[test]
    fn changes_are_whole_and_one_after_the_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users.toml");
        assert!(Users::read(&path).expect_err("none").contains("zeolite user --file"));
        std::thread::scope(|threads| {
            for number in 0..8 {
                let path = &path;
                threads.spawn(move || {
                    Users::change(path, |users| users.add(&format!("u{number}"), Role::Read, &[])).expect("added")
                });
            }
        });
        let users = Users::read(&path).expect("reads");
        assert_eq!(users.users.len(), 8, "no change was lost");
        assert_eq!(std::fs::metadata(&path).expect("is there").mode() & 0o777, 0o600);
        assert!(Users::change(&path, |users| users.remove("nobody")).expect_err("none").contains("nobody"));
        assert_eq!(Users::read(&path), Ok(users));
    }

    #[test]
    fn a_user_has_so_many_tokens_and_expired_ones_make_room() {
        let mut users = Users::default();
        users.add("a", Role::Write, &[]).expect("new");
        assert!(users.add("a", Role::Write, &[]).is_err());
        let token = || Token::new().expect("randomness");
        for _ in 0..TOKENS_MAX {
            users.keep("a", &token(), 1, Some(10)).expect("room");
        }
        assert!(users.keep("a", &token(), 5, None).is_err_and(|why| why.contains("revoke")));
        let last = token();
        users.keep("a", &last, 10, None).expect("the others have ended");
        assert_eq!(users.users["a"].tokens.len(), 1);
        assert_eq!(users.revoke(last.id()).as_deref(), Ok("a"));
        assert!(users.revoke(last.id()).is_err());
    }
}
