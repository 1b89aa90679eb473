//! Indexes over objects that were written by who did not know them: filled by an evolve, looked at, scrubbed.

use super::{Note, OldNote, made, note, said};
use crate::site::job;
use crate::support::{World, within};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_client::evolve::{self, NewJob, Phase, Plan, Report, Step, verify_indexes};
use zeolite_client::{Db, KeptIndex, Oid, Options, Persistent, Record, Ref, Registry};

async fn worker_db(world: &World) -> Db {
    world.db_with(Options { role: "evolve".into(), ..Options::default() }).await
}

async fn stepped(db: &Db, name: &str, plan: Plan, step: impl Step) -> Report {
    let new = NewJob { plan, gate: false, ..NewJob { name: name.into(), ..job(name) } };
    let job = evolve::plan(db, new).await.expect("plans");
    within(evolve::Worker::new(&job).run(step)).await.expect("runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_fills_the_indexes_of_the_new_version() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let old = |slug: &str| OldNote { slug: slug.into(), author: "ada".into() };
    let notes = db.run(async |tx| {
        let notes = [tx.create(&old("a")).await?, tx.create(&old("b")).await?, tx.create(&old("c")).await?];
        Ok(notes.map(|note| Ref::<Note>::new(note.oid())))
    });
    let notes = notes.await.expect("creates");
    assert!(said(&db.now()).await.expect("reads").is_empty());
    // New code brings an object to the new version, and with it into the indexes, also where no key changes.
    db.run(async |tx| tx.update(notes[1], |note| note.text = "new".into()).await).await.expect("updates");
    assert_eq!(said(&db.now()).await.expect("reads"), ["b=b", "ada:b", "new:b"]);
    let missing = verify_indexes::<Note>(&db).await.expect("looks");
    // Slug, author, and the words "an old note", of two notes.
    assert_eq!((missing.objects, missing.problems_total), (3, 10), "{:?}", missing.problems);
    let report = stepped(&worker, "notes-2", Plan::below("wiki.Note", 2), evolve::upgrade::<Note>()).await;
    assert_eq!((report.phase, report.counts.changed), (Phase::Done, 2));
    let verified = verify_indexes::<Note>(&worker).await.expect("looks");
    assert_eq!((verified.objects, verified.problems), (3, Vec::new()));
    assert_eq!(Note::BY_AUTHOR.find(&worker.now(), "ada").await.expect("reads"), notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_left_is_found_and_mended() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let (one, two) = (made(&db, &note("one", "ada", "w")).await, made(&db, &note("two", "ada", "")).await);
    let three = made(&db, &note("three", "bob", "")).await;
    // Who does not know the indexes: a write from elsewhere, code of a former version that removes.
    let record = zeolite_client::typed::encode_record(&note("uno", "cyd", "w")).expect("encodes");
    db.run(async |tx| {
        tx.put(one.cell(), &Record::decode(&record).expect("decodes"))?;
        tx.remove(Ref::<OldNote>::new(two.oid()))
    })
    .await
    .expect("commits");
    let found = verify_indexes::<Note>(&db).await.expect("looks");
    // Missing: uno, cyd. Too much: one, two, and ada twice.
    assert_eq!((found.objects, found.problems_total), (2, 6), "{:?}", found.problems);
    let left: Vec<_> =
        Note::BY_AUTHOR.load(&db.now(), "ada").await.expect("reads").into_iter().map(|(at, _)| at).collect();
    assert_eq!(left, [one], "one that is gone is left out");

    let report = stepped(&worker, "fill", Plan::class("wiki.Note"), evolve::reindex::<Note>()).await;
    assert_eq!((report.phase, report.counts.kept), (Phase::Done, 2));
    for name in Note::INDEXES.iter().map(KeptIndex::name) {
        let oid = worker.now().roots().collect().await.expect("reads");
        let (_, named) = oid.into_iter().find(|(root, _)| root.ends_with(&format!(":{name}"))).expect("has a name");
        stepped(&worker, name, Plan::entries(named.oid()), evolve::reindex::<Note>()).await;
    }
    let verified = verify_indexes::<Note>(&worker).await.expect("looks");
    assert_eq!((verified.objects, verified.problems), (2, Vec::new()));
    assert_eq!(said(&worker.now()).await.expect("reads"), ["three=three", "uno=uno", "bob:three", "cyd:uno", "w:uno"]);
    assert_eq!(Note::BY_SLUG.find(&worker.now(), "three").await.expect("reads"), Some(three));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_objects_with_one_unique_key_are_told() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let old = OldNote { slug: "same".into(), author: "ada".into() };
    let (first, second) =
        db.run(async |tx| Ok((tx.create(&old).await?, tx.create(&old).await?))).await.expect("creates");
    let report = stepped(&worker, "notes-2", Plan::below("wiki.Note", 2), evolve::upgrade::<Note>()).await;
    assert_eq!((report.phase, report.counts.changed, report.counts.bad), (Phase::Failed, 1, 1));
    let job = evolve::find(&worker, "notes-2").await.expect("is there");
    let bad = job.quarantine(10).await.expect("reads");
    assert!(bad[0].error.contains("unique index \"wiki.Note:unique:slug\""), "{}", bad[0].error);
    assert!([first.oid().0, second.oid().0].contains(&bad[0].oid));
    // Live code gives one of them another key; then the job goes on.
    db.run(async |tx| tx.update(Ref::<Note>::new(Oid(bad[0].oid)), |note| note.slug = "other".into()).await)
        .await
        .expect("updates");
    job.resume().await.expect("resumes");
    let report = within(evolve::Worker::new(&job).run(evolve::upgrade::<Note>())).await.expect("runs");
    assert_eq!(report.phase, Phase::Done);
    assert_eq!(verify_indexes::<Note>(&worker).await.expect("looks").problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_an_upgrade_overtakes_leaves_nothing_behind() {
    // The server itself merges the edit and the upgrade of the record; the indexes must be those of what comes out.
    for (merging, evolves) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut resolvers = Registry::built_in();
        if merging {
            evolve::merge_upgrades::<Note>(&mut resolvers);
        }
        let world = World::start_of(|_| {}, resolvers, None).await;
        let (db, worker) = (world.db().await, worker_db(&world).await);
        let old = OldNote { slug: "a".into(), author: "ada".into() };
        let old = db.run(async |tx| tx.create(&old).await).await.expect("creates");
        let at = Ref::<Note>::new(old.oid());
        let attempts = AtomicU64::new(0);
        let edited = db.run(async |tx| {
            tx.update(at, |note| (note.author, note.slug) = ("bob".into(), "b".into())).await?;
            if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                overtake(&worker, at, evolves).await;
            }
            Ok(())
        });
        within(edited).await.expect("commits");
        if evolves {
            // What the job owes now, it pays.
            let job = evolve::find(&worker, "notes-2").await.expect("is there");
            if job.ensure_done().await.is_err() {
                within(evolve::Worker::new(&job).run(evolve::upgrade::<Note>())).await.expect("runs");
            }
        }
        worker.newest().await.expect("answers");
        let problems = verify_indexes::<Note>(&worker).await.expect("looks").problems;
        assert_eq!(problems, Vec::<String>::new(), "merging: {merging}, by an evolve: {evolves}");
        let now = ["b=b", "bob:b", "an:b", "note:b", "old:b"];
        assert_eq!(said(&worker.now()).await.expect("reads"), now, "merging: {merging}, by an evolve: {evolves}");
    }
}

/// Brings the note to the new version.
async fn overtake(db: &Db, at: Ref<Note>, evolves: bool) {
    if evolves {
        let report = stepped(db, "notes-2", Plan::below("wiki.Note", 2), evolve::upgrade::<Note>()).await;
        assert_eq!(report.counts.changed, 1);
    } else {
        db.transaction().fresh().run(async |tx| tx.update(at, |_| ()).await).await.expect("upgrades");
    }
}

#[derive(Serialize, Deserialize, Persistent, Clone)]
#[persistent(class = "wiki.Tag")]
struct OldTag {
    #[persistent(index)]
    label: String,
}

#[derive(Serialize, Deserialize, Persistent, Clone)]
#[persistent(class = "wiki.Tag", version = 2, from = OldTag)]
struct Tag {
    #[persistent(unique)]
    label: String,
}

impl From<OldTag> for Tag {
    fn from(old: OldTag) -> Tag {
        Tag { label: old.label }
    }
}

/// Both have a collection of their own: entries move from the one to the other with their object, by an edit or by the evolve.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_becomes_a_unique_one_with_a_new_version() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let tag = |label: &str| OldTag { label: label.into() };
    let made =
        db.run(async |tx| Ok([tx.create(&tag("a")).await?, tx.create(&tag("b")).await?, tx.create(&tag("c")).await?]));
    let [a, b, c] = made.await.expect("creates").map(|tag| Ref::<Tag>::new(tag.oid()));
    db.run(async |tx| tx.update(b, |tag| tag.label = "d".into()).await).await.expect("an edit brings it over");
    db.run(async |tx| tx.remove(c)).await.expect("one that is still in the former index goes");
    let report = stepped(&worker, "tags-2", Plan::below("wiki.Tag", 2), evolve::upgrade::<Tag>()).await;
    assert_eq!((report.phase, report.counts.changed), (Phase::Done, 1));
    let view = worker.now();
    assert_eq!(
        Tag::BY_LABEL.range(&view, ..).collect().await.expect("reads"),
        [("a".to_owned(), a), ("d".to_owned(), b)]
    );
    assert!(
        OldTag::BY_LABEL.range(&view, ..).collect().await.expect("reads").is_empty(),
        "nothing is left of the former"
    );
    assert!(verify_indexes::<Tag>(&worker).await.expect("looks").problems.is_empty());
}
