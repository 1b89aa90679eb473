//! Owns the one table fault kind ↔ wire kind ↔ gRPC status code, and the translation of whole faults, both ways.

use super::v2;
use crate::fault::{ConflictDetail, Fault, FaultKind};
use crate::ids::Tid;
use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};

/// The table: kind, its wire number, its gRPC status code. What is new goes to the end.
pub const TABLE: &[(FaultKind, v2::FaultKind, Code)] = &[
    (FaultKind::Conflict, v2::FaultKind::Conflict, Code::Aborted),
    (FaultKind::ReadConflict, v2::FaultKind::ReadConflict, Code::Aborted),
    (FaultKind::UndoBlocked, v2::FaultKind::UndoBlocked, Code::Aborted),
    (FaultKind::PrepareLost, v2::FaultKind::PrepareLost, Code::Aborted),
    (FaultKind::SnapshotPacked, v2::FaultKind::SnapshotPacked, Code::OutOfRange),
    (FaultKind::SnapshotAhead, v2::FaultKind::SnapshotAhead, Code::OutOfRange),
    (FaultKind::PinLost, v2::FaultKind::PinLost, Code::OutOfRange),
    (FaultKind::Invalid, v2::FaultKind::Invalid, Code::InvalidArgument),
    (FaultKind::TooLarge, v2::FaultKind::TooLarge, Code::InvalidArgument),
    (FaultKind::NotFound, v2::FaultKind::NotFound, Code::NotFound),
    (FaultKind::Unsupported, v2::FaultKind::Unsupported, Code::Unimplemented),
    (FaultKind::Busy, v2::FaultKind::Busy, Code::ResourceExhausted),
    (FaultKind::ReadOnly, v2::FaultKind::ReadOnly, Code::FailedPrecondition),
    (FaultKind::DiskFull, v2::FaultKind::DiskFull, Code::ResourceExhausted),
    (FaultKind::ShuttingDown, v2::FaultKind::ShuttingDown, Code::Unavailable),
    (FaultKind::Poisoned, v2::FaultKind::Poisoned, Code::FailedPrecondition),
    (FaultKind::Damaged, v2::FaultKind::Damaged, Code::DataLoss),
    (FaultKind::Internal, v2::FaultKind::Internal, Code::Internal),
    (FaultKind::Denied, v2::FaultKind::Denied, Code::PermissionDenied),
    (FaultKind::OutcomeUnknown, v2::FaultKind::OutcomeUnknown, Code::Unknown),
    (FaultKind::Gated, v2::FaultKind::Gated, Code::FailedPrecondition),
];

/// The gRPC status code of a fault kind.
pub fn code(kind: FaultKind) -> Code {
    TABLE.iter().find(|row| row.0 == kind).map_or(Code::Internal, |row| row.2)
}

impl From<&Fault> for v2::Fault {
    fn from(fault: &Fault) -> v2::Fault {
        let kind = TABLE.iter().find(|row| row.0 == fault.kind).map_or(v2::FaultKind::Internal, |row| row.1);
        v2::Fault {
            kind: kind.into(),
            message: fault.message.clone(),
            retry_after_ms: fault.retry_after_ms,
            conflict: fault.conflict.as_ref().map(|detail| v2::ConflictDetail {
                cell: Some((&detail.cell).into()),
                class: detail.class.clone(),
                base: detail.base.0,
                newest: detail.newest.0,
                reason: detail.reason.clone(),
                base_record: detail.base_record.clone(),
                newest_record: detail.newest_record.clone(),
            }),
        }
    }
}

impl From<v2::Fault> for Fault {
    /// A kind that this code does not know becomes `Internal`, with its number in the message.
    fn from(fault: v2::Fault) -> Fault {
        let known = TABLE.iter().find(|row| i32::from(row.1) == fault.kind);
        Fault {
            kind: known.map_or(FaultKind::Internal, |row| row.0),
            message: match known {
                Some(_) => fault.message,
                None => format!("{} (fault kind {} is not known here)", fault.message, fault.kind),
            },
            retry_after_ms: fault.retry_after_ms,
            conflict: fault.conflict.map(|detail| {
                Box::new(ConflictDetail {
                    cell: detail.cell.unwrap_or_default().into(),
                    class: detail.class,
                    base: Tid(detail.base),
                    newest: Tid(detail.newest),
                    reason: detail.reason,
                    base_record: detail.base_record,
                    newest_record: detail.newest_record,
                })
            }),
        }
    }
}

/// A fault as the status of a unary call: the encoded fault is the status's details. Records for client-side resolution
/// are left out: they would not fit in HTTP/2 trailers. A unary client loads them.
pub fn to_status(fault: &Fault) -> Status {
    let mut wire = v2::Fault::from(fault);
    if let Some(detail) = &mut wire.conflict {
        detail.base_record = None;
        detail.newest_record = None;
    }
    Status::with_details(code(fault.kind), fault.to_string(), Bytes::from(wire.encode_to_vec()))
}

/// The fault in a status; `None` when the status comes from the transport rather than from Zeolite.
pub fn from_status(status: &Status) -> Option<Fault> {
    if status.details().is_empty() {
        return None;
    }
    v2::Fault::decode(status.details()).ok().map(Fault::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Cell, Oid};

    #[test]
    fn every_kind_survives_both_doors() {
        assert_eq!(TABLE.len(), FaultKind::ALL.len());
        for kind in FaultKind::ALL {
            let fault = Fault::new(*kind, "m").after_ms(7);
            assert_eq!(Fault::from(v2::Fault::from(&fault)), fault);
            assert_eq!(from_status(&to_status(&fault)), Some(fault));
        }
    }

    #[test]
    fn a_conflict_keeps_its_place() {
        let detail = ConflictDetail {
            cell: Cell::entry(Oid(7), "k"),
            class: "C".into(),
            base: Tid(3),
            newest: Tid(9),
            reason: "r".into(),
            base_record: Some(Bytes::from_static(b"b")),
            newest_record: None,
        };
        let fault = Fault::conflict(FaultKind::Conflict, detail);
        assert_eq!(Fault::from(v2::Fault::from(&fault)), fault);
    }
}
