//! A step that leaves its page as it is and fills a unique index: a live writer that has read that the key is nobody's, and commits
//! behind the step, comes before it. What the step has entered follows, however late that is told.

use crate::site::{Page, Site};
use crate::support::within;
use zeolite_client::collections::{Counter, Map, UniqueIndex};
use zeolite_client::evolve::{self, Job, NewJob, Phase, Plan, Stepped, Worker};
use zeolite_client::typed::value_of;
use zeolite_client::{Db, Error, Ref, Tx};

#[derive(Clone, Copy)]
struct Names {
    index: UniqueIndex<String, Ref<Page>>,
    entered: Counter,
    /// Read by every step, and left as it is.
    rules: Counter,
    /// Written by every step.
    last: Map<String, String>,
}

/// What the steps do beside entering their page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Nothing,
    /// They read something else, and change the page.
    Reads,
    /// All write one entry.
    Last,
    /// The same, and fail on the second page.
    Fails,
}

impl Names {
    async fn make(db: &Db) -> Names {
        let make = db.run(async |tx| {
            let (entered, rules) = (tx.root_or_create("entered").await?, tx.root_or_create("rules").await?);
            let (index, last) = (tx.root_or_create("names").await?, tx.root_or_create("last").await?);
            Ok(Names { index, entered, rules, last })
        });
        make.await.expect("makes")
    }

    async fn work(self, job: &Job, more: More) -> Phase {
        let step = evolve::with("names", move |tx: &Tx, cell, old| {
            Box::pin(async move {
                let mut page: Page = value_of(cell, &old)?;
                match more {
                    More::Nothing => {}
                    More::Reads => {
                        self.rules.get(tx).await?;
                        page.edits += 1;
                        tx.set(Ref::new(cell.oid), &page)?;
                    }
                    More::Fails if page.text == "page 1" => return Err(Error::app("not today")),
                    // The same by all of them: two different ones would not go into one chunk.
                    More::Last | More::Fails => self.last.insert(tx, "last", &"a step".to_owned())?,
                }
                self.index.claim(tx, &page.text, Ref::new(cell.oid)).await?;
                self.entered.add(tx, 1)?;
                Ok(Stepped::Keep)
            })
        });
        within(Worker::new(job).run(step)).await.expect("runs").phase
    }

    /// The entries, and what was counted.
    async fn all(self, db: &Db) -> (Vec<(String, Ref<Page>)>, i64) {
        db.newest().await.expect("answers");
        let view = db.now();
        let entries = self.index.iter(&view).collect().await.expect("reads");
        (entries, self.entered.get(&view).await.expect("reads"))
    }
}

async fn planned(db: &Db, name: &str) -> Job {
    let plan = Plan::Objects { class: "Page".into(), below_version: 0 };
    let mut new = NewJob::new(name, plan);
    (new.settings.disk_pause_percent, new.settings.disk_stop_percent) = (0.0, 0.0);
    // All of them go into one chunk.
    new.settings.ranges = 1;
    evolve::plan(db, new).await.expect("plans")
}

async fn owes(job: &Job) -> bool {
    job.ensure_done().await.is_err()
}

async fn rename(tx: &Tx, names: Names, page: Ref<Page>, text: &str) {
    tx.update(page, |page| page.text = text.into()).await.expect("edits");
    names.index.insert(tx, text, &page).await.expect("reads").or_refuse().expect("is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_nobodys_when_it_was_read_is_not_left_behind() {
    let site = Site::with_pages(3).await;
    let db = site.worker_db().await;
    let names = Names::make(&db).await;
    let (live, [first, second, third]) = (site.world.db().await, [0, 1, 2].map(|page| site.pages[page]));
    // One has checked that there is nothing to take out; the other says that there is nothing.
    let checks = live.transaction().serializable().begin().await.expect("begins");
    assert_eq!(names.index.get(&checks, "page 0").await.expect("reads"), None);
    rename(&checks, names, first, "A").await;
    let releases = live.begin().await.expect("begins");
    names.index.release(&releases, "page 1", second).await.expect("reads");
    rename(&releases, names, second, "B").await;

    let job = planned(&db, "names").await;
    assert_eq!(names.work(&job, More::Nothing).await, Phase::Done);
    assert!(!owes(&job).await);
    let entered = |names: [&str; 3]| {
        let mut entries: Vec<_> = names.map(str::to_owned).into_iter().zip([first, second, third]).collect();
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        (entries, 3)
    };
    assert_eq!(names.all(&db).await, entered(["page 0", "page 1", "page 2"]));
    checks.commit().await.expect("never loses");
    assert!(owes(&job).await);
    releases.commit().await.expect("never loses");
    assert_eq!(names.work(&job, More::Nothing).await, Phase::Done);
    assert!(!owes(&job).await);
    assert_eq!(names.all(&db).await, entered(["A", "B", "page 2"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_has_read_more_is_made_anew_as_often_as_that_may_have_changed() {
    let site = Site::with_pages(2).await;
    let db = site.worker_db().await;
    let names = Names::make(&db).await;
    let live = site.world.db().await;
    let mut late = Vec::new();
    for _ in 0..2 {
        let tx = live.transaction().serializable().begin().await.expect("begins");
        assert_eq!(names.index.get(&tx, "page 0").await.expect("reads"), None);
        names.rules.add(&tx, 1).expect("open");
        late.push(tx);
    }
    let job = planned(&db, "names").await;
    assert_eq!(names.work(&job, More::Reads).await, Phase::Done);
    let expected = names.all(&db).await;
    assert_eq!((expected.0.len(), expected.1), (2, 2));
    for tx in late {
        tx.commit().await.expect("never loses");
        assert!(owes(&job).await, "what the step has read may be another now");
        assert_eq!(names.work(&job, More::Reads).await, Phase::Done);
        assert!(!owes(&job).await);
        assert_eq!(names.all(&db).await, expected, "made anew, and counted once");
        let pages = db.now().load_many(&site.pages).await.expect("loads");
        assert!(pages.iter().all(|page| page.edits == 1), "taken back before: {pages:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_steps_have_written_is_owed_until_both_are_made_anew() {
    let site = Site::with_pages(2).await;
    let db = site.worker_db().await;
    let names = Names::make(&db).await;
    let live = site.world.db().await.begin().await.expect("begins");
    names.last.insert(&live, "last", &"live".to_owned()).expect("open");
    let job = planned(&db, "names").await;
    assert_eq!(names.work(&job, More::Last).await, Phase::Done);
    let expected = names.all(&db).await;
    live.commit().await.expect("never loses");
    // One of the two is made anew, the other one is not.
    assert_eq!(names.work(&job, More::Fails).await, Phase::Failed);
    job.resume().await.expect("resumes");
    let phase = names.work(&job, More::Last).await;
    assert_eq!(phase, Phase::Done, "{:?}", job.quarantine(9).await);
    assert!(!owes(&job).await);
    assert_eq!(names.all(&db).await, expected, "each counts once");
}
