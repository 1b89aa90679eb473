//! Owns the record: the header that the server reads (class, schema version, references, blobs) and the data that it does not.
//!
//! Layout of record format 1, of a record without blobs (all integers little endian):
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
//! Format 2, of a record that names blobs, has them between the references and the data:
//!
//! ```text
//!  10+n+8r  2 bytes  number of blobs, b (1..=256)
//!  12+n+8r  16b      ids of the blobs
//! ```
//! So a record without blobs is always of format 1, and one with blobs of format 2.
//!
//! Garbage collection and `verify` follow the references in the header, and a blob is kept as long as a revision names it; the data
//! is opaque to the server.

use crate::blob::{BLOBS_OF_RECORD_MAX, BlobId};
use crate::ids::Oid;
use bytes::{BufMut, Bytes};

/// The format of a record without blobs.
pub const RECORD_FORMAT: u8 = 1;

/// The format of a record that names blobs.
pub const RECORD_FORMAT_BLOBS: u8 = 2;

/// What data in CBOR begins with, so that whoever reads it knows: the tag of self-described CBOR.
pub const CBOR_TAG: [u8; 3] = [0xd9, 0xd9, 0xf7];

/// A decoded record. Cloning is cheap: class and data share their bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The class name, at most 255 bytes. It chooses the resolver.
    pub class: String,
    /// The schema version of the class that wrote the data.
    pub version: u32,
    /// The objects that the data refers to: what keeps them from being collected.
    pub refs: Vec<Oid>,
    /// The blobs that belong to it: what keeps them from being packed away. At most 256.
    pub blobs: Vec<BlobId>,
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
    blobs: &'a [u8],
    /// Where the data begins in the encoded record.
    pub data_at: usize,
}

impl<'a> Header<'a> {
    /// Reads the header of an encoded record and checks every length in it.
    pub fn parse(bytes: &'a [u8]) -> Result<Header<'a>, BadRecord> {
        let [format, class_len, rest @ ..] = bytes else { return Err(BadRecord("shorter than its header")) };
        if !matches!(*format, RECORD_FORMAT | RECORD_FORMAT_BLOBS) {
            return Err(BadRecord("unknown format number"));
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
        let data_at = 10 + n + refs_len;
        if *format == RECORD_FORMAT {
            return Ok(Header { class, version, refs, blobs: &[], data_at });
        }
        let blobs = parse_blobs(&bytes[data_at..])?;
        Ok(Header { class, version, refs, blobs, data_at: data_at + 2 + blobs.len() })
    }

    /// Appends a header; the data follows it. A class name longer than 255 bytes is refused, and more than 256 blobs.
    pub fn write(
        out: &mut Vec<u8>,
        (class, version): (&str, u32),
        refs: &[Oid],
        blobs: &[BlobId],
    ) -> Result<(), BadRecord> {
        let class_len = u8::try_from(class.len()).map_err(|_| BadRecord("class name longer than 255 bytes"))?;
        let count = u32::try_from(refs.len()).map_err(|_| BadRecord("more than 2^32 references"))?;
        if blobs.len() > BLOBS_OF_RECORD_MAX {
            return Err(BadRecord("more than 256 blobs"));
        }
        out.put_u8(if blobs.is_empty() { RECORD_FORMAT } else { RECORD_FORMAT_BLOBS });
        out.put_u8(class_len);
        out.put_slice(class.as_bytes());
        out.put_u32_le(version);
        out.put_u32_le(count);
        refs.iter().for_each(|oid| out.put_u64_le(oid.0));
        if !blobs.is_empty() {
            out.put_u16_le(blobs.len() as u16);
            blobs.iter().for_each(|blob| out.put_slice(&blob.0));
        }
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

    /// The blobs.
    pub fn blobs(&self) -> impl ExactSizeIterator<Item = BlobId> + use<'a> {
        self.blobs.as_chunks::<16>().0.iter().map(|id| BlobId(*id))
    }
}

fn parse_blobs(rest: &[u8]) -> Result<&[u8], BadRecord> {
    let [low, high, ids @ ..] = rest else { return Err(BadRecord("shorter than its header")) };
    let count = usize::from(u16::from_le_bytes([*low, *high]));
    if !(1..=BLOBS_OF_RECORD_MAX).contains(&count) {
        return Err(BadRecord("a number of blobs that is not from 1 to 256"));
    }
    ids.get(..count * 16).ok_or(BadRecord("more blobs than bytes"))
}

/// An encoded record of its parts, without blobs, in one buffer of the right size.
pub fn encode(class: &str, version: u32, refs: &[Oid], data: &[u8]) -> Result<Bytes, BadRecord> {
    encode_with_blobs((class, version), refs, &[], data)
}

fn encode_with_blobs(kind: (&str, u32), refs: &[Oid], blobs: &[BlobId], data: &[u8]) -> Result<Bytes, BadRecord> {
    let header_len = 10 + kind.0.len() + refs.len() * 8 + if blobs.is_empty() { 0 } else { 2 + blobs.len() * 16 };
    let mut out = Vec::with_capacity(header_len + data.len());
    Header::write(&mut out, kind, refs, blobs)?;
    out.put_slice(data);
    Ok(out.into())
}

impl Record {
    /// A record without references and blobs.
    pub fn new(class: impl Into<String>, version: u32, data: impl Into<Bytes>) -> Record {
        Record { class: class.into(), version, refs: Vec::new(), blobs: Vec::new(), data: data.into() }
    }

    /// The encoded form. A class name longer than 255 bytes is refused, and more than 256 blobs.
    pub fn encode(&self) -> Result<Bytes, BadRecord> {
        encode_with_blobs((&self.class, self.version), &self.refs, &self.blobs, &self.data)
    }

    /// The data of an encoded record, and nothing else of it; it shares the given bytes.
    pub fn data_of(bytes: &Bytes) -> Result<Bytes, BadRecord> {
        Ok(bytes.slice(Header::parse(bytes)?.data_at..))
    }

    /// Decodes a record; the data shares the given bytes.
    pub fn decode(bytes: &Bytes) -> Result<Record, BadRecord> {
        let header = Header::parse(bytes)?;
        Ok(Record {
            class: header.class.to_owned(),
            version: header.version,
            refs: header.refs().collect(),
            blobs: header.blobs().collect(),
            data: bytes.slice(header.data_at..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        Record { refs: vec![Oid(1), Oid(0xfeed)], ..Record::new("Page", 3, "xyz") }
    }

    fn with_blobs() -> Record {
        Record { blobs: vec![BlobId([7; 16]), BlobId([8; 16])], ..sample() }
    }

    #[test]
    fn encoded_records_decode_to_themselves() {
        for record in [sample(), with_blobs(), Record::default(), Record::new("C", 0, vec![7; 5000])] {
            assert_eq!(Record::decode(&record.encode().expect("encodes")), Ok(record));
        }
    }

    #[test]
    fn every_cut_is_refused_or_only_shortens_the_data() {
        for whole in [sample(), with_blobs()] {
            let whole = whole.encode().expect("encodes");
            let data_at = Header::parse(&whole).expect("parses").data_at;
            for cut in 0..whole.len() {
                assert_eq!(Header::parse(&whole[..cut]).is_ok(), cut >= data_at, "{cut}");
            }
        }
    }

    #[test]
    fn format_1_bytes_stay_as_they_are() {
        let expected = b"\x01\x04Page\x03\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0\xed\xfe\0\0\0\0\0\0xyz";
        assert_eq!(sample().encode().expect("encodes").as_ref(), expected);
    }

    #[test]
    fn format_2_bytes_stay_as_they_are() {
        let record = Record { blobs: vec![BlobId([0xb1; 16])], ..Record::new("F", 1, "z") };
        let expected = [&b"\x02\x01F\x01\0\0\0\0\0\0\0\x01\0"[..], &[0xb1; 16], b"z"].concat();
        assert_eq!(record.encode().expect("encodes"), expected);
        let many = Record { blobs: vec![BlobId::default(); 257], ..record };
        assert!(many.encode().is_err());
    }

    #[test]
    fn a_record_of_a_later_program_is_refused_by_what_it_has() {
        for (format, word) in [(2, "blobs"), (0, "unknown format"), (3, "unknown format")] {
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
