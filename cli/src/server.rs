//! Owns how commands reach a server: where it is, and how long they wait for each of its answers.

use crate::credentials::Credentials;
use crate::exit::{CannotConnect, Usage};
use anyhow::Result;
use std::net::Ipv6Addr;
use std::time::Duration;
use zeolite_client::{Admin, Db, Error, FaultKind, Options, Tls, Token};

/// Where a server listens unless told otherwise.
pub(crate) const ADDRESS: &str = zeolite_server::settings::LISTEN_DEFAULT;

/// The database that everybody has.
pub(crate) const DATABASE: &str = "main";
/// An answer must come within this, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A connection must be there within this.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// An address from the command line: a host and a port, which may be left out.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no address; write HOST or HOST:PORT, with a port up to 65535");
    let port = ADDRESS.rsplit_once(':').map_or("", |(_, port)| port);
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{text}]:{port}"));
    }
    match text.rsplit_once(':') {
        _ if text.starts_with('[') && text.ends_with(']') => Ok(format!("{text}:{port}")),
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        None if !text.is_empty() => Ok(format!("{text}:{port}")),
        _ => Err(wrong()),
    }
}

/// A server that a command asks.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: String,
    /// Which of its databases; empty: `main`.
    pub(crate) database: String,
    pub(crate) timeout: Duration,
    credentials: Credentials,
}

impl Server {
    /// A database of the server at an address; without a time limit in seconds, the usual one.
    pub(crate) fn new(address: &str, database: &str, timeout: Option<u64>, credentials: &Credentials) -> Server {
        let timeout = timeout.map_or(TIMEOUT, |seconds| Duration::from_secs(seconds.max(1)));
        let (address, database, credentials) = (address.to_owned(), database.to_owned(), credentials.clone());
        Server { address, database, timeout, credentials }
    }

    /// The same with another limit of time; none: the same.
    pub(crate) fn within(self, timeout: Option<Duration>) -> Server {
        Server { timeout: timeout.unwrap_or(self.timeout), ..self }
    }

    /// Another address, with the same credentials.
    pub(crate) fn at(&self, address: &str) -> Server {
        Server { address: address.to_owned(), ..self.clone() }
    }

    /// Another database of it.
    pub(crate) fn of(&self, database: &str) -> Server {
        Server { database: database.to_owned(), ..self.clone() }
    }

    fn connect_within(&self) -> Duration {
        CONNECT_WITHIN.min(self.timeout)
    }

    fn options(&self, options: Options) -> Result<Options> {
        let (request_timeout, connect_timeout) = (self.timeout, self.connect_within());
        let Credentials { token_file, ca, cert, key } = self.credentials.clone();
        let (token, tls) = (token_file.map(Token::file), Tls::new().ca(ca).cert(cert).key(key).server_name(None));
        let database = self.database.clone();
        let options = options
            .database(database)
            .request_timeout(request_timeout)
            .connect_timeout(connect_timeout)
            .token(token)
            .tls(tls);
        self.reached(options.with_credentials_for(&self.address))
    }

    /// For an operator's calls. It takes no session, so a full server answers as well.
    pub(crate) async fn admin(&self) -> Result<Admin> {
        self.reached(Admin::connect(self.address.as_str(), &self.options(Options::default())?).await)
    }

    /// For a look at what is stored: nothing is kept of it, so there is nothing to be told about.
    pub(crate) async fn reader(&self) -> Result<Db> {
        self.client(Options::new().name("zeolite").feed(false).cache_bytes(0)).await
    }

    /// A client of its own kind; the time limits are this server's.
    pub(crate) async fn client(&self, options: Options) -> Result<Db> {
        self.reached(Db::connect_with(self.address.as_str(), self.options(options)?).await)
    }

    /// Nobody at the address is an error of its own: it has an exit code, and a remedy that only the command line knows.
    fn reached<T>(&self, connected: Result<T, Error>) -> Result<T> {
        connected.map_err(|error| match error {
            Error::Disconnected { reason, .. } => CannotConnect { address: self.address.clone(), reason }.into(),
            // No server has said so: it is about the address, or the files that were named.
            Error::Fault(fault) if fault.kind == FaultKind::Invalid => Usage(fault.message).into(),
            error => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn a_port_may_be_left_out_and_must_be_one() {
        for (text, meant) in [
            ("localhost", "localhost:7878"),
            ("localhost:1", "localhost:1"),
            ("::1", "[::1]:7878"),
            ("[::1]", "[::1]:7878"),
            ("[::1]:80", "[::1]:80"),
            ("http://db:7", "http://db:7"),
        ] {
            assert_eq!(address(text), Ok(meant.to_owned()));
        }
        for wrong in ["", ":7878", "127.0.0.1:99999", "localhost:", "localhost:http"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
