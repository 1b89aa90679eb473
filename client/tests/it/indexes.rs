//! Indexes that are kept with a class: one transaction at a time. At random, beside an evolve, in `model`; filled and scrubbed in `filled`;
//! over two releases in `releases`, whose bridge is made by hand in `bridges`; what they are called in `names`.

mod bridges;
mod filled;
mod model;
mod names;
mod releases;

use crate::support::{World, within};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_client::collections::{Index, UniqueIndex};
use zeolite_client::{Cell, Db, Error, Persistent, Ref, Remedy, Result, View};

/// As old code knows it: without an index.
#[derive(Serialize, Deserialize, Persistent, Clone, PartialEq, Debug)]
#[persistent(class = "wiki.Note")]
pub(crate) struct OldNote {
    pub(crate) slug: String,
    pub(crate) author: String,
}

#[derive(Serialize, Deserialize, Persistent, Clone, PartialEq, Debug)]
#[persistent(class = "wiki.Note", version = 2, from = OldNote)]
#[persistent(index(name = "word", key = String, by = Note::words))]
pub(crate) struct Note {
    #[persistent(unique)]
    pub(crate) slug: String,
    #[persistent(index)]
    pub(crate) author: String,
    pub(crate) text: String,
}

impl Note {
    pub(crate) fn words(&self) -> Vec<String> {
        self.text.split_whitespace().map(str::to_owned).collect()
    }
}

impl From<OldNote> for Note {
    fn from(old: OldNote) -> Note {
        Note { slug: old.slug, author: old.author, text: "an old note".into() }
    }
}

pub(crate) fn note(slug: &str, author: &str, text: &str) -> Note {
    Note { slug: slug.into(), author: author.into(), text: text.into() }
}

/// What all indexes say of notes: slugs, authors, words, each with the notes under it.
async fn said(view: &View) -> Result<Vec<String>> {
    let mut said = Vec::new();
    let mut slugs = Note::BY_SLUG.range(view, ..);
    while let Some((key, note)) = slugs.next().await? {
        said.push(format!("{key}={}", view.load(note).await?.slug));
    }
    for index in [Note::BY_AUTHOR, Note::BY_WORD] {
        let mut entries = index.range(view, ..);
        while let Some((key, note)) = entries.next().await? {
            said.push(format!("{key}:{}", view.load(note).await?.slug));
        }
    }
    Ok(said)
}

async fn made(db: &Db, new: &Note) -> Ref<Note> {
    within(db.run(async |tx| tx.create(new).await)).await.expect("creates")
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_come_change_and_go_with_their_object() {
    let world = World::start().await;
    let db = world.db().await;
    assert!(said(&db.now()).await.expect("reads").is_empty(), "there is no index yet");
    let one = made(&db, &note("one", "ada", "a b a")).await;
    assert_eq!(said(&db.now()).await.expect("reads"), ["one=one", "ada:one", "a:one", "b:one"]);
    // In the transaction itself, however often it writes and reads.
    let inside = db.run(async |tx| {
        let two = tx.create(&note("two", "ada", "b")).await?;
        assert_eq!(Note::BY_AUTHOR.find(&tx, "ada").await?, [one, two]);
        tx.update(one, |note| note.author = "bob".into()).await?;
        assert_eq!(Note::BY_AUTHOR.find(&tx, "ada").await?, [two]);
        tx.update(one, |note| (note.author, note.text) = ("cyd".into(), "c".into())).await?;
        tx.remove(two)?;
        tx.set(two, &note("zwei", "dot", "d"))?;
        said(&tx).await
    });
    let now = ["one=one", "zwei=zwei", "cyd:one", "dot:zwei", "c:one", "d:zwei"];
    assert_eq!(inside.await.expect("commits"), now);
    assert_eq!(said(&db.now()).await.expect("reads"), now);
    let found = Note::BY_SLUG.load(&db.now(), "zwei").await.expect("reads").expect("is there");
    assert_eq!(found.1, note("zwei", "dot", "d"));
    // Nothing but the object is written where no key changes.
    let tx = db.begin().await.expect("begins");
    tx.set(found.0, &note("zwei", "dot", " d  d")).expect("sets");
    assert_eq!(Note::BY_WORD.find(&tx, "d").await.expect("reads"), [found.0]);
    assert_eq!(tx.writes(), 1);
    drop(tx);
    db.run(async |tx| tx.remove(found.0)).await.expect("removes");
    assert_eq!(said(&db.now()).await.expect("reads"), ["one=one", "cyd:one", "c:one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_was_never_in_an_index() {
    let world = World::start().await;
    let db = world.db().await;
    let one = made(&db, &note("one", "ada", "a")).await;
    let kept = db.run(async |tx| {
        tx.update(one, |note| note.author = "bob".into()).await?;
        let before = tx.savepoint();
        tx.create(&note("two", "bob", "b")).await?;
        tx.remove(one)?;
        assert_eq!(said(&tx).await?, ["two=two", "bob:two", "b:two"]);
        tx.back_to(&before)?;
        assert_eq!(said(&tx).await?, ["one=one", "bob:one", "a:one"]);
        Ok(())
    });
    kept.await.expect("commits");
    assert_eq!(said(&db.now()).await.expect("reads"), ["one=one", "bob:one", "a:one"]);
    db.run(async |tx| {
        tx.remove(one)?;
        assert!(said(&tx).await?.is_empty());
        tx.rollback()
    })
    .await
    .expect("commits nothing");
    assert_eq!(said(&db.now()).await.expect("reads"), ["one=one", "bob:one", "a:one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_key_is_one_objects() {
    let world = World::start().await;
    let db = world.db().await;
    let (one, two) = (made(&db, &note("one", "ada", "")).await, made(&db, &note("two", "ada", "")).await);
    let tries = AtomicU64::new(0);
    let taken = db.run(async |tx| {
        tries.fetch_add(1, Ordering::Relaxed);
        tx.update(two, |note| note.slug = "one".into()).await
    });
    let error = within(taken).await.expect_err("is taken");
    assert_eq!((error.remedy(), tries.into_inner()), (Remedy::FixRequest, 1), "{error}");
    match error {
        Error::UniqueTaken { index, owner, object, .. } => {
            assert_eq!((index.as_str(), owner, object), ("wiki.Note:unique:slug", one.oid(), two.oid()));
        }
        other => panic!("{other}"),
    }
    let twins = db.run(async |tx| {
        tx.create(&note("three", "a", "")).await?;
        tx.create(&note("three", "b", "")).await
    });
    assert!(matches!(twins.await, Err(Error::UniqueTaken { .. })), "two of one transaction");
    // Two change their keys with each other.
    db.run(async |tx| {
        tx.update(one, |note| note.slug = "two".into()).await?;
        tx.update(two, |note| note.slug = "one".into()).await
    })
    .await
    .expect("commits");
    assert_eq!(Note::BY_SLUG.find(&db.now(), "two").await.expect("reads"), Some(one));
    assert_eq!(said(&db.now()).await.expect("reads"), ["one=one", "two=two", "ada:two", "ada:one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_writers_of_one_unique_key_exactly_one_wins() {
    let world = World::start().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(world.db().await);
    }
    for round in 0..10 {
        let slug = format!("slug {round}");
        let create = |db: &Db, author: String| {
            let (db, new) = (db.clone(), note(&slug, &author, ""));
            tokio::spawn(async move { db.run(async |tx| tx.create(&new).await).await })
        };
        let running: Vec<_> = clients.iter().zip(0..).map(|(db, n)| create(db, n.to_string())).collect();
        let mut won = Vec::new();
        for task in running {
            match within(task).await.expect("does not panic") {
                Ok(note) => won.push(note),
                Err(error) => assert!(matches!(error, Error::UniqueTaken { .. }), "{error}"),
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        clients[0].newest().await.expect("answers");
        assert_eq!(Note::BY_SLUG.find(&clients[0].now(), &slug).await.expect("reads"), Some(won[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_what_a_collection_would_have_written() {
    let world = World::start().await;
    let db = world.db().await;
    let one = made(&db, &note("one", "ada", "")).await;
    let by_hand = db.run(async |tx| {
        let (authors, slugs): (Index<String, Note>, UniqueIndex<String, Ref<Note>>) =
            (tx.root_or_create("authors").await?, tx.root_or_create("slugs").await?);
        authors.insert(&tx, "ada", one)?;
        slugs.insert(&tx, "one", &one).await?.or_refuse()?;
        Ok((zeolite_client::Handle::oid(&authors), zeolite_client::Handle::oid(&slugs)))
    });
    let (authors, slugs) = by_hand.await.expect("commits");
    let view = db.now();
    let kept: Index<String, Note> = view.root("wiki.Note:author").await.expect("reads").expect("has a name");
    let unique: UniqueIndex<String, Ref<Note>> =
        view.root("wiki.Note:unique:slug").await.expect("reads").expect("has a name");
    for (kept, by_hand) in
        [(zeolite_client::Handle::oid(&kept), authors), (zeolite_client::Handle::oid(&unique), slugs)]
    {
        let entries = view.entries(kept, zeolite_client::Range::all()).await.expect("reads");
        let written = view.entries(by_hand, zeolite_client::Range::all()).await.expect("reads");
        let bare = |entries: Vec<zeolite_client::Entry>| -> Vec<_> {
            entries.into_iter().map(|entry| (entry.key, entry.record)).collect()
        };
        assert_eq!(bare(entries), bare(written));
    }
    assert!(view.get(&Cell::object(one.oid())).await.expect("reads").is_some());
}

/// What a note may become: a class without an index, and one with an index of its own.
#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Stub")]
struct Stub {
    slug: String,
}

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Essay")]
struct Essay {
    #[persistent(index)]
    author: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_becomes_one_of_another_class_leaves_no_entry_behind() {
    let world = World::start().await;
    let db = world.db().await;
    let (one, two) = (made(&db, &note("one", "ada", "a")).await, made(&db, &note("two", "bob", "b")).await);
    let (stub, essay) = (Stub { slug: "one".into() }, Essay { author: "ada".into() });
    // Who does not know what it was is told.
    for at in [one, two] {
        let refused = [
            db.run(async |tx| tx.set(Ref::<Essay>::new(at.oid()), &essay)).await,
            db.run(async |tx| tx.load(at).await.map(drop).and_then(|()| tx.set(Ref::<Stub>::new(at.oid()), &stub)))
                .await,
            db.run(async |tx| tx.load(at).await.map(drop).and_then(|()| tx.remove(Ref::<Stub>::new(at.oid())))).await,
        ];
        for refused in refused {
            let error = refused.expect_err("its entries would stay");
            assert!(error.to_string().contains("holds class \"wiki.Note\""), "{error}");
        }
    }
    // Who knows both takes the entries along.
    db.run(async |tx| {
        tx.remove(one)?;
        tx.set(Ref::<Essay>::new(one.oid()), &essay)?;
        assert_eq!(said(&tx).await?, ["two=two", "bob:two", "b:two"]);
        tx.remove(two)?;
        tx.set(Ref::<Stub>::new(two.oid()), &stub)
    })
    .await
    .expect("commits");
    assert!(said(&db.now()).await.expect("reads").is_empty());
    assert_eq!(Essay::BY_AUTHOR.find(&db.now(), "ada").await.expect("reads"), [Ref::new(one.oid())]);
    // And one that was without an index becomes whatever one likes.
    db.run(async |tx| {
        tx.set(Ref::<Essay>::new(two.oid()), &essay)?;
        let new = tx.create(&note("new", "ada", "")).await?;
        tx.set(Ref::<Stub>::new(new.oid()), &stub)
    })
    .await
    .expect("commits");
    assert_eq!(Essay::BY_AUTHOR.find(&db.now(), "ada").await.expect("reads").len(), 2);
    assert!(said(&db.now()).await.expect("reads").is_empty());
}
