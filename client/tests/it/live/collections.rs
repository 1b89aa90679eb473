//! The collections: what they hold, and who conflicts with whom.

use crate::support::{World, within};
use serde::{Deserialize, Serialize};
use zeolite_client::collections::{
    Bounded, BoundedCounter, Counter, Create, Greatest, Index, Least, List, Map, Queue, Set, SmallList, SmallSet,
    UniqueIndex,
};
use zeolite_client::{Db, Error, FaultKind, Handle, Oid, Persistent, Range, Ref, Result, Tx};

#[derive(Serialize, Deserialize)]
struct Word {
    text: String,
}

impl Persistent for Word {
    const CLASS: &str = "Word";
}

async fn make<C: Create>(db: &Db, name: &str) -> C {
    db.run(async |tx| tx.root_or_create(name).await).await.expect("made")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_numbers_never_conflict() {
    let world = World::start().await;
    let (a, b) = (world.db().await, world.db().await);
    let counter: Counter = make(&a, "counter").await;
    let (greatest, least): (Greatest, Least) = (make(&a, "greatest").await, make(&a, "least").await);
    let add = |db: Db, n: i64| async move {
        for step in 0..25 {
            let once = db.transaction().attempts(1);
            let work = once.run(async |tx| {
                counter.add(&tx, 1)?;
                counter.add(&tx, n)?;
                greatest.offer(&tx, n * 100 + step)?;
                least.offer(&tx, n * 100 + step)
            });
            work.await.expect("no conflict");
        }
    };
    let tasks: Vec<_> = (0..32).map(|n| tokio::spawn(add(if n % 2 == 0 { a.clone() } else { b.clone() }, n))).collect();
    for task in tasks {
        within(task).await.expect("no panic");
    }
    let view = a.transaction().fresh().begin().await.expect("begins");
    assert_eq!(counter.get(&view).await.expect("reads"), 25 * (32 + (0..32).sum::<i64>()));
    assert_eq!(greatest.get(&view).await.expect("reads"), Some(31 * 100 + 24));
    assert_eq!(least.get(&view).await.expect("reads"), Some(0));
    counter.add(&view, 5).expect("adds");
    assert_eq!(counter.get(&view).await.expect("reads"), 25 * (32 + (0..32).sum::<i64>()) + 5, "own operations show");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_counter_sells_what_it_has() {
    let world = World::start().await;
    let db = world.db().await;
    let stock = db
        .run(async |tx| BoundedCounter::create(&tx, Bounded { value: 10, low: 0, high: 10 }).await)
        .await
        .expect("makes");
    let buy = |db: Db| async move { db.transaction().attempts(3).run(async |tx| stock.add(&tx, -1)).await.is_ok() };
    let mut sold = 0;
    for task in (0..16).map(|_| tokio::spawn(buy(db.clone()))).collect::<Vec<_>>() {
        sold += u32::from(within(task).await.expect("no panic"));
    }
    assert_eq!(sold, 10);
    assert_eq!(stock.get(&db.transaction().fresh().begin().await.expect("begins")).await.expect("reads").value, 0);
    // Nothing is left: that is no conflict, and is not tried a hundred times.
    let mut attempts = 0;
    let sell = |tx: Tx| {
        attempts += 1;
        async move { stock.add(&tx, -1) }
    };
    let refused = db.run(sell).await.expect_err("there is none");
    assert_eq!((refused.kind(), attempts), (Some(FaultKind::Refused), 1), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_in_again_is_there_or_its_writer_is_told() {
    let world = World::start().await;
    let db = world.db().await;
    let (online, jobs): (Set<String>, Map<String, u64>) = (make(&db, "online").await, make(&db, "jobs").await);
    db.run(async |tx| {
        online.insert(&tx, "amy")?;
        jobs.insert(&tx, "nightly", &7)
    })
    .await
    .expect("puts");
    // Renewed while somebody takes it out: once it was told that it is there.
    let mut attempts = 0;
    let renew = |tx: Tx| {
        attempts += 1;
        let (db, first) = (db.clone(), attempts == 1);
        async move {
            online.insert(&tx, "amy")?;
            jobs.insert(&tx, "nightly", &7)?;
            if first {
                db.run(async |other| online.remove(&other, "amy").and_then(|()| jobs.remove(&other, "nightly")))
                    .await?;
            }
            Ok(())
        }
    };
    db.run(renew).await.expect("comes through");
    assert_eq!(attempts, 2);
    let view = db.transaction().fresh().begin().await.expect("begins");
    assert!(online.contains(&view, "amy").await.expect("reads"));
    assert_eq!(jobs.get(&view, "nightly").await.expect("reads"), Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_is_ordered_and_conflicts_by_key() {
    let world = World::start().await;
    let db = world.db().await;
    let map: Map<(String, i64), String> = make(&db, "map").await;
    let key = |text: &str, n: i64| (text.to_owned(), n);
    let fill = async |tx: Tx| {
        for (text, n) in [("b", 1), ("a", -5), ("a", 7), ("ab", 0)] {
            map.insert(&tx, &key(text, n), &format!("{text}{n}"))?;
        }
        map.remove(&tx, &key("ab", 0))?;
        map.insert(&tx, &key("", 0), &String::new())
    };
    db.run(fill).await.expect("commits");
    let view = db.now();
    let all = map.iter(&view).collect().await.expect("scans");
    assert_eq!(all.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["", "a-5", "a7", "b1"]);
    let some = map.range(&view, key("a", -5)..=key("a", 7)).collect().await.expect("scans");
    assert_eq!(some.len(), 2);
    let back = map.range_back(&view, ..key("a", 7)).collect().await.expect("scans");
    assert_eq!(back.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["a-5", ""]);
    assert_eq!(map.first(&view).await.expect("scans").map(|(_, value)| value), Some(String::new()));
    assert_eq!(map.last(&view).await.expect("scans").map(|(key, _)| key), Some(key("b", 1)));
    assert_eq!(map.count(&view).await.expect("scans"), 4);
    let many = map.get_many(&view, &[key("b", 1), key("x", 0)]).await.expect("loads");
    assert_eq!(many, [Some("b1".to_owned()), None]);

    let (one, two, three) =
        (db.begin().await.expect("begins"), db.begin().await.expect("begins"), db.begin().await.expect("begins"));
    map.insert(&one, &key("n", 1), &"x".into()).expect("puts");
    map.insert(&two, &key("n", 2), &"x".into()).expect("puts");
    map.insert(&three, &key("n", 1), &"y".into()).expect("puts");
    one.commit().await.expect("commits");
    two.commit().await.expect("different keys never conflict");
    assert!(three.commit().await.expect_err("one key, two values").is_conflict());
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_and_indexes_take_all_writers() {
    let world = World::start().await;
    let db = world.db().await;
    let (tags, index): (Set<String>, Index<String, Word>) = (make(&db, "tags").await, make(&db, "index").await);
    let words = db
        .run(async |tx| {
            let mut words = Vec::new();
            for text in ["one", "two", "three"] {
                words.push(tx.create(&Word { text: text.into() }).await?);
            }
            Ok(words)
        })
        .await
        .expect("commits");
    let (one, two) = (db.begin().await.expect("begins"), db.begin().await.expect("begins"));
    for tx in [&one, &two] {
        tags.insert(tx, "same").expect("puts");
        index.insert(tx, "number", words[0]).expect("puts");
    }
    tags.insert(&one, "other").expect("puts");
    index.insert(&one, "number", words[1]).expect("puts");
    index.insert(&two, "num", words[2]).expect("puts");
    one.commit().await.expect("commits");
    two.commit().await.expect("the same member twice is no conflict");
    let view = db.now();
    assert_eq!(tags.iter(&view).collect().await.expect("scans"), ["other", "same"]);
    assert_eq!(index.find(&view, "number").await.expect("scans"), words[..2]);
    assert!(index.contains(&view, "num", words[2]).await.expect("reads"));
    let range = index.range(&view, "nu".to_owned()..="num".to_owned()).collect().await.expect("scans");
    assert_eq!(range, [("num".to_owned(), words[2])]);
    let back = index.range_back(&view, ..).collect().await.expect("scans");
    assert_eq!(back.iter().map(|(_, word)| *word).collect::<Vec<_>>(), [words[1], words[0], words[2]]);
    let loaded = view.load_many(&index.find(&view, "number").await.expect("scans")).await.expect("loads");
    assert_eq!(loaded.iter().map(|word| word.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_key_has_one_owner() {
    let world = World::start().await;
    let db = world.db().await;
    let names: UniqueIndex<String, u64> = make(&db, "names").await;
    let claim = |db: Db, n: u64| async move { db.run(async |tx| names.insert(&tx, "amy", &n).await).await };
    let mut owners = Vec::new();
    for (n, task) in (0..8).map(|n| (n, tokio::spawn(claim(db.clone(), n)))).collect::<Vec<_>>() {
        if within(task).await.expect("no panic").expect("no error").is_new() {
            owners.push(n);
        }
    }
    assert_eq!(owners.len(), 1, "{owners:?}");
    let view = db.transaction().fresh().begin().await.expect("begins");
    assert_eq!(names.get(&view, "amy").await.expect("reads"), owners.first().copied());
    let again = async |tx: Tx| names.insert(&tx, "amy", &9).await?.or_refuse();
    let refused = db.run(again).await.expect_err("it is taken");
    assert!(refused.kind() == Some(FaultKind::Refused) && refused.to_string().contains("amy"), "{refused}");
    let pages: UniqueIndex<String, Ref<Word>> = make(&db, "pages").await;
    for (n, free) in [(1, true), (1, true), (2, false), (1, true)] {
        let claimed = db.run(async |tx| pages.claim(&tx, "home", Ref::new(Oid(100 + n))).await).await;
        assert_eq!(claimed.map_err(|error| error.kind()), if free { Ok(()) } else { Err(Some(FaultKind::Refused)) });
    }
    // What is a unique index is not taken for an index, whose entries look alike.
    let taken = db.run(async |tx| tx.root::<Index<String, Word>>("names").await).await.expect_err("of another kind");
    assert!(taken.to_string().contains("zeolite.UniqueIndex"), "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_of_a_queue_is_taken_once() {
    let world = World::start().await;
    let db = world.db().await;
    let queue: Queue<u64> = make(&db, "queue").await;
    let produce = |db: Db, n: u64| async move {
        for step in 0..10 {
            let two =
                async |tx: Tx| queue.push(&tx, &(n * 100 + step)).and_then(|()| queue.push(&tx, &(n * 100 + step)));
            db.transaction().attempts(1).run(two).await.expect("producers never conflict");
        }
    };
    for task in (0..6).map(|n| tokio::spawn(produce(db.clone(), n))).collect::<Vec<_>>() {
        within(task).await.expect("no panic");
    }
    let fresh = db.transaction().fresh().begin().await.expect("begins");
    let items = queue.iter(&fresh).collect().await.expect("scans");
    let of_one: Vec<_> = items.iter().map(|item| item.value).filter(|value| value / 100 == 3).collect();
    assert!(of_one.len() == 20 && of_one.is_sorted(), "in the order of commits: {of_one:?}");
    let consume = |db: Db| async move {
        let mut taken = Vec::new();
        loop {
            let some = db.run(async |tx| queue.take(&tx, 7).await).await.expect("comes through");
            if some.is_empty() {
                return taken;
            }
            taken.extend(some);
        }
    };
    let mut all = Vec::new();
    for task in (0..4).map(|_| tokio::spawn(consume(db.clone()))).collect::<Vec<_>>() {
        all.extend(within(task).await.expect("no panic"));
    }
    all.sort_unstable();
    let mut expected: Vec<u64> = (0..6).flat_map(|n| (0..10).flat_map(move |step| [n * 100 + step; 2])).collect();
    expected.sort_unstable();
    assert_eq!(all, expected);
}

#[derive(Serialize, Deserialize)]
struct Shop {
    visits: Counter,
    journal: List<String>,
    tags: SmallSet<String>,
    approved: SmallList<String>,
}

impl Persistent for Shop {
    const CLASS: &str = "Shop";
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_parts_of_objects() {
    let world = World::start().await;
    let db = world.db().await;
    let shop: Ref<Shop> = db
        .run(async |tx| {
            let shop = Shop {
                visits: Counter::create(&tx).await?,
                journal: List::create(&tx).await?,
                tags: SmallSet::create(&tx).await?,
                approved: SmallList::create(&tx).await?,
            };
            let shop = tx.create(&shop).await?;
            tx.set_root("shop", &shop).await?;
            Ok(shop)
        })
        .await
        .expect("commits");
    let open = async |tx: &Tx, who: &str| -> Result<(), Error> {
        let shop = tx.load(shop).await?;
        shop.visits.add(tx, 1)?;
        shop.journal.push(tx, &format!("{who} was here"))?;
        shop.tags.insert(tx, &who.to_owned())?;
        shop.approved.push(tx, &who.to_owned())
    };
    let (one, two) = (db.begin().await.expect("begins"), db.begin().await.expect("begins"));
    open(&one, "amy").await.expect("works");
    open(&two, "bob").await.expect("works");
    one.commit().await.expect("commits");
    two.commit().await.expect("nothing in it conflicts");
    let view = db.now();
    let record = view.get(&shop.cell()).await.expect("reads").expect("there");
    let shop = view.load(shop).await.expect("loads");
    assert_eq!(record.refs, [shop.visits.oid(), shop.journal.oid(), shop.tags.oid(), shop.approved.oid()]);
    assert_eq!(shop.visits.get(&view).await.expect("reads"), 2);
    assert_eq!(shop.tags.get(&view).await.expect("reads"), ["amy", "bob"]);
    assert_eq!(shop.approved.get(&view).await.expect("reads"), ["amy", "bob"]);
    let newest = shop.journal.newest(&view, 1).collect().await.expect("scans");
    assert_eq!(newest[0].value, "bob was here");
    let change = db.run(async |tx| {
        shop.journal.set(&tx, &newest[0].key, &"bob was there".to_owned())?;
        shop.tags.remove(&tx, &"amy".to_owned())
    });
    change.await.expect("commits");
    let journal = shop.journal.walk(&db.now(), Range::all()).collect().await.expect("scans");
    assert_eq!(journal.iter().map(|item| item.value.as_str()).collect::<Vec<_>>(), ["amy was here", "bob was there"]);
    assert_eq!(shop.tags.get(&db.now()).await.expect("reads"), ["bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_after_the_greatest_key_is_empty() {
    use std::ops::Bound;
    let world = World::start().await;
    let db = world.db().await;
    let index: Index<u64, Word> = make(&db, "by number").await;
    let add = db.run(async |tx| {
        for n in [1, 2, u64::MAX] {
            let word = tx.create(&Word { text: n.to_string() }).await?;
            index.insert(&tx, &n, word)?;
        }
        Ok(())
    });
    add.await.expect("adds");
    let after = async |key: u64| {
        let view = db.now();
        let found = index.range(&view, (Bound::Excluded(key), Bound::Unbounded)).collect().await.expect("reads");
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(after(1).await, [2, u64::MAX]);
    assert_eq!(after(u64::MAX).await, [0; 0], "nothing comes after it");
    let view = db.now();
    assert_eq!(index.range_back(&view, (Bound::Excluded(u64::MAX), Bound::Unbounded)).count().await.expect("reads"), 0);
    assert_eq!(index.range(&view, ..=u64::MAX).count().await.expect("reads"), 3);
}
