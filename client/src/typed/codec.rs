//! Owns the way from a value to a record and back.

use super::Persistent;
use super::reference::collect;
use crate::errors::{Error, Result};
use crate::tx::damaged;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use zeolite_proto::record::{self, Header};
use zeolite_proto::{Cell, Oid, Record};

thread_local! {
    /// Postcard writes here first: header and data then go into one buffer of the right size.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// More than this is not kept for the next value.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// The encoded record of a value.
pub fn encode_record<T: Persistent>(value: &T) -> Result<Bytes> {
    encode_value(T::CLASS, value, |data, mut refs| {
        for oid in value.refs() {
            if !refs.contains(&oid) {
                refs.push(oid);
            }
        }
        record::encode(T::CLASS, T::VERSION, &refs, data)
    })?
    .map_err(|bad| Error::Encode { class: T::CLASS.to_owned(), reason: bad.0.to_owned() })
}

/// Encodes a value, and hands data and references to `use_them`.
pub(crate) fn encode_value<V: Serialize, R>(
    class: &str,
    value: &V,
    use_them: impl FnOnce(&[u8], Vec<Oid>) -> R,
) -> Result<R> {
    // A value that encodes another one while it is serialized finds the scratch taken, and starts a new one.
    let mut data = SCRATCH.take();
    data.clear();
    let (written, refs) = collect(|| postcard::to_extend(value, data));
    let data = written.map_err(|error| Error::Encode { class: class.to_owned(), reason: error.to_string() })?;
    let result = use_them(&data, refs);
    if data.capacity() <= SCRATCH_BYTES_MAX {
        SCRATCH.set(data);
    }
    Ok(result)
}

/// The value of an encoded record, upgraded if an older version of the type has written it.
pub fn decode_record<T: Persistent>(cell: &Cell, record: &Bytes) -> Result<T> {
    let header = Header::parse(record).map_err(|bad| damaged(cell, &bad))?;
    from_parts(cell, header.class, header.version, &record[header.data_at..])
}

/// The same of a record as a step gets it.
pub fn value_of<T: Persistent>(cell: &Cell, record: &Record) -> Result<T> {
    from_parts(cell, &record.class, record.version, &record.data)
}

fn from_parts<T: Persistent>(cell: &Cell, class: &str, version: u32, data: &[u8]) -> Result<T> {
    if class != T::CLASS {
        let (expected, found) = (T::CLASS.to_owned(), class.to_owned());
        return Err(Error::WrongClass { cell: cell.clone(), expected, found });
    }
    if version == T::VERSION { decode_value(T::CLASS, version, data) } else { T::upgrade(version, data) }
}

/// The value in postcard's bytes.
pub(crate) fn decode_value<V: DeserializeOwned>(class: &str, version: u32, data: &[u8]) -> Result<V> {
    let decode = |reason: String| Error::Decode { class: class.to_owned(), version, reason };
    let (value, rest) = postcard::take_from_bytes(data).map_err(|error| decode(error.to_string()))?;
    if !rest.is_empty() {
        return Err(decode(format!("{} bytes are left over", rest.len())));
    }
    Ok(value)
}
