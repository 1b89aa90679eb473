//! Owns the count of what an encoded draft holds, taken before it is decoded.
//!
//! A write that says nothing takes two bytes on the wire and more than a hundred in memory. So a draft that is within its limit
//! of bytes could still ask for a hundred times as much. The walk here reads only tags and lengths at the outermost level
//! and allocates nothing; a draft with too many parts is refused before anything is made of them.

use crate::fault::Fault;
use crate::limits::Limits;

// Field numbers of `Draft` in zeolite.proto.
const READ_CELLS: u64 = 4;
const READ_RANGES: u64 = 5;
const WRITES: u64 = 6;

/// Refuses an encoded draft that holds more writes and read checks than the limit, or that is no protobuf message.
pub fn check_draft(encoded: &[u8], limits: &Limits) -> Result<(), Fault> {
    let mut count = 0usize;
    let mut rest = encoded;
    while !rest.is_empty() {
        let field = skip_field(&mut rest).ok_or_else(|| Fault::invalid("a draft is not a protobuf message"))?;
        if [READ_CELLS, READ_RANGES, WRITES].contains(&field) {
            count += 1;
        }
    }
    match count <= limits.draft_writes_max {
        true => Ok(()),
        false => Err(Fault::too_large("number of writes and read checks in a draft", count, limits.draft_writes_max)),
    }
}

/// Steps over a field and says which one it was.
fn skip_field(rest: &mut &[u8]) -> Option<u64> {
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
    *rest = rest.get(len..)?;
    Some(tag >> 3)
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
    use crate::wire::v2;
    use prost::Message;

    fn draft(reads: usize, writes: usize) -> Vec<u8> {
        let draft = v2::Draft {
            commit_key: vec![7; 16].into(),
            snapshot: u64::MAX,
            read_cells: vec![v2::ReadCell::default(); reads],
            writes: vec![v2::Write { base: Some(300), ..Default::default() }; writes],
            note: Some(v2::Note { user: "u".repeat(500), ..Default::default() }),
            ..Default::default()
        };
        draft.encode_to_vec()
    }

    #[test]
    fn reads_and_writes_count_together() {
        let limits = Limits { draft_writes_max: 5, ..Limits::default() };
        assert_eq!(check_draft(&draft(2, 3), &limits), Ok(()));
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
}
