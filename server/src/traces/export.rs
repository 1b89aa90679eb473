//! Owns the sending of spans: in batches, each within a limit of time, none of them twice. A collector that does not answer is told in the log
//! now and then.

use super::Counted;
use super::collector::Collector;
use crate::settings::TracesSettings;
use opentelemetry_sdk::trace::SpanData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

/// Spans in one message.
const BATCH_MAX: usize = 512;
/// So long they are collected.
const COLLECTED: Duration = Duration::from_millis(500);
/// Batches that fail between two lines of the log.
const TOLD_EVERY: u64 = 100;

/// Begins; it ends when the queue is closed and empty.
pub(super) fn start(
    settings: &TracesSettings,
    spans: mpsc::Receiver<SpanData>,
    counted: Arc<Counted>,
) -> Result<(), String> {
    let collector = Collector::new(settings)?;
    tracing::info!(endpoint = settings.endpoint, one_in = settings.one_in, "traces are sent");
    tokio::spawn(send(collector, spans, counted));
    Ok(())
}

async fn send(mut collector: Collector, mut spans: mpsc::Receiver<SpanData>, counted: Arc<Counted>) {
    let mut failed = 0u64;
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while spans.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if batch.len() < BATCH_MAX && !spans.is_closed() {
            tokio::time::sleep(COLLECTED).await;
            while let (true, Ok(span)) = (batch.len() < BATCH_MAX, spans.try_recv()) {
                batch.push(span);
            }
        }
        let count = batch.len() as u64;
        let Err(why) = collector.send(std::mem::take(&mut batch)).await else {
            failed = 0;
            counted.sent.fetch_add(count, Ordering::Release);
            continue;
        };
        counted.dropped.fetch_add(count, Ordering::Release);
        if failed.is_multiple_of(TOLD_EVERY) {
            tracing::warn!(why, failed, "a collector does not take traces; they are dropped");
        }
        failed += 1;
    }
}
