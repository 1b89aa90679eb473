//! Indexes over two releases that run side by side: a bridge that reads and overwrites what the newer one has written, evolves up and
//! back, and the undo of one while both go on writing.

use crate::site::job;
use crate::support::{World, within};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use zeolite_client::evolve::{self, Job, Phase, Plan, Report, Step, Verified, Worker, verify_indexes};
use zeolite_client::{Db, Error, Options, Persistent, Record, Ref, Result};

/// The first release, as a bridge.
#[derive(Serialize, Deserialize, Persistent, Clone, Debug)]
#[persistent(class = "wiki.Post", newer = Post)]
pub(super) struct OldPost {
    #[persistent(unique)]
    pub(super) slug: String,
    #[persistent(index)]
    pub(super) author: String,
    #[persistent(index)]
    pub(super) tag: String,
}

/// The second one has other indexes.
#[derive(Serialize, Deserialize, Persistent, Clone, Debug)]
#[persistent(class = "wiki.Post", version = 2, from = OldPost)]
pub(super) struct Post {
    #[persistent(unique)]
    pub(super) slug: String,
    #[persistent(index)]
    pub(super) name: String,
    #[persistent(unique)]
    pub(super) mail: String,
    #[persistent(index)]
    pub(super) tag: String,
}

impl From<OldPost> for Post {
    fn from(old: OldPost) -> Post {
        let name = old.author.split(' ').next().unwrap_or_default().to_owned();
        Post { mail: format!("{}@{name}", old.slug), name, slug: old.slug, tag: old.tag }
    }
}

impl From<Post> for OldPost {
    fn from(new: Post) -> OldPost {
        OldPost { slug: new.slug, author: format!("{} of old", new.name), tag: new.tag }
    }
}

pub(super) fn old(slug: &str, author: &str) -> OldPost {
    OldPost { slug: slug.into(), author: author.into(), tag: "t".into() }
}

/// A worker that gives way to live traffic.
pub(super) fn as_worker(mut options: Options) -> Options {
    options.role = "evolve".into();
    options
}

pub(super) async fn worker_db(world: &World) -> Db {
    world.db_with(as_worker(Options::default())).await
}

pub(super) async fn evolved(db: &Db, name: &str, plan: Plan, step: impl Step) -> (Job, Report) {
    let mut new = job(name);
    (new.plan, new.gate) = (plan, false);
    let job = evolve::plan(db, new).await.expect("plans");
    let report = within(Worker::new(&job).run(step)).await.expect("runs");
    (job, report)
}

async fn upgraded(db: &Db, name: &str) -> Job {
    let (job, report) = evolved(db, name, Plan::below("wiki.Post", 2), evolve::upgrade::<Post>()).await;
    assert_eq!(report.phase, Phase::Done);
    job
}

pub(super) async fn problems<T: Persistent + 'static>(db: &Db) -> Vec<String> {
    let Verified { problems, .. } = verify_indexes::<T>(db).await.expect("looks");
    problems
}

/// Names and mails that the second release's own indexes have.
async fn of_the_newer(db: &Db) -> usize {
    db.newest().await.expect("answers");
    let view = db.now();
    let names = Post::BY_NAME.range(&view, ..).collect().await.expect("reads");
    names.len() + Post::BY_MAIL.range(&view, ..).collect().await.expect("reads").len()
}

async fn edit_new(db: &Db, post: Ref<OldPost>, name: &str) -> Result<()> {
    db.run(async |tx| tx.update(Ref::<Post>::new(post.oid()), |post| post.name = name.into()).await).await
}

async fn edit_old(db: &Db, post: Ref<OldPost>, author: &str) -> Result<()> {
    db.run(async |tx| tx.update(post, |post| post.author = author.into()).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_takes_out_what_the_newer_release_has_entered() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let new = Post { slug: "s".into(), name: "Ada".into(), mail: "a@x".into(), tag: "t".into() };
    let post: Ref<OldPost> = Ref::new(db.run(async |tx| tx.create(&new).await).await.expect("creates").oid());
    assert_eq!(db.now().load(post).await.expect("a bridge reads it").author, "Ada of old");
    let edit = db.run(async |tx| {
        tx.update(post, |post| (post.slug, post.author) = ("t".into(), "Bob of old".into())).await?;
        assert_eq!(Post::BY_MAIL.find(&tx, "a@x").await?, None);
        assert_eq!(OldPost::BY_AUTHOR.find(&tx, "Bob of old").await?, [post]);
        Ok(())
    });
    edit.await.expect("edits");
    assert_eq!((problems::<OldPost>(&db).await, of_the_newer(&db).await), (Vec::new(), 0));
    // What it has left is free: slug and mail.
    db.run(async |tx| tx.create(&new).await).await.expect("nobody has them");
    upgraded(&worker, "posts-2").await;
    assert_eq!(problems::<Post>(&worker).await, Vec::<String>::new());
    assert_eq!(of_the_newer(&db).await, 4);
    assert!(OldPost::BY_AUTHOR.range(&db.now(), ..).collect().await.expect("reads").is_empty());
    // And back, by the bridge as the step: then nothing of the newer release is left.
    let (_, report) = evolved(&worker, "back", Plan::class("wiki.Post"), evolve::upgrade::<OldPost>()).await;
    assert_eq!((report.phase, report.counts.changed), (Phase::Done, 2));
    assert_eq!((problems::<OldPost>(&worker).await, of_the_newer(&db).await), (Vec::new(), 0));
    let (_, report) = evolved(&worker, "again", Plan::class("wiki.Post"), evolve::upgrade::<OldPost>()).await;
    assert_eq!((report.counts.changed, report.counts.kept), (0, 2), "what needs nothing is left alone");
}

/// A bridge commits over a step that it has not seen, so the job owes that object another one: gives the job.
pub(super) async fn owing(db: &Db, worker: &Db, post: Ref<OldPost>, edit: OldPost) -> Job {
    let mut new = job("posts-2");
    (new.plan, new.gate) = (Plan::below("wiki.Post", 2), false);
    let planned = evolve::plan(worker, new).await.expect("plans");
    let (has_read, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let live = tokio::spawn({
        let (db, has_read, goes_on) = (db.clone(), has_read.clone(), goes_on.clone());
        async move {
            db.run(async |tx| {
                tx.load(post).await?;
                has_read.notify_one();
                goes_on.notified().await;
                tx.set(post, &edit)
            })
            .await
        }
    });
    within(has_read.notified()).await;
    let stepped = within(Worker::new(&planned).run(evolve::upgrade::<Post>())).await.expect("runs");
    assert_eq!(stepped.counts.changed, 1);
    // It may be told of the step, and run again.
    goes_on.notify_one();
    goes_on.notify_one();
    within(live).await.expect("no panic").expect("commits");
    assert!(planned.owes().await.expect("tells"), "else nothing is tested");
    db.newest().await.expect("answers");
    planned
}

/// Until the job pays, the unique key that the step has entered is given up by new code, and taken by another object.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_object_has_taken_meanwhile_is_not_taken_back() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let post = db.run(async |tx| tx.create(&old("x", "Ada L")).await).await.expect("creates");
    let planned = owing(&db, &worker, post, old("x", "Ada M")).await;
    let mine = |mail: &str| Post { slug: "x".into(), name: "Ada".into(), mail: mail.into(), tag: "t".into() };
    for mail in ["x@Ada", "x@other"] {
        db.run(async |tx| tx.set(Ref::new(post.oid()), &mine(mail))).await.expect("new code writes it");
    }
    let theirs = Post { slug: "y".into(), ..mine("x@Ada") };
    let taker = db.run(async |tx| tx.create(&theirs).await).await.expect("nobody has it any more");
    let paid = within(Worker::new(&planned).run(evolve::upgrade::<Post>())).await.expect("runs");
    assert_eq!((paid.phase, planned.quarantine(9).await.expect("tells").len()), (Phase::Done, 0));
    assert_eq!(problems::<Post>(&worker).await, Vec::<String>::new());
    assert_eq!(Post::BY_MAIL.find(&db.now(), "x@Ada").await.expect("reads"), Some(taker));
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_closed_gate_what_careless_code_has_left_is_swept() {
    for gate in [false, true] {
        let world = World::start().await;
        let (db, worker) = (world.db().await, worker_db(&world).await);
        let new = Post { slug: "s".into(), name: "Ada".into(), mail: "a@x".into(), tag: "t".into() };
        let post = db.run(async |tx| tx.create(&new).await).await.expect("creates");
        // A program in a language that keeps no indexes.
        let careless = zeolite_client::typed::encode_record(&old("s", "Bob")).expect("encodes");
        let careless = Record::decode(&careless).expect("decodes");
        db.run(async |tx| tx.put(post.cell(), &careless)).await.expect("edits");
        let mut new = job("posts-2");
        (new.plan, new.gate) = (Plan::below("wiki.Post", 2), gate);
        let job = evolve::plan(&worker, new).await.expect("plans");
        let report = within(Worker::new(&job).run(evolve::upgrade::<Post>())).await.expect("runs");
        assert_eq!(report.phase, Phase::Done);
        worker.newest().await.expect("answers");
        let found = problems::<Post>(&worker).await;
        if gate {
            assert_eq!(found, Vec::<String>::new());
            assert_eq!(Post::BY_MAIL.find(&worker.now(), "a@x").await.expect("reads"), None);
            continue;
        }
        // While older code may write, nobody knows whose they are.
        assert_eq!(found.len(), 2, "{found:?}");
        for problem in ["index \"name\" has under \"Ada\" object", "index \"mail\" has under \"a@x\" object"] {
            assert!(found.iter().any(|found| found.contains(problem)), "{found:?}");
        }
    }
}

/// What a bridge has brought back to the old shape is left alone by an undo, with the entries that the bridge has kept for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_leaves_the_entries_of_an_object_that_it_leaves() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let make = db.run(async |tx| Ok([tx.create(&old("a", "Ada")).await?, tx.create(&old("b", "Bea")).await?]));
    let [page, other] = make.await.expect("creates");
    let job = upgraded(&worker, "posts-2").await;
    edit_new(&db, page, "Bob").await.expect("edits");
    edit_old(&db, page, "Cy").await.expect("the bridge edits");
    job.begin_undo().await.expect("begins");
    let report = within(Worker::new(&job).undo()).await.expect("undoes");
    assert_eq!((report.phase, report.counts.bad), (Phase::Undone, 0));
    worker.newest().await.expect("answers");
    let view = worker.now();
    assert_eq!(OldPost::BY_AUTHOR.find(&view, "Ada").await.expect("reads"), []);
    assert_eq!(OldPost::BY_AUTHOR.find(&view, "Cy").await.expect("reads"), [page]);
    assert_eq!(OldPost::BY_AUTHOR.find(&view, "Bea").await.expect("reads"), [other]);
    assert_eq!((problems::<OldPost>(&worker).await, of_the_newer(&worker).await), (Vec::new(), 0));
}

/// An edit of the new shape that a server merges with the undo would keep the object, and lose its entries.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_would_be_merged_is_left_whole_with_its_entries() {
    let mut resolvers = zeolite_proto::Registry::built_in();
    evolve::merge_upgrades::<Post>(&mut resolvers);
    let world = World::start_of(|_| {}, resolvers, None).await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let make = db.run(async |tx| Ok([tx.create(&old("a", "Ada")).await?, tx.create(&old("b", "Bea")).await?]));
    let [page, _] = make.await.expect("creates");
    let job = upgraded(&worker, "posts-2").await;
    db.run(async |tx| tx.update(Ref::<Post>::new(page.oid()), |post| post.tag = "u".into()).await)
        .await
        .expect("edits");
    job.begin_undo().await.expect("begins");
    let report = within(Worker::new(&job).undo()).await.expect("undoes");
    assert_eq!((report.phase, report.counts.changed, report.counts.bad), (Phase::Undone, 1, 1));
    let left = job.not_undone(10).await.expect("lists");
    assert!(left[0].reason.contains("its entries in indexes"), "{left:?}");
    worker.newest().await.expect("answers");
    assert_eq!(Post::BY_NAME.find(&worker.now(), "Ada").await.expect("reads"), [Ref::new(page.oid())]);
    let (_, report) = evolved(&worker, "back", Plan::class("wiki.Post"), evolve::upgrade::<OldPost>()).await;
    assert_eq!((report.counts.changed, report.counts.kept), (1, 1));
    assert_eq!((problems::<OldPost>(&worker).await, of_the_newer(&worker).await), (Vec::new(), 0));
}

const POSTS: usize = 40;

/// One release writes, until it is told to stop.
async fn writer(db: Db, posts: Vec<Ref<OldPost>>, seed: u64, is_new: bool, stop: Arc<AtomicBool>) -> u64 {
    let (mut dice, mut edits) = (fastrand::Rng::with_seed(seed), 0);
    while !stop.load(Ordering::Relaxed) {
        let (post, who) = (posts[dice.usize(..posts.len())], ["Ada", "Bob", "Cy"][dice.usize(..3)]);
        let edited = match is_new {
            true => edit_new(&db, post, who).await,
            false => edit_old(&db, post, who).await,
        };
        match edited {
            Ok(()) => edits += 1,
            Err(Error::UniqueTaken { .. }) => panic!("nobody else has its mail"),
            Err(error) => panic!("{error}"),
        }
    }
    edits
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_beside_writers_of_both_releases_leaves_no_entry_astray() {
    let seed = 41;
    println!("seed {seed}");
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let make = db.run(async |tx| {
        let mut made = Vec::new();
        for number in 0..POSTS {
            made.push(tx.create(&old(&format!("s{number}"), "Dot")).await?);
        }
        Ok(made)
    });
    let posts = make.await.expect("creates");
    let job = upgraded(&worker, "posts-2").await;
    for (number, post) in posts.iter().enumerate().take(20) {
        if number % 2 == 0 {
            edit_new(&db, *post, "Eve").await.expect("edits");
        }
        edit_old(&db, *post, "Fay").await.expect("edits");
    }
    job.begin_undo().await.expect("begins");
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for (number, is_new) in [(0, true), (1, false), (2, false)] {
        // The newer release keeps to its own, so that there is something that goes back.
        let own = if is_new { posts[20..25].to_vec() } else { posts[..30].to_vec() };
        writers.spawn(writer(world.db().await, own, seed + number, is_new, stop.clone()));
    }
    let report = within(Worker::new(&job).undo()).await.expect("undoes");
    stop.store(true, Ordering::Relaxed);
    while let Some(edits) = within(writers.join_next()).await {
        assert!(edits.expect("no panic") > 0);
    }
    assert_eq!(report.phase, Phase::Undone);
    worker.newest().await.expect("answers");
    // Whatever is in the old shape is in the old indexes, and nothing else is wrong: the newer release does not keep `author`.
    let view = worker.now();
    let mut newer = Vec::new();
    for post in &posts {
        let record = view.get(&post.cell()).await.expect("reads").expect("is there");
        newer.extend((record.version == 2).then(|| post.oid().to_string()));
    }
    let is_of_a_newer = |problem: &String| newer.iter().any(|oid| problem.starts_with(&format!("{oid}: is not in")));
    let wrong: Vec<String> = problems::<OldPost>(&worker).await.into_iter().filter(|of| !is_of_a_newer(of)).collect();
    assert_eq!(wrong, Vec::<String>::new(), "{} are in the new shape", newer.len());
    assert_eq!(of_the_newer(&worker).await, 2 * newer.len());
    evolved(&worker, "back", Plan::class("wiki.Post"), evolve::upgrade::<OldPost>()).await;
    assert_eq!((problems::<OldPost>(&worker).await, of_the_newer(&worker).await), (Vec::new(), 0));
}

#[derive(Serialize, Deserialize, Persistent, Clone, Debug)]
#[persistent(class = "wiki.Post", version = 3, from = Post)]
struct NewestPost {
    slug: String,
}

impl From<Post> for NewestPost {
    fn from(old: Post) -> NewestPost {
        NewestPost { slug: old.slug }
    }
}

/// Also where the newest version has no index at all, entries of the former go.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_version_without_indexes_writes_leaves_no_entries_of_the_former() {
    let world = World::start().await;
    let db = world.db().await;
    let post = db.run(async |tx| tx.create(&old("a", "Ada")).await).await.expect("creates");
    let newest = Ref::<NewestPost>::new(post.oid());
    db.run(async |tx| tx.update(newest, |post| post.slug = "b".into()).await).await.expect("edits");
    assert!(OldPost::BY_AUTHOR.range(&db.now(), ..).collect().await.expect("reads").is_empty());
    let told = db.now().load(Ref::<OldPost>::new(post.oid())).await.expect_err("no bridge reads version 3");
    let text = told.to_string();
    assert!(text.contains("a newer program wrote version 3, and this one reads up to 1"), "{text}");
    assert!(text.contains("deploy the newer release, or a bridge"), "{text}");
    assert!(matches!(told, Error::NoUpgrade { found: 3, wanted: 1, .. }), "{told:?}");
    let raw = Record::new("wiki.Post", 2, vec![0xff]);
    db.run(async |tx| tx.put(post.cell(), &raw)).await.expect("writes");
    assert!(matches!(db.now().load(post).await, Err(Error::Decode { version: 2, .. })));
}
