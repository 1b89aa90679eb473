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
    (FaultKind::UndoBlocked, v2::FaultKind::UndoBlocked, Code::FailedPrecondition),
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
    (FaultKind::Refused, v2::FaultKind::Refused, Code::FailedPrecondition),
    (FaultKind::Unauthenticated, v2::FaultKind::Unauthenticated, Code::Unauthenticated),
    (FaultKind::NotPrimary, v2::FaultKind::NotPrimary, Code::Unavailable),
];

/// The gRPC status code of a fault kind.
pub fn code(kind: FaultKind) -> Code {
    TABLE.iter().find(|row| row.0 == kind).map_or(Code::Internal, |row| row.2)
}

// In a frame. Texts name what somebody sent, and that may be as long as a message.
const TEXT_BYTES_MAX: usize = 2000;
// In a status everything travels in HTTP/2 trailers, percent-encoded and in base64: together they stay below 4 KiB.
const MESSAGE_BYTES_MAX: usize = 400;
const REASON_BYTES_MAX: usize = 128;
const KEY_BYTES_MAX: usize = 512;
const FAULT_URL: &str = "type.googleapis.com/zeolite.v2.Fault";

/// `google.rpc.Status`, as the details of a status hold it.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

impl From<&ConflictDetail> for v2::ConflictDetail {
    fn from(detail: &ConflictDetail) -> v2::ConflictDetail {
        v2::ConflictDetail {
            cell: Some((&detail.cell).into()),
            class: detail.class.clone(),
            base: detail.base.0,
            newest: detail.newest.0,
            reason: cut(&detail.reason, TEXT_BYTES_MAX),
            base_record: detail.base_record.clone(),
            newest_record: detail.newest_record.clone(),
        }
    }
}

impl From<v2::ConflictDetail> for ConflictDetail {
    fn from(detail: v2::ConflictDetail) -> ConflictDetail {
        ConflictDetail {
            cell: detail.cell.unwrap_or_default().into(),
            class: detail.class,
            base: Tid(detail.base),
            newest: Tid(detail.newest),
            reason: detail.reason,
            base_record: detail.base_record,
            newest_record: detail.newest_record,
        }
    }
}

impl From<&Fault> for v2::Fault {
    fn from(fault: &Fault) -> v2::Fault {
        let kind = TABLE.iter().find(|row| row.0 == fault.kind).map_or(v2::FaultKind::Internal, |row| row.1);
        v2::Fault {
            kind: kind.into(),
            message: cut(&fault.message, TEXT_BYTES_MAX),
            retry_after_ms: fault.retry_after_ms,
            conflict: fault.conflict.as_deref().map(v2::ConflictDetail::from),
            others: fault.others.iter().map(v2::ConflictDetail::from).collect(),
            request_id: fault.request.clone(),
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
            conflict: fault.conflict.map(|detail| Box::new(detail.into())),
            others: fault.others.into_iter().map(ConflictDetail::from).collect(),
            request: fault.request_id,
        }
    }
}

/// A fault as the status of a unary call: the status's details hold a `google.rpc.Status` with the fault as an `Any`. Records
/// for client-side resolution and further cells are left out, and long texts cut: they would not fit in HTTP/2 trailers. A
/// unary client loads them.
pub fn to_status(fault: &Fault) -> Status {
    let message = cut(&fault.to_string(), MESSAGE_BYTES_MAX);
    let mut wire = v2::Fault { others: Vec::new(), message: cut(&fault.message, MESSAGE_BYTES_MAX), ..fault.into() };
    if let Some(detail) = &mut wire.conflict {
        detail.base_record = None;
        detail.newest_record = None;
        detail.reason = cut(&detail.reason, REASON_BYTES_MAX);
        // The message tells how such a cell begins.
        detail.cell = detail.cell.take().filter(|cell| cell.key.len() <= KEY_BYTES_MAX);
    }
    let code = code(fault.kind);
    let fault = Any { type_url: FAULT_URL.into(), value: wire.encode_to_vec().into() };
    let details = RpcStatus { code: code as i32, message: message.clone(), details: vec![fault] };
    Status::with_details(code, message, Bytes::from(details.encode_to_vec()))
}

/// The fault in a status; `None` when the status comes from the transport rather than from Zeolite.
pub fn from_status(status: &Status) -> Option<Fault> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let fault = details.into_iter().find(|any| any.type_url == FAULT_URL)?;
    v2::Fault::decode(fault.value).ok().map(Fault::from)
}

// A text of at most so many bytes.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(bytes_max - 3)])
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
        let fault = Fault { others: vec![detail.clone()], ..Fault::conflict(FaultKind::Conflict, detail) };
        assert_eq!(Fault::from(v2::Fault::from(&fault)), fault);
    }

    #[test]
    fn no_text_is_as_long_as_what_it_is_about() {
        let mut fault = Fault::invalid(format!("unknown role {:?}", "é".repeat(100_000)));
        let cell = Cell::object(Oid(7));
        let reason = "r".repeat(100_000);
        let (base_record, newest_record) = (None, None);
        let detail = ConflictDetail {
            cell,
            class: "C".into(),
            base: Tid(1),
            newest: Tid(2),
            reason,
            base_record,
            newest_record,
        };
        fault.conflict = Some(Box::new(detail.clone()));
        fault.others = vec![detail];
        let wire = v2::Fault::from(&fault);
        assert!(wire.encoded_len() < 3 * (TEXT_BYTES_MAX + 50), "{}", wire.encoded_len());
        assert!(wire.message.starts_with("unknown role \"é") && wire.message.ends_with("..."));
    }

    #[test]
    fn a_status_fits_into_trailers_whatever_is_in_the_fault() {
        for byte in [0xff, b'%', b'a'] {
            for len in [65, 512, 513, 16 << 10] {
                let detail = ConflictDetail {
                    cell: Cell::entry(Oid(u64::MAX), vec![byte; len]),
                    class: "é".repeat(127),
                    base: Tid(u64::MAX),
                    newest: Tid(u64::MAX),
                    reason: "ж".repeat(5000),
                    base_record: Some(vec![7; 5000].into()),
                    newest_record: None,
                };
                let fault = Fault { others: vec![detail.clone(); 9], ..Fault::conflict(FaultKind::Conflict, detail) };
                let status = to_status(&fault);
                let escaped = |byte: u8| if (b' '..=b'~').contains(&byte) && byte != b'%' { 1 } else { 3 };
                let message: usize = status.message().bytes().map(escaped).sum();
                let details = status.details().len().div_ceil(3) * 4;
                assert!(message + details < 4000, "{message} and {details}");
                let told = from_status(&status).expect("a fault");
                assert_eq!((told.kind, told.others.len()), (FaultKind::Conflict, 0));
                assert!(told.message.contains(&format!("({len} bytes)")), "{told}");
            }
        }
    }
}
