//! Owns the record: the header that the server reads (class, schema version, references) and the data that it does not.
//!
//! Layout of record format 1 (all integers little endian):
//!
//! ```text
//!   0    1 byte   format = 1
//!   1    1 byte   length of the class name, n (0..=255)
//!   2    n bytes  class name, UTF-8
//!   2+n  4 bytes  schema version
//!   6+n  4 bytes  number of references, r
//!  10+n  8r bytes oids of the objects referred to
//!  then           data, to the end of the record
//! ```
//!
//! Format 2 is reserved: the same, with the ids of blobs behind the references, and refused until there are blobs.
//!
//! Garbage collection and `verify` follow the references in the header; the data is opaque to the server.

use crate::ids::Oid;
use bytes::{BufMut, Bytes};

/// The record format that this code writes and reads.
pub const RECORD_FORMAT: u8 = 1;

// Reserved for records that refer to blobs.
const WITH_BLOBS: u8 = 2;

/// A decoded record. Cloning is cheap: class and data share their bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The class name, at most 255 bytes. It chooses the resolver.
    pub class: String,
    /// The schema version of the class that wrote the data.
    pub version: u32,
    /// The objects that the data refers to: what keeps them from being collected.
    pub refs: Vec<Oid>,
    /// The application's bytes.
    pub data: Bytes,
}

/// Why bytes are not a record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("bad record: {0}")]
pub struct BadRecord(pub &'static str);

/// The header of an encoded record, read in place: nothing is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// The class name.
    pub class: &'a str,
    /// The schema version.
    pub version: u32,
    refs: &'a [u8],
    /// Where the data begins in the encoded record.
    pub data_at: usize,
}

impl<'a> Header<'a> {
    /// Reads the header of an encoded record and checks every length in it.
    pub fn parse(bytes: &'a [u8]) -> Result<Header<'a>, BadRecord> {
        let [format, class_len, rest @ ..] = bytes else { return Err(BadRecord("shorter than its header")) };
        match *format {
            RECORD_FORMAT => {}
            WITH_BLOBS => return Err(BadRecord("it refers to blobs, which this program does not have")),
            _ => return Err(BadRecord("unknown format number")),
        }
        let n = usize::from(*class_len);
        if rest.len() < n + 8 {
            return Err(BadRecord("shorter than its header"));
        }
        let class = std::str::from_utf8(&rest[..n]).map_err(|_| BadRecord("class name is not utf-8"))?;
        let word = |at: usize| u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let (version, count) = (word(n), word(n + 4) as usize);
        let refs_len = count.checked_mul(8).ok_or(BadRecord("more references than bytes"))?;
        let refs = rest.get(n + 8..).and_then(|tail| tail.get(..refs_len));
        let refs = refs.ok_or(BadRecord("more references than bytes"))?;
        Ok(Header { class, version, refs, data_at: 10 + n + refs_len })
    }

    /// Appends a header; the data follows it. A class name longer than 255 bytes is refused.
    pub fn write(out: &mut Vec<u8>, class: &str, version: u32, refs: &[Oid]) -> Result<(), BadRecord> {
        let class_len = u8::try_from(class.len()).map_err(|_| BadRecord("class name longer than 255 bytes"))?;
        let count = u32::try_from(refs.len()).map_err(|_| BadRecord("more than 2^32 references"))?;
        out.put_u8(RECORD_FORMAT);
        out.put_u8(class_len);
        out.put_slice(class.as_bytes());
        out.put_u32_le(version);
        out.put_u32_le(count);
        refs.iter().for_each(|oid| out.put_u64_le(oid.0));
        Ok(())
    }

    /// The references.
    pub fn refs(&self) -> impl ExactSizeIterator<Item = Oid> + 'a {
        self.refs.chunks_exact(8).map(|chunk| {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            Oid(u64::from_le_bytes(word))
        })
    }
}

/// An encoded record of its parts, in one buffer of the right size.
pub fn encode(class: &str, version: u32, refs: &[Oid], data: &[u8]) -> Result<Bytes, BadRecord> {
    let mut out = Vec::with_capacity(10 + class.len() + refs.len() * 8 + data.len());
    Header::write(&mut out, class, version, refs)?;
    out.put_slice(data);
    Ok(out.into())
}

impl Record {
    /// A record without references.
    pub fn new(class: impl Into<String>, version: u32, data: impl Into<Bytes>) -> Record {
        Record { class: class.into(), version, refs: Vec::new(), data: data.into() }
    }

    /// The encoded form. A class name longer than 255 bytes is refused.
    pub fn encode(&self) -> Result<Bytes, BadRecord> {
        encode(&self.class, self.version, &self.refs, &self.data)
    }

    /// Decodes a record; the data shares the given bytes.
    pub fn decode(bytes: &Bytes) -> Result<Record, BadRecord> {
        let header = Header::parse(bytes)?;
        Ok(Record {
            class: header.class.to_owned(),
            version: header.version,
            refs: header.refs().collect(),
            data: bytes.slice(header.data_at..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        Record { class: "Page".into(), version: 3, refs: vec![Oid(1), Oid(0xfeed)], data: Bytes::from_static(b"xyz") }
    }

    #[test]
    fn encoded_records_decode_to_themselves() {
        for record in [sample(), Record::default(), Record::new("C", 0, vec![7; 5000])] {
            assert_eq!(Record::decode(&record.encode().expect("encodes")), Ok(record));
        }
    }

    #[test]
    fn every_cut_is_refused_or_only_shortens_the_data() {
        let whole = sample().encode().expect("encodes");
        let data_at = Header::parse(&whole).expect("parses").data_at;
        for cut in 0..whole.len() {
            assert_eq!(Header::parse(&whole[..cut]).is_ok(), cut >= data_at, "{cut}");
        }
    }

    #[test]
    fn format_1_bytes_stay_as_they_are() {
        let expected = b"\x01\x04Page\x03\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0\xed\xfe\0\0\0\0\0\0xyz";
        assert_eq!(sample().encode().expect("encodes").as_ref(), expected);
    }

    #[test]
    fn a_record_of_a_later_program_is_refused_by_what_it_has() {
        for (format, word) in [(2, "blobs"), (0, "unknown"), (3, "unknown")] {
            let mut bytes = sample().encode().expect("encodes").to_vec();
            bytes[0] = format;
            assert!(Header::parse(&bytes).is_err_and(|error| error.0.contains(word)), "{format}");
        }
    }

    #[test]
    fn a_huge_reference_count_allocates_nothing() {
        let bytes = b"\x01\x00\0\0\0\0\xff\xff\xff\xff";
        assert_eq!(Header::parse(bytes), Err(BadRecord("more references than bytes")));
    }
}
