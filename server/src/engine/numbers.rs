//! The numbers: counters, stage times, pressure, heat, the log of slow commits, and the status made of them.

pub(crate) mod heat;
pub(crate) mod histogram;
pub(crate) mod pressure;
pub(crate) mod slow;
pub(crate) mod status;
pub(crate) mod traced;

use super::Engine;
use crate::engine::pipeline::ask::Origin;
use crate::storage::Txn;
use heat::Heat;
use pressure::Gauge;
use slow::{Journey, SlowLog};
use status::Stats;
use std::time::Duration;
use traced::{Traced, Tracer};
use zeolite_proto::record::Header;
use zeolite_proto::{Oid, Pressure, Priority};

/// What is counted and measured.
pub(super) struct Numbers {
    stats: Stats,
    gauge: Gauge,
    heat: Heat,
    slow: SlowLog,
    tracer: Tracer,
}

impl Numbers {
    pub(super) fn new(now: Duration, slow_commit_ms: u64) -> Numbers {
        let (gauge, slow) = (Gauge::new(now), SlowLog::new(slow_commit_ms));
        Numbers { stats: Stats::default(), gauge, heat: Heat::new(), slow, tracer: Tracer::default() }
    }

    /// The keeper's turn.
    pub(super) fn turn(&self, now: Duration, disk: (u64, u64)) {
        self.gauge.turn(now, disk);
        self.slow.turn(now);
    }

    /// The keeper's, now and then.
    pub(super) fn cool(&self) {
        self.heat.cool();
    }

    /// One batch: how long its write and its sync took.
    pub(super) fn written(&self, txns: u64, write_ns: u64, sync_ns: u64) {
        self.stats.write.record_n(write_ns, txns);
        self.stats.fsync.record_n(sync_ns, txns);
        self.gauge.fsync(sync_ns);
    }

    /// A draft is refused for a conflict in a cell of this class.
    pub(super) fn conflict(&self, class: &str, priority: Priority) {
        self.stats.conflict(class);
        if priority != Priority::Batch {
            self.gauge.conflict();
        }
    }

    /// What a durable transaction adds to the counts, the gauge and the heat.
    pub(super) fn measure(&self, txn: &Txn, origin: &Origin, journey: Journey, now: Duration) {
        for write in txn.writes.iter().filter(|write| write.merged) {
            let header = write.record.as_deref().map(Header::parse);
            self.stats.merged(header.and_then(Result::ok).map_or("", |header| header.class));
        }
        let Some(came) = origin.came else { return };
        if let Some(trace) = &origin.mark.trace {
            self.tracer.tell(&Traced::of(**trace, txn, came, journey, now));
        }
        self.stats.slow_commits.add(u64::from(self.slow.look(txn, origin, journey, now)));
        if origin.priority == Priority::Batch {
            return self.gauge.batch();
        }
        self.gauge.live(came, now.as_nanos() as u64);
        let mut before = None;
        for oid in txn.writes.iter().map(|write| write.cell.oid) {
            if before.replace(oid) != Some(oid) {
                self.heat.written(oid);
            }
        }
    }
}

impl Engine {
    /// Tells of each durable commit that somebody traces, from the thread that writes: it must not wait. Said once.
    pub fn on_traced(&self, told: impl Fn(&Traced) + Send + Sync + 'static) {
        self.numbers.tracer.is(Box::new(told));
    }

    /// Counters and stage times.
    pub fn stats(&self) -> &Stats {
        &self.numbers.stats
    }

    /// What live traffic feels: the window as of the keeper's last turn, the queues as of now.
    pub fn pressure(&self) -> Pressure {
        let (live, batch) = self.intake().waiting();
        Pressure { queue_live: live as u64, queue_batch: batch as u64, ..self.numbers.gauge.read() }
    }

    /// About how often an object was written lately by live commits.
    pub fn heat(&self, oid: Oid) -> u32 {
        self.numbers.heat.of(oid)
    }

    pub(super) fn nanos_since(&self, started: Duration) -> u64 {
        self.clock().steady().saturating_sub(started).as_nanos() as u64
    }
}
