//! Owns how a client learns who traces what its program does at the moment, so that the server's part of it is told with the rest.
//!
//! No tracing library is asked for: the program gives a closure that is called for each request, in the task that makes it. With
//! `tracing-opentelemetry` that is `Span::current().context()`, with OpenTelemetry alone `Context::current()`.

use std::fmt;
use std::sync::Arc;
use zeolite_proto::TraceContext;

/// Tells the trace context of what is done now; none: nobody traces it.
///
/// ```
/// use zeolite_client::{Options, TraceContext, TracedBy};
///
/// // By whatever your program traces with; here nobody does.
/// let options = Options::new().traced_by(TracedBy::new(|| None::<TraceContext>));
/// assert!(options.traced_by.is_some());
/// ```
#[derive(Clone)]
pub struct TracedBy(Arc<dyn Fn() -> Option<TraceContext> + Send + Sync>);

impl TracedBy {
    /// By whatever knows it. It must not wait.
    pub fn new(now: impl Fn() -> Option<TraceContext> + Send + Sync + 'static) -> TracedBy {
        TracedBy(Arc::new(now))
    }

    /// As a request carries it.
    pub(super) fn header(&self) -> String {
        (self.0)().map(|context| context.to_string()).unwrap_or_default()
    }
}

impl fmt::Debug for TracedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TracedBy")
    }
}
