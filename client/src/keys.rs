//! Owns the order-preserving encoding of collection keys: the order of the bytes is the order of the values.
//!
//! ```text
//!   unsigned integer     big endian, its full width
//!   signed integer       the same with the sign bit turned
//!   bool                 one byte, 0 or 1
//!   option               0 for none; 1, and then what is there
//!   string, bytes        as they are; one zero byte in front if they are empty or begin with a zero byte
//!   tuple                its parts one after the other; strings and bytes in all places but the last are closed by
//!                        00 00, and a zero byte within them is written 00 01
//!   struct               with `#[derive(Key)]`: the tuple of its fields
//!   others               of a fixed width: `fixed`
//! ```
//!
//! So a plain string key is readable in tools and can be scanned by prefix, no key is empty (the empty key is the object
//! itself), and `("ab", 1)` lies between `("a", 9)` and `("b", 0)`. A collection does not store its key's type: whoever opens it
//! must use the same one.

mod composed;
mod fixed;
mod kind;
mod prefix;

use bytes::Bytes;
pub use kind::KeyKind;
pub use prefix::Prefixed;
pub use zeolite_derive::Key;
use zeolite_proto::Oid;

/// Bytes that are not a key of the type.
///
/// ```
/// use zeolite_client::keys;
///
/// let bad = keys::decode::<u64>(b"four").expect_err("a u64 has eight bytes");
/// assert!(bad.to_string().contains("u64"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the bytes are not a key of the type {wanted}; open the collection with the key type that it was made with")]
#[non_exhaustive]
pub struct BadKey {
    /// The type.
    pub wanted: &'static str,
}

impl BadKey {
    /// They are not one of this type: for who implements [`Key`] by hand.
    pub fn new(wanted: &'static str) -> BadKey {
        BadKey { wanted }
    }
}

/// What can be looked up: the borrowed forms of keys, too.
///
/// ```
/// use zeolite_client::keys;
///
/// // What is looked up need not be owned.
/// assert_eq!(keys::encode("ada"), keys::encode(&"ada".to_owned()));
/// assert!(keys::encode(&2u32) < keys::encode(&10u32), "in the order of their values");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a collection, nor be looked up as one",
    note = "keys are integers, floats, `bool`, `char`, `String`, `Bytes`, `[u8; N]`, `Oid`, `Ref<T>`, options and tuples of these, and what they \
            are borrowed as (`str`, `[u8]`); a struct of such fields has `#[derive(Key)]`"
)]
pub trait AsKey {
    /// Appends the encoded form as the last (or only) part of a key.
    fn put_last(&self, out: &mut Vec<u8>);

    /// Appends the encoded form as a part that others follow.
    fn put_inner(&self, out: &mut Vec<u8>) {
        self.put_last(out);
    }

    /// Adds the objects that the key refers to: an entry keeps them from being collected.
    fn put_refs(&self, refs: &mut Vec<Oid>) {
        let _ = refs;
    }
}

/// A key of a collection. A struct becomes one by a derive, and is then stored as the tuple of its fields:
///
/// ```
/// use zeolite_client::keys::{self, Key};
///
/// #[derive(Key, PartialEq, Debug)]
/// struct Place {
///     shelf: String,
///     row: u16,
/// }
///
/// #[derive(Key, PartialEq, Debug)]
/// struct Login(String);
///
/// let place = Place { shelf: "poems".into(), row: 3 };
/// assert_eq!(keys::encode(&place), keys::encode(&("poems", 3u16)));
/// assert_eq!(keys::decode::<Place>(&keys::encode(&place)), Ok(place));
/// assert_eq!(keys::encode(&Login("ada".into())), keys::encode("ada"));
/// ```
///
/// What is no key itself cannot be a part of one:
///
/// ```compile_fail
/// #[derive(zeolite_client::Key)]
/// struct Place {
///     shelves: Vec<String>,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a collection",
    note = "keys are integers, floats, `bool`, `char`, `String`, `Bytes`, `[u8; N]`, `Oid`, `Ref<T>`, options and tuples of these; a \
            struct of such fields has `#[derive(Key)]`; `Uuid` and jiff's times have the features `uuid` and `jiff`"
)]
pub trait Key: AsKey + Sized {
    /// What its keys are. Another kind of key is another collection where a class has an index of them; so a key type of your own has a
    /// name here, and another one when what it writes changes.
    const KIND: KeyKind = KeyKind::Named("own");

    /// Reads the last (or only) part of a key, to the end of the input.
    fn take_last(input: &mut &[u8]) -> Result<Self, BadKey>;

    /// Reads a part that others follow.
    fn take_inner(input: &mut &[u8]) -> Result<Self, BadKey> {
        Self::take_last(input)
    }
}

/// The encoded form of a key.
pub fn encode<Q: AsKey + ?Sized>(key: &Q) -> Bytes {
    let mut out = Vec::with_capacity(24);
    key.put_last(&mut out);
    out.into()
}

/// The key in its encoded form.
pub fn decode<K: Key>(mut bytes: &[u8]) -> Result<K, BadKey> {
    let key = K::take_last(&mut bytes)?;
    if bytes.is_empty() { Ok(key) } else { Err(BadKey { wanted: std::any::type_name::<K>() }) }
}

/// The first key after this one.
pub(crate) fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// The first key after all that begin so; none: they go on to the end.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end.into())
}

fn split<const N: usize>(input: &mut &[u8], wanted: &'static str) -> Result<[u8; N], BadKey> {
    let (head, tail) = input.split_first_chunk::<N>().ok_or(BadKey { wanted })?;
    *input = tail;
    Ok(*head)
}

macro_rules! integers {
    ($($type:ident as $unsigned:ident, $turn:expr;)*) => {$(
        impl AsKey for $type {
            fn put_last(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&((*self as $unsigned) ^ $turn).to_be_bytes());
            }
        }
        impl Key for $type {
            const KIND: KeyKind = KeyKind::Named(stringify!($type));

            fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
                Ok(($unsigned::from_be_bytes(split(input, stringify!($type))?) ^ $turn) as $type)
            }
        }
    )*};
}

integers! {
    u8 as u8, 0;
    u16 as u16, 0;
    u32 as u32, 0;
    u64 as u64, 0;
    u128 as u128, 0;
    i8 as u8, 1 << 7;
    i16 as u16, 1 << 15;
    i32 as u32, 1 << 31;
    i64 as u64, 1 << 63;
    i128 as u128, 1 << 127;
}

/// No key at all: for what has only a value.
impl AsKey for () {
    fn put_last(&self, _: &mut Vec<u8>) {}
}

impl AsKey for bool {
    fn put_last(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Key for bool {
    const KIND: KeyKind = KeyKind::Named("bool");

    fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
        match split::<1>(input, "bool")? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(BadKey { wanted: "bool" }),
        }
    }
}

impl AsKey for Oid {
    fn put_last(&self, out: &mut Vec<u8>) {
        self.0.put_last(out);
    }
}

impl Key for Oid {
    const KIND: KeyKind = KeyKind::Named("oid");

    fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
        u64::take_last(input).map(Oid)
    }
}

impl AsKey for [u8] {
    fn put_last(&self, out: &mut Vec<u8>) {
        if self.first().is_none_or(|first| *first == 0) {
            out.push(0);
        }
        out.extend_from_slice(self);
    }

    fn put_inner(&self, out: &mut Vec<u8>) {
        for byte in self {
            out.push(*byte);
            if *byte == 0 {
                out.push(1);
            }
        }
        out.extend_from_slice(&[0, 0]);
    }
}

fn bytes_last(input: &mut &[u8], wanted: &'static str) -> Result<Vec<u8>, BadKey> {
    let whole = std::mem::take(input);
    match whole {
        [] => Err(BadKey { wanted }),
        [0, rest @ ..] if rest.first().is_none_or(|first| *first == 0) => Ok(rest.to_vec()),
        [0, ..] => Err(BadKey { wanted }),
        whole => Ok(whole.to_vec()),
    }
}

fn bytes_inner(input: &mut &[u8], wanted: &'static str) -> Result<Vec<u8>, BadKey> {
    let mut out = Vec::new();
    loop {
        match split::<1>(input, wanted)? {
            [0] => match split::<1>(input, wanted)? {
                [0] => return Ok(out),
                [1] => out.push(0),
                _ => return Err(BadKey { wanted }),
            },
            [byte] => out.push(byte),
        }
    }
}

macro_rules! byte_strings {
    ($($type:ty, $kind:expr, $name:literal, $as:expr, $from:expr;)*) => {$(
        impl AsKey for $type {
            fn put_last(&self, out: &mut Vec<u8>) {
                let bytes: &[u8] = $as(self);
                bytes.put_last(out);
            }
            fn put_inner(&self, out: &mut Vec<u8>) {
                let bytes: &[u8] = $as(self);
                bytes.put_inner(out);
            }
        }
        impl Key for $type {
            const KIND: KeyKind = $kind;

            fn take_last(input: &mut &[u8]) -> Result<Self, BadKey> {
                $from(bytes_last(input, $name)?).map_err(|_| BadKey { wanted: $name })
            }
            fn take_inner(input: &mut &[u8]) -> Result<Self, BadKey> {
                $from(bytes_inner(input, $name)?).map_err(|_| BadKey { wanted: $name })
            }
        }
    )*};
}

byte_strings! {
    String, KeyKind::Text, "string", String::as_bytes, String::from_utf8;
    Vec<u8>, KeyKind::Named("bytes"), "bytes", Vec::as_slice, Ok::<Vec<u8>, BadKey>;
    Bytes, KeyKind::Named("bytes"), "bytes", AsRef::as_ref, |bytes: Vec<u8>| Ok::<Bytes, BadKey>(bytes.into());
}

impl AsKey for str {
    fn put_last(&self, out: &mut Vec<u8>) {
        self.as_bytes().put_last(out);
    }

    fn put_inner(&self, out: &mut Vec<u8>) {
        self.as_bytes().put_inner(out);
    }
}

impl<Q: AsKey + ?Sized> AsKey for &Q {
    fn put_last(&self, out: &mut Vec<u8>) {
        (**self).put_last(out);
    }

    fn put_inner(&self, out: &mut Vec<u8>) {
        (**self).put_inner(out);
    }

    fn put_refs(&self, refs: &mut Vec<Oid>) {
        (**self).put_refs(refs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    pub(super) fn keeps_order<K: Key + Ord + Clone + Debug>(mut keys: Vec<K>) {
        keys.sort();
        keys.dedup();
        let encoded: Vec<Bytes> = keys.iter().map(|key| encode(key)).collect();
        for (key, bytes) in keys.iter().zip(&encoded) {
            assert!(!bytes.is_empty(), "{key:?}");
            assert_eq!(decode::<K>(bytes).as_ref(), Ok(key));
        }
        for (pair, keys) in encoded.windows(2).zip(keys.windows(2)) {
            assert!(pair[0] < pair[1], "{keys:?} {pair:?}");
        }
    }

    fn strings(dice: &mut fastrand::Rng) -> String {
        (0..dice.usize(0..5)).map(|_| ['\0', '\u{1}', 'a', 'b', 'ÿ'][dice.usize(0..5)]).collect()
    }

    #[test]
    fn the_order_of_bytes_is_the_order_of_values() {
        let seed = 11;
        println!("seed {seed}");
        let mut dice = fastrand::Rng::with_seed(seed);
        keeps_order((0..500).map(|_| dice.u64(..)).chain([0, 1, u64::MAX]).collect());
        keeps_order((0..500).map(|_| dice.i64(-300..300)).chain([i64::MIN, i64::MAX]).collect());
        keeps_order(vec![false, true]);
        keeps_order((0..2000).map(|_| strings(&mut dice)).collect());
        keeps_order((0..2000).map(|_| strings(&mut dice).into_bytes()).collect());
        keeps_order((0..2000).map(|_| (strings(&mut dice), dice.i8(-2..2), strings(&mut dice))).collect());
        keeps_order((0..2000).map(|_| ((strings(&mut dice), strings(&mut dice)), dice.u16(0..3))).collect());
    }

    #[test]
    fn strings_are_readable_and_have_prefixes() {
        assert_eq!(encode("word"), "word");
        assert_eq!(encode(&("word".to_owned(), 7u8)), &b"word\0\0\x07"[..]);
        assert_eq!(after_prefix(b"ab"), Some("ac".into()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some("b".into()));
        assert_eq!((after_prefix(b"\xff"), after_prefix(b"")), (None, None));
    }

    #[test]
    fn bytes_of_another_type_are_refused() {
        assert!(decode::<u64>(b"short").is_err() && decode::<u64>(b"much too long").is_err());
        assert!(decode::<String>(b"\xff\xfe").is_err() && decode::<String>(b"").is_err());
        assert!(decode::<String>(b"\0a").is_err(), "no key is written that way");
        assert!(decode::<(String, u8)>(b"open\x07").is_err());
    }
}
