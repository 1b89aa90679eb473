//! Owns what people and programs are shown of records: the values of the built-in classes, and of classes whose data is in CBOR; not their bytes.
//!
//! CBOR is known by its tag 55799 in front, and shown in its diagnostic notation (RFC 8949, 8) or as JSON. Any other data of an application's own classes
//! is the application's: it is shown as it is.

mod cbor;

use crate::tame;
use cbor::Cbor;
use serde_json::{Value, json};
use zeolite_proto::record::CBOR_TAG;
use zeolite_proto::resolvers::items::Item;
use zeolite_proto::resolvers::{bounded, class, counter, extreme, list, set, value};
use zeolite_proto::{Oid, Record};

/// Members of a list or a set that are shown.
const ITEMS_SHOWN: usize = 20;

/// Characters of a value in CBOR that are shown.
const CBOR_CHARS_SHOWN: usize = 400;

/// The value of a record; `None`: its class is none of the built-in ones that have one, or it cannot be read.
pub(crate) fn told(record: &Record) -> Option<String> {
    match record.class.as_str() {
        class::COUNTER => counter::value(record).ok().map(|value| value.to_string()),
        class::MIN | class::MAX => extreme::value(record).ok().map(|value| value.to_string()),
        class::BOUNDED => {
            let bounded::Bounded { value, low, high } = bounded::read(record).ok()?;
            Some(format!("{value} (of {low}..={high})"))
        }
        class::LIST => Some(items(list::items(record).ok()?.iter())),
        class::SET => Some(items(set::members(record).ok()?.iter())),
        class::ENTRY | class::UNIQUE | class::QUEUE_ITEM | class::LAST => {
            let bytes = value::read(record).ok()?;
            let [oid] = record.refs[..] else { return Some(bytes.escape_ascii().to_string()) };
            // A name in the root says of which class the object is.
            Some(
                named(&bytes, oid)
                    .or_else(|| reference(&bytes, oid))
                    .unwrap_or_else(|| bytes.escape_ascii().to_string()),
            )
        }
        _ => {
            let text = tame::value(&cbor(&record.data)?.to_string());
            let mut shown: String = text.chars().take(CBOR_CHARS_SHOWN).collect();
            if shown.len() < text.len() {
                shown += " …";
            }
            Some(shown)
        }
    }
}

/// The same for programs: whole, and numbers as numbers.
pub(crate) fn json(record: &Record) -> Option<Value> {
    match record.class.as_str() {
        class::COUNTER => counter::value(record).ok().map(Value::from),
        class::MIN | class::MAX => extreme::value(record).ok().map(Value::from),
        class::BOUNDED => {
            let bounded::Bounded { value, low, high } = bounded::read(record).ok()?;
            Some(json!({ "value": value, "low": low, "high": high }))
        }
        _ => cbor(&record.data).map(|value| value.json()),
    }
}

/// One whole value in CBOR.
fn cbor(data: &[u8]) -> Option<Cbor<'_>> {
    data.strip_prefix(&CBOR_TAG).and_then(Cbor::read)
}

fn items<'a>(all: impl ExactSizeIterator<Item = &'a Item>) -> String {
    let count = all.len();
    let one = |item: &Item| {
        let refs: String = item.refs.iter().map(|oid| format!(" ->{oid}")).collect();
        format!("{}{refs}", item.bytes.escape_ascii()).trim_start().to_owned()
    };
    let mut text = all.take(ITEMS_SHOWN).map(one).collect::<Vec<_>>().join(", ");
    if count > ITEMS_SHOWN {
        text += &format!(", and {} more", count - ITEMS_SHOWN);
    }
    if count == 0 { "(empty)".to_owned() } else { text }
}

/// What the client library writes for a name, as postcard does: the oid and the class.
fn named(bytes: &[u8], oid: Oid) -> Option<String> {
    let ((number, class), rest) = postcard::take_from_bytes::<(u64, &str)>(bytes).ok()?;
    (number == oid.0 && !class.is_empty() && rest.is_empty()).then(|| tame::value(class))
}

/// What a client library writes for a reference alone: the oid as a varint.
fn reference(bytes: &[u8], oid: Oid) -> Option<String> {
    let (number, rest) = postcard::take_from_bytes::<u64>(bytes).ok()?;
    (number == oid.0 && rest.is_empty()).then(|| format!("->{oid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::resolvers::{entry, items::BYTES_MAX};

    #[test]
    fn cbor_is_told_by_its_value_and_what_only_begins_like_it_is_not() {
        let of = |data: &[u8]| Record::new("wiki.Page", 1, data.to_vec());
        // {"title": "a\n", "n": -2}
        let map = b"\xd9\xd9\xf7\xa2\x65title\x62a\n\x61n\x21";
        assert_eq!(told(&of(map)).as_deref(), Some("{\"title\": \"a\\n\", \"n\": -2}"));
        assert_eq!(json(&of(map)), Some(json!({ "title": "a\n", "n": -2 })));
        let bytes = of(b"\xd9\xd9\xf7\x42\x01\xff");
        assert_eq!(told(&bytes).as_deref(), Some("h'01 ff'"));
        for cut in 0..map.len() {
            assert_eq!((told(&of(&map[..cut])), json(&of(&map[..cut]))), (None, None), "{cut}");
        }
        assert_eq!(told(&of(&[&map[..], b"!"].concat())), None, "more than one value");
        let rest = |rest: &[u8]| told(&of(&[&CBOR_TAG[..], rest].concat()));
        for stray in
            [&b"\xff"[..], b"\x81\xff", b"\xc1\xff", b"\xbf\x01\xff", b"\x82\x01\xff", b"\xa1\x01\xff", b"\xc1"]
        {
            assert_eq!(rest(stray), None, "{stray:x?}");
        }
        for whole in [
            &b"\x9f\x01\xff"[..],
            b"\xbf\x01\x02\xff",
            b"\xc1\x01",
            b"\x80",
            b"\x5f\x41\x01\xff",
            b"\xc1\x9f\xc1\x80\xff",
        ] {
            assert!(rest(whole).is_some(), "{whole:x?}");
        }
        let nested = [&CBOR_TAG[..], &[0x81; 200_000], &[0]].concat();
        assert!(told(&of(&nested)).is_some_and(|text| text.chars().count() <= CBOR_CHARS_SHOWN + 2), "any depth");
        assert_eq!(json(&counter::record(7)), Some(json!(7)));
    }

    #[test]
    fn built_in_classes_are_told_by_their_values() {
        let set = |members: &[&str]| members.iter().map(|member| Item::new(member.to_string())).collect();
        let members: Vec<String> = (10..40).map(|n| n.to_string()).collect();
        let many = members.iter().map(String::as_str).collect::<Vec<_>>();
        let bounded = bounded::record(bounded::Bounded { value: 5, low: 0, high: 9 }).expect("within");
        for (record, wanted) in [
            (counter::record(180), Some("180")),
            (bounded, Some("5 (of 0..=9)")),
            (set::record(&set(&["b", "a\n"])).expect("small"), Some("a\\n, b")),
            (set::record(&set(&[])).expect("small"), Some("(empty)")),
            (entry::record(b"x\0", vec![]), Some("x\\x00")),
            (entry::record(b"\x99\t\x0fzeolite.Counter", vec![Oid(0x499)]), Some("zeolite.Counter")),
            (entry::record(b"\x98\t\x0fzeolite.Counter", vec![Oid(0x499)]), Some("\\x98\\t\\x0fzeolite.Counter")),
            (entry::record(b"h", vec![Oid(0x68)]), Some("->68")),
            (entry::record(b"h", vec![Oid(0x69)]), Some("h")),
            (Record::new("wiki.Page", 1, "x"), None),
            (Record::new(class::COUNTER, 1, "?"), None),
        ] {
            assert_eq!(told(&record).as_deref(), wanted, "{record:?}");
        }
        let shown = told(&set::record(&set(&many)).expect("small")).expect("a set");
        assert!(shown.ends_with("28, 29, and 10 more") && shown.len() < BYTES_MAX, "{shown}");
    }
}
