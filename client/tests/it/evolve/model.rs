//! Random schedules of live edits, workers that come and are killed, pauses, settings, restarts of the server and an undo; and
//! after each what must hold whatever happened.
//!
//! ```text
//!   after the job    every page in the new shape · no edit lost · the counter says exactly what the ledger says
//!   after the undo   a page that nobody edited is as it was · an edited one kept its edit · the counter has the live part only ·
//!                    whatever is not as before is listed
//! ```
//! Odd seeds are on a server that merges edits and upgrades itself; every third job covers a list that the plan has made, and meets
//! pages that were made since; snapshots are pinned anew all the time where the dice say so.

use crate::site::{OldPage, Page, Site, Upgrade, job};
use crate::support::within;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;
use zeolite_client::collections::Counter;
use zeolite_client::evolve::{self, Job, NotUndone, Phase, Plan, Step, Stepped, Worker};
use zeolite_client::{Db, Error, Persistent, Record, Ref, Tid};

const PAGES: usize = 240;
const STEPS: usize = 40;

/// Pages to version 2; those that are there already stay.
fn step(counter: Counter) -> impl Step {
    evolve::with("pages to version 2", move |tx, cell, old: Record| {
        Box::pin(async move {
            if old.version >= Page::VERSION {
                return Ok(Stepped::Keep);
            }
            Upgrade { counter }.step(tx, cell, old).await
        })
    })
}

struct Model {
    site: Site,
    dice: fastrand::Rng,
    db: Db,
    job: Job,
    running: Vec<JoinHandle<()>>,
    /// Edits by page.
    edits: BTreeMap<usize, u64>,
    added: i64,
    undoing: bool,
    /// Made since the plan, in the new shape: nobody is to step them.
    later: Vec<Ref<Page>>,
}

impl Model {
    async fn new(seed: u64) -> Model {
        let site = if seed % 2 == 1 { Site::merging(PAGES).await } else { Site::with_pages(PAGES).await };
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut new = job("model");
        if seed.is_multiple_of(3) {
            new.plan = Plan::class("Page");
        }
        if dice.bool() {
            new.settings.pin_bytes_max = 1;
        }
        new.settings.chunk_objects_start = dice.u32(1..20);
        new.settings.chunk_objects_max = dice.u32(1..20);
        new.settings.ranges = dice.u32(1..6);
        let db = site.live_db().await;
        let job = evolve::plan(&site.worker_db().await, new).await.expect("plans");
        let (running, edits, added, later) = Default::default();
        Model { site, dice, db, job, running, edits, added, undoing: false, later }
    }

    /// A worker with a client of its own: it is killed with whatever is on its way.
    async fn start_worker(&mut self) {
        if self.running.len() >= 4 {
            return self.kill_worker();
        }
        let own = evolve::find(&self.site.worker_db().await, "model").await.expect("is there");
        let worker = Worker::new(&own).tasks(self.dice.usize(1..3));
        let (step, undoing) = (step(self.site.counter), self.undoing);
        self.running.push(tokio::spawn(async move {
            let ended = if undoing { worker.undo().await } else { worker.run(step).await };
            ended.expect("only ever ends in order");
        }));
    }

    fn kill_worker(&mut self) {
        if !self.running.is_empty() {
            let victim = self.dice.usize(0..self.running.len());
            self.running.swap_remove(victim).abort();
        }
    }

    async fn edit(&mut self) {
        let number = self.dice.usize(0..PAGES);
        let page = self.site.pages[number];
        let edit = self.db.run(async |tx| {
            tx.update(page, |page| {
                page.edits += 1;
                page.text.push('!');
                page.length = page.text.len() as u64;
            })
            .await
        });
        within(edit).await.expect("edits");
        *self.edits.entry(number).or_default() += 1;
        if self.dice.bool() {
            let counter = self.site.counter;
            within(self.db.run(async |tx| counter.add(&tx, 1000))).await.expect("adds");
            self.added += 1000;
        }
    }

    async fn make(&mut self) {
        let page = Page { text: "later".into(), edits: 0, length: 5 };
        self.later.push(within(self.db.run(async |tx| tx.create(&page).await)).await.expect("creates"));
    }

    /// Lets some work happen: until the ledger changes, if anybody is there to change it.
    async fn let_it_work(&mut self) {
        let over = self.job.record().await.expect("reads").phase.is_over();
        if !over && !self.running.is_empty() {
            // A paused or starved job changes nothing.
            let mut watch = self.job.watch();
            let two = async { drop((watch.next(Duration::ZERO).await, watch.next(Duration::ZERO).await)) };
            let _ = tokio::time::timeout(Duration::from_millis(30), two).await;
        }
    }

    async fn one(&mut self) {
        match self.dice.u32(0..20) {
            0..=2 => self.start_worker().await,
            3 => self.kill_worker(),
            4 => drop(self.job.pause("model", 0).await),
            5..=7 => self.resume().await,
            8 if !self.undoing => {
                let size = self.dice.u32(1..30).to_string();
                self.job.set("chunk_objects_max", &size).await.expect("sets");
            }
            9 if self.dice.u32(0..4) == 0 => self.site.world.restart().await,
            10..=13 => self.edit().await,
            14 => self.make().await,
            _ => self.let_it_work().await,
        }
    }

    async fn resume(&self) {
        let record = self.job.record().await.expect("reads");
        if record.pause.is_some()
            && let Err(error) = self.job.resume().await
        {
            // A chunk that was under way when it was paused may have been the last one.
            assert!(self.job.record().await.expect("reads").phase.is_over(), "{error}");
        }
    }

    async fn stop_all(&mut self) {
        for worker in self.running.drain(..) {
            worker.abort();
            let _ = worker.await;
        }
    }

    async fn run_out(&mut self) {
        self.resume().await;
        let report = within(Worker::new(&self.job).tasks(2).run(step(self.site.counter))).await;
        assert_eq!(report.expect("runs").phase, Phase::Done);
        self.stop_all().await;
        let show = self.job.show().await.expect("shows");
        let (counts, changed) = (show.counts, show.counts.changed - show.taken_back);
        assert_eq!(self.site.stepped().await, changed as i64 + self.added, "{counts:?}");
        assert_eq!(self.site.check().await, self.edits.values().sum::<u64>(), "no edit is lost");
        let view = self.db.now();
        for page in &self.later {
            assert_eq!(
                view.revision(&page.cell()).await.expect("reads").tid,
                self.made(*page).await,
                "nobody stepped it"
            );
        }
    }

    /// The commit that made a page.
    async fn made(&self, page: Ref<Page>) -> Tid {
        let history = self.db.history(&page.cell(), None, 100, false).await.expect("reads").items;
        history.last().expect("was made").revision.tid
    }

    /// Which pages were edited before the undo began, and so perhaps after they were stepped.
    async fn undo_out(&mut self) -> Result<(), Error> {
        self.resume().await;
        let report = within(Worker::new(&self.job).undo()).await?;
        assert_eq!(report.phase, Phase::Undone);
        self.stop_all().await;
        self.db.newest().await?;
        let view = self.db.now();
        let (mut edits, mut back) = (0, 0);
        for (number, page) in self.site.pages.iter().enumerate() {
            let record: Record = view.get(&page.cell()).await?.expect("no page is lost");
            let edited = self.edits.get(&number).copied().unwrap_or(0);
            let (text, of_page) = if record.version == 1 {
                let page: OldPage = view.load(Ref::new(page.oid())).await?;
                back += 1;
                (page.text, page.edits)
            } else {
                let page: Page = view.load(*page).await?;
                (page.text, page.edits)
            };
            assert_eq!((text, of_page), (format!("page {number}{}", "!".repeat(edited as usize)), edited));
            edits += of_page;
        }
        assert_eq!(edits, self.edits.values().sum::<u64>());
        let left = self.job.not_undone(10_000).await?;
        let (merged, whole): (Vec<_>, Vec<_>) = left.iter().partition(|left| left.reason.contains("was merged"));
        let pages = |left: &[&NotUndone]| {
            left.iter().flat_map(|left| &left.cells).filter(|cell| cell.0 != self.counter_oid()).count()
        };
        let shown = self.job.show().await?;
        let (listed, changed) = ((pages(&merged) + pages(&whole)) as u64, shown.counts.changed - shown.taken_back);
        assert_eq!(back + listed, changed, "whatever was changed is back, or listed");
        let stepped = self.site.stepped().await;
        assert_eq!(stepped, self.added + pages(&whole) as i64, "a step is taken back as a whole: {shown:?}, {left:?}");
        assert_eq!(shown.undo.map(|undo| undo.counts.kept), Some(merged.len() as u64));
        Ok(())
    }

    fn counter_oid(&self) -> u64 {
        zeolite_client::Handle::oid(&self.site.counter).0
    }
}

async fn schedule(seed: u64) {
    let mut model = Model::new(seed).await;
    for _ in 0..STEPS {
        model.one().await;
    }
    model.run_out().await;
    model.job.begin_undo().await.expect("begins");
    model.undoing = true;
    // No edits from here on: an old page that is edited is new again, and nobody could say who made it so.
    for _ in 0..10 {
        match model.dice.u32(0..8) {
            0..=2 => model.start_worker().await,
            3 => model.kill_worker(),
            4 => drop(model.job.pause("model", 0).await),
            5 => model.resume().await,
            // Given up and asked for again: it goes on where it was.
            6 => {
                drop(model.job.cancel("model").await);
                model.job.begin_undo().await.expect("begins");
            }
            _ => model.let_it_work().await,
        }
    }
    model.undo_out().await.expect("reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_every_page_is_stepped_once_and_no_edit_is_lost() {
    let from = std::env::var("ZEOLITE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count = std::env::var("ZEOLITE_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(4);
    for seed in from..from + count {
        println!("seed {seed}");
        schedule(seed).await;
    }
}
