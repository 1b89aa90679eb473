//! Owns the append-only list in one record: writers append at its end, and none of them conflicts.
//!
//! For short journals ("who approved this"). What grows without end belongs into a queue or a map, whose entries are cells of
//! their own; this one rewrites the whole record with each append and is refused beyond 1 MiB.
//!
//! ```text
//!   data       items (see `items`), in the order of commits
//!   operation  1 byte format = 1 | the items to append, one or more
//!   merge      theirs, followed by what ours appended to base; does not commute: the order is that of the commits
//! ```
//!
//! Ours must be base with items appended, otherwise the merge is refused: a list that was cut or edited on our side does not
//! say what should happen to what others appended. Theirs may be anything (it is already committed).

use super::class;
use super::fields::Fields;
use super::items::{self, Item};
use super::three_way::{self, Begun};
use crate::record::{BadRecord, Record};
use crate::resolver::{Resolver, Unresolved};
use bytes::{BufMut, Bytes, BytesMut};

/// A list's record.
pub fn record(items: &[Item]) -> Result<Record, BadRecord> {
    items::record(class::LIST, items)
}

/// The items of a list's record.
pub fn items(record: &Record) -> Result<Vec<Item>, BadRecord> {
    items::decode(record)
}

/// The number of items of a list's record; cheaper than decoding them.
pub fn len(record: &Record) -> Result<usize, BadRecord> {
    items::count(record)
}

/// The operation that appends these items.
pub fn append(items: &[Item]) -> Result<Bytes, BadRecord> {
    let mut operation = BytesMut::new();
    operation.put_u8(items::FORMAT);
    items.iter().try_for_each(|item| items::put_operand(&mut operation, item))?;
    Ok(operation.freeze())
}

/// Merges append-only lists.
#[derive(Clone, Copy, Debug)]
pub struct AppendList;

impl Resolver for AppendList {
    fn description(&self) -> &str {
        "a list in one record: concurrent appends follow each other"
    }

    fn merge(
        &self,
        base: Option<&Record>,
        theirs: Option<&Record>,
        ours: Option<&Record>,
    ) -> Result<Option<Record>, Unresolved> {
        let sides = match three_way::begin(base, theirs, ours)? {
            Begun::Settled(record) => return Ok(record),
            Begun::BothDeleted => return Ok(None),
            Begun::Both(sides) => sides,
        };
        let nothing = record(&[])?;
        let base = sides.base.unwrap_or(&nothing);
        items::count(base)?;
        let mut all = items::decode(sides.theirs)?;
        let ours = items::decode(sides.ours)?;
        let extends = items::body(sides.ours).starts_with(items::body(base)) && sides.ours.refs.starts_with(&base.refs);
        if !extends {
            return Err(Unresolved::because("this commit did more than append to the list; append to the newest one"));
        }
        all.extend_from_slice(&ours[items::count(base)?..]);
        let (data, refs) = items::encode(&all)?;
        sides.record_with_refs(data, refs)
    }

    fn apply(&self, class: &str, current: Option<&Record>, operation: &Bytes) -> Result<Option<Record>, Unresolved> {
        three_way::same_class(class, current)?;
        items::check_operation(operation)?;
        let mut all = current.map(items::decode).transpose()?.unwrap_or_default();
        let mut fields = Fields::of(operation, items::FORMAT)?;
        while !fields.rest().is_empty() {
            all.push(items::operand(operation, &mut fields)?);
        }
        let (data, refs) = items::encode(&all)?;
        Ok(three_way::changed(class, current, data).map(|record| Record { refs, ..record }))
    }

    fn applies(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Record {
        let items: Vec<Item> = text.bytes().map(|byte| Item { refs: vec![Oid(byte.into())], ..letter(byte) }).collect();
        record(&items).expect("encodes")
    }

    fn letter(byte: u8) -> Item {
        Item::new(vec![byte])
    }

    use crate::ids::Oid;

    #[test]
    fn theirs_comes_first_then_what_ours_appended() {
        let merge = |base: Option<&str>, theirs: &str, ours: &str| {
            AppendList.merge(base.map(list).as_ref(), Some(&list(theirs)), Some(&list(ours)))
        };
        assert_eq!(merge(Some("ab"), "abx", "abyz"), Ok(Some(list("abxyz"))));
        assert_eq!(merge(None, "x", "y"), Ok(Some(list("xy"))));
        assert_eq!(merge(Some("ab"), "", "aby"), Ok(Some(list("y"))), "theirs was cleared");
        assert_eq!(merge(Some("ab"), "abx", "abx"), Ok(Some(list("abxx"))), "equal appends are two appends");
        assert!(merge(Some("ab"), "abx", "b").is_err(), "ours was cut");
        assert!(merge(Some("ab"), "abx", "ay").is_err(), "ours was edited");
    }

    #[test]
    fn an_append_needs_no_read() {
        let append = append(&[letter(b'x'), Item::reference(Oid(5))]).expect("encodes");
        let once = AppendList.apply(class::LIST, None, &append).expect("applies").expect("exists");
        let twice = AppendList.apply(class::LIST, Some(&once), &append).expect("applies").expect("exists");
        assert_eq!(len(&twice), Ok(4));
        assert_eq!(twice.refs, [Oid(5), Oid(5)]);
        assert_eq!(items(&twice).expect("decodes")[2..], items(&once).expect("decodes"));
    }

    #[test]
    fn a_full_list_refuses_the_append_that_overflows_it() {
        let half = append(&[Item::new(vec![0; items::BYTES_MAX / 2])]).expect("encodes");
        let one = AppendList.apply(class::LIST, None, &half).expect("applies");
        assert!(AppendList.apply(class::LIST, one.as_ref(), &half).expect_err("full").0.contains("1 MiB"));
    }
}
