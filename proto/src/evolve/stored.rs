//! Owns the way from a record of an evolve to its bytes and back.
//!
//! The form is that of the client's typed objects: the record's header (class, schema version, no references), then the
//! fields in their order as postcard writes them. An older version is read as what it means now; a newer one, or bytes that are
//! left over, are refused.

use crate::ids::Tid;
use crate::record::{BadRecord, Header};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record with the tid of its revision.
#[derive(Clone, PartialEq, Debug)]
pub struct Kept<T> {
    /// The commit that wrote it.
    pub tid: Tid,
    /// The record.
    pub record: T,
}

/// A record that an evolve stores.
pub trait Stored: Serialize + DeserializeOwned {
    /// Its class.
    const CLASS: &str;
    /// The schema version that is written.
    const VERSION: u32 = 1;

    /// The value of the data of an older version.
    fn upgrade(version: u32, data: &[u8]) -> Result<Self, BadRecord> {
        let _ = (version, data);
        Err(BadRecord("of another schema version"))
    }

    /// The encoded record.
    fn encode(&self) -> Result<Bytes, BadRecord> {
        let mut out = Vec::with_capacity(128);
        Header::write(&mut out, (Self::CLASS, Self::VERSION), &[], &[])?;
        let out = postcard::to_extend(self, out).map_err(|_| BadRecord("not a value that can be encoded"))?;
        Ok(out.into())
    }

    /// The value of an encoded record.
    fn decode(record: &[u8]) -> Result<Self, BadRecord> {
        let header = Header::parse(record)?;
        if header.class != Self::CLASS {
            return Err(BadRecord("of another class"));
        }
        let data = &record[header.data_at..];
        if header.version == Self::VERSION { whole(data) } else { Self::upgrade(header.version, data) }
    }
}

/// The value that is all of the data.
pub(super) fn whole<T: DeserializeOwned>(data: &[u8]) -> Result<T, BadRecord> {
    let (value, rest) =
        postcard::take_from_bytes(data).map_err(|_| BadRecord("its data is not a value of its class"))?;
    if rest.is_empty() { Ok(value) } else { Err(BadRecord("bytes are left over behind its value")) }
}
