//! The other plans: entries of a collection, listed and reachable objects; a new index over existing objects; deleting; dry
//! runs and the scrub.

use crate::site::{Page, Site, Upgrade, job};
use crate::support::within;
use serde::{Deserialize, Serialize};
use zeolite_client::collections::{Index, Map};
use zeolite_client::evolve::{self, DryRunOptions, NewJob, Phase, Plan, Stepped, Worker};
use zeolite_client::{Error, Oid, Persistent, Record, Ref};

fn plan_of(name: &str, plan: Plan) -> NewJob {
    job(name).plan(plan)
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_collection_are_stepped() {
    let site = Site::with_pages(0).await;
    let db = site.world.db().await;
    let map = db.run(async |tx| {
        let map: Map<u64, String> = tx.root_or_create("words").await?;
        (0..1500).try_for_each(|n| map.insert(&tx, &n, &format!("word {n}")))?;
        Ok(map)
    });
    let map = map.await.expect("makes");
    let oid = zeolite_client::Handle::oid(&map);
    let from = zeolite_client::keys::encode(&100u64).to_vec();
    let planned = plan_of("words", Plan::Collection { oid: oid.0, from, to: Vec::new() });
    let planned = evolve::plan(&site.worker_db().await, planned).await.expect("plans");
    let step = evolve::with("louder", move |tx, cell, _| {
        Box::pin(async move {
            let key: u64 = zeolite_client::keys::decode(&cell.key).map_err(Error::app)?;
            let word = map.get(tx, &key).await?.unwrap_or_default();
            match key % 3 {
                0 => Ok(Stepped::Delete),
                1 => Ok(Stepped::Keep),
                _ => map.insert(tx, &key, &word.to_uppercase()).map(|()| Stepped::Keep),
            }
        })
    });
    let report = within(Worker::new(&planned).tasks(2).run(step)).await.expect("runs");
    assert_eq!((report.phase, report.counts.done), (Phase::Done, 1400));
    db.newest().await.expect("answers");
    let view = db.now();
    let all = map.iter(&view).collect().await.expect("reads");
    assert_eq!(all.len(), 1500 - (100..1500).filter(|n| n % 3 == 0).count());
    for (key, word) in all {
        let expected = if key >= 100 && key % 3 == 2 { format!("WORD {key}") } else { format!("word {key}") };
        assert_eq!(word, expected);
    }
}

#[derive(Serialize, Deserialize)]
struct Node {
    name: String,
    next: Vec<Ref<Node>>,
    pages: Option<Map<u64, Ref<Node>>>,
}

impl Persistent for Node {
    const CLASS: &str = "Node";
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_and_reachable_objects_are_stepped() {
    let site = Site::with_pages(0).await;
    let db = site.world.db().await;
    let made = db.run(async |tx| {
        let node =
            async |name: &str, next: Vec<Ref<Node>>, pages| tx.create(&Node { name: name.into(), next, pages }).await;
        let leaf = node("leaf", vec![], None).await?;
        let in_map = node("in the map", vec![leaf], None).await?;
        let pages = <Map<u64, Ref<Node>> as zeolite_client::collections::Create>::create(&tx).await?;
        pages.insert(&tx, &7, &in_map)?;
        let top = node("top", vec![leaf], Some(pages)).await?;
        // A ring.
        tx.update(leaf, |leaf| leaf.next.push(top)).await?;
        let alone = node("alone", vec![], None).await?;
        Ok((top, alone, [leaf, in_map]))
    });
    let (top, alone, below) = made.await.expect("makes");
    let shout = || {
        evolve::with("shout", |tx, cell, old: Record| {
            Box::pin(async move {
                if old.class == Node::CLASS {
                    tx.update(Ref::<Node>::new(cell.oid), |node| node.name.push('!')).await?;
                }
                Ok(Stepped::Keep)
            })
        })
    };
    let db_of_worker = site.worker_db().await;
    let reachable = plan_of("reachable", Plan::reachable(top.oid()));
    let reachable = evolve::plan(&db_of_worker, reachable).await.expect("plans");
    assert_eq!(reachable.record().await.expect("reads").total, 4, "three nodes and the map");
    within(Worker::new(&reachable).run(shout())).await.expect("runs");
    let listed = Plan::oids([alone.oid(), below[0].oid(), alone.oid(), Oid(u64::MAX >> 8)]);
    let listed = evolve::plan(&db_of_worker, plan_of("listed", listed)).await.expect("plans");
    let report = within(Worker::new(&listed).run(shout())).await.expect("runs");
    assert_eq!((report.phase, report.counts.changed, report.counts.found_done), (Phase::Done, 2, 1));
    db.newest().await.expect("answers");
    let mut names = Vec::new();
    for node in [top, below[0], below[1], alone] {
        names.push(db.now().load(node).await.expect("loads").name);
    }
    assert_eq!(names, ["top!", "leaf!!", "in the map!", "alone!"]);
    let all: Vec<String> = evolve::list(&db).await.expect("lists").iter().map(|job| job.name().to_owned()).collect();
    assert_eq!(all, ["listed", "reachable"]);
    evolve::forget(&db, "listed").await.expect("forgets");
    assert!(evolve::find(&db, "listed").await.is_err());
    let twice = plan_of("reachable", Plan::reachable(top.oid()));
    assert!(evolve::plan(&db_of_worker, twice).await.is_err(), "the name is taken");
}

/// A new index over existing objects, beside writers that keep it themselves; the scrub looks at both directions.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_index_is_built_and_verified() {
    let site = Site::with_pages(500).await;
    let db = site.world.db().await;
    let index: Index<u64, Page> = db.run(async |tx| tx.root_or_create("by length").await).await.expect("makes");
    let planned = evolve::plan(&site.worker_db().await, job("index")).await.expect("plans");
    let step = evolve::with("index", move |tx, cell, old: Record| {
        Box::pin(async move {
            let page = Page::upgrade(old.version, &old.data)?;
            index.insert(tx, &page.length, Ref::new(cell.oid))?;
            tx.set(Ref::new(cell.oid), &page)?;
            Ok(Stepped::Keep)
        })
    });
    let holds = || evolve::index_holds(index, |page: &Page| vec![page.length]);
    let before = planned.verify(&[&holds()]).await.expect("looks");
    assert_eq!((before.objects, before.problems_total), (500, 1000), "{:?}", &before.problems[..3]);
    within(Worker::new(&planned).tasks(2).run(step)).await.expect("runs");
    let after = planned.verify(&[&holds()]).await.expect("looks");
    assert_eq!((after.objects, &after.problems[..]), (500, &[][..]));
    let (lost, ghost) = (site.pages[3], site.pages[4]);
    db.run(async |tx| {
        let length = tx.load(lost).await?.length;
        index.remove(&tx, &length, lost)?;
        index.insert(&tx, &77, ghost)?;
        tx.remove(ghost)
    })
    .await
    .expect("breaks it");
    let broken = planned.verify(&[&holds()]).await.expect("looks");
    assert_eq!((broken.objects, broken.problems_total), (499, 3), "{:?}", broken.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing_and_tells_what_would_happen() {
    let site = Site::with_pages(700).await;
    let db = site.worker_db().await;
    let counter = site.counter;
    let step = evolve::with("mixed", move |tx, cell, old: Record| {
        Box::pin(async move {
            let page = Page::upgrade(old.version, &old.data)?;
            counter.add(tx, 1)?;
            let number: u64 = page.text.trim_start_matches("page ").parse().map_err(Error::app)?;
            match number % 7 {
                0 => Err(Error::app("seventh")),
                1 => Ok(Stepped::Delete),
                _ => tx.set(Ref::new(cell.oid), &page).map(|()| Stepped::Keep),
            }
        })
    });
    let before = db.newest().await.expect("answers");
    let found = evolve::dry_run(&db, &job("pages"), &step, &DryRunOptions::default()).await.expect("runs");
    assert_eq!((found.total, found.stepped, found.changed, found.deleted, found.bad), (700, 700, 500, 100, 100));
    assert_eq!((found.errors.len(), found.errors[0].objects, found.errors[0].error.as_str()), (1, 100, "seventh"));
    assert_eq!((found.samples.len(), found.other_writes), (10, 600));
    let sample = found.samples.iter().find(|sample| sample.new.is_some()).expect("one");
    let (old, new) = (sample.old.as_ref().expect("old"), sample.new.as_ref().expect("new"));
    assert_eq!((old.version, new.version), (1, 2));
    assert!(found.rate > 0.0 && found.predicted.as_nanos() > 0, "{found:?}");
    assert_eq!(db.newest().await.expect("answers"), before, "nothing was committed");
    assert!(evolve::list(&db).await.expect("lists").is_empty());
    let few = DryRunOptions::new().objects_max(50).samples(1);
    let step = Upgrade { counter };
    let found = evolve::dry_run(&db, &job("pages"), &step, &few).await.expect("runs");
    assert_eq!((found.total, found.stepped, found.changed, found.samples.len()), (700, 50, 50, 1));
}
