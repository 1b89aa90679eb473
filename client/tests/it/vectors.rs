//! The bytes that other languages must make and read: `tests/vectors/*.json`, held against what this library and the server do. The
//! Python reference (`tests/vectors/wire.py`) reads the same files. `ZEOLITE_BLESS=1` writes them.
//!
//! Vectors are added, never changed: stored data has these bytes.

use crate::support::World;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use uuid::Uuid;
use zeolite_client::collections::{Counter, Index, List, Map, Set, SmallSet, UniqueIndex};
use zeolite_client::keys::Key;
use zeolite_client::{Cell, Codec, Entry, Oid, Persistent, Range, Record, Ref, Tx, keys};
use zeolite_proto::interest::{self, Held, SIZES};
use zeolite_proto::resolvers::items::Item;
use zeolite_proto::resolvers::{bounded, class, counter, extreme, last, list, queue, set, unique};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file is what is so.
#[track_caller]
fn held(file: &str, now: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(file);
    let text = format!("{now:#}\n");
    if std::env::var_os("ZEOLITE_BLESS").is_some() {
        std::fs::write(&path, text).expect("written");
        return;
    }
    let kept = std::fs::read_to_string(&path).expect("the vectors are there");
    assert_eq!(kept, text, "{file} is not what is so: other programs would misread what is stored");
}

/// A key of one type, and as the part of a tuple.
fn key<K: Key + std::fmt::Debug + PartialEq>(types: Value, value: Value, key: &K) -> Value {
    let (last, mut inner) = (keys::encode(key), Vec::new());
    key.put_inner(&mut inner);
    assert_eq!(keys::decode::<K>(&last).as_ref(), Ok(key));
    json!({ "type": types, "value": value, "last": hex(&last), "inner": hex(&inner) })
}

#[test]
fn keys_are_those_of_the_vectors() {
    let text = |text: &str| key(json!("str"), json!(text), &text.to_owned());
    let bytes = |bytes: &[u8]| key(json!("bytes"), json!(hex(bytes)), &bytes.to_vec());
    let all = vec![
        key(json!("u8"), json!(7), &7u8),
        key(json!("u16"), json!(300), &300u16),
        key(json!("u32"), json!(70_000), &70_000u32),
        key(json!("u64"), json!(u64::MAX), &u64::MAX),
        key(json!("i8"), json!(-1), &-1i8),
        key(json!("i32"), json!(-70_000), &-70_000i32),
        key(json!("i64"), json!(0), &0i64),
        key(json!("i64"), json!(i64::MIN), &i64::MIN),
        key(json!("bool"), json!(true), &true),
        key(json!("oid"), json!(0x499), &Oid(0x499)),
        text("word"),
        text(""),
        text("\0\u{1}"),
        text("é"),
        bytes(b"\xff\x00"),
        bytes(b"\x00"),
        key(json!(["str", "u8"]), json!(["word", 7]), &("word".to_owned(), 7u8)),
        key(json!(["str", "str"]), json!(["a\0b", ""]), &("a\0b".to_owned(), String::new())),
        key(json!(["str", "i64", "oid"]), json!(["", -2, 5]), &(String::new(), -2i64, Oid(5))),
        key(json!("char"), json!("é"), &'é'),
        key(json!("f64"), json!(-1.5), &-1.5f64),
        key(json!("f64"), json!(0.0), &0.0f64),
        key(json!("f64"), json!(-0.0), &-0.0f64),
        key(json!("f32"), json!(2.5), &2.5f32),
        key(json!("fixed"), json!("00ff"), &[0u8, 0xff]),
        key(json!("option<str>"), json!(null), &None::<String>),
        key(json!("option<str>"), json!(""), &Some(String::new())),
        key(json!("option<u16>"), json!(300), &Some(300u16)),
        key(json!(["option<str>", "u8"]), json!(["a", 7]), &(Some("a".to_owned()), 7u8)),
        key(json!("time"), json!([-2, 500_000_000]), &Timestamp::from_millisecond(-1500).expect("a time")),
        key(json!("day"), json!([2026, 11, 30]), &Date::new(2026, 11, 30).expect("a day")),
        key(json!("fixed"), json!(format!("{:032x}", 5)), &Uuid::from_u128(5)),
    ];
    held("keys.json", &json!(all));
}

/// A value of the data in postcard.
fn value(types: &str, shown: Value, value: &impl Serialize) -> Value {
    json!({ "type": types, "value": shown, "encoded": hex(&postcard::to_stdvec(value).expect("encodes")) })
}

#[test]
fn values_are_those_of_the_vectors() {
    let all = vec![
        value("u64", json!(0), &0u64),
        value("u64", json!(300), &300u64),
        value("u64", json!(u64::MAX), &u64::MAX),
        value("u8", json!(200), &200u8),
        value("i64", json!(-1), &-1i64),
        value("i64", json!(64), &64i64),
        value("i64", json!(i64::MIN), &i64::MIN),
        value("bool", json!(true), &true),
        value("f64", json!(-1.5), &-1.5f64),
        value("str", json!("é"), &"é"),
        value("option<str>", json!(null), &None::<&str>),
        value("option<str>", json!("x"), &Some("x")),
        value("list<u64>", json!([1, 128]), &[1u64, 128][..].to_vec()),
        value("tuple<u64,str>", json!([5, "zeolite.Counter"]), &(5u64, "zeolite.Counter")),
    ];
    held("values.json", &json!(all));
}

fn record(name: &str, record: &Record) -> Value {
    let encoded = record.encode().expect("encodes");
    assert_eq!(Record::decode(&encoded).as_ref(), Ok(record));
    let refs: Vec<u64> = record.refs.iter().map(|oid| oid.0).collect();
    let blobs: Vec<String> = record.blobs.iter().map(|blob| hex(&blob.0)).collect();
    json!({ "name": name, "class": record.class, "version": record.version, "refs": refs, "blobs": blobs,
            "data": hex(&record.data), "encoded": hex(&encoded) })
}

#[derive(Serialize, serde::Deserialize)]
struct Page {
    title: String,
    views: u64,
    parent: Option<Ref<Page>>,
}

impl Persistent for Page {
    const CLASS: &str = "wiki.Page";
    const VERSION: u32 = 2;
    const CODEC: Codec = Codec::Cbor;
}

fn page() -> Page {
    Page { title: "Start".into(), views: 300, parent: Some(Ref::new(Oid(0x499))) }
}

#[test]
fn records_are_those_of_the_vectors() {
    let cbor = zeolite_client::typed::encode_record(&page()).expect("encodes");
    let cbor = Record::decode(&cbor).expect("a record");
    let blob = "0f".repeat(16).parse().expect("an id");
    let set_of = |members: &[&str]| members.iter().map(|member| Item::new(member.to_string())).collect();
    let all = vec![
        record("without anything", &Record::new("", 0, "")),
        record("a class, its version, data", &Record::new("wiki.Page", 3, "data")),
        record("references", &Record { refs: vec![Oid(1), Oid(1 << 40)], ..Record::new("wiki.Page", 1, "x") }),
        record("a blob", &Record { blobs: vec![blob], refs: vec![Oid(7)], ..Record::new("wiki.File", 1, "x") }),
        record("a page in CBOR, whose parent is 0x499", &cbor),
        record("a counter at -5", &counter::record(-5)),
        record("a maximum of 9", &extreme::max_record(9)),
        record("0 to 9, at 5", &bounded::record(bounded::Bounded { value: 5, low: 0, high: 9 }).expect("within")),
        record("a register", &last::record(b"v", vec![Oid(3)])),
        record("a set of a and b", &set::record(&set_of(&["b", "a"])).expect("small")),
        record("a list of y and x", &list::record(&[Item::new("y"), Item::new("x")]).expect("small")),
    ];
    held("records.json", &json!(all));
}

#[test]
fn operations_are_those_of_the_vectors() {
    let operation = |name: &str, class: &str, operation: &Bytes| json!({ "name": name, "class": class, "operation": hex(operation) });
    let referring = Item { bytes: "m".into(), refs: vec![Oid(4)] };
    let all = vec![
        operation("add -2 to a counter", class::COUNTER, &counter::add(-2)),
        operation("offer 7", class::MAX, &extreme::offer(7)),
        operation("add 3 within bounds", class::BOUNDED, &bounded::add(3)),
        operation("write a register", class::LAST, &last::put(&last::record(b"v", vec![])).expect("small")),
        operation("take a unique key", class::UNIQUE, &unique::insert(&unique::record(b"v", vec![])).expect("small")),
        operation("take an item of a queue", class::QUEUE_ITEM, &queue::take()),
        operation("append y to a list", class::LIST, &list::append(&[Item::new("y")]).expect("small")),
        operation("add m, which refers to 4, to a set", class::SET, &set::add(referring).expect("small")),
        operation("remove a from a set", class::SET, &set::remove(Item::new("a")).expect("small")),
    ];
    held("operations.json", &json!(all));
}

/// Makes one of each, under names in the root.
async fn fill(tx: Tx) -> zeolite_client::Result<()> {
    let page = tx.create(&page()).await?;
    tx.set_root("page", &page).await?;
    let titles: Map<String, String> = tx.root_or_create("titles").await?;
    titles.insert(&tx, "start", &"Start".to_owned())?;
    let scores: Map<(String, i64), u64> = tx.root_or_create("scores").await?;
    scores.insert(&tx, &("a".to_owned(), -1), &300)?;
    let members: Set<u64> = tx.root_or_create("members").await?;
    members.insert(&tx, &7)?;
    let by_title: Index<String, Page> = tx.root_or_create("by_title").await?;
    by_title.insert(&tx, "Start", page)?;
    let unique: UniqueIndex<String, Ref<Page>> = tx.root_or_create("unique").await?;
    assert!(unique.insert(&tx, "start", &page).await?.is_new());
    let tags: SmallSet<String> = tx.root_or_create("tags").await?;
    tags.insert(&tx, &"red".to_owned())?;
    let visits: Counter = tx.root_or_create("visits").await?;
    visits.add(&tx, 3)?;
    let trail: List<u64> = tx.root_or_create("trail").await?;
    trail.push(&tx, &5)
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_of_collections_are_those_of_the_vectors() {
    let world = World::start_bare(|_| {}).await;
    let db = world.db().await;
    db.run(fill).await.expect("commits");
    let view = db.now();
    let mut roots = view.roots();
    let mut all = Vec::new();
    let told = |name: &str, cell: &Cell, record: &Bytes| json!({ "of": name, "oid": cell.oid.0, "key": hex(&cell.key), "record": hex(record) });
    while let Some((name, named)) = roots.next().await.expect("reads") {
        for cell in [Cell::entry(Oid::ROOT, keys::encode(name.as_str())), Cell::object(named.oid())] {
            let record = view.get_encoded(&cell).await.expect("reads").expect("is there");
            all.push(told(if cell.oid == Oid::ROOT { "the root" } else { &name }, &cell, &record));
        }
        let mut entries = view.scan(named.oid(), Range::all());
        while let Some(Entry { key, record, .. }) = entries.next().await.expect("reads") {
            // A key that the server has completed has the commit's time in it.
            let key = if name == "trail" { Bytes::new() } else { key };
            all.push(told(&format!("an entry of {name}"), &Cell { oid: named.oid(), key }, &record));
        }
    }
    held("cells.json", &json!(all));
}

#[test]
fn rows_of_interest_are_those_of_the_vectors() {
    let cells = [
        Cell::object(Oid(0)),
        Cell::object(Oid(20)),
        Cell::object(Oid(u64::MAX)),
        Cell::entry(Oid(0), "by_title"),
        Cell::entry(Oid(20), [0, 255, 10].to_vec()),
        Cell::entry(Oid(20), "Start".repeat(20)),
    ];
    let mut noted = Held::default();
    let of = |cell: &Cell| {
        noted.note(cell);
        let hash = interest::hash(cell);
        let rows: Vec<Value> =
            SIZES.map(|size| json!({ "rows_log2": size, "rows": interest::rows(hash, size) })).to_vec();
        json!({ "oid": cell.oid.0, "key": hex(&cell.key), "hash": format!("{hash:016x}"), "rows": rows })
    };
    let all: Vec<Value> = cells.iter().map(of).collect();
    let told = noted.told().expect("six cells");
    let set: Vec<usize> = told.set().collect();
    let held_now = json!({ "rows_log2": told.rows_log2(), "cells": told.cells(), "set": set });
    held("interest.json", &json!({ "cells": all, "held": held_now }));
}
