//! Owns how a cell is written on the command line: `OID` or `OID/KEY`, the key with Rust's byte escapes.
//!
//! What `scan` and `log` print can be given back to `get` and `history`.

use bytes::Bytes;
use std::str::FromStr;
use zeolite_proto::{Cell, Oid};

/// A cell from the command line.
#[derive(Clone, Debug)]
pub(crate) struct Place(pub(crate) Cell);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let (oid_text, key_text) = text.split_once('/').unwrap_or((text, ""));
        let oid: Oid = oid_text
            .parse()
            .map_err(|error| format!("{oid_text:?} is not an oid in hexadecimal ({error}); write OID or OID/KEY"))?;
        Ok(Place(Cell { oid, key: key(key_text)? }))
    }
}

/// A key with escapes: `\xNN`, `\n`, `\r`, `\t`, `\\`, `\"`, `\'`, and `\0`.
pub(crate) fn key(text: &str) -> Result<Bytes, String> {
    let mut key = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            key.push(byte);
            continue;
        }
        key.push(match bytes.next() {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(same @ (b'\\' | b'"' | b'\'')) => same,
            Some(b'x') => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16));
                match (digit(bytes.next()), digit(bytes.next())) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err(r"\x needs two hexadecimal digits, as in \x0a".into()),
                }
            }
            _ => return Err(r"unknown escape; use \xNN, \n, \r, \t, \0 or \\".into()),
        });
    }
    Ok(key.into())
}

/// A key as [`key`] reads it.
pub(crate) fn shown(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_being_shown() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(key(&shown(&all)).expect("reads"), all);
        assert!(key(r"\x0").is_err() && key(r"\q").is_err() && key("\\").is_err());
    }

    #[test]
    fn a_key_may_hold_slashes() {
        let Place(cell) = "1f/a/b".parse().expect("reads");
        assert_eq!((cell.oid, cell.key.as_ref()), (Oid(0x1f), b"a/b".as_slice()));
    }
}
