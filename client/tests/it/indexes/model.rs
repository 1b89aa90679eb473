//! Random schedules of live writers of two code versions, evolves whose workers come and are killed; after each
//! the indexes are exactly what the objects say, by a reference that walks over the objects themselves.
//!
//! ```text
//!   new code     creates, edits, renames, exchanges two slugs, removes, goes back to a savepoint, runs into taken slugs
//!   old code     creates and edits what is still in its shape; knows no index
//!   evolve       over the whole class, as if the indexes were new, and then to version 2; killed and begun again
//! ```

use super::{Note, OldNote, note};
use crate::site::job;
use crate::support::{World, within};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zeolite_client::evolve::{self, NewJob, Phase, Plan, Worker, verify_indexes};
use zeolite_client::revision::Listing;
use zeolite_client::{Db, Error, Oid, Options, Ref, Result, Tx};

const WRITERS: u64 = 3;
const TURNS: usize = 60;

type Entries = BTreeSet<(&'static str, String, Oid)>;

/// What the objects say.
async fn expected(db: &Db) -> Entries {
    let Listing { items: oids, more, .. } =
        db.admin().objects(None, "wiki.Note", None, Oid::ROOT, 10_000).await.expect("lists");
    assert!(!more);
    let refs: Vec<Ref<Note>> = oids.into_iter().map(Ref::new).collect();
    let notes = db.now().find_many(&refs).await.expect("loads");
    let mut all = Entries::new();
    for (note, at) in notes.into_iter().zip(refs).filter_map(|(note, at)| Some((note?, at.oid()))) {
        all.extend(note.words().into_iter().map(|word| ("word", word, at)));
        all.extend([("slug", note.slug, at), ("author", note.author, at)]);
    }
    all
}

/// What the indexes say.
async fn found(db: &Db) -> Entries {
    let view = db.now();
    let mut all = Entries::new();
    for (name, index) in [("author", Note::BY_AUTHOR), ("word", Note::BY_WORD)] {
        let entries = index.range(&view, ..).collect().await.expect("reads");
        all.extend(entries.into_iter().map(|(key, at)| (name, key, at.oid())));
    }
    let slugs = Note::BY_SLUG.range(&view, ..).collect().await.expect("reads");
    all.extend(slugs.into_iter().map(|(key, at)| ("slug", key, at.oid())));
    all
}

struct Writer {
    db: Db,
    dice: fastrand::Rng,
    number: u64,
    made: Vec<Ref<Note>>,
    next: u64,
    taken: Arc<AtomicU64>,
}

impl Writer {
    /// One transaction. What another writer has taken, removed, or brought to the new shape is no failure.
    async fn turn(&mut self) {
        let (what, text) = (self.dice.u32(0..12), ["x", "x y", "y z", ""][self.dice.usize(0..4)]);
        let slug = format!("slug {}", self.dice.u32(0..40));
        let author = ["ada", "bob", "cyd"][self.dice.usize(0..3)];
        self.next += 1;
        let own = format!("old {}-{}", self.number, self.next);
        let (one, two) = (self.some(), self.some());
        let db = self.db.clone();
        let done = within(db.run(async |tx| match (what, one, two) {
            (0..2, ..) => tx.create(&note(&slug, author, text)).await.map(Some),
            (2, ..) | (_, None, _) | (_, _, None) => {
                let old = tx.create(&OldNote { slug: own.clone(), author: author.into() }).await?;
                Ok(Some(Ref::new(old.oid())))
            }
            (3..5, Some(at), _) => old_edit(&tx, at, author).await,
            (5, Some(at), _) => tx.remove(at).map(|()| None),
            (6, Some(at), Some(other)) if at != other => exchange(&tx, at, other).await,
            (7, Some(at), _) => {
                let before = tx.savepoint();
                tx.create(&note(&slug, author, "gone")).await?;
                let _ = Note::BY_WORD.find(&tx, "gone").await?;
                tx.back_to(&before)?;
                tx.update(at, |note| note.text = text.into()).await.map(|()| None)
            }
            (8, Some(at), _) => tx.set(at, &note(&slug, author, text)).map(|()| None),
            (_, Some(at), _) => {
                let edit = |note: &mut Note| match what {
                    9 => note.slug.clone_from(&slug),
                    10 => note.author = author.into(),
                    _ => note.text = text.into(),
                };
                tx.update(at, edit).await.map(|()| None)
            }
        }))
        .await;
        match done {
            Ok(new) => self.made.extend(new),
            Err(Error::UniqueTaken { .. }) => drop(self.taken.fetch_add(1, Ordering::Relaxed)),
            Err(Error::NotFound { .. } | Error::NoUpgrade { .. } | Error::Disconnected { .. }) => {}
            Err(error) => panic!("writer {}, {what}: {error}", self.number),
        }
    }

    fn some(&mut self) -> Option<Ref<Note>> {
        (!self.made.is_empty()).then(|| self.made[self.dice.usize(0..self.made.len())])
    }
}

/// Old code can read what is in its own shape only.
async fn old_edit(tx: &Tx, at: Ref<Note>, author: &str) -> Result<Option<Ref<Note>>> {
    tx.update(Ref::<OldNote>::new(at.oid()), |note| note.author = author.into()).await.map(|()| None)
}

async fn exchange(tx: &Tx, one: Ref<Note>, two: Ref<Note>) -> Result<Option<Ref<Note>>> {
    let (mut first, mut second) = (tx.load(one).await?, tx.load(two).await?);
    std::mem::swap(&mut first.slug, &mut second.slug);
    tx.set(one, &first)?;
    tx.set(two, &second)?;
    Ok(None)
}

async fn worker_db(world: &World) -> Db {
    world.db_with(Options::new().role("evolve")).await
}

/// Workers that are killed; the next one may go on to the end.
const KILLS: u32 = 3;

/// Runs a job beside whatever else happens; its workers are killed as the dice say.
async fn evolved(world: &World, new: NewJob, whole: bool, dice: &mut fastrand::Rng) {
    let db = worker_db(world).await;
    let planned = evolve::plan(&db, new).await.expect("plans");
    for kills in 0.. {
        let job = evolve::find(&worker_db(world).await, planned.name()).await.expect("is there");
        let worker = Worker::new(&job).tasks(dice.usize(1..3));
        let running = match whole {
            true => tokio::spawn(async move { worker.run(evolve::reindex::<Note>()).await }),
            false => tokio::spawn(async move { worker.run(evolve::upgrade::<Note>()).await }),
        };
        // After so many commits of anybody it is killed.
        let mut commits = db.watch_all();
        let mut left = if kills < KILLS { dice.usize(5..200) } else { usize::MAX };
        let killer = running.abort_handle();
        let kill = async {
            while left > 0 && commits.next().await.is_some() {
                left -= 1;
            }
            killer.abort();
        };
        let ended = tokio::select! {
            ended = running => ended.ok(),
            () = kill => None,
        };
        if let Some(report) = ended {
            let report = report.expect("runs");
            assert_eq!(report.phase, Phase::Done, "{:?}", planned.quarantine(5).await);
            return;
        }
    }
}

async fn schedule(seed: u64) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let world = World::start().await;
    let (over, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let (db, over, taken) = (world.db().await, over.clone(), taken.clone());
        let dice = fastrand::Rng::with_seed(seed * 100 + number);
        let mut writer = Writer { db, dice, number, made: Vec::new(), next: 0, taken };
        for _ in 0..TURNS {
            writer.turn().await;
        }
        writers.push(tokio::spawn(async move {
            while !over.load(Ordering::Acquire) {
                writer.turn().await;
            }
        }));
    }
    let mut new = job("notes-2");
    (new.plan, new.gate) = (Plan::below("wiki.Note", 2), false);
    new.settings.chunk_objects_start = dice.u32(5..20);
    new.settings.chunk_objects_max = dice.u32(5..40);
    new.settings.ranges = dice.u32(1..4);
    let again = new.clone().name("again").plan(Plan::class("wiki.Note"));
    within(evolved(&world, again, true, &mut dice)).await;
    over.store(true, Ordering::Release);
    for writer in writers {
        within(writer).await.expect("only ever ends in order");
    }
    within(evolved(&world, new, false, &mut dice)).await;
    let db = world.db().await;
    db.newest().await.expect("answers");
    let (expected, found) = (expected(&db).await, found(&db).await);
    let missing: Vec<_> = expected.difference(&found).collect();
    let too_much: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && too_much.is_empty(), "seed {seed}: missing {missing:?}, too much {too_much:?}");
    let taken = taken.load(Ordering::Relaxed);
    assert!(expected.len() > 100 && taken > 0, "seed {seed}: {} entries, {taken} slugs taken", expected.len());
    let verified = verify_indexes::<Note>(&db).await.expect("looks");
    assert_eq!(verified.problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_are_what_the_objects_say() {
    for seed in [1, 2, 3] {
        println!("seed {seed}");
        schedule(seed).await;
    }
}
