//! Owns how a cell is written on the command line: `OID` or `OID/KEY`, with Rust's byte escapes. Instead of an oid a name in the root
//! will do, a slash in it as `\x2f`.
//!
//! What looks like an oid may be a name (`cafe`). It is the oid if there is such an object, and the name if there is none; with `0x` in
//! front it is the oid either way. What `scan` and `log` print can be given back to `get`, `scan` and `history`.

use crate::tame;
use anyhow::Result;
use bytes::Bytes;
use std::ascii;
use std::str::FromStr;
use zeolite_client::View;
use zeolite_proto::{Cell, Fault, FaultKind, Oid};

/// A cell from the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// What it says if it is read as an oid.
    oid: Option<Oid>,
    /// What it says if it is read as a name; none: it cannot be one.
    name: Option<String>,
    key: Bytes,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Place, String> {
        let (object, key_text) = text.split_once('/').unwrap_or((text, ""));
        let oid = object.parse().ok();
        let name = match object.starts_with("0x") && oid.is_some() {
            true => None,
            false => {
                Some(String::from_utf8(key(object)?.into()).map_err(|_| "a name in the root is UTF-8".to_owned())?)
            }
        };
        Ok(Place { oid, name, key: key(key_text)? })
    }
}

impl Place {
    /// Which cell it is, by the names as of a snapshot.
    pub(crate) async fn cell(&self, view: &View) -> Result<Cell> {
        let key = self.key.clone();
        let there = match self.oid {
            Some(oid) if self.name.is_none() || view.get(&Cell::object(oid)).await?.is_some() => Some(oid),
            _ => None,
        };
        let oid = match (there, &self.name) {
            (None, Some(name)) => named(view, name).await?,
            _ => there,
        };
        // Of an object that is not there now there may be history.
        match oid.or(self.oid) {
            Some(oid) => Ok(Cell { oid, key }),
            None => {
                let name = self.name.as_deref().unwrap_or_default();
                let what = format!(
                    "{name:?} is no oid in hexadecimal, and nothing has that name in the root (`zeolite scan 0` lists the names)"
                );
                Err(Fault::new(FaultKind::NotFound, what).into())
            }
        }
    }

    /// The same for a whole collection.
    pub(crate) async fn collection(&self, view: &View) -> Result<Oid> {
        if !self.key.is_empty() {
            let what =
                "scan takes a collection, and this is one entry; give the key as --prefix, or take `zeolite get`";
            return Err(Fault::invalid(what).into());
        }
        Ok(self.cell(view).await?.oid)
    }
}

async fn named(view: &View, name: &str) -> Result<Option<Oid>> {
    let named = view.get(&Cell::entry(Oid::ROOT, zeolite_client::keys::encode(name))).await?;
    Ok(named.and_then(|record| record.refs.first().copied()))
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

/// A key as [`key`] reads it: text as text, everything else as bytes.
pub(crate) fn shown(key: &[u8]) -> String {
    let mut shown = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match !letter.is_ascii() && tame::is_tame(letter) {
                true => shown.push(letter),
                false => shown
                    .extend(letter.encode_utf8(&mut [0; 4]).bytes().flat_map(ascii::escape_default).map(char::from)),
            }
        }
        shown.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    shown
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
    fn text_is_shown_as_text_and_what_steers_a_terminal_as_bytes() {
        for (bytes, wanted) in [
            ("Ünï 名".as_bytes(), "Ünï 名"),
            (b"a\xffb", r"a\xffb"),
            ("a\u{9b}\u{202e}".as_bytes(), r"a\xc2\x9b\xe2\x80\xae"),
            (b"\x1b[0m\"", r#"\x1b[0m\""#),
        ] {
            assert_eq!(shown(bytes), wanted);
            assert_eq!(key(wanted).expect("reads"), bytes);
        }
    }

    #[test]
    fn a_key_may_hold_slashes() {
        let place = |oid: Option<u64>, name: Option<&str>| Place {
            oid: oid.map(Oid),
            name: name.map(str::to_owned),
            key: "a/b".into(),
        };
        assert_eq!("1f/a/b".parse(), Ok(place(Some(0x1f), Some("1f"))));
        assert_eq!("0x1f/a/b".parse(), Ok(place(Some(0x1f), None)));
        assert_eq!("titles/a/b".parse(), Ok(place(None, Some("titles"))));
        assert_eq!(r"a\x2fb/a/b".parse(), Ok(place(None, Some("a/b"))));
    }
}
