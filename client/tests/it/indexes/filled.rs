//! Indexes over objects that were written by who did not know them: filled by an evolve, looked at, scrubbed.

use super::{Note, OldNote, made, note, said};
use crate::site::job;
use crate::support::{World, within};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_client::collections::KeptName;
use zeolite_client::evolve::{self, DryRunOptions, KeptIndexes, Phase, Plan, Report, Step, Stepped, verify_indexes};
use zeolite_client::{Db, KeptIndex, Oid, Options, Persistent, Record, Ref, Resolvers, TracedBy};

async fn worker_db(world: &World) -> Db {
    world.db_with(Options::new().role("evolve")).await
}

async fn stepped(db: &Db, name: &str, plan: Plan, step: impl Step) -> Report {
    let mut new = job(name);
    (new.plan, new.gate) = (plan, false);
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
    // Who does not know the indexes: a write from elsewhere, code of a former version that removes what it has not read.
    let record = zeolite_client::typed::encode_record(&note("uno", "cyd", "w")).expect("encodes");
    db.run(async |tx| tx.put(one.cell(), &Record::decode(&record).expect("decodes"))).await.expect("commits");
    world.db().await.run(async |tx| tx.remove(Ref::<OldNote>::new(two.oid()))).await.expect("removes");
    db.newest().await.expect("answers");
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
        let mut resolvers = Resolvers::built_in();
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

/// Neither in a dry run nor in any other does a transaction see what the step of another object has claimed.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_of_two_objects_with_one_key_of_a_new_unique_index() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let old = |slug: &str| OldNote { slug: slug.into(), author: "ada".into() };
    let (first, second) = db
        .run(async |tx| {
            let both = (tx.create(&old("same")).await?, tx.create(&old("same")).await?);
            tx.create(&old("other")).await.map(|_| both)
        })
        .await
        .expect("creates");
    let mut new = job("notes-2");
    new.plan = Plan::below("wiki.Note", 2);
    let found = evolve::dry_run(&worker, &new, &evolve::upgrade::<Note>(), &DryRunOptions::default()).await;
    let found = found.expect("runs");
    assert_eq!((found.stepped, found.changed, found.bad, found.keys_unlooked), (3, 2, 1, 0));
    let told = &found.errors[0].error;
    assert!(told.contains("\"same\"") && told.contains("wiki.Note:unique:slug"), "{told}");
    assert!([first, second].iter().any(|note| told.contains(&note.oid().to_string())), "{told}");
}

/// What an index is asked for in a step, and one by its name, are there for the step alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_makes_no_index_whatever_its_step_does() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let old = OldNote { slug: "one".into(), author: "ada".into() };
    db.run(async |tx| tx.create(&old).await).await.expect("creates");
    let step = evolve::with("makes and reads", |tx, cell, _| {
        Box::pin(async move {
            tx.create(&note("made", "ada", "by a step")).await?;
            Note::BY_AUTHOR.find(tx, "ada").await?;
            let name = KeptName::new("wiki.Note", "word", false, "text")?;
            let made = tx.kept_index_or_create(&name).await?;
            assert_eq!(tx.kept_index_or_create(&name).await?, made);
            tx.set(Ref::new(cell.oid), &note("one", "ada", ""))?;
            Ok(Stepped::Keep)
        })
    });
    let mut new = job("notes-2");
    new.plan = Plan::below("wiki.Note", 2);
    let found = evolve::dry_run(&worker, &new, &step, &DryRunOptions::default()).await.expect("runs");
    assert_eq!((found.stepped, found.bad), (1, 0), "{:?}", found.errors);
    db.newest().await.expect("answers");
    let names = db.now().roots().collect().await.expect("reads");
    assert_eq!(names.into_iter().find(|(name, _)| name.contains(':')), None);
}

/// A page of objects, and one of entries, costs a few requests and not one for each.
#[tokio::test(flavor = "multi_thread")]
async fn the_look_at_all_indexes_asks_for_many_at_once() {
    let world = World::start().await;
    let db = world.db().await;
    let make = db.run(async |tx| {
        for number in 0..300 {
            tx.create(&note(&format!("note {number}"), "ada", "some words")).await?;
        }
        Ok(())
    });
    make.await.expect("creates");
    let frames = Arc::new(AtomicU64::new(0));
    let counting = TracedBy::new({
        let frames = frames.clone();
        move || {
            frames.fetch_add(1, Ordering::Relaxed);
            None
        }
    });
    let looking = world.db_with(Options::new().traced_by(Some(counting))).await;
    let verified = verify_indexes::<Note>(&looking).await.expect("looks");
    assert_eq!((verified.objects, verified.problems), (300, Vec::new()));
    let frames = frames.load(Ordering::Relaxed);
    assert!(frames < 60, "{frames} requests for 300 objects and 1200 entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_looks_at_the_indexes_and_makes_them_right() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let indexes = || KeptIndexes::new(&worker).class::<Note>().class::<Tag>().settings(job("").settings);
    let told = async |word: &str| {
        let told = within(indexes().command(word)).await;
        (told.exit_code(), told.to_string())
    };
    assert_eq!(told("verify").await.0, 0);
    let (one, two) = (made(&db, &note("one", "ada", "w")).await, made(&db, &note("two", "ada", "")).await);
    let raw = |note: &Note| {
        let record = zeolite_client::typed::encode_record(note).expect("encodes");
        Record::decode(&record).expect("decodes")
    };
    let write = async |at: Ref<Note>, note: Note| {
        db.run(async |tx| tx.put(at.cell(), &raw(&note))).await.expect("commits");
    };
    write(one, note("uno", "cyd", "w")).await;
    let (code, text) = told("verify").await;
    assert!(code == 2 && text.contains("wiki.Note: 2 objects, 4 problems"), "{text}");
    let (code, text) = told("reindex").await;
    assert!(code == 0 && text.contains("all indexes hold"), "{text}");
    assert_eq!(said(&worker.now()).await.expect("reads"), ["two=two", "uno=uno", "ada:two", "cyd:uno", "w:uno"]);
    // One that cannot be mended by anybody but a person is told, and is mended when it can be.
    write(two, note("uno", "ada", "")).await;
    let (code, text) = told("reindex").await;
    assert!(code == 2 && text.contains("unique index \"wiki.Note:unique:slug\""), "{text}");
    write(two, note("two", "ada", "")).await;
    assert_eq!(told("reindex").await.0, 0);
    assert_eq!(evolve::list(&worker).await.expect("reads").len(), 0, "what is done is forgotten");
    let (code, text) = told("mend").await;
    assert!(code == 3 && text.contains("there are verify and reindex"), "{text}");
}

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(
    class = "a.class.whose.name.is.as.long.as.that.of.a.module.in.a.program.that.somebody.has.laid.out.with.great.care.over.many.years.and.in.which.nobody.finds.anything.without.a.search.and.whose.name.is.longer.than.that.of.an.evolve"
)]
struct Long {
    #[persistent(index)]
    author: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_indexes_of_a_class_with_a_long_name_are_mended_as_well() {
    let world = World::start().await;
    let (db, worker) = (world.db().await, worker_db(&world).await);
    let long = db.run(async |tx| tx.create(&Long { author: "ada".into() }).await).await.expect("creates");
    db.run(async |tx| tx.delete(long.cell())).await.expect("deletes");
    let told = within(KeptIndexes::new(&worker).class::<Long>().settings(job("").settings).command("reindex")).await;
    assert_eq!(told.exit_code(), 0, "{told}");
}
