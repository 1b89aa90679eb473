//! Walks over collections: limits, prefixes, both directions, pages by a cursor, as streams.

use crate::support::{World, within};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use zeolite_client::collections::{Cursor, Index, Map, Set, UniqueIndex};
use zeolite_client::{Change, Db, Error, FaultKind, Handle, Key, Mode, ModeEnd, ModeKind, Oid, Persistent, Ref};

#[derive(Key, PartialEq, Eq, PartialOrd, Ord, Clone, Debug)]
struct Place {
    shelf: String,
    row: u16,
}

#[derive(serde::Serialize, serde::Deserialize, Persistent)]
#[persistent(class = "Book")]
struct Book {}

fn place(shelf: &str, row: u16) -> Place {
    Place { shelf: shelf.into(), row }
}

async fn books(db: &Db, shelves: &[&str], rows: u16) -> Map<Place, u16> {
    let fill = db.run(async |tx| {
        let books: Map<Place, u16> = tx.root_or_create("books").await?;
        for shelf in shelves {
            (0..rows).try_for_each(|row| books.insert(&tx, &place(shelf, row), &row))?;
        }
        Ok(books)
    });
    fill.await.expect("commits")
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_by_a_cursor_are_the_whole_in_parts() {
    let seed = 12;
    println!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let world = World::start_with(|settings| settings.limits.scan_entries_max = 7).await;
    let db = world.db().await;
    let books = books(&db, &["a", "b", "c"], 20).await;
    for _ in 0..60 {
        let (from, to) = (place("b", dice.u16(0..20)), place("c", dice.u16(0..20)));
        let (back, limit) = (dice.bool(), dice.u64(1..12));
        let (mut cursor, mut all) = (None::<Cursor>, Vec::new());
        loop {
            // Each page in a transaction of its own, from a cursor that was a text meanwhile, with a write of its own between.
            let tx = db.begin().await.expect("begins");
            books.remove(&tx, &place("b", 7)).expect("removes");
            books.insert(&tx, &place("b", 100), &100).expect("inserts");
            let kept = cursor.as_ref().map(|cursor| cursor.to_string().parse::<Cursor>().expect("is one"));
            let walk = books.range(&tx, from.clone()..to.clone()).limit(limit).after(kept);
            let mut walk = if back { walk.reverse() } else { walk };
            let mut page = Vec::new();
            while let Some((key, _)) = walk.next().await.expect("scans") {
                page.push(key);
            }
            assert!(page.len() <= limit as usize);
            cursor = walk.cursor();
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        let own = [place("b", 100)];
        let rows = (0..20).flat_map(|row| [place("b", row), place("c", row)]).chain(own);
        let mut wanted: Vec<Place> = rows.filter(|at| *at >= from && *at < to && *at != place("b", 7)).collect();
        wanted.sort();
        if back {
            wanted.reverse();
        }
        assert_eq!(all, wanted, "{from:?} {to:?} {back} {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_the_first_part_or_the_beginning_of_a_text() {
    let world = World::start().await;
    let db = world.db().await;
    let books = books(&db, &["a", "ab", "b"], 3).await;
    let view = db.now();
    let rows = books.prefix(&view, "a").reverse().limit(2).collect().await.expect("scans");
    assert_eq!(rows, [(place("a", 2), 2), (place("a", 1), 1)]);
    let filled = db.run(async |tx| {
        let words: Set<String> = tx.root_or_create("words").await?;
        let index: Index<String, Book> = tx.root_or_create("index").await?;
        let unique: UniqueIndex<(u8, String), u8> = tx.root_or_create("unique").await?;
        for (number, word) in (0u8..).zip(["ze", "zed", "zoo", "a"]) {
            words.insert(&tx, word)?;
            index.insert(&tx, word, Ref::new(Oid(5)))?;
            unique.insert(&tx, &(number % 2, word.to_owned()), &number).await?.or_refuse()?;
        }
        Ok((words, index, unique))
    });
    let (words, index, unique) = filled.await.expect("commits");
    let view = db.now();
    assert_eq!(words.prefix(&view, "ze").collect().await.expect("scans"), ["ze", "zed"]);
    assert_eq!(words.prefix(&view, "").count().await.expect("scans"), 4);
    let found: Vec<String> = index.prefix(&view, "z").map_ok(|(word, _)| word).try_collect().await.expect("scans");
    assert_eq!(found, ["ze", "zed", "zoo"]);
    let odd = unique.prefix(&view, &1).collect().await.expect("scans");
    assert_eq!(odd, [((1, "a".into()), 3), ((1, "zed".into()), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_what_the_server_is_asked_for() {
    let world = World::start().await;
    let db = world.db().await;
    let large: Map<u32, String> = db.run(async |tx| tx.root_or_create("large").await).await.expect("creates");
    let value = "x".repeat(1000);
    db.run(async |tx| (0..2000).try_for_each(|n| large.insert(&tx, &n, &value))).await.expect("commits");
    // A second client, so that nothing is in a cache; its connection carries 64 KiB more from the server, and then ends.
    let db = world.db().await;
    let view = db.now();
    assert_eq!(view.root::<Map<u32, String>>("large").await.expect("reads"), Some(large));
    world.network.shorten(64 << 10);
    let some = within(large.range(&view, 100..).limit(20).collect()).await.expect("scans");
    let keys: Vec<u32> = some.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, (100..120).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_wait_for_an_entry_loses_none() {
    let world = World::start_with(|settings| settings.limits.scan_entries_max = 7).await;
    let db = world.db().await;
    let books = books(&db, &["a"], 50).await;
    let view = db.now();
    let mut walk = books.iter(&view);
    let mut rows = BTreeMap::new();
    loop {
        // Asked, given up, and asked again.
        if let Some(entry) = walk.next().now_or_never() {
            match entry.expect("scans") {
                Some((at, row)) => rows.insert(at, row),
                None => break,
            };
        }
        match walk.next().await.expect("scans") {
            Some((at, row)) => rows.insert(at, row),
            None => break,
        };
    }
    assert_eq!(rows.into_values().collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    let mut begun = books.iter(&view);
    begun.next().await.expect("scans");
    let error = begun.limit(3).next().await.expect_err("is refused");
    assert_eq!(error.kind(), Some(FaultKind::Invalid));
    assert!(matches!(&error, Error::Fault(fault) if fault.message.contains("before the first entry")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_watched_is_a_stream() {
    let world = World::start().await;
    let db = world.db().await;
    let books = books(&db, &["a"], 1).await;
    let (mut watch, modes) = (db.watch([books.oid()]), db.on_mode_change());
    assert!(within(watch.begun()).await);
    for row in 1..3 {
        db.run(async |tx| books.insert(&tx, &place("a", row), &row)).await.expect("commits");
    }
    let told: Vec<Change> = within(watch.take(2).collect()).await;
    assert!(told.iter().all(|change| matches!(change, Change::Written { cells, .. } if cells.len() == 1)), "{told:?}");
    db.admin().set_mode(ModeKind::ReadOnly, "back at five", ModeEnd::Never).await.expect("sets");
    let told: Vec<Mode> = within(modes.take(1).collect()).await;
    assert_eq!((told[0].kind, told[0].banner.as_str()), (ModeKind::ReadOnly, "back at five"));
}
