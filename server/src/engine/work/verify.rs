//! Owns verifying: beside the traffic, up to what is visible when it begins; or offline, over a data directory that no
//! server has open.

use crate::clock::SystemClock;
use crate::engine::Engine;
use crate::engine::keep::oids::FIRST_OID;
use crate::engine::work::long_work::WorkProgress;
use crate::storage::disk::{ApartDisk, Disk};
use crate::storage::{self, IndexKind, Opened, Opening, StoreError, StoreSettings, Verified};
use std::sync::Arc;
use zeolite_proto::{Fault, Oid, Tid};

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
    /// Blobs read.
    pub blobs: u64,
    /// The first problems, in words; empty: all is well.
    pub problems: Vec<String>,
    /// How many there are.
    pub problems_total: u64,
    /// The first references to objects that do not exist: from, to. The application's to judge, no damage.
    pub dangling: Vec<(Oid, Oid)>,
    /// How many there are.
    pub dangling_total: u64,
    /// What was looked at in another way than a server's directory is, and why.
    pub remarks: Vec<String>,
}

impl Engine {
    /// Reads the whole log and compares it with the index. Works on the calling thread until it is done; `progress` says
    /// whether to go on. Not beside a pack.
    pub fn verify(&self, progress: &mut dyn FnMut(WorkProgress) -> bool) -> Result<VerifyReport, Fault> {
        let _registered = self.long_work().begin("verify")?;
        let upkeep = self.long_work().upkeep().map_err(|error| self.pack_fault(error))?;
        let mut step = |stage: &str, done, all| self.long_work().step(self, progress_of(stage, done, all), progress);
        let verified = upkeep.verify(&roots(), &mut step);
        // It ends a pack that was half-way.
        self.lift_condemned();
        Ok(report_of(verified.map_err(|error| self.pack_fault(error))?))
    }
}

/// Verifies a data directory without changing it: opens it (under the number of a life that may have to begin) as a server
/// would, and replays what the index lacks, but what that writes goes apart. So the disk may be one that can only be read, and
/// one that has the log alone.
pub fn verify_offline(
    disk: Arc<dyn Disk>,
    mut settings: StoreSettings,
    opening: impl Into<Opening>,
    progress: &mut dyn FnMut(WorkProgress) -> bool,
) -> Result<VerifyReport, StoreError> {
    let mut goes_on = true;
    let mut remarks = Vec::new();
    let has_index = storage::has_index(disk.as_ref(), &settings)?;
    if settings.index == IndexKind::Sled {
        // It opens its files itself, and writes.
        settings.index = IndexKind::Redb;
        remarks.push("sled's index was not looked at: one made of the log was".to_owned());
    } else if !has_index {
        remarks.push("there is no index to compare with the log: one made of it was looked at".to_owned());
    }
    let disk = Arc::new(ApartDisk::new(disk));
    let clock = Arc::new(SystemClock::new());
    let Opened { append, upkeep, recovered, .. } = storage::open(disk, clock, settings, opening, &mut |replayed| {
        let stage = "waiting for the index".to_owned();
        goes_on &= progress(WorkProgress { stage, done_units: replayed.done_bytes, total_units: replayed.all_bytes });
    })?;
    drop(append);
    let mut step = |stage: &str, done, all| match goes_on && progress(progress_of(stage, done, all)) {
        true => Ok(()),
        false => Err(StoreError::Stopped),
    };
    let mut report = report_of(upkeep.verify(&roots(), &mut step)?);
    if let Some(why) = recovered.index_rebuilt.filter(|_| has_index && remarks.is_empty()) {
        let what =
            format!("the index cannot be used: {why}; one made of the log was looked at (run `zeolite reindex`)");
        report.problems.push(what);
        report.problems_total += 1;
    }
    if recovered.torn_bytes_cut > 0 {
        remarks.push(format!(
            "the last {} bytes of the log are no whole batch, as a crash leaves it (a bit that rots in the last batch looks the \
             same); the next start cuts them off and keeps them as log/*.torn",
            recovered.torn_bytes_cut
        ));
    }
    Ok(VerifyReport { remarks, ..report })
}

fn roots() -> Vec<Oid> {
    (0..FIRST_OID.0).map(Oid).collect()
}

fn progress_of(stage: &str, done_units: u64, total_units: u64) -> WorkProgress {
    WorkProgress { stage: stage.to_owned(), done_units, total_units }
}

fn report_of(verified: Verified) -> VerifyReport {
    let Verified { upto, transactions, revisions, objects, blobs, problems, problems_total, dangling, dangling_total } =
        verified;
    let remarks = Vec::new();
    VerifyReport {
        upto,
        transactions,
        revisions,
        objects,
        blobs,
        problems,
        problems_total,
        dangling,
        dangling_total,
        remarks,
    }
}
