//! Owns the kinds of keys: what a key type writes, as a value that can be compared and shown. Two types of one kind write equal keys
//! for equal values (`String` and a struct of one `String`); keys of different kinds are never kept in one index of a class.

use super::Key;
use crate::tx::same;
use bytes::Bytes;
use std::fmt;
use zeolite_proto::Oid;

/// Of a key, in messages.
const CHARS_SHOWN: usize = 80;

/// What the keys of a type are, as they are stored.
///
/// ```
/// use zeolite_client::keys::{Key, KeyKind};
///
/// assert_eq!(String::KIND, KeyKind::Text);
/// assert_eq!(<(String, u16)>::KIND.to_string(), "text,u16");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum KeyKind {
    /// Text.
    Text,
    /// One of the other types that have keys by themselves, or one of the application's, by its name.
    Named(&'static str),
    /// So many bytes.
    Bytes(usize),
    /// One of that kind, or none.
    Maybe(&'static KeyKind),
    /// One after the other.
    Parts(&'static [KeyKind]),
}

impl KeyKind {
    pub(crate) const fn is_text(self) -> bool {
        matches!(self, KeyKind::Text)
    }

    /// Whether it is the same; `==` cannot be asked in a constant.
    pub(crate) const fn is(self, other: KeyKind) -> bool {
        match (self, other) {
            (KeyKind::Text, KeyKind::Text) => true,
            (KeyKind::Named(one), KeyKind::Named(other)) => same(one.as_bytes(), other.as_bytes()),
            (KeyKind::Bytes(one), KeyKind::Bytes(other)) => one == other,
            (KeyKind::Maybe(one), KeyKind::Maybe(other)) => one.is(*other),
            (KeyKind::Parts(one), KeyKind::Parts(other)) => {
                let mut at = 0;
                while at < one.len() && at < other.len() && one[at].is(other[at]) {
                    at += 1;
                }
                at == one.len() && at == other.len()
            }
            _ => false,
        }
    }

    /// A key for people: `"Bob"`, `7`, `("poems", 3)`. `is_inner`: others follow it.
    pub(crate) fn shown(self, key: &[u8], is_inner: bool) -> String {
        let mut rest = key;
        let shown = match self.take(&mut rest, is_inner).filter(|_| rest.is_empty()) {
            Some(shown) => shown,
            None => format!("\"{}\"", key.escape_ascii()),
        };
        match shown.char_indices().nth(CHARS_SHOWN) {
            Some((at, _)) => format!("{}... ({} bytes)", &shown[..at], key.len()),
            None => shown,
        }
    }

    fn take(self, input: &mut &[u8], is_inner: bool) -> Option<String> {
        match self {
            KeyKind::Text => one::<String>(input, is_inner),
            KeyKind::Named(name) => named(name, input, is_inner),
            KeyKind::Bytes(length) => {
                let (head, tail) = input.split_at_checked(length)?;
                *input = tail;
                Some(head.escape_ascii().to_string())
            }
            KeyKind::Maybe(kind) => match one::<bool>(input, true)?.as_str() {
                "false" => Some("none".to_owned()),
                _ => kind.take(input, is_inner),
            },
            KeyKind::Parts(parts) => {
                let last = parts.len().checked_sub(1)?;
                let shown = parts.iter().enumerate().map(|(place, part)| part.take(input, is_inner || place < last));
                Some(format!("({})", shown.collect::<Option<Vec<_>>>()?.join(", ")))
            }
        }
    }
}

fn one<K: Key + fmt::Debug>(input: &mut &[u8], is_inner: bool) -> Option<String> {
    let key = if is_inner { K::take_inner(input) } else { K::take_last(input) };
    key.ok().map(|key| format!("{key:?}"))
}

fn named(name: &str, input: &mut &[u8], is_inner: bool) -> Option<String> {
    macro_rules! by_name {
        ($($type:ty: $known:literal),*) => {
            match name {
                $($known => one::<$type>(input, is_inner),)*
                _ => None,
            }
        };
    }
    by_name! {
        u8: "u8", u16: "u16", u32: "u32", u64: "u64", u128: "u128", i8: "i8", i16: "i16", i32: "i32", i64: "i64", i128: "i128",
        f32: "f32", f64: "f64", bool: "bool", char: "char", Oid: "oid", Oid: "ref", Bytes: "bytes"
    }
}

impl fmt::Display for KeyKind {
    /// As it stands in the name of an index: `text`, `u64`, `text,u16`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |kind: &KeyKind| match kind {
            KeyKind::Parts(_) => format!("({kind})"),
            kind => kind.to_string(),
        };
        match self {
            KeyKind::Text => f.write_str("text"),
            KeyKind::Named(name) => f.write_str(name),
            KeyKind::Bytes(length) => write!(f, "bytes[{length}]"),
            KeyKind::Maybe(kind) => write!(f, "{}?", inner(kind)),
            KeyKind::Parts(parts) => f.write_str(&parts.iter().map(inner).collect::<Vec<_>>().join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{decode, encode};
    use crate::typed::Ref;

    fn shown<K: Key>(key: &K) -> [String; 2] {
        let mut inner = Vec::new();
        key.put_inner(&mut inner);
        assert!(decode::<K>(&encode(key)).is_ok());
        [K::KIND.shown(&encode(key), false), K::KIND.shown(&inner, true)]
    }

    #[test]
    fn a_kind_is_itself_and_no_other() {
        let kinds = [
            u32::KIND,
            u64::KIND,
            String::KIND,
            <[u8; 3]>::KIND,
            <[u8; 4]>::KIND,
            <Option<u32>>::KIND,
            <Option<u64>>::KIND,
            <(u32, u64)>::KIND,
            <(u32, u64, u64)>::KIND,
            <((u32, u64), u64)>::KIND,
        ];
        for (place, one) in kinds.iter().enumerate() {
            for (other_place, other) in kinds.iter().enumerate() {
                assert_eq!(one.is(*other), place == other_place, "{one} {other}");
            }
        }
    }

    #[test]
    fn kinds_have_names_and_show_their_keys() {
        assert_eq!(<(String, Option<u16>)>::KIND.to_string(), "text,u16?");
        assert_eq!(<((u8, bool), Vec<u8>)>::KIND.to_string(), "(u8,bool),bytes");
        assert_eq!(<Option<(Ref<()>, [u8; 4])>>::KIND.to_string(), "(ref,bytes[4])?");
        assert_eq!(shown(&"Bob".to_owned()), ["\"Bob\"", "\"Bob\""]);
        assert_eq!(shown(&("poems".to_owned(), 3u16)), ["(\"poems\", 3)", "(\"poems\", 3)"]);
        assert_eq!(shown(&(Some(-4i64), None::<String>)), ["(-4, none)", "(-4, none)"]);
        assert_eq!(u64::KIND.shown(b"short", false), "\"short\"", "what is no such key is shown as it is");
    }
}
