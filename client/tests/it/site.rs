//! Owns the site of these tests: pages in two shapes, a counter that every step adds to, and its live writers.

use crate::support::World;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zeolite_client::collections::Counter;
use zeolite_client::evolve::{self, NewJob, Plan, Step};
use zeolite_client::{Db, Error, Options, Persistent, Record, Ref, Resolvers, Tx};
use zeolite_server::settings::Settings;

/// A page as new code knows it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) struct Page {
    pub(crate) text: String,
    pub(crate) edits: u64,
    /// Since version 2.
    pub(crate) length: u64,
}

/// A page as old code knows it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) struct OldPage {
    pub(crate) text: String,
    pub(crate) edits: u64,
}

impl Persistent for OldPage {
    const CLASS: &str = "Page";
}

impl Persistent for Page {
    const CLASS: &str = "Page";
    const VERSION: u32 = 2;

    fn upgrade(version: u32, data: &[u8]) -> Result<Page, Error> {
        let old: OldPage = Page::old_shape(version, data)?;
        Ok(Page { length: old.text.len() as u64, text: old.text, edits: old.edits })
    }
}

pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) pages: Vec<Ref<Page>>,
    pub(crate) counter: Counter,
}

/// Some tests stop a server with a connection on which nothing is heard: nothing is gained by waiting for it.
fn stops_soon(settings: &mut Settings) {
    settings.sessions.shutdown_grace_ms = 200;
}

impl Site {
    /// A site with so many old pages.
    pub(crate) async fn with_pages(count: usize) -> Site {
        Site::on(World::start_with(stops_soon).await, count).await
    }

    /// The same on a server that merges edits and upgrades of pages itself.
    pub(crate) async fn merging(count: usize) -> Site {
        let mut resolvers = Resolvers::built_in();
        evolve::merge_upgrades::<Page>(&mut resolvers);
        Site::on(World::start_of(stops_soon, resolvers, None).await, count).await
    }

    pub(crate) async fn on(world: World, count: usize) -> Site {
        let db = world.db().await;
        let counter = db.run(async |tx| tx.root_or_create::<Counter>("stepped").await).await.expect("creates");
        let mut pages = Vec::new();
        for part in (0..count).collect::<Vec<_>>().chunks(500) {
            let make = db.run(async |tx| {
                let mut made = Vec::new();
                for number in part {
                    let page = tx.create(&OldPage { text: format!("page {number}"), edits: 0 }).await?;
                    made.push(Ref::new(page.oid()));
                }
                Ok(made)
            });
            pages.extend(make.await.expect("creates"));
        }
        Site { world, pages, counter }
    }

    pub(crate) async fn worker_db(&self) -> Db {
        let options = Options::new().name("worker").role("evolve");
        self.world.db_with(options).await
    }

    /// A client of the site: new code, for which an edit and an upgrade are no conflict.
    pub(crate) async fn live_db(&self) -> Db {
        let mut resolvers = Resolvers::built_in();
        evolve::merge_upgrades::<Page>(&mut resolvers);
        self.world.db_with(Options::new().resolvers(resolvers)).await
    }

    /// How often pages have been stepped, as the counter says.
    pub(crate) async fn stepped(&self) -> i64 {
        let db = self.world.db().await;
        db.newest().await.expect("answers");
        self.counter.get(&db.now()).await.expect("reads")
    }

    /// Every page is in the new shape and what it should be; gives the sum of their edits.
    pub(crate) async fn check(&self) -> u64 {
        let db = self.world.db().await;
        db.newest().await.expect("answers");
        let mut edits = 0;
        for part in self.pages.chunks(500) {
            let records = db.now().get_many(&part.iter().map(Ref::cell).collect::<Vec<_>>()).await.expect("reads");
            for record in records {
                let record = Record::decode(&record.expect("no page is lost")).expect("a record");
                assert_eq!(record.version, 2);
            }
            for page in db.now().load_many(part).await.expect("loads") {
                assert_eq!(page.length, page.text.len() as u64, "{page:?}");
                edits += page.edits;
            }
        }
        edits
    }

    /// Live writers that edit pages until told to stop; each its own share, so that they never compete.
    pub(crate) async fn live(&self, clients: usize) -> Live {
        let live = Live { over: Arc::default(), edits: Arc::default(), conflicts: Arc::default(), tasks: Vec::new() };
        let mut live = live;
        for number in 0..clients {
            let db = self.live_db().await;
            let share: Vec<_> = self.pages.iter().copied().skip(number).step_by(clients).collect();
            let (over, edits, conflicts) = (live.over.clone(), live.edits.clone(), live.conflicts.clone());
            live.tasks.push(tokio::spawn(async move {
                let mut dice = fastrand::Rng::with_seed(number as u64);
                while !over.load(Ordering::Acquire) {
                    let page = share[dice.usize(0..share.len())];
                    loop {
                        let tx = db.begin().await.expect("begins");
                        edit(&tx, page).await.expect("edits");
                        match tx.commit().await {
                            Ok(_) => break,
                            Err(error) if error.is_conflict() => conflicts.fetch_add(1, Ordering::Relaxed),
                            Err(error) => panic!("{error}"),
                        };
                    }
                    edits.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        live
    }
}

async fn edit(tx: &Tx, page: Ref<Page>) -> Result<(), Error> {
    tx.update(page, |page| {
        page.edits += 1;
        page.text.push('!');
        page.length = page.text.len() as u64;
    })
    .await
}

pub(crate) struct Live {
    over: Arc<AtomicBool>,
    pub(crate) edits: Arc<AtomicU64>,
    conflicts: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Live {
    /// Stops the writers; gives their edits and their conflicts.
    pub(crate) async fn stop(self) -> (u64, u64) {
        self.over.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.expect("no panic");
        }
        (self.edits.load(Ordering::Relaxed), self.conflicts.load(Ordering::Relaxed))
    }
}

/// Brings a page to version 2, and counts that it did.
pub(crate) struct Upgrade {
    pub(crate) counter: Counter,
}

impl Step for Upgrade {
    fn name(&self) -> String {
        "pages to version 2".into()
    }

    async fn step(&self, tx: &Tx, cell: &zeolite_client::Cell, old: Record) -> Result<evolve::Stepped, Error> {
        let page: Page = Page::upgrade(old.version, &old.data)?;
        tx.set(Ref::new(cell.oid), &page)?;
        self.counter.add(tx, 1)?;
        Ok(evolve::Stepped::Keep)
    }
}

/// Pages to version 2, in short leases and small chunks.
pub(crate) fn job(name: &str) -> NewJob {
    let mut new = NewJob::new(name, Plan::below("Page", 2));
    new.settings.lease_ms = 300;
    new.settings.chunk_objects_start = 20;
    new.settings.chunk_target_ms = 20;
    // A step may wait for what a test does meanwhile, however slow the machine.
    new.settings.step_timeout_ms = 600_000;
    // The disk of whoever runs the tests is nobody's business.
    (new.settings.disk_pause_percent, new.settings.disk_stop_percent) = (0.0, 0.0);
    new
}
