//! Owns what people are shown of the records of the built-in classes: their values, not their bytes.
//!
//! The data of an application's own classes is the application's: it is shown as it is.

use crate::tame;
use zeolite_proto::resolvers::items::Item;
use zeolite_proto::resolvers::{bounded, class, counter, extreme, list, set, value};
use zeolite_proto::{Oid, Record};

/// Members of a list or a set that are shown.
const ITEMS_SHOWN: usize = 20;

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
            Some(named(&bytes, oid).unwrap_or_else(|| bytes.escape_ascii().to_string()))
        }
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use zeolite_proto::resolvers::{entry, items::BYTES_MAX};

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
            (Record::new("wiki.Page", 1, "x"), None),
            (Record::new(class::COUNTER, 1, "?"), None),
        ] {
            assert_eq!(told(&record).as_deref(), wanted, "{record:?}");
        }
        let shown = told(&set::record(&set(&many)).expect("small")).expect("a set");
        assert!(shown.ends_with("28, 29, and 10 more") && shown.len() < BYTES_MAX, "{shown}");
    }
}
