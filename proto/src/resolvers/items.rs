//! Owns the item, the part of sets and lists that are kept in one record, and its encoding.
//!
//! An item is bytes and the references that they contain; both together are its identity. Garbage collection reads references
//! from the record's header only, so the header holds the references of all items, in the items' order, and the data says how
//! many belong to each. That way a merge that drops or adds an item drops or adds exactly its references.
//!
//! ```text
//!   data       1 byte format = 1 | u32 number of items | items
//!   item       u32 length | u16 number of references | bytes
//!   header     references of item 0, references of item 1, ...
//! ```
//!
//! In operations, which have no header, the oids (u64 each) follow an item's bytes. Data and references together stay within
//! [`BYTES_MAX`], a result beyond it is refused: every change rewrites the whole record, so that what grows belongs into
//! entries (a map, a queue).

use super::fields::Fields;
use crate::ids::Oid;
use crate::record::{BadRecord, Record};
use crate::resolver::Unresolved;
use bytes::{BufMut, Bytes, BytesMut};

/// The most bytes (data and references) of a set or list in one record.
pub const BYTES_MAX: usize = 1 << 20;

pub(super) const FORMAT: u8 = 1;
const ITEM_HEADER: usize = 6;

/// A part of a set or list: bytes, and the objects that they refer to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Item {
    /// The application's bytes.
    pub bytes: Bytes,
    /// The objects that they refer to, at most 65,535.
    pub refs: Vec<Oid>,
}

impl Item {
    /// An item without references.
    pub fn new(bytes: impl Into<Bytes>) -> Item {
        Item { bytes: bytes.into(), refs: Vec::new() }
    }

    /// An item that only refers to an object.
    pub fn reference(oid: Oid) -> Item {
        Item { bytes: Bytes::new(), refs: vec![oid] }
    }
}

/// A record of the class with these items; refused beyond [`BYTES_MAX`].
pub(super) fn record(class: &str, items: &[Item]) -> Result<Record, BadRecord> {
    let (data, refs) = encode(items)?;
    Ok(Record { class: class.to_owned(), version: super::SCHEMA_VERSION, refs, blobs: Vec::new(), data })
}

/// Data and header references of a record with these items.
pub(super) fn encode(items: &[Item]) -> Result<(Bytes, Vec<Oid>), BadRecord> {
    let refs_len: usize = items.iter().map(|item| item.refs.len()).sum();
    let data_len: usize = 5 + items.iter().map(|item| ITEM_HEADER + item.bytes.len()).sum::<usize>();
    if data_len + refs_len * 8 > BYTES_MAX {
        return Err(BadRecord("more than 1 MiB of items in one record"));
    }
    let mut data = BytesMut::with_capacity(data_len);
    let mut refs = Vec::with_capacity(refs_len);
    data.put_u8(FORMAT);
    data.put_u32_le(items.len() as u32);
    for item in items {
        put_head(&mut data, item)?;
        data.put_slice(&item.bytes);
        refs.extend_from_slice(&item.refs);
    }
    Ok((data.freeze(), refs))
}

/// The items of a record; they share its bytes.
pub(super) fn decode(record: &Record) -> Result<Vec<Item>, BadRecord> {
    let mut fields = Fields::of(&record.data, FORMAT)?;
    let count = checked_count(record, &mut fields)?;
    let mut items = Vec::with_capacity(count);
    let mut refs = record.refs.as_slice();
    for _ in 0..count {
        let (len, refs_len) = (fields.u32()? as usize, usize::from(fields.u16()?));
        let bytes = record.data.slice_ref(fields.bytes(len)?);
        let (own, rest) = refs.split_at_checked(refs_len).ok_or(BadRecord("fewer references than items say"))?;
        refs = rest;
        items.push(Item { bytes, refs: own.to_vec() });
    }
    fields.end()?;
    if refs.is_empty() { Ok(items) } else { Err(BadRecord("more references than items say")) }
}

/// The number of items, without decoding them; every length is checked.
pub(super) fn count(record: &Record) -> Result<usize, BadRecord> {
    let mut fields = Fields::of(&record.data, FORMAT)?;
    let count = checked_count(record, &mut fields)?;
    let mut refs_len = 0usize;
    for _ in 0..count {
        let (len, refs) = (fields.u32()? as usize, usize::from(fields.u16()?));
        fields.bytes(len)?;
        refs_len += refs;
    }
    fields.end()?;
    if refs_len == record.refs.len() { Ok(count) } else { Err(BadRecord("not as many references as items say")) }
}

/// The bytes of the items, after format byte and count.
pub(super) fn body(record: &Record) -> &[u8] {
    record.data.get(5..).unwrap_or_default()
}

fn checked_count(record: &Record, fields: &mut Fields<'_>) -> Result<usize, BadRecord> {
    if record.data.len() > BYTES_MAX {
        return Err(BadRecord("more than 1 MiB of items in one record"));
    }
    let count = fields.u32()? as usize;
    match count <= fields.rest().len() / ITEM_HEADER {
        true => Ok(count),
        false => Err(BadRecord("more items than bytes")),
    }
}

fn put_head(out: &mut BytesMut, item: &Item) -> Result<(), BadRecord> {
    let len = u32::try_from(item.bytes.len()).map_err(|_| BadRecord("an item of 4 GiB or more"))?;
    let refs = u16::try_from(item.refs.len()).map_err(|_| BadRecord("an item with more than 65535 references"))?;
    out.put_u32_le(len);
    out.put_u16_le(refs);
    Ok(())
}

/// Writes an item into an operation.
pub(super) fn put_operand(out: &mut BytesMut, item: &Item) -> Result<(), BadRecord> {
    put_head(out, item)?;
    out.put_slice(&item.bytes);
    item.refs.iter().for_each(|oid| out.put_u64_le(oid.0));
    Ok(())
}

/// Reads an item from an operation; it shares the operation's bytes.
pub(super) fn operand(operation: &Bytes, fields: &mut Fields<'_>) -> Result<Item, BadRecord> {
    let (len, refs_len) = (fields.u32()? as usize, usize::from(fields.u16()?));
    let bytes = operation.slice_ref(fields.bytes(len)?);
    let mut refs = Fields::clone(fields);
    fields.bytes(refs_len * 8)?;
    let refs = (0..refs_len).map(|_| refs.u64().map(Oid)).collect::<Result<_, _>>()?;
    Ok(Item { bytes, refs })
}

/// The refusal of an operation that is larger than any record could become.
pub(super) fn check_operation(operation: &Bytes) -> Result<(), Unresolved> {
    match operation.len() <= BYTES_MAX {
        true => Ok(()),
        false => Err(Unresolved::because("an operation of more than 1 MiB; use a map or a queue with entries")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_decode_to_themselves() {
        let items = [Item::new("a"), Item::reference(Oid(7)), Item { bytes: "x".into(), refs: vec![Oid(1), Oid(2)] }];
        let record = record("c", &items).expect("encodes");
        assert_eq!(record.refs, [7, 1, 2].map(Oid));
        assert_eq!(decode(&record).expect("decodes"), items);
        assert_eq!(count(&record), Ok(3));
    }

    #[test]
    fn references_that_do_not_match_the_items_are_refused() {
        let mut record = record("c", &[Item::reference(Oid(7))]).expect("encodes");
        record.refs.push(Oid(8));
        assert!(decode(&record).is_err() && count(&record).is_err());
        record.refs.clear();
        assert!(decode(&record).is_err() && count(&record).is_err());
    }

    #[test]
    fn a_huge_count_allocates_nothing() {
        let record = Record::new("c", 1, b"\x01\xff\xff\xff\xff".to_vec());
        assert_eq!(decode(&record), Err(BadRecord("more items than bytes")));
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        assert!(encode(&[Item::new(vec![0; BYTES_MAX])]).is_err());
        assert!(encode(&[Item::new(vec![0; BYTES_MAX - 11])]).is_ok());
        let refs = Item { bytes: Bytes::new(), refs: vec![Oid(0); 65_536] };
        assert!(encode(&[refs]).is_err());
    }
}
