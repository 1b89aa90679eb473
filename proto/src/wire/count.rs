//! Owns the count of what an encoded request holds, taken before it is decoded.
//!
//! A write that says nothing takes two bytes on the wire and more than a hundred in memory. So a message that is within its limit
//! of bytes could still ask for a hundred times as much. The walk here reads only tags and lengths, along the fields that may
//! repeat, and allocates nothing; a message with too many parts is refused before anything is made of them.

use super::v2;
use crate::fault::Fault;
use crate::limits::Limits;
use std::any::TypeId;

/// The parts of one message: writes, read checks, cells. A larger draft goes in parts of its own (`DraftPart`).
pub const MESSAGE_PARTS_MAX: usize = 1 << 17;

/// Which fields of a message are parts, or have parts; by their numbers in zeolite.proto.
pub struct Shape(&'static [(u64, &'static Shape)]);

static PART: Shape = Shape(&[]);
static DRAFT: Shape = Shape(&[(4, &PART), (5, &PART), (6, &PART)]);
static LOAD: Shape = Shape(&[(2, &PART)]);
static PREPARE: Shape = Shape(&[(1, &DRAFT)]);
static AMEND: Shape = Shape(&[(2, &DRAFT), (3, &PART)]);
static DRAFT_PART: Shape = Shape(&[(4, &PREPARE), (5, &AMEND)]);
static TRANSACTION: Shape = Shape(&[(4, &PART)]);
static CLIENT_FRAME: Shape = Shape(&[(3, &LOAD), (5, &DRAFT), (6, &PREPARE), (18, &DRAFT_PART), (21, &AMEND)]);

/// The shape of a request that may have many parts; `None`: it has none.
pub fn shape_of<M: 'static>() -> Option<&'static Shape> {
    let shapes: [(TypeId, &'static Shape); 6] = [
        (TypeId::of::<v2::ClientFrame>(), &CLIENT_FRAME),
        (TypeId::of::<v2::Draft>(), &DRAFT),
        (TypeId::of::<v2::LoadRequest>(), &LOAD),
        (TypeId::of::<v2::PrepareRequest>(), &PREPARE),
        (TypeId::of::<v2::AmendRequest>(), &AMEND),
        (TypeId::of::<v2::Transaction>(), &TRANSACTION),
    ];
    shapes.into_iter().find(|(of, _)| *of == TypeId::of::<M>()).map(|(_, shape)| shape)
}

/// Refuses a message with more than [`MESSAGE_PARTS_MAX`] parts. What is no protobuf message is the decoder's to refuse.
pub fn check_parts(encoded: &[u8], shape: &Shape) -> Result<(), Fault> {
    match parts(encoded, shape) {
        Some(count) if count > MESSAGE_PARTS_MAX => {
            Err(Fault::too_large("number of parts of one message", count, MESSAGE_PARTS_MAX))
        }
        _ => Ok(()),
    }
}

/// How many writes and read checks an encoded draft holds. Refuses one with more than the limit, or that is no protobuf message.
pub fn check_draft(encoded: &[u8], limits: &Limits) -> Result<usize, Fault> {
    let count = parts(encoded, &DRAFT).ok_or_else(|| Fault::invalid("a draft is not a protobuf message"))?;
    match count <= limits.draft_writes_max {
        true => Ok(count),
        false => Err(Fault::too_large("number of writes and read checks in a draft", count, limits.draft_writes_max)),
    }
}

/// The parts of a message; `None`: it is none.
fn parts(encoded: &[u8], shape: &Shape) -> Option<usize> {
    let (mut count, mut rest) = (0, encoded);
    while !rest.is_empty() {
        let (number, inner) = field(&mut rest)?;
        if let Some((_, shape)) = shape.0.iter().find(|(known, _)| *known == number) {
            count += if shape.0.is_empty() { 1 } else { parts(inner, shape)? };
        }
    }
    Some(count)
}

/// Steps over a field: its number, and what it holds.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let tag = varint(rest)?;
    let len = match tag & 7 {
        0 => {
            varint(rest)?;
            0
        }
        1 => 8,
        2 => usize::try_from(varint(rest)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (inner, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some((tag >> 3, inner))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for at in 0..10 {
        let byte = *rest.get(at)?;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *rest = &rest[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;
    use crate::wire::v2::client_frame::Request;
    use prost::Message;

    fn draft(reads: usize, writes: usize) -> Vec<u8> {
        let draft = v2::Draft {
            commit_key: vec![7; 16].into(),
            snapshot: Some(u64::MAX),
            read_cells: vec![v2::ReadCell::default(); reads],
            writes: vec![v2::Write { base: Some(300), ..Default::default() }; writes],
            note: Some(v2::Note { user: "u".repeat(500).into(), ..Default::default() }),
            ..Default::default()
        };
        draft.encode_to_vec()
    }

    #[test]
    fn reads_and_writes_count_together() {
        let limits = Limits { draft_writes_max: 5, ..Limits::default() };
        assert_eq!(check_draft(&draft(2, 3), &limits), Ok(5));
        let refused = check_draft(&draft(3, 3), &limits).expect_err("too many");
        assert_eq!(refused.kind, FaultKind::TooLarge);
        assert!(refused.message.contains("6 is over the limit 5"), "{refused}");
    }

    #[test]
    fn a_cut_draft_is_refused() {
        let whole = draft(1, 1);
        let refused = (1..whole.len()).filter(|cut| check_draft(&whole[..*cut], &Limits::default()).is_err()).count();
        // A cut between two fields is a message as well.
        assert!(refused >= whole.len() - 6, "{refused} of {}", whole.len());
        assert!(check_draft(&[0x80; 20], &Limits::default()).is_err(), "a number without an end");
        assert!(check_draft(b"\x32\xff\xff\xff\xff\xff\xff\xff\xff\x7f", &Limits::default()).is_err());
    }

    fn framed(request: Request) -> Vec<u8> {
        v2::ClientFrame { id: 1, request: Some(request), ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn parts_are_found_wherever_a_frame_may_have_them() {
        let of_draft = || Some(v2::Draft::decode(&*draft(2, 3)).expect("a draft"));
        let cells = vec![v2::Cell::default(); 4];
        let amend = v2::AmendRequest { draft: of_draft(), withdrawn: cells.clone(), ..Default::default() };
        let last = v2::DraftPart {
            data: vec![0x32; 100].into(),
            purpose: Some(v2::draft_part::Purpose::Amend(v2::AmendRequest { draft: None, ..amend.clone() })),
            ..Default::default()
        };
        for (request, expected) in [
            (Request::Commit(of_draft().expect("one")), 5),
            (Request::Prepare(v2::PrepareRequest { draft: of_draft(), ..Default::default() }), 5),
            (Request::Amend(amend), 9),
            (Request::Part(last), 4),
            (Request::Load(v2::LoadRequest { cells, ..Default::default() }), 4),
            (Request::Ping(v2::Ping {}), 0),
        ] {
            assert_eq!(parts(&framed(request.clone()), &CLIENT_FRAME), Some(expected), "{request:?}");
        }
        let txn = v2::Transaction { writes: vec![v2::LoggedWrite::default(); 6], ..Default::default() };
        assert_eq!(parts(&txn.encode_to_vec(), &TRANSACTION), Some(6));
    }

    #[test]
    fn a_message_of_too_many_parts_is_refused() {
        let shape = shape_of::<v2::Draft>().expect("drafts have parts");
        assert_eq!(check_parts(&[0x32, 0].repeat(MESSAGE_PARTS_MAX), shape), Ok(()));
        let refused = check_parts(&[0x32, 0].repeat(MESSAGE_PARTS_MAX + 1), shape).expect_err("one too many");
        assert_eq!(refused.kind, FaultKind::TooLarge);
        assert!(shape_of::<v2::Receipt>().is_none());
    }
}
