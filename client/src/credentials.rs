//! Owns how a client proves who it is, and how it knows the server: token, CA, certificate; given, or found in the environment or a file.
//!
//! ```text
//!   Options::{token, tls} > ZEOLITE_TOKEN, ZEOLITE_TOKEN_FILE, ZEOLITE_CA, ZEOLITE_CERT, ZEOLITE_KEY > credentials.toml, by address
//! ```
//! `credentials.toml` is `$ZEOLITE_CREDENTIALS`, or `zeolite/credentials.toml` in `$XDG_CONFIG_HOME` or `~/.config`:
//!
//! ```toml
//! ["db.example.org:7878"]
//! token = "zlt_..."            # or token_file = "/run/secrets/zeolite"
//! ca = "/etc/zeolite/ca.pem"   # cert, key, server_name
//! ```
//! Files of tokens and certificates are read whenever a connection is made: one that is written anew counts from the next on, and
//! a connection costs a few milliseconds.

use crate::errors::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeolite_proto::TOKEN_PREFIX;

/// A longer file is refused: CAs of a system take some hundred kilobytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The secret that says for which user a client works. Its `Debug` does not show it.
///
/// ```
/// use zeolite_client::{Options, Token};
///
/// let options = Options::new().token(Token::file("/run/secrets/zeolite"));
/// assert!(format!("{:?}", Token::new("zlt_secret")).contains("not shown"));
/// # let _ = options;
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Source);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Source {
    Text(Arc<str>),
    File(PathBuf),
}

impl Token {
    /// This one.
    pub fn new(text: &str) -> Token {
        Token(Source::Text(text.trim().into()))
    }

    /// The one in a file, which is read whenever a connection is made.
    pub fn file(path: impl Into<PathBuf>) -> Token {
        Token(Source::File(path.into()))
    }

    pub(crate) fn read(&self) -> Result<String> {
        match &self.0 {
            Source::Text(text) => Ok(text.to_string()),
            Source::File(path) => {
                read("the token", path).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
            }
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Text(_) => to.write_str("Token(not shown)"),
            Source::File(path) => write!(to, "Token(in {})", path.display()),
        }
    }
}

/// How connections are encrypted, and to whom. An address with `https://` is; one without a scheme is where one of these is given.
///
/// ```
/// use zeolite_client::{Options, Tls};
///
/// let options = Options::new().tls(Tls::new().ca(std::path::PathBuf::from("/etc/zeolite/ca.pem")));
/// assert!(options.tls.cert.is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct Tls {
    /// The certificate of the CA that the server's is of, in PEM; none: those of the system.
    pub ca: Option<PathBuf>,
    /// The client's own certificate, in PEM, for a server that asks for one.
    pub cert: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key: Option<PathBuf>,
    /// The name that the server's certificate must have; none: that of the address.
    pub server_name: Option<String>,
}

impl Tls {
    /// Nothing is given.
    pub fn new() -> Tls {
        Tls::default()
    }

    /// Whether anything is said of it.
    pub(crate) fn is_given(&self) -> bool {
        *self != Tls::default()
    }
}

zeolite_proto::setters! { Tls {
    ca: impl Into<Option<PathBuf>>,
    cert: impl Into<Option<PathBuf>>,
    key: impl Into<Option<PathBuf>>,
    server_name: impl Into<Option<String>>,
} }

/// What was found for an address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Found {
    token: Option<String>,
    token_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
}

/// What is not given is looked for in the environment, then in the file.
pub(crate) fn found(address: &str, token: Option<Token>, tls: Tls) -> Result<(Option<Token>, Tls)> {
    found_in(address, token, tls, |name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn found_in(
    address: &str,
    token: Option<Token>,
    tls: Tls,
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<(Option<Token>, Tls)> {
    let path = |name: &str| variable(name).map(PathBuf::from);
    let of_environment = Found {
        token: variable("ZEOLITE_TOKEN").map(|token| token.to_string_lossy().into_owned()),
        token_file: path("ZEOLITE_TOKEN_FILE"),
        ca: path("ZEOLITE_CA"),
        cert: path("ZEOLITE_CERT"),
        key: path("ZEOLITE_KEY"),
        server_name: None,
    };
    let home = || path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")));
    let file = path("ZEOLITE_CREDENTIALS").map(|named| (named, true));
    let file = file.or_else(|| home().map(|home| (home.join("zeolite/credentials.toml"), false)));
    let of_file = match file {
        Some((file, must)) if must || file.exists() => in_file(&file, address)?,
        _ => Found::default(),
    };
    Ok(over((token, tls), [of_environment, of_file]))
}

fn over((mut token, mut tls): (Option<Token>, Tls), layers: [Found; 2]) -> (Option<Token>, Tls) {
    for Found { token: text, token_file, ca, cert, key, server_name } in layers {
        token = token.or(text.map(|text| Token::new(&text))).or(token_file.map(Token::file));
        tls.ca = tls.ca.or(ca);
        // A certificate goes with its own key.
        if tls.cert.is_none() && tls.key.is_none() {
            (tls.cert, tls.key) = (cert, key);
        }
        tls.server_name = tls.server_name.or(server_name);
    }
    (token, tls)
}

fn in_file(path: &Path, address: &str) -> Result<Found> {
    let wrong = |why: String| Error::invalid(format!("the credentials file {}: {why}", path.display()));
    let bytes = read("the credentials file", path)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".into()))?;
    let mut servers: BTreeMap<String, Found> = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        // What the parser says quotes what it has read, and that may be a token.
        let why = if error.message().contains(TOKEN_PREFIX) { "it is not as it should be" } else { error.message() };
        wrong(format!(
            "near line {line}: {why}; write a table [\"HOST:PORT\"] with token or token_file, ca, cert, key, server_name"
        ))
    })?;
    let host = address.split_once("://").map_or(address, |(_, host)| host).trim_end_matches('/');
    let found = servers.remove(host).unwrap_or_default();
    let mode = std::fs::metadata(path).map(|file| file.permissions().mode()).unwrap_or(0);
    if found.token.is_some() && mode & 0o077 != 0 {
        return Err(wrong("others may read it, and it holds a token; chmod 600 it".into()));
    }
    Ok(found)
}

/// The bytes of a file that somebody has named, or of a pipe.
pub(crate) fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    let failed = |error: &dyn fmt::Display, remedy: &str| {
        Error::invalid(format!("{what} in {} cannot be read: {error}; {remedy}", path.display()))
    };
    let read = |file: File| {
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = File::open(path).and_then(read).map_err(|error| failed(&error, "name a file that is there"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(&format_args!("it has more than {FILE_BYTES_MAX} bytes"), "name another file"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let told = Token::file("/dev/zero").read().expect_err("too long").to_string();
        assert!(told.contains("/dev/zero") && told.contains("bytes"), "{told}");
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::new("zlt_secret\n");
        assert_eq!(token.read().expect("given"), "zlt_secret");
        let options = crate::Options::new().token(Some(token));
        let shown = format!("{options:?} {:?}", options.acting());
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_is_given_counts_before_the_environment_and_that_before_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("credentials.toml");
        std::fs::write(
            &file,
            "[\"db:7\"]\ntoken = \"of file\"\nca = \"file.pem\"\nkey = \"file.key\"\ncert = \"file.crt\"\n",
        )
        .expect("written");
        let chmod = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("ours");
        let look = |address: &str, given: Option<Token>, environment: &[(&str, &str)]| {
            let variable = |name: &str| match name {
                "ZEOLITE_CREDENTIALS" => Some(file.clone().into_os_string()),
                name => environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into()),
            };
            found_in(address, given, Tls::default(), variable)
        };
        chmod(0o644);
        assert!(look("db:7", None, &[]).is_err_and(|error| error.to_string().contains("chmod 600")));
        chmod(0o600);
        for wrong in ["\"db:7\" = \"zlt_secret\"", "[\"db:7\"]\nzlt_secret = 1", "zlt_secret"] {
            let written = std::fs::read(&file).expect("there");
            std::fs::write(&file, wrong).expect("written");
            let told = look("db:7", None, &[]).expect_err("not as it should be").to_string();
            assert!(!told.contains("secret") && told.contains("near line"), "{told}");
            std::fs::write(&file, written).expect("written");
        }
        for address in ["db:7", "https://db:7", "https://db:7/"] {
            let (token, tls) = look(address, None, &[]).expect("reads");
            assert_eq!((token, tls.ca), (Some(Token::new("of file")), Some("file.pem".into())), "{address}");
        }
        assert_eq!(look("db:8", None, &[]).expect("reads"), (None, Tls::default()));
        let environment =
            [("ZEOLITE_TOKEN_FILE", "of.environment"), ("ZEOLITE_CERT", "own.crt"), ("ZEOLITE_KEY", "own.key")];
        let (token, tls) = look("db:7", None, &environment).expect("reads");
        assert_eq!((token, tls.ca), (Some(Token::file("of.environment")), Some("file.pem".into())));
        assert_eq!((tls.cert, tls.key), (Some("own.crt".into()), Some("own.key".into())));
        let (token, _) = look("db:7", Some(Token::new("given")), &environment).expect("reads");
        assert_eq!(token, Some(Token::new("given")));
        std::fs::write(&file, "[\"db:7\"]\ntokn = \"x\"\n").expect("written");
        assert!(look("db:7", None, &[]).is_err_and(|error| error.to_string().contains("tokn")));
    }
}
