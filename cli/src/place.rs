//! Owns how a cell is written on the command line: `OID` or `OID/KEY`, the key with Rust's byte escapes. Instead of an oid a name in
//! the root will do, unless it looks like an oid.
//!
//! What `scan` and `log` print can be given back to `get` and `history`.

use anyhow::Result;
use bytes::Bytes;
use std::str::FromStr;
use zeolite_client::View;
use zeolite_proto::{Cell, Fault, FaultKind, Oid};

/// A cell from the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Cell(Cell),
    /// Of the object that has this name in the root.
    Named {
        name: String,
        key: Bytes,
    },
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Place, String> {
        let (object, key_text) = text.split_once('/').unwrap_or((text, ""));
        let key = key(key_text)?;
        Ok(match object.parse() {
            Ok(oid) => Place::Cell(Cell { oid, key }),
            Err(_) => Place::Named { name: object.to_owned(), key },
        })
    }
}

impl Place {
    /// Which cell it is, by the names as of a snapshot.
    pub(crate) async fn cell(&self, view: &View) -> Result<Cell> {
        let (name, key) = match self {
            Place::Cell(cell) => return Ok(cell.clone()),
            Place::Named { name, key } => (name, key.clone()),
        };
        let named = view.get(&Cell::entry(Oid::ROOT, zeolite_client::keys::encode(name.as_str()))).await?;
        match named.and_then(|record| record.refs.first().copied()) {
            Some(oid) => Ok(Cell { oid, key }),
            None => {
                let what = format!(
                    "{name:?} is no oid in hexadecimal, and nothing has that name in the root (`zeolite scan 0` lists the names)"
                );
                Err(Fault::new(FaultKind::NotFound, what).into())
            }
        }
    }
}

/// A key with escapes: `\xNN`, `\n`, `\r`, `\t`, `\\`, `\"`, `\'`, and `\0`.
pub(crate) fn key(text: &str) -> std::result::Result<Bytes, String> {
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
        assert_eq!("1f/a/b".parse(), Ok(Place::Cell(Cell::entry(Oid(0x1f), "a/b"))));
        assert_eq!("titles/a/b".parse(), Ok(Place::Named { name: "titles".into(), key: "a/b".into() }));
    }
}
