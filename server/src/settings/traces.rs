//! Owns the settings of traces: where spans are sent, and which requests are traced that nobody traces yet.

use serde::{Deserialize, Serialize};

/// Where traces go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesSettings {
    /// A collector that takes OTLP over gRPC, like `http://127.0.0.1:4317`; empty: nothing is traced.
    pub endpoint: String,
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
        if self.is_on() && !self.endpoint.starts_with("http://") {
            problems.push(format!(
                "traces.endpoint = {:?} is no address of a collector; write it like \"http://127.0.0.1:4317\" (it is not encrypted: let a \
                 collector on this machine send it on)",
                self.endpoint
            ));
        }
    }
}
