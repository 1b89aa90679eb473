//! Owns what is told of a commit that somebody traces: when it reached which stage.
//!
//! Nothing is measured for it: these are the times of the stages that every commit has.

use super::slow::Journey;
use crate::engine::pipeline::way::Came;
use crate::storage::Txn;
use std::sync::OnceLock;
use std::time::Duration;
use zeolite_proto::{Tid, TraceContext};

/// A durable commit that somebody traces. Times by the steady clock, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Traced {
    /// Who; the span is that of the request.
    pub trace: TraceContext,
    /// Its tid.
    pub tid: Tid,
    /// How many cells it wrote.
    pub cells: usize,
    /// Admitted.
    pub came_ns: u64,
    /// Put in order.
    pub sealed_ns: u64,
    /// Taken by the writer.
    pub taken_ns: u64,
    /// How long the write of its batch took.
    pub write_ns: u64,
    /// How long the sync did.
    pub sync_ns: u64,
    /// Visible, its receipt on its way.
    pub told_ns: u64,
}

impl Traced {
    pub(super) fn of(trace: TraceContext, txn: &Txn, came: Came, journey: Journey, now: Duration) -> Traced {
        let Journey { sealed_ns, taken_ns, write_ns, sync_ns } = journey;
        let (tid, cells, told_ns) = (txn.tid, txn.writes.len(), now.as_nanos() as u64);
        Traced { trace, tid, cells, came_ns: came.ns, sealed_ns, taken_ns, write_ns, sync_ns, told_ns }
    }
}

type Told = Box<dyn Fn(&Traced) + Send + Sync>;

/// Whoever is told; nobody, unless somebody asked for it.
#[derive(Default)]
pub(super) struct Tracer(OnceLock<Told>);

impl Tracer {
    pub(super) fn is(&self, told: Told) {
        if self.0.set(told).is_err() {
            tracing::debug!("who traces commits was said before");
        }
    }

    pub(super) fn tell(&self, traced: &Traced) {
        if let Some(told) = self.0.get() {
            told(traced);
        }
    }
}
