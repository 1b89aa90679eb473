//! The names of kept indexes: of keys of another kind, of classes whose names look like an index's, of before names told the kind; and an
//! index that has lost its name.

use super::releases::as_worker;
use super::{Note, made, note, said};
use crate::site::job;
use crate::support::{World, within};
use serde::{Deserialize, Serialize};
use zeolite_client::collections::Index;
use zeolite_client::evolve::{self, Phase, Plan, Worker, verify_indexes};
use zeolite_client::{Db, Error, Handle, Options, Persistent, Ref, View};

#[derive(Serialize, Deserialize, Persistent, Clone, Debug)]
#[persistent(class = "shop.Item")]
struct OldItem {
    #[persistent(index)]
    code: String,
    #[persistent(unique)]
    number: String,
}

#[derive(Serialize, Deserialize, Persistent, Clone, Debug)]
#[persistent(class = "shop.Item", version = 2, from = OldItem)]
struct Item {
    #[persistent(index)]
    code: u64,
    #[persistent(unique)]
    number: u64,
}

impl From<OldItem> for Item {
    fn from(old: OldItem) -> Item {
        Item { code: old.code.len() as u64, number: old.number.parse().unwrap_or(0) }
    }
}

async fn names(view: &View) -> Vec<String> {
    let all = view.roots().collect().await.expect("reads");
    all.into_iter().map(|(name, _)| name).filter(|name| name.contains(':')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_kind_are_in_another_index() {
    let world = World::start().await;
    let db = world.db().await;
    let item = |code: &str, number: &str| OldItem { code: code.into(), number: number.into() };
    let made = db.run(async |tx| {
        let eight = tx.create(&item("abcdefgh", "11111111")).await?;
        Ok([eight, tx.create(&item("ab", "2")).await?, tx.create(&item("abcde", "3")).await?])
    });
    let [eight, two, five] = made.await.expect("creates").map(|item| Ref::<Item>::new(item.oid()));
    assert!(Item::BY_CODE.range(&db.now(), ..).collect().await.expect("reads").is_empty());
    db.run(async |tx| tx.update(two, |_| ()).await).await.expect("upgrades");
    let view = db.now();
    assert_eq!(
        names(&view).await,
        ["shop.Item:code", "shop.Item:code(u64)", "shop.Item:unique:number", "shop.Item:unique:number(u64)"]
    );
    assert_eq!(Item::BY_CODE.range(&view, ..).collect().await.expect("reads"), [(2, two)]);
    let of_old = OldItem::BY_CODE.range(&view, ..).collect().await.expect("reads");
    assert_eq!(of_old.iter().map(|(code, _)| code.as_str()).collect::<Vec<_>>(), ["abcde", "abcdefgh"]);
    // The bytes of a text are those of a number: nobody meets it there.
    let bytes = u64::from_be_bytes(*b"11111111");
    assert_eq!(Item::BY_NUMBER.find(&view, &bytes).await.expect("reads"), None);
    db.run(async |tx| tx.create(&Item { code: 1, number: bytes }).await).await.expect("it is free");
    let worker = world.db_with(as_worker(Options::default())).await;
    let mut new = job("items-2");
    (new.plan, new.gate) = (Plan::below("shop.Item", 2), false);
    let planned = evolve::plan(&worker, new).await.expect("plans");
    let report = within(Worker::new(&planned).run(evolve::upgrade::<Item>())).await.expect("runs");
    assert_eq!((report.phase, report.counts.changed), (Phase::Done, 2));
    assert_eq!(verify_indexes::<Item>(&worker).await.expect("looks").problems, Vec::<String>::new());
    let codes = Item::BY_CODE.range(&worker.now(), 2..).collect().await.expect("reads");
    assert_eq!(codes, [(2, two), (5, five), (8, eight)]);
    assert!(OldItem::BY_CODE.range(&worker.now(), ..).collect().await.expect("reads").is_empty());
}

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "shop.Box")]
struct Parcel {
    #[persistent(index)]
    size: u64,
}

/// As it was named before names told the kind of their keys.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_numbers_that_has_its_former_name_is_found() {
    let world = World::start().await;
    let db = world.db().await;
    let before = db.run(async |tx| {
        let index: Index<u64, Parcel> = tx.root_or_create("shop.Box:size").await?;
        let there = tx.create(&Parcel { size: 7 }).await?;
        Ok((index, there))
    });
    let (index, there) = before.await.expect("creates");
    let view = db.now();
    assert_eq!(names(&view).await, ["shop.Box:size"], "it goes on under its name");
    assert_eq!(Parcel::BY_SIZE.collection(&view).await.expect("reads").map(|index| index.oid()), Some(index.oid()));
    assert_eq!(Parcel::BY_SIZE.find(&view, &7).await.expect("reads"), [there]);
    assert_eq!(verify_indexes::<Parcel>(&db).await.expect("looks").problems, Vec::<String>::new());
}

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Note:unique")]
struct Odd {
    #[persistent(index)]
    slug: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_whose_name_looks_like_an_index_has_its_own() {
    let world = World::start().await;
    let db = world.db().await;
    let one = made(&db, &note("one", "ada", "")).await;
    let odd = db.run(async |tx| tx.create(&Odd { slug: "one".into() }).await).await.expect("creates");
    assert_eq!(Odd::BY_SLUG.find(&db.now(), "one").await.expect("reads"), [odd]);
    assert_eq!(Note::BY_SLUG.find(&db.now(), "one").await.expect("reads"), Some(one));
    let names = names(&db.now()).await;
    assert!(names.contains(&"wiki.Note:unique::slug".to_owned()), "{names:?}");
}

/// The commits that made indexes, by what the log says of them.
async fn makings(db: &Db) -> Vec<(zeolite_client::Tid, String)> {
    db.newest().await.expect("answers");
    let log = db.admin().log(None, None, None, false).await.expect("answers").collect().await.expect("reads");
    let told = log.into_iter().map(|told| (told.tid, String::from_utf8_lossy(&told.note.description).into_owned()));
    told.filter(|(_, said)| said.starts_with("index ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_making_was_undone_gets_its_name_back_with_all_that_is_in_it() {
    let world = World::start().await;
    let db = world.db().await;
    let (one, two) = (made(&db, &note("one", "ada", "w")).await, made(&db, &note("two", "ada", "w")).await);
    let whole = said(&db.now()).await.expect("reads");
    let makings = makings(&db).await;
    assert_eq!(makings.len(), 3, "{makings:?}");
    for (tid, said) in &makings {
        assert!(said.contains("is made; to undo this hides its objects"), "{said}");
        db.undo(*tid, Default::default()).await.expect("undoes");
    }
    db.newest().await.expect("answers");
    assert!(verify_indexes::<Note>(&db).await.expect("looks").problems_total > 0);
    // A removal, and then a key that changes: both find the index again.
    db.run(async |tx| tx.remove(two)).await.expect("removes");
    assert_eq!(verify_indexes::<Note>(&db).await.expect("looks").problems, Vec::<String>::new());
    db.run(async |tx| tx.create(&note("two", "ada", "w")).await).await.expect("creates");
    assert_eq!(said(&db.now()).await.expect("reads").len(), whole.len());
    let taken = db.run(async |tx| tx.create(&note("one", "bob", "")).await).await;
    assert!(matches!(taken, Err(Error::UniqueTaken { owner, .. }) if owner == one.oid()), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_too_long_is_told_with_class_and_index() {
    let world = World::start().await;
    let db = world.db().await;
    let long = |bytes: usize| note("one", &"x".repeat(bytes), "");
    let told = db.run(async |tx| tx.create(&long(4000)).await).await.expect_err("is too long").to_string();
    for part in ["class \"wiki.Note\"", "index \"author\"", "4010 bytes", "a server takes 1024", "index a part of it"] {
        assert!(told.contains(part), "{told:?} does not say {part:?}");
    }
    let made = db.run(async |tx| tx.create(&long(1014)).await).await.expect("just fits");
    db.run(async |tx| tx.remove(made)).await.expect("removes");
    assert!(said(&db.now()).await.expect("reads").is_empty());
}

/// Keys of text, then no index, then keys that are numbers.
#[derive(Serialize, Deserialize, Persistent, Clone, Debug)]
#[persistent(class = "shop.Crate")]
struct CrateOfTexts {
    #[persistent(index)]
    code: String,
}

#[derive(Serialize, Deserialize, Persistent, Clone, Debug)]
#[persistent(class = "shop.Crate", version = 2, from = CrateOfTexts)]
struct CrateOfNone {
    code: String,
}

#[derive(Serialize, Deserialize, Persistent, Clone, Debug)]
#[persistent(class = "shop.Crate", version = 3, from = CrateOfNone)]
struct CrateOfNumbers {
    #[persistent(index)]
    code: u64,
}

impl From<CrateOfTexts> for CrateOfNone {
    fn from(old: CrateOfTexts) -> CrateOfNone {
        CrateOfNone { code: old.code }
    }
}

impl From<CrateOfNone> for CrateOfNumbers {
    fn from(old: CrateOfNone) -> CrateOfNumbers {
        CrateOfNumbers { code: old.code.len() as u64 }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_gone_for_a_version_and_comes_back_with_other_keys_has_a_name_of_its_own() {
    let world = World::start().await;
    let db = world.db().await;
    let texts = db.run(async |tx| tx.create(&CrateOfTexts { code: "eight by".into() }).await).await.expect("creates");
    let number = db.run(async |tx| tx.create(&CrateOfNumbers { code: 7 }).await).await.expect("creates");
    let view = db.now();
    assert_eq!(names(&view).await, ["shop.Crate:code", "shop.Crate:code(u64)"]);
    assert_eq!(CrateOfNumbers::BY_CODE.range(&view, ..).collect().await.expect("reads"), [(7, number)]);
    assert_eq!(CrateOfTexts::BY_CODE.find(&view, "eight by").await.expect("reads"), [texts]);
    // Whoever brings the object over two versions takes it out of where the first had it.
    let texts = Ref::<CrateOfNumbers>::new(texts.oid());
    db.run(async |tx| tx.update(texts, |_| ()).await).await.expect("upgrades");
    assert!(CrateOfTexts::BY_CODE.range(&db.now(), ..).collect().await.expect("reads").is_empty());
    assert_eq!(CrateOfNumbers::BY_CODE.find(&db.now(), &8).await.expect("reads"), [texts]);
    assert_eq!(verify_indexes::<CrateOfNumbers>(&db).await.expect("looks").problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_an_index_is_no_conflict_with_itself() {
    let world = World::start().await;
    let (db, other) = (world.db().await, world.db().await);
    let tx = db.transaction().serializable().begin().await.expect("begins");
    let theirs = other.transaction().serializable().begin().await.expect("begins");
    let one = tx.create(&note("one", "ada", "w")).await.expect("creates");
    let two = theirs.create(&note("two", "ada", "w")).await.expect("creates");
    theirs.commit().await.expect("is the first one");
    tx.commit().await.expect("has read nothing that anybody has changed");
    db.newest().await.expect("answers");
    let found = Note::BY_AUTHOR.find(&db.now(), "ada").await.expect("reads");
    assert_eq!(found.len(), 2);
    assert!(found.contains(&one) && found.contains(&two));
    assert_eq!(makings(&db).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_concluded_from_there_being_no_index_is_checked() {
    let world = World::start().await;
    let (db, other) = (world.db().await, world.db().await);
    let tx = db.transaction().serializable().begin().await.expect("begins");
    let theirs = other.transaction().serializable().begin().await.expect("begins");
    for (tx, slug) in [(&tx, "one"), (&theirs, "two")] {
        assert!(Note::BY_AUTHOR.find(tx, "ada").await.expect("reads").is_empty());
        tx.create(&note(slug, "ada", "w")).await.expect("creates");
    }
    let first = theirs.commit().await;
    first.expect("nobody else has entered anything, and the index that it made itself is in nobody's way");
    let refused = tx.commit().await.expect_err("it has seen no note of ada's");
    assert!(refused.is_conflict(), "{refused}");
    db.newest().await.expect("answers");
    assert_eq!(Note::BY_AUTHOR.find(&db.now(), "ada").await.expect("reads").len(), 1);
}
