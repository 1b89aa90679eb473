//! Owns verifying: beside the traffic, up to what is visible when it begins; or offline, over a data directory that no
//! server has open.

use crate::clock::SystemClock;
use crate::engine::Engine;
use crate::engine::keep::oids::FIRST_OID;
use crate::engine::work::long_work::PackProgress;
use crate::storage::disk::Disk;
use crate::storage::{self, Opened, Opening, StoreError, StoreSettings, Verified};
use std::sync::Arc;
use zeolite_proto::{Fault, Oid, Tid};

/// How far a verify has come.
pub type VerifyProgress = PackProgress;

/// What a verify looked at, and what it found wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyReport {
    /// Up to which tid it looked.
    pub upto: Tid,
    /// Transactions read.
    pub transactions: u64,
    /// Revisions compared.
    pub revisions: u64,
    /// Live objects.
    pub objects: u64,
    /// The first problems, in words; empty: all is well.
    pub problems: Vec<String>,
    /// How many there are.
    pub problems_total: u64,
}

impl Engine {
    /// Reads the whole log and compares it with the index. Works on the calling thread until it is done; `progress` says
    /// whether to go on. Not beside a pack.
    pub fn verify(&self, progress: &mut dyn FnMut(VerifyProgress) -> bool) -> Result<VerifyReport, Fault> {
        let _registered = self.long_work().begin("verify")?;
        let upkeep = self.long_work().upkeep().map_err(|error| self.pack_fault(error))?;
        let mut step = |stage: &str, done, all| self.long_work().step(self, progress_of(stage, done, all), progress);
        let verified = upkeep.verify(&roots(), &mut step);
        // It ends a pack that was half-way.
        self.lift_condemned();
        Ok(report_of(verified.map_err(|error| self.pack_fault(error))?))
    }
}

/// Verifies a data directory: opens it (under the number of a life that may have to begin) as a server would, replays what the index lacks, and closes it again.
pub fn verify_offline(
    disk: Arc<dyn Disk>,
    settings: StoreSettings,
    opening: impl Into<Opening>,
    progress: &mut dyn FnMut(VerifyProgress) -> bool,
) -> Result<VerifyReport, StoreError> {
    let mut goes_on = true;
    let clock = Arc::new(SystemClock::new());
    let Opened { append, upkeep, recovered, .. } = storage::open(disk, clock, settings, opening, &mut |replayed| {
        let stage = "waiting for the index".to_owned();
        goes_on &= progress(PackProgress { stage, done_units: replayed.done_bytes, total_units: replayed.all_bytes });
    })?;
    drop(append);
    let mut step = |stage: &str, done, all| match goes_on && progress(progress_of(stage, done, all)) {
        true => Ok(()),
        false => Err(StoreError::Stopped),
    };
    let verified = upkeep.verify(&roots(), &mut step);
    upkeep.close()?;
    let mut report = report_of(verified?);
    if let Some(why) = recovered.index_rebuilt {
        tracing::warn!(%why, "the index was rebuilt from the log before it was compared with it");
        report.problems.push(format!("the index could not be used and was rebuilt from the log: {why}"));
        report.problems_total += 1;
    }
    Ok(report)
}

fn roots() -> Vec<Oid> {
    (0..FIRST_OID.0).map(Oid).collect()
}

fn progress_of(stage: &str, done_units: u64, total_units: u64) -> VerifyProgress {
    PackProgress { stage: stage.to_owned(), done_units, total_units }
}

fn report_of(verified: Verified) -> VerifyReport {
    let Verified { upto, transactions, revisions, objects, problems, problems_total } = verified;
    VerifyReport { upto, transactions, revisions, objects, problems, problems_total }
}
