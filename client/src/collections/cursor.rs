//! Owns the place in a collection that outlives a walk: what a page of a list gives to the link to the next one.
//!
//! ```text
//!   bytes   the encoded key of the last entry that was given
//!   text    the same as hexadecimal digits
//! ```
//! It is no secret and no promise: whoever gets it from outside gets entries of the range that the program asks for, and no others. An
//! entry that is gone meanwhile is no harm; the next one follows.

use crate::keys;
use crate::revision::Range;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// A place behind an entry of a collection; see [`super::Entries::cursor`]. As text, and in serde, hexadecimal digits.
///
/// ```
/// use zeolite_client::collections::Cursor;
///
/// let behind: Cursor = "6262".parse().expect("what a link said");
/// assert_eq!((behind.to_string().as_str(), &behind.as_bytes()[..]), ("6262", &b"bb"[..]));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cursor {
    key: Bytes,
}

/// A text that is no cursor.
///
/// ```
/// use zeolite_client::collections::{BadCursor, Cursor};
///
/// assert_eq!("page 2".parse::<Cursor>(), Err(BadCursor));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a cursor is an even number of hexadecimal digits; take it as `Entries::cursor` gave it, or begin without one")]
pub struct BadCursor;

impl Cursor {
    /// The cursor of these bytes.
    pub fn from_bytes(key: impl Into<Bytes>) -> Cursor {
        Cursor { key: key.into() }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.key
    }

    /// The part of a range that is behind it.
    pub(super) fn behind(&self, range: &Range) -> Range {
        let mut rest = range.clone();
        if range.reverse {
            let end = rest.to.take().map_or_else(|| self.key.clone(), |to| to.min(self.key.clone()));
            rest.to = Some(end);
        } else {
            rest.from = rest.from.max(keys::after(&self.key));
        }
        rest
    }
}

impl Display for Cursor {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Cursor, BadCursor> {
        let digit = |digit: &u8| char::from(*digit).to_digit(16).map(|digit| digit as u8).ok_or(BadCursor);
        let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Ok(digit(high)? << 4 | digit(low)?),
            _ => Err(BadCursor),
        });
        Ok(Cursor::from_bytes(pairs.collect::<Result<Vec<u8>, BadCursor>>()?))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cursor, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_text_and_back() {
        let cursor = Cursor::from_bytes(&b"a\0\xff"[..]);
        assert_eq!(cursor.to_string(), "6100ff");
        assert_eq!("6100FF".parse(), Ok(cursor.clone()));
        assert_eq!(serde_json::from_str::<Cursor>("\"6100ff\"").expect("reads"), cursor);
        for bad in ["6", "6g", "é", "61 0"] {
            assert_eq!(bad.parse::<Cursor>(), Err(BadCursor), "{bad:?}");
        }
    }

    #[test]
    fn it_leads_out_of_no_range() {
        let range = Range::between("b", Some("d".into()));
        let from = |key: &'static str| Cursor::from_bytes(key).behind(&range);
        assert_eq!((from("a").from, from("a").to), ("b".into(), Some("d".into())));
        assert_eq!(from("c").from, "c\0");
        assert!(from("x").is_nothing());
        let back = range.reversed();
        let back = |key: &'static str| Cursor::from_bytes(key).behind(&back);
        assert_eq!((back("x").from, back("x").to), ("b".into(), Some("d".into())));
        assert_eq!(back("c").to, Some("c".into()));
        assert!(back("a").is_nothing());
    }
}
