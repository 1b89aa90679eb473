//! Owns the way from a record of an evolve to its bytes and back.
//!
//! The form is that of the client's typed objects: the record's header (class, schema version 1, no references), then the
//! fields in their order as postcard writes them. A record of another version, or with bytes left over, is refused.

use crate::ids::Tid;
use crate::record::{BadRecord, Header};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The schema version of every record of an evolve.
pub const VERSION: u32 = 1;

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

    /// The encoded record.
    fn encode(&self) -> Result<Bytes, BadRecord> {
        let mut out = Vec::with_capacity(128);
        Header::write(&mut out, Self::CLASS, VERSION, &[])?;
        let out = postcard::to_extend(self, out).map_err(|_| BadRecord("not a value that can be encoded"))?;
        Ok(out.into())
    }

    /// The value of an encoded record.
    fn decode(record: &[u8]) -> Result<Self, BadRecord> {
        let header = Header::parse(record)?;
        if header.class != Self::CLASS {
            return Err(BadRecord("of another class"));
        }
        if header.version != VERSION {
            return Err(BadRecord("of another schema version"));
        }
        let (value, rest) = postcard::take_from_bytes(&record[header.data_at..])
            .map_err(|_| BadRecord("its data is not a value of its class"))?;
        if rest.is_empty() { Ok(value) } else { Err(BadRecord("bytes are left over behind its value")) }
    }
}
