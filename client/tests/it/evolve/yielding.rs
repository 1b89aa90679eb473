//! A live writer never loses to an evolve: writers of old code and of new code without any resolver, which think between reading and
//! committing, over so few pages that chunks and live writes meet all the time; workers that are killed, a server that is restarted.
//!
//! The step fills an index and counts, so what it wrote of what it read has to follow whatever a live writer has made of the page.
//! New code does what the step does when it brings a page to the new shape itself; old code knows nothing of either.

use crate::site::{OldPage, Page, Site, job};
use crate::support::within;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;
use zeolite_client::collections::{Counter, Index};
use zeolite_client::evolve::{self, Phase, Step, Stepped, Worker};
use zeolite_client::{Cell, Db, Error, Oid, Persistent, Record, Ref, Tx, View};

const PAGES: usize = 60;
/// Writers of old code, and of new.
const CLIENTS: usize = 6;
const EDITS: u64 = 240;
const THINKS_MAX: u32 = 40;

/// Pages by their text, and how many of them are in the new shape.
#[derive(Clone, Copy)]
struct Follows {
    index: Index<String, Page>,
    count: Counter,
}

impl Follows {
    fn add(self, tx: &Tx, page: Ref<Page>, text: &str) -> Result<(), Error> {
        self.index.insert(tx, text, page)?;
        self.count.add(tx, 1)
    }
}

impl Step for Follows {
    fn name(&self) -> String {
        "pages to version 2, by their texts".into()
    }

    async fn step(&self, tx: &Tx, cell: &Cell, old: Record) -> Result<Stepped, Error> {
        let (page, reference) = (Page::upgrade(old.version, &old.data)?, Ref::new(cell.oid));
        tx.set(reference, &page)?;
        self.add(tx, reference, &page.text)?;
        Ok(Stepped::Keep)
    }
}

struct Writer {
    db: Db,
    dice: fastrand::Rng,
    follows: Follows,
    is_old: bool,
    share: Vec<Ref<Page>>,
}

impl Writer {
    /// One edit; false: old code cannot read what it has found.
    async fn edit(&mut self) -> Result<bool, Error> {
        let page = self.share[self.dice.usize(0..self.share.len())];
        let tx = if self.dice.bool() {
            self.db.transaction().serializable().begin().await?
        } else {
            self.db.begin().await?
        };
        let version = tx.get(&page.cell()).await?.expect("no page is lost").version;
        if self.is_old && version > 1 {
            return Ok(false);
        }
        if self.is_old {
            let old: Ref<OldPage> = Ref::new(page.oid());
            tx.update(old, |page| (page.text, page.edits) = (format!("{}!", page.text), page.edits + 1)).await?;
        } else {
            let before = tx.load(page).await?;
            let text = if self.dice.bool() { format!("{}!", before.text) } else { before.text.clone() };
            tx.set(page, &Page { length: text.len() as u64, edits: before.edits + 1, text: text.clone() })?;
            match version {
                1 => self.follows.add(&tx, page, &text)?,
                _ if text != before.text => {
                    self.follows.index.remove(&tx, &before.text, page)?;
                    self.follows.index.insert(&tx, &text, page)?;
                }
                _ => {}
            }
        }
        // It thinks: some round trips long.
        for _ in 0..self.dice.u32(0..THINKS_MAX) {
            self.db.newest().await?;
        }
        tx.commit().await.map(|_| true)
    }
}

async fn writers(site: &Site, follows: Follows, seed: u64, edits: &Arc<AtomicU64>) -> JoinSet<()> {
    let mut running = JoinSet::new();
    for number in 0..CLIENTS {
        let share = site.pages.iter().copied().skip(number).step_by(CLIENTS).collect();
        let dice = fastrand::Rng::with_seed(seed * 100 + number as u64);
        let (db, is_old, edits) = (site.world.db().await, number % 2 == 0, edits.clone());
        running.spawn(async move {
            let mut writer = Writer { db, dice, follows, is_old, share };
            while edits.load(Ordering::Acquire) < EDITS {
                match writer.edit().await {
                    Ok(done) => drop(edits.fetch_add(u64::from(done), Ordering::AcqRel)),
                    Err(error) => panic!("client {number} has lost: {error}"),
                }
                tokio::task::yield_now().await;
            }
        });
    }
    running
}

/// Gives how many steps were made anew.
async fn meet(seed: u64, restarts: bool) -> u64 {
    let mut site = Site::with_pages(PAGES).await;
    let db = site.worker_db().await;
    let make = db.run(async |tx| tx.root_or_create::<Index<String, Page>>("by text").await).await.expect("creates");
    let follows = Follows { index: make, count: site.counter };
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut new = job("meets");
    new.settings.chunk_objects_max = dice.u32(1..20);
    new.settings.ranges = dice.u32(1..4);
    let planned = evolve::plan(&db, new).await.expect("plans");
    let edits = Arc::new(AtomicU64::new(0));
    let mut live = writers(&site, follows, seed, &edits).await;
    // A worker that is killed, others after it: while the writers write, and once more when they are gone.
    for round in 1..=3 {
        let own = evolve::find(&site.worker_db().await, "meets").await.expect("is there");
        let running = tokio::spawn(Worker::new(&own).tasks(2).run(follows));
        while edits.load(Ordering::Acquire) < EDITS * round / 4 && !running.is_finished() {
            tokio::task::yield_now().await;
        }
        running.abort();
        if restarts && round == 2 {
            site.world.restart().await;
        }
    }
    while let Some(ended) = within(live.join_next()).await {
        ended.expect("no live writer loses");
    }
    let report = within(Worker::new(&planned).tasks(2).run(follows)).await.expect("runs");
    assert_eq!(report.phase, Phase::Done, "{:?}", planned.quarantine(5).await);
    planned.ensure_done().await.expect("is done, and owes nothing");
    check(&site, follows, edits.load(Ordering::Acquire)).await;
    let counts = planned.show().await.expect("shows").counts;
    planned.begin_undo().await.expect("begins");
    within(Worker::new(&planned).undo()).await.expect("undoes");
    let left = planned.not_undone(1000).await.expect("reads");
    check_taken_back(&site, follows, edits.load(Ordering::Acquire))
        .await
        .unwrap_or_else(|why| panic!("{why}; left {left:?}"));
    counts.stepped_again
}

/// After the undo: what is in the old shape is counted and entered nowhere; what new code has made new, or has edited since, is.
async fn check_taken_back(site: &Site, follows: Follows, edits: u64) -> Result<(), String> {
    let db = site.world.db().await;
    db.newest().await.expect("answers");
    let view = db.now();
    let (mut expected, mut kept, mut new) = (BTreeSet::new(), 0, 0);
    for page in &site.pages {
        let version = view.get(&page.cell()).await.expect("reads").expect("no page is lost").version;
        let page_now = match version {
            1 => {
                let old: OldPage = view.load(Ref::new(page.oid())).await.expect("loads");
                Page { length: 0, text: old.text, edits: old.edits }
            }
            _ => view.load(*page).await.expect("loads"),
        };
        kept += page_now.edits;
        if version > 1 {
            new += 1;
            expected.insert((page_now.text, page.oid()));
        }
    }
    let found = entries(&view, follows).await;
    let (missing, stale): (Vec<_>, Vec<_>) =
        (expected.difference(&found).collect(), found.difference(&expected).collect());
    let counted = site.stepped().await;
    if kept != edits || !missing.is_empty() || !stale.is_empty() || counted != new {
        return Err(format!(
            "{kept} of {edits} edits, missing {missing:?}, stale {stale:?}, counted {counted} of {new}"
        ));
    }
    Ok(())
}

async fn entries(view: &View, follows: Follows) -> BTreeSet<(String, Oid)> {
    let mut found = BTreeSet::new();
    let mut entries = follows.index.iter(view);
    while let Some((text, page)) = entries.next().await.expect("reads") {
        found.insert((text, page.oid()));
    }
    found
}

async fn check(site: &Site, follows: Follows, edits: u64) {
    assert_eq!(site.check().await, edits, "every live edit is kept");
    let db = site.world.db().await;
    db.newest().await.expect("answers");
    let view = db.now();
    let mut expected = BTreeSet::new();
    for page in &site.pages {
        expected.insert((view.load(*page).await.expect("loads").text, page.oid()));
    }
    let found = entries(&view, follows).await;
    let (missing, stale): (Vec<_>, Vec<_>) =
        (expected.difference(&found).collect(), found.difference(&expected).collect());
    assert!(missing.is_empty() && stale.is_empty(), "missing {missing:?}, stale {stale:?}");
    assert_eq!(site.stepped().await, PAGES as i64, "each page counts once");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_writers_without_resolvers_never_lose_and_what_a_step_wrote_follows_them() {
    let from = std::env::var("ZEOLITE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count = std::env::var("ZEOLITE_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(3);
    let mut again = 0;
    for seed in from..from + count {
        println!("seed {seed}");
        again += meet(seed, seed % 2 == 0).await;
    }
    assert!(again > 0, "chunks and live writes never met");
}
