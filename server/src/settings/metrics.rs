//! Owns the settings of the numbers for monitoring: where they are served, and to how many at once.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The address that monitoring systems usually expect an exporter on; shown in messages.
const EXAMPLE: &str = "127.0.0.1:9464";

/// Where the numbers are served, and the bounds of that.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSettings {
    /// Address and port; empty: not served. Anything but a loopback address also needs `metrics.listen_publicly = true`.
    pub listen: String,
    /// Says in so many words that other machines may read the numbers. It says nothing about the database's own port.
    pub listen_publicly: bool,
    /// Readers at once; one more is closed as soon as it is accepted.
    pub connections_max: usize,
    /// The head of one request, in bytes; a longer one gets 431.
    pub header_bytes_max: usize,
    /// From accepting a connection to the last byte of its answer, in milliseconds; then it is closed.
    pub request_timeout_ms: u64,
}

impl Default for MetricsSettings {
    fn default() -> MetricsSettings {
        MetricsSettings {
            listen: String::new(),
            listen_publicly: false,
            connections_max: 8,
            header_bytes_max: 16 << 10,
            request_timeout_ms: 10_000,
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

    pub(super) fn check(&self, problems: &mut Vec<String>) {
        match self.listen_addr() {
            Ok(Some(address)) if !address.ip().is_loopback() && !self.listen_publicly => problems.push(format!(
                "metrics.listen = {:?} lets other machines read the numbers; use a loopback address, or say \
                 metrics.listen_publicly = true as well",
                self.listen
            )),
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
}
