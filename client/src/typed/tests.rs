//! Tests of encoding: references found, versions upgraded, wrong bytes refused with both names.

use super::*;
use crate::collections::Counter;
use serde::Deserialize;
use zeolite_proto::{Cell, Record};

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Page {
    title: String,
    children: Vec<Ref<Page>>,
    visits: Counter,
    hidden: u64,
}

impl Persistent for Page {
    const CLASS: &str = "Page";
    const VERSION: u32 = 2;

    fn refs(&self) -> Vec<Oid> {
        vec![Oid(self.hidden), Oid(1)]
    }

    fn upgrade(version: u32, data: &[u8]) -> Result<Page> {
        match version {
            1 => {
                let title = Page::old_shape(version, data)?;
                Ok(Page { title, children: vec![], visits: Counter::new(Oid(5)), hidden: 0 })
            }
            _ => Err(Page::no_upgrade(version)),
        }
    }
}

fn cell() -> Cell {
    Cell::object(Oid(9))
}

fn page() -> Page {
    let children = [3, 1, 3, 2].map(|oid| Ref::new(Oid(oid))).to_vec();
    Page { title: "Start".into(), children, visits: Counter::new(Oid(7)), hidden: 99 }
}

#[test]
fn references_are_found_wherever_they_are_in_the_value() {
    let record = encode_record(&page()).expect("encodes");
    let decoded = Record::decode(&record).expect("a record");
    assert_eq!((decoded.class.as_str(), decoded.version), ("Page", 2));
    assert_eq!(decoded.refs, [3, 1, 2, 7, 99].map(Oid));
    assert_eq!(decode_record::<Page>(&cell(), &record).expect("decodes"), page());
    assert!(found_outside_of_encoding(), "a reference that is serialized for something else is no reference");
}

fn found_outside_of_encoding() -> bool {
    let reference: Ref<Page> = Ref::new(Oid(1));
    let bytes = postcard::to_stdvec(&reference).expect("encodes");
    let record = Record::decode(&encode_record(&page()).expect("encodes")).expect("a record");
    bytes == [1] && record.refs.len() == 5
}

#[test]
fn older_versions_are_upgraded_and_unknown_ones_named() {
    let record = |version, data: Vec<u8>| Record::new("Page", version, data).encode().expect("encodes");
    let old = record(1, postcard::to_stdvec("Old").expect("encodes"));
    assert_eq!(decode_record::<Page>(&cell(), &old).expect("upgrades").title, "Old");
    let error = decode_record::<Page>(&cell(), &record(7, vec![])).expect_err("unknown version");
    assert!(matches!(&error, Error::NoUpgrade { found: 7, wanted: 2, .. }), "{error}");
    assert!(error.to_string().contains("\"Page\""), "{error}");
}

#[test]
fn what_is_not_of_the_class_or_not_whole_is_refused() {
    let other = Record::new("Book", 2, "x").encode().expect("encodes");
    let error = decode_record::<Page>(&cell(), &other).expect_err("wrong class").to_string();
    assert!(error.contains("Book") && error.contains("Page"), "{error}");
    let whole = encode_record(&page()).expect("encodes");
    for cut in 1..whole.len() {
        assert!(decode_record::<Page>(&cell(), &whole.slice(..cut)).is_err(), "{cut}");
    }
    let longer = [&whole[..], b"!"].concat().into();
    assert!(matches!(decode_record::<Page>(&cell(), &longer), Err(Error::Decode { version: 2, .. })));
}

#[test]
fn many_references_are_each_found_once() {
    let children: Vec<Ref<Page>> = (0..1000).chain(0..1000).map(|oid| Ref::new(Oid(oid))).collect();
    let record = encode_record(&Page { children, ..page() }).expect("encodes");
    let refs = Record::decode(&record).expect("a record").refs;
    assert_eq!(refs, (0..1000).map(Oid).collect::<Vec<_>>());
}

/// A page as former code had it, in postcard, and as it is now, in CBOR.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Note {
    text: String,
    of: Option<Ref<Page>>,
    marks: std::collections::BTreeMap<String, i64>,
}

impl Persistent for Note {
    const CLASS: &str = "Note";
    const VERSION: u32 = 3;
    const CODEC: Codec = Codec::Cbor;

    fn codec_of(version: u32) -> Codec {
        if version < 3 { Codec::Postcard } else { Codec::Cbor }
    }

    fn upgrade(version: u32, data: &[u8]) -> Result<Note> {
        let (text, of) = Note::old_shape(version, data)?;
        Ok(Note { text, of, marks: Default::default() })
    }
}

#[test]
fn cbor_describes_itself_finds_references_and_follows_on_postcard() {
    let note = Note { text: "é".into(), of: Some(Ref::new(Oid(300))), marks: [("a".to_owned(), -1)].into() };
    let encoded = encode_record(&note).expect("encodes");
    let record = Record::decode(&encoded).expect("a record");
    assert_eq!(record.refs, [Oid(300)]);
    let bytes = b"\xd9\xd9\xf7\xa3\x64text\x62\xc3\xa9\x62of\x19\x01\x2c\x65marks\xa1\x61a\x20";
    assert_eq!(record.data.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    assert_eq!(decode_record::<Note>(&cell(), &encoded).expect("decodes"), note);
    // Another program may write the fields in another order, and a map without its length. Texts have theirs.
    let other = b"\xd9\xd9\xf7\xbf\x65marks\xa0\x62of\xf6\x64text\x62xy\xff";
    let other = Record::new("Note", 3, other.to_vec()).encode().expect("encodes");
    let read: Note = decode_record(&cell(), &other).expect("decodes");
    assert_eq!((read.text.as_str(), read.of, read.marks.len()), ("xy", None, 0));
    let old = postcard::to_stdvec(&("old", Some(7u64))).expect("encodes");
    let old = Record::new("Note", 2, old).encode().expect("encodes");
    assert_eq!(decode_record::<Note>(&cell(), &old).expect("upgrades").of, Some(Ref::new(Oid(7))));
    for cut in 1..encoded.len() {
        assert!(decode_record::<Note>(&cell(), &encoded.slice(..cut)).is_err(), "{cut}");
    }
    let longer = [&encoded[..], b"!"].concat().into();
    assert!(matches!(decode_record::<Note>(&cell(), &longer), Err(Error::Decode { .. })));
    let untagged = Record::new("Note", 3, record.data.slice(3..)).encode().expect("encodes");
    assert!(decode_record::<Note>(&cell(), &untagged).is_err_and(|error| error.to_string().contains("d9 d9 f7")));
}
