//! Owns the form of what is stored: each object is compressed, encrypted if there is a key, and known by its name.
//!
//! ```text
//!   0   4   magic ZBAK
//!   4   1   format, 1
//!   5   1   kind: 1 manifest, 2 log, 3 list, 4 part of a blob
//!   6   1   1 compressed, 2 encrypted
//!   7   1   0
//!   8   8   length before compression, little endian
//!  16   8   mark of the key; zeros: none
//!  24  32   salt of the object's key; zeros: none
//!  56       content: LZ4 blocks behind each other (length 4, block), ChaCha20-Poly1305 with its tag, or as it is
//!  end  4   CRC-32 of all before, of what is not encrypted
//! ```
//! Encrypted, the head and the object's name are authenticated as well: an object that was put in another one's place does not open.
//! Not encrypted, the name is part of the CRC. An object is about as long as the backup was told to make them (16 MiB, at most 1 GiB;
//! longer where one transaction is), so each is made in memory, put at once, and looked at whole before a byte of it is believed.

use crate::errors::{Error, Result};
use crate::key::Key;
use bytes::{Bytes, BytesMut};
use ring::aead::{Aad, Nonce};
use ring::digest::{SHA256, digest};

const MAGIC: &[u8; 4] = b"ZBAK";
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 56;
const COMPRESSED: u8 = 1;
const ENCRYPTED: u8 = 2;
/// So much is compressed at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Nothing that is made is larger: two of the largest drafts.
const PLAIN_BYTES_MAX: u64 = 3 << 30;

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Manifest = 1,
    Log = 2,
    List = 3,
    BlobPart = 4,
}

/// An object as it is stored.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) bytes: Bytes,
    /// SHA-256 of these bytes.
    pub(crate) sum: [u8; 32],
}

/// SHA-256.
pub(crate) fn sum_of(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("32 bytes")
}

/// What is to be stored under a name.
pub(crate) fn seal(name: &str, kind: Kind, plain: &[u8], key: Option<&Key>) -> Result<Sealed> {
    let (content, compressed) = compressed(plain);
    let mut flags = if compressed { COMPRESSED } else { 0 };
    let (mut mark, mut salt) = ([0; 8], [0; 32]);
    if let Some(key) = key {
        flags |= ENCRYPTED;
        mark = key.mark();
        getrandom::fill(&mut salt).map_err(|error| Error::Key(format!("no randomness: {error}")))?;
    }
    let mut bytes = BytesMut::with_capacity(HEAD_BYTES + content.len() + 16);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[FORMAT, kind as u8, flags, 0]);
    bytes.extend_from_slice(&(plain.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&mark);
    bytes.extend_from_slice(&salt);
    let mut body = content;
    match key {
        Some(key) => {
            let aad = Aad::from([&bytes[..], name.as_bytes()].concat());
            let tag = key.for_object(&salt).seal_in_place_separate_tag(nonce(), aad, &mut body);
            let tag = tag.map_err(|_| Error::Key(format!("{name} cannot be encrypted: it is too large")))?;
            bytes.extend_from_slice(&body);
            bytes.extend_from_slice(tag.as_ref());
        }
        None => {
            bytes.extend_from_slice(&body);
            let crc = crc_of(&bytes, name);
            bytes.extend_from_slice(&crc);
        }
    }
    let bytes = bytes.freeze();
    Ok(Sealed { sum: sum_of(&bytes), bytes })
}

/// What is stored under a name, checked.
pub(crate) fn open(name: &str, kind: Kind, bytes: &[u8], key: Option<&Key>) -> Result<Bytes> {
    match opened(name, kind, bytes, key) {
        // Its head says that it is not for us. If it opens with a head that is, that head was changed: it is damage.
        Err(error @ (Error::Refused(_) | Error::Key(_))) if opened(name, kind, &as_ours(bytes, key), key).is_ok() => {
            Err(Error::damaged(name, format!("its head was changed, and says now: {error}")))
        }
        done => done,
    }
}

/// These bytes with the format and the key in their head that this program would write.
fn as_ours(bytes: &[u8], key: Option<&Key>) -> Vec<u8> {
    let mut ours = bytes.to_vec();
    ours[4] = FORMAT;
    ours[6] = if key.is_some() { ours[6] | ENCRYPTED } else { ours[6] & !ENCRYPTED };
    ours[16..24].copy_from_slice(&key.map_or([0; 8], Key::mark));
    ours
}

fn opened(name: &str, kind: Kind, bytes: &[u8], key: Option<&Key>) -> Result<Bytes> {
    let bad = |why: &str| Error::damaged(name, why);
    if bytes.len() < HEAD_BYTES || !bytes.starts_with(MAGIC) {
        return Err(bad("it is no part of a backup, or its beginning is gone"));
    }
    if bytes[4] != FORMAT {
        let format = bytes[4];
        return Err(Error::Refused(format!(
            "{name} is of format {format}, and this program reads {FORMAT}; use the program that wrote it, or a newer one"
        )));
    }
    if bytes[5] != kind as u8 {
        return Err(bad("it is something else than its name says"));
    }
    let (head, content) = bytes.split_at(HEAD_BYTES);
    let (flags, mark) = (head[6], &head[16..24]);
    let length = u64::from_le_bytes(head[8..16].try_into().expect("8 bytes"));
    let content = match (flags & ENCRYPTED != 0, key) {
        (true, None) => return Err(Error::Key(format!("{name} is encrypted; name its key (--key-file)"))),
        (true, Some(key)) if key.mark() != mark => {
            return Err(Error::Key(format!("{name} was encrypted with another key; name that one (--key-file)")));
        }
        (true, Some(key)) => {
            let salt = head[24..56].try_into().expect("32 bytes");
            let aad = Aad::from([head, name.as_bytes()].concat());
            let mut body = content.to_vec();
            let plain = key.for_object(&salt).open_in_place(nonce(), aad, &mut body);
            let len = plain.map_err(|_| bad("it was changed, or is of another place"))?.len();
            body.truncate(len);
            Bytes::from(body)
        }
        (false, Some(_)) => {
            return Err(Error::Key(format!(
                "{name} is not encrypted, and a key is named: leave the key out, or begin a new place for encrypted backups"
            )));
        }
        (false, None) => {
            let Some(at) = content.len().checked_sub(4) else { return Err(bad("its end is gone")) };
            let (body, crc) = content.split_at(at);
            if crc != crc_of(&bytes[..HEAD_BYTES + at], name) {
                return Err(bad("its checksum does not fit"));
            }
            Bytes::copy_from_slice(body)
        }
    };
    if length > PLAIN_BYTES_MAX {
        return Err(bad("its length cannot be"));
    }
    let plain = if flags & COMPRESSED != 0 { expanded(&content, length as usize) } else { Some(content) };
    plain.filter(|plain| plain.len() as u64 == length).ok_or_else(|| bad("its content is not as long as it says"))
}

/// Each object has a key of its own, which is used once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn crc_of(bytes: &[u8], name: &str) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    hasher.update(name.as_bytes());
    hasher.finalize().to_le_bytes()
}

/// Compressed, and whether it is; as it was where that is no gain.
fn compressed(plain: &[u8]) -> (Vec<u8>, bool) {
    let mut all = Vec::with_capacity(plain.len() / 2 + 64);
    for block in plain.chunks(BLOCK_BYTES) {
        let block = lz4_flex::block::compress_prepend_size(block);
        all.extend_from_slice(&(block.len() as u32).to_le_bytes());
        all.extend_from_slice(&block);
        if all.len() >= plain.len() {
            return (plain.to_vec(), false);
        }
    }
    (all, !plain.is_empty())
}

fn expanded(mut content: &[u8], length: usize) -> Option<Bytes> {
    let mut plain = BytesMut::with_capacity(length.min(content.len().saturating_mul(255)));
    while !content.is_empty() {
        let (len, rest) = content.split_at_checked(4)?;
        let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
        let (block, rest) = rest.split_at_checked(len)?;
        let (size, _) = lz4_flex::block::uncompressed_size(block).ok()?;
        if size > BLOCK_BYTES || plain.len() + size > length {
            return None;
        }
        plain.extend_from_slice(&lz4_flex::block::decompress_size_prepended(block).ok()?);
        content = rest;
    }
    Some(plain.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plains() -> [Vec<u8>; 4] {
        let noise = (0..3000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        [vec![], b"short".to_vec(), vec![b'a'; 3 * BLOCK_BYTES + 5], noise]
    }

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        let (key, other) = (Key::of([7; 32]), Key::of([8; 32]));
        for plain in plains() {
            for key in [None, Some(&key)] {
                let Sealed { bytes, sum } = seal("a/b", Kind::Log, &plain, key).expect("sealed");
                assert_eq!(sum, sum_of(&bytes));
                assert_eq!(open("a/b", Kind::Log, &bytes, key).expect("opens"), plain);
                assert!(plain.len() < BLOCK_BYTES || bytes.len() < plain.len() / 10, "it is compressed");
                assert!(matches!(open("a/c", Kind::Log, &bytes, key), Err(Error::Damaged { .. })), "another name");
                assert!(matches!(open("a/b", Kind::Manifest, &bytes, key), Err(Error::Damaged { .. })));
                assert!(matches!(open("a/b", Kind::Log, &bytes, Some(&other)), Err(Error::Key(_))));
                if key.is_some() {
                    assert!(
                        open("a/b", Kind::Log, &bytes, None)
                            .is_err_and(|error| error.to_string().contains("--key-file"))
                    );
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_and_a_lost_end_are_noticed() {
        let key = Key::of([7; 32]);
        for key in [None, Some(&key)] {
            let Sealed { bytes, .. } =
                seal("n", Kind::Log, b"some words, some words, some words", key).expect("sealed");
            for at in 0..bytes.len() {
                let mut wrong = bytes.to_vec();
                wrong[at] ^= 1 << (at % 8);
                for (wrong, what) in [(&wrong[..], "byte"), (&bytes[..at], "cut at")] {
                    let found = open("n", Kind::Log, wrong, key);
                    assert!(matches!(found, Err(Error::Damaged { .. })), "{what} {at}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn content_that_claims_to_be_huge_takes_no_memory() {
        let Sealed { bytes, .. } = seal("n", Kind::Log, &[b'x'; 4096], None).expect("sealed");
        let mut wrong = bytes[..bytes.len() - 4].to_vec();
        wrong[8..16].copy_from_slice(&(2u64 << 30).to_le_bytes());
        let crc = crc_of(&wrong, "n");
        wrong.extend_from_slice(&crc);
        assert!(open("n", Kind::Log, &wrong, None).is_err());
    }
}
