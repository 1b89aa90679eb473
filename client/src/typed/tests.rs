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
