//! Owns the name of a blob: bytes too large for a record (files, images), kept beside the objects and named by records.
//!
//! ```text
//!   upload ── bytes, piece by piece ──> whole, durable ──> named by records, as often as one likes ──> no revision names it: gone with a pack
//! ```
//! An id is 16 random bytes that the uploader makes, never used twice: so an upload that was cut off is gone on with under its id, a
//! name that is gone never comes back as something else, and a copy of a database has the same ids.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The id of a blob. For serde it is its 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BlobId(pub [u8; 16]);

/// A record names at most so many blobs.
pub const BLOBS_OF_RECORD_MAX: usize = 256;

/// How far an upload has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlobStanding {
    /// There is nothing under this id.
    Unknown,
    /// So many bytes are there; the upload goes on from here.
    Begun(u64),
    /// It is whole and durable, and so many bytes long.
    Whole(u64),
}

impl BlobId {
    /// Reads an id off the wire; it must have 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<BlobId> {
        bytes.try_into().ok().map(BlobId)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blob:{self}")
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a text is not the id of a blob.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not the id of a blob, which has 32 hexadecimal digits")]
pub struct BadBlobId(String);

impl std::str::FromStr for BlobId {
    type Err = BadBlobId;
    /// Reads the form that `Display` writes, and no other: names of files are read with it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadBlobId(text.to_owned());
        let well = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let value = u128::from_str_radix(text, 16).ok().filter(|_| well).ok_or_else(bad)?;
        Ok(BlobId(value.to_be_bytes()))
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for BlobId {
    type Error = BadBlobId;
    fn try_from(text: String) -> Result<BlobId, BadBlobId> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_in_no_other_form() {
        let id = BlobId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "00", "000102030405060708090A0B0C0D0EFF", "+00102030405060708090a0b0c0d0eff"] {
            assert!(text.parse::<BlobId>().is_err(), "{text}");
        }
    }
}
