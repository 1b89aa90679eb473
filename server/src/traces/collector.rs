//! Owns the way to a collector: its address, TLS, and the headers that it wants.
//!
//! ```text
//!   ca, cert, key, headers_file ── as they are now ──> connection ──> batches
//!                                        └── wrong, or refused there: why, and what to do; spans are dropped until it is right
//! ```
//! The files are read before each batch (two a second at most), and a connection is made anew when one has changed: whoever renews a certificate
//! or a token restarts nothing. What is wrong in them keeps no database from starting. What a header says is told nowhere.

use crate::auth::watched::bytes;
use crate::settings::TracesSettings;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use std::error::Error;
use std::path::Path;
use std::time::Duration;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// What a failure says in the words of its library, and what is to be done about it.
const REMEDIES: &[(&str, &str)] = &[
    (
        "UnknownIssuer",
        "its certificate is not of a CA that is known here: name the file of that CA's certificate (traces.ca)",
    ),
    ("NotValidForName", "its certificate is for another name: write the endpoint with that one"),
    ("not valid for name", "its certificate is for another name: write the endpoint with that one"),
    ("Expired", "a certificate has expired: renew it"),
    ("InvalidContentType", "it does not speak TLS: write the endpoint with http://"),
    ("CertificateRequired", "it wants a certificate of this server: name one (traces.cert, traces.key)"),
    (
        "UnknownCA",
        "it does not know the CA of this server's certificate: name another (traces.cert), or tell it of the CA",
    ),
    ("KeyMismatch", "traces.key is not the key of traces.cert: name the two that belong together"),
    ("close_notify", "it has ended the connection: it may want a certificate of this server (traces.cert, traces.key)"),
    ("broken pipe", "it has ended the connection: it may speak TLS, then write the endpoint with https://"),
    ("Unauthenticated", "it does not take what traces.headers_file says"),
    ("PermissionDenied", "it does not take what traces.headers_file says"),
];

/// The files that are named, as they were read; empty: none is.
#[derive(Clone, PartialEq, Eq, Default)]
struct Files {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
    headers: Vec<u8>,
}

/// Takes batches to a collector.
pub(super) struct Collector {
    settings: TracesSettings,
    /// With what it was made.
    connected: Option<(SpanExporter, Files)>,
}

impl Collector {
    /// Nothing is connected yet; a wrong address is told at once.
    pub(super) fn new(settings: &TracesSettings) -> Result<Collector, String> {
        let collector = Collector { settings: settings.clone(), connected: None };
        collector.endpoint()?;
        Ok(collector)
    }

    /// Sends a batch; an error says why not, and it is dropped.
    pub(super) async fn send(&mut self, batch: Vec<SpanData>) -> Result<(), String> {
        let within = Duration::from_millis(self.settings.timeout_ms);
        match tokio::time::timeout(within, self.try_to_send(batch)).await {
            Ok(sent) => sent.map_err(explained),
            Err(_) => {
                // Of a connection that says nothing nobody knows whether somebody is there: the next batch makes another one.
                self.connected = None;
                Err("it did not answer within traces.timeout_ms; look at traces.endpoint (address, http or https) and at the collector".into())
            }
        }
    }

    async fn try_to_send(&mut self, batch: Vec<SpanData>) -> Result<(), String> {
        let settings = self.settings.clone();
        let files = tokio::task::spawn_blocking(move || Files::read(&settings)).await;
        let files = files.map_err(|error| error.to_string())??;
        let (exporter, _) = match self.connected.take().filter(|(_, of)| *of == files) {
            Some(connected) => self.connected.insert(connected),
            None => {
                let exporter = self.connect(&files).await?;
                self.connected.insert((exporter, files))
            }
        };
        let sent = exporter.export(batch).await.map_err(|error| error.to_string());
        if sent.is_err() {
            // A connection that is made anew says why it cannot be.
            self.connected = None;
        }
        sent
    }

    fn endpoint(&self) -> Result<Endpoint, String> {
        let endpoint = &self.settings.endpoint;
        Endpoint::from_shared(endpoint.clone())
            .map_err(|error| format!("traces.endpoint = {endpoint:?} does not do: {error}"))
    }

    async fn connect(&self, files: &Files) -> Result<SpanExporter, String> {
        let (endpoint, within) = (self.endpoint()?, Duration::from_millis(self.settings.timeout_ms));
        let endpoint = match self.settings.endpoint.starts_with("https://") {
            true => endpoint.tls_config(files.tls()).map_err(|error| chain(&error))?,
            false => endpoint,
        };
        let channel: Channel = endpoint.connect_timeout(within).connect().await.map_err(|error| chain(&error))?;
        let exporter = SpanExporter::builder().with_tonic().with_channel(channel).with_timeout(within);
        let exporter = exporter.with_metadata(headers(&files.headers)?).build();
        let mut exporter = exporter.map_err(|error| error.to_string())?;
        exporter.set_resource(&Resource::builder_empty().with_service_name(self.settings.service.clone()).build());
        Ok(exporter)
    }
}

impl Files {
    fn read(settings: &TracesSettings) -> Result<Files, String> {
        let read = |name: &str, path: &Path| match path.as_os_str().is_empty() {
            true => Ok(Vec::new()),
            false => bytes(path).map_err(|error| format!("traces.{name} = {} cannot be read: {error}", path.display())),
        };
        let TracesSettings { ca, cert, key, headers_file, .. } = settings;
        Ok(Files {
            ca: read("ca", ca)?,
            cert: read("cert", cert)?,
            key: read("key", key)?,
            headers: read("headers_file", headers_file)?,
        })
    }

    fn tls(&self) -> ClientTlsConfig {
        let config = match self.ca.is_empty() {
            true => ClientTlsConfig::new().with_native_roots(),
            false => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca)),
        };
        match self.cert.is_empty() {
            true => config,
            false => config.identity(Identity::from_pem(&self.cert, &self.key)),
        }
    }
}

/// A line for each: `name: value`. What is wrong is told by its line, and never with what it says.
fn headers(text: &[u8]) -> Result<MetadataMap, String> {
    let wrong = |line: usize, what: &str| format!("traces.headers_file, line {line}: {what}; write `name: value`");
    let text = std::str::from_utf8(text).map_err(|_| "traces.headers_file is no text".to_owned())?;
    let mut headers = MetadataMap::new();
    for (line, header) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (name, value) = header.split_once(':').ok_or_else(|| wrong(line + 1, "there is no colon"))?;
        let name = name.trim().to_ascii_lowercase();
        let name: AsciiMetadataKey =
            name.parse().map_err(|_| wrong(line + 1, "before the colon is no name of a header"))?;
        let mut value: AsciiMetadataValue =
            value.trim().parse().map_err(|_| wrong(line + 1, "behind the colon is more than visible ASCII"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// An error with what it comes from.
fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(of) = cause {
        let told = of.to_string();
        // Some repeat what they come from.
        if !text.ends_with(&told) {
            text = format!("{text}: {told}");
        }
        cause = of.source();
    }
    text
}

/// A reason with what to do about it, where that is known.
fn explained(reason: String) -> String {
    match REMEDIES.iter().find(|(words, _)| reason.contains(words)) {
        Some((_, remedy)) => format!("{reason}; {remedy}"),
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_what_is_wrong_is_told_without_what_it_says() {
        let read = headers(b"Authorization: Bearer s3cret: x\n\n x-scope : a\n").expect("two");
        assert_eq!(read.get("authorization").and_then(|value| value.to_str().ok()), Some("Bearer s3cret: x"));
        assert_eq!((read.len(), read.get("x-scope").is_some()), (2, true));
        assert!(!format!("{read:?}").contains("s3cret"));
        for wrong in [&b"a: b\ns3cret"[..], b"a: b\ns3cret\x01 x: y", b"a: b\nx: s3cret\x01", b"s3cret\xff"] {
            let why = headers(wrong).expect_err("is wrong");
            assert!(why.contains("traces.headers_file") && !why.contains("s3cret"), "{why}");
        }
    }
}
