//! Owns the value: the data of the classes that keep one opaque value (entries, queue items, last-writer values).
//!
//! ```text
//!   data       1 byte format = 1 | the application's bytes, to the end
//! ```
//!
//! The record's references are the value's. Its size is limited by the server's record limit alone.

use super::SCHEMA_VERSION;
use super::fields::Fields;
use crate::ids::Oid;
use crate::record::{BadRecord, Header, Record};
use bytes::{BufMut, Bytes, BytesMut};

const FORMAT: u8 = 1;

/// A record of the class with this value and the objects that it refers to.
pub fn record(class: &str, value: &[u8], refs: Vec<Oid>) -> Record {
    let mut data = BytesMut::with_capacity(1 + value.len());
    data.put_u8(FORMAT);
    data.put_slice(value);
    Record { class: class.to_owned(), version: SCHEMA_VERSION, refs, blobs: Vec::new(), data: data.freeze() }
}

/// The value in an encoded record of this form, read in place.
pub fn read_encoded(encoded: &[u8]) -> Result<&[u8], BadRecord> {
    let header = Header::parse(encoded)?;
    let data = &encoded[header.data_at..];
    Fields::of(data, FORMAT)?;
    Ok(&data[1..])
}

/// The value of such a record; it shares the record's bytes.
pub fn read(record: &Record) -> Result<Bytes, BadRecord> {
    Fields::of(&record.data, FORMAT)?;
    Ok(record.data.slice(1..))
}
