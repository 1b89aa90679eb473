//! The derives: chains of versions over records as former programs have written them, and structs as keys.

use crate::support::{World, within};
use serde::{Deserialize, Serialize};
use zeolite_client::collections::Map;
use zeolite_client::typed::{decode_record, encode_record};
use zeolite_client::{Cell, Codec, Error, Handle, Key, Oid, Persistent, Record, Ref, keys};

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Page")]
struct PageV1 {
    title: String,
}

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Page", version = 2, from = PageV1, codec = "cbor")]
struct PageV2 {
    title: String,
    views: u64,
}

impl From<PageV1> for PageV2 {
    fn from(old: PageV1) -> PageV2 {
        PageV2 { title: old.title, views: 1 }
    }
}

// Version 3 was never given out.
#[derive(Serialize, Deserialize, Persistent, PartialEq, Debug)]
#[persistent(class = "wiki.Page", version = 4, from = PageV2, shape = "77648baf")]
struct Page {
    title: String,
    views: u64,
    parent: Option<Ref<Page>>,
}

impl From<PageV2> for Page {
    fn from(old: PageV2) -> Page {
        Page { title: old.title, views: old.views + 10, parent: None }
    }
}

fn page(views: u64) -> Page {
    Page { title: "Start".into(), views, parent: None }
}

fn cell() -> Cell {
    Cell::object(Oid(9))
}

#[test]
fn each_version_of_a_chain_becomes_the_type_as_it_is_now() {
    let read = |record: &bytes::Bytes| decode_record::<Page>(&cell(), record).expect("decodes");
    let title = || "Start".to_owned();
    assert_eq!(read(&encode_record(&PageV1 { title: title() }).expect("encodes")), page(11));
    assert_eq!(read(&encode_record(&PageV2 { title: title(), views: 5 }).expect("encodes")), page(15));
    assert_eq!(read(&encode_record(&page(7)).expect("encodes")), page(7));
    let codecs = [1, 2, 4].map(Page::codec_of);
    assert_eq!(codecs, [Codec::Postcard, Codec::Cbor, Codec::Postcard]);
    assert_eq!((Page::CLASS, Page::VERSION, PageV1::VERSION), ("wiki.Page", 4, 1));
}

#[test]
fn a_version_that_the_chain_has_not_is_refused_by_the_newest_type() {
    for version in [0, 3, 5] {
        let record = Record::new("wiki.Page", version, "x").encode().expect("encodes");
        match decode_record::<Page>(&cell(), &record) {
            Err(Error::NoUpgrade { class, found, wanted }) => {
                assert_eq!((class.as_str(), found, wanted), ("wiki.Page", version, 4));
            }
            other => panic!("version {version}: {other:?}"),
        }
    }
    let damaged = Record::new("wiki.Page", 1, &b"\xff"[..]).encode().expect("encodes");
    assert!(matches!(decode_record::<Page>(&cell(), &damaged), Err(Error::Decode { version: 1, .. })));
}

#[derive(Key, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    shelf: String,
    row: Option<i16>,
    page: Ref<Page>,
}

#[derive(Key, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Login<T>(T);

#[tokio::test(flavor = "multi_thread")]
async fn structs_are_keys_in_the_order_of_their_fields() {
    let place = |shelf: &str, row, page| Place { shelf: shelf.into(), row, page: Ref::new(Oid(page)) };
    let tuple = |place: &Place| keys::encode(&(place.shelf.clone(), place.row, place.page));
    let mut places = vec![
        place("b", None, 9),
        place("a", Some(-1), 5),
        place("a", None, 7),
        place("a", Some(3), 1),
        place("", Some(1), 2),
    ];
    assert!(places.iter().all(|place| keys::encode(place) == tuple(place)));
    assert_eq!(keys::encode(&Login("ada".to_owned())), "ada");
    let within_another = keys::encode(&(Login("ada".to_owned()), 7u8));
    assert_eq!(within_another, keys::encode(&("ada", 7u8)));
    assert_eq!(keys::decode(&within_another), Ok((Login("ada".to_owned()), 7u8)));

    let world = World::start().await;
    let db = world.db().await;
    let all = places.clone();
    let made = db.run(async |tx| {
        let map: Map<Place, u8> = tx.root_or_create("places").await?;
        all.iter().try_for_each(|place| map.insert(&tx, place, &1))?;
        Ok(map)
    });
    let map = within(made).await.expect("commits");
    places.sort();
    let view = db.now();
    let stored: Vec<Place> =
        map.iter(&view).collect().await.expect("reads").into_iter().map(|(place, _)| place).collect();
    assert_eq!(stored, places);
    let one = view.get(&Cell::entry(map.oid(), keys::encode(&places[0]))).await.expect("reads").expect("is there");
    assert_eq!(one.refs, [Oid(2)], "what a key refers to is kept");
}
