//! Owns traces: the spans of requests that somebody traces, sent to a collector over OTLP.
//!
//! ```text
//!   client's span ── traceparent ──> request (rpc) ──┬─ load, scan ...
//!                                                    └─ commit: queue › hop › write › fsync › publish (engine: `Traced`)
//!                     spans ──> bounded queue ──> `export`: batches, with a limit of time ──> collector
//! ```
//! Nothing is measured for it that is not measured anyway, and a request that nobody traces costs one comparison. A queue that is full, a
//! collector that is slow or gone: spans are dropped and counted, and nobody waits. Each is counted once: as one that waits, that a collector
//! has taken (`zeolite_spans_sent_total`), or that was dropped (`zeolite_spans_dropped_total`).

mod collector;
mod export;

use crate::clock::Clock;
use crate::engine::Traced;
use crate::settings::TracesSettings;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use zeolite_proto::{FaultKind, TraceContext};

/// Takes spans.
pub(crate) struct Traces {
    to: mpsc::Sender<SpanData>,
    clock: Arc<dyn Clock>,
    one_in: u64,
    seen: AtomicU64,
    counted: Arc<Counted>,
    scope: InstrumentationScope,
}

/// What became of spans.
#[derive(Default)]
pub(crate) struct Counted {
    made: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Counted {
    /// Those that wait, that were sent, and that were dropped.
    pub(crate) fn told(&self) -> [u64; 3] {
        // Made is read last, and so is never less than what became of them.
        let (sent, dropped) = (self.sent.load(Ordering::Acquire), self.dropped.load(Ordering::Acquire));
        [self.made.load(Ordering::Acquire) - sent - dropped, sent, dropped]
    }
}

/// A request that is traced, until it is answered.
pub(crate) struct Open {
    traces: Arc<Traces>,
    /// Its own span, of which others are parts.
    own: TraceContext,
    /// The client's; 0: it begins here.
    parent: u64,
    name: &'static str,
    request: String,
    began: Duration,
}

impl Traces {
    /// None: the settings want none. Must be called inside of the runtime that sends them.
    pub(crate) fn start(settings: &TracesSettings, clock: Arc<dyn Clock>) -> Result<Option<Arc<Traces>>, String> {
        if !settings.is_on() {
            return Ok(None);
        }
        let (to, spans) = mpsc::channel(settings.queue_max);
        let counted = Arc::<Counted>::default();
        export::start(settings, spans, counted.clone())?;
        let scope = InstrumentationScope::builder("zeolite").with_version(env!("CARGO_PKG_VERSION")).build();
        let (one_in, seen) = (settings.one_in, AtomicU64::new(0));
        Ok(Some(Arc::new(Traces { to, clock, one_in, seen, counted, scope })))
    }

    /// A request has come; none: nobody traces it.
    pub(crate) fn begin(
        self: &Arc<Self>,
        given: Option<TraceContext>,
        name: &'static str,
        request: impl FnOnce() -> String,
    ) -> Option<Open> {
        let (trace, parent) = match given {
            Some(given) if given.sampled => (given.trace, given.span),
            // Who says that it is not kept is not overruled.
            Some(_) => return None,
            None => (self.chosen()?, 0),
        };
        let own = TraceContext { trace, span: id()?, sampled: true };
        let began = self.clock.steady();
        Some(Open { traces: self.clone(), own, parent, name, request: request(), began })
    }

    /// The trace of a request that is traced from here on.
    fn chosen(&self) -> Option<u128> {
        let is_one = self.one_in > 0 && self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in);
        is_one.then(|| Some(u128::from(id()?) << 64 | u128::from(id()?))).flatten()
    }

    /// The stages of a durable commit.
    pub(crate) fn commit(&self, traced: &Traced) {
        let Traced { trace, came_ns, sealed_ns, taken_ns, write_ns, sync_ns, told_ns, .. } = *traced;
        let (written, synced) = (taken_ns + write_ns, taken_ns + write_ns + sync_ns);
        let stages = [
            ("queue", came_ns, sealed_ns),
            ("hop", sealed_ns, taken_ns),
            ("write", taken_ns, written),
            ("fsync", written, synced),
            ("publish", synced, told_ns),
        ];
        for (name, from, to) in stages {
            let mut attributes = Vec::new();
            if name == "publish" {
                attributes.push(KeyValue::new("zeolite.tid", traced.tid.to_string()));
                attributes.push(KeyValue::new("zeolite.cells", i64::try_from(traced.cells).unwrap_or(i64::MAX)));
            }
            let own = TraceContext { span: id().unwrap_or(trace.span), ..trace };
            let (from, to) = (Duration::from_nanos(from), Duration::from_nanos(to.max(from)));
            self.add(own, trace.span, SpanKind::Internal, name, (from, to), attributes, Status::Unset);
        }
    }

    /// What became of them.
    pub(crate) fn counted(&self) -> &Counted {
        &self.counted
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a span, each with its own type")]
    fn add(
        &self,
        own: TraceContext,
        parent: u64,
        span_kind: SpanKind,
        name: &'static str,
        (from, to): (Duration, Duration),
        attributes: Vec<KeyValue>,
        status: Status,
    ) {
        let (trace, span) = (TraceId::from(own.trace), SpanId::from(own.span));
        let span = SpanData {
            span_context: SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: SpanId::from(parent),
            parent_span_is_remote: span_kind == SpanKind::Server,
            span_kind,
            name: name.into(),
            start_time: self.wall(from),
            end_time: self.wall(to),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        };
        self.counted.made.fetch_add(1, Ordering::Release);
        if self.to.try_send(span).is_err() {
            self.counted.dropped.fetch_add(1, Ordering::Release);
        }
    }

    /// When that was, by the wall's clock as it is now.
    fn wall(&self, steady: Duration) -> SystemTime {
        let now = Duration::from_nanos(u64::try_from(self.clock.unix_nanos()).unwrap_or(0));
        SystemTime::UNIX_EPOCH + now.saturating_sub(self.clock.steady().saturating_sub(steady))
    }
}

impl Open {
    /// Of what its stages are parts.
    pub(crate) fn context(&self) -> TraceContext {
        self.own
    }

    /// It is answered.
    pub(crate) fn end(&self, refused: Option<FaultKind>) {
        let mut attributes = vec![KeyValue::new("zeolite.request", Value::from(self.request.clone()))];
        let status = match refused {
            None => Status::Ok,
            Some(kind) => {
                attributes.push(KeyValue::new("zeolite.fault", kind.text()));
                Status::error(kind.text())
            }
        };
        let times = (self.began, self.traces.clock.steady());
        self.traces.add(self.own, self.parent, SpanKind::Server, self.name, times, attributes, status);
    }
}

/// A random number that is not 0.
fn id() -> Option<u64> {
    getrandom::u64().ok().map(|id| id.max(1))
}
