//! Typed objects: references, batches, upgrades, sizes.

use crate::support::{World, object, oid};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use zeolite_client::collections::Counter;
use zeolite_client::{Cell, Error, Oid, Options, Persistent, Record, Ref};

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Page {
    title: String,
    next: Option<Ref<Page>>,
}

impl Persistent for Page {
    const CLASS: &str = "Page";
    const VERSION: u32 = 2;

    fn upgrade(version: u32, data: &[u8]) -> Result<Page, Error> {
        match version {
            1 => Ok(Page { title: Page::old_shape(version, data)?, next: None }),
            _ => Err(Page::no_upgrade(version)),
        }
    }
}

fn page(title: impl Into<String>) -> Page {
    Page { title: title.into(), next: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_made_found_by_name_changed_and_removed() {
    let world = World::start().await;
    let (a, b) = (world.db().await, world.db().await);
    let start = a
        .run(async |tx| {
            let last = tx.create(&page("last")).await?;
            let start = tx.create(&Page { title: "start".into(), next: Some(last) }).await?;
            tx.set_root("start", &start).await?;
            Ok(start)
        })
        .await
        .expect("commits");
    let work = b.transaction().fresh().run(async |tx| {
        let found: Ref<Page> = tx.root("start").await?.expect("named");
        assert_eq!(found, start);
        let last = tx.load(found).await?.next.expect("refers on");
        let old = tx.update(last, |page| std::mem::replace(&mut page.title, "end".into())).await?;
        assert_eq!((old.as_str(), tx.load(last).await?.title.as_str()), ("last", "end"));
        Ok(last)
    });
    let last = work.await.expect("commits");
    let view = a.transaction().fresh().begin().await.expect("begins");
    assert_eq!(view.load_many(&[start, last]).await.expect("loads")[1], page("end"));
    let wrong = view.root::<Counter>("start").await.expect_err("another class").to_string();
    assert!(wrong.contains("Page") && wrong.contains("zeolite.Counter"), "{wrong}");
    let record = view.get(&start.cell()).await.expect("reads").expect("there");
    assert_eq!(record.refs, [last.oid()], "the header names what the value refers to");
    assert_eq!(view.roots().collect().await.expect("scans")[0].0, "start");
    view.remove(last).expect("removes");
    assert!(matches!(view.load(last).await, Err(Error::NotFound { .. })));
    view.commit().await.expect("commits");
    assert_eq!(a.now().find(last).await.expect("reads"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_shapes_are_upgraded_as_they_are_loaded() {
    let world = World::start().await;
    let db = world.db().await;
    let old = Record::new("Page", 1, postcard::to_stdvec("old").expect("encodes"));
    let future = Record::new("Page", 9, "?");
    db.run(async |tx| tx.put(object(5), &old).and_then(|()| tx.put(object(6), &future))).await.expect("puts");
    let reference: Ref<Page> = Ref::new(oid(5));
    db.run(async |tx| tx.update(reference, |page| page.title.push('!')).await).await.expect("updates");
    let stored = db.now().get(&object(5)).await.expect("reads").expect("there");
    assert_eq!(stored.version, 2, "written in the new shape");
    assert_eq!(db.now().load(reference).await.expect("loads"), page("old!"));
    let error = db.now().load(Ref::<Page>::new(oid(6))).await.expect_err("no upgrade");
    assert!(matches!(error, Error::NoUpgrade { found: 9, wanted: 2, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_and_large_records_come_in_pieces() {
    let world = World::start_with(|settings| {
        settings.limits.reply_bytes_aim = 64 << 10;
        settings.limits.load_cells_max = 700;
    })
    .await;
    let db = world.db_with(Options::new().cache_bytes(1 << 20)).await;
    let pages: Vec<Ref<Page>> = db
        .run(async |tx| {
            let mut pages = Vec::new();
            for n in 0..5000 {
                pages.push(tx.create(&page(format!("{n:0100}"))).await?);
            }
            Ok(pages)
        })
        .await
        .expect("commits");
    let distinct: HashSet<_> = pages.iter().collect();
    assert_eq!(distinct.len(), pages.len());
    let reader = world.db().await;
    for _ in 0..2 {
        let loaded = reader.now().load_many(&pages).await.expect("loads");
        assert!(loaded.iter().enumerate().all(|(n, page)| page.title == format!("{n:0100}")));
    }
    assert!(reader.cache_stats().hits >= 5000, "{:?}", reader.cache_stats());

    let large = vec![7u8; 9 << 20];
    let cell = Cell::object(oid(900));
    let record = Record::new("Blob", 1, large.clone());
    let several = |tx: &zeolite_client::Tx| {
        (0..3).try_for_each(|n| tx.put(Cell::entry(cell.oid, vec![b'k', n]), &record))?;
        tx.put(cell.clone(), &record)
    };
    db.run(async |tx| several(&tx)).await.expect("a draft of 36 MiB goes in parts");
    let read = reader.transaction().fresh().begin().await.expect("begins");
    assert_eq!(read.get(&cell).await.expect("reads").expect("there").data, large);
    let entries = read.entries(cell.oid, zeolite_client::Range::all()).await.expect("scans");
    assert_eq!(entries.iter().map(|entry| entry.record.len()).min(), Some(record.encode().expect("encodes").len()));
    let too_large = Record::new("Blob", 1, vec![0; 65 << 20]);
    let refused = db.run(async |tx| tx.put(cell.clone(), &too_large)).await.expect_err("over the limit");
    assert_eq!(refused.kind(), Some(zeolite_client::FaultKind::TooLarge), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_prefetched_asks_nobody() {
    let world = World::start().await;
    let (a, b) = (world.db().await, world.db().await);
    let pages = a
        .run(async |tx| {
            let mut pages = Vec::new();
            for n in 0..10 {
                pages.push(tx.create(&page(n.to_string())).await?);
            }
            Ok(pages)
        })
        .await
        .expect("commits");
    let own = a.cache_stats().misses;
    a.now().load_many(&pages).await.expect("loads");
    assert_eq!(a.cache_stats().misses, own, "what a commit has written is in the cache");
    let tx = b.transaction().fresh().begin().await.expect("begins");
    tx.prefetch_refs(pages.iter().copied()).await.expect("loads");
    let before = b.cache_stats().misses;
    world.network.deafen();
    for (n, reference) in pages.iter().enumerate() {
        assert_eq!(tx.load(*reference).await.expect("loads").title, n.to_string());
    }
    assert_eq!(b.cache_stats().misses, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn oids_are_never_given_twice() {
    let world = World::start().await;
    let (a, b) = (world.db().await, world.db().await);
    let take = |db: zeolite_client::Db| async move {
        let mut oids = Vec::new();
        for _ in 0..1500 {
            oids.push(db.new_oid().await.expect("an oid"));
        }
        oids
    };
    let tasks: Vec<_> = (0..8).map(|n| tokio::spawn(take(if n < 4 { a.clone() } else { b.clone() }))).collect();
    let mut all = HashSet::new();
    for task in tasks {
        for oid in task.await.expect("no panic") {
            assert!(oid != Oid::ROOT && all.insert(oid), "{oid:?} was given twice");
        }
    }
}
