//! Owns the numbers for monitoring, in the OpenMetrics text format.
//!
//! ```text
//!   web ── /metrics/NAME ──> numbers ── asks ──> engine status, stage histograms, session queues
//!                         │          └─ reads ─> the records of evolves
//!                         families: names, types and labels    process: memory, cpu, files
//! ```
//! Nothing is counted here: each answer is made of what engine and sessions know at that moment, so the numbers cannot
//! differ from `zeolite status`, and a server that nobody scrapes pays nothing. Who may read them is `web`'s to say.

mod evolves;
mod families;
mod numbers;
mod process;
mod replication;

pub(crate) use evolves::Evolves;
pub(crate) use numbers::{Numbers, Opening};
pub(crate) use process::Process;

use prometheus_client::collector::Collector;
use prometheus_client::registry::Registry;

/// What the text is.
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that a collector tells. Reads the disk.
pub(crate) fn text(of: Box<dyn Collector>) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let mut registry = Registry::default();
    registry.register_collector(of);
    prometheus_client::encoding::text::encode(&mut text, &registry).map(|()| text)
}
