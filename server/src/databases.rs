//! Owns the databases of a server, by name: each with its own store, engine, loops and limits.
//!
//! ```text
//!   "main"  ──> Database { engine } ──> its own data directory, sequencer, writer, settle loop, keeper
//!   "shop"  ──> Database { engine }
//! ```
//! A client names one in its hello or metadata; who names none means `main`. What is of the whole machine is shared: the
//! listener, the runtime, the pool of long calls, the memory for drafts in parts, the number of sessions.
//!
//! A database that has met a bug (a panic in one of its loops) is poisoned, and the others go on; the last one takes the
//! process with it, so that whoever watches over it starts it anew. One whose store cannot be opened is down until the next start,
//! and the others serve; without `main` there is no server.

use crate::clock::Clock;
use crate::engine::{Engine, Running};
use crate::settings::DatabasePlan;
use crate::store::disk::Disk;
use crate::store::{Opening, Progress, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zeolite_proto::{Fault, FaultKind, Registry};

/// The database of those who name none.
pub(crate) const MAIN: &str = "main";

/// One database.
pub(crate) struct Database {
    name: Arc<str>,
    engine: Arc<Engine>,
}

impl Database {
    /// What clients call it.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its engine.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// All databases of a server.
pub(crate) struct Databases {
    main: Arc<Database>,
    by_name: BTreeMap<Arc<str>, Arc<Database>>,
    /// Those that could not be opened, and why.
    down: BTreeMap<Arc<str>, Fault>,
}

/// Their loops.
pub(crate) struct AllRunning(Vec<(Arc<str>, Running)>);

/// What every database is opened with.
pub(crate) struct Shared<'a> {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    /// The number of `main`; those of the others follow it.
    pub(crate) opening: Opening,
    pub(crate) progress: &'a mut dyn FnMut(Progress),
}

/// What a database is to be, and its disk, or why there is none.
pub(crate) type OnDisk = (DatabasePlan, Result<Arc<dyn Disk>, StoreError>);

impl Databases {
    /// Opens them one after the other. One that cannot be opened is down; if it is `main`, that is the end of it.
    pub(crate) fn open(plans: Vec<OnDisk>, shared: Shared<'_>) -> Result<(Databases, AllRunning), StoreError> {
        let Shared { clock, registry, opening, progress } = shared;
        let living = Arc::new(AtomicUsize::new(plans.len()));
        let (mut by_name, mut down, mut running) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (at, (plan, disk)) in plans.into_iter().enumerate() {
            let DatabasePlan { name, store, engine, limits } = plan;
            let name: Arc<str> = name.into();
            // Two databases have different ids, pins and keys of their own.
            let opening = Opening { new_id: opening.new_id.wrapping_add(at as u64), ..opening };
            let opened = disk.and_then(|disk| {
                Engine::open(disk, clock.clone(), store, engine, limits.clone(), registry.clone(), opening, progress)
            });
            let (engine, loops) = match opened {
                Ok(opened) => opened,
                Err(error) if *name == *MAIN => return Err(error),
                Err(error) => {
                    tracing::error!(database = &*name, %error, "cannot be opened; it is down, and the others serve");
                    living.fetch_sub(1, Ordering::AcqRel);
                    down.insert(name.clone(), is_down(&name, &error));
                    continue;
                }
            };
            let (of, left) = (name.clone(), living.clone());
            running.push((name.clone(), loops.spawn(move |what| died(&of, what, &left))));
            by_name.insert(name.clone(), Arc::new(Database { name, engine }));
        }
        let main = by_name.get(MAIN).expect("the plans of a server begin with main").clone();
        Ok((Databases { main, by_name, down }, AllRunning(running)))
    }

    /// The database of this name; empty: `main`.
    pub(crate) fn find(&self, name: &str) -> Result<&Arc<Database>, Fault> {
        if name.is_empty() {
            return Ok(&self.main);
        }
        if let Some(why) = self.down.get(name) {
            return Err(why.clone());
        }
        self.by_name.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.by_name.keys().map(AsRef::as_ref).collect();
            let shown: String = name.chars().take(64).collect();
            let message = format!("there is no database {shown:?} here; this server has {}", known.join(", "));
            Fault::new(FaultKind::NotFound, message)
        })
    }

    /// The database of those who name none.
    pub(crate) fn main(&self) -> &Arc<Database> {
        &self.main
    }

    /// Those that could not be opened, and why.
    pub(crate) fn down(&self) -> &BTreeMap<Arc<str>, Fault> {
        &self.down
    }

    /// All that are open, in the order of their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Database>> {
        self.by_name.values()
    }

    /// The largest message that any of them takes: the transport's bound, which is there before a database is named.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.all().map(|database| database.engine.limits().message_bytes_max).max().unwrap_or(0)
    }

    /// New drafts are refused from now on; what was admitted is finished.
    pub(crate) fn shut_down(&self) {
        self.all().for_each(|database| database.engine.shut_down());
    }
}

impl AllRunning {
    /// Waits until all loops have ended and closes the stores; the first error is told, and no store is left out for it.
    pub(crate) fn join(self) -> Result<(), StoreError> {
        let mut first = Ok(());
        for (name, running) in self.0 {
            if let Err(error) = running.join() {
                tracing::error!(database = &*name, %error, "the store did not close well");
                first = first.and(Err(error));
            }
        }
        first
    }
}

fn is_down(name: &str, error: &StoreError) -> Fault {
    let message = format!("the database {name} could not be opened: {error}; mend that, then start the server again");
    Fault::new(FaultKind::Poisoned, message)
}

fn died(database: &str, what: &str, living: &AtomicUsize) {
    tracing::error!(
        database,
        what,
        "a loop of the engine has panicked, which is a bug: report it; the database is poisoned"
    );
    if living.fetch_sub(1, Ordering::AcqRel) == 1 {
        tracing::error!("no database is left: the process ends; what was acknowledged is on the disk");
        std::process::abort()
    }
}
