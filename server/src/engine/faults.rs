//! Owns the faults that several of the engine's rooms tell.

use crate::storage::StoreError;
use zeolite_proto::{Fault, FaultKind};

/// The fault of a store that a failed write or sync has ended.
pub(crate) fn poisoned_fault(reason: &str) -> Fault {
    let message = format!("nothing is written any more since a write failed: {reason}; check the disk, then restart");
    Fault::new(FaultKind::Poisoned, message)
}

/// The fault of an engine that a bug has ended.
pub(crate) fn bug_fault(reason: &str) -> Fault {
    let message = format!("nothing is written any more because of a bug: {reason}; report it, and restart the server");
    Fault::new(FaultKind::Poisoned, message)
}

/// A store error as the wire knows it.
pub(crate) fn fault_of(error: StoreError) -> Fault {
    let kind = match &error {
        StoreError::Damaged { .. } | StoreError::DamagedBlob { .. } => FaultKind::Damaged,
        StoreError::NoBlob { .. } => FaultKind::NotFound,
        StoreError::DiskFull => FaultKind::DiskFull,
        StoreError::Behind { .. }
        | StoreError::IndexDown { .. }
        | StoreError::NoSegment { .. }
        | StoreError::NoFiles { .. }
        | StoreError::BlobsBusy { .. }
        | StoreError::Stopped => FaultKind::Busy,
        StoreError::Refused { .. } => FaultKind::Invalid,
        StoreError::TooManyKinds { .. } => FaultKind::Refused,
        StoreError::Poisoned { reason } => return poisoned_fault(reason),
        StoreError::Packed { .. } => FaultKind::SnapshotPacked,
        StoreError::Locked { .. }
        | StoreError::Format { .. }
        | StoreError::Unreadable { .. }
        | StoreError::Index(_)
        | StoreError::Io { .. } => FaultKind::Internal,
    };
    let retry_after_ms = match kind {
        FaultKind::DiskFull => 1000,
        FaultKind::Busy => 50,
        _ => 0,
    };
    let mut message = error.to_string();
    if matches!(error, StoreError::Io { .. }) {
        message += "; nothing that was acknowledged is lost by it: look at the disk";
    }
    Fault::new(kind, message).after_ms(retry_after_ms)
}

/// The fault of a server that takes no new work.
pub(crate) fn shutting_down() -> Fault {
    Fault::new(FaultKind::ShuttingDown, "the server is going down; connect again in a moment").after_ms(500)
}
