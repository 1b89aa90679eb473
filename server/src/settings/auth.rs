//! Owns the settings of who may come, and of how connections are encrypted.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use zeolite_proto::Role;

/// Who may what.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The file of users, made by `zeolite user`; empty: there are none, and everybody is anonymous. Looked at every second.
    pub users_file: PathBuf,
    /// The role of whoever proves nothing of himself: read, write, evolve, replicate, admin, or none; empty: admin without a file of users,
    /// none with one.
    pub anonymous_role: AnonymousRole,
}

/// The role of whoever proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AnonymousRole {
    /// That of the house: admin, or none where there are users.
    #[default]
    Unsaid,
    /// None at all.
    Nobody,
    /// This one.
    Role(Role),
}

const NONE: &str = "none";

impl AuthSettings {
    /// Whether there are users.
    pub fn has_users(&self) -> bool {
        !self.users_file.as_os_str().is_empty()
    }

    /// The role of whoever proves nothing.
    pub fn anonymous(&self) -> Option<Role> {
        match self.anonymous_role {
            AnonymousRole::Unsaid => (!self.has_users()).then_some(Role::Admin),
            AnonymousRole::Nobody => None,
            AnonymousRole::Role(role) => Some(role),
        }
    }
}

impl From<Role> for AnonymousRole {
    fn from(role: Role) -> AnonymousRole {
        AnonymousRole::Role(role)
    }
}

impl FromStr for AnonymousRole {
    type Err = String;

    fn from_str(text: &str) -> Result<AnonymousRole, String> {
        match text {
            "" => Ok(AnonymousRole::Unsaid),
            NONE => Ok(AnonymousRole::Nobody),
            role => role.parse().map(AnonymousRole::Role).map_err(|problem| format!("{problem}, or {NONE}")),
        }
    }
}

impl TryFrom<String> for AnonymousRole {
    type Error = String;

    fn try_from(text: String) -> Result<AnonymousRole, String> {
        text.parse()
    }
}

impl From<AnonymousRole> for String {
    fn from(role: AnonymousRole) -> String {
        role.to_string()
    }
}

impl fmt::Display for AnonymousRole {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            AnonymousRole::Unsaid => "",
            AnonymousRole::Nobody => NONE,
            AnonymousRole::Role(role) => role.text(),
        })
    }
}

/// How connections are encrypted. The files are looked at every second, so a certificate is renewed by writing them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The server's certificate with those between it and the CA, in PEM; empty: connections are not encrypted.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The certificates of the CAs whose clients are known by their certificates, in PEM; empty: no client is asked for one.
    pub client_ca: PathBuf,
    /// Lists of certificates that these CAs have revoked (CRLs), in PEM; empty: none is looked at.
    pub client_crl: PathBuf,
    /// Whether a client must show a certificate where `tls.client_ca` is set.
    pub client_required: bool,
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        let none = PathBuf::new;
        TlsSettings { cert: none(), key: none(), client_ca: none(), client_crl: none(), client_required: true }
    }
}

impl TlsSettings {
    /// Whether connections are encrypted.
    pub fn is_on(&self) -> bool {
        !self.cert.as_os_str().is_empty()
    }

    /// Whether nobody comes in without a certificate.
    pub fn knows_clients(&self) -> bool {
        self.is_on() && !self.client_ca.as_os_str().is_empty() && self.client_required
    }

    pub(super) fn check(&self, problems: &mut Vec<String>) {
        let is_empty = |path: &PathBuf| path.as_os_str().is_empty();
        if is_empty(&self.cert) != is_empty(&self.key) {
            problems.push("tls.cert and tls.key belong together; name both files, or neither".into());
        }
        if is_empty(&self.cert) && !is_empty(&self.client_ca) {
            problems.push("tls.client_ca has no meaning without tls.cert and tls.key; name these files too".into());
        }
        if is_empty(&self.client_ca) && !is_empty(&self.client_crl) {
            problems.push(
                "tls.client_crl has no meaning without tls.client_ca, whose lists they are; name that too".into(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_users_whoever_proves_nothing_has_no_role_unless_the_operator_gives_one() {
        let mut auth = AuthSettings::default();
        assert_eq!(auth.anonymous(), Some(Role::Admin));
        auth.users_file = "users.toml".into();
        assert_eq!(auth.anonymous(), None);
        for (text, role) in [("read", Some(Role::Read)), ("none", None), ("", None)] {
            auth.anonymous_role = text.parse().expect("one of them");
            assert_eq!((auth.anonymous(), auth.anonymous_role.to_string().as_str()), (role, text));
        }
        assert!("boss".parse::<AnonymousRole>().is_err_and(|problem| problem.contains("none")));
    }
}
