//! Owns the kinds of keys and values that BTrees' families have, and what C makes of a value that is loaded into one.
//!
//! A state may say `True` where a key is an integer, or 0.1 where a value is a C float: loading turns them into 1 and into the nearest
//! float of 32 bits, and so does this. What does not fit is an error there, and left to the client here.

use super::Node;
use crate::order;
use crate::plain::{Plain, left};
use std::cmp::Ordering;
use zeolite_proto::resolver::Unresolved;

/// The families, by the beginning of their modules' names.
pub(super) const FAMILIES: [&str; 22] = [
    "OO", "OI", "OU", "OL", "OQ", "IO", "II", "IU", "IF", "UO", "UI", "UU", "UF", "LO", "LL", "LQ", "LF", "QO", "QL",
    "QQ", "QF", "fs",
];

/// A kind of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyKind {
    Object,
    Int { bits: u32, signed: bool },
    TwoBytes,
}

/// A kind of values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ValueKind {
    Object,
    Int { bits: u32, signed: bool },
    Float,
    SixBytes,
}

/// Keys and values of a family.
pub(super) fn of(family: &str) -> (KeyKind, ValueKind) {
    let int = |letter| match letter {
        b'I' => Some((32, true)),
        b'L' => Some((64, true)),
        b'U' => Some((32, false)),
        b'Q' => Some((64, false)),
        _ => None,
    };
    let letters = family.as_bytes();
    let key = match (letters[0], int(letters[0])) {
        (_, Some((bits, signed))) => KeyKind::Int { bits, signed },
        (b'f', _) => KeyKind::TwoBytes,
        _ => KeyKind::Object,
    };
    let value = match (letters[1], int(letters[1])) {
        (_, Some((bits, signed))) => ValueKind::Int { bits, signed },
        (b'F', _) => ValueKind::Float,
        (b's', _) => ValueKind::SixBytes,
        _ => ValueKind::Object,
    };
    (key, value)
}

impl KeyKind {
    /// The key as it is after loading.
    pub(crate) fn loaded<'a>(self, key: Plain<'a>) -> Result<Plain<'a>, Unresolved> {
        match self {
            KeyKind::Object => Ok(key),
            KeyKind::Int { bits, signed } => int(key, bits, signed),
            KeyKind::TwoBytes => bytes(key, 2),
        }
    }
}

impl ValueKind {
    fn loaded<'a>(self, value: Plain<'a>) -> Result<Plain<'a>, Unresolved> {
        match self {
            ValueKind::Object => Ok(value),
            ValueKind::Int { bits, signed } => int(value, bits, signed),
            ValueKind::Float => float(value),
            ValueKind::SixBytes => bytes(value, 6),
        }
    }
}

fn int(value: Plain<'_>, bits: u32, signed: bool) -> Result<Plain<'_>, Unresolved> {
    let int = match value {
        Plain::Bool(it) => it.into(),
        Plain::Int(it) => it,
        other => return Err(left(format!("{other} in the place of an integer"))),
    };
    let (least, most) = match signed {
        true => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        false => (0, (1i128 << bits) - 1),
    };
    match (least..=most).contains(&int) {
        true => Ok(Plain::Int(int)),
        false => Err(left(format!("{int} does not fit into {bits} bits"))),
    }
}

fn float(value: Plain<'_>) -> Result<Plain<'_>, Unresolved> {
    let float = match value {
        Plain::Float(it) => it as f32,
        Plain::Bool(it) => f32::from(u8::from(it)),
        Plain::Int(it) => i64::try_from(it).map_err(|_| left(format!("{it} in the place of a float")))? as f32,
        other => return Err(left(format!("{other} in the place of a float"))),
    };
    Ok(Plain::Float(float.into()))
}

fn bytes(value: Plain<'_>, len: usize) -> Result<Plain<'_>, Unresolved> {
    match value {
        Plain::Bytes(it) if it.len() == len => Ok(Plain::Bytes(it)),
        other => Err(left(format!("{other} in the place of {len} bytes"))),
    }
}

impl Node {
    pub(crate) fn loaded_key<'a>(&self, key: Plain<'a>) -> Result<Plain<'a>, Unresolved> {
        self.key.loaded(key)
    }

    pub(super) fn loaded_value<'a>(&self, value: Plain<'a>) -> Result<Plain<'a>, Unresolved> {
        self.value.map_or_else(|| Ok(Plain::None), |kind| kind.loaded(value))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.value.is_none()
    }

    pub(crate) fn is_tree(&self) -> bool {
        self.is_tree
    }

    /// Whether nodes of this class have leaves of that one.
    pub(crate) fn is_above(&self, leaf: &Node) -> bool {
        *leaf == Node { is_tree: false, ..*self } && self.is_tree
    }

    /// The order of two loaded keys.
    pub(crate) fn compare_keys(&self, a: &Plain<'_>, b: &Plain<'_>) -> Result<Ordering, Unresolved> {
        order::compare(a, b)
    }

    /// Whether two loaded values are the same to C, which asks for their order first. To it a float that is no number is neither less nor
    /// greater than any, and so the same as all.
    pub(super) fn same_values(&self, a: &Plain<'_>, b: &Plain<'_>) -> Result<bool, Unresolved> {
        match (self.value, a, b) {
            (None, ..) => Ok(true),
            (Some(ValueKind::Float), Plain::Float(a), Plain::Float(b)) if a.is_nan() || b.is_nan() => Ok(true),
            _ => Ok(order::compare(a, b)?.is_eq()),
        }
    }
}
