//! Owns the settings of the listener for monitoring: where the page and the numbers are served, to whom, and to how many at once.

use super::{AuthSettings, TlsSettings};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The address that monitoring systems usually expect an exporter on; shown in messages.
const EXAMPLE: &str = "127.0.0.1:9464";

/// Where the page and the numbers are served, and the bounds of that.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSettings {
    /// Address and port; empty: not served. Anything but a loopback address also needs encryption and users (`metrics.tls`,
    /// `auth.users_file`), or `metrics.listen_publicly = true`.
    pub listen: String,
    /// Says in so many words that other machines may read the numbers. Whoever has proved nothing changes nothing from there. It says
    /// nothing about the database's own port.
    pub listen_publicly: bool,
    /// Whether it speaks TLS, with the certificates of the database's own port (`tls.cert`, `tls.key`, `tls.client_ca`).
    pub tls: bool,
    /// Whether `/metrics` is told to everybody, also where there are users; otherwise it wants a token with the role read, as the page does.
    pub open: bool,
    /// The name by which browsers reach it, if that is neither an address nor localhost: behind a proxy. On loopback any other name is refused.
    pub host_name: String,
    /// Readers at once; for one more, the oldest that has not sent a whole request is closed, or else the new one.
    pub connections_max: usize,
    /// The head of one request, in bytes; a longer one gets 431.
    pub header_bytes_max: usize,
    /// From accepting a connection to the last byte of its answer, in milliseconds; then it is closed. Of an open page: for each thing that it
    /// is told.
    pub request_timeout_ms: u64,
    /// Open pages at once; one more is told to come back.
    pub viewers_max: usize,
    /// How much of the past the plots of a page show when it is opened, in seconds.
    pub history_s: u64,
    /// How long a login lasts, in seconds; it ends at once when its token does.
    pub login_s: u64,
}

impl Default for MetricsSettings {
    fn default() -> MetricsSettings {
        MetricsSettings {
            listen: String::new(),
            listen_publicly: false,
            tls: false,
            open: false,
            host_name: String::new(),
            connections_max: 32,
            header_bytes_max: 16 << 10,
            request_timeout_ms: 10_000,
            viewers_max: 8,
            history_s: 900,
            login_s: 8 * 3600,
        }
    }
}

impl MetricsSettings {
    /// The address to listen on; `None`: off.
    pub fn listen_addr(&self) -> Result<Option<SocketAddr>, String> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let address = super::address(&self.listen).map(Some);
        address.ok_or_else(|| {
            format!(
                "metrics.listen = {:?} is no address with a port; write it like \"{EXAMPLE}\", or leave it empty",
                self.listen
            )
        })
    }

    /// Refuses an address that other machines reach, unless they must say who they are and nobody listens, or the operator wants it so.
    pub(super) fn check(&self, tls: &TlsSettings, auth: &AuthSettings, problems: &mut Vec<String>) {
        if self.tls && !tls.is_on() {
            problems.push("metrics.tls = true has no meaning without tls.cert and tls.key; name these files".into());
        }
        let is_guarded = self.tls && ((auth.has_users() && auth.anonymous().is_none()) || tls.knows_clients());
        match self.listen_addr() {
            Ok(Some(address)) if !address.ip().is_loopback() && !self.listen_publicly && !is_guarded => {
                problems.push(format!(
                    "metrics.listen = {:?} lets other machines read the numbers; use a loopback address, set metrics.tls = true and \
                     auth.users_file, or say metrics.listen_publicly = true",
                    self.listen
                ));
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
}
