//! Owns the stored form of a job's own record: what is to be done, how it is run, how far it is.

use super::settings::{Settings, SettingsV1};
use super::stored::{Stored, whole};
use crate::ids::Oid;
use crate::record::BadRecord;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The name in the root under which all jobs are.
pub const ROOT_NAME: &str = "zeolite.evolves";

/// Which objects a job covers.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Plan {
    /// Objects of a class whose schema version is below this one; 0: of any version.
    Objects {
        /// The class.
        class: String,
        /// Exclusive.
        below_version: u32,
    },
    /// The entries of a collection.
    Collection {
        /// The collection.
        oid: u64,
        /// The first key, inclusive; empty: from the first entry.
        from: Vec<u8>,
        /// The end, exclusive; empty: to the end.
        to: Vec<u8>,
    },
    /// Everything that can be reached from an object by references: the object itself, those that it refers to, and the
    /// entries of collections on the way lead further, but are not covered themselves.
    Reachable {
        /// Where to begin.
        from: u64,
    },
    /// These objects.
    Oids {
        /// In the ledger they are in lists.
        #[serde(skip)]
        oids: Vec<u64>,
    },
}

impl Plan {
    /// Objects of a class below a schema version.
    pub fn below(class: impl Into<String>, version: u32) -> Plan {
        Plan::Objects { class: class.into(), below_version: version }
    }

    /// All objects of a class.
    pub fn class(class: impl Into<String>) -> Plan {
        Plan::below(class, 0)
    }

    /// All entries of a collection.
    pub fn entries(oid: Oid) -> Plan {
        Plan::Collection { oid: oid.0, from: Vec::new(), to: Vec::new() }
    }

    /// Everything that can be reached from an object.
    pub fn reachable(from: Oid) -> Plan {
        Plan::Reachable { from: from.0 }
    }

    /// These objects.
    pub fn oids(oids: impl IntoIterator<Item = Oid>) -> Plan {
        Plan::Oids { oids: oids.into_iter().map(|oid| oid.0).collect() }
    }

    /// The plan in words.
    pub fn text(&self) -> String {
        match self {
            Plan::Objects { class, below_version: 0 } => format!("objects of class {class}"),
            Plan::Objects { class, below_version } => format!("objects of class {class} below version {below_version}"),
            Plan::Collection { oid, from, to } if from.is_empty() && to.is_empty() => {
                format!("entries of {}", Oid(*oid))
            }
            Plan::Collection { oid, .. } => format!("entries of {} in a range of keys", Oid(*oid)),
            Plan::Reachable { from } => format!("objects reachable from {}", Oid(*from)),
            Plan::Oids { .. } => "listed objects".to_owned(),
        }
    }
}

/// How far a job is.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// Waits for a worker.
    Planned,
    /// Workers go through the ranges.
    Running,
    /// The ranges are done; what live writers have left behind is stepped.
    CatchingUp,
    /// The result is looked at.
    Verifying,
    /// Over; the certificate says so.
    Done,
    /// Stopped by what `reason` says; can be resumed.
    Failed,
    /// Stopped by an operator, for good.
    Cancelled,
    /// Its commits are taken back.
    Undoing,
    /// They are.
    Undone,
}

impl Phase {
    /// Whether workers have nothing more to do.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Done | Phase::Failed | Phase::Cancelled | Phase::Undone)
    }

    /// The phase in words.
    pub fn text(self) -> &'static str {
        match self {
            Phase::Planned => "planned",
            Phase::Running => "running",
            Phase::CatchingUp => "catching-up",
            Phase::Verifying => "verifying",
            Phase::Done => "done",
            Phase::Failed => "failed",
            Phase::Cancelled => "cancelled",
            Phase::Undoing => "undoing",
            Phase::Undone => "undone",
        }
    }
}

/// Every object of the class is to have this schema version at least.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The class.
    pub class: String,
    /// The schema version.
    pub version: u32,
    /// Refuse older ones for good when all are there.
    pub gate: bool,
}

/// An operator's pause.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Pause {
    /// Why.
    pub reason: String,
    /// Ends by itself then, in milliseconds since 1970; 0: does not.
    pub until_unix_ms: u64,
}

/// What was found when the job was over: so at its tid, and perhaps not any more.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// A snapshot at which it was so.
    pub tid: u64,
    /// The commit that closed the gate; 0: there is none.
    pub gate_tid: u64,
    /// Objects of the target class, counted by the index; without a target, objects of the plan.
    pub objects: u64,
    /// Objects that steps have changed.
    pub changed: u64,
    /// Objects that steps have looked at, if nothing was counted. Older ones have the count here as well: ask the job for its target.
    pub verified: u64,
    /// From the start to the end.
    pub duration_ms: u64,
}

/// The job's own record.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct JobRecord {
    /// Its name.
    pub name: String,
    /// What it covers.
    pub plan: Plan,
    /// The shape that all are to have.
    pub target: Option<Target>,
    /// How it is run.
    pub settings: Settings,
    /// How far it is.
    pub phase: Phase,
    /// Set while an operator holds it.
    pub pause: Option<Pause>,
    /// Why it failed, or was cancelled.
    pub reason: String,
    /// The snapshot that is pinned now, so that pack leaves alone what an undo needs. A newer one is taken when that costs too much:
    /// it says nothing of what is covered.
    pub snapshot: u64,
    /// The snapshot that the plan is of: what it covers is fixed by it.
    pub planned: u64,
    /// The newest tid when it was started and ended; 0: not yet.
    pub started: u64,
    /// See `started`.
    pub ended: u64,
    /// Objects in the plan.
    pub total: u64,
    /// Ranges of the plan; the one after them is for the end of the job.
    pub ranges: u32,
    /// Made when it is done.
    pub certificate: Option<Certificate>,
    /// The name of the step that it was first run with; empty: it was not run.
    pub step: String,
    /// It may run beside another job over the same objects.
    pub beside: bool,
}

/// As version 1 has it.
#[derive(Deserialize)]
struct JobRecordV1 {
    name: String,
    plan: Plan,
    target: Option<Target>,
    settings: SettingsV1,
    phase: Phase,
    pause: Option<Pause>,
    reason: String,
    snapshot: u64,
    planned: u64,
    started: u64,
    ended: u64,
    total: u64,
    ranges: u32,
    certificate: Option<Certificate>,
}

impl Stored for JobRecord {
    const CLASS: &str = "zeolite.evolve.Job";
    const VERSION: u32 = 2;

    fn upgrade(version: u32, data: &[u8]) -> Result<JobRecord, BadRecord> {
        if version != 1 {
            return Err(BadRecord("of another schema version"));
        }
        let old: JobRecordV1 = whole(data)?;
        Ok(JobRecord {
            name: old.name,
            plan: old.plan,
            target: old.target,
            settings: old.settings.into(),
            phase: old.phase,
            pause: old.pause,
            reason: old.reason,
            snapshot: old.snapshot,
            planned: old.planned,
            started: old.started,
            ended: old.ended,
            total: old.total,
            ranges: old.ranges,
            certificate: old.certificate,
            // Whoever runs it next says with which step.
            step: String::new(),
            // Such a job may be one of two that run already.
            beside: true,
        })
    }
}

impl JobRecord {
    /// How long a worker may give no sign of life before another one takes its range.
    pub fn lease(&self) -> Duration {
        // A whole plan in one draft is long on its way, and nothing else can be written in the range meanwhile.
        let leases = if self.settings.atomic { 6 } else { 1 };
        Duration::from_millis(self.settings.lease_ms) * leases
    }

    /// Whether an operator holds it now.
    pub fn is_paused(&self, now_unix_ms: u64) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.until_unix_ms == 0 || now_unix_ms < pause.until_unix_ms)
    }
}
