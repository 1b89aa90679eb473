//! Owns a value in CBOR (RFC 8949): for people in its diagnostic notation, for programs as JSON.
//!
//! JSON has no words for some of it. What it has none for is an object with one name that begins with `$`:
//!
//! ```text
//!   bytes               {"$bytes": "AP8="}                    base64
//!   a tag               {"$tag": 1, "value": 1363896240}
//!   a map               {"$map": [[1, "one"], ...]}           where keys are no texts, or come twice, or one begins with $
//!   anything else       {"$cbor": "NaN"}                      in diagnostic notation: NaN, Infinity, undefined, numbers beyond 64 bits
//! ```
//! A value is one whole value, or it is none. What is nested deeper than [`DEPTH_MAX`] is told in diagnostic notation in both.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minicbor::data::{Token, Type};
use minicbor::decode::{Decoder, Error, Tokenizer};
use serde_json::{Map, Value, json};
use std::fmt;

/// Containers and tags within each other that are gone through one by one.
const DEPTH_MAX: usize = 100;

/// One value.
pub(super) enum Cbor<'b> {
    /// Deeper than that.
    Deep(&'b [u8]),
    Null,
    Bool(bool),
    Int(i128),
    Half(f32),
    Float(f64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Cbor<'b>>),
    Map(Vec<(Cbor<'b>, Cbor<'b>)>),
    Tag(u64, Box<Cbor<'b>>),
    Undefined,
    Simple(u8),
}

impl<'b> Cbor<'b> {
    /// What these bytes are; none: no value, or more than one.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Cbor<'b>> {
        if !is_one_value(bytes) {
            return None;
        }
        match read(&mut Decoder::new(bytes), 0) {
            Ok(value) => Some(value.unwrap_or(Cbor::Deep(bytes))),
            Err(_) => None,
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        match self {
            Cbor::Null => Value::Null,
            Cbor::Bool(value) => Value::from(*value),
            Cbor::Text(text) => Value::from(text.as_str()),
            Cbor::Bytes(bytes) => json!({ "$bytes": STANDARD.encode(bytes) }),
            Cbor::Array(values) => values.iter().map(Cbor::json).collect(),
            Cbor::Map(pairs) => object(pairs).map_or_else(|| json!({ "$map": pairs_json(pairs) }), Value::Object),
            Cbor::Tag(tag, value) => json!({ "$tag": tag, "value": value.json() }),
            _ => self.number().unwrap_or_else(|| json!({ "$cbor": self.to_string() })),
        }
    }

    /// One that JSON has.
    fn number(&self) -> Option<Value> {
        let number = match *self {
            Cbor::Int(value) => match i64::try_from(value) {
                Ok(value) => value.into(),
                Err(_) => u64::try_from(value).ok()?.into(),
            },
            Cbor::Half(value) => serde_json::Number::from_f64(value.into())?,
            Cbor::Float(value) => serde_json::Number::from_f64(value)?,
            _ => return None,
        };
        Some(Value::Number(number))
    }
}

/// The value, or none where it is too deep.
fn read<'b>(from: &mut Decoder<'b>, depth: usize) -> Result<Option<Cbor<'b>>, Error> {
    if depth > DEPTH_MAX {
        return Ok(None);
    }
    Ok(Some(match from.datatype()? {
        Type::Bool => Cbor::Bool(from.bool()?),
        Type::Null => from.null().map(|()| Cbor::Null)?,
        Type::Undefined => from.undefined().map(|()| Cbor::Undefined)?,
        Type::F16 => Cbor::Half(from.f16()?),
        Type::F32 => Cbor::Half(from.f32()?),
        Type::F64 => Cbor::Float(from.f64()?),
        Type::Simple => Cbor::Simple(from.simple()?),
        Type::Bytes | Type::BytesIndef => Cbor::Bytes(from.bytes_iter()?.collect::<Result<Vec<_>, _>>()?.concat()),
        Type::String | Type::StringIndef => Cbor::Text(from.str_iter()?.collect::<Result<Vec<_>, _>>()?.concat()),
        Type::Array | Type::ArrayIndef => {
            let (count, mut values) = (from.array()?, Vec::new());
            while goes_on(from, count, values.len())? {
                let Some(value) = read(from, depth + 1)? else { return Ok(None) };
                values.push(value);
            }
            Cbor::Array(values)
        }
        Type::Map | Type::MapIndef => {
            let (count, mut pairs) = (from.map()?, Vec::new());
            while goes_on(from, count, pairs.len())? {
                let (Some(key), Some(value)) = (read(from, depth + 1)?, read(from, depth + 1)?) else {
                    return Ok(None);
                };
                pairs.push((key, value));
            }
            Cbor::Map(pairs)
        }
        Type::Tag => {
            let tag = from.tag()?.as_u64();
            let Some(value) = read(from, depth + 1)? else { return Ok(None) };
            Cbor::Tag(tag, Box::new(value))
        }
        _ => Cbor::Int(from.int()?.into()),
    }))
}

/// Whether a container has more, of a number that was told or up to a break, which is taken.
fn goes_on(from: &mut Decoder<'_>, count: Option<u64>, has: usize) -> Result<bool, Error> {
    match count {
        Some(count) => Ok((has as u64) < count),
        None if from.datatype()? == Type::Break => from.skip().map(|()| false),
        None => Ok(true),
    }
}

/// A map that JSON has.
fn object(pairs: &[(Cbor<'_>, Cbor<'_>)]) -> Option<Map<String, Value>> {
    let mut object = Map::new();
    for (key, value) in pairs {
        let Cbor::Text(key) = key else { return None };
        if key.starts_with('$') || object.insert(key.clone(), value.json()).is_some() {
            return None;
        }
    }
    Some(object)
}

fn pairs_json(pairs: &[(Cbor<'_>, Cbor<'_>)]) -> Value {
    pairs.iter().map(|(key, value)| json!([key.json(), value.json()])).collect()
}

impl fmt::Display for Cbor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cbor::Deep(bytes) => minicbor::display(bytes).fmt(f),
            Cbor::Null => f.write_str("null"),
            Cbor::Bool(value) => value.fmt(f),
            Cbor::Int(value) => value.fmt(f),
            // With a point, which tells them from integers, and as short as they can be read back.
            Cbor::Half(value) if value.is_finite() => write!(f, "{value:?}"),
            Cbor::Float(value) if value.is_finite() => write!(f, "{value:?}"),
            Cbor::Half(value) => not_finite((*value).into(), f),
            Cbor::Float(value) => not_finite(*value, f),
            Cbor::Bytes(bytes) => {
                let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(f, "h'{}'", hex.join(" "))
            }
            // Whole, and in quotes that end it.
            Cbor::Text(text) => Value::from(text.as_str()).fmt(f),
            Cbor::Array(values) => {
                f.write_str("[")?;
                separated(values, f, |value, f| value.fmt(f))?;
                f.write_str("]")
            }
            Cbor::Map(pairs) => {
                f.write_str("{")?;
                separated(pairs, f, |(key, value), f| write!(f, "{key}: {value}"))?;
                f.write_str("}")
            }
            Cbor::Tag(tag, value) => write!(f, "{tag}({value})"),
            Cbor::Undefined => f.write_str("undefined"),
            Cbor::Simple(value) => write!(f, "simple({value})"),
        }
    }
}

fn not_finite(value: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(match value {
        _ if value.is_nan() => "NaN",
        f64::INFINITY => "Infinity",
        _ => "-Infinity",
    })
}

fn separated<T>(
    all: &[T],
    f: &mut fmt::Formatter<'_>,
    one: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (n, value) in all.iter().enumerate() {
        if n > 0 {
            f.write_str(", ")?;
        }
        one(value, f)?;
    }
    Ok(())
}

/// Whether these bytes are one whole value. A break counts where something of indefinite length ends, and nowhere else (RFC 8949, 3.2.1).
fn is_one_value(bytes: &[u8]) -> bool {
    let mut tokens = Tokenizer::new(bytes);
    // What has begun: the values that it wants still; of indefinite length: how many it has, and whether it wants pairs.
    enum Open {
        Definite(u64),
        Indefinite { has: u64, pairs: bool },
    }
    let mut open = vec![Open::Definite(1)];
    loop {
        while let Some(Open::Definite(0)) = open.last() {
            open.pop();
        }
        let Some(innermost) = open.last_mut() else { return tokens.next().is_none() };
        let Some(Ok(token)) = tokens.next() else { return false };
        match (&token, innermost) {
            (Token::Break, Open::Indefinite { has, pairs }) if !*pairs || has.is_multiple_of(2) => {
                open.pop();
                continue;
            }
            (Token::Break, _) => return false,
            (_, Open::Definite(wants)) => *wants -= 1,
            (_, Open::Indefinite { has, .. }) => *has += 1,
        }
        match token {
            Token::Tag(_) => open.push(Open::Definite(1)),
            Token::Array(length) => open.push(Open::Definite(length)),
            Token::Map(length) => match length.checked_mul(2) {
                Some(values) => open.push(Open::Definite(values)),
                None => return false,
            },
            Token::BeginMap => open.push(Open::Indefinite { has: 0, pairs: true }),
            Token::BeginArray | Token::BeginBytes | Token::BeginString => {
                open.push(Open::Indefinite { has: 0, pairs: false });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Cbor<'_> {
        Cbor::read(bytes).unwrap_or_else(|| panic!("{bytes:x?} is a value"))
    }

    #[test]
    fn each_kind_has_words_and_json() {
        for (bytes, words, wanted) in [
            (&b"\xf9\x40\x00"[..], "2.0", json!(2.0)),
            (b"\xfb\x40\x00\x00\x00\x00\x00\x00\x00", "2.0", json!(2.0)),
            (b"\xfa\x3d\xcc\xcc\xcd", "0.1", json!(f64::from(0.1f32))),
            (b"\xfb\x7e\x37\xe4\x3c\x88\x00\x75\x9c", "1e300", json!(1e300)),
            (b"\xf9\x7e\x00", "NaN", json!({ "$cbor": "NaN" })),
            (b"\xfb\xff\xf0\x00\x00\x00\x00\x00\x00", "-Infinity", json!({ "$cbor": "-Infinity" })),
            (b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615", json!(u64::MAX)),
            (
                b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
                "-18446744073709551616",
                json!({ "$cbor": "-18446744073709551616" }),
            ),
            (b"\x42\x00\xff", "h'00 ff'", json!({ "$bytes": "AP8=" })),
            (b"\x5f\x41\x00\x41\xff\xff", "h'00 ff'", json!({ "$bytes": "AP8=" })),
            (b"\x64a\"\n\\", "\"a\\\"\\n\\\\\"", json!("a\"\n\\")),
            (b"\x7f\x61a\x61b\xff", "\"ab\"", json!("ab")),
            (b"\x83\xf6\xf5\xf7", "[null, true, undefined]", json!([null, true, { "$cbor": "undefined" }])),
            (b"\x9f\x01\x20\xff", "[1, -1]", json!([1, -1])),
            (b"\xf8\x63", "simple(99)", json!({ "$cbor": "simple(99)" })),
            (b"\xc1\x0a", "1(10)", json!({ "$tag": 1, "value": 10 })),
            (b"\xa1\x61a\x01", "{\"a\": 1}", json!({ "a": 1 })),
            (b"\xbf\x01\x61a\xff", "{1: \"a\"}", json!({ "$map": [[1, "a"]] })),
            (b"\xa1\x62$a\x01", "{\"$a\": 1}", json!({ "$map": [["$a", 1]] })),
            (b"\xa2\x61a\x01\x61a\x02", "{\"a\": 1, \"a\": 2}", json!({ "$map": [["a", 1], ["a", 2]] })),
        ] {
            let value = of(bytes);
            assert_eq!((value.to_string().as_str(), value.json()), (words, wanted), "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_told_all_the_same() {
        let nested = |depth: usize| [&vec![0x81; depth][..], &[7]].concat();
        let (flat, deep) = (nested(DEPTH_MAX), nested(DEPTH_MAX + 1));
        assert!(of(&flat).json().is_array());
        let told = of(&deep).json();
        assert!(told["$cbor"].as_str().is_some_and(|text| text.starts_with("[[") && text.contains('7')), "{told}");
        // As text a program may be given it is as deep as it likes.
        assert!(of(&nested(200_000)).to_string().starts_with("[["));
    }
}
