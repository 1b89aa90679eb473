//! Owns the settings of traces: where spans are sent, and which requests are traced that nobody traces yet.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// Where traces go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesSettings {
    /// A collector that takes OTLP over gRPC, like `http://127.0.0.1:4317`, or `https://` for TLS; empty: nothing is traced.
    pub endpoint: String,
    /// The CA of its certificate, PEM; empty: those that the system knows. This file and the next three are read again when they change.
    pub ca: PathBuf,
    /// The certificate of this server as its client, PEM; empty: none.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// A file with headers that it wants, like a token: a line `name: value` for each; empty: none.
    pub headers_file: PathBuf,
    /// By what name the server is known there (`service.name`).
    pub service: String,
    /// Of the requests that nobody traces, one in so many is traced from here on; 0: none. What a client traces (`traceparent`, sampled)
    /// is always kept.
    pub one_in: u64,
    /// Spans that wait to be sent; further ones are dropped and counted.
    pub queue_max: usize,
    /// How long the collector may take for one message, in milliseconds; then its spans are dropped.
    pub timeout_ms: u64,
}

impl Default for TracesSettings {
    fn default() -> TracesSettings {
        TracesSettings {
            endpoint: String::new(),
            ca: PathBuf::new(),
            cert: PathBuf::new(),
            key: PathBuf::new(),
            headers_file: PathBuf::new(),
            service: "zeolite".into(),
            one_in: 0,
            queue_max: 8192,
            timeout_ms: 5000,
        }
    }
}

impl TracesSettings {
    /// Whether anything is traced.
    pub fn is_on(&self) -> bool {
        !self.endpoint.is_empty()
    }

    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if !self.is_on() {
            return;
        }
        let TracesSettings { endpoint, ca, cert, key, headers_file, .. } = self;
        let is_given = |path: &PathBuf| !path.as_os_str().is_empty();
        if is_given(cert) != is_given(key) {
            problems.push("traces.cert and traces.key belong together; give both, or none".to_owned());
        }
        let Some(host) = endpoint.strip_prefix("http://") else {
            if !endpoint.starts_with("https://") {
                problems.push(format!(
                    "traces.endpoint = {endpoint:?} is no address of a collector; write it like \"http://127.0.0.1:4317\", or with https://"
                ));
            }
            return;
        };
        if is_given(ca) || is_given(cert) {
            problems.push(format!(
                "traces.endpoint = {endpoint:?} is not encrypted, and a CA or a certificate is given for it; write https://, or leave them out"
            ));
        }
        if is_given(headers_file) && !is_loopback(host) {
            problems.push(format!(
                "traces.endpoint = {endpoint:?} is not encrypted, so traces.headers_file could be read on the way; write https://, or let a \
                 collector on this machine send it on"
            ));
        }
    }
}

/// Whether the host of an address is this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let host = port.map_or(authority, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_goes_encrypted_or_stays_on_this_machine() {
        let problems = |endpoint: &str, change: &dyn Fn(&mut TracesSettings)| {
            let mut settings = TracesSettings { endpoint: endpoint.to_owned(), ..TracesSettings::default() };
            change(&mut settings);
            let mut problems = Vec::new();
            settings.check(&mut problems);
            problems.join("; ")
        };
        let headers = |settings: &mut TracesSettings| settings.headers_file = "headers".into();
        let ca = |settings: &mut TracesSettings| settings.ca = "ca.pem".into();
        for fine in [
            "https://collector:4317",
            "http://127.0.0.1:4317",
            "http://[::1]:4317/",
            "http://[::1]",
            "http://localhost",
        ] {
            assert_eq!(problems(fine, &headers), "", "{fine}");
        }
        for open in
            ["http://collector:4317", "http://127.0.0.1.example.org:4317", "http://10.0.0.1", "http://1@10.0.0.1:1"]
        {
            assert!(problems(open, &headers).contains("could be read"), "{open}");
        }
        assert!(problems("http://127.0.0.1:4317", &ca).contains("https://"));
        assert!(problems("collector:4317", &|_| ()).contains("is no address"));
        assert!(problems("https://c", &|settings| settings.cert = "c.pem".into()).contains("traces.key"));
        assert_eq!(problems("", &headers), "", "nothing is sent");
    }
}
