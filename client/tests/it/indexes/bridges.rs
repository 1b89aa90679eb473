//! Bridges that are written by hand: what does not know the indexes of the newer version is refused, what does is not. And unique keys whose
//! entries stand although their objects do not have them any more.

use super::releases::{OldPost, Post, evolved, old, owing, problems, worker_db};
use crate::support::{World, within};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_client::collections::Index;
use zeolite_client::evolve::{self, Phase, Plan, Worker};
use zeolite_client::typed::Keys;
use zeolite_client::{Db, Error, KeptIndex, Options, Persistent, Record, Ref, Remedy, Result, TracedBy, blocking};

/// Knows nothing of the newer release's indexes.
#[derive(Serialize, Deserialize)]
struct Careless {
    slug: String,
    author: String,
    tag: String,
}

impl Persistent for Careless {
    const CLASS: &str = "wiki.Post";

    fn upgrade(version: u32, data: &[u8]) -> Result<Careless> {
        let new: Post = Careless::old_shape(version, data)?;
        Ok(Careless { slug: new.slug, author: new.name, tag: new.tag })
    }
}

/// Keeps its own index, and forgets the others.
#[derive(Serialize, Deserialize)]
struct Half(Careless);

impl Persistent for Half {
    const CLASS: &str = "wiki.Post";
    const INDEXES: &'static [KeptIndex] = &[KeptIndex::unique("slug"), KeptIndex::many("tag")];

    fn upgrade(version: u32, data: &[u8]) -> Result<Half> {
        Careless::upgrade(version, data).map(Half)
    }

    fn index(&self, keys: &mut Keys) {
        keys.add("slug", &self.0.slug);
        keys.add("tag", &self.0.tag);
    }
}

/// Does it right.
#[derive(Serialize, Deserialize)]
struct Careful(Careless);

impl Persistent for Careful {
    const CLASS: &str = "wiki.Post";
    const INDEXES: &'static [KeptIndex] = Half::INDEXES;
    const LATER_INDEXED: &'static [KeptIndex] = &[KeptIndex::many("name"), KeptIndex::unique("mail")];

    fn upgrade(version: u32, data: &[u8]) -> Result<Careful> {
        Careless::upgrade(version, data).map(Careful)
    }

    fn index(&self, keys: &mut Keys) {
        keys.add("slug", &self.0.slug);
        keys.add("tag", &self.0.tag);
    }

    fn index_former(version: u32, data: &[u8], keys: &mut Keys) -> Result<()> {
        let new: Post = Careful::old_shape(version, data)?;
        keys.add("slug", &new.slug);
        keys.add("tag", &new.tag);
        keys.add("name", &new.name);
        keys.add("mail", &new.mail);
        Ok(())
    }
}

fn new(slug: &str, mail: &str) -> Post {
    Post { slug: slug.into(), name: "Ada".into(), mail: mail.into(), tag: "t".into() }
}

fn as_<T>(post: Ref<Post>) -> Ref<T> {
    Ref::new(post.oid())
}

fn careless(slug: &str) -> Careless {
    Careless { slug: slug.into(), author: "Ada".into(), tag: "t".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_by_hand_that_would_leave_entries_is_refused() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let post = db.run(async |tx| tx.create(&new("s", "a@x")).await).await.expect("creates");
    let url = world.network.url();
    let in_a_thread = std::thread::spawn(move || {
        let db = blocking::Db::connect(url).expect("connects");
        db.run(|tx| tx.update(as_::<Careless>(post), |post| post.author = "Bob".into()))
    });
    let refused = [
        db.run(async |tx| tx.update(as_::<Careless>(post), |post| post.author = "Bob".into()).await).await,
        db.run(async |tx| tx.load(post).await.map(drop).and_then(|()| tx.set(as_(post), &careless("s")))).await,
        db.run(async |tx| tx.load(post).await.map(drop).and_then(|()| tx.remove(as_::<Careless>(post)))).await,
        // With an index of its own it need not have read the object.
        world.db().await.run(async |tx| tx.set(as_(post), &Half(careless("s")))).await,
        world.db().await.run(async |tx| tx.remove(as_::<Half>(post))).await,
        in_a_thread.join().expect("no panic"),
    ];
    for (place, refused) in refused.into_iter().enumerate() {
        let error = refused.expect_err("its entries would stay");
        assert_eq!(error.remedy(), Remedy::FixRequest, "{place}: {error}");
        let text = error.to_string();
        let Error::KeptElsewhere { class, version: 2, indexes, .. } = error else { panic!("{place}: {text}") };
        let unknown = if (3..5).contains(&place) {
            vec!["name", "unique:mail"]
        } else {
            vec!["name", "tag", "unique:mail", "unique:slug"]
        };
        assert_eq!((class.as_str(), indexes), ("wiki.Post", unknown.into_iter().map(str::to_owned).collect()));
        assert!(text.contains("`Persistent::LATER_INDEXED`") && text.contains("(`newer`)"), "{text}");
    }
    // As the step of an evolve it sends its objects to the quarantine.
    let (job, report) = evolved(&worker, "back", Plan::class("wiki.Post"), evolve::upgrade::<Careless>()).await;
    let bad = job.quarantine(9).await.expect("tells");
    assert_eq!((report.phase, bad.len()), (Phase::Failed, 1));
    assert!(bad[0].error.contains("in indexes that this type does not know"), "{}", bad[0].error);
    assert_eq!(problems::<Post>(&worker).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_by_hand_that_names_the_later_indexes_keeps_them() {
    let world = World::start().await;
    let db = world.db().await;
    let posts = db.run(async |tx| Ok([tx.create(&new("s", "a@x")).await?, tx.create(&new("t", "b@x")).await?])).await;
    let [post, other] = posts.expect("creates");
    let edit = db.run(async |tx| {
        tx.update(as_::<Careful>(post), |post| post.0.slug = "u".into()).await?;
        tx.remove(as_::<Careful>(other))
    });
    edit.await.expect("it knows all of them");
    assert_eq!(problems::<Half>(&db).await, Vec::<String>::new());
    assert_eq!(Post::BY_MAIL.range(&db.now(), ..).collect().await.expect("reads"), []);
    assert!(Post::BY_NAME.range(&db.now(), ..).collect().await.expect("reads").is_empty());
    // An index that comes later is heard of, by a client that has asked before.
    let make = world.db().await;
    let add = async |name: &str| make.run(async |tx| tx.root_or_create::<Index<String, Post>>(name).await).await;
    let edit = async |db: &Db| {
        db.newest().await?;
        let post = db.run(async |tx| tx.create(&new("w", "c@x")).await).await?;
        let edited = db.run(async |tx| tx.update(as_::<Careful>(post), |post| post.0.tag = "v".into()).await).await;
        db.run(async |tx| tx.remove(post)).await?;
        edited
    };
    add("wiki.Poster:size").await.expect("creates");
    edit(&db).await.expect("that is another class's");
    let size = add("wiki.Post:size").await.expect("creates");
    edit(&db).await.expect("a release that was taken back has left it, and nobody is in it");
    make.run(async |tx| size.insert(&tx, "2", other)).await.expect("enters");
    let refused = edit(&db).await.expect_err("nobody has named it");
    assert!(matches!(&refused, Error::KeptElsewhere { indexes, .. } if *indexes == ["size"]), "{refused}");
    assert!(refused.to_string().ends_with("or take the name out of the root, if no release has it"), "{refused}");
    // A bridge by the derive knows what the version has that it reads.
    let post = db.run(async |tx| tx.create(&new("w", "c@x")).await).await.expect("creates");
    db.run(async |tx| tx.update(as_::<OldPost>(post), |post| post.tag = "v".into()).await).await.expect("edits");
}

/// Requests of a client.
async fn counting(world: &World) -> (Db, Arc<AtomicU64>) {
    let frames = Arc::new(AtomicU64::new(0));
    let counting = TracedBy::new({
        let frames = frames.clone();
        move || {
            frames.fetch_add(1, Ordering::Relaxed);
            None
        }
    });
    (world.db_with(Options::new().traced_by(Some(counting))).await, frames)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_overwrites_what_is_newer_asks_for_names_once() {
    let world = World::start().await;
    let maker = world.db().await;
    let make = maker.run(async |tx| {
        let mut posts = Vec::new();
        for number in 0..8 {
            posts.push(tx.create(&new(&format!("s{number}"), &format!("m{number}"))).await?);
        }
        Ok(posts)
    });
    let (posts, (db, frames)) = (make.await.expect("creates"), counting(&world).await);
    let mut cost = Vec::new();
    for post in posts {
        let before = frames.load(Ordering::Relaxed);
        db.run(async |tx| tx.update(as_::<Careful>(post), |post| post.0.tag = "v".into()).await).await.expect("edits");
        let first = frames.load(Ordering::Relaxed);
        db.run(async |tx| tx.update(as_::<Careful>(post), |post| post.0.tag = "w".into()).await).await.expect("edits");
        cost.push((first - before, frames.load(Ordering::Relaxed) - first));
    }
    let (newer, own) = *cost.last().expect("eight of them");
    assert_eq!(own, 1, "what is its own costs the commit: {cost:?}");
    // The object, its entries, the commit.
    assert!(newer <= 3 && cost[0].0 > newer, "{cost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_key_is_free_once_its_object_has_another_although_a_job_owes_that() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let post = db.run(async |tx| tx.create(&old("x", "Ada L")).await).await.expect("creates");
    // The step has entered x@Ada; the bridge has not seen that, and gives it z@Ada.
    let planned = owing(&db, &worker, post, old("z", "Ada M")).await;
    assert!(Post::BY_MAIL.find(&db.now(), "x@Ada").await.expect("reads").is_some());
    let taken = db.run(async |tx| tx.create(&new("y", "z@Ada")).await).await.expect("nobody has entered that yet");
    db.run(async |tx| tx.remove(taken)).await.expect("removes");
    // Whoever takes it has read who does not have it: of two that meet there, one is told.
    let tx = db.begin().await.expect("begins");
    let mine = tx.create(&new("y", "x@Ada")).await.expect("creates");
    assert_eq!(Post::BY_MAIL.find(&tx, "x@Ada").await.expect("reads"), Some(mine));
    let bridge = world.db().await;
    let back = async |slug: &str| {
        bridge.newest().await.expect("answers");
        bridge.run(async |tx| tx.update(post, |post| post.slug = slug.into()).await).await.expect("the bridge edits");
    };
    back("x").await;
    let refused = within(tx.commit()).await.expect_err("its former owner has it again");
    assert!(refused.is_conflict(), "{refused}");
    db.newest().await.expect("answers");
    let taken = db.run(async |tx| tx.create(&new("y", "x@Ada")).await).await;
    assert!(matches!(taken, Err(Error::UniqueTaken { owner, doubt: None, .. }) if owner == post.oid()), "{taken:?}");
    back("z").await;
    db.newest().await.expect("answers");
    let taker = db.run(async |tx| tx.create(&new("y", "x@Ada")).await).await.expect("nobody has it any more");
    let paid = within(Worker::new(&planned).run(evolve::upgrade::<Post>())).await.expect("runs");
    assert_eq!((paid.phase, planned.quarantine(9).await.expect("tells").len()), (Phase::Done, 0));
    assert_eq!(problems::<Post>(&worker).await, Vec::<String>::new());
    assert_eq!(Post::BY_MAIL.find(&db.now(), "x@Ada").await.expect("reads"), Some(taker));
}

/// What a bridge makes with a key that another object had is stepped, and is in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn the_step_of_a_new_object_takes_a_key_that_the_job_owes_the_removal_of() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let post = db.run(async |tx| tx.create(&old("x", "Ada L")).await).await.expect("creates");
    let planned = owing(&db, &worker, post, old("z", "Ada M")).await;
    let other = db.run(async |tx| tx.create(&old("x", "Ada N")).await).await.expect("the bridge creates");
    let paid = within(Worker::new(&planned).run(evolve::upgrade::<Post>())).await.expect("runs");
    assert_eq!((paid.phase, planned.quarantine(9).await.expect("tells")), (Phase::Done, Vec::new()));
    assert_eq!(problems::<Post>(&worker).await, Vec::<String>::new());
    let find = async |mail: &str| Post::BY_MAIL.find(&worker.now(), mail).await.expect("reads").map(|of| of.oid());
    assert_eq!([find("x@Ada").await, find("z@Ada").await], [Some(other.oid()), Some(post.oid())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_key_of_what_cannot_be_read_stays_taken_and_the_error_says_so() {
    let world = World::start().await;
    let db = world.db().await;
    let post = db.run(async |tx| tx.create(&old("x", "Ada")).await).await.expect("creates");
    db.run(async |tx| tx.put(post.cell(), &Record::new("wiki.Post", 3, "what comes"))).await.expect("writes");
    let taken = db.run(async |tx| tx.create(&old("x", "Bob")).await).await.expect_err("it may have it");
    let text = taken.to_string();
    assert!(matches!(&taken, Error::UniqueTaken { doubt: Some(_), .. }), "{text}");
    assert!(text.contains("cannot be told here (its record is of version 3, and what is known here"), "{text}");
    assert!(text.ends_with("deploy the release that wrote it, or choose another key"), "{text}");
    // One that is gone has none.
    db.run(async |tx| tx.delete(post.cell())).await.expect("deletes");
    let next = db.run(async |tx| tx.create(&old("x", "Bob")).await).await.expect("it is free");
    assert_eq!(OldPost::BY_SLUG.find(&db.now(), "x").await.expect("reads"), Some(next));
}

/// A transaction that writes objects of both releases asks each object's own about a key that it wants.
#[tokio::test(flavor = "multi_thread")]
async fn whose_a_key_is_does_not_depend_on_what_else_is_written() {
    let world = World::start().await;
    let db = world.db().await;
    for taker_is_first in [true, false] {
        let (slug, mail) = (format!("s{taker_is_first}"), format!("{taker_is_first}@x"));
        let owner = db.run(async |tx| tx.create(&new(&slug, &mail)).await).await.expect("creates");
        // Somebody who keeps no indexes gives it other keys: its entries stand.
        let other = zeolite_client::typed::encode_record(&new(&mail, &slug)).expect("encodes");
        let other = Record::decode(&other).expect("decodes");
        db.run(async |tx| tx.put(owner.cell(), &other)).await.expect("writes");
        let made = db.run(async |tx| {
            let mut oids = [tx.create(&new("", "")).await?.oid(), tx.create(&new("-", "-")).await?.oid()];
            oids.sort();
            oids.iter().try_for_each(|oid| tx.remove(Ref::<Post>::new(*oid)))?;
            Ok(oids)
        });
        let mut oids = made.await.expect("two oids, in order");
        if !taker_is_first {
            oids.reverse();
        }
        let both = db.run(async |tx| {
            tx.set(Ref::<Post>::new(oids[0]), &new(&slug, &mail))?;
            tx.set(Ref::<Half>::new(oids[1]), &Half(careless(&format!("half {slug}"))))
        });
        both.await.expect("the newer release can read who has had the key");
        assert_eq!(Post::BY_MAIL.find(&db.now(), &mail).await.expect("reads"), Some(Ref::new(oids[0])));
    }
}
