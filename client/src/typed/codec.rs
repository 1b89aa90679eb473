//! Owns the way from a value to a record and back, and the codecs of its data.
//!
//! | codec | data | readable by | size of a small struct |
//! |---|---|---|---|
//! | postcard | the fields one after the other, without names | who has the type | 1 |
//! | CBOR | tag 55799 (`d9 d9 f7`), then a map of names to values (RFC 8949) | anybody | 2 to 3 |
//!
//! The tag is what a tool knows CBOR by ([RFC 8949](https://www.rfc-editor.org/rfc/rfc8949#section-3.4.6), 3.4.6); a class's codec is known by the class, so
//! data of postcard that begins with the same three bytes is never mistaken by a program. The values of collections are in postcard.

use super::Persistent;
use super::reference::collect;
use crate::errors::{Error, Result};
use crate::tx::damaged;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use zeolite_proto::record::{self, CBOR_TAG, Header};
use zeolite_proto::{Cell, Oid, Record};

thread_local! {
    /// Postcard writes here first: header and data then go into one buffer of the right size.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// More than this is not kept for the next value.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// How the data of a class is written.
///
/// ```
/// use zeolite_client::{Codec, Persistent};
///
/// #[derive(serde::Serialize, serde::Deserialize, Persistent)]
/// #[persistent(class = "wiki.Page", codec = "cbor")]
/// struct Page {
///     title: String,
/// }
///
/// assert_eq!(Page::CODEC, Codec::Cbor);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Small and quick; who reads it must know the type as it was written.
    #[default]
    Postcard,
    /// Self-describing: names and types of fields are in it, so that tools show it, and programs in other languages read and
    /// write it.
    Cbor,
}

/// The encoded record of a value.
pub fn encode_record<T: Persistent>(value: &T) -> Result<Bytes> {
    encode_as(T::CODEC, T::CLASS, value, |data, mut refs| {
        for oid in value.refs() {
            if !refs.contains(&oid) {
                refs.push(oid);
            }
        }
        record::encode(T::CLASS, T::VERSION, &refs, data)
    })?
    .map_err(|bad| Error::Encode { class: T::CLASS.to_owned(), reason: bad.0.to_owned() })
}

/// Encodes a value in postcard, and hands data and references to `use_them`.
pub(crate) fn encode_value<V: Serialize, R>(
    class: &str,
    value: &V,
    use_them: impl FnOnce(&[u8], Vec<Oid>) -> R,
) -> Result<R> {
    encode_as(Codec::Postcard, class, value, use_them)
}

fn encode_as<V: Serialize, R>(
    codec: Codec,
    class: &str,
    value: &V,
    use_them: impl FnOnce(&[u8], Vec<Oid>) -> R,
) -> Result<R> {
    // A value that encodes another one while it is serialized finds the scratch taken, and starts a new one.
    let mut data = SCRATCH.take();
    data.clear();
    let (written, refs) = collect(|| match codec {
        Codec::Postcard => postcard::to_extend(value, data).map_err(|error| error.to_string()),
        Codec::Cbor => to_cbor(value, data),
    });
    let data = written.map_err(|reason| Error::Encode { class: class.to_owned(), reason })?;
    let result = use_them(&data, refs);
    if data.capacity() <= SCRATCH_BYTES_MAX {
        SCRATCH.set(data);
    }
    Ok(result)
}

fn to_cbor<V: Serialize>(value: &V, mut data: Vec<u8>) -> std::result::Result<Vec<u8>, String> {
    data.extend_from_slice(&CBOR_TAG);
    let mut to = minicbor_serde::Serializer::new(&mut data);
    value.serialize(&mut to).map_err(|error| error.to_string())?;
    Ok(data)
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
    if version == T::VERSION { decode_as(T::CODEC, T::CLASS, version, data) } else { T::upgrade(version, data) }
}

/// The value in postcard's bytes.
pub(crate) fn decode_value<V: DeserializeOwned>(class: &str, version: u32, data: &[u8]) -> Result<V> {
    decode_as(Codec::Postcard, class, version, data)
}

pub(super) fn decode_as<V: DeserializeOwned>(codec: Codec, class: &str, version: u32, data: &[u8]) -> Result<V> {
    let decode = |reason: String| Error::Decode { class: class.to_owned(), version, reason };
    let (value, left) = match codec {
        Codec::Postcard => {
            postcard::take_from_bytes(data).map(|(value, rest)| (value, rest.len())).map_err(|error| error.to_string())
        }
        Codec::Cbor => from_cbor(data),
    }
    .map_err(decode)?;
    match left {
        0 => Ok(value),
        left => Err(decode(format!("{left} bytes are left over"))),
    }
}

/// The value, and how many bytes are left over.
fn from_cbor<V: DeserializeOwned>(data: &[u8]) -> std::result::Result<(V, usize), String> {
    let untagged = data.strip_prefix(&CBOR_TAG).ok_or("it is no CBOR: it does not begin with the tag d9 d9 f7")?;
    let mut from = minicbor_serde::Deserializer::new(untagged);
    let value = V::deserialize(&mut from).map_err(|error| error.to_string())?;
    Ok((value, untagged.len() - from.decoder().position()))
}
